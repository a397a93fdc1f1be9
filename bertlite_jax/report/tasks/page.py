"""The report of a fine-tuning run: what the model learnt, how that went, and where it is right, sure or wrong."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.report import plots
from bertlite_jax.report.html_parts import number, page, percent, table
from bertlite_jax.report.run import results
from bertlite_jax.report.run.html import config_section, curve_figure, environment_section
from bertlite_jax.report.tasks import task_plots
from bertlite_jax.report.tasks.figures import (
    Answers,
    Shown,
    by_label,
    calibration,
    confusion,
    expected_calibration_error,
    hardest,
    most_confused,
)

PARTS_OF_LOSS = {
    "label_loss": ("Labelled texts: loss", ""),
    "distance_loss": ("Labelled texts: distance to the teacher", "as of learn.teacher, without its weight"),
    "teacher_loss": ("Unlabelled texts: distance to the teacher", "times its weight"),
    "consistency_loss": ("Unlabelled texts: consistency", "nats, times its weight"),
    "mixture_loss": ("Mixtures with guessed labels", "nats, times their weight"),
    "ensemble_loss": ("Distance to earlier epochs", "squared, times its weight"),
    "unlabelled/ensemble_loss": ("Unlabelled texts: distance to earlier epochs", "squared, times its weight"),
    "domain_loss": ("Domains told apart", "nats a text"),
}
"""For each part of the loss that `learn` adds, a title and its unit; an empty one is that of the labels."""
_LONGEST_TEXT = 600
"""Characters of a hard example that are shown; longer ones show their beginning and end."""


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """The content of a work directory, and its best model's answers to the validation split."""

    name: str
    config: Finetuned
    lines: list[dict[str, Any]]
    """metrics.jsonl."""
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    """summary.json; empty until the run ends."""
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    answers: Answers | None = None
    missing: str = ""
    """Why there are no answers."""
    compared: str = ""
    """The section with its teacher, as of `comparison.section`; empty without one."""


@dataclasses.dataclass(frozen=True)
class Several:
    """A sweep, or one recipe with several seeds."""

    name: str
    summary: dict[str, Any]
    runs: list[tuple[str, dict[str, Any]]]
    """Name and summary of each; the summary of an unfinished run is empty."""
    best: TaskRun | None = None


def render(run: TaskRun) -> str:
    """The page of one run. Raises UserError where matplotlib is not installed."""
    title = f"Fine-tuning: {run.name}"
    return page(title, [f"<h1>{html.escape(title)}</h1>", *_sections(run)])


def render_several(several: Several) -> str:
    """The page of several runs: their spread, and the report of the best. Raises UserError as `render` does."""
    title = f"Fine-tuning: {several.name}"
    parts = [f"<h1>{html.escape(title)}</h1>", _several_lead(several), _spread(several)]
    if several.best:
        parts += [f"<h2>The best run: {html.escape(several.best.name)}</h2>", *_sections(several.best)]
    return page(title, parts)


def render_probe(name: str, summary: Mapping[str, Any]) -> str:
    """The page of a probe of layers, from its summary.json. Raises UserError as `render` does."""
    title, metric, layers = f"Probe of layers: {name}", summary["metric"], summary["layers"]
    share = summary.get("majority_share") if metric == "accuracy" else None
    levels = [plots.Level("commonest label", share)] if share is not None else []
    unit = metric.replace("_", " ")
    picture = _picture(task_plots.layers([row[metric] for row in layers], unit, levels), "A head on each layer")
    lead = (
        f"{summary['task']} from {summary['init']}, which is not changed; {summary.get('train_examples', 0):,} "
        "training examples. Layer 0 is the embeddings. A head reads the mean of a text's states, or a word's."
    )
    columns = list(layers[0])
    rows = [tuple(_score(row[c]) if isinstance(row[c], float) else number(row[c]) for c in columns) for row in layers]
    best = _tile(f"Best {unit}", _score(summary[metric]), f"Layer {summary['best_layer']}")
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="quiet">{html.escape(lead)}</p>']
    parts += [f'<div class="tiles">{best}</div>', f'<div class="plots">{picture}</div>']
    return page(title, [*parts, f"<h2>Layers</h2>{table(rows, columns, range(1, len(columns)))}"])


def render_pruned(name: str, summary: Mapping[str, Any]) -> str:
    """The page of pruned models, from the summary.json of their work directory. Raises UserError as `render` does."""
    title, metric, models = f"Pruning: {name}", summary["metric"], summary["models"]
    unit, whole = metric.replace("_", " "), models[0]
    names = ["whole", *(f"{row['speed_up']:g}x" for row in models[1:])]
    lead = (
        f"{summary['task']}; layers, heads and neurons taken out of {summary['pruned_from']}, and the rest fine-tuned. "
        f"Latencies of one text of {number(summary['length'])} tokens, on {number(summary['threads'])} thread(s) of "
        f"{summary['cpu']}, in {summary['products']} in ONNX Runtime."
    )
    kept = ["–" if whole[metric] <= 0 else percent(row[metric] / whole[metric]) for row in models]
    tiles = [_tile(f"{name}: {unit}", _score(row[metric])) for name, row in zip(names, models, strict=True)]
    drawn = task_plots.latencies([row["milliseconds"] for row in models], [row[metric] for row in models], names, unit)
    columns = (unit, "score kept", "milliseconds", "measured speed-up", "parameters", "layers")
    rows = [
        (
            *(name, _score(row[metric]), share, f"{row['milliseconds']:.3f}", f"{row['measured_speed_up']:.2f}"),
            *(number(row["parameters"]), number(row["layers"])),
        )
        for name, share, row in zip(names, kept, models, strict=True)
    ]
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="quiet">{html.escape(lead)}</p>']
    parts += [f'<div class="tiles">{"".join(tiles)}</div>']
    parts += [f'<div class="plots">{_picture(drawn, "Score against latency")}</div>']
    return page(title, [*parts, f"<h2>Models</h2>{table(rows, ('', *columns), range(1, len(columns) + 1))}"])


def _sections(run: TaskRun) -> list[str]:
    parts = [_lead(run), _tiles(run), run.compared, _curves(run)]
    if run.answers:
        parts += [_pictures(run.answers, run.config.head.labels), _by_label(run.answers, run.config.head.labels)]
        parts += [_groups(run.answers), _thresholds(run.answers), _hardest(run.answers)]
    elif run.missing:
        parts.append(f'<p class="warn">No answers to look at: {html.escape(run.missing)}.</p>')
    usual = dataclasses.replace(Finetuned(), model=run.config.model)
    return [*parts, _results(run), config_section(run.config, usual), environment_section(run.environment)]


# --- Headline ----------------------------------------------------------------------------------------------------


def _lead(run: TaskRun) -> str:
    config, summary = run.config, run.summary
    kind = {"classify": config.head.problem.replace("_", " ")}.get(config.head.kind, config.head.kind)
    examples = f"{summary['train_examples']:,} training examples, " if "train_examples" in summary else ""
    text = (
        f"{config.data.task or config.data.folder} ({kind}) from {config.init}; {examples}"
        f"{config.data.batch_examples} a step, learning rate {config.optim.learning_rate:g}, seed {config.run.seed}."
    )
    parts = [f'<p class="quiet">{html.escape(text)}</p>']
    if not summary:
        step = max((line["step"] for line in run.lines), default=0)
        parts.append(f'<p class="warn">Not finished: step {step:,}.</p>')
    return "".join(parts)


def score_names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the task's scores: what is logged as valid_<name>, in that order."""
    names = dict.fromkeys(name for line in lines for name in line if name.startswith("valid_"))
    return [name.removeprefix("valid_") for name in names]


def _tile(what: str, value: str, beside: str = "") -> str:
    note = f"<span>{html.escape(beside)}</span>" if beside else ""
    return f'<div class="tile"><span>{html.escape(what)}</span><b>{html.escape(value)}</b>{note}</div>'


def _tiles(run: TaskRun) -> str:
    summary, tiles = run.summary, []
    for name in score_names(run.lines):
        if name in summary and not name.endswith("threshold"):
            share = summary.get("majority_share") if name == "accuracy" else None
            beside = f"Commonest label: {percent(share)}" if share is not None else ""
            tiles.append(_tile(f"Validation {name.replace('_', ' ')}", _score(summary[name]), beside))
    if run.answers and len(run.answers.confidence):
        error = expected_calibration_error(calibration(run.answers.confidence, run.answers.right))
        tiles.append(_tile("Expected calibration error", percent(error), "Mean error of the probabilities"))
    if summary.get("examples_per_second"):
        seconds = summary.get("train_seconds")
        beside = f"{seconds:,.0f} s of training" if seconds else ""
        tiles.append(_tile("Examples a second", f"{summary['examples_per_second']:,.0f}", beside))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _score(value: float) -> str:
    return f"{value:.4f}"


def _results(run: TaskRun) -> str:
    figures = {name: value for name, value in run.summary.items() if name not in _GROUP_NAMES}
    return results.section(figures, run.config.data.length)


# --- Curves ------------------------------------------------------------------------------------------------------


def _curves(run: TaskRun) -> str:
    unit = {"regression": "squared error", "multi_label": "nats a label"}.get(run.config.head.problem, "nats")
    figures = [curve_figure(run.lines, "Training loss", unit, "loss", from_zero=True)]
    for name in score_names(run.lines):
        if name.endswith("threshold"):
            continue
        train = "accuracy" if name == "accuracy" else ""
        summed = [{"step": 0, "majority": run.summary.get("majority_share")}] if name == "accuracy" else []
        title = f"Score: {name.replace('_', ' ')}"
        level = ("commonest label", "majority")
        figures.append(curve_figure([*run.lines, *summed], title, name, train, f"valid_{name}", level))
    for loss, (what, its_unit) in PARTS_OF_LOSS.items():
        figures.append(curve_figure(run.lines, what, its_unit or unit, loss, from_zero=True))
    figures.append(curve_figure(run.lines, "Learning rate", "learning rate", "learning_rate", from_zero=True))
    figures.append(curve_figure(run.lines, "Gradient", "global norm before clipping", "grad_norm", log=True))
    drawn = "".join(figure for figure in figures if figure)
    return f'<h2>Curves</h2><div class="plots">{drawn}</div>' if drawn else ""


def _picture(svg: bytes, title: str, note: str = "") -> str:
    caption = f"<figcaption><b>{html.escape(title)}</b>{html.escape(note)}</figcaption>"
    return f'<figure>{caption}<img src="{plots.data_uri(svg)}" alt="{html.escape(title)}"></figure>'


# --- Answers -----------------------------------------------------------------------------------------------------


def _pictures(answers: Answers, labels: Sequence[str]) -> str:
    drawn = []
    if len(answers.gold) and len(labels) <= task_plots.MOST_LABELS:
        counts = confusion(answers.gold, answers.answered, len(labels))
        note = f"{len(answers.gold):,} answers; the darker a cell, the larger its share of the row."
        drawn.append(_picture(task_plots.matrix(counts, labels), "Confusions", note))
    if len(answers.confidence):
        bins = calibration(answers.confidence, answers.right)
        error = percent(expected_calibration_error(bins))
        note = f"Expected calibration error {error}; above each bar the number of answers."
        drawn.append(_picture(task_plots.reliability(bins), "Calibration", note))
    if len(answers.numbers):
        wanted, predicted = answers.numbers.T
        off = np.abs(wanted - predicted)
        note = f"Mean distance {off.mean():.3g}, root of the mean square {np.sqrt((off**2).mean()):.3g}."
        drawn.append(_picture(task_plots.numbers(answers.numbers), "In the data and predicted", note))
    return f'<h2>Answers to the validation split</h2><div class="plots">{"".join(drawn)}</div>' if drawn else ""


def _by_label(answers: Answers, labels: Sequence[str]) -> str:
    if not len(answers.gold):
        return ""
    counts = confusion(answers.gold, answers.answered, len(labels))
    rows = [
        (label, f"{support:,}", percent(precision), percent(recall), percent(f1))
        for label, (support, precision, recall, f1) in zip(labels, by_label(counts), strict=True)
    ]
    parts = [f"<h3>By label</h3>{table(rows, ('label', 'in the data', 'precision', 'recall', 'F1'), range(1, 5))}"]
    wrong = [(labels[gold], labels[answered], f"{count:,}") for gold, answered, count in most_confused(counts)]
    if wrong and len(labels) > 2:
        parts.append(f"<h3>Commonest mistakes</h3>{table(wrong, ('in the data', 'answered', 'times'), (2,))}")
    return "".join(parts)


_GROUP_NAMES = {
    "by_answer_length": "By words of the answer",
    "by_question_word": "By question word",
    "by_label": "By label",
}


def _groups(answers: Answers) -> str:
    parts = []
    for name, groups in answers.groups.items():
        figures = list(dict.fromkeys(figure for row in groups.values() for figure in row))
        rows = [(group, *(_group_figure(row.get(figure)) for figure in figures)) for group, row in groups.items()]
        title = html.escape(_GROUP_NAMES.get(name, name.replace("_", " ")))
        parts.append(f"<h3>{title}</h3>{table(rows, ('', *figures), range(1, len(figures) + 1))}")
    return f"<h2>Where it is right</h2>{''.join(parts)}" if parts else ""


def _group_figure(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else number(value)


def _thresholds(answers: Answers) -> str:
    if not answers.thresholds:
        return ""
    rows = [
        (f"{row['threshold']:.2f}", percent(row["precision"]), percent(row["recall"]), percent(row["coverage"]))
        for row in answers.thresholds
    ]
    note = (
        "If answers below a probability are withheld: the share of the given answers that is right (precision), of all "
        "texts that is answered correctly (recall), and of all texts that is answered (coverage)."
    )
    shown = table(rows, ("probability", "precision", "recall", "coverage"), range(1, 4))
    return f'<h2>Thresholds</h2><p class="small quiet">{note}</p>{shown}'


def _hardest(answers: Answers) -> str:
    wrong = hardest(answers.examples)
    if not wrong:
        return ""
    shown = "".join(_example(example) for example in wrong)
    note = f"The {len(wrong)} of {len(answers.examples):,} with the highest loss, worst first."
    return f'<h2>Hardest examples</h2><p class="small quiet">{note}</p>{shown}'


def _example(example: Shown) -> str:
    text = example.text
    if len(text) > _LONGEST_TEXT:
        text = f"{text[: _LONGEST_TEXT * 2 // 3]} … {text[-_LONGEST_TEXT // 3 :]}"
    sure = f" ({percent(example.probability)})" if example.probability is not None else ""
    body = html.escape(text).replace("\n", "<br>") or "<i>empty</i>"
    return (
        f'<div class="sample"><p>{body}</p><p class="small quiet">In the data: '
        f"<b>{html.escape(example.gold) or 'none'}</b>; answered: <b>{html.escape(example.answer) or 'none'}</b>{sure};"
        f" loss {example.loss:.3g}</p></div>"
    )


# --- Several runs ------------------------------------------------------------------------------------------------


def _several_lead(several: Several) -> str:
    summary, count = several.summary, len(several.runs)
    kind = "points of a sweep" if "points" in summary else "seeds"
    lead = f'<p class="quiet">{html.escape(str(summary["task"]))}: {count} {kind}.</p>'
    tiles = []
    for name in [name for name in summary if f"{name}_min" in summary]:
        least, most = _score(summary[f"{name}_min"]), _score(summary[f"{name}_max"])
        tiles.append(_tile(f"Median {name.replace('_', ' ')}", _score(summary[name]), f"{least} to {most}"))
    return lead + (f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "")


def _spread(several: Several) -> str:
    metric = several.summary["metric"]
    scored = [(name, summary) for name, summary in several.runs if metric in summary]
    if not scored:
        return ""
    names, values = [name for name, _ in scored], [float(summary[metric]) for _, summary in scored]
    picture = _picture(task_plots.spread(values, names, metric.replace("_", " ")), "Each run")
    columns = (metric, "best_step", "steps", "examples_per_second")
    rows = [(name, *(number(summary.get(column)) for column in columns)) for name, summary in several.runs]
    listed = table(rows, ("run", *(column.replace("_", " ") for column in columns)), range(1, 5))
    return f'<h2>Spread</h2><div class="plots">{picture}</div>{listed}'
