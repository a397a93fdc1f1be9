"""docs/architecture.md leads to files that exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAP = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", MAP)))


@pytest.mark.parametrize("path", PATHS)
def test_a_place_on_the_map_exists(path):
    assert (ROOT / "bertlite_jax" / path).exists() or (ROOT / path).exists()


def test_every_room_is_on_the_map():
    """A folder of the package that it does not name is one that a newcomer does not find."""
    rooms = {folder.name for folder in (ROOT / "bertlite_jax").iterdir() if (folder / "__init__.py").is_file()}
    assert {room for room in rooms if f"{room}/" not in MAP} == set()
