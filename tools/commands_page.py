"""Writes docs/commands.md from the `--help` of every job.

python tools/commands_page.py            writes the page
python tools/commands_page.py --check    says whether it is up to date
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

from bertlite_jax.cli.bench import BENCHMARKS
from bertlite_jax.cli.convert import FORMATS
from bertlite_jax.cli.job import Job, usage
from bertlite_jax.cli.main import JOBS, main
from bertlite_jax.cli.recipe import ACTIONS

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "commands.md"
WIDTH = "110"
"""Columns of the terminal: enough for each option's name and choices, too few for tyro to put boxes side by side."""
RECIPE = ("model", "data", "mask", "objective", "optim", "run")
"""Groups of a pretraining recipe; they are explained once, under `pretrain`."""
NESTED = {"recipes": ("ACTION", ACTIONS), "bench": ("BENCHMARK", BENCHMARKS), "convert": ("FORMAT", FORMATS)}
"""Jobs whose first argument names another one."""
OF_FINETUNING = ("data", "adapt", "head", "optim", "run", "learn", "quantise")
"""Groups of a recipe of fine-tuning, likewise."""
REPEATING = {
    **dict.fromkeys(("distill", "ablate", "search", "compile"), ("pretrain", RECIPE)),
    "teach": ("distill", (*RECIPE, "distill", "quantise")),
    **dict.fromkeys(("prune", "compress", "agora"), ("finetune", OF_FINETUNING)),
}
"""Jobs that take the options of a recipe as well: where these are explained, and their groups."""
MORE = {"compile": (("compile", "--table", "FILE"),)}
"""Further forms of a job that have a `--help` of their own."""

HEAD = """# Commands

Every job and every option of `bertlite`. This page is made from `--help` by `python tools/commands_page.py`; change
the help text and run it again. `pretrain`, `distill`, `teach`, `ablate`, `search`, `finetune`, `agora` and `compile`
take a recipe: a name that `bertlite recipes` lists, or a Python file of your own. What the recipe sets replaces the
defaults below, and options on the command line replace both. A switch such as `--data.pack` is turned off by
`--data.no-pack`.
"""


class Option(NamedTuple):
    """One option or positional argument."""

    names: str
    meaning: str
    default: str


class Box(NamedTuple):
    """A group of options."""

    title: str
    about: str
    options: list[Option]


class Help(NamedTuple):
    """What `--help` of one job says."""

    usage: str
    about: list[str]
    boxes: list[Box]


# --- Reading --help --------------------------------------------------------------------------------------------------


def help_of(*job: str) -> str:
    """What `bertlite JOB --help` prints, on a terminal of `WIDTH` columns without colours."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # tyro draws other boxes where there is no encoding.
    with (
        mock.patch.dict(os.environ, {"COLUMNS": WIDTH}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main([*job, "--help"])
    printed.seek(0)
    return printed.read()


def parse(text: str) -> Help:
    """The parts of tyro's help: usage, description, boxes of options."""
    before, *boxes = re.split(r"^╭─ (?=.*╮$)", text, flags=re.M)
    first, *paragraphs = before.strip().split("\n\n")
    called = " ".join(first.removeprefix("usage: ").split())
    return Help(called, [" ".join(each.split()) for each in paragraphs], [_box(box) for box in boxes])


def _box(text: str) -> Box:
    head, *lines = text.splitlines()
    inside = [line[2:-1].rstrip() for line in lines if line.startswith("│")]
    rule = next((number for number, line in enumerate(inside) if line and not line.strip("─")), None)
    about = [] if rule is None else inside[:rule]
    options = list(_options(inside[len(about) + (rule is not None) :]))
    return Box(head.split(" ─")[0], " ".join(about), [each for each in options if not each.names.startswith("-h,")])


def _options(lines: list[str]) -> Iterator[Option]:
    names, words = "", []
    for line in [*lines, "end"]:
        if line.startswith(" "):
            words.append(line.strip())
        elif names.startswith("-") and not line.startswith("-") and not words and line != "end":
            names += line  # Choices that are too long for one line.
        else:
            if names:
                yield _option(names, " ".join(words))
            names, _, rest = line.partition("  ")
            words = [rest.strip()] if rest.strip() else []


def _option(names: str, text: str) -> Option:
    found = re.fullmatch(r"(.*?) ?\((?:default: (.*)|(required))\)", text)
    if not found:
        return Option(names, text, "")
    return Option(names, found[1], found[3] or ("" if found[2] in ("", "''") else f"`{found[2]}`"))


# --- Writing the page ------------------------------------------------------------------------------------------------


def page() -> str:
    """The whole of docs/commands.md."""
    parts = [HEAD, _listing("bertlite", "JOB", JOBS)]
    for job in JOBS:
        parts.append(f"## bertlite {job.name}\n")
        if job.name in NESTED:
            placeholder, jobs = NESTED[job.name]
            parts.append(_listing(f"bertlite {job.name}", placeholder, jobs))
            for other in jobs:
                parts += [f"### bertlite {job.name} {other.name}\n", *_section(parse(help_of(job.name, other.name)))]
            continue
        other, groups = REPEATING.get(job.name, ("", ()))
        parts += _section(parse(help_of(job.name)), tuple(f"{group} options" for group in groups))
        if other:
            parts.append(f"The other options, those of the recipe, are those of `bertlite {other}`.\n")
        for form in MORE.get(job.name, ()):
            parts += [f"### bertlite {' '.join(form)}\n", *_section(parse(help_of(*form)))]
    return "\n".join(parts)


def _listing(command: str, placeholder: str, jobs: tuple[Job, ...]) -> str:
    return f"```\n{usage(command, placeholder, jobs)}\n```\n"


def _section(found: Help, again: tuple[str, ...] = ()) -> Iterator[str]:
    """Usage, description and a table for each box, except those that are explained elsewhere."""
    yield from (f"{_escaped(paragraph)}\n" for paragraph in found.about)
    yield f"```\n{found.usage}\n```\n"
    for box in found.boxes:
        if not box.options or box.title in again:
            continue
        if box.about:
            yield f"{_escaped(box.about)}\n"
        kind = "argument" if box.title == "positional arguments" else "option"
        rows = [(kind, "meaning", "default"), ("---", "---", "---")]
        rows += [(_code(each.names), _escaped(each.meaning), each.default.replace("|", "\\|")) for each in box.options]
        yield "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows) + "\n"


def _code(names: str) -> str:
    """Without the negative form of a switch, which the head of the page explains."""
    kept, *negative = names.split(", ")
    shown = kept if all("no-" in each for each in negative) else names
    return f"`{shown}`".replace("|", "\\|")


def _escaped(text: str) -> str:
    """Plain text in which Markdown finds no markup of its own; names in backticks stay."""
    parts = text.split("`")
    plain = (re.sub(r"([\\*_<|\[\]])", r"\\\1", part) for part in parts[::2])
    named = (part.replace("|", "\\|") for part in parts[1::2])
    return "`".join(part for part in itertools.chain(*itertools.zip_longest(plain, named)) if part is not None)


def run(arguments: list[str] | None = None) -> int:
    """Writes or checks the page. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = page()
    if not parser.parse_args(arguments).check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.name}: not what `--help` says today; run python tools/commands_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(run())
