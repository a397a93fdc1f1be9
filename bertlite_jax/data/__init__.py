"""Text becomes batches. Nothing here imports JAX."""
