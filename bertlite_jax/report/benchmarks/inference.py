"""Results of `bertlite bench infer` as tables in a terminal of 100 columns and as a section of HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.report import plots
from bertlite_jax.report.benchmarks.machine_line import machine_line
from bertlite_jax.report.html_parts import number, page, percent, table

Figures = Mapping[str, Any]
"""As `jobs/benchmarks/infer.py` returns them and `inference.json` has them."""

_ABOUT = ("who", "what", "MB", "MiB", "size", "loaded", "peak", "differs", "same")
_SPEED = ("who", "best ms", "p50", "p95", "calls", "rows/s", "speed")
_RANDOM = "Random weights: speed and size only; a trained model's answers differ by other amounts."


def render(figures: Figures) -> str:
    """A page of its own. Raises UserError where matplotlib is not installed."""
    return page(f"Answers: {figures['model']}", [f"<h1>{html.escape(figures['model'])}</h1>", section(figures)])


def section(figures: Figures) -> str:
    """Plots and tables under a heading; "" if there are no figures.

    Raises:
      UserError: matplotlib is not installed.
    """
    if not figures:
        return ""
    warning = f'<p class="warn">{_RANDOM}</p>' if figures["random_weights"] else ""
    drawn = "".join(_figure(figures, shape) for shape in figures["shapes"])
    parts = [f"<h2>Answers on this machine</h2>{warning}", f'<div class="plots">{drawn}</div>']
    parts.append(f"<h3>Size, memory, agreement</h3>{table(about_rows(figures), _ABOUT, range(2, len(_ABOUT)))}")
    for shape in figures["shapes"]:
        rows = speed_rows(shape)
        parts.append(f"<h3>{html.escape(shape_text(shape))}</h3>{table(rows, _SPEED, range(1, len(_SPEED)))}")
    parts += [f'<p class="small quiet">{html.escape(line)}</p>' for line in notes(figures)]
    return "".join(parts)


def print_tables(figures: Figures, console: Console) -> None:
    """The same in a terminal: one table of sizes, one of times for each shape, and what they were measured on."""
    console.print()
    _print(f"{figures['model']}: size, memory, agreement", _ABOUT, about_rows(figures), 2, console)
    for shape in figures["shapes"]:
        _print(f"{figures['model']}: {shape_text(shape)}", _SPEED, speed_rows(shape), 1, console)
    for line in notes(figures):
        console.print(line)
    if figures["random_weights"]:
        console.print(f"[bold]{_RANDOM}[/bold]")


# --- Rows of the tables ----------------------------------------------------------------------------------------------


def about_rows(figures: Figures) -> list[tuple[str, ...]]:
    """One row of text for each contender; sizes are relative to the first."""
    first = figures["contenders"][0]
    return [
        (
            who["name"],
            who["about"],
            f"{who['bytes'] / 1e6:.1f}",
            f"{who['bytes'] / 2**20:.1f}",
            f"{who['bytes'] / first['bytes']:.3f}",
            f"{who['loaded_bytes'] / 1e6:,.0f}",
            f"{who['peak_bytes'] / 1e6:,.0f}",
            "not finite" if who["largest_difference"] is None else f"{who['largest_difference']:.1e}",
            percent(who["top1_agreement"]),
        )
        for who in figures["contenders"]
    ]


def speed_rows(shape: Figures) -> list[tuple[str, ...]]:
    """One row of text for each contender."""
    return [
        (
            who["name"],
            *(_milliseconds(who[name]) for name in ("seconds_min", "seconds_p50", "seconds_p95")),
            f"{who['calls']}",
            f"{who['sequences_per_second']:,.1f}",
            f"{who['ratio']:.2f}x" + ("*" if who["dropped"] else ""),
        )
        for who in shape["figures"]
    ]


def shape_text(shape: Figures) -> str:
    """`batch 8 x 128 tokens, 1 thread`."""
    threads = f"{shape['threads']} thread" + ("" if shape["threads"] == 1 else "s")
    return f"batch {shape['batch']} x {shape['length']} tokens, {threads}"


def notes(figures: Figures) -> list[str]:
    """What was measured on which machine, what the columns mean, and which contenders were skipped."""
    on, first = figures["machine"], figures["contenders"][0]["name"]
    rows = "rows of text" if figures["settings"]["text"] else "rows of random ids"
    lines = [
        machine_line(on),
        f"Latency is that of a call, on rows without padding. Speed and size are relative to {first}; speed and "
        "rows/s are those of the best call. MB is 10^6 bytes, MiB 2^20, of the file on disk. loaded and peak: the most "
        f"memory (MB) that the process used until the model was loaded, and in all. differs: largest difference from "
        f"the answers of {first} ({figures['task']}) over {figures['contenders'][0]['rows_compared']} {rows}; same: "
        "share of answers whose largest logit is at the same place.",
    ]
    if on["load"] > on["cores"] / 2:
        lines.append("Other programs kept this machine busy, which slows down several threads more than one.")
    if any(who["dropped"] for shape in figures["shapes"] for who in shape["figures"]):
        lines.append("*: many times slower than the first, so it was dropped after the first round.")
    return lines + [f"{line}" for line in figures["skipped"]]


def _milliseconds(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _print(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], words: int, console: Console) -> None:
    shown = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    for i, name in enumerate(head):
        shown.add_column(name, justify="left" if i < words else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


# --- Plot ------------------------------------------------------------------------------------------------------------


def _figure(figures: Figures, shape: Figures) -> str:
    sizes = {who["name"]: who["bytes"] for who in figures["contenders"]}
    bars = [
        plots.Bar(
            who["name"],
            1000 * who["seconds_min"],
            f"{_milliseconds(who['seconds_min'])} ms, {number(round(sizes[who['name']] / 1e6, 1))} MB",
        )
        for who in shape["figures"]
        if not who["dropped"]
    ]
    picture = plots.data_uri(plots.draw_bars(bars, "milliseconds a call; the note behind adds the size on disk"))
    title = html.escape(f"Latency, {shape_text(shape)}")
    return f'<figure><figcaption><b>{title}</b></figcaption><img src="{picture}" alt="{title}"></figure>'
