"""Pretraining, and what its runs are asked."""
