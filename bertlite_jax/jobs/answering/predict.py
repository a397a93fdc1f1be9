"""`bertlite predict`: a task model answers texts, one JSON object per line."""

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
from bertlite_jax.jobs.answering import outputs, span_predict
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.answering.span_predict import AnswerOptions
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
    """Reads texts line by line and writes the answers in the same order, batch by batch.

    A line that cannot be read stops the job; the batches before it are answered. In a file of plain texts, blank lines
    are empty texts and are answered; between JSON objects they are skipped.

    Args:
      run: as for `open_task_model`.
      inputs: a file, or `-` for standard input.
      out: receives the lines.
      batch: lines in a batch.
      n_best: for models that answer questions, see `AnswerOptions`.
      null_threshold: the same.
      predictions: the same.

    Returns:
      Numbers of texts that were read, cut to the model's length, and empty; also printed on standard error.
    """
    if batch < 1:
        raise UserError(f"predict: --batch {batch} must be at least 1")
    options = AnswerOptions(n_best, null_threshold, predictions)
    with adoption.open_weights(run) as loaded:
        return _predict(loaded, run, inputs, out, batch, options)


def _predict(loaded: Weights, run: str, inputs: str, out: TextIO, batch: int, options: AnswerOptions) -> dict[str, int]:
    where = "standard input" if inputs == "-" else inputs
    if loaded.head and loaded.head.kind == "span":
        with open_lines(inputs) as lines:
            return span_predict.predict(loaded, run, lines, where, out, batch, options)
    if options != AnswerOptions():
        raise UserError(
            f"predict: --n-best, --null-threshold and --predictions are for models that answer questions, not for {run}"
        )
    model = open_task_model(run, loaded)
    totals: dict[str, int] = {}
    with open_lines(inputs) as lines:
        examples = read_examples(lines, model.head, where)
        while chunk := list(itertools.islice(examples, batch)):
            all_logits, counts = model.answer(chunk)
            for example, logits in zip(chunk, all_logits, strict=True):
                out.write(json.dumps(readable(model.head, example, logits), ensure_ascii=False) + "\n")
            out.flush()
            totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    if not totals:
        print("predict: the input has no text", file=sys.stderr)
        return totals
    print(
        f"predict: {totals['examples']:,} answered, {totals['truncated']:,} of them cut to {model.length} tokens, "
        f"{totals['empty_texts']:,} empty",
        file=sys.stderr,
    )
    return totals


# --- Answers as JSON -------------------------------------------------------------------------------------------------


def readable(head: Head, example: Example, logits: np.ndarray) -> dict[str, Any]:
    """The JSON object of one answer: the example's `id`, and more by the kind of head.

    One label: `label`, `probability`, `probabilities`. Several labels: `labels` with probabilities above one half,
    `probabilities`. Numbers: `value`, or `values` by name. Choices: `choice` (from 0), `probabilities`. Tags: `words`,
    `tags` (one per word), `spans`.
    """
    probabilities = outputs.probabilities(head, logits)
    answer: dict[str, Any] = {"id": example.id}
    if head.kind == "tag":
        tags = [head.labels[tag] for tag in outputs.predictions(head, [logits], [example])[0]]
        return answer | {"words": list(example.words), "tags": tags, "spans": spans_of(example.words, tags)}
    if head.kind == "choose":
        return answer | {"choice": int(probabilities.argmax()), "probabilities": _rounded(probabilities)}
    if head.problem == "regression":
        values = dict(zip(head.labels, _rounded(probabilities), strict=True))
        return answer | ({"value": values[head.labels[0]]} if len(values) == 1 else {"values": values})
    named = dict(zip(head.labels, _rounded(probabilities), strict=True))
    if head.problem == "multi_label":
        return answer | {
            "labels": [name for name, probability in named.items() if probability > 0.5],
            "probabilities": named,
        }
    best = head.labels[int(logits.argmax())]
    return answer | {"label": best, "probability": named[best], "probabilities": named}


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def spans_of(words: Sequence[str], tags: Sequence[str]) -> list[dict[str, Any]]:
    """The spans of BIO tags: `label`, `start` and `end` (numbers of words, the end exclusive), `text`.

    A span starts at `B-x`, or at an `I-x` that follows no tag of x, as conlleval counts it. A tag without a prefix is a
    span of one word; `O` is no span.
    """
    spans: list[dict[str, Any]] = []
    before = "O"
    for number, tag in enumerate(tags):
        prefix, dash, name = tag.partition("-")
        kind = name if dash and prefix in ("B", "I") else tag
        if tag != "O":
            continues = bool(dash) and prefix == "I" and before in (f"B-{name}", f"I-{name}")
            if continues:
                spans[-1]["end"] = number + 1
            else:
                spans.append({"label": kind, "start": number, "end": number + 1})
        before = tag
    return [span | {"text": " ".join(words[span["start"] : span["end"]])} for span in spans]
