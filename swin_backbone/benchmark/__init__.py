"""Speed and memory of the backbone and of whole models, compared with other implementations."""
