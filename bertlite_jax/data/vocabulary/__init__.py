"""Text becomes token ids: tokenizers, trained here or adopted."""
