"""Losses and rates of fine-tuning."""
