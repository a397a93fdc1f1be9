"""Points of a family by their names: what each says, which are usual, and which cannot be."""

from typing import Any

import pytest
import tiny

from bertlite_jax.config.compression.compress import (
    Compress,
    Point,
    check_compress,
    is_teacher,
    parsed,
    usual_points,
)
from bertlite_jax.errors import UserError

TWELVE = tiny.model(num_layers=12, share="none")


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("6-float32", Point(6)),
        ("12-7bit", Point(12, 1.0, 7)),
        ("6-1.5x-8bit", Point(6, 1.5, 8)),
        ("3-4x-4bit", Point(3, 4.0, 4)),
        ("3-2x-float32", Point(3, 2.0, 0)),
    ],
)
def test_a_name_says_layers_speed_and_arithmetic(name: str, point: Point):
    assert parsed(name) == point
    assert point.name == name


@pytest.mark.parametrize("name", ["", "6", "6-2x", "7bit", "6-7bits", "6-5bit", "6-2x-7bit-", "-6-7bit", "6-x-7bit"])
def test_what_is_no_name_is_told_with_examples(name: str):
    with pytest.raises(UserError, match=r"--points .* should be LAYERS-ARITHMETIC .* 6-2x-7bit"):
        parsed(name)


def test_usual_points_are_half_of_the_layers_ever_faster():
    assert [point.name for point in usual_points(TWELVE)] == [
        *("6-float32", "12-7bit", "6-7bit", "6-1.5x-7bit", "6-2x-7bit", "6-2x-4bit", "6-3x-7bit", "6-4x-7bit")
    ]


def test_of_layers_in_groups_each_keeps_equally_many():
    """Half of six layers in two groups is two layers: one and a half of each group is impossible."""
    assert {point.layers for point in usual_points(tiny.model(num_layers=6, share_groups=2))} == {2, 6}


def test_the_teacher_is_no_point_of_its_own_family():
    """Of a model with one layer, half of the layers is that layer."""
    single = tiny.model(num_layers=1)
    assert is_teacher(Point(1), single)
    assert [point.name for point in usual_points(single)][:2] == ["1-7bit", "1-1.5x-7bit"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": ("13-7bit",)}, "--points 13-7bit: the teacher has 12 layers"),
        ({"points": ("0-7bit",)}, "--points 0-7bit: the teacher has 12 layers"),
        ({"points": ("12-float32",)}, "is the teacher itself"),
        ({"points": ("6-7bit", "06-7bit")}, "the same model twice"),
        ({"points": ("6-1x-7bit",)}, "1x must be greater than 1x"),
        ({"rounding_rate": 0.0}, "--rounding-rate 0 must be greater than 0"),
        ({"rounding_rate": float("nan")}, "must be a finite number"),
        ({"examples": 0}, "--examples 0 must be at least 1"),
        ({"rounds": 0}, "--rounds 0 must be at least 1"),
        ({"threads": 3}, "--threads 3 must be at least 1 and at most 2"),
        ({"length": 17}, "--length 17 must be 0, or at least 3 and at most the teacher's 16 positions"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        check_compress(Compress(**changes), TWELVE, 2)


def test_groups_are_kept_whole():
    with pytest.raises(UserError, match="share in 2 groups, so the number of layers must be a multiple of 2"):
        check_compress(Compress(points=("3-7bit",)), tiny.model(num_layers=6, share_groups=2), 2)
