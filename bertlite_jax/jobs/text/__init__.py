"""Text becomes a tokenizer, and a corpus."""
