"""The search for a shape: short trainings, times of answers, and what is chosen from them."""
