"""The shapes of a space: which there are, which cost the same, and which are neighbours.

Source of the default space: de Wynter and Perry 2020 (arXiv 2010.10499): 360 combinations, 300 of which have heads that
divide the width, and 90 of which differ in more than the number of heads.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from bertlite_jax.config.model import Model
from bertlite_jax.config.search.checks import check_shape
from bertlite_jax.config.search.settings import Shape, Space

AXES = tuple(field.name for field in dataclasses.fields(Shape))


def grid(space: Space) -> Iterator[Shape]:
    """All combinations of the values, also those that cannot be built; an `embed_size` of 0 stays 0."""
    for values in itertools.product(*(getattr(space, axis) for axis in AXES)):
        yield Shape(*values)


def points(space: Space) -> list[Shape]:
    """The shapes that can be built, each once and with its own `embed_size`, in the order of their fields.

    Examples:
      Bort's space: 360 combinations, of which 300 can be built, and 90 differ in more than their heads.

      >>> from bertlite_jax.config import Space
      >>> from bertlite_jax.search.space import distinct, grid, points
      >>> bort = points(Space())
      >>> len(list(grid(Space()))), len(bort), len(distinct(bort))
      (360, 300, 90)
    """
    return sorted({resolved(shape) for shape in grid(space) if _heads_divide(shape)})


def resolved(shape: Shape) -> Shape:
    """The shape with an `embed_size` that is not 0."""
    return dataclasses.replace(shape, embed_size=shape.embed_size or shape.hidden_size)


def distinct(shapes: Iterable[Shape], head_size: int = 64) -> list[Shape]:
    """One shape of those that differ only in their heads, which change neither parameters nor FLOPs.

    Args:
      shapes: that can be built.
      head_size: wanted width of a head; the nearest is taken, of two equally near ones the one with more heads. BERT,
        RoBERTa and ALBERT have 64.
    """
    groups: dict[Shape, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(dataclasses.replace(shape, num_heads=0), []).append(shape)

    def unusual(shape: Shape) -> tuple[float, int]:
        return abs(shape.hidden_size / shape.num_heads - head_size), -shape.num_heads

    return [min(group, key=unusual) for group in groups.values()]


def neighbours(space: Space, shape: Shape) -> list[Shape]:
    """The shapes that are one value away from a shape in one of the space's lists.

    Where the other width has no room for the same heads, it takes the nearest number of heads that divides it: without
    that, twelve heads of 768 would have no neighbour of another width.

    Args:
      space: whose lists say what is next to what.
      shape: one of its points.
    """
    found = set()
    embed_sizes = [size for size in space.embed_size if (size or shape.hidden_size) == shape.embed_size]
    for place in (dataclasses.replace(shape, embed_size=size) for size in embed_sizes):
        for axis in AXES:
            values = getattr(space, axis)
            index = values.index(getattr(place, axis))
            for other in (index - 1, index + 1):
                if 0 <= other < len(values):
                    moved = dataclasses.replace(place, **{axis: values[other]})
                    found.add(resolved(moved if axis == "num_heads" else _with_fitting_heads(space, moved)))
    return sorted(other for other in found - {shape} if _heads_divide(other))


def check_shapes(base: Model, shapes: Iterable[Shape]) -> None:
    """Raises UserError for the first shape that cannot be built with the fields that all have in common."""
    for shape in shapes:
        check_shape(base, shape, f"space: {describe(shape)}")


def describe(shape: Shape) -> str:
    """`<4,8,1024,768>`: layers, heads, width and feed-forward width as in Bort's paper, then what else is unusual."""
    unusual = f" E={shape.embed_size}" if shape.embed_size not in (0, shape.hidden_size) else ""
    unusual += f" share={shape.share}" if shape.share != "none" else ""
    return f"<{shape.num_layers},{shape.num_heads},{shape.hidden_size},{shape.ffn_size}>{unusual}"


def _heads_divide(shape: Shape) -> bool:
    return shape.hidden_size % shape.num_heads == 0


def _with_fitting_heads(space: Space, shape: Shape) -> Shape:
    """Nearest in number, of two equally near ones the smaller; every width has one, as `check_space` asks."""
    fitting = [heads for heads in space.num_heads if shape.hidden_size % heads == 0]
    return dataclasses.replace(shape, num_heads=min(fitting, key=lambda heads: (abs(heads - shape.num_heads), heads)))
