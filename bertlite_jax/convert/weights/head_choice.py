"""What a user says about a task head that another program trained: what it is for, and the names of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bertlite_jax.errors import UserError

HeadKind = Literal["classify", "choose", "tag", "span"]
"""The kinds of `config.model.Head`."""

HeadChoice = Literal["auto", "none", "classify", "multi_label", "regression", "choose", "tag", "span"]
"""auto: as the files say; none: it is left out."""

KINDS: dict[str, HeadKind] = {
    "classify": "classify",
    "multi_label": "classify",
    "regression": "classify",
    "choose": "choose",
    "tag": "tag",
    "span": "span",
}
"""The kind of head by choice."""

ROWS = {"choose": 1, "span": 2}
"""Outputs of the kinds that have no labels."""


def named_outputs(labels: Sequence[str], rows: int, tensor: str, where: str) -> tuple[str, ...]:
    """The labels that a user gave.

    Args:
      labels: in the order of the rows.
      rows: of the head's last layer.
      tensor: its name, for errors.
      where: the folder or checkpoint, for errors.

    Raises:
      UserError: there is not one for each row, or one is there twice.
    """
    if len(labels) != rows:
        raise UserError(
            f"convert: {where}: --labels has {len(labels)} names, and the head has {rows} rows ({tensor}); name them "
            "in the order of the rows"
        )
    if len(set(labels)) != len(labels):
        raise UserError(f"convert: {where}: --labels has a name twice: {', '.join(labels)}")
    return tuple(labels)
