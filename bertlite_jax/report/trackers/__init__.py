"""Records of runs in trackers: trackio, W&B, MLflow."""
