"""The section of docs/tasks.md on datasets: its commands are ones that the command line takes."""

import pathlib
import re
import shlex
from typing import Any

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.host.places import in_datasets

ROOT = pathlib.Path(__file__).resolve().parents[3]
SECTION = (ROOT / "docs/tasks.md").read_text(encoding="utf-8").partition("\n## Datasets\n")[2].partition("\n## ")[0]
COMMANDS = [line for line in SECTION.splitlines() if line.startswith("bertlite ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_takes_every_command(command, monkeypatch, capsys):
    called: list[Any] = []

    def pretended(*arguments: Any, **named: Any) -> dict[str, Any]:
        called.append(arguments)
        return {}

    monkeypatch.setattr("bertlite_jax.jobs.text.corpus.build_corpus", pretended)
    monkeypatch.setattr("bertlite_jax.jobs.finetuning.finetune.finetune", pretended)
    assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert len(called) == 1
    for place in filter(in_datasets, shlex.split(command)):
        assert hub_datasets.parse(place, "corpus").split in ("train", "test")


def test_the_table_has_what_can_be_asked_for():
    assert len(COMMANDS) == 2
    rows = re.findall(r"^\| `(\w+)` \|", SECTION, re.M)
    assert rows == list(hub_datasets.Source._fields[2:])
