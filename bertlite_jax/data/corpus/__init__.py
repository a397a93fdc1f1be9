"""Documents become windows, and windows a TFDS folder."""
