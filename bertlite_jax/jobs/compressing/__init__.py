"""Jobs that make trained models smaller."""
