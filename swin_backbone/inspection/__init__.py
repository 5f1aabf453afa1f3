"""Feature maps and attention of an image."""
