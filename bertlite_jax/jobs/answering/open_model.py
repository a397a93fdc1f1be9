"""A task model with its tokenizer, ready to answer."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering.outputs import make_forward, outputs_of
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding


class Answering(NamedTuple):
    """An opened task model."""

    head: Head
    length: int
    """Tokens of a text at most, specials included."""
    answer: Callable[[Sequence[Example]], tuple[list[np.ndarray], dict[str, int]]]
    """Examples in; the logits of each out (`outputs_of`), and `features.Encoded.counts`."""


def open_task_model(run: str, loaded: Weights) -> Answering:
    """A model with a task head, ready to answer.

    Args:
      run: work directory of a fine-tuning run, whose texts are as long as in training, or another folder that
        `adoption.open_weights` reads (as long as it has positions, 512 at most).
      loaded: what stands there.

    Raises:
      UserError: no task model, one for spans, or no tokenizer.
    """
    head, tokenizer = loaded.head, loaded.tokenizer
    if head is None or head.kind == "span":
        kind = (
            "answers questions (`span_predict.open_model`)"
            if head
            else "has no task head; make one with bertlite finetune"
        )
        raise UserError(f"predict: {run} {kind}")
    if tokenizer is None:
        raise UserError(f"predict: {run} comes without a tokenizer, and text cannot be read without one")
    compute = choose_precision.resolve(loaded.model.compute, jax.default_backend())
    model, length = TaskModel(loaded.model, head, compute), _length(pathlib.Path(run), loaded.model.max_positions)
    mesh = sharding.make_mesh(1)
    forward = make_forward(model, mesh)
    params = jax.device_put(loaded.params, sharding.replicated(mesh))

    pairs = _pairs_learnt(pathlib.Path(run)) if head.kind == "classify" else None

    def answer(examples: Sequence[Example]) -> tuple[list[np.ndarray], dict[str, int]]:
        if pairs is not None:
            _check_pairs(examples, pairs, run)
        encoded = features.encode(examples, tokenizer, head, length, run)
        row = max(batches.round_up(length), 128)
        layouts = batches.evaluation_batches(encoded, row, True, 1, head, tokenizer.pad_id)
        return outputs_of(forward, params, encoded, layouts, head, mesh), encoded.counts

    return Answering(head, length, answer)


def _length(run: pathlib.Path, positions: int) -> int:
    if (run / "best").is_dir():
        return files.read_json(run / "config.json", Finetuned).data.length
    return min(positions, 512)


def _pairs_learnt(run: pathlib.Path) -> bool | None:
    """Whether a fine-tuning run was shown pairs of texts, or single texts; None: both, or it is not known."""
    summary = run / "summary.json"
    told = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
    if "train_pairs" not in told or 0 < told["train_pairs"] < told["train_examples"]:
        return None
    return told["train_pairs"] > 0


def _check_pairs(examples: Sequence[Example], learnt: bool, run: str) -> None:
    for example in examples:
        at = f"predict: example {example.id}: {run} was trained on"
        if learnt and example.pair is None:
            raise UserError(f"{at} pairs; give its second text as 'pair'")
        if not learnt and example.pair is not None:
            raise UserError(f"{at} single texts; leave out 'pair'")
