"""The parts of a bundle's predict.py: the script, whose import of `answer` is replaced by one of the other files."""

ABOUT = "bundle.json"
"""Describes a bundle, in its folder."""
