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


@pytest.mark.parametrize("share", ["none", "all"])
@pytest.mark.parametrize("products", ["float32", "int8"])
def test_a_table_has_all_heads_and_sixteen_widths(share, products, monkeypatch: pytest.MonkeyPatch):
    """Its parts add up to the whole model."""
    monkeypatch.setattr(latency, "_LEAST_SECONDS", 1e-3)
    model, lines = dataclasses.replace(MODEL, share=share), []
    table = latency.table_of(drawn(model, Head(labels=("no", "yes"))), Prune(products=products), 12, lines.append)
    assert len(table.heads) == 3
    assert table.widths.tolist() == list(range(0, 33, 2))
    assert (np.diff(table.heads) >= 0).all()
    assert (np.diff(table.neurons) >= 0).all()
    assert 0 < table.rest < choice.seconds_of(model, table)
    assert lines == ["prune: timing 20 kinds of layers with a text of 12 tokens, 1 thread(s), " + products]
