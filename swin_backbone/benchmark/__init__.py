"""Speed and memory of the backbone and of whole models beside other implementations."""
