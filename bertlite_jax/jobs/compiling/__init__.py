"""`bertlite compile`: a training step for devices that this machine does not have."""
