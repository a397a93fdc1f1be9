"""Grids of pretraining runs that are compared with each other."""
