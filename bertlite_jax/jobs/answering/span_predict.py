"""`bertlite predict` with a model that answers questions about texts: answers, their positions and scores."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import jax

from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.reading import Reading
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import batches, span_features
from bertlite_jax.data.scores import answers
from bertlite_jax.data.scores.answers import Answer, Prediction
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import outputs, scoring, span_answers, span_inputs, task_splits
from bertlite_jax.jobs.answering.inputs import Notes, counts_in_words, data_of_run
from bertlite_jax.jobs.answering.json_output import write_line
from bertlite_jax.jobs.answering.open_model import rounded
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding

ROW_LENGTH = 384
"""Tokens in a row, if the model's folder does not state it; as in the SQuAD recipes."""

MOST_ANSWERS = 20
"""Answers to a question whose probabilities sum to 1, as in both releases."""


class AnswerOptions(NamedTuple):
    """Which answers are written."""

    n_best: int = 1
    """Most answers to each question."""
    null_threshold: float | None = None
    """There is no answer if `no_answer_score` is above it. None: 0 for models that were trained on questions without an
    answer; other models always answer."""
    predictions: str = ""
    """File to write as the official scorers read it; empty: none."""


class Answering(NamedTuple):
    """An opened model for questions."""

    head: Head
    rounded: str
    """As of `open_model.Answering`."""
    answer: Callable[[Sequence[Example], int], tuple[list[Prediction], dict[str, int]]]
    """(questions, most answers to each) -> predictions, and `Encoded.counts`."""


def predict(
    loaded: Weights,
    run: str,
    inputs: str,
    out: TextIO,
    batch: int,
    options: AnswerOptions,
    metrics: str = "",
    columns: OwnOptions | None = None,
    score: bool = True,
) -> dict[str, int]:
    """Reads questions and writes the answers in the same order, batch by batch; scores them where answers are given.

    Args:
      loaded: the model.
      run: where it was loaded from; its recipe has the lengths of rows, windows and answers.
      inputs: a file as of `span_inputs.read`, or `-` for standard input.
      out: receives the lines, see `readable`.
      batch: questions in a batch.
      options: which answers are written.
      metrics: as for `predict.predict`.
      columns: as for `span_inputs.read`.
      score: whether answers are read where there are any.

    Returns:
      Numbers of questions and windows that were read, cut to their length, and empty; also printed on standard error.
    """
    for file in (metrics, options.predictions):
        scoring.check_file(file, inputs)
    model, scored, replaced = open_model(loaded, run), _Scored(score), Counter[str]()
    if model.rounded:
        print(f"predict: {run}: {model.rounded}", file=sys.stderr)
    examples = span_inputs.read(inputs, replaced, columns)
    totals: dict[str, int] = {}
    texts: dict[str, str] = {}
    while chunk := list(itertools.islice(examples, batch)):
        predictions, counts = model.answer(chunk, max(options.n_best, MOST_ANSWERS))
        texts |= _write(predictions, model.head, out, options)
        scored.add(chunk, predictions)
        totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    if options.predictions:
        span_answers.write_official(pathlib.Path(options.predictions), texts)
    _print_counts(totals, texts)
    for line in Notes(replaced).lines(()):
        print(f"predict: {line}", file=sys.stderr)
    figures = scored.figures(run, model.head, texts)
    scoring.say(figures, scored.unlabelled)
    if metrics:
        scoring.write(metrics, figures, len(scored.examples))
    return totals


class _Scored:
    """Questions whose answers are known, and what was answered; their texts are not kept."""

    def __init__(self, score: bool):
        self.score = score
        self.examples: list[Example] = []
        self.predictions: list[Prediction] = []
        self.unlabelled = 0

    def add(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
        for example, prediction in zip(examples, predictions, strict=True):
            if example.label is None or not self.score:
                self.unlabelled += 1
            else:
                self.examples.append(dataclasses.replace(example, text="", pair=None))
                self.predictions.append(prediction._replace(answers=prediction.answers[:1]))

    def figures(self, run: str, head: Head, texts: Mapping[str, str]) -> dict[str, float]:
        """The figures of the run's task, or SQuAD's; empty if no answer is known. `texts` are the answers by id."""
        if not self.examples:
            return {}
        data = data_of_run(run)
        chinese = data is not None and data.task == "cmrc2018"
        task = tasks.TASKS["cmrc2018" if chinese else "squad2" if head.no_answer else "squad1"]
        return span_answers.figures(task, self.examples, self.predictions, texts, head)


def predict_task(
    loaded: Weights,
    run: str,
    task: tasks.Task,
    data: str,
    split: str,
    out: TextIO,
    options: AnswerOptions,
    metrics: str = "",
) -> dict[str, float]:
    """Answers a split of a task, and scores it if it has labels.

    Args:
      loaded: the model.
      run: where it was loaded from.
      task: a task that asks for spans.
      data: folder with its files.
      split: one of its splits.
      out: receives the lines, see `readable`.
      options: which answers are written.
      metrics: as for `predict_split`.

    Returns:
      Figures as of `span_answers.figures`; empty if the split has no labels.
    """
    if loaded.head is None or loaded.head.kind != "span":
        raise UserError(f"predict: {run} does not answer questions, which {task.name} asks")
    scoring.check_file(options.predictions)
    model = open_model(loaded, run)
    examples = task_splits.read_to_predict(task, data, split)
    predictions, counts = model.answer(examples, max(options.n_best, MOST_ANSWERS))
    texts = _write(predictions, model.head, out, options)
    if options.predictions:
        span_answers.write_official(pathlib.Path(options.predictions), texts)
    _print_counts(counts, texts)
    unlabelled = any(example.label is None for example in examples)
    scores = {} if unlabelled else span_answers.figures(task, examples, predictions, texts, model.head)
    scoring.say(scores)
    if metrics:
        scoring.write(metrics, scores, len(examples))
    return scores


def _write(predictions: Iterable[Prediction], head: Head, out: TextIO, options: AnswerOptions) -> dict[str, str]:
    """Writes a line for each question; returns the answers by id."""
    n_best, null_threshold, _ = options
    if n_best < 1:
        raise UserError(f"predict: --n-best {n_best} must be at least 1")
    if null_threshold is None and head.no_answer:
        null_threshold = span_answers.NULL_THRESHOLD
    texts = {}
    for prediction in predictions:
        line = readable(prediction, head, n_best, null_threshold)
        texts[prediction.id] = line["answer"]
        write_line(out, line)
    out.flush()
    return texts


def _print_counts(totals: Mapping[str, int], texts: Mapping[str, str]) -> None:
    if not totals:
        print("predict: the input has no question", file=sys.stderr)
        return
    unanswered = sum(not text for text in texts.values())
    answered = f"{totals['questions']:,} questions in {totals['examples']:,} windows"
    odd = counts_in_words(totals, cut="questions ", empty="empty questions or texts")
    print(f"predict: {', '.join([answered, *odd, f'{unanswered:,} without an answer'])}", file=sys.stderr)


def open_model(loaded: Weights, run: str) -> Answering:
    """Opens a model that answers questions.

    Raises:
      UserError: it has no tokenizer.
    """
    head, tokenizer = loaded.head, loaded.tokenizer
    assert head is not None
    assert head.kind == "span"
    if tokenizer is None:
        raise UserError(f"predict: {run} comes without a tokenizer, and text cannot be read without one")
    compute = choose_precision.resolve(loaded.model.compute, jax.default_backend(), loaded.trained_bits)
    data = _recipe(loaded)
    mesh = sharding.make_mesh(1)
    forward = outputs.make_forward(TaskModel(loaded.model, head, compute), mesh)
    params = jax.device_put(loaded.params, sharding.replicated(mesh))

    def answer(examples: Sequence[Example], count: int) -> tuple[list[Prediction], dict[str, int]]:
        with_windows = span_features.encode(examples, tokenizer, data, training=False, where=run)
        row = batches.round_up(data.length)
        layouts = batches.evaluation_batches(with_windows.encoded, row, True, 1, head, tokenizer.pad_id)
        window_outputs = span_answers.outputs_of(forward, params, with_windows, layouts, mesh)
        return span_answers.predictions_of(with_windows, window_outputs, data.answer_length, count), dict(
            with_windows.encoded.counts
        )

    return Answering(head, rounded(loaded, compute), answer)


def _recipe(loaded: Weights) -> Examples:
    """How texts are divided into windows: as in the training, where that is known."""
    stated = loaded.reading or Reading(Examples())
    length = min(loaded.model.max_positions, stated.length or ROW_LENGTH)
    return dataclasses.replace(stated.data, length=length)


# --- Answers as JSON -------------------------------------------------------------------------------------------------


def readable(prediction: Prediction, head: Head, n_best: int, null_threshold: float | None) -> dict[str, Any]:
    """The JSON object of one answer.

    `id`; `answer`, empty for none; `start` and `end`, its characters in the text (the end exclusive; null for none);
    `score`; `probability` among the answers that were considered. If there may be no answer, also `no_answer_score`,
    which the threshold is compared with, and `no_answer_probability`. With `n_best` > 1, `answers` has the best ones,
    best first.

    Args:
      prediction: for one question.
      head: of the model.
      n_best: most answers in `answers`.
      null_threshold: as in `AnswerOptions`, but None always gives an answer.
    """
    best = prediction.answers[0] if prediction.answers else None
    none = best is None or (null_threshold is not None and prediction.null > null_threshold)
    line: dict[str, Any] = {"id": prediction.id, "answer": "" if none or best is None else best.text}
    line |= _position_and_score(None if none else best)
    if null_threshold is not None:
        finite = math.isfinite(prediction.null)
        line["no_answer_score"] = round(prediction.null, 6) if finite else None
        line["no_answer_probability"] = round(_no_answer_probability(prediction, head), 6)
    if n_best > 1:
        line["answers"] = [
            {"answer": answer.text} | _position_and_score(answer) for answer in prediction.answers[:n_best]
        ]
    return line


def _position_and_score(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {"start": None, "end": None, "score": None, "probability": None}
    score, probability = round(answer.score, 6), round(answer.probability, 6)
    return {"start": answer.start, "end": answer.end, "score": score, "probability": probability}


def _no_answer_probability(prediction: Prediction, head: Head) -> float:
    if head.conditioned:
        return 1 / (1 + math.exp(-min(max(prediction.null, -500.0), 500.0)))
    return next(answer.probability for answer in answers.with_null(prediction) if not answer.text)
