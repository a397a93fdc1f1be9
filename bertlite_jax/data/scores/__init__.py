"""Predictions become answers, scores and files to submit."""
