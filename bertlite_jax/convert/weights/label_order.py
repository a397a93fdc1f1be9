"""The outputs of a task head in the order that another place wants them, by their names."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls an output without a name."""


def reordered(weights: Weights, labels: Sequence[str]) -> Weights | None:
    """The weights with a head whose labels are `labels`, in that order; None where it has others.

    Names that differ in case alone are the same, unless one place distinguishes them.
    """
    head = weights.head
    order = _places(head.labels, labels) if head else None
    if head is None or order is None:
        return None
    params: dict[str, Any] = weights.params
    output = {name: leaf[..., order] for name, leaf in params["head"]["output"].items()}
    params = params | {"head": params["head"] | {"output": output}}
    return dataclasses.replace(weights, params=params, head=dataclasses.replace(head, labels=tuple(labels)))


def naming_hint(head: Head, folder: str) -> str:
    """What to do about a head whose outputs were never named, for the end of an error; empty for other heads."""
    if not is_unnamed(head):
        return ""
    return (
        f"; the outputs of this head have no names: give them, in their order, with bertlite convert from-hf "
        f"{shlex.quote(folder)} OUT --labels ... and use OUT"
    )


def is_unnamed(head: Head) -> bool:
    """Whether the labels are the numbers that transformers gives to outputs without names; a regression needs none."""
    return len(head.labels) > 1 and all(UNNAMED.fullmatch(label) for label in head.labels)


def _places(old: Sequence[str], new: Sequence[str]) -> list[int] | None:
    """Where each label of `new` is in `old`."""
    if not old or len(old) != len(new):
        return None
    if len(new) == 1:  # A regression: whatever the number is called.
        return [0]
    for same in (str, str.casefold):
        known = [same(label) for label in old]
        wanted = [same(label) for label in new]
        if len(set(known)) == len(known) and sorted(known) == sorted(wanted):
            return [known.index(label) for label in wanted]
    return None
