"""What a small encoder learns from a large one: losses, their sum in a step, and the student's first weights."""
