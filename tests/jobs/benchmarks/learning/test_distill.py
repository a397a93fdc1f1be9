"""What a teacher costs, on models that are small enough for a test."""

import dataclasses
import json

import pytest
import tiny

from bertlite_jax.config.distillation.settings import untaught
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks.learning import distill


def recipe_of(config, folder):
    file = folder / "recipe.py"
    file.write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n", encoding="utf-8")
    return str(file)


def test_the_least_that_a_step_can_take_is_that_of_its_parts():
    """One step with live teachers does the student's work and the teachers'; one with a store the student's alone."""
    seconds = {distill.STUDENT: 2.0, distill.TEACHER: 1.0, distill.LIVE: 3.3, distill.STORED: 2.1}
    figures = distill.compare(seconds)
    assert figures["live_over_sum"] == pytest.approx(1.1)
    assert figures["stored_over_student"] == pytest.approx(1.05)
    assert figures["seconds"] == seconds


def test_a_step_has_the_rows_of_a_micro_batch_unless_told_otherwise(prepared, teacher, tmp_path):
    """The recipe's batch may have thousands of rows."""
    config = replaced(tiny.distil(prepared, teacher), "data.batch_rows", 4000)
    config = replaced(config, "optim.micro_batches", 125)
    opened = distill.open_recipe(recipe_of(config, tmp_path), (), (), "", 0)
    assert (opened.data.batch_rows, opened.optim.micro_batches) == (32, 1)
    assert distill.open_recipe(recipe_of(config, tmp_path), ("other",), (), "", 8).data.batch_rows == 8
    assert distill.open_recipe(recipe_of(config, tmp_path), ("other",), (), "", 8).distill.teachers == ("other",)


def test_the_student_alone_has_everything_of_the_recipe_but_the_teachers(prepared, teacher):
    config = tiny.distil(prepared, teacher)
    alone = untaught(config)
    assert type(alone) is Pretrain
    assert all(getattr(alone, field.name) == getattr(config, field.name) for field in dataclasses.fields(Pretrain))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "losses", [{}, {"cosine_weight": 0.0, "states_weight": 1.0, "attention_weight": 1.0}, {"soft_tokens": "all"}]
)
def test_all_four_programs_are_timed_whatever_is_learnt(losses, prepared, teacher, tmp_path, capsys):
    file, out = recipe_of(tiny.distil(prepared, teacher, **losses), tmp_path), tmp_path / "figures.json"
    figures = distill.bench_distill(file, rounds=1, steps=1, rows=8, top_k=4, out=str(out))
    assert list(figures["seconds"]) == [distill.STUDENT, distill.TEACHER, distill.LIVE, distill.STORED]
    assert min(figures["seconds"].values()) > 0
    assert json.loads(out.read_text(encoding="utf-8"))["seconds"] == figures["seconds"]
    assert f"{figures['live_over_sum']:.3f} of student and teachers together" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("albert_tiny", {}, "albert_tiny: config is a Pretrain; bench distill needs a Distill"),
        ("distil_bort", {"rounds": 0}, "--rounds 0 must be positive"),
        ("distil_bort", {"top_k": -1}, "--top-k -1 cannot be negative"),
        ("distil_bort", {}, "distill.teachers is empty; pass --teacher"),
    ],
)
def test_what_cannot_be_timed_is_refused(recipe, options, message):
    with pytest.raises(UserError, match=message):
        distill.bench_distill(recipe, **options)
