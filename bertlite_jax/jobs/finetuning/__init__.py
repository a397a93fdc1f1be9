"""Fine-tuning: a single run, several seeds, a grid, or the tasks of a suite."""
