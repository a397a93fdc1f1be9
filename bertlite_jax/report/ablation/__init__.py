"""What a grid of runs found: figures, a table, curves."""
