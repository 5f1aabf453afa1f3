"""Attention of every kind as modules, the plan of windows they share, and their position information."""
