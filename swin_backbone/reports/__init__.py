"""Pictures and tables from finished runs."""
