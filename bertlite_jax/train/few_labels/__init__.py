"""Losses for few labels, wrong labels and other domains."""
