"""A pretraining run: its metrics, its pace, its page."""
