"""Weights to and from the file formats of other programs, mostly with numpy alone."""
