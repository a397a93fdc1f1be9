"""Compact text encoders in JAX: pretrain, distil, fine-tune, quantise, deploy."""

__version__ = "0.1.0"
