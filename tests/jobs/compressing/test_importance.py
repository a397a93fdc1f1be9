"""Importance on the examples of each kind of task."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
from onnx_examples import drawn

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.jobs.compressing import importance

HEADS = {
    "one label": Head(labels=("a", "b", "c")),
    "numbers": Head(labels=("score",), problem="regression"),
    "choices": Head(kind="choose", labels=()),
    "tags": Head(kind="tag", labels=("O", "B", "I")),
    "spans": Head(kind="span", labels=()),
}


def encoded_for(head: Head, examples: int = 6) -> Encoded:
    """Six examples of four to seven tokens; three choices each where the head chooses."""
    rng = np.random.default_rng(0)
    choices = 3 if head.kind == "choose" else 1
    sizes = rng.integers(4, 8, examples * choices)
    total = int(sizes.sum())
    numbers = head.problem == "regression"
    shapes = {"tag": (total,), "span": (examples, 2), "choose": (examples,)}
    labels = rng.integers(0, 3, shapes.get(head.kind, (examples, 1) if numbers else (examples,)))
    return Encoded(
        tokens=rng.integers(5, 50, total).astype(np.int32),
        types=np.zeros(total, np.int8),
        words=np.zeros(total if head.kind == "tag" else 0, np.int32),
        offsets=np.r_[0, np.cumsum(sizes)],
        firsts=np.arange(examples + 1) * choices,
        labels=labels.astype(np.float32 if numbers else np.int32),
        counts={},
    )


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_every_kind_of_task_has_importance_and_batches_do_not_matter(head: Head, monkeypatch: pytest.MonkeyPatch):
    """One batch of six rows, or six of one; every head and neuron matters to some example."""
    model = tiny.model(share="none", pair_classes=0, pooler=head.pooled, max_positions=32, compute="float32")
    given = drawn(dataclasses.replace(model, num_layers=1), head), encoded_for(head), 6, 0, 0
    together = importance.measured(*given)
    assert [len(layer) for layer in together.heads] == [2]
    assert [len(layer) for layer in together.neurons] == [32]
    assert all((layer > 0).all() for part in together for layer in part)
    monkeypatch.setattr(importance, "_SLOTS", 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), together, importance.measured(*given))
