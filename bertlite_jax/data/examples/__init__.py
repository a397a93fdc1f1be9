"""Task examples become packed batches."""
