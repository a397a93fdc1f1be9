"""Which shape: a space of shapes, what each costs, how its error is estimated, and how one is chosen."""
