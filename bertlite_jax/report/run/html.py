"""The report of a run: one HTML file that needs no other, readable in black and white and on paper."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bertlite_jax.config import files, schedule
from bertlite_jax.config.pair_tasks import PAIR_NAMES
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.report import plots
from bertlite_jax.report.benchmarks import inference
from bertlite_jax.report.cost import flops
from bertlite_jax.report.html_parts import flatten, number, page, percent, scaled, table
from bertlite_jax.report.plots import Curve, Level
from bertlite_jax.report.run import inside, results

OPTIMISERS = {"lamb": "LAMB", "adamw": "AdamW", "muon": "Muon", "normuon": "NorMuon"}
"""Their names in print."""
LEARNT_FROM_TEACHER = {
    "soft_loss": ("predictions", "nats a prediction, times the squared temperature"),
    "cosine_loss": ("last hidden states", "1 - cosine"),
    "states_loss": ("hidden states", "squared difference, all layers"),
    "attention_loss": ("attention scores", "squared difference, all layers"),
    "relations_loss": ("relations of queries, keys, values", "nats a token"),
    "pair_soft_loss": ("pairs", "nats a pair, times the squared temperature"),
}
"""For each loss of distillation what it compares, and its unit."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a work directory. Only `name` and `config` are required."""

    name: str
    config: Pretrain
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """metrics.jsonl."""
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    """summary.json; empty until the run ends."""
    corpora: dict[str, dict[str, Any] | None] = dataclasses.field(default_factory=dict)
    """corpus.json of each folder; None if it is not on this machine."""
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """`{"text": "... [MASK] ...", "truth": "word", "predictions": [["piece", probability], ...]}`."""
    inside: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Attention and neighbours of words; empty without a checkpoint."""
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    """environment.json."""
    inference: dict[str, Any] = dataclasses.field(default_factory=dict)
    """inference.json, which `bertlite bench infer` writes."""
    compared: str = ""
    """The section with its teacher, as of `comparison.section`; empty without one."""


def render(run: Run) -> str:
    """The whole page.

    Raises:
      UserError: matplotlib is not installed.
    """
    title = f"Pretraining: {run.name}"
    parts = [f"<h1>{html.escape(title)}</h1>", _lead(run), _tiles(run)]
    parts += [results.section(run.summary, run.config.data.length), run.compared]
    parts += [_curves(run)]
    parts += [_samples(run.samples), inside.section(run.inside), inference.section(run.inference), _model(run.config)]
    parts += [_schedule(run.config)]
    parts += [config_section(run.config, Pretrain()), _corpora(run.corpora)]
    parts += [environment_section(run.environment)]
    return page(title, parts)


def last_values(run: Run) -> dict[str, Any]:
    """The newest value of each name: the summary's, else that of the last line that has one."""
    newest: dict[str, Any] = {}
    for line in sorted(run.lines, key=lambda line: line["step"]):
        newest |= {name: value for name, value in line.items() if value is not None}
    return newest | {name: value for name, value in run.summary.items() if value is not None}


# --- Headline ----------------------------------------------------------------------------------------------------


def _lead(run: Run) -> str:
    model, data = run.config.model, run.config.data
    count = flops.parameters(model)["total"]
    shared = {
        "all": "all parameters shared between layers",
        "attention": "attention shared between layers",
        "ffn": "feed-forward parts shared between layers",
        "none": "no sharing between layers",
    }[model.share] + (f" but for {', '.join(model.freed)}" if model.freed else "")
    text = (
        f"{model.num_layers} layers of width {model.hidden_size:,}, {shared}; {count:,} parameters; "
        f"vocabulary {model.vocab_size:,}; {data.batch_rows:,} rows of {data.length:,} tokens a step"
        f"{_at_the_end(run)}; "
        f"{OPTIMISERS[run.config.optim.name]}."
    )
    parts = [f'<p class="quiet">{html.escape(text)}</p>']
    if not run.summary:
        step = max((line["step"] for line in run.lines), default=0)
        parts.append(f'<p class="warn">Not finished: step {step:,} of {run.config.run.steps:,}.</p>')
    wrong = [f"{name} at step {line['step']:,}" for line in run.lines for name in line.get("not_finite", {})]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        parts.append(f'<p class="warn">Not finite: {html.escape(", ".join(wrong[:5]) + more)}.</p>')
    return "".join(parts)


def _at_the_end(run: Run) -> str:
    """What is added to figures that hold for the last stage alone."""
    return " at the end (see the schedule)" if len(schedule.stages(run.config)) > 1 else ""


def _tiles(run: Run) -> str:
    values = last_values(run)
    speeds = sorted(plots.series(run.lines, "tokens_per_second")[1])
    tiles = []

    def tile(name: str, text: Callable[[float], str], what: str, beside: str, other: str) -> None:
        if values.get(name) is not None:
            baseline = f"<span>{beside}: {text(values[other])}</span>" if values.get(other) is not None else ""
            tiles.append(f'<div class="tile"><span>{what}</span><b>{text(values[name])}</b>{baseline}</div>')

    def nats(value: float) -> str:
        return f"{value:.3f}"

    tile("valid_mlm_loss", nats, "Validation MLM loss, nats", "From word frequencies alone", "unigram_entropy")
    tile("valid_mlm_accuracy", percent, "Validation MLM accuracy", "Most frequent token", "majority_accuracy")
    tile("valid_pair_accuracy", percent, "Validation pair accuracy", "Commoner label", "pair_label_prior")
    if speeds:
        used = f"<span>MFU {percent(values['mfu'])}</span>" if values.get("mfu") is not None else ""
        middle = speeds[len(speeds) // 2]
        tiles.append(f'<div class="tile"><span>Real tokens a second, median</span><b>{middle:,.0f}</b>{used}</div>')
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


# --- Curves ------------------------------------------------------------------------------------------------------


def _curves(run: Run) -> str:
    accuracy = [{k: 100 * v if isinstance(v, float) else v for k, v in line.items()} for line in run.lines]
    pair = PAIR_NAMES.get(run.config.data.pair_task, "pair")
    # Without `mlm_loss`, the loss of pretraining is that of the text, and that of distillation the teacher's alone.
    has_own = run.config.job == "distill" or plots.series(run.lines, "mlm_loss")[0]
    figures = [
        curve_figure(run.lines, "Masked language model: loss", "nats a prediction", wide=True,
                     note="Training predictions follow the training scheme, validation has [MASK] at every position.",
                     train="mlm_loss" if has_own else "loss", valid="valid_mlm_loss",
                     level=("word frequencies alone", "unigram_entropy")),
        curve_figure(accuracy, "Masked language model: accuracy", "% right", "mlm_accuracy", "valid_mlm_accuracy",
                     ("most frequent token", "majority_accuracy"), from_zero=True),
        curve_figure(accuracy, f"Pairs ({pair}): accuracy", "% right", "pair_accuracy", "valid_pair_accuracy",
                     ("commoner label", "pair_label_prior")),
        curve_figure(accuracy, "Replaced tokens: accuracy", "% right", "replaced_accuracy", "valid_replaced_accuracy"),
        curve_figure(run.lines, "Causal steps: loss", "nats a prediction", "causal_loss"),
        *(curve_figure(run.lines, f"Against the teacher: {what}", unit, loss, from_zero=True)
          for loss, (what, unit) in LEARNT_FROM_TEACHER.items()),
        curve_figure(run.lines, "Learning rate", "learning rate", "learning_rate", from_zero=True),
        curve_figure(run.lines, "Gradient", "global norm before clipping", "grad_norm", log=True),
        curve_figure(run.lines, "Throughput", "real tokens a second", "tokens_per_second", from_zero=True),
        curve_figure(accuracy, "Waiting for data", "% of the time", "data_wait", from_zero=True),
    ]  # fmt: skip
    drawn = "".join(figure for figure in figures if figure)
    size = -(-len(plots.series(run.lines, "loss")[0]) // plots.MOST_POINTS)
    note = f'<p class="small quiet">Each training point is the mean of {size} logged lines.</p>' if size > 1 else ""
    return f'<h2>Curves</h2>{note}<div class="plots">{drawn}</div>' if drawn else ""


def curve_figure(
    lines: Sequence[Mapping[str, Any]],
    title: str,
    unit: str,
    train: str,
    valid: str = "",
    level: tuple[str, str] = ("", ""),
    wide: bool = False,
    from_zero: bool = False,
    log: bool = False,
    note: str = "",
) -> str:
    """One captioned plot of the series `train` and `valid` with the last value of `level`; "" if there is no data."""
    curves = [
        Curve(label, *plots.series(lines, name), style)
        for label, name, style in (("training", train, "thin"), ("validation", valid, "marked"))
    ]
    curves = [curve for curve in curves if curve.steps]
    if not curves:
        return ""
    values = plots.series(lines, level[1])[1]
    levels = [Level(level[0], values[-1])] if values else []
    picture = plots.data_uri(plots.draw(curves, unit, levels, wide, from_zero, log))
    caption = f"<figcaption><b>{html.escape(title)}</b>{html.escape(note)}</figcaption>"
    kind = ' class="wide"' if wide else ""
    return f'<figure{kind}>{caption}<img src="{picture}" alt="{html.escape(title)}, {html.escape(unit)}"></figure>'


# --- Samples, model, config, corpus, environment -------------------------------------------------------------------


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for sample in samples:
        text = html.escape(sample["text"]).replace("[MASK]", "<mark>[MASK]</mark>")
        truth = html.escape(sample["truth"])
        rows = ""
        for piece, share in sample["predictions"]:
            name = html.escape(piece)
            name = f"<b>{name}</b> ✓" if name == truth else name
            bar = results.bar(share)
            rows += f'<tr><td>{name}</td><td class="number">{percent(share)}</td><td class="bar">{bar}</td></tr>'
        parts.append(
            f'<div class="sample"><p>{text}</p><p class="small quiet">In the text: <b>{truth}</b></p>'
            f"<table>{rows}</table></div>"
        )
    return f"<h2>Sample predictions</h2>{''.join(parts)}" if parts else ""


def _model(config: Pretrain) -> str:
    count = flops.parameters(config.model)
    names = {
        "embeddings": "embeddings",
        "projection": "projection of the embeddings",
        "attention": "attention",
        "ffn": "feed-forward",
        "norms": "LayerNorms of the layers",
        "pooler": "pooler",
        "mlm": "masked language model head",
        "pair": "pair head",
        "replaced": "head for replaced tokens",
        "total": "total",
    }
    rows = [
        (label, f"{count[name]:,}", percent(count[name] / count["total"]))
        for name, label in names.items()
        if count[name]
    ]
    step = flops.train_flops_per_step(config)
    slots = config.data.batch_rows * config.data.length
    which = "The last training step" if len(schedule.stages(config)) > 1 else "A training step"
    cost = (
        f"{which} costs {scaled(step)}FLOP, {scaled(step / slots)}FLOP a slot (three forward "
        "passes, matrix products only, attention over whole rows). Sharing layers saves parameters, not FLOPs."
    )
    if config.objective.replaced_weight:
        cost += " A forward pass is two, as replaced tokens are looked for in a second one."
    if config.objective.causal_every:
        causal = flops.train_flops_per_step(schedule.of_kind(config, causal=True))
        cost += f" One step in {config.objective.causal_every} is causal and costs {scaled(causal)}FLOP."
    parameters = table(rows, ("part", "parameters", "share"), (1, 2))
    return f'<h2>Model</h2>{parameters}<p class="small quiet">{html.escape(cost)}</p>'


def _schedule(config: Pretrain) -> str:
    """What changes at which step, and what a step of each stage costs; "" if nothing changes."""
    lines = schedule.table(config)
    if not lines:
        return ""
    costs = (f"{scaled(flops.train_flops_per_step(stage.config))}FLOP" for stage in schedule.stages(config))
    rows = [(*line, cost) for line, cost in zip(lines[1:], costs, strict=True)]
    names = (*lines[0], "a step costs")
    return f"<h2>Schedule</h2>{table(rows, names, range(1, len(names)))}"


def config_section(config: Any, usual: Any) -> str:
    """Every field of a config; those that differ from `usual` are bold."""
    default = files.flat(usual)
    groups: dict[str, list[str]] = {}
    for name, value in files.flat(config).items():
        group, _, field = name.partition(".")
        changed = value != default.get(name, value)
        note = f"default {number(default[name])}".replace("–", "empty") if changed else ""
        cells = f'<td>{field}</td><td>{html.escape(number(value))}</td><td class="quiet">{html.escape(note)}</td>'
        kind = ' class="changed"' if changed else ""
        groups.setdefault(group, []).append(f"<tr{kind}>{cells}</tr>")
    blocks = [f"<div><h3>{group}</h3><table>{''.join(rows)}</table></div>" for group, rows in groups.items()]
    note = '<p class="small quiet">Bold: not the default.</p>'
    return f'<h2>Config</h2>{note}<div class="columns">{"".join(blocks)}</div>'


def _corpora(corpora: Mapping[str, Mapping[str, Any] | None]) -> str:
    parts = []
    for folder, corpus in corpora.items():
        parts.append(f"<h3>{html.escape(folder)}</h3>")
        if corpus is None:
            parts.append('<p class="quiet">Not found on this machine.</p>')
            continue
        splits = {name: flatten(values) for name, values in corpus.get("splits", {}).items()}
        counts = list(dict.fromkeys(name for values in splits.values() for name in values))
        if counts:
            rows = [(name, *(number(values.get(name)) for values in splits.values())) for name in counts]
            parts.append(table(rows, ("", *splits), range(1, len(splits) + 1)))
        rest = {name: value for name, value in corpus.items() if name not in ("splits", "statistics")}
        rows = [(name, number(value)) for name, value in flatten(corpus.get("statistics", {}) | rest).items()]
        if rows:
            parts.append(f"<br>{table(rows, ('statistics', ''), (1,))}")
    return f"<h2>Corpus</h2>{''.join(parts)}" if parts else ""


def environment_section(environment: Mapping[str, Any]) -> str:
    """environment.json as a table; "" if it is empty."""
    rows = [(name, number(value)) for name, value in flatten(environment).items()]
    return f"<h2>Environment</h2>{table(rows)}" if rows else ""
