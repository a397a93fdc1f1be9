"""Which of a teacher's layers a student keeps."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tiny

from bertlite_jax.config.compression.compress import Compress, Point
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.int8 import Quantise
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.jobs.benchmarks.sample_rows import random_weights
from bertlite_jax.jobs.compressing import students


@pytest.mark.parametrize(("keep", "layers"), [("alternate", [0, 2, 3]), ("first", [0, 1, 2]), ("last", [1, 2, 3])])
def test_layers_are_taken_from_the_teacher(keep: str, layers: list[int]):
    """And all the rest: embeddings, pooler, head."""
    teacher = random_weights(tiny.model(num_layers=4, share="none"))
    student = students.cut(teacher, 3, keep)
    assert student.model == dataclasses.replace(teacher.model, num_layers=3)
    for part, path in (("attention", "query"), ("ffn", "up")):
        ours, theirs = (each.params["layers"][part][path]["kernel"] for each in (student, teacher))
        np.testing.assert_array_equal(ours, theirs[layers])
    for part in ("embeddings", "pooler", "head"):
        assert student.params[part] is teacher.params[part]


def test_each_group_of_shared_layers_is_applied_less_often():
    """Of two groups applied twice each, both stay and are applied once; their own norms are those of layers 0 and 2."""
    teacher = random_weights(tiny.model(num_layers=4, share_groups=2, own_norms=True))
    student = students.cut(teacher, 2, "alternate")
    ours, theirs = (each.params["layers"] for each in (student, teacher))
    np.testing.assert_array_equal(ours["ffn"]["up"]["kernel"], theirs["ffn"]["up"]["kernel"])
    np.testing.assert_array_equal(ours["norms"]["ffn"]["scale"], theirs["norms"]["ffn"]["scale"][[0, 2]])


def test_rounded_weights_are_trained_with_smaller_steps():
    recipe = students.rounded_recipe(Finetune(optim=Optim(name="adamw", learning_rate=4e-5)), 0.25, 4)
    assert (recipe.optim.learning_rate, recipe.quantise) == (1e-5, Quantise(4))


def plan_of(*points: Point) -> students.Plan:
    teacher: Weights = random_weights(tiny.model(num_layers=4, share="none"))
    return students.Plan(Finetune(), Compress(), "run", teacher, pathlib.Path("out"), points, {})


def test_points_share_the_trainings_that_they_have_in_common():
    plan = plan_of(Point(2, 2.0, 7), Point(2, 2.0, 4), Point(2), Point(4, 1.0, 7), Point(4, 1.5, 0))
    found = {point.name: [str(each.run) for each in students.trainings(plan, point)] for point in plan.points}
    shared = ["out/students/2", "out/students/2-pruned-int8/2x"]
    assert found == {
        "2-2x-7bit": [*shared, "out/students/2-2x-7bit"],
        "2-2x-4bit": [*shared, "out/students/2-2x-4bit"],
        "2-float32": ["out/students/2"],
        "4-7bit": ["out/students/4-7bit"],
        "4-1.5x-float32": ["out/students/4-pruned-float32/1.5x"],
    }


def test_what_is_pruned_for_one_arithmetic_is_pruned_together():
    plan = plan_of(Point(2, 3.0, 7), Point(2, 2.0, 0), Point(2, 1.5, 4), Point(4, 2.5, 7), Point(2, 1.0, 7))
    settings = students.pruning_settings(plan, plan.points[0])
    assert (settings.speed_up, settings.products) == ((1.5, 3.0), "int8")
    assert students.pruning_settings(plan, plan.points[1]).products == "float32"
