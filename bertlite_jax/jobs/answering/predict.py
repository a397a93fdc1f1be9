"""`bertlite predict`: a task model answers texts, one JSON object a line."""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import jax
import numpy as np

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_predict
from bertlite_jax.jobs.answering.outputs import make_forward, outputs_of, probabilities
from bertlite_jax.jobs.answering.outputs import predictions as predicted
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
            for example, logits in zip(chunk, outputs):
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


# --- Lines in ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_lines(inputs: str, job: str = "predict") -> Iterator[Iterable[bytes]]:
    """The lines of a file, or of standard input for `-`. `job` begins the message where the file cannot be read."""
    if inputs == "-":
        yield sys.stdin.buffer
        return
    if inputs.lower().endswith((".csv", ".tsv")):
        raise UserError(
            f"{job}: {inputs} is a table, and each of its lines would be a text, the header too; give one text a line, "
            'or JSON objects such as {"text": ..}'
        )
    try:
        stream = open(inputs, "rb")  # noqa: SIM115 - closed below; only opening it is the user's mistake.
    except OSError as error:
        raise UserError(f"{job}: {inputs} cannot be read: {error.strerror}") from error
    with stream:
        yield stream


def read_examples(lines: Iterable[bytes], head: Head, where: str) -> Iterator[Example]:
    """An example for each line.

    The first line that is not blank decides: if it begins with `{`, all lines are JSON objects, else plain texts. A
    blank line is an empty text among texts, and nothing among objects.

    Raises:
      UserError: with the number of the line: not UTF-8, no JSON object, an object among texts, a field of the wrong
        kind or unknown.
    """
    objects: bool | None = None
    blank: list[int] = []
    for number, raw in enumerate(lines, start=1):
        at = f"{where}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"predict: {at}: invalid UTF-8 (byte 0x{raw[error.start]:02x})") from error
        if objects is None and not line.strip():
            blank.append(number)
            continue
        if objects is None:
            objects = line.lstrip().startswith("{")
            for earlier in [] if objects else blank:
                yield _of_text("", head, earlier, f"{where}:{earlier}")
        if not objects:
            yield _of_text(line, head, number, at)
        elif line.strip():
            yield _of_object(line, head, number, at)
    for earlier in blank if objects is None else []:
        yield _of_text("", head, earlier, f"{where}:{earlier}")


def _of_text(line: str, head: Head, number: int, at: str) -> Example:
    if line.lstrip().startswith("{") and _is_object(line):
        raise UserError(f"predict: {at}: a JSON object among plain texts; the first line decides what all lines are")
    if head.kind == "choose":
        raise UserError(f'predict: {at}: this model chooses, so each line is an object {{"text": .., "choices": [..]}}')
    if head.kind == "tag":
        return Example(str(number), line, words=tuple(line.split()) or ("",))
    return Example(str(number), line.strip())


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


_FIELDS = {"classify": ("text", "pair"), "choose": ("text", "choices"), "tag": ("words", "text")}
_IGNORED = ("id", "label")


def _of_object(line: str, head: Head, number: int, at: str) -> Example:
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"predict: {at}: not JSON: {error}; one object a line is expected") from error
    known = _FIELDS[head.kind]
    if not isinstance(values, dict):
        raise UserError(f"predict: {at}: a JSON object is expected, not {type(values).__name__}")
    if unknown := [name for name in values if name not in known + _IGNORED]:
        raise UserError(f"predict: {at}: unknown field {unknown[0]!r}; known: {', '.join(known + _IGNORED)}")
    text = _typed(values, "text", str, at, needed="words" not in values) or ""
    name = str(values.get("id", number))
    if head.kind == "tag":
        words = _strings(values, "words", at) if "words" in values else tuple(text.split())
        return Example(name, text, words=words or ("",))
    if head.kind == "choose":
        return Example(name, text, choices=_strings(values, "choices", at))
    return Example(name, text.strip(), _typed(values, "pair", str, at, needed=False))


def _typed(values: Mapping[str, Any], name: str, kind: type, at: str, needed: bool) -> Any:
    value = values.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, kind):
        raise UserError(f"predict: {at}: {name!r} should be a {kind.__name__}, and is {type(value).__name__}")
    return value


def _strings(values: Mapping[str, Any], name: str, at: str) -> tuple[str, ...]:
    found = _typed(values, name, list, at, needed=True)
    if not all(isinstance(each, str) for each in found):
        raise UserError(f"predict: {at}: {name!r} should be a list of strings")
    return tuple(found)


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
        values = dict(zip(head.labels, _rounded(shares)))
        return answer | ({"value": values[head.labels[0]]} if len(values) == 1 else {"values": values})
    named = dict(zip(head.labels, _rounded(shares)))
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
