"""A pretraining run: its metrics, its speed, its page."""
