"""docs/architecture.md leads to files that exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAP = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:\w+/)+)`", MAP)) | set(re.findall(r"(?:\w+/)+\w+\.(?:py|md)", MAP)))
"""Folders in backticks, and files wherever they are named, the picture included."""


@pytest.mark.parametrize("path", PATHS)
def test_a_place_on_the_map_exists(path):
    assert (ROOT / "bertlite_jax" / path).exists() or (ROOT / path).exists()


def test_the_map_has_a_picture_and_eight_files_to_start_with():
    assert re.search(r"^```\n(?:.*\n)*?.*data/rows/batches.py(?:.*\n)*?.*convert/bundle.py", MAP, re.M)
    first = re.search(r"## Read these eight files first\n\n((?:\d\. .*\n)+)", MAP)
    assert first
    assert len(re.findall(r"^\d\. `[\w/]+\.py`:", first[1], re.M)) == 8


def test_every_room_is_on_the_map():
    """A newcomer does not find a folder of the package that the map does not name."""
    rooms = {folder.name for folder in (ROOT / "bertlite_jax").iterdir() if (folder / "__init__.py").is_file()}
    assert {room for room in rooms if f"{room}/" not in MAP} == set()
