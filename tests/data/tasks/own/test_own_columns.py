"""Which column is suggested for the label, and what is said of one that has gaps."""

import pytest
from task_files import own, put

from bertlite_jax.errors import UserError


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        own(path, **settings)
    return str(caught.value)


def test_a_column_of_few_remarks_is_not_suggested_as_the_label(tmp_path):
    rows = [f"{number};a text;{number % 5},5;{'checked' if number < 3 else ''}" for number in range(20)]
    path = put(tmp_path, "a.csv", "Nr;Sentence1;Bewertung;Kommentar", *rows)
    assert refused(path).endswith("; pass --data.label-column Bewertung")


def test_all_gaps_are_counted_and_can_be_left_out(tmp_path):
    path = put(tmp_path, "a.csv", "text,score", *(f"t,{'' if number % 4 == 1 else number}" for number in range(12)))
    wanted = ":3: no label; only a test split may lack them, and 3 of 12 examples do; --data.skip-unlabelled leaves"
    assert wanted in refused(path, kind="regression")
    survey = own(path, kind="regression", skip_unlabelled=True).survey
    assert survey
    assert survey.examples == 9
    nothing = put(tmp_path, "b.csv", "text,score", "t,", "t,")
    assert refused(nothing, kind="regression", skip_unlabelled=True) == f"task: {nothing}: it has no label"
