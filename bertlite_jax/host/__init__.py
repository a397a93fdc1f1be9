"""This machine: its CPU and memory, its disks, and the programs that were compiled for it."""
