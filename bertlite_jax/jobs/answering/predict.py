"""`bertlite predict`: a task model answers texts, one JSON object a line."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_predict
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.answering.outputs import predictions as predicted
from bertlite_jax.jobs.answering.outputs import probabilities
from bertlite_jax.jobs.answering.text_lines import open_lines, read_examples


def predict(
    run: str,
    inputs: str,
    out: TextIO,
    batch: int = 512,
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
) -> dict[str, int]:
    """Reads lines, writes answers in their order, flushed batch by batch.

    A line that cannot be read stops the job with its number; the batches before it are answered. Blank lines of a
    file of plain texts are empty texts, and answered; those between JSON objects are left out.

    Args:
      run: as for `open_task_model`.
      inputs: a file, or `-` for standard input.
      out: takes the lines.
      batch: lines in a batch.
      n_best, null_threshold, predictions: of models that answer questions, see `span_predict.predict`.

    Returns:
      How many texts were read, cut to the model's length, and empty; said on standard error, too.
    """
    if batch < 1:
        raise UserError(f"predict: --batch {batch} must be at least 1")
    with adoption.open_weights(run) as loaded:
        return _predict(loaded, run, inputs, out, batch, n_best, null_threshold, predictions)


def _predict(
    loaded: Weights,
    run: str,
    inputs: str,
    out: TextIO,
    batch: int,
    n_best: int,
    null_threshold: float | None,
    predictions: str,
) -> dict[str, int]:
    where = "standard input" if inputs == "-" else inputs
    if loaded.head and loaded.head.kind == "span":
        with open_lines(inputs) as lines:
            return span_predict.predict(loaded, run, lines, where, out, batch, n_best, null_threshold, predictions)
    if n_best != 1 or null_threshold is not None or predictions:
        raise UserError(f"predict: --n-best, --null-threshold and --predictions are for answers; {run} gives none")
    model = open_task_model(run, loaded)
    totals: dict[str, int] = {}
    with open_lines(inputs) as lines:
        examples = read_examples(lines, model.head, where)
        while chunk := list(itertools.islice(examples, batch)):
            outputs, counts = model.answer(chunk)
            for example, logits in zip(chunk, outputs, strict=True):
                out.write(json.dumps(readable(model.head, example, logits), ensure_ascii=False) + "\n")
            out.flush()
            totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    if not totals:
        print("predict: no text was given", file=sys.stderr)
        return totals
    print(
        f"predict: {totals['examples']:,} answered, {totals['truncated']:,} of them cut to {model.length} tokens, "
        f"{totals['empty_texts']:,} empty",
        file=sys.stderr,
    )
    return totals


# --- Answers out -------------------------------------------------------------------------------------------------


def readable(head: Head, example: Example, logits: np.ndarray) -> dict[str, Any]:
    """What is written for one example.

    One label: `label`, `probability`, `probabilities`. Several: `labels` above one half, `probabilities`. Numbers:
    `value`, or `values` by name. Choices: `choice` (from 0), `probabilities`. Tags: `tags` for each word, `spans`.
    """
    shares = probabilities(head, logits)
    answer: dict[str, Any] = {"id": example.id}
    if head.kind == "tag":
        tags = [head.labels[tag] for tag in predicted(head, [logits], [example])[0]]
        return answer | {"words": list(example.words), "tags": tags, "spans": spans(example.words, tags)}
    if head.kind == "choose":
        return answer | {"choice": int(shares.argmax()), "probabilities": _rounded(shares)}
    if head.problem == "regression":
        values = dict(zip(head.labels, _rounded(shares), strict=True))
        return answer | ({"value": values[head.labels[0]]} if len(values) == 1 else {"values": values})
    named = dict(zip(head.labels, _rounded(shares), strict=True))
    if head.problem == "multi_label":
        return answer | {"labels": [name for name, share in named.items() if share > 0.5], "probabilities": named}
    best = head.labels[int(logits.argmax())]
    return answer | {"label": best, "probability": named[best], "probabilities": named}


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def spans(words: Sequence[str], tags: Sequence[str]) -> list[dict[str, Any]]:
    """Spans of BIO tags: `label`, `start` and `end` (words, the end not included), `text`.

    A span begins at `B-x`, or at an `I-x` that follows no tag of x, as conlleval counts it. Tags without a prefix are
    spans of one word each, `O` is none.
    """
    found: list[dict[str, Any]] = []
    before = "O"
    for place, tag in enumerate(tags):
        prefix, dash, name = tag.partition("-")
        kind = name if dash and prefix in ("B", "I") else tag
        if tag != "O":
            goes_on = bool(dash) and prefix == "I" and before in (f"B-{name}", f"I-{name}")
            if goes_on:
                found[-1]["end"] = place + 1
            else:
                found.append({"label": kind, "start": place, "end": place + 1})
        before = tag
    return [span | {"text": " ".join(words[span["start"] : span["end"]])} for span in found]
