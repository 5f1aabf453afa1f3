"""Attention modules, the window plan that they share, and position encodings."""
