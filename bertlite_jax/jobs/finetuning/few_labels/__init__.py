"""What `learn` adds to fine-tuning: further texts, changed copies, a teacher, averages of predictions."""
