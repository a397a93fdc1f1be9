"""Fine-tuning: once, with several seeds, over a grid, over a suite."""
