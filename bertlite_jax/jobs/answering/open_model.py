"""A task model with its tokenizer, ready to answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights, answer_length
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering.outputs import make_forward, outputs_of
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding


class Answering(NamedTuple):
    """An opened task model."""

    head: Head
    length: int
    """Most tokens in a text, special tokens included."""
    rounded: str
    """What to say of the arithmetic where the weights have been rounded to 8 bits; empty for others."""
    answer: Callable[[Sequence[Example]], tuple[list[np.ndarray], dict[str, int]]]
    """(examples) -> the logits of each, as of `outputs_of`, and `features.Encoded.counts`.

    Of a sentence without words, a tagger has the logits of no word, [0, C]; it is counted as an empty text.
    """


def open_task_model(run: str, loaded: Weights) -> Answering:
    """Opens a model with a task head.

    Args:
      run: where it was loaded from. In the work directory of a fine-tuning run, texts may be as long as in training; in
        another folder, as long as the model has positions, 512 at most.
      loaded: the weights at `run`.

    Raises:
      UserError: it is no task model, one for spans, or has no tokenizer.
    """
    head, tokenizer = loaded.head, loaded.tokenizer
    if head is None or head.kind == "span":
        kind = (
            "answers questions about texts, which is not possible here"
            if head
            else "has no task head; train one with bertlite finetune"
        )
        raise UserError(f"predict: {run} {kind}")
    if tokenizer is None:
        raise UserError(f"predict: {run} comes without a tokenizer, and text cannot be read without one")
    compute = choose_precision.resolve(loaded.model.compute, jax.default_backend(), loaded.trained_bits)
    model, length = TaskModel(loaded.model, head, compute), answer_length(loaded)
    mesh = sharding.make_mesh(1)
    forward = make_forward(model, mesh)
    params = jax.device_put(loaded.params, sharding.replicated(mesh))

    trained_on_pairs = loaded.reading.pairs if loaded.reading and head.kind == "classify" else None

    def answer(examples: Sequence[Example]) -> tuple[list[np.ndarray], dict[str, int]]:
        if trained_on_pairs is not None:
            _check_pairs(examples, trained_on_pairs, run)
        texts = [dataclasses.replace(example, label=None) for example in examples]
        wordless = [place for place, example in enumerate(texts) if head.kind == "tag" and not example.words]
        for place in wordless:
            texts[place] = dataclasses.replace(texts[place], words=("",))
        encoded = features.encode(texts, tokenizer, head, length, run)
        row = max(batches.round_up(length), 128)
        layouts = batches.evaluation_batches(encoded, row, True, 1, head, tokenizer.pad_id)
        logits, counts = outputs_of(forward, params, encoded, layouts, head, mesh), dict(encoded.counts)
        for place in wordless:
            logits[place] = logits[place][:0]
            counts["empty_texts"] += 1
            counts["words"] -= 1
        return logits, counts

    return Answering(head, length, rounded(loaded, compute), answer)


def rounded(loaded: Weights, compute: Compute) -> str:
    """A line on the arithmetic of weights from an INT8 export; empty for other weights."""
    if not loaded.facts.get("quantised"):
        return ""
    products = "float32" if compute == "float32" else "bfloat16"
    return (
        f"an INT8 export, whose 8-bit weights are multiplied in {products} here; products of integers are those of "
        "its ONNX file"
    )


def renamed(loaded: Weights, labels: tuple[str, ...], run: str) -> Weights:
    """The weights with other names for the outputs of their head.

    Raises:
      UserError: there is no head with labels, or `labels` are not as many, or one of them occurs twice.
    """
    head = loaded.head or Head(labels=())
    if not labels or len(labels) != len(head.labels) or len(set(labels)) < len(labels):
        raise UserError(
            f"predict: --labels {' '.join(labels)}: {run} has {len(head.labels)} outputs, and each needs a name of its "
            f"own; they are called {', '.join(head.labels[:12])}"
        )
    return dataclasses.replace(loaded, head=dataclasses.replace(head, labels=labels))


def _check_pairs(examples: Sequence[Example], trained_on_pairs: bool, run: str) -> None:
    for example in examples:
        problem = f"predict: example {example.id}: {run} was trained on"
        if trained_on_pairs and example.pair is None:
            raise UserError(f"{problem} pairs; give the second text as 'pair', or name its column with --pair-column")
        if not trained_on_pairs and example.pair is not None:
            raise UserError(f"{problem} single texts; leave out 'pair', and --pair-column")
