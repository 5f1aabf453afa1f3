"""Data sets: the embedded one, and the folder layouts of the public ones."""
