"""Distillation: a student that learns from teachers while it is pretrained."""
