"""Pretraining, and questions to its runs: evaluation and fill-mask."""
