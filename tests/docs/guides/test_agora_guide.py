"""The guide to Agora: its commands are ones that the command line takes, and what it says of defaults is true."""

import dataclasses
import pathlib
import re
import shlex
from typing import Any

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.agora import sets
from bertlite_jax.config.agora.settings import Agora, check_agora
from bertlite_jax.jobs.agora import agora
from bertlite_jax.jobs.finetuning import finetune

ROOT = pathlib.Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/agora.md").read_text(encoding="utf-8")
FENCED = "".join(re.findall(r"^```bash\n(.*?)^```", GUIDE, re.M | re.S)).replace("\\\n", " ")
LOOPS = [line for line in FENCED.splitlines() if line.startswith("bertlite agora")]


def arguments(line: str) -> list[str]:
    """A command of the page, with all that it leaves out."""
    rest = "--task rte --data GLUE --init BORT --teacher runs/large --workdir runs/agora"
    return shlex.split(line.replace("RECIPE ...", f"finetune_glue {rest}"))[1:]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    given: list[tuple[Any, ...]] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(agora, "agora", lambda *arguments: given.append(arguments) or {})
    return given


def test_every_loop_of_the_guide_can_be_started(called):
    assert len(LOOPS) == 4
    for line in LOOPS:
        assert main(arguments(line)) == 0
    for config, settings, *_ in called:
        check_agora(settings, config)
    assert [len(sets.every(config, settings)) for config, settings, *_ in called] == [12, 12, 8, 480]


def test_points_can_be_learnt_by_another_run(monkeypatch: pytest.MonkeyPatch):
    given: list[Any] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(finetune, "finetune", lambda *arguments: given.append(arguments[0]) or {})
    (line,) = [line for line in FENCED.splitlines() if line.startswith("bertlite finetune")]
    rest = "finetune_glue --task rte --data GLUE --init BORT --workdir runs/other"
    assert main(shlex.split(line.replace("RECIPE ...", rest))[1:]) == 0
    assert given[0].data.added_file == "runs/agora/points/round-003.jsonl"


def test_the_defaults_that_the_guide_names_are_the_defaults():
    named = re.findall(r"`(\w+)` \(([\d.]+)\)", GUIDE)
    assert len(named) > 6
    for name, value in named:
        assert float(value) == getattr(Agora(), name), name


def test_every_setting_is_explained():
    for field in dataclasses.fields(Agora):
        assert re.search(rf"`{field.name}`|`--agora\.{field.name.replace('_', '-')}", GUIDE), field.name
