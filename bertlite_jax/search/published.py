"""Shapes of published models, which are shown beside those of a space.

Sources of those that `config/presets.py` does not have: Jiao et al. 2020 (arXiv 1909.10351), TinyBERT; Wang et al. 2020
(arXiv 2002.10957), MiniLM. MobileBERT is not among them, because its layers have bottlenecks that no `Shape` has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.search.checks import check_shape
from bertlite_jax.config.search.settings import Shape, model_of
from bertlite_jax.errors import UserError
from bertlite_jax.search.space import AXES, resolved


def _shape_of(model: Model) -> Shape:
    return Shape(**{axis: getattr(model, axis) for axis in AXES})


SHAPES = {
    "Bort": _shape_of(presets.BORT),
    "TinyBERT-4": Shape(4, 12, 312, 1200),
    "TinyBERT-6": Shape(6, 12, 768, 3072),
    "MiniLM-12": Shape(12, 12, 384, 1536),
    "DistilBERT": _shape_of(presets.DISTILBERT),
    "ALBERT-base": _shape_of(presets.ALBERT_BASE),
    "BERT-base": _shape_of(presets.BERT_BASE),
    "BERT-large": _shape_of(presets.BERT_LARGE),
}
_WIDTHS = ("hidden_size", "ffn_size", "embed_size")


def comparable(base: Model, divisor: int, shapes: Iterable[Shape], flops: Callable[[Model], int]) -> dict[str, Shape]:
    """The published shapes that lie within a space by the FLOPs of an answer; others would take long to be timed.

    Args:
      base: model whose other fields they get, as the shapes of the space do.
      divisor: of all their widths, which their names then tell; one that does not divide them leaves a shape out. 0:
        there are none.
      shapes: of the space; at least one.
      flops: of an answer.

    Returns:
      Name, such as `Bort` or `Bort / 8`, to shape.
    """
    if not divisor:
        return {}
    of_space = [flops(model_of(base, shape)) for shape in shapes]
    found = {}
    for name, shape in SHAPES.items():
        narrow = _divided(shape, divisor)
        if narrow and _can_be_built(base, narrow) and min(of_space) <= flops(model_of(base, narrow)) <= max(of_space):
            found[name if divisor == 1 else f"{name} / {divisor}"] = narrow
    return found


def _divided(shape: Shape, divisor: int) -> Shape | None:
    widths = {axis: getattr(resolved(shape), axis) for axis in _WIDTHS}
    if any(width % divisor for width in widths.values()):
        return None
    return dataclasses.replace(shape, **{axis: width // divisor for axis, width in widths.items()})


def _can_be_built(base: Model, shape: Shape) -> bool:
    """Whether the fields that all shapes have in common allow it; nobody has asked for it, so it is no error."""
    try:
        check_shape(base, shape, "published")
    except UserError:
        return False
    return True
