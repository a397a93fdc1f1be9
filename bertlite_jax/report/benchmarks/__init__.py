"""Tables of what benchmarks found."""
