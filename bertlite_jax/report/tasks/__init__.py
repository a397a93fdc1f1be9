"""A fine-tuning run: its figures, its plots, its page."""
