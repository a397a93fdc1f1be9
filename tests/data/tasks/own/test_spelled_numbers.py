"""Numbers of a regression as people write them: decimal points and commas, signs between thousands, currencies."""

import statistics

import pytest
from task_files import examples, own, put

from bertlite_jax.errors import UserError

KINDS = [("own.csv", ","), ("own.csv", ";"), ("own.tsv", "\t")]


def column(folder, *cells: str, name: str = "own.csv", delimiter: str = ";") -> str:
    quote = '"' if name == "own.csv" else ""
    rows = (f"text {place}{delimiter}{quote}{cell}{quote}" for place, cell in enumerate(cells))
    return put(folder, name, f"text{delimiter}score", *rows)


def refusal(read) -> str:
    with pytest.raises(UserError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def numbers(path: str, **settings) -> list:
    return [example.label for example in examples(own(path, kind="regression", **settings), "")]


@pytest.mark.parametrize(("name", "delimiter"), KINDS)
@pytest.mark.parametrize(
    ("cells", "whole", "fraction", "sign"),
    [
        (["2.540", "22.044", "260"], "2540", "2.540", "."),
        (["20,327", "-1,500"], "20327", "20.327", ","),
        (["260", "1.234", "0"], "1234", "1.234", "."),
    ],
)
def test_a_column_that_may_have_signs_between_thousands_is_asked_about(
    tmp_path, name, delimiter, cells, whole, fraction, sign
):
    path = column(tmp_path, *cells, name=name, delimiter=delimiter)
    first = next(cell for cell in cells if sign in cell)
    message = refusal(lambda: numbers(path))
    assert f"is the label {first!r} {whole} or {fraction}? Three digits follow on each {sign!r}" in message
    assert f"or pass --data.decimal {sign} if it is the decimal sign" in message
    assert numbers(path, decimal=sign) == [float(cell.replace(",", ".")) for cell in cells]
    other = "," if sign == "." else "."
    assert "is the label" in refusal(lambda: numbers(path, decimal=other))


@pytest.mark.parametrize("sign", [".", ","])
@pytest.mark.parametrize(
    "cells",
    [
        ["0.125", "0.250", "0.875"],
        ["0.125", "1.250", "12.500"],
        ["1.234", "1.2"],
        ["1.234", "12.34567"],
        ["1234.567", "1.234"],
    ],
)
def test_digits_that_are_no_thousands_make_decimals_of_the_column(tmp_path, cells, sign):
    path = column(tmp_path, *(cell.replace(".", sign) for cell in cells))
    assert numbers(path) == [float(cell) for cell in cells]


def test_what_the_training_file_shows_counts_for_the_validation_file(tmp_path):
    train = column(tmp_path, "1.234", "2.5")
    (tmp_path / "more").mkdir()
    task = own(train, column(tmp_path / "more", "1.234", "2.345"), kind="regression")
    assert [example.label for example in examples(task, "", "validation")] == [1.234, 2.345]
    other = own(train, column(tmp_path / "more", "1,234"), kind="regression")
    assert "is the label '1,234' 1234 or 1.234?" in refusal(lambda: examples(other, "", "validation"))


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        (["2.540,79"], "remove the thousands separator and write a decimal point instead of the comma: 2540.79"),
        (["16,950.21"], "remove the thousands separator: 16950.21"),
        (["1'234.50"], "remove the thousands separator: 1234.50"),
        (["1 234,5"], "remove the thousands separator and write a decimal point instead of the comma: 1234.5"),
        (["$20490.55"], "leave out '$': 20490.55"),
        (["260,56 EUR"], "leave out 'EUR' and write a decimal point instead of the comma: 260.56"),
        (
            ["2.540,79 €"],
            "leave out '€', remove the thousands separator and write a decimal point instead of the comma: 2540.79",
        ),
    ],
)
def test_other_spellings_are_refused_with_the_number_as_it_is_to_be_written(tmp_path, cells, advice):
    message = refusal(lambda: numbers(column(tmp_path, *cells)))
    assert message.endswith(f":2: the label {cells[0]!r} is not a finite number; {advice}")


@pytest.mark.parametrize("cells", [["1.234.567", "260"], ["2.540", "2,5"], ["2,541", "12.5"]])
def test_signs_that_can_only_stand_between_thousands_are_to_be_removed(tmp_path, cells):
    message = refusal(lambda: numbers(column(tmp_path, *cells)))
    assert "between thousands, which is not read: remove it" in message


def test_numbers_of_json_have_their_point_whatever_their_digits(tmp_path):
    path = put(tmp_path, "own.jsonl", {"text": "a", "score": 1.234}, {"text": "b", "score": 22.044})
    assert numbers(path) == [1.234, 22.044]


# --- Size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [["200", "22600"], ["1990", "2010", "2020"]])
def test_numbers_that_a_head_hardly_reaches_are_told_with_their_mean_and_deviation(tmp_path, cells):
    found = own(column(tmp_path, *cells), kind="regression").survey
    assert found
    values = [float(cell) for cell in cells]
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    assert f"train on (label - {mean:.4g}) / {deviation:.4g} in their place" in found.in_words()[-1]


@pytest.mark.parametrize("cells", [["0", "5", "2.5"], ["0", "30"], ["0.90", "0.95"], ["-3", "19.5"]])
def test_usual_scores_are_learnt_as_they_are(tmp_path, cells):
    found = own(column(tmp_path, *cells), kind="regression").survey
    assert found
    assert found.notes == ()
