"""Masks and losses of pretraining."""
