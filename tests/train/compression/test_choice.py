"""What stays within a time is the best that a search through all combinations finds."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.train.compression import choice, pruning
from bertlite_jax.train.compression.choice import Latencies
from bertlite_jax.train.compression.importance import Importance

MODEL = Model(hidden_size=16, num_layers=2, num_heads=2, ffn_size=4, share="none")
TABLE = Latencies(
    heads=np.asarray([0.0, 2.0, 3.0]),
    widths=np.asarray([0, 2, 4]),
    neurons=np.asarray([0.0, 4.0, 7.0]),
    layer=0.5,
    rest=1.0,
)
FULL = 1.0 + 2 * (3.0 + 7.0 + 0.5)


def drawn(model: Model, seed: int) -> Importance:
    generator = np.random.default_rng(seed)
    heads, neurons = (
        [generator.uniform(0.1, 1, count) for _ in range(model.num_layers)]
        for count in (model.num_heads, model.ffn_size)
    )
    return Importance(heads, neurons, [value**2 for value in heads], [value**2 for value in neurons])


def lost(importance: Importance, model: Model, kept: pruning.Kept) -> float:
    """The squares of everything that does not stay, of every layer that applied it."""
    total = 0.0
    for layer in range(model.num_layers):
        for part, squares, stays in (
            ("attention", importance.squared_heads, kept.heads),
            ("ffn", importance.squared_neurons, kept.neurons),
        ):
            place: Any = model.stack_place(part, layer)
            left = stays[place] if layer in kept.layers else []
            total += squares[layer].sum() - squares[layer][left].sum()
    return total


def most_important(values: np.ndarray, count: int) -> np.ndarray:
    return np.sort(np.argsort(-values)[:count])


def every_way(importance: Importance, model: Model) -> list[pruning.Kept]:
    """All that could stay: of each layer the most important heads and neurons, or nothing."""
    ways = []
    for layer in range(model.num_layers):
        options: list[Any] = [None]
        for heads, neurons in itertools.product(range(3), (0, 2, 4)):
            if heads or neurons:
                options.append(
                    (most_important(importance.heads[layer], heads), most_important(importance.neurons[layer], neurons))
                )
        ways.append(options)
    nothing = (np.arange(0), np.arange(0))
    kept = []
    for combination in itertools.product(*ways):
        layers = tuple(number for number, way in enumerate(combination) if way)
        parts = [way or nothing for way in combination]
        kept.append(pruning.Kept(layers, [p[0] for p in parts], [p[1] for p in parts]))
    return [each for each in kept if each.layers]


def test_the_table_adds_up():
    assert choice.seconds_of(MODEL, TABLE) == FULL
    kept = pruning.Kept((1,), [np.arange(2), np.arange(1)], [np.arange(4), np.arange(3)])
    assert choice.seconds_of(MODEL, TABLE, kept) == 1.0 + 2.0 + 5.5 + 0.5
    assert choice.fewest_seconds(MODEL, TABLE) == 1.0 + 2.0 + 0.5


def test_the_least_time_is_that_of_what_there_is():
    """Of a model without heads, two of its neurons are left and not one head, which would be faster."""
    left = dataclasses.replace(MODEL, pruned_heads=(0, 0), pruned_ffn=(2, 4))
    assert choice.fewest_seconds(left, TABLE) == 1.0 + 4.0 + 0.5
    nothing = [np.zeros(0)] * 2
    importance = Importance(nothing, [np.ones(2), np.ones(4)], nothing, [np.ones(2), np.ones(4)])
    found = choice.choose(importance, left, TABLE, 5.5)
    assert choice.seconds_of(left, TABLE, found) == 5.5


def test_three_groups_fit_into_just_their_time():
    """Each takes a third of it, which is no whole number of discrete times."""
    model = dataclasses.replace(MODEL, share="all", num_layers=3, share_groups=3)
    fewest = choice.fewest_seconds(model, TABLE)
    assert fewest == 1.0 + 3 * 2.5
    found = choice.choose(drawn(model, 0), model, TABLE, fewest)
    assert choice.seconds_of(model, TABLE, found) == fewest
    assert found.layers == (0, 1, 2)


@pytest.mark.parametrize("seconds", [3.6, 6.1, 9.1, 12.1, 15.6, 19.1, FULL])
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_that_fits_loses_less(seconds: float, seed: int):
    importance = drawn(MODEL, seed)
    found = choice.choose(importance, MODEL, TABLE, seconds)
    assert choice.seconds_of(MODEL, TABLE, found) <= seconds
    fitting = [each for each in every_way(importance, MODEL) if choice.seconds_of(MODEL, TABLE, each) <= seconds]
    np.testing.assert_allclose(lost(importance, MODEL, found), min(lost(importance, MODEL, each) for each in fitting))


def test_with_time_for_all_of_it_all_of_it_stays():
    found = choice.choose(drawn(MODEL, 0), MODEL, TABLE, FULL)
    assert found.layers == (0, 1)
    assert [len(heads) for heads in found.heads] == [2, 2]
    assert [len(neurons) for neurons in found.neurons] == [4, 4]


def test_the_heads_that_stay_are_the_most_important():
    importance = drawn(MODEL, 0)
    importance = importance._replace(heads=[np.asarray([0.1, 0.9]), np.asarray([0.8, 0.2])])
    found = choice.choose(importance, MODEL, TABLE._replace(heads=np.asarray([0.0, 1.0, 9.0])), 1 + 2 * 8.5)
    assert [heads.tolist() for heads in found.heads] == [[1], [0]]


@pytest.mark.parametrize("seconds", [5.1, 9.1, 16.1, 25.0])
def test_layers_that_share_lose_the_same_heads_or_are_applied_less_often(seconds: float):
    """Against all depths, heads and widths of two layers that share one set of parameters."""
    model = dataclasses.replace(MODEL, share="all")
    importance = drawn(model, 2)
    found = choice.choose(importance, model, TABLE, seconds)
    ways = []
    for depth, heads, neurons in itertools.product((1, 2), range(3), (0, 2, 4)):
        if heads or neurons:
            of_heads = most_important(np.sum(importance.heads[:depth], axis=0), heads)
            of_neurons = most_important(np.sum(importance.neurons[:depth], axis=0), neurons)
            ways.append(pruning.Kept(tuple(range(depth)), [of_heads], [of_neurons]))
    fitting = [each for each in ways if choice.seconds_of(model, TABLE, each) <= seconds]
    np.testing.assert_allclose(lost(importance, model, found), min(lost(importance, model, each) for each in fitting))
    assert choice.seconds_of(model, TABLE, found) <= seconds
