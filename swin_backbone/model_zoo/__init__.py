"""Cost of the configs, published numbers, trials of configs, and comparisons with the toolkits."""
