"""What `bertlite report` reads of fine-tuning runs: files, and what the best model says to the validation split."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.data.scores import squad_metrics, thresholds
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_answers, span_predict, task_splits
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.answering.outputs import probabilities
from bertlite_jax.report.run import metrics
from bertlite_jax.report.tasks import figures, page
from bertlite_jax.report.tasks.figures import Answers, Shown

_CHUNK = 512


def holds_tasks(workdir: pathlib.Path) -> bool:
    """Whether a folder holds a fine-tuning run, several, or a probe."""
    config, summary = read(workdir / "config.json", {}), read(workdir / "summary.json", {})
    return "head" in config or (not config and ("best_run" in summary or "probe" in summary))


def render(workdir: pathlib.Path) -> str:
    """The page: of one run, of several with the best of them, or of a probe of layers.

    Raises:
      UserError: a file is broken or missing, or matplotlib is not installed.
    """
    if (workdir / "config.json").is_file():
        return page.render(_run(workdir))
    summary = read(workdir / "summary.json", {})
    if "probe" in summary:
        return page.render_probe(workdir.resolve().name, summary)
    folders = sorted(path.parent for path in workdir.glob("*/summary.json"))
    runs = [(folder.name, read(folder / "summary.json", {})) for folder in folders]
    best = workdir
    while not (best / "config.json").is_file() and "best_run" in (held := read(best / "summary.json", {})):
        best = best / pathlib.Path(held["best_run"]).name
    return page.render_several(page.Several(workdir.resolve().name, summary, runs, _run(best)))


def _run(workdir: pathlib.Path) -> page.TaskRun:
    config: Finetuned = files.read_json(workdir / "config.json", Finetuned)
    answers, missing = None, ""
    try:
        answers = answers_of(workdir, config)
    except UserError as error:  # The data may lie on another machine; all else is shown nevertheless.
        missing = str(error)
    return page.TaskRun(
        name=workdir.resolve().name,
        config=config,
        lines=metrics.read_lines(workdir / "metrics.jsonl"),
        summary=read(workdir / "summary.json", {}),
        environment=read(workdir / "environment.json", {}),
        answers=answers,
        missing=missing,
    )


def read(path: pathlib.Path, missing: Any) -> Any:
    """The JSON in `path`, or `missing` where there is no such file."""
    if not path.is_file():
        return missing
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"report: {path}:{error.lineno}: not JSON: {error.msg}") from error
    if missing is not None and type(values) is not type(missing):
        wanted = "list" if isinstance(missing, list) else "object"
        raise UserError(f"report: {path}: holds {type(values).__name__}; it should hold one JSON {wanted}")
    return values


# --- Answers ---------------------------------------------------------------------------------------------------------


def answers_of(workdir: pathlib.Path, config: Finetuned) -> Answers:
    """The best model's answers to the split that decided which one is best.

    Raises:
      UserError: no model yet, or the data is not there any more.
    """
    task = task_splits.task_of(config.data)
    split = next((name for name in task.splits if name.startswith("validation")), "validation")
    stream = task_splits.examples_of(task, config.data, split)
    examples = list(itertools.islice(stream, config.data.validation_examples or None))
    if config.head.kind == "span":
        return _of_spans(workdir, examples)
    model = open_task_model(str(workdir), sources.load(workdir))
    outputs: list[np.ndarray] = []
    for first in range(0, len(examples), _CHUNK):
        outputs += model.answer(examples[first : first + _CHUNK])[0]
    return judge(config.head, examples, outputs)


def judge(head: Head, examples: Sequence[Example], outputs: Sequence[np.ndarray]) -> Answers:
    """What logits as of `outputs.outputs_of` amount to, against the labels of the examples."""
    shares = [probabilities(head, logits) for logits in outputs]
    if head.kind == "tag":
        return _of_tags(head, examples, shares)
    if head.kind == "choose" or head.problem == "single_label":
        return _of_labels(head, examples, shares)
    if head.problem == "regression":
        return _of_numbers(examples, shares)
    return _of_several(head, examples, shares)


def _of_labels(head: Head, examples: Sequence[Example], shares: Sequence[np.ndarray]) -> Answers:
    gold, said = np.array([example.label for example in examples], int), np.array([int(s.argmax()) for s in shares])
    sure = np.array([float(each.max()) for each in shares])
    shown = []
    for example, each, right, answer in zip(examples, shares, gold.tolist(), said.tolist(), strict=True):
        names = example.choices if head.kind == "choose" else head.labels
        loss = figures.cross_entropy(each, right)
        shown.append(Shown(_text(example), names[right], names[answer], float(each[answer]), loss))
    if head.kind == "choose":  # The number of a choice is no label.
        return Answers(shown, confidence=sure, right=gold == said)
    table = thresholds.table(np.stack(shares), gold)
    return Answers(shown, gold, said, sure, gold == said, thresholds=table)


def _of_several(head: Head, examples: Sequence[Example], shares: Sequence[np.ndarray]) -> Answers:
    """Every label of every example is one answer, yes or no, in the calibration."""
    wanted, scores = np.array([example.label for example in examples], bool), np.stack(shares)
    said = scores > 0.5
    shown = [
        Shown(_text(example), _names(head, gold), _names(head, answer), None, figures.binary_cross_entropy(s, gold))
        for example, gold, answer, s in zip(examples, wanted, said, scores, strict=True)
    ]
    groups = {}
    for place, label in enumerate(head.labels):
        counts = figures.confusion(wanted[:, place].astype(int), said[:, place].astype(int), 2)
        there, precision, recall, f1 = figures.by_label(counts)[1]
        percents = {
            name: 100 * value for name, value in (("precision", precision), ("recall", recall)) if value is not None
        }
        groups[label] = {"there": there, **percents, "F1": 100 * f1}
    sure = np.where(said, scores, 1 - scores).ravel()
    return Answers(shown, confidence=sure, right=(wanted == said).ravel(), groups={"by_label": groups})


def _names(head: Head, chosen: np.ndarray) -> str:
    return ", ".join(label for label, there in zip(head.labels, chosen, strict=True) if there)


def _of_numbers(examples: Sequence[Example], found: Sequence[np.ndarray]) -> Answers:
    """Of several numbers the first is drawn; all of them count in the loss."""
    shown, pairs = [], []
    for example, numbers in zip(examples, found, strict=True):
        gold = np.atleast_1d(np.array(example.label, float))
        wanted, given = (", ".join(f"{value:.3g}" for value in values) for values in (gold, numbers))
        shown.append(Shown(_text(example), wanted, given, None, float(np.mean((gold - numbers) ** 2))))
        pairs.append((gold[0], float(numbers[0])))
    return Answers(shown, numbers=np.array(pairs))


def _of_tags(head: Head, examples: Sequence[Example], shares: Sequence[np.ndarray]) -> Answers:
    """Words that did not fit are left out; so are words without a label."""
    shown, gold, said, sure = [], [], [], []
    for example, each in zip(examples, shares, strict=True):
        labels = example.label if isinstance(example.label, tuple) else ()
        known = [(place, label) for place, label in enumerate(labels[: len(each)]) if label >= 0]
        losses = [figures.cross_entropy(each[place], label) for place, label in known]
        gold += [label for _, label in known]
        said += [int(each[place].argmax()) for place, _ in known]
        sure += [float(each[place].max()) for place, _ in known]
        wrong = [(place, label) for place, label in known if each[place].argmax() != label]
        wanted = ", ".join(f"{example.words[place]} {head.labels[label]}" for place, label in wrong)
        given = ", ".join(f"{example.words[place]} {head.labels[int(each[place].argmax())]}" for place, _ in wrong)
        shown.append(Shown(" ".join(example.words), wanted, given, None, float(np.mean(losses or [0.0]))))
    right = np.array(gold) == np.array(said)
    return Answers(shown, np.array(gold, int), np.array(said, int), np.array(sure), right)


def _of_spans(workdir: pathlib.Path, examples: Sequence[Example]) -> Answers:
    loaded = sources.load(workdir)
    model = span_predict.open_model(loaded, str(workdir))
    predictions = []
    for first in range(0, len(examples), _CHUNK):
        predictions += model.answer(examples[first : first + _CHUNK], 20)[0]
    texts = span_answers.texts_of(predictions, model.head)
    shown, sure, right = [], [], []
    for example, prediction in zip(examples, predictions, strict=True):
        answer = texts[example.id]
        exact, f1 = squad_metrics.score_one(example, answer)
        likely = prediction.answers[0].probability if prediction.answers and answer else 0.0
        gold = " / ".join(dict.fromkeys(text for text, _ in example.answers))
        shown.append(Shown(_text(example), gold, answer, likely or None, 1 - f1 + 1e-6 * likely))
        if answer:
            sure.append(likely)
            right.append(bool(exact))
    groups = span_answers.breakdown(examples, texts)
    return Answers(shown, confidence=np.array(sure), right=np.array(right, bool), groups=groups)


def _text(example: Example) -> str:
    return "\n".join(part for part in (example.text, example.pair, *example.choices) if part)
