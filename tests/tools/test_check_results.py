"""Every figure of RESULTS.md stands in its log, and one that does not is found."""

import json
import pathlib
import runpy

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools/check_results.py"))
PAGE = """# Results

## 2026-11-30: a run

* commit: `08b8dd8`
* host: a machine
* command: `bertlite pretrain
  RECIPE`
* seeds: 0, 1; spread: none

| what | figure |
|---|--:|
| loss | [4.105](docs/results/run.json#/losses/1) |
| share | [62.5 %](docs/results/run.json#/of%20all~1pairs) |

## 2026-11-29: an older one

* commit: `1234567`
* host: a machine
* command: `bertlite`
* seeds: 0; spread: unknown with one seed

It took [1,200](docs/results/run.json#/seconds) seconds.
"""
LOG = {"losses": [5.0, 4.1049], "of all/pairs": 0.625, "seconds": 1199.7, "name": "run"}


@pytest.fixture
def found(tmp_path):
    """`found(old, new)` gives the problems of a page in which `new` stands for `old`."""
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "docs/results/run.json").write_text(json.dumps(LOG))

    def problems(old: str = "", new: str = "") -> list[str]:
        assert old in PAGE
        (tmp_path / "RESULTS.md").write_text(PAGE.replace(old, new, 1))
        return TOOL["problems"](tmp_path)

    return problems


def test_every_figure_of_ours_stands_in_its_log():
    assert TOOL["problems"](ROOT) == []


def test_a_figure_is_its_logs_number_at_the_decimals_that_it_shows(found):
    assert found() == []
    for value, shown in ((0.625, "62.5 %"), (0.625, "63 %"), (0.625, "62 %"), (4.1049, "4.1"), (-0.05, "-0.1")):
        assert TOOL["rounds_to"](value, shown)
    for value, shown in ((0.625, "62.4 %"), (4.1049, "4.106"), (4.1049, "4"), (1199.7, "1,199"), (0.1, "-0.1")):
        assert TOOL["rounds_to"](value, shown) == (shown == "4")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4.105", "4.106", "the log has 4.1049 there"),
        ("4.105", "four", "four is no figure"),
        ("/losses/1", "/losses/2", "the log has nothing there"),
        ("/losses/1", "/loss", "the log has nothing there"),
        ("/losses/1", "/losses", "the log has [5.0, 4.1049] there, which is no number"),
        ("/losses/1", "/name", "the log has 'run' there, which is no number"),
        ("run.json#/losses", "other.json#/losses", "there is no such log"),
        ("[4.105](docs/results/run.json#/losses/1)", "4.105", "no figure in the row | loss | 4.105 |"),
        ("## 2026-11-29: an", "## An", "the heading does not begin with a date"),
        ("## 2026-11-29", "## 2026-12-01", "it is newer than the section before it"),
        ("* host: a machine\n", "", "it does not say its host"),
        ("; spread: none", "", "seeds do not say their spread"),
        ("`08b8dd8`", "the newest", "commit names none"),
    ],
)
def test_what_is_wrong_is_a_line(found, old, new, message):
    (line,) = found(old, new)
    assert line.startswith("RESULTS.md: ")
    assert message in line


def test_a_log_that_no_figure_names_is_found(found, tmp_path):
    (tmp_path / "docs/results/left.json").write_text("{}")
    assert found() == ["docs/results/left.json: no figure of RESULTS.md is in this log"]
