"""Image classifiers of published weights: built from a file, evaluated by the papers' protocol."""
