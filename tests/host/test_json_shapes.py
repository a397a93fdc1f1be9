"""The first part of a JSON value that has another shape is named by its key."""

from types import NoneType

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host.json_shapes import NUMBER, check

SHAPE = {
    "name": str,
    "sizes": [int],
    "pair": [str, NUMBER],
    "best?": (*NUMBER, NoneType),
    "inner": {"a": {}, ...: NUMBER},
}
RIGHT = {"name": "x", "sizes": [1, 2], "pair": ["a", 0.5], "inner": {"a": {"any": [None, "b"]}, "b": 1}}


def test_what_has_the_shape_passes():
    check(RIGHT, SHAPE, "f.json", "report")
    check(RIGHT | {"best": None, "more": [1]}, SHAPE, "f.json", "report")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name should be a string"),
        ({"sizes": [1, 2.5]}, r"sizes\[1\] should be a whole number"),
        ({"sizes": {}}, "sizes should be a list"),
        ({"sizes": [True]}, r"sizes\[0\] should be a whole number"),
        ({"pair": ["a"]}, "pair should be a list of 2"),
        ({"pair": ["a", float("nan")]}, r"pair\[1\] should be a finite number"),
        ({"best": "1"}, "best should be a whole number or null"),
        ({"best": 10**400}, "best should be a finite number"),
        ({"inner": {"b": 1}}, r"inner\.a is missing"),
        ({"inner": {"a": {}, "b": "x"}}, r"inner\.b should be a whole number"),
        ({"more": {"x": float("inf")}}, r"more\.x should be a finite number"),
    ],
)
def test_what_has_not_is_named(change, said):
    with pytest.raises(UserError, match=f"^report: f.json: {said}"):
        check(RIGHT | change, SHAPE, "f.json", "report")


def test_deep_nesting_is_refused():
    value: list = []
    for _ in range(500):
        value = [value]
    with pytest.raises(UserError, match="nested too deeply"):
        check({"deep": value}, {}, "f.json", "report")
