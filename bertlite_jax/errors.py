"""What a user's mistake and a diverged run raise, and a suggestion for a misspelt name."""

from __future__ import annotations

import difflib


class UserError(Exception):
    """A mistake of the user: shown as one line without a traceback, exit code 2."""


class Diverged(Exception):
    """The loss of a run is NaN, or far above its running mean: shown as one line, exit code 1."""


def fields_close_to(name: str, known: list[str]) -> str:
    """`did you mean x?` for a misspelt name; if none is close, the list of known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
