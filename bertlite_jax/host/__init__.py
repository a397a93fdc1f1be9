"""This machine: its CPU and memory, its disks, and programs that were compiled for it."""
