"""A grid becomes members with names and references; whatever is wrong with it is one line before anything runs."""

import dataclasses

import pytest

from bertlite_jax.cli.ablation import overridden
from bertlite_jax.cli.main import main
from bertlite_jax.config import Distill, Distillation, Finetune, Grid, Pretrain, Run, files
from bertlite_jax.config.ablation.grid import Member
from bertlite_jax.config.ablation.members import members
from bertlite_jax.config.effects import replaced
from bertlite_jax.errors import UserError

BASE = replaced(Pretrain(run=Run(steps=100)), "optim.warmup_steps", 5)


def names_of(found: tuple[Member, ...]) -> list[tuple[str, str]]:
    return [(member.name, member.reference) for member in found]


def test_the_base_comes_first_and_variants_are_compared_with_it():
    grid = Grid(BASE, {"slow": {"optim.learning_rate": 1e-4}, "whole": replaced(BASE, "data.pack", False)}, seeds=(0,))
    base, slow, whole = members(grid, "g.py")
    assert names_of((base, slow, whole)) == [("base", ""), ("slow", "base"), ("whole", "base")]
    assert base.config == BASE
    assert slow.config == replaced(BASE, "optim.learning_rate", 1e-4)
    assert whole.config == replaced(BASE, "data.pack", False)


def test_distillation_is_compared_with_other_losses_and_with_no_teacher():
    """DistilBERT's table: without a loss, from random weights, without the teacher."""
    taught = Distillation(teachers=("teacher",))
    base = Distill(data=replaced(BASE, "data.pair_task", "none").data, optim=BASE.optim, run=BASE.run, distill=taught)
    alone = Pretrain(data=base.data, optim=BASE.optim, run=BASE.run)
    variants = {"no_cosine": {"distill.cosine_weight": 0.0}, "random": {"distill.start": "random"}, "alone": alone}
    found = members(Grid(base, variants, seeds=(0, 1, 2)), "g.py")
    assert names_of(found) == [("base", ""), ("no_cosine", "base"), ("random", "base"), ("alone", "base")]
    assert found[1].config == replaced(base, "distill.cosine_weight", 0.0)
    given = {"distill.start", "optim.learning_rate"}
    changed = replaced(replaced(base, "distill.start", "first"), "optim.learning_rate", 1e-5)
    grid = overridden(Grid(base, variants, seeds=(0,)), changed, given, "g.py")
    assert grid.base == changed
    assert grid.variants["alone"] == replaced(alone, "optim.learning_rate", 1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distill.teachers": ()}, "g.py: odd: distill.teachers is empty"),
        ({"distill.store": "store"}, "g.py: odd: distill.store has no place in a grid, since a store is of one seed"),
    ],
    ids=str,
)
def test_a_distillation_that_cannot_be_a_member_is_named(fields, message):
    base = Distill(optim=BASE.optim, run=BASE.run, distill=Distillation(teachers=("teacher",)))
    with pytest.raises(UserError, match=message):
        members(Grid(base, {"odd": fields}, seeds=(0,)), "g.py")


def test_with_axes_a_variant_is_compared_at_its_own_point_and_the_base_with_the_first():
    grid = Grid(BASE, {"slow": {"optim.learning_rate": 1e-4}}, {"model.num_layers": (2, 4)}, (0,))
    assert names_of(members(grid, "g.py")) == [
        ("base,num_layers=2", ""),
        ("slow,num_layers=2", "base,num_layers=2"),
        ("base,num_layers=4", "base,num_layers=2"),
        ("slow,num_layers=4", "base,num_layers=4"),
    ]


def test_several_axes_are_multiplied_and_values_of_any_kind_make_folder_names():
    axes = {"optim.name": ("lamb", "adamw"), "run.depths": ((), ((3, 20), (6, 50)))}
    found = members(Grid(BASE, axes=axes, seeds=(0,)), "g.py")
    assert [member.name for member in found] == [
        "base,name=lamb,depths=none",
        "base,name=lamb,depths=3-20-6-50",
        "base,name=adamw,depths=none",
        "base,name=adamw,depths=3-20-6-50",
    ]


def test_steps_are_those_of_the_grid_for_all():
    found = members(Grid(BASE, {"slow": {"optim.learning_rate": 1e-4}}, seeds=(0,), steps=7), "g.py")
    assert [member.config.run.steps for member in found] == [7, 7]


def test_lists_in_a_change_are_as_good_as_tuples():
    grid = Grid(BASE, {"deep": {"run.depths": [[3, 20], [6, 50]]}}, seeds=(0,))
    assert members(grid, "g.py")[1].config.run.depths == ((3, 20), (6, 50))


VARIANT = {"slow": {"optim.learning_rate": 1e-4}}
BAD = {
    "no seeds": ({"variants": VARIANT, "seeds": ()}, "seeds is empty; name at least one"),
    "a seed twice": ({"variants": VARIANT, "seeds": (1, 1)}, "has the same one twice"),
    "a negative seed": ({"variants": VARIANT, "seeds": (-1,)}, "seeds: -1 must be at least 0"),
    "no variants": ({}, "variants is empty; name at least one"),
    "a list of variants": ({"variants": ["slow"]}, "variants = ['slow'] should be a dict"),
    "an unknown field": (
        {"variants": {"x": {"model.hiden_size": 1}}},
        "x: unknown field 'model.hiden_size'; did you mean",
    ),
    "another kind": ({"variants": {"x": {"run.log_every": "2"}}}, "variants: x: run: log_every = '2' should be of the"),
    "no changes": ({"variants": {"x": 3}}, "x = 3 should be a dict of fields and values, or a Pretrain"),
    "a path as a name": ({"variants": {"../x": VARIANT["slow"]}}, "'../x' cannot be the name of a folder"),
    "the table's name": ({"variants": {"table.md": VARIANT["slow"]}}, "'table.md' cannot be the name of a folder"),
    "the base's name": ({"variants": {"Base": VARIANT["slow"]}}, "Base is the name of the base"),
    "one name on some disks": (
        {"variants": {"a": VARIANT["slow"], "A": {"run.log_every": 2}}},
        "two members are named a",
    ),
    "one config": ({"variants": {"same": {"data.pack": True}}}, "same is the same config as base"),
    "an empty axis": ({"axes": {"model.num_layers": ()}}, "model.num_layers = () should be a list of at least one"),
    "values with one name": ({"axes": {"optim.learning_rate": (1e-3, 0.001)}}, "two members are named"),
    "a number for an axis": ({"axes": {"model.num_layers": 3}}, "model.num_layers = 3 should be a list"),
    "an axis that is none": ({"axes": {"layers": (2, 3)}}, "axes: unknown field 'layers'"),
    "seeds as an axis": ({"axes": {"run.seed": (1, 2)}}, "axes: run.seed is set by seeds"),
    "steps twice": ({"variants": {"x": {"run.steps": 9}}, "steps": 7}, "variants: x: run.steps is set by steps"),
    "both budgets": ({"variants": VARIANT, "steps": 7, "seconds": 9.0}, "cannot be combined"),
    "less than no time": ({"variants": VARIANT, "seconds": -1.0}, "must be at least 0"),
    "a shape that cannot be": ({"variants": {"x": {"model.num_heads": 7}}}, "x: model.num_heads = 7 does not divide"),
    "too many processes": ({"variants": {"x": {"run.distributed": True}}}, "x: run.distributed has no place in a grid"),
    "a task that is none": ({"variants": VARIANT, "task": 5}, "task = 5 should be of the kind Finetune"),
    "a task without data": ({"variants": VARIANT, "task": Finetune()}, "task has neither data.task nor data.folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_grid_that_cannot_be_is_refused_in_one_line(name):
    fields, said = BAD[name]
    with pytest.raises(UserError) as refused:
        members(dataclasses.replace(Grid(BASE, seeds=(0,)), **fields), "g.py")
    assert str(refused.value).startswith("config: g.py: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# --- On the command line ---------------------------------------------------------------------------------------------

HEAD = "from bertlite_jax.config import *\n"
FILES = {
    "a pretraining recipe": ("config = Pretrain()", "config is a Pretrain, ablate needs a Grid"),
    "a name twice": (
        "config = Grid(variants={\n 'a': {'data.pack': False},\n 'a': {}}, seeds=(1,))",
        ":4: 'a' stands twice",
    ),
    "a base of another kind": ("config = Grid(base=Finetune())", "should be of the kind Pretrain"),
    "seeds as a number": ("config = Grid(seeds=3)", "seeds = 3 should be a list"),
    "no seeds": ("config = Grid(variants={'a': {'data.pack': False}})", "seeds is empty"),
    "no tokenizer": (
        "config = Grid(variants={'a': {'data.pack': False}}, seeds=(1,))",
        "base: config: data.tokenizer is",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_holds_no_grid_is_refused_in_one_line(name, tmp_path, capsys):
    content, said = FILES[name]
    file = tmp_path / "g.py"
    file.write_text(HEAD + content)
    assert main(["ablate", str(file), "--workdir", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_a_file_the_command_names_an_example(capsys):
    assert main(["ablate"]) == 2
    said = capsys.readouterr().err
    example = said.split("for example ")[1].strip()
    assert isinstance(files.load_file(example), Grid)


def test_options_change_the_base_and_whole_configs():
    """Variants that are changes follow their base."""
    grid = Grid(BASE, {"slow": VARIANT["slow"], "whole": replaced(BASE, "data.pack", False)}, seeds=(0,))
    base = replaced(BASE, "data.length", 64)
    found = members(overridden(grid, base, {"data.length"}, "g.py"), "g.py")
    assert [member.config.data.length for member in found] == [64, 64, 64]


@pytest.mark.parametrize("field", ["run.seed", "run.steps", "model.num_layers"])
def test_an_option_that_the_grid_decides_is_refused(field):
    grid = Grid(BASE, axes={"model.num_layers": (2, 4)}, seeds=(0,), steps=7)
    with pytest.raises(UserError, match=f"{field} is set by"):
        overridden(grid, BASE, {field}, "g.py")
