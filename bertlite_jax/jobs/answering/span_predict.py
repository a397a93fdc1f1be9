"""`bertlite predict` with a model that answers questions about texts: answers, where they stand, and their scores."""

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
from bertlite_jax.jobs.answering import outputs, span_answers, task_splits
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding

ROW = 384
"""Tokens of a row where a model's folder does not say; that of the SQuAD recipes."""

KEPT = 20
"""Answers whose probabilities sum to 1, as in both releases."""


class Answering(NamedTuple):
    """An opened model for questions."""

    head: Head
    answer: Callable[[Sequence[Example], int], tuple[list[Prediction], dict[str, int]]]
    """(questions, answers to each at most) -> predictions, and `Encoded.counts`."""


def predict(
    loaded: Weights,
    run: str,
    lines: Iterable[bytes],
    where: str,
    out: TextIO,
    batch: int = 512,
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
) -> dict[str, int]:
    """Reads questions, writes answers in their order, flushed batch by batch.

    Args:
      loaded: the model.
      run: where it is from; its recipe says how long rows, windows and answers are.
      lines: of a JSONL file or standard input; not read where `where` is a file in the layout of SQuAD (.json).
      where: the file, for messages.
      out: takes the lines, see `readable`.
      batch: questions in a batch.
      n_best: answers to each question at most.
      null_threshold: there is no answer where `no_answer_score` is above it; None: 0 for models that were trained on
        questions without an answer, and for others always an answer.
      predictions: also write the file that the official scorers read.

    Returns:
      How many questions and windows were read, cut to their length, and empty; said on standard error, too.
    """
    model = open_model(loaded, run)
    examples = questions.read([where]) if where.endswith(".json") else read_questions(lines, where)
    totals: dict[str, int] = {}
    texts: dict[str, str] = {}
    while chunk := list(itertools.islice(examples, batch)):
        found, counts = model.answer(chunk, max(n_best, KEPT))
        texts |= _write(found, model.head, out, n_best, null_threshold)
        totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    if predictions:
        span_answers.write_official(pathlib.Path(predictions), texts)
    _say(totals, texts)
    return totals


def predict_task(
    loaded: Weights,
    run: str,
    task: tasks.Task,
    data: str,
    split: str,
    out: TextIO,
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
) -> dict[str, float]:
    """Answers a split of a task and scores it (`span_examples.figures`) where it has labels; arguments as above."""
    if loaded.head is None or loaded.head.kind != "span":
        raise UserError(f"predict: {run} answers no questions, and {task.name} asks some")
    model = open_model(loaded, run)
    examples = task_splits.read_to_predict(task, data, split)
    found, counts = model.answer(examples, max(n_best, KEPT))
    texts = _write(found, model.head, out, n_best, null_threshold)
    if predictions:
        span_answers.write_official(pathlib.Path(predictions), texts)
    _say(counts, texts)
    if any(example.label is None for example in examples):
        return {}
    scores = span_answers.figures(task, examples, found, texts, model.head)
    print("predict: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()), file=sys.stderr)
    return scores


def _write(
    found: Iterable[Prediction], head: Head, out: TextIO, n_best: int, null_threshold: float | None
) -> dict[str, str]:
    """Writes a line for each question; returns the answers by id."""
    if n_best < 1:
        raise UserError(f"predict: --n-best {n_best} must be at least 1")
    if null_threshold is None and head.no_answer:
        null_threshold = span_answers.NULL_THRESHOLD
    texts = {}
    for prediction in found:
        line = readable(prediction, head, n_best, null_threshold)
        texts[prediction.id] = line["answer"]
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
    out.flush()
    return texts


def _say(totals: Mapping[str, int], texts: Mapping[str, str]) -> None:
    if not totals:
        print("predict: no question was given", file=sys.stderr)
        return
    unanswered = sum(not text for text in texts.values())
    print(
        f"predict: {totals['questions']:,} questions in {totals['examples']:,} windows; {totals['truncated']:,} "
        f"questions cut, {totals['empty_texts']:,} empty questions or texts, {unanswered:,} without an answer",
        file=sys.stderr,
    )


def open_model(loaded: Weights, run: str) -> Answering:
    """A model for questions, ready to answer.

    Raises:
      UserError: no tokenizer.
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
        asked = span_features.encode(examples, tokenizer, data, training=False, where=run)
        row = batches.round_up(data.length)
        layouts = batches.evaluation_batches(asked.encoded, row, True, 1, head, tokenizer.pad_id)
        found = span_answers.outputs_of(forward, params, asked, layouts, mesh)
        return span_answers.predictions_of(asked, found, data.answer_length, count), dict(asked.encoded.counts)

    return Answering(head, answer)


def _recipe(run: pathlib.Path, positions: int) -> Examples:
    if (run / "best").is_dir():
        return files.read_json(run / "config.json", Finetuned).data
    return Examples(length=min(positions, ROW))


# --- Questions in ------------------------------------------------------------------------------------------------

_QUESTION, _CONTEXT = ("question", "text"), ("context", "pair")
_IGNORED = ("id", "answers", "is_impossible", "label", "title")


def read_questions(lines: Iterable[bytes], where: str) -> Iterator[Example]:
    """An unlabelled example for each line {"question" or "text", "context" or "pair"[, "id"]}; blank lines are none.

    Raises:
      UserError: with the number of the line: not UTF-8, no JSON object, a field that is unknown, missing or no string,
        an id that came before.
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
                f'predict: {at}: not JSON: {error}; a line is {{"question": .., "context": ..}}, and a file in the '
                "layout of SQuAD is called .json"
            ) from error
        if not isinstance(values, dict):
            raise UserError(f"predict: {at}: a JSON object is expected, not {type(values).__name__}")
        known = (*_QUESTION, *_CONTEXT, *_IGNORED)
        if unknown := [name for name in values if name not in known]:
            raise UserError(f"predict: {at}: unknown field {unknown[0]!r}; known: {', '.join(known)}")
        name = str(values.get("id", number))
        if name in seen:
            raise UserError(f"predict: {at}: the id {name!r} came before, in line {seen[name]}")
        seen[name] = number
        yield Example(name, _text(values, _QUESTION, at), _text(values, _CONTEXT, at))


def _text(values: dict[str, Any], names: tuple[str, ...], at: str) -> str:
    found = [name for name in names if name in values]
    if len(found) != 1:
        raise UserError(f"predict: {at}: one of the fields {' and '.join(map(repr, names))} is wanted; this model "
                        "answers questions about a text")  # fmt: skip
    value = values[found[0]]
    if not isinstance(value, str):
        raise UserError(f"predict: {at}: {found[0]!r} should be a str, and is {type(value).__name__}")
    return value


# --- Answers out -------------------------------------------------------------------------------------------------


def readable(prediction: Prediction, head: Head, n_best: int, null_threshold: float | None) -> dict[str, Any]:
    """What is written for one question.

    `answer`, empty for none; `start` and `end`, its characters in the text (the end is the one behind the last; null
    for none); `score`; `probability` among the answers that were looked at. Where there may be no answer, also
    `no_answer_score`, which the threshold is compared with, and `no_answer_probability`. With several answers wanted,
    `answers` has them all, best first.
    """
    best = prediction.answers[0] if prediction.answers else None
    none = best is None or (null_threshold is not None and prediction.null > null_threshold)
    line: dict[str, Any] = {"id": prediction.id, "answer": "" if none or best is None else best.text}
    shown = None if none else best
    line |= _place(shown)
    if null_threshold is not None:
        finite = math.isfinite(prediction.null)
        line["no_answer_score"] = round(prediction.null, 6) if finite else None
        line["no_answer_probability"] = round(_none_probability(prediction, head), 6)
    if n_best > 1:
        line["answers"] = [{"answer": each.text} | _place(each) for each in prediction.answers[:n_best]]
    return line


def _place(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {"start": None, "end": None, "score": None, "probability": None}
    shares = {"score": round(answer.score, 6), "probability": round(answer.probability, 6)}
    return {"start": answer.start, "end": answer.end, **shares}


def _none_probability(prediction: Prediction, head: Head) -> float:
    if head.conditioned:
        return 1 / (1 + math.exp(-min(max(prediction.null, -500.0), 500.0)))
    return next(answer.probability for answer in answers.with_null(prediction) if not answer.text)
