"""Runtimes that `bertlite bench infer` times: which files each needs, and how it is loaded in a process of its own."""
