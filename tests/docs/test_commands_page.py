"""docs/commands.md says what `--help` says, on any terminal and without any optional package."""

import pathlib
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "tools/commands_page.py")
PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
OPTIONAL = (
    "apache_beam",
    "datasets",
    "gcsfs",
    "huggingface_hub",
    "jieba",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorflow",
    "torch",
    "transformers",
)


WITHOUT = f"""
import runpy, sys

class Finder:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {OPTIONAL} else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Finder, sys.meta_path)
sys.argv = ["commands_page.py", "--check"]
runpy.run_path({SCRIPT!r}, run_name="__main__")
"""
"""A process in which nothing optional is installed."""


@pytest.fixture(scope="module")
def tool():
    """What the script defines."""
    return runpy.run_path(SCRIPT)


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_page_is_what_help_says(tool, columns, monkeypatch):
    """If this fails: python tools/commands_page.py."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert tool["page"]() == PAGE


@pytest.mark.thorough
def test_no_optional_package_is_needed_to_make_it():
    """They are looked for when a job runs."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_option_is_explained():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) > 250
    unexplained = [row for row in rows if row.split(" | ")[1].strip() == ""]
    assert [row.split("`")[1].split()[0] for row in unexplained] == []
