"""What the configs cost, what was published about them, and trials of each."""
