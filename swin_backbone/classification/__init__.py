"""Image classifiers: built from a file of weights, and evaluated with the papers' protocol."""
