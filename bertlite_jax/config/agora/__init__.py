"""The settings of Agora, and the sets of hyperparameters that it tries."""
