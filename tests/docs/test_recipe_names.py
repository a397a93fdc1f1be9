"""Pages, docstrings and messages call the recipes of the package by name, as those without a clone have to."""

import pathlib
import re
import tomllib

from bertlite_jax.config import files

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "configs/*.py", "bertlite_jax/**/*.py", "tools/*.*", ".github/**/*.*")
    for path in sorted(ROOT.glob(pattern))
}
TAKE_RECIPES = "pretrain|distill|teach|ablate|search|finetune|agora|compile|recipes show|recipes copy"
PROSE = {"has"}
"""What follows the name of a job in a sentence: "what `bertlite finetune` has"."""


def found(pattern: str) -> set[tuple[str, str]]:
    """Each file, and what the pattern's group finds in it."""
    return {(name, each) for name, text in TEXTS.items() for each in re.findall(pattern, text)}


def test_no_recipe_of_the_package_is_named_by_a_path():
    assert len(TEXTS) > 300
    assert found(r"(configs/\w+\.py|(?:RECIPE|GRID|CONFIG)\.py)") == set()


def test_every_recipe_in_a_command_exists():
    typed = found(rf"bertlite (?:{TAKE_RECIPES}) ([a-z]\w*)(?=[ `\n])")
    assert {name for _, name in typed} >= {"albert_base", "finetune_glue", "distil_bort", "search_bort", "deep_shared"}
    known = files.shipped().keys() | PROSE
    assert [each for each in typed if each[1] not in known] == []


def test_every_extra_that_is_to_be_installed_exists():
    """Of an unknown one pip warns, and installs nothing."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = found(r"bertlite_jax(?:-[\w.]+\.whl)?\[([\w,]+)\]")
    assert len(named) > 8
    assert [each for each in named if not set(each[1].split(",")) <= extras.keys()] == []
