"""The figures of a search as Markdown, on a terminal, and its front as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.config.search.settings import Search
from bertlite_jax.search.candidates import shown_time

MOST_ROWS = 20
"""Of the ranking."""
CLAIM = (
    "W is the published coefficient (1 - p/p_T)^a (1 - i/i_T)^b / e^c with p parameters, i seconds, e error and T "
    "the maximum point. What is proved of the published search needs a strongly convex loss and a compact space of "
    "weights, and no transformer has the first: nothing of the kind is claimed here."
)
Row = Mapping[str, Any]
COLUMNS = (
    "num_layers", "num_heads", "hidden_size", "ffn_size", "embed_size", "share", "parameters", "seconds", "error",
    "error_spread", "score", "score_spread", "learning_rate",
)  # fmt: skip
"""Of front.csv."""


def markdown(title: str, content: Row, config: Search, about: Sequence[str]) -> str:
    """The whole of table.md.

    Args:
      title: heading.
      content: of `figures.content`.
      config: of the search.
      about: lines that say what was done.
    """
    parts = [f"# {title}", "", *(f"{line}\n" for line in about), CLAIM]
    parts += _section("Best shapes by W", _ranking(content["ranking"][:MOST_ROWS]))
    parts += _section("Front: none has fewer parameters, less time and less error", _ranking(content["front"]))
    parts += ["", f"Hypervolume below the maximum point and the largest error: {content['hypervolume']:.4f}."]
    parts += _section("Methods", _methods(content["methods"], config))
    parts += _section("What other settings choose of the same trials", _sensitivity(content["sensitivity"]))
    if correlations := [*content["correlations"], *content["hosts"]]:
        parts += _section("Rank correlation over shapes", _correlations(correlations))
    if content["published"]:
        parts += _section("Published models at the same costs", _published(content["published"]))
    if content["failed"]:
        parts += ["", "## Trials without an error", ""]
        for each in content["failed"]:
            trial = f"{each['name']}, learning rate {each['learning_rate']:g}, {each['steps']} steps"
            parts.append(f"* {trial}: {each['status']}: {each['reason']}")
    return "\n".join(parts) + "\n"


def print_best(title: str, content: Row, console: Console) -> None:
    """The best shapes."""
    headings, *rows = _ranking(content["ranking"][:5])
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for each in rows:
        table.add_row(*each)
    console.print(table)


def front_csv(content: Row) -> str:
    """The shapes that no other beats in all of parameters, seconds and error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(content["front"])
    return text.getvalue()


# --- Tables: a list of cells for each row, headings first ------------------------------------------------------------


def _ranking(rows: Sequence[Row]) -> list[list[str]]:
    found = [["shape", "parameters", "latency", "error", "± seeds", "W", "± seeds", "learning rate"]]
    for each in rows:
        cells = [each["name"], f"{each['parameters']:,}", shown_time(each["seconds"])]
        cells += [f"{each['error']:.4f}", f"{each['error_spread']:.4f}"]
        cells += [f"{each['score']:.4f}", f"{each['score_spread']:.4f}", f"{each['learning_rate']:g}"]
        found.append(cells)
    return found


def _methods(rows: Sequence[Row], config: Search) -> list[list[str]]:
    longer = config.surrogate.longer_steps
    found = [["method", "shapes tried", "FLOP", "pick", "error", "W"]]
    found[0] += [f"MLM loss after {longer:,} steps"] if longer else []
    for each in rows:
        pick = each["pick"]
        cells = [each["method"], f"{each['shapes']:,}", f"{each['flops']:.2e}"]
        cells += [pick["name"], f"{pick['error']:.4f}", f"{pick['score']:.4f}"] if pick else ["–"] * 3
        cells += [_number(each["longer_loss"])] if longer else []
        found.append(cells)
    return found


def _sensitivity(rows: Sequence[Row]) -> list[list[str]]:
    found = [["setting", "pick", "the same", "W that the winner misses there"]]
    for each in rows:
        regret = "–" if each["regret"] is None else f"{100 * each['regret']:.1f} %"
        found.append([each["setting"], each["pick"] or "–", "yes" if each["same"] else "no", regret])
    return found


def _correlations(rows: Sequence[Row]) -> list[list[str]]:
    found = [["measure", "with", "shapes", "Spearman", "Kendall"]]
    for each in rows:
        cells = [each["measure"], each["with"], str(each["shapes"])]
        found.append([*cells, _number(each["spearman"], "+.3f"), _number(each["kendall"], "+.3f")])
    return found


def _published(rows: Sequence[Row]) -> list[list[str]]:
    found = [["model", "shape", "parameters", "latency", "error of its shape here"]]
    for each in rows:
        costs = [f"{each['parameters']:,}", shown_time(each["seconds"])]
        found.append([each["name"], each["shape"], *costs, _number(each["error"])])
    return found


def _section(heading: str, rows: Sequence[Sequence[str]]) -> list[str]:
    headings, *body = rows
    lines = ["", f"## {heading}", "", f"| {' | '.join(headings)} |", f"|---|{'--:|' * (len(headings) - 1)}"]
    return [*lines, *(f"| {' | '.join(each)} |" for each in body)]


def _number(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else f"{value:{form}}"
