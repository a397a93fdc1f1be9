"""The outputs of a task model, and the answers that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples.batches import Layout
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding
from bertlite_jax.train.tasks import task_loss

Forward = Callable[[Any, dict[str, jax.Array]], Any]
"""(parameters, rows) -> logits [R, P, C], [R, L, C] for tags and spans, or `SpanBeams`."""


def make_forward(model: TaskModel, mesh: jax.sharding.Mesh) -> Forward:
    """Returns the forward pass; the devices share the rows, and each gets all logits."""
    return jax.jit(
        lambda params, rows: task_loss.logits_of(model.apply, params, rows),
        out_shardings=sharding.replicated(mesh),
    )


def outputs_of(
    forward: Forward, params: Any, encoded: Encoded, layouts: Iterable[Layout], head: Head, mesh: jax.sharding.Mesh
) -> list[np.ndarray]:
    """Returns the logits of each example: [C]; for multiple choice [choices]; for tags [words that fit, C]."""
    windows = np.diff(encoded.firsts)
    example_of_window = np.repeat(np.arange(len(windows)), windows)
    by_example: list[Any] = [[None] * int(count) for count in windows]
    needed = ("rows", "tokens", "segments", "positions", "token_types", "cls")
    for layout in layouts:
        rows = {name: layout.batch[name] for name in needed}
        logits = np.asarray(jax.device_get(forward(params, sharding.put_batch(rows, mesh))), np.float32)
        for row, column in np.argwhere(layout.windows >= 0).tolist():
            window = int(layout.windows[row, column])
            if head.kind == "tag":
                tokens = slice(int(encoded.offsets[window]), int(encoded.offsets[window + 1]))
                start = int(layout.batch["cls"][row, column])
                answer = logits[row, start + np.flatnonzero(encoded.words[tokens] >= 0)]
            else:
                answer = logits[row, column]
            example = example_of_window[window]
            by_example[example][window - int(encoded.firsts[example])] = answer
    return [np.concatenate(parts) if head.kind == "choose" else parts[0] for parts in by_example]


def probabilities(head: Head, logits: np.ndarray) -> np.ndarray:
    """Turns one example's logits into a softmax over labels or choices, a probability per label, or the numbers."""
    if head.problem == "regression":
        return logits
    if head.problem == "multi_label":
        return 1 / (1 + np.exp(-logits.astype(np.float64)))
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def predictions(head: Head, outputs: Sequence[np.ndarray], examples: Sequence[Example]) -> list[Any]:
    """Turns logits into what `task_metrics.score` takes: probabilities of labels or choices, else values like labels.

    Words that did not fit the length get the label `O`, or the first label if there is no `O`.
    """
    if head.kind == "tag":
        other = head.labels.index("O") if "O" in head.labels else 0
        lengths = [len(example.words) for example in examples]
        tags = [tuple(int(tag) for tag in logits.argmax(-1)) for logits in outputs]
        return [fitting + (other,) * (length - len(fitting)) for fitting, length in zip(tags, lengths, strict=True)]
    if head.kind == "choose" or head.problem == "single_label":
        return [probabilities(head, logits) for logits in outputs]
    if head.problem == "multi_label":
        return [tuple(int(score > 0) for score in logits) for logits in outputs]
    numbers = [tuple(float(number) for number in logits) for logits in outputs]
    return [values[0] if len(values) == 1 else values for values in numbers]
