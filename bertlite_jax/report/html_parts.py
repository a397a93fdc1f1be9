"""Parts of HTML pages that need no other file: the style, numbers as text, tables."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

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
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); gap: 1.2rem 1.6rem }
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


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page from the parts that are not empty. `title` is escaped, the parts are HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(part for part in parts if part) + "\n</body></html>\n"
    )


def number(value: Any) -> str:
    """A value as text: 1,234,567; four significant digits; yes and no; a dash for nothing."""
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
    """A table of escaped cells; the columns in `numbers` are aligned to the right."""

    def line(row: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if i in numbers else "" for i in range(len(row))]
        cells = [f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for cell, kind in zip(row, kinds, strict=True)]
        return f"<tr>{''.join(cells)}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"
