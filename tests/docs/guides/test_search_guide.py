"""The recipe in docs/search.md is one, and the settings and options that the page names exist."""

import pathlib
import re
import shlex
import typing

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.config.search.checks import check_search
from bertlite_jax.config.search.settings import CostModel, Search, Surrogate
from bertlite_jax.jobs import winner

PAGE = (pathlib.Path(__file__).resolve().parents[3] / "docs/search.md").read_text(encoding="utf-8")
GROUPS = "space|maximum|surrogate|cost|method|run|model|data|mask|optim"


def test_the_recipe_of_the_guide_can_be_searched(tmp_path):
    (recipe,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    (tmp_path / "mine.py").write_text(recipe)
    config = files.load_file(str(tmp_path / "mine.py"))
    assert type(config) is Search
    check_search(config)


def test_every_setting_that_the_guide_names_exists():
    named = set(re.findall(rf"`((?:{GROUPS})\.\w+)", PAGE))
    assert len(named) > 15
    assert named - set(files.flat(Search())) == set()


def test_every_source_of_latencies_and_every_error_is_explained():
    explained = set(re.findall(r"^ *\| `(\w+)` \|", PAGE, re.M))
    for kind, field in ((CostModel, "latency"), (Surrogate, "kind")):
        assert set(typing.get_args(typing.get_type_hints(kind)[field])) <= explained


def test_the_limit_of_the_guide_can_be_asked_for(monkeypatch):
    given: list[tuple] = []
    monkeypatch.setattr(winner, "find_and_distill", lambda *arguments: given.append(arguments))
    (line,) = [
        line for line in PAGE.replace("\\\n", " ").splitlines() if "--then distill" in line and "bertlite" in line
    ]
    assert main(shlex.split(line)[1:]) == 0
    (config, then, *_) = given[0]
    assert (config.method.most_seconds, config.cost.latency) == (0.005, "int8")
    assert then.distill.start == "random"
