"""Which of a trained model's outputs a label means: by a name that was said, the model's own, or a number from 0."""

import pytest

from bertlite_jax.data.tasks.own.labels import Names

STARS = ("terrible", "poor", "ok", "good", "great")
OWN = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize("spelled", ["3", "3.0", "03", "ok", "OK"])
def test_a_label_is_one_of_the_models_own_names_before_it_is_a_number_from_0(spelled):
    assert Names(STARS, numbered=True, own=OWN).index(spelled) == 2
    assert Names(STARS, numbered=True).index("3") == 3


def test_names_that_were_said_go_before_the_models_own():
    for name in ("pos", "Pos"):
        assert Names(("neg", "pos"), numbered=True, own=("pos", "neg")).index(name) == 1
    swapped = Names(("0", "1", "2"), numbered=True, own=("1", "2", "3"))
    assert [swapped.index(name) for name in ("0", "1", "2", "3")] == [0, 1, 2, None]


@pytest.mark.parametrize(("names", "other"), [(("1", "2", "3"), "0"), (("-1", "0", "1"), "2")])
def test_numbers_do_not_count_from_0_where_names_are_other_numbers(names, other):
    """Otherwise 0 and 1 would both be the first of 1, 2 and 3."""
    found = Names(names, numbered=True)
    assert [found.index(name) for name in names] == [0, 1, 2]
    assert found.index(other) is None
    assert Names(("a", "b", "c"), numbered=True, own=names).index(other) is None


def test_names_without_meaning_leave_numbers_as_they_are():
    unnamed = Names(("no", "yes"), numbered=True, own=("LABEL_0", "LABEL_1"))
    assert [unnamed.index(name) for name in ("0", "1", "LABEL_1", "yes")] == [0, 1, 1, 1]


def test_a_label_that_is_kept_secret_is_none_whatever_the_names_are():
    assert Names(STARS, numbered=True, own=OWN).lacks_label("-1")
    assert not Names(STARS).lacks_label("-1")
