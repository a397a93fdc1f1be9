"""What the config files of other programs state, checked before a model is made of it."""

from __future__ import annotations

from typing import Any

from bertlite_jax.errors import UserError


def check_kinds(values: dict[str, Any], usual: dict[str, Any], where: str) -> None:
    """Raises UserError for the first value that is not of the kind that its key usually has.

    Args:
      values: what a file states, defaults included.
      usual: an example of each key's values; whole numbers pass where it is a float.
      where: the file.
    """
    for key, example in usual.items():
        kinds = (int, float) if isinstance(example, float) else (type(example),)
        value = values.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(f"convert: {where}: {key} is {value!r}; a value such as {example!r} is wanted")
