"""`bertlite bench`: figures of this machine, beside other libraries."""
