"""`bertlite predict` with a model that answers questions about texts: answers, their positions and scores."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import jax

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import batches, span_features
from bertlite_jax.data.scores import answers
from bertlite_jax.data.scores.answers import Answer, Prediction
from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import check_no_folder
from bertlite_jax.jobs.answering import outputs, span_answers, task_splits
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
    answer: Callable[[Sequence[Example], int], tuple[list[Prediction], dict[str, int]]]
    """(questions, most answers to each) -> predictions, and `Encoded.counts`."""


def predict(
    loaded: Weights,
    run: str,
    lines: Iterable[bytes],
    where: str,
    out: TextIO,
    batch: int,
    options: AnswerOptions,
) -> dict[str, int]:
    """Reads questions and writes the answers in the same order, batch by batch.

    Args:
      loaded: the model.
      run: where it was loaded from; its recipe has the lengths of rows, windows and answers.
      lines: lines of JSON objects; not read if `where` is a file in the layout of SQuAD (.json).
      where: the file, for messages.
      out: receives the lines, see `readable`.
      batch: questions in a batch.
      options: which answers are written.

    Returns:
      Numbers of questions and windows that were read, cut to their length, and empty; also printed on standard error.
    """
    _check_file(options)
    model = open_model(loaded, run)
    examples = questions.read([where]) if where.endswith(".json") else read_questions(lines, where)
    totals: dict[str, int] = {}
    texts: dict[str, str] = {}
    while chunk := list(itertools.islice(examples, batch)):
        predictions, counts = model.answer(chunk, max(options.n_best, MOST_ANSWERS))
        texts |= _write(predictions, model.head, out, options)
        totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    if options.predictions:
        span_answers.write_official(pathlib.Path(options.predictions), texts)
    _print_counts(totals, texts)
    return totals


def predict_task(
    loaded: Weights, run: str, task: tasks.Task, data: str, split: str, out: TextIO, options: AnswerOptions
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

    Returns:
      Figures as of `span_answers.figures`; empty if the split has no labels.
    """
    if loaded.head is None or loaded.head.kind != "span":
        raise UserError(f"predict: {run} does not answer questions, which {task.name} asks")
    _check_file(options)
    model = open_model(loaded, run)
    examples = task_splits.read_to_predict(task, data, split)
    predictions, counts = model.answer(examples, max(options.n_best, MOST_ANSWERS))
    texts = _write(predictions, model.head, out, options)
    if options.predictions:
        span_answers.write_official(pathlib.Path(options.predictions), texts)
    _print_counts(counts, texts)
    if any(example.label is None for example in examples):
        return {}
    scores = span_answers.figures(task, examples, predictions, texts, model.head)
    print("predict: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()), file=sys.stderr)
    return scores


def _check_file(options: AnswerOptions) -> None:
    if options.predictions:
        check_no_folder(pathlib.Path(options.predictions), job="predict")


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
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
    out.flush()
    return texts


def _print_counts(totals: Mapping[str, int], texts: Mapping[str, str]) -> None:
    if not totals:
        print("predict: the input has no question", file=sys.stderr)
        return
    unanswered = sum(not text for text in texts.values())
    print(
        f"predict: {totals['questions']:,} questions in {totals['examples']:,} windows; {totals['truncated']:,} "
        f"questions cut, {totals['empty_texts']:,} empty questions or texts, {unanswered:,} without an answer",
        file=sys.stderr,
    )


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
    compute = choose_precision.resolve(loaded.model.compute, jax.default_backend())
    data = _recipe(pathlib.Path(run), loaded.model.max_positions)
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

    return Answering(head, answer)


def _recipe(run: pathlib.Path, positions: int) -> Examples:
    if (run / "best").is_dir():
        return files.read_json(run / "config.json", Finetuned).data
    return Examples(length=min(positions, ROW_LENGTH))


# --- Questions from JSON lines --------------------------------------------------------------------------------

_QUESTION, _CONTEXT = ("question", "text"), ("context", "pair")
_IGNORED = ("id", "answers", "is_impossible", "label", "title")


def read_questions(lines: Iterable[bytes], where: str) -> Iterator[Example]:
    """Yields an unlabelled example for each line that is not blank.

    A line is an object {"question" or "text", "context" or "pair"[, "id"]}.

    Raises:
      UserError: a line is not UTF-8 or no JSON object, a field is unknown, missing or no string, or an id occurs twice.
        The message has the line number.
    """
    seen: dict[str, int] = {}
    for number, raw in enumerate(lines, start=1):
        at = f"{where}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"predict: {at}: invalid UTF-8 (byte 0x{raw[error.start]:02x})") from error
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(
                f'predict: {at}: not JSON: {error}; each line must be {{"question": .., "context": ..}}; the name of a '
                "file in the layout of SQuAD must end in .json"
            ) from error
        if not isinstance(values, dict):
            raise UserError(f"predict: {at}: expected a JSON object, not {type(values).__name__}")
        known = (*_QUESTION, *_CONTEXT, *_IGNORED)
        if unknown := [name for name in values if name not in known]:
            raise UserError(f"predict: {at}: unknown field {unknown[0]!r}; known: {', '.join(known)}")
        name = str(values.get("id", number))
        if name in seen:
            raise UserError(f"predict: {at}: the id {name!r} occurs before, in line {seen[name]}")
        seen[name] = number
        yield Example(name, _text(values, _QUESTION, at), _text(values, _CONTEXT, at))


def _text(values: dict[str, Any], names: tuple[str, ...], at: str) -> str:
    present = [name for name in names if name in values]
    if len(present) != 1:
        raise UserError(
            f"predict: {at}: expected one of the fields {' and '.join(map(repr, names))}; this model answers questions "
            "about a text"
        )
    value = values[present[0]]
    if not isinstance(value, str):
        raise UserError(f"predict: {at}: {present[0]!r} should be a str, not {type(value).__name__}")
    return value


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
