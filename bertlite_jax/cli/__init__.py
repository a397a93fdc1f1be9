"""The `bertlite` command: options of each job, parsed by tyro, and what goes to the terminal."""
