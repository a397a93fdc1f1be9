"""The table of latencies: what a layer takes with fewer heads and neurons, on whatever machine this is."""

import dataclasses

import numpy as np
import pytest
import tiny
from onnx_examples import drawn

from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.config.model import Head
from bertlite_jax.jobs.compressing import latency
from bertlite_jax.train.compression import choice
from bertlite_jax.train.compression.choice import Latencies

MODEL = tiny.model(share="none", pair_classes=0)


def test_a_narrower_layer_takes_no_longer_than_a_wider_one():
    """Noise only adds time, so that a wider layer that was faster says more."""
    np.testing.assert_array_equal(latency.rising(np.asarray([3.0, 2.0, 5.0, 4.0])), [0.0, 2.0, 2.0, 4.0, 4.0])


def test_what_layers_do_not_take_is_the_rest():
    """Two layers of (2 + 4 + 1) s in a model of 20 s."""
    parts = Latencies(np.asarray([0.0, 1.0, 2.0]), np.asarray([0, 32]), np.asarray([0.0, 4.0]), 1.0, 0.0)
    table = latency.scaled_to(parts, MODEL, 20.0, 0.5)
    assert (table.rest, table.layer) == (6.0, 1.0)


def test_layers_that_were_timed_in_a_slower_moment_are_scaled_to_the_model():
    """Of 10.5 s, 3.5 s are there without layers: two layers of 7 s took 7 s together."""
    parts = Latencies(np.asarray([0.0, 1.0, 2.0]), np.asarray([0, 32]), np.asarray([0.0, 4.0]), 1.0, 0.0)
    table = latency.scaled_to(parts, MODEL, 10.5, 3.5)
    np.testing.assert_allclose(table.heads, [0.0, 0.5, 1.0])
    np.testing.assert_allclose((table.neurons[1], table.layer, table.rest), (2.0, 0.5, 3.5))
    np.testing.assert_allclose(choice.seconds_of(MODEL, table), 10.5)


def seconds_of_parts(makers, settings: Prune, length: int) -> list[float]:
    """What models would take of which every part takes a known time; each answers a text in ONNX Runtime too."""
    found = []
    for make in makers:
        weights = make()
        latency.call_of(weights, settings, length)()
        layers = range(weights.model.num_layers)
        of_layers = sum(0.1 + 0.2 * weights.model.heads_in(i) + 0.01 * weights.model.ffn_size_in(i) for i in layers)
        found.append(1.0 + of_layers)
    return found


@pytest.mark.parametrize("share", ["none", "all"])
@pytest.mark.parametrize("products", ["float32", "int8"])
def test_a_table_has_all_heads_and_sixteen_widths(share, products, monkeypatch: pytest.MonkeyPatch):
    """Its parts are those that the models were made of, and add up to the whole model."""
    monkeypatch.setattr(latency, "seconds_of", seconds_of_parts)
    model, lines = dataclasses.replace(MODEL, share=share), []
    table = latency.table_of(drawn(model, Head(labels=("no", "yes"))), Prune(products=products), 12, lines.append)
    np.testing.assert_allclose(table.heads, [0.0, 0.2, 0.4])
    assert table.widths.tolist() == list(range(0, 33, 2))
    np.testing.assert_allclose(table.neurons, 0.01 * table.widths)
    np.testing.assert_allclose((table.layer, table.rest), (0.1, 1.0))
    np.testing.assert_allclose(choice.seconds_of(model, table), 1.0 + model.num_layers * (0.1 + 0.4 + 0.32))
    assert lines == ["prune: timing 20 kinds of layers with a text of 12 tokens, 1 thread(s), " + products]


def test_a_deeper_model_takes_longer(monkeypatch: pytest.MonkeyPatch):
    """Thirty-two times as many layers, so that no busy machine turns it round."""
    monkeypatch.setattr(latency, "_LEAST_SECONDS", 1e-3)
    shallow, deep = (drawn(dataclasses.replace(MODEL, num_layers=count)) for count in (1, 32))
    one, many = latency.seconds_of([lambda: shallow, lambda: deep], Prune(), 12)
    assert 0 < one < many
