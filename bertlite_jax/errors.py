"""What a user's mistake and a diverged run raise, and the nearest right name for a wrong one."""

from __future__ import annotations

import difflib


class UserError(Exception):
    """A mistake of the user: shown as one line without a traceback, exit code 2."""


class Diverged(Exception):
    """The loss of a run is no number, or far above what it was: shown as one line, exit code 1."""


def fields_close_to(name: str, known: list[str]) -> str:
    """`did you mean x?` for a misspelt name, or the list of what exists."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
