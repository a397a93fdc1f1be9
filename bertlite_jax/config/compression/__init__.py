"""Settings and shapes of models that are made smaller."""
