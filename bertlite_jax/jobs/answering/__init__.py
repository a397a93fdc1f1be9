"""Answers, vectors and submission files of trained models."""
