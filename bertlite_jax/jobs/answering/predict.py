"""`bertlite predict`: a task model answers texts, one JSON object per line."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.bundled import tag
from bertlite_jax.convert.weights import label_order
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.labels import Names
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import outputs, scoring, span_predict
from bertlite_jax.jobs.answering.inputs import Notes, check_batch, counts_in_words, options_of_run, read
from bertlite_jax.jobs.answering.json_output import write_line
from bertlite_jax.jobs.answering.open_model import Answering, open_task_model, renamed
from bertlite_jax.jobs.answering.span_predict import AnswerOptions


def predict(
    run: str,
    inputs: str,
    out: TextIO,
    batch: int = 512,
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
    columns: OwnOptions | None = None,
    metrics: str = "",
    labels: tuple[str, ...] = (),
    score: bool = True,
) -> dict[str, int]:
    """Reads a file, or lines, and writes the answers in the same order, batch by batch.

    A line that cannot be read stops the job; the batches before it are answered. In a file of plain texts, blank lines
    are empty texts and are answered; between JSON objects they are skipped. Where there are labels, the answers are
    scored.

    Args:
      run: as for `open_task_model`.
      inputs: a file, or `-` for standard input.
      out: receives the lines.
      batch: lines in a batch.
      n_best: for models that answer questions, see `AnswerOptions`.
      null_threshold: the same.
      predictions: the same.
      columns: what is said of the input's columns; the rest, or None: as in the run's training.
      metrics: file for the metrics, as JSON; empty: they are only printed, on standard error.
      labels: other names for the outputs, in their order; empty: the model's own.
      score: whether labels are read where there are any.

    Returns:
      Numbers of texts that were read, cut to the model's length, and empty; also printed on standard error.
    """
    check_batch(batch, "predict")
    scoring.check_file(metrics, inputs)
    if metrics and not score:
        raise UserError(f"predict: --metrics {metrics} needs the scores that --no-score leaves out; drop one of them")
    wanted = AnswerOptions(n_best, null_threshold, predictions)
    with adoption.open_weights(run, "predict") as loaded:
        if loaded.head and loaded.head.kind == "span":
            if labels:
                raise UserError(f"predict: --labels is for models with labels, and {run} answers questions")
            return span_predict.predict(loaded, run, inputs, out, batch, wanted, metrics, columns, score)
        if wanted != AnswerOptions():
            raise UserError(
                "predict: --n-best, --null-threshold and --predictions are for models that answer questions, not for "
                f"{run}"
            )
        own_names = loaded.head.labels if labels and loaded.head else ()
        model = open_task_model(run, renamed(loaded, labels, run) if labels else loaded)
    said = columns or OwnOptions()
    options = columns_said(run, model.head, said, own_names)
    return _predict(model, run, inputs, out, batch, options, said, metrics, score)


def columns_said(run: str, head: Head, columns: OwnOptions, own_names: tuple[str, ...]) -> OwnOptions:
    """How an input of this run is read: as its training data, but for what is said of this one.

    Outputs whose names are mere numbers (LABEL_0), or were said in their order, may be numbers in the input.

    Args:
      run: as for `predict`.
      head: with the names that were said, if there are any.
      columns: what is said of the input.
      own_names: the model's own names, if others were said.
    """
    trained, usual = options_of_run(run), OwnOptions()
    if own_names or label_order.is_unnamed(head):
        trained = dataclasses.replace(trained, label_names=head.labels, own_names=own_names)
    said = {field.name: getattr(columns, field.name) for field in dataclasses.fields(columns)}
    return dataclasses.replace(
        trained, **{name: value for name, value in said.items() if value != getattr(usual, name)}
    )


def _predict(
    model: Answering,
    run: str,
    inputs: str,
    out: TextIO,
    batch: int,
    columns: OwnOptions,
    said: OwnOptions,
    metrics: str,
    score: bool,
) -> dict[str, int]:
    notes = Notes()
    scores = scoring.Scores(run, model.head, notes.unknown)
    scores.names = Names(model.head.labels, bool(columns.label_names), columns.own_names)
    scores.other_form = scoring.other_columns(run, inputs, model.head) if score else ""
    totals: dict[str, int] = {}
    examples = read(inputs, model.head, columns, notes, labelled=score, said=said)
    while chunk := list(itertools.islice(examples, batch)):
        all_logits, counts = model.answer(chunk)
        for example, logits in zip(chunk, all_logits, strict=True):
            write_line(out, readable(model.head, example, logits))
        out.flush()
        if any(example.label is not None for example in chunk):
            scores.add(chunk, outputs.predictions(model.head, all_logits, chunk))
        else:
            scores.unlabelled += len(chunk)
        totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    if not totals:
        print("predict: the input has no text", file=sys.stderr)
    else:
        print(f"predict: {answered_in_words(totals, model.length)}", file=sys.stderr)
    _score(scores, metrics, notes)
    if score and totals and not scores.examples and (line := notes.unscored()):
        print(f"predict: {line}", file=sys.stderr)
    return totals


def _score(scores: scoring.Scores, metrics: str, notes: Notes) -> None:
    """Prints what was odd and the metrics, and writes them if a file is named; raises UserError only then."""
    figures, refusal = {}, None
    try:
        figures = scores.result()
    except UserError as error:
        refusal = error
    for line in notes.lines(scores.task.head.labels, scored=refusal is None):
        print(f"predict: {line}", file=sys.stderr)
    if refusal is not None and metrics:
        raise refusal
    if refusal is not None:
        print(refusal, file=sys.stderr)
        return
    scoring.say(figures, scores.unlabelled)
    if metrics:
        scoring.write(metrics, figures, len(scores.examples))


def answered_in_words(counts: Mapping[str, int], length: int) -> str:
    """`3 answered, 1 of them cut to 32 tokens`, and what else is worth saying of `Encoded.counts`."""
    return ", ".join([f"{counts['examples']:,} answered", *counts_in_words(counts, length, cut="of them ")])


# --- Answers as JSON -------------------------------------------------------------------------------------------------


def readable(head: Head, example: Example, logits: np.ndarray) -> dict[str, Any]:
    """The JSON object of one answer: the example's `id`, and more by the kind of head.

    One label: `label`, `probability`, `probabilities`. Several labels: `labels` with probabilities above one half,
    `probabilities`. Numbers: `value`, or `values` by name. Choices: `choice` (from 0), `probabilities`. Tags: `words`,
    `tags` (one per word), `spans` (see `spans_of`).
    """
    probabilities = outputs.probabilities(head, logits)
    answer: dict[str, Any] = {"id": example.id}
    if head.kind == "tag":
        tags = [head.labels[tag] for tag in outputs.predictions(head, [logits], [example])[0]]
        spans = spans_of(example.words, tags, example.text)
        return answer | {"words": list(example.words), "tags": tags, "spans": spans}
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


def spans_of(words: Sequence[str], tags: Sequence[str], text: str = "") -> list[dict[str, Any]]:
    """The spans of BIO tags, counted as `bundled.tag.spans_of` does.

    Each has `label`, `start` and `end` (numbers of words, the end exclusive), `text`, `start_char` and `end_char`
    (characters of `text`; if the words do not stand in it one after the other, of the words joined by spaces).
    """
    places = _places(words, text)
    if places is None:
        text = " ".join(words)
        places = _places(words, text) or []
    spans = []
    for label, start, end in tag.spans_of(tags):
        first, last = places[start][0], places[end - 1][1]
        span = {"label": label, "start": start, "end": end, "text": text[first:last]}
        spans.append(span | {"start_char": first, "end_char": last})
    return spans


def _places(words: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """First character and end of each word; None if one of them is missing."""
    places, at = [], 0
    for word in words:
        at = text.find(word, at)
        if at < 0:
            return None
        places.append((at, at + len(word)))
        at += len(word)
    return places
