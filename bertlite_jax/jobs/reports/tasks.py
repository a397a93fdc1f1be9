"""What `bertlite report` shows of fine-tuning runs: files, and the best model's answers to the validation split."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy as np

from bertlite_jax.config import files
from bertlite_jax.config.checks import check_model
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.scores import squad_metrics, thresholds
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.answering import span_answers
from bertlite_jax.jobs.answering.outputs import probabilities
from bertlite_jax.jobs.reports import beside_teacher, validation
from bertlite_jax.report.run import metrics, side_files
from bertlite_jax.report.run.side_files import SUMMARY, read
from bertlite_jax.report.tasks import compression, figures, page
from bertlite_jax.report.tasks.figures import Answers, Shown

PRUNED = {"task": str, "metric": str, "pruned_from": str, "length": int, "threads": int, "products": str, "cpu": str}
COSTS = dict.fromkeys(("speed_up", "milliseconds", "measured_speed_up", "parameters", "layers"), NUMBER)
"""Of the summary of pruned models, and of each model in it."""
COMPRESSED = {
    **{"task": str, "metric": str, "compressed_from": str, "reference": str, "note": str, "length": int},
    **{"threads": int, "cpu": str, "over": str, "over_milliseconds": (*NUMBER, NoneType)},
}
COSTS_OF_FAMILY = {
    **dict.fromkeys(("milliseconds", "speed_up", "bytes"), NUMBER),
    **{"name": str, "agreement": (*NUMBER, NoneType), "parameters": int, "layers": int},
}
"""Of the summary of a compressed family, and of each model in it."""
_KINDS = ("teacher", "point", "floor")
_DEEPEST = 4
"""Folders of runs in folders of runs."""
_SEVERAL = {"best_run", "probe", "pruned_from", "compressed_from"}
"""Keys by which the summaries of several models are told."""


def holds_tasks(workdir: pathlib.Path) -> bool:
    """Whether a folder holds a fine-tuning run, several, a probe, pruned models, or a compressed family."""
    config, summary = read(workdir / "config.json", {}), read(workdir / "summary.json", {})
    return "head" in config or (not config and not _SEVERAL.isdisjoint(summary))


def render(workdir: pathlib.Path) -> str:
    """Renders the page of one run, of several with the best of them, of a layer probe, or of smaller models.

    Raises:
      UserError: a file is broken or missing, or matplotlib is not installed.
    """
    if (workdir / "config.json").is_file():
        return page.render(_run(workdir))
    file = workdir / "summary.json"
    summary = read(file, {}, SUMMARY)
    if "probe" in summary:
        metric = read(file, {}, {"metric": str})["metric"]
        read(
            file,
            {},
            SUMMARY | {"task": str, "init": str, "best_layer": int, metric: NUMBER, "layers": [{metric: NUMBER}]},
        )
        if not summary["layers"] or any(row.keys() != summary["layers"][0].keys() for row in summary["layers"]):
            raise UserError(f"report: {file}: its layers differ in their figures, or there is none; probe again")
        return page.render_probe(workdir.resolve().name, summary)
    if "compressed_from" in summary:
        return _family(workdir, summary)
    if "pruned_from" in summary:
        metric = read(file, {}, {"metric": str})["metric"]
        read(file, {}, PRUNED | {"models": [COSTS | {metric: NUMBER}]})
        if not summary["models"]:
            raise UserError(f"report: {file}: it has no models; prune again")
        return page.render_pruned(workdir.resolve().name, summary)
    read(file, {}, SUMMARY | {"task": str, "metric": str})
    ranges = [name.removesuffix("_min") for name in summary if name.endswith("_min")]
    read(file, {}, {f"{name}{end}": NUMBER for name in ranges for end in ("", "_min", "_max")})
    folders = sorted(path.parent for path in workdir.glob("*/summary.json"))
    runs = [(folder.name, read(folder / "summary.json", {}, SUMMARY)) for folder in folders]
    for folder, (_, of_run) in zip(folders, runs, strict=True):
        side_files.check_scores(folder / "summary.json", of_run, [summary["metric"]])
    return page.render_several(page.Several(workdir.resolve().name, summary, runs, _run(_best_of(workdir))))


def _family(workdir: pathlib.Path, summary: dict[str, Any]) -> str:
    file = workdir / "summary.json"
    metric = read(file, {}, {"metric": str})["metric"]
    read(file, {}, COMPRESSED | {"models": [COSTS_OF_FAMILY | {"kind": str, metric: NUMBER}]})
    models = summary["models"]
    if not models or any(model["kind"] not in _KINDS or model["milliseconds"] < 0 for model in models):
        raise UserError(f"report: {file}: it has no models, or one of no known kind; compress again")
    return compression.render(workdir.resolve().name, summary)


def _best_of(workdir: pathlib.Path) -> pathlib.Path:
    """The folder of the best run: of a sweep with several seeds, the best seed of the best point."""
    best = workdir
    for _ in range(_DEEPEST):
        name = read(best / "summary.json", {}, SUMMARY).get("best_run")
        if (best / "config.json").is_file() or name is None:
            return best
        best = best / pathlib.Path(name).name
    raise UserError(f"report: {workdir / 'summary.json'}: best_run does not lead to a run")


def _run(workdir: pathlib.Path) -> page.TaskRun:
    config: Finetuned = files.read_json(workdir / "config.json", Finetuned)
    check_model(config.model)
    answers, missing = None, ""
    try:
        answers = answers_of(workdir, config)
    except UserError as error:  # The data may be on another machine; everything else is shown.
        missing = str(error)
    lines = metrics.read_lines(workdir / "metrics.jsonl")
    summary = read(workdir / "summary.json", {}, SUMMARY)
    side_files.check_scores(workdir / "summary.json", summary, page.score_names(lines))
    return page.TaskRun(
        name=workdir.resolve().name,
        config=config,
        lines=lines,
        summary=summary,
        environment=read(workdir / "environment.json", {}),
        answers=answers,
        missing=missing,
        compared=beside_teacher.section_of_task(workdir, config),
    )


# --- Answers ---------------------------------------------------------------------------------------------------------


def answers_of(workdir: pathlib.Path, config: Finetuned) -> Answers:
    """The best model's answers to the validation split that decided which model is best.

    Raises:
      UserError: there is no model yet, or the data is gone.
    """
    examples, loaded = validation.examples_of(config), sources.load(workdir, "report")
    if config.head.kind == "span":
        return _judge_spans(str(workdir), loaded, examples)
    return judge(config.head, examples, validation.outputs_of(str(workdir), loaded, examples))


def judge(head: Head, examples: Sequence[Example], outputs: Sequence[np.ndarray]) -> Answers:
    """Compares logits as of `outputs.outputs_of` with the labels of the examples."""
    probs = [probabilities(head, logits) for logits in outputs]
    if head.kind == "tag":
        return _judge_tags(head, examples, probs)
    if head.kind == "choose" or head.problem == "single_label":
        return _judge_labels(head, examples, probs)
    if head.problem == "regression":
        return _judge_numbers(examples, probs)
    return _judge_label_sets(head, examples, probs)


def _judge_labels(head: Head, examples: Sequence[Example], probs: Sequence[np.ndarray]) -> Answers:
    gold = np.array([example.label for example in examples], int)
    predicted = np.array([int(of_label.argmax()) for of_label in probs])
    confidence = np.array([float(of_label.max()) for of_label in probs])
    shown = []
    for example, of_label, right, answer in zip(examples, probs, gold.tolist(), predicted.tolist(), strict=True):
        names = example.choices if head.kind == "choose" else head.labels
        loss = figures.cross_entropy(of_label, right)
        shown.append(Shown(_text(example), names[right], names[answer], float(of_label[answer]), loss))
    if head.kind == "choose":  # The number of a choice is no label.
        return Answers(shown, confidence=confidence, right=gold == predicted)
    table = thresholds.table(np.stack(probs), gold)
    return Answers(shown, gold, predicted, confidence, gold == predicted, thresholds=table)


def _judge_label_sets(head: Head, examples: Sequence[Example], probs: Sequence[np.ndarray]) -> Answers:
    """In the calibration, every label of every example is one answer, yes or no."""
    gold, scores = np.array([example.label for example in examples], bool), np.stack(probs)
    predicted = scores > 0.5
    shown = [
        Shown(_text(example), _names(head, right), _names(head, answer), None, figures.binary_cross_entropy(s, right))
        for example, right, answer, s in zip(examples, gold, predicted, scores, strict=True)
    ]
    groups = {}
    for number, label in enumerate(head.labels):
        counts = figures.confusion(gold[:, number].astype(int), predicted[:, number].astype(int), 2)
        support, precision, recall, f1 = figures.by_label(counts)[1]
        percents = {
            name: 100 * value for name, value in (("precision", precision), ("recall", recall)) if value is not None
        }
        groups[label] = {"examples": support, **percents, "F1": 100 * f1}
    confidence = np.where(predicted, scores, 1 - scores).ravel()
    return Answers(shown, confidence=confidence, right=(gold == predicted).ravel(), groups={"by_label": groups})


def _names(head: Head, chosen: np.ndarray) -> str:
    return ", ".join(label for label, is_chosen in zip(head.labels, chosen, strict=True) if is_chosen)


def _judge_numbers(examples: Sequence[Example], predicted: Sequence[np.ndarray]) -> Answers:
    """Of several numbers, only the first is plotted; the loss counts all of them."""
    shown, pairs = [], []
    for example, numbers in zip(examples, predicted, strict=True):
        gold = np.atleast_1d(np.array(example.label, float))
        right, answer = (", ".join(f"{value:.3g}" for value in values) for values in (gold, numbers))
        shown.append(Shown(_text(example), right, answer, None, float(np.mean((gold - numbers) ** 2))))
        pairs.append((gold[0], float(numbers[0])))
    return Answers(shown, numbers=np.array(pairs))


def _judge_tags(head: Head, examples: Sequence[Example], probs: Sequence[np.ndarray]) -> Answers:
    """Words that did not fit, or have no label, do not count."""
    shown, gold, predicted, confidence = [], [], [], []
    for example, of_word in zip(examples, probs, strict=True):
        labels = example.label if isinstance(example.label, tuple) else ()
        known = [(word, label) for word, label in enumerate(labels[: len(of_word)]) if label >= 0]
        losses = [figures.cross_entropy(of_word[word], label) for word, label in known]
        gold += [label for _, label in known]
        predicted += [int(of_word[word].argmax()) for word, _ in known]
        confidence += [float(of_word[word].max()) for word, _ in known]
        wrong = [(word, label) for word, label in known if of_word[word].argmax() != label]
        right = ", ".join(f"{example.words[word]} {head.labels[label]}" for word, label in wrong)
        answer = ", ".join(f"{example.words[word]} {head.labels[int(of_word[word].argmax())]}" for word, _ in wrong)
        shown.append(Shown(" ".join(example.words), right, answer, None, float(np.mean(losses or [0.0]))))
    is_right = np.array(gold) == np.array(predicted)
    return Answers(shown, np.array(gold, int), np.array(predicted, int), np.array(confidence), is_right)


def _judge_spans(workdir: str, loaded: Weights, examples: Sequence[Example]) -> Answers:
    predictions = validation.spans_of(workdir, loaded, examples)
    assert loaded.head is not None
    texts = span_answers.texts_of(predictions, loaded.head)
    shown, confidence, right = [], [], []
    for example, prediction in zip(examples, predictions, strict=True):
        answer = texts[example.id]
        exact, f1 = squad_metrics.score_one(example, answer)
        likely = prediction.answers[0].probability if prediction.answers and answer else 0.0
        gold = " / ".join(dict.fromkeys(text for text, _ in example.answers))
        shown.append(Shown(_text(example), gold, answer, likely or None, 1 - f1 + 1e-6 * likely))
        if answer:
            confidence.append(likely)
            right.append(bool(exact))
    groups = span_answers.breakdown(examples, texts)
    return Answers(shown, confidence=np.array(confidence), right=np.array(right, bool), groups=groups)


def _text(example: Example) -> str:
    return "\n".join(part for part in (example.text, example.pair, *example.choices) if part)
