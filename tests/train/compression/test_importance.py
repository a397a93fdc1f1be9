"""Importance against derivatives that are computed row by row, by differences."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from onnx_examples import drawn
from tiny import HEAD, ROWS

from bertlite_jax.config.model import Model
from bertlite_jax.model import gates
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train.compression import importance
from bertlite_jax.train.tasks import task_loss

ONE_WINDOW = {
    **ROWS,
    "segments": np.asarray([[1] * 9 + [0] * 3, [1] * 12], np.int32),
    "cls": np.zeros((2, 1), np.int32),
    "labels": np.asarray([[1], [0]], np.int32),
    "weights": np.ones((2, 1), np.float32),
}
MODEL = Model(
    vocab_size=40,
    embed_size=16,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    ffn_size=12,
    max_positions=16,
    share="none",
    pair_classes=0,
)


def losses(model: Model, params: Any, opened: gates.Gates, rows: dict[str, Any]) -> jax.Array:
    """The sum of the losses of the rows."""
    logits = gates.gated_logits(TaskModel(model, HEAD), params, rows, opened)
    return task_loss.sum_of(HEAD, logits, rows)[0]


def measured(model: Model, params: Any, batches: list[tuple[dict[str, np.ndarray], int]]) -> importance.Importance:
    def slopes_of(params: Any, rows: Any) -> Any:
        return importance.slopes(lambda g: losses(model, params, g, rows), gates.open_gates(model, 2))

    return importance.measure(jax.jit(slopes_of), params, batches)


@pytest.mark.parametrize("share", thorough.but(["all"], ["none", "all"]))
def test_importance_is_that_of_differences_row_by_row(share: Any):
    """(L(1 + h) - L(1 - h)) / 2h of each head and each neuron of each layer, for one row at a time.

    Where layers share, each application has its own.
    """
    model = dataclasses.replace(MODEL, share=share, pruned_heads=(), pruned_ffn=())
    params = drawn(model, HEAD).params
    found = measured(model, params, [(ONE_WINDOW, 2)])
    h, run = 0.02, jax.jit(lambda g, rows: losses(model, params, g, rows))
    for part, count in ((0, model.num_heads), (1, model.ffn_size)):
        for layer in range(model.num_layers):
            for number in range(0, count, 3):
                slopes = []
                for row in range(2):
                    one = {name: value[row : row + 1] for name, value in ONE_WINDOW.items()}
                    ends = []
                    for factor in (1 + h, 1 - h):
                        opened: Any = jax.tree.map(np.array, gates.open_gates(model, 1))
                        opened[part][layer][0, number] = factor
                        ends.append(float(run(opened, one)))
                    slopes.append((ends[0] - ends[1]) / (2 * h))
                np.testing.assert_allclose(found[part][layer][number], np.mean(np.abs(slopes)), rtol=0.02, atol=1e-4)
                np.testing.assert_allclose(
                    found[part + 2][layer][number], np.mean(np.square(slopes)), rtol=0.04, atol=1e-4
                )


def test_rows_of_opposite_signs_do_not_cancel():
    """A head that helps one row as much as it harms another matters."""
    found = importance.slopes(lambda g: jnp.sum(g * jnp.asarray([[2.0], [-2.0]])), jnp.ones((2, 1)))
    np.testing.assert_array_equal(found, [[4.0], [8.0]])


def test_batches_and_empty_rows_change_nothing():
    """Two batches of one example and an empty row are one batch of two."""
    params = drawn(MODEL, HEAD).params
    together = measured(MODEL, params, [(ONE_WINDOW, 2)])
    halves = [({**ONE_WINDOW, "weights": np.asarray(weights, np.float32)}, 1) for weights in ([[1], [0]], [[0], [1]])]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), together, measured(MODEL, params, halves))
