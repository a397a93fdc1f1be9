"""Evolution finds the best of a space if it is told what shapes are worth, and asks for each once."""

import math
import random

from search import planted

from bertlite_jax.config.search.settings import Shape, Space
from bertlite_jax.search import evolution, space


def near(shape: Shape) -> list[Shape]:
    return space.neighbours(Space(), shape)


def far_from(best: Shape):
    """An error that grows with every size that differs."""
    return lambda shape: (
        1.0
        + sum(
            abs(math.log2(getattr(shape, axis) / getattr(best, axis)))
            for axis in ("num_layers", "hidden_size", "ffn_size")
        )
    )


def evolve(error, seed: int = 0, **changes):
    how = {"population": 16, "generations": 12, "seed": seed} | changes
    return evolution.evolved(planted.CANDIDATES, near, error, lambda cost, error: -error, **how)


def test_it_finds_the_best_of_300_after_a_fraction_of_them():
    for seed in range(3):
        asked: list[Shape] = []
        best = planted.CANDIDATES[170].shape
        error = far_from(best)

        def counted(shape: Shape, asked: list[Shape] = asked, error=error) -> float:
            asked.append(shape)
            return error(shape)

        found = evolve(counted, seed)
        assert found is not None
        assert error(found.shape) == 1.0
        assert len(asked) == len(set(asked)) < 150


def test_the_same_seed_meets_the_same_shapes():
    met: list[list[Shape]] = [[], []]
    for one in met:
        evolve(lambda shape, one=one: one.append(shape) or float(shape.ffn_size))
    assert met[0] == met[1]


def test_shapes_without_an_error_are_never_chosen():
    def error(shape: Shape) -> float:
        return math.nan if shape.hidden_size < 1024 else float(shape.ffn_size)

    found = evolve(error)
    assert found is not None
    assert found.shape.hidden_size == 1024
    assert evolve(lambda shape: math.nan) is None


def test_a_child_has_each_size_from_one_of_its_parents():
    one, other = Shape(2, 4, 512, 256), Shape(12, 16, 1024, 3072)
    draw = random.Random(0)
    for _ in range(20):
        child = evolution.crossed(one, other, draw)
        for axis in space.AXES:
            assert getattr(child, axis) in (getattr(one, axis), getattr(other, axis))
