"""Parameters and multiply-adds of the configs beside the published numbers, and a short trial of each config."""
