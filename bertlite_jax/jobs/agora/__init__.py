"""Agora: fine-tuning that learns from changed copies of its own mistakes, which a teacher labels."""
