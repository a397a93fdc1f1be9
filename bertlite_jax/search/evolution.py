"""A search by evolution: shapes are crossed and changed, and the better half of each generation has children.

It suits errors that cost little, such as those of weights inherited from a supernet: it asks for many, and for the same
ones again.

Sources: Cai et al. 2020 (arXiv 1908.09791), section 3.4; Yin et al. 2021 (arXiv 2107.13686), section 3.3, whose shares
of changed and of fresh shapes these are about.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Sequence

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search.candidates import Candidate
from bertlite_jax.search.score import Score

CHANGED = 0.25
"""Share of the children that are a parent's neighbour; the others are crossed."""


def evolved(
    candidates: Sequence[Candidate],
    neighbours: Callable[[Shape], Sequence[Shape]],
    error: Callable[[Shape], float],
    score: Score,
    population: int,
    generations: int,
    seed: int,
) -> Candidate | None:
    """The candidate with the highest score of all that were met; of equal ones the smallest.

    Args:
      candidates: all that may be chosen, in the order of size.
      neighbours: of a shape.
      error: of a shape; asked for once for each that is met. NaN: it has none.
      score: of a cost and an error.
      population: shapes in a generation.
      generations: number of generations after the first, which is drawn at random.
      seed: of all draws.

    Returns:
      None if no shape has a score.
    """
    allowed = {each.shape: each for each in candidates}
    scores: dict[Shape, float] = {}

    def meet(shapes: Sequence[Shape]) -> list[Shape]:
        """The shapes, best first; those without a score last."""
        for shape in shapes:
            if shape not in scores:
                scores[shape] = score(allowed[shape].cost, error(shape))
        return sorted(shapes, key=lambda shape: (-_real(scores[shape]), *_size(allowed[shape])))

    draw = random.Random(seed)
    alive = meet(draw.sample(list(allowed), min(population, len(allowed))))
    for _ in range(generations):
        parents = alive[: max(2, len(alive) // 2)]
        children = [_child(parents, allowed, neighbours, draw) for _ in range(population - len(parents))]
        alive = meet(list(dict.fromkeys([*parents, *children])))
    real = [shape for shape in scores if not math.isnan(scores[shape])]
    return allowed[meet(real)[0]] if real else None


def crossed(one: Shape, other: Shape, draw: random.Random) -> Shape:
    """A shape that has each of its sizes from one of two."""
    return Shape(**{field.name: getattr(draw.choice((one, other)), field.name) for field in dataclasses.fields(Shape)})


def _child(
    parents: Sequence[Shape],
    allowed: dict[Shape, Candidate],
    neighbours: Callable[[Shape], Sequence[Shape]],
    draw: random.Random,
) -> Shape:
    """A neighbour of a parent, or two parents crossed if that gives a shape of the space; else one drawn at random."""
    if draw.random() < CHANGED:
        near = [shape for shape in neighbours(draw.choice(parents)) if shape in allowed]
        return draw.choice(near) if near else draw.choice(list(allowed))
    child = crossed(draw.choice(parents), draw.choice(parents), draw)
    return child if child in allowed else draw.choice(list(allowed))


def _real(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _size(candidate: Candidate) -> tuple[int, float, Shape]:
    return candidate.cost.parameters, candidate.cost.seconds, candidate.shape
