"""What the `tokenizers` library raises for a file that it cannot use, as one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from bertlite_jax.errors import UserError


@contextlib.contextmanager
def told_of(what: str) -> Iterator[None]:
    """Turns an error of the library within the block into a UserError that begins with `what`.

    The library raises bare `Exception`, and where its Rust code panics an exception that is none in Python's sense.

    Raises:
      UserError: the library failed, or the block raised it.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{what}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error))[:200]
