"""Making a trained model smaller: what its parts are worth, and what is taken away."""
