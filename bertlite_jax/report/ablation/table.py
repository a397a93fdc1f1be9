"""The table of a grid, as Markdown and on a terminal. Each column is told once, in `columns`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.report.ablation.results import BELOW_UNIGRAM

Row = Mapping[str, Any]
"""As `figures.rows` makes it."""


_NAMES = ("member", "to")
"""Headings of columns that hold names of members."""


class Column(NamedTuple):
    """A heading, and what it says of a member."""

    heading: str
    cell: Callable[[Row], str]
    part: Literal["loss", "score", "cost"] = "loss"
    """A terminal is narrow: it shows losses and scores one below the other, and no cost."""


LEGEND = (
    "MLM loss: nats at [MASK] positions of the validation split, under the one masking of all evaluations; mean over "
    "seeds. Unigram: entropy of the pieces there. Spread: standard deviation over seeds. Difference: mean over seeds "
    "that both have, less is better, and its standard error. "
    f"Off plateau: first evaluation {BELOW_UNIGRAM} nats below the unigram entropy, mean over the seeds that came "
    "there. Seconds: of training alone. Tokens: without padding."
)


def columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that say something in these rows."""
    references = {row["compared_with"] for row in rows} - {None}
    scores = [
        Column("score", lambda row: _number(row["score"], ".4f"), part="score"),
        Column("score spread", lambda row: _number(row["score_spread"], ".4f"), part="score"),
        Column("score difference", lambda row: _difference(row, "score_difference"), part="score"),
    ]
    return [
        Column("member", lambda row: row["member"]),
        Column("runs", lambda row: f"{row['finished']} of {row['runs']}"),
        Column("MLM loss", lambda row: _number(row["valid_mlm_loss"], ".4f")),
        Column("unigram", lambda row: _number(row["unigram_entropy"], ".4f"), part="cost"),
        Column("spread", lambda row: _number(row["valid_mlm_loss_spread"], ".4f")),
        Column("difference", lambda row: row["incomparable"] or _difference(row, "difference")),
        *([Column("to", lambda row: row["compared_with"] or "")] if len(references) > 1 else []),
        Column("off plateau at", _left),
        *(scores if any(row["score"] is not None for row in rows) else []),
        Column("steps", lambda row: _number(row["steps"], ",.0f"), part="cost"),
        Column("tokens", lambda row: _number(row["real_tokens"], ",.0f"), part="cost"),
        Column("seconds", lambda row: _number(row["train_seconds"], ",.1f"), part="cost"),
        Column("FLOP", lambda row: _number(row["total_flops"], ".2e"), part="cost"),
        Column("parameters", lambda row: _number(row["parameters"], ",.0f"), part="cost"),
    ]


def markdown(title: str, rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The whole of table.md."""
    shown = columns(rows)
    lines = [
        f"# {title}",
        "",
        f"| {' | '.join(column.heading for column in shown)} |",
        f"|---|{'--:|' * (len(shown) - 1)}",
        *(f"| {' | '.join(_escaped(column.cell(row)) for column in shown)} |" for row in rows),
        "",
        LEGEND,
    ]
    lines += ["", *(f"* {_escaped(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def print_table(title: str, rows: Sequence[Row], notes: Sequence[str], console: Console) -> None:
    """Losses and, if there are any, scores on a terminal, and the notes."""
    shown = columns(rows)
    for part in ("loss", "score"):
        chosen = [column for column in shown if column.part == part or column.heading in _NAMES]
        if len(chosen) > len(_NAMES):
            _print_part(title, chosen, rows, console)
    for note in (LEGEND, *notes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _print_part(title: str, chosen: Sequence[Column], rows: Sequence[Row], console: Console) -> None:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, title_justify="left")
    for column in chosen:
        if column.heading in _NAMES:
            table.add_column(column.heading, overflow="fold")
        else:
            table.add_column(column.heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(column.cell(row) for column in chosen))
    console.print(table)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _difference(row: Row, name: str) -> str:
    """`-0.0312 ± 0.0040`; with one common seed, or none, without an error."""
    if row[name] is None:
        return "–"
    error = row[f"{name}_error"]
    return f"{row[name]:+.4f}" if error is None else f"{row[name]:+.4f} ± {error:.4f}"


def _left(row: Row) -> str:
    if not row["finished"]:
        return "–"
    if not row["left_plateau"]:
        return "never"
    some = f" ({row['left_plateau']} of {row['finished']})" if row["left_plateau"] < row["finished"] else ""
    return f"{row['steps_to_leave_plateau']:,.0f}{some}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
