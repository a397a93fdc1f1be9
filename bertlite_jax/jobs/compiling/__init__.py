"""`bertlite compile`: a training step for devices that are not here."""
