"""Results of an evaluation: metrics, galleries, curves and the HTML report."""
