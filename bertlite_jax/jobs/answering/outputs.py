"""The outputs of a task model, and what they amount to."""

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
    """Logits of rows that the devices share, on every device."""
    return jax.jit(
        lambda params, rows: task_loss.logits_of(model.apply, params, rows),
        out_shardings=sharding.replicated(mesh),
    )


def outputs_of(
    forward: Forward, params: Any, encoded: Encoded, layouts: Iterable[Layout], head: Head, mesh: jax.sharding.Mesh
) -> list[np.ndarray]:
    """The logits of each example: [C]; [choices] for multiple choice; [words that fit, C] for tags."""
    windows = np.diff(encoded.firsts)
    owner = np.repeat(np.arange(len(windows)), windows)
    found: list[Any] = [[None] * int(count) for count in windows]
    needed = ("rows", "tokens", "segments", "positions", "token_types", "cls")
    for layout in layouts:
        rows = {name: layout.batch[name] for name in needed}
        logits = np.asarray(jax.device_get(forward(params, sharding.put_batch(rows, mesh))), np.float32)
        for row, column in np.argwhere(layout.windows >= 0).tolist():
            window = int(layout.windows[row, column])
            if head.kind == "tag":
                at = slice(int(encoded.offsets[window]), int(encoded.offsets[window + 1]))
                start = int(layout.batch["cls"][row, column])
                here = start + np.flatnonzero(encoded.words[at] >= 0)
                answer = logits[row, here]
            else:
                answer = logits[row, column]
            found[owner[window]][window - int(encoded.firsts[owner[window]])] = answer
    return [np.concatenate(parts) if head.kind == "choose" else parts[0] for parts in found]


def probabilities(head: Head, logits: np.ndarray) -> np.ndarray:
    """Of one example's logits: softmax over labels or choices, a probability for each label, or the numbers."""
    if head.problem == "regression":
        return logits
    if head.problem == "multi_label":
        return 1 / (1 + np.exp(-logits.astype(np.float64)))
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def predictions(head: Head, outputs: Sequence[np.ndarray], examples: Sequence[Example]) -> list[Any]:
    """What `data.metrics.score` takes: probabilities of labels or choices, else answers as `Example.label` has them.

    Words of a sentence that did not fit the length get the label `O`, or the first one.
    """
    if head.kind == "tag":
        other = head.labels.index("O") if "O" in head.labels else 0
        lengths = [len(example.words) for example in examples]
        tags = [tuple(int(tag) for tag in logits.argmax(-1)) for logits in outputs]
        return [found + (other,) * (length - len(found)) for found, length in zip(tags, lengths, strict=True)]
    if head.kind == "choose" or head.problem == "single_label":
        return [probabilities(head, logits) for logits in outputs]
    if head.problem == "multi_label":
        return [tuple(int(score > 0) for score in logits) for logits in outputs]
    numbers = [tuple(float(number) for number in logits) for logits in outputs]
    return [each[0] if len(each) == 1 else each for each in numbers]
