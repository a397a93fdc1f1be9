"""The comparison with other projects: our commands are ones that the command line takes, and no cell is a guess.

What the page says of the other projects cannot be tested here; that each cell names where it was read, can.
"""

import contextlib
import pathlib
import re
import shlex
from typing import Any, NoReturn

import pytest

from bertlite_jax.cli.main import JOBS, main
from bertlite_jax.cli.options import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/compare.md").read_text(encoding="utf-8")
HEADER = ["what", "bertlite_jax", "transformers", "ModernBERT", "sentence-transformers", "MaxText"]
PREFIXES = ("t", "m", "s", "x")
"""First letters of the sources of the other projects, in the order of the columns."""
RECIPES = {
    "pretrain": "debug_cpu",
    "distill": "distil_distilbert",
    "teach": "distil_bort",
    "ablate": "ablate_residual_scale",
    "search": "search_bort",
    "finetune": "finetune_glue",
    "agora": "finetune_glue",
    "compile": "albert_base",
    "bench learn": "albert_base",
    "bench distill": "distil_distilbert",
    "bench finetune": "finetune_glue",
}
REST = {
    "tokenizer": "--out OUT",
    "corpus": "--tokenizer TOK --out OUT",
    **dict.fromkeys(("pretrain", "distill", "ablate", "search", "prune", "compress"), "--workdir WORKDIR"),
    "finetune": "--init ENCODER --workdir WORKDIR",
    "agora": "--init ENCODER --teacher RUN --workdir WORKDIR",
    "bench learn": "--workdir WORKDIR",
    "bench finetune": "--init ENCODER",
    "convert int8": "--calibrate TEXT",
    "convert ort": "--text TEXT",
}
"""What the commands of the page leave out."""


def tables() -> dict[str, list[list[str]]]:
    """The rows of each section that compares, without their header; a row is its cells."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
        if rows:
            assert rows[0] == HEADER, section.partition("\n")[0]
            found[section.partition("\n")[0]] = rows[2:]
    return found


TABLES = tables()
ROWS = [row for rows in TABLES.values() for row in rows]


def commands_of(cell: str) -> list[tuple[str, list[str]]]:
    """The commands in a cell: each without its options, and these. Options alone belong to the command before them."""
    found: list[tuple[str, list[str]]] = []
    for span in re.findall("`([^`]+)`", cell):
        if not span.startswith(("bertlite ", "--")):
            continue
        head, *given = re.split(" (?=--)", span) if span.startswith("bertlite ") else (found[-1][0], span)
        found.append((head, [option for part in given for option in re.split(" (?=--)", part)]))
    return found


def options_by_head() -> dict[str, list[str]]:
    """All options that the page gives to each command."""
    found: dict[str, list[str]] = {}
    for row in ROWS:
        for head, options in commands_of(row[1]):
            found.setdefault(head, []).extend(options)
    return found


OPTIONS = options_by_head()


def lines_of(head: str) -> list[str]:
    """Few command lines that have all options of a command, none of them twice in a line."""
    words = head.split()
    job = " ".join(words[1:3]) if words[1] in ("bench", "convert") else words[1]
    start = head.replace("RECIPE", RECIPES.get(job, ""))
    lines: list[dict[str, str]] = [{}]
    for option in OPTIONS[head]:
        name = option.split()[0]
        line = next((line for line in lines if line.get(name, option) == option), None)
        if line is None:
            lines.append(line := {})
        line[name] = option
    needed = {part.split()[0]: part for part in re.split(" (?=--)", REST.get(job, "")) if part}
    return [" ".join([start, *(needed | line).values()]) for line in lines]


class Parsed(BaseException):
    """The options of a job were read; the job itself is not done."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands whose options have been read by the parser of the command line."""
    progs: list[str] = []

    def read(kind: Any, args: Any, prog: str, **more: Any) -> NoReturn:
        parse(kind, args, prog, **more)
        progs.append(prog)
        raise Parsed

    monkeypatch.chdir(ROOT)
    for name in ("ablation", "compile", "compressing", "options", "runs", "searching", "tasks"):
        monkeypatch.setattr(f"bertlite_jax.cli.{name}.parse", read)
    return progs


@pytest.mark.parametrize("head", sorted(OPTIONS))
def test_the_command_line_takes_every_command_with_all_options(head, parsed, capsys):
    for number, line in enumerate(lines_of(head), 1):
        with contextlib.suppress(Parsed):
            main(shlex.split(line)[1:])
        assert len(parsed) == number, f"{line}\n{capsys.readouterr().err}"


def test_every_job_is_in_some_row():
    assert {job.name for job in JOBS} - {head.split()[1] for head in OPTIONS} == set()


def test_no_cell_is_empty_and_a_group_fits_on_a_screen():
    for title, rows in TABLES.items():
        assert 5 <= len(rows) <= 11, title
        for row in rows:
            assert len(row) == len(HEADER), row
            assert all(row), row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_our_cell_has_a_command_or_a_reason(row):
    if row in TABLES["Installation"] and not row[1].startswith("no"):
        return
    assert not row[1].startswith("no") or re.match(r"no: (\S+ ){4}", row[1]), row[1]
    assert row[1].startswith("no: ") or commands_of(row[1]), row[1]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_others_have_names_where_it_was_read(row):
    for cell, prefix in zip(row[2:], PREFIXES, strict=True):
        sources = re.findall(r"\[\^(\w)-", cell)
        assert set(sources) == (set() if cell == "not found" else {prefix}), cell


def test_every_source_is_used_and_public():
    text, definitions = PAGE.split("\n[^", 1)
    defined = re.findall(r"^\[\^([\w-]+)\]: (.*)$", "[^" + definitions, re.M)
    assert sorted(name for name, _ in defined) == sorted(set(re.findall(r"\[\^([\w-]+)\]", text)))
    for name, source in defined:
        assert "](https://github.com/" in source, name
