"""What a finished evaluation leaves: metrics, galleries, curves and the HTML report."""
