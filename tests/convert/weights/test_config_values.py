"""A config with a value of another type is refused with the name of its key, before arithmetic fails on it."""

import pytest

from bertlite_jax.convert.weights.config_values import check_kinds
from bertlite_jax.errors import UserError

USUAL = {"layers": 12, "dropout": 0.1, "activation": "gelu"}


@pytest.mark.parametrize("values", [USUAL, {"layers": 1, "dropout": 0, "activation": "", "more": None}])
def test_values_of_the_usual_kind_pass(values):
    check_kinds(values, USUAL, "config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "12"}, "layers is '12'; it should be a value such as 12"),
        ({"layers": 12.0}, "layers is 12.0"),
        ({"layers": True}, "layers is True"),
        ({"dropout": None}, "dropout is None; it should be a value such as 0.1"),
        ({"activation": ["gelu"]}, r"activation is \['gelu'\]"),
    ],
)
def test_others_are_refused(change, message):
    with pytest.raises(UserError, match=f"^convert: config.json: {message}"):
        check_kinds(USUAL | change, USUAL, "config.json")
    with pytest.raises(UserError, match="layers is None"):
        check_kinds({"dropout": 0.1}, USUAL, "config.json")
