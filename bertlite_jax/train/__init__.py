"""Batches and a model become weights."""
