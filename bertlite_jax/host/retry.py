"""Reads that are tried again: a network disk or a bucket fails now and then, and answers a second later."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TypeVar

import tenacity

ATTEMPTS = 6
FIRST_WAIT_SECONDS = 0.5
"""Wait before the second attempt; it doubles with each further one. Up to as much again is added at random, so that
many hosts do not come back in the same moment."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_LASTING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
# How array_record says that the bytes arrived and are wrong, or that there are none: it knows RuntimeError only.
_LASTING_WORDS = ("Corrupted", "out of bound", "No such file", "Permission denied")


def read_with_retries(read: Callable[[], _T], name: object) -> _T:
    """Calls `read` until it does not fail, at most `ATTEMPTS` times, and returns what it returns.

    A missing file, missing rights and wrong bytes stay as they are, so these errors are raised at once.

    Args:
      read: may be called again after an error.
      name: of the file, for the log.

    Raises:
      OSError, RuntimeError: from the last attempt.
    """

    def log_retry(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        _log.warning(
            "corpus: %s: %s; attempt %d of %d in %.1f s",
            *(name, first_line(error), state.attempt_number + 1, ATTEMPTS, wait),
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=FIRST_WAIT_SECONDS) + tenacity.wait_random(max=FIRST_WAIT_SECONDS),
        before_sleep=log_retry,
        reraise=True,
    )
    return retrying(read)


def first_line(error: BaseException | None) -> str:
    """The first line of an error's text without the passwords of addresses, at most 120 characters."""
    return without_passwords(str(error) or type(error).__name__).splitlines()[0][:120]


def without_passwords(text: str) -> str:
    """The text, in which addresses have lost what stands before an `@`: `http://me:secret@host` becomes `http://host`."""
    return re.sub(r"://[^/\s]*@", "://", text)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING)
    return isinstance(error, RuntimeError) and not any(words in str(error) for words in _LASTING_WORDS)
