"""Arrays become hidden states and logits. Flax lives here."""
