"""What `bertlite recipes` says of a recipe is true, and a copy of one is a recipe."""

import pathlib

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config import files, sizes
from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.ablation.members import members
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import Search
from bertlite_jax.errors import UserError
from bertlite_jax.jobs import recipes
from bertlite_jax.report.cost import flops

OF_QUICKSTART = ("deep_shared", "deep_shared_fast", *(name for name in files.shipped() if name.startswith("ablate_")))
OF_REFERENCE = ("reference_en", "ablate_teacher_or_steps", "ablate_distilbert")
PIECES = {"debug_cpu": 500, **dict.fromkeys(OF_QUICKSTART, 1000), **dict.fromkeys(OF_REFERENCE, 8000)}
"""Of the tokenizers that recipes without a published shape name in their commands."""
JOBS = {Pretrain: "pretrain", Distill: "distill", Finetune: "finetune", Search: "search", Grid: "ablate"}
NAMES = sorted(files.shipped())


def said(name: str) -> recipes.Recipe:
    return recipes.describe(name, recipes.text_of(name))


def sized(name: str, config: Pretrain) -> Pretrain:
    return sizes.resolve_sizes(config, PIECES[name]) if name in PIECES else sizes.published_sizes(config)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_started_by_the_job_of_its_kind(name):
    assert said(name).command == f"bertlite {JOBS[type(files.load_file(name))]} {name}"
    assert said(name).about.endswith((".", "?"))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_flop_are_those_of_its_settings(name):
    """FLOP of distillation depend on the teacher and are not repeated here; those of other kinds on the user's data."""
    config, recipe = files.load_file(name), said(name)
    if type(config) is Pretrain:
        config = sized(name, config)
        assert recipe.parameters == f"{flops.parameters(config.model)['total']:,}"
        assert recipe.flop == f"{flops.run_flops(config):.1e}"
    elif isinstance(config, Grid):
        runs = [sized(name, member.config) for member in members(config, name)]
        assert f"{max(flops.parameters(run.model)['total'] for run in runs):,}" == recipe.parameters
        of_all = f"{len(config.seeds) * sum(map(flops.run_flops, runs)):.1e}"
        assert recipe.flop == ("" if config.seconds else of_all)  # In a given time a faster machine does more.
    elif isinstance(config, Distill):
        assert float(recipe.flop) > 1e18
    else:
        assert recipe.flop == ""


def test_all_are_listed_pretraining_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("bertlite ") and "recipes" not in line] == [
        recipe.command.split()[2] for recipe in recipes.described()
    ]
    assert lines[0].split() == ["bertlite", "pretrain", "albert_base", "11,813,810", "parameters", "1.5e+20", "FLOP"]
    assert lines[1] == "    ALBERT base, version 2 (no dropout), by the paper's recipe. Version 1: ..."
    assert main(["recipes", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_one_is_shown_as_its_file_has_it(capsys):
    assert main(["recipes", "show", "bort"]) == 0
    assert capsys.readouterr().out == files.shipped()["bort"].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_the_same_recipe_and_its_commands_name_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", name, "mine/my.py"]) == 0
    assert files.load_file("mine/my.py") == files.load_file(name)
    text = pathlib.Path("mine/my.py").read_text(encoding="utf-8")
    job = JOBS[type(files.load_file(name))]
    assert f"    bertlite {job} mine/my.py " in text
    assert f"bertlite {job} {name} " not in text


def test_a_name_that_needs_quotes_is_not_written_into_a_docstring(tmp_path):
    for name in ('a""".py', "a b.py", "a\\N.py"):
        recipes.copy("albert_base", str(tmp_path / name))
        assert (tmp_path / name).read_text(encoding="utf-8") == recipes.text_of("albert_base")


def test_a_copy_replaces_nothing_unasked(tmp_path, capsys):
    out = tmp_path / "my.py"
    out.write_text("weeks of work")
    assert main(["recipes", "copy", "bort", str(out)]) == 2
    assert capsys.readouterr().err == f"recipes: {out} exists; pass --overwrite to replace it, or name another file\n"
    assert out.read_text() == "weeks of work"
    assert main(["recipes", "copy", "bort", str(out), "--overwrite"]) == 0
    assert files.load_file(str(out)) == files.load_file("bort")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "albert_bse"], "recipes: the package has no recipe albert_bse; did you mean albert_base, "),
        (["show", "qqq"], "recipes: the package has no recipe qqq; `bertlite recipes` lists them\n"),
        (["copy", "configs/bort.py", "my.py"], "recipes: the package has no recipe configs/bort.py; did you mean bort"),
        (["copy", "bort", "my.json"], "recipes: my.json does not end in .py; name a file such as my.json.py\n"),
        (["copy", "bort", "."], "recipes: . does not end in .py; name a file such as my.py\n"),
        (["copy", "bort"], "recipes: FILE.py is missing; bertlite recipes copy --help explains the options\n"),
        (["lst"], "recipes: unknown action lst; did you mean list?\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(line)
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config = (", r"^recipes: bort.py:1: '\(' was never closed"),
        ('"""Mine."""', r"^recipes: the docstring of bort.py has no line `bertlite JOB bort \.\.\.`"),
    ],
)
def test_a_recipe_that_was_changed_in_a_clone_is_named(text, message):
    with pytest.raises(UserError, match=message):
        recipes.describe("bort", text)
