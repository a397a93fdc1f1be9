"""What `convert.py bundle` makes predict.py of: the script, and in place of its import one of the files beside it."""
