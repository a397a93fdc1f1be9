"""The report of a run: one HTML file that needs nothing beside it, readable in black and white and on paper."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bertlite_jax import config as settings
from bertlite_jax import config_files
from bertlite_jax.report import flops, plots
from bertlite_jax.report.metrics import clock_time
from bertlite_jax.report.plots import Curve, Level

STYLE = """
:root { color-scheme: light }
body { max-width: 960px; margin: 2.5rem auto; padding: 0 1rem; background: #fff; color: #1a1a1a;
       font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.7rem; margin: 0 0 .2rem } h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem }
p { margin: .4rem 0 } .quiet { color: #555 } .small { font-size: .87rem }
.warn { border-left: 4px solid #1a1a1a; padding: .3rem .8rem; background: #f3f3f3 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: .8rem; margin: 1.4rem 0 }
.tile { border: 1px solid #ccc; border-radius: 6px; padding: .7rem .9rem }
.tile b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums }
.tile span { display: block; font-size: .87rem; color: #444 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 1.2rem 1.6rem }
figure { margin: 0 } figure.wide { grid-column: 1 / -1 } figure img { width: 100%; height: auto; display: block }
figcaption b { display: block } figcaption { font-size: .87rem; color: #444; margin-bottom: .3rem }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .28rem .9rem .28rem 0; border-bottom: 1px solid #e2e2e2 }
th { font-weight: 600; border-bottom: 1px solid #888 } td.number, th.number { text-align: right }
td { overflow-wrap: anywhere } tr.changed td { font-weight: 600 } td + td.quiet { font-weight: 400 }
.columns { columns: 2; column-gap: 2rem } .columns > div { break-inside: avoid; margin-bottom: 1.2rem }
.columns h3 { margin-top: 0 } .columns td:first-child { white-space: nowrap; overflow-wrap: normal }
.columns td.quiet { white-space: nowrap; overflow-wrap: normal }
.sample { margin: 0 0 1.3rem; break-inside: avoid } .sample mark { background: #1a1a1a; color: #fff; padding: 0 .25rem; border-radius: 3px }
.sample td { padding-top: .1rem; padding-bottom: .1rem; border: 0; width: 1% ; white-space: nowrap }
.sample td.bar { width: 98% } .bar i { display: inline-block; height: .7rem; background: #6b8fb3; border: 1px solid #446 }
@media print { body { margin: 0; max-width: none; font-size: 12px } h2 { break-after: avoid } figure, tr { break-inside: avoid } }
@media (max-width: 640px) { .columns { columns: 1 } .plots { grid-template-columns: 1fr } }
"""  # noqa: E501


@dataclasses.dataclass(frozen=True)
class Run:
    """What a work directory tells. Only `name` and `config` have to be there."""

    name: str
    config: settings.Pretrain
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """metrics.jsonl."""
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    """summary.json; empty while the run goes on."""
    corpora: dict[str, dict[str, Any] | None] = dataclasses.field(default_factory=dict)
    """corpus.json of each folder; None where it is not on this machine."""
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """`{"text": "... [MASK] ...", "truth": "word", "predictions": [["piece", probability], ...]}`."""
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    """environment.json."""


def render(run: Run) -> str:
    """The whole page.

    Raises:
      UserError: matplotlib is not installed.
    """
    title = html.escape(f"Pretraining: {run.name}")
    parts = [f"<h1>{title}</h1>", _lead(run), _tiles(run), _results(run), _curves(run), _samples(run.samples)]
    parts += [_model(run.config), _config(run.config), _corpora(run.corpora), _environment(run.environment)]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(part for part in parts if part) + "\n</body></html>\n"
    )


# --- Small pieces ------------------------------------------------------------------------------------------------


def number(value: Any) -> str:
    """A value as people read it: 1,234,567; four significant digits; yes and no; a dash for nothing."""
    if value is None or value == "" or value == [] or value == ():
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if value == int(value) and abs(value) < 1e15:
            return f"{value:,.0f}"
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(number(item) for item in value)
    return str(value)


def percent(value: float | None) -> str:
    """A share as `12.3 %`."""
    return "–" if value is None else f"{100 * value:.1f} %"


def scaled(value: float) -> str:
    """Four digits and a decimal prefix: `12.07 G`."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.4g} {prefix}"
    return f"{value:,.0f} "


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), numbers: Sequence[int] = ()) -> str:
    """Escaped cells; the columns in `numbers` are set to the right."""

    def line(row: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if i in numbers else "" for i in range(len(row))]
        cells = [f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for cell, kind in zip(row, kinds)]
        return f"<tr>{''.join(cells)}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


def last_values(run: Run) -> dict[str, Any]:
    """The newest figure under each name: the summary's, else that of the last line that has one."""
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
    }[model.share]
    text = (
        f"{model.num_layers} layers of width {model.hidden_size:,}, {shared}; {count:,} parameters; "
        f"vocabulary {model.vocab_size:,}; {data.batch_rows:,} rows of {data.length:,} tokens a step; "
        f"{ {'lamb': 'LAMB', 'adamw': 'AdamW'}[run.config.optim.name] }."
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


def _tiles(run: Run) -> str:
    values = last_values(run)
    speeds = sorted(plots.series(run.lines, "tokens_per_second")[1])
    tiles = []

    def tile(name: str, text: Callable[[float], str], what: str, beside: str, other: str) -> None:
        if values.get(name) is not None:
            than = f"<span>{beside}: {text(values[other])}</span>" if values.get(other) is not None else ""
            tiles.append(f'<div class="tile"><span>{what}</span><b>{text(values[name])}</b>{than}</div>')

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


LABELS: dict[str, tuple[str, str]] = {
    "steps": ("Steps", ""),
    "real_tokens": ("Real tokens trained on", "padding not counted"),
    "wall_seconds": ("Wall time", "h:mm:ss or mm:ss"),
    "valid_mlm_loss": ("Validation MLM loss", "nats a [MASK] position"),
    "unigram_entropy": ("Unigram entropy", "nats; what word frequencies alone reach at the same positions"),
    "valid_mlm_accuracy": ("Validation MLM accuracy", "on [MASK] positions"),
    "majority_accuracy": ("Majority accuracy", "always the most frequent token, same positions"),
    "valid_pair_accuracy": ("Validation pair accuracy", ""),
    "pair_label_prior": ("Pair label prior", "always the commoner label"),
    "parameters": ("Parameters", "heads included"),
    "hf_max_abs_diff": ("Largest difference to transformers", "after the export, all outputs; – where not checked"),
}


def _results(run: Run) -> str:
    if not run.summary:
        return ""
    known = [name for name in LABELS if name in run.summary]
    rows = [(LABELS[name][0], _figure_text(name, run.summary[name]), LABELS[name][1]) for name in known]
    rest = {name: value for name, value in run.summary.items() if name not in LABELS and name != "time_shares"}
    rows += [(name, number(value), "") for name, value in flatten(rest).items()]
    return f"<h2>Results</h2>{table(rows, ('figure', 'value', ''), (1,))}{_time(run.summary.get('time_shares') or {})}"


def _figure_text(name: str, value: Any) -> str:
    if value is not None and name == "wall_seconds":
        return clock_time(value)
    if value is not None and ("accuracy" in name or "prior" in name):
        return percent(value)
    return number(value)


def _time(shares: Mapping[str, float]) -> str:
    if not shares:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td>{percent(share)}</td><td class="bar">{_bar(share)}</td></tr>'
        for name, share in shares.items()
    )
    return f'<h3>Where the wall time went</h3><div class="sample"><table>{rows}</table></div>'


def _bar(share: float) -> str:
    return f'<i style="width:{100 * min(max(share, 0), 1):.1f}%"></i>'


# --- Curves ------------------------------------------------------------------------------------------------------


def _curves(run: Run) -> str:
    accuracy = [{k: 100 * v if isinstance(v, float) else v for k, v in line.items()} for line in run.lines]
    pair_names = {"sop": "sentence order", "nsp": "next sentence", "three_way": "next, previous or random sentence"}
    pair = pair_names.get(run.config.data.pair_task, "pair")
    figures = [
        _figure(run.lines, "Masked language model: loss", "nats a prediction", wide=True,
                note="Training predictions follow the training scheme, validation has [MASK] at every position.",
                train="mlm_loss" if plots.series(run.lines, "mlm_loss")[0] else "loss", valid="valid_mlm_loss",
                level=("word frequencies alone", "unigram_entropy")),
        _figure(accuracy, "Masked language model: accuracy", "% right", "mlm_accuracy", "valid_mlm_accuracy",
                ("most frequent token", "majority_accuracy"), from_zero=True),
        _figure(accuracy, f"Pairs ({pair}): accuracy", "% right", "pair_accuracy", "valid_pair_accuracy",
                ("commoner label", "pair_label_prior")),
        _figure(run.lines, "Learning rate", "learning rate", "learning_rate", from_zero=True),
        _figure(run.lines, "Gradient", "global norm before clipping", "grad_norm", log=True),
        _figure(run.lines, "Throughput", "real tokens a second", "tokens_per_second", from_zero=True),
        _figure(accuracy, "Waiting for data", "% of the time", "data_wait", from_zero=True),
    ]  # fmt: skip
    drawn = "".join(figure for figure in figures if figure)
    size = -(-len(plots.series(run.lines, "loss")[0]) // plots.MOST_POINTS)
    note = f'<p class="small quiet">Each training point is the mean of {size} logged lines.</p>' if size > 1 else ""
    return f'<h2>Curves</h2>{note}<div class="plots">{drawn}</div>' if drawn else ""


def _figure(
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
    """One captioned plot of the series `train` and `valid` with the last value of `level`; "" without any data."""
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
            rows += (
                f'<tr><td>{name}</td><td class="number">{percent(share)}</td><td class="bar">{_bar(share)}</td></tr>'
            )
        parts.append(
            f'<div class="sample"><p>{text}</p><p class="small quiet">In the text: <b>{truth}</b></p>'
            f"<table>{rows}</table></div>"
        )
    return f"<h2>Sample predictions</h2>{''.join(parts)}" if parts else ""


def _model(config: settings.Pretrain) -> str:
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
        "total": "total",
    }
    rows = [
        (label, f"{count[name]:,}", percent(count[name] / count["total"]))
        for name, label in names.items()
        if count[name]
    ]
    step = flops.train_flops_per_step(config)
    slots = config.data.batch_rows * config.data.length
    cost = (
        f"A training step costs {scaled(step)}FLOP, {scaled(step / slots)}FLOP a slot (three forward "
        "passes, products only, attention over whole rows). Sharing layers saves parameters and not FLOPs."
    )
    parameters = table(rows, ("part", "parameters", "share"), (1, 2))
    return f'<h2>Model</h2>{parameters}<p class="small quiet">{html.escape(cost)}</p>'


def _config(config: settings.Pretrain) -> str:
    default = config_files.flat(settings.Pretrain())
    groups: dict[str, list[str]] = {}
    for name, value in config_files.flat(config).items():
        group, _, field = name.partition(".")
        changed = value != default[name]
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


def _environment(environment: Mapping[str, Any]) -> str:
    rows = [(name, number(value)) for name, value in flatten(environment).items()]
    return f"<h2>Environment</h2>{table(rows)}" if rows else ""
