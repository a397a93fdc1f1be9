"""`python -m bertlite_jax` is `bertlite`: everything else is imported once Ctrl-C is safe."""

import os
import sys

from bertlite_jax.host import interrupts


def run() -> int:
    """Runs the command of this process; returns its exit code."""
    interrupts.wait_for_imports()
    _open_streams()
    try:
        from bertlite_jax.cli.main import main

        return main()
    except KeyboardInterrupt:  # Before the job began, or after it ended.
        print("interrupted", file=sys.stderr)
        return 130


def _open_streams() -> None:
    """Opens what the shell has closed (`>&-`): the next file that is opened would be taken for standard output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # Open until the end.


if __name__ == "__main__":
    sys.exit(run())
