"""Weights become files for others, and back. Numpy at its core."""
