"""How fast a model learns, beside the usual way in PyTorch."""
