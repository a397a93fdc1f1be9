"""Metrics, costs and results as tables, plots and pages for people."""
