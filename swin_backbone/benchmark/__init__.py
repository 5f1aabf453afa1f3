"""Speed and memory of the backbone and of whole models against other implementations."""
