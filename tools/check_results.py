"""Compares every figure of RESULTS.md with the log that it names.

python tools/check_results.py

A figure is a link: `[4.105](docs/results/NAME.json#/best/ours/loss)` says that the JSON file holds a number under these
keys that is 4.105 when it is rounded to three decimals. The keys are a JSON pointer (RFC 6901); numbers in it count
list elements from 0. `%` behind a figure makes it hundredths.

What is checked besides: sections are headed by their date, newest first; each says its commit, host, command, seeds
and spread; each row of a table has a figure; no log is left that no figure names.
"""

from __future__ import annotations

import decimal
import json
import pathlib
import re
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE, LOGS = "RESULTS.md", "docs/results"
SAYS = ("commit", "host", "command", "seeds")
"""Each section has a list item for each of these."""
_LINK = re.compile(rf"\[([^\]]*)\]\(({LOGS}/[^)#\s]+)(?:#([^)\s]*))?\)")
_FIGURE = re.compile(r"[-−]?[\d,]*\.?\d+( ?%)?")


def problems(root: pathlib.Path) -> list[str]:
    """A line for each thing that is wrong with the page of a repository; none if all figures stand in their logs."""
    text = (root / PAGE).read_text(encoding="utf-8")
    links = _LINK.findall(text)
    found = [line for link in links for line in _wrong_figure(root, *link)]
    found += _wrong_sections(text)
    named = {path for _, path, _ in links}
    logs = {f"{LOGS}/{file.name}" for file in (root / LOGS).iterdir()}
    return found + [f"{path}: no figure of {PAGE} is in this log" for path in sorted(logs - named)]


def _wrong_figure(root: pathlib.Path, shown: str, path: str, pointer: str) -> Iterator[str]:
    where = f"{PAGE}: [{shown}]({path}#{pointer})"
    if not _FIGURE.fullmatch(shown):
        yield f"{where}: {shown} is no figure"
    elif not (root / path).is_file():
        yield f"{where}: there is no such log"
    else:
        try:
            value = at(json.loads((root / path).read_text(encoding="utf-8")), pointer)
        except (KeyError, IndexError, ValueError, TypeError):
            yield f"{where}: the log has nothing there"
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{where}: the log has {value!r} there, which is no number"
        elif not rounds_to(value, shown):
            yield f"{where}: the log has {value!r} there"


def at(content: Any, pointer: str) -> Any:
    """What a JSON pointer leads to.

    Raises:
      KeyError, IndexError, ValueError, TypeError: nothing.
    """
    if not pointer.startswith("/"):
        raise ValueError(pointer)
    for part in urllib.parse.unquote(pointer[1:]).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        content = content[int(name)] if isinstance(content, list) else content[name]
    return content


def rounds_to(value: float, shown: str) -> bool:
    """Whether a number is the one that is shown, at as many decimals as are shown."""
    digits = decimal.Decimal(re.sub(r"[, %]", "", shown).replace("−", "-"))
    exact = decimal.Decimal(repr(value)) * (100 if shown.endswith("%") else 1)
    # Half a unit of the last place either way, so that it does not matter which way a tie was rounded.
    return abs(exact - digits) <= decimal.Decimal(1).scaleb(int(digits.as_tuple().exponent)) / 2


def _wrong_sections(text: str) -> Iterator[str]:
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    if not sections:
        yield f"{PAGE}: there is no section"
    dates = []
    for section in sections:
        title = section.partition("\n")[0]
        where = f"{PAGE}: {title}"
        dated = re.match(r"(\d{4}-\d\d-\d\d): \S", title)
        if not dated:
            yield f"{where}: the heading does not begin with a date, such as 2026-11-30: "
            continue
        if dates and dated[1] > dates[-1]:
            yield f"{where}: it is newer than the section before it"
        dates.append(dated[1])
        items = dict(re.findall(r"^\* (\w+): (\S.*(?:\n  .*)*)", section, re.M))
        yield from (f"{where}: it does not say its {name}" for name in SAYS if name not in items)
        if "seeds" in items and "spread: " not in items["seeds"]:
            yield f"{where}: seeds do not say their spread"
        if "commit" in items and not re.search(r"`[0-9a-f]{7,40}`", items["commit"]):
            yield f"{where}: commit names none"
        yield from (f"{where}: no figure in the row {row}" for row in _rows(section) if not _LINK.search(row))


def _rows(section: str) -> Iterator[str]:
    """The rows of its tables, without their headings."""
    lines = section.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and before.startswith("|") and line.strip("|-: "):
            yield line


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is wrong; the exit code is 1 if anything is."""
    given = sys.argv[1:] if arguments is None else arguments
    found = problems(pathlib.Path(given[0]) if given else ROOT)
    print("\n".join(found) if found else f"check_results: every figure of {PAGE} stands in its log")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
