"""A fine-tuned run: its figures, its plots, its page."""
