"""Tables of scores, counted by hand."""

import pytest

from bertlite_jax.data.scores.span_scores import by_answer_length, by_question_word
from bertlite_jax.data.tasks.example import Example

ASKED = [
    Example("1", "In which year was it?", "", label=1, answers=(("1066", 0),)),
    Example("2", "Whose horse was it?", "", label=1, answers=(("the good old King", 0), ("the King", 0))),
    Example("3", "How many men came?", "", label=1, answers=(("a few thousand men", 0),)),
    Example("4", "How did it end?", "", label=0),
    Example("5", "Name the place.", "", label=1, answers=(("one two three four five six seven eight nine", 0),)),
]
SAID = {"1": "1066", "2": "King Harold", "3": "few thousand", "4": "", "5": "Hastings"}


def test_questions_are_grouped_by_their_first_question_word():
    table = by_question_word(ASKED, SAID)
    assert list(table) == ["who", "which", "how many", "how", "other"]
    assert table["which"] == {"questions": 1, "exact": 100.0, "f1": 100.0}
    assert table["who"]["f1"] == pytest.approx(200 / 3)  # "king harold" for "king": precision 1/2, recall 1
    assert table["how many"]["exact"] == 0.0
    assert table["how many"]["f1"] == pytest.approx(
        80
    )  # "few thousand" for "few thousand men": precision 1, recall 2/3


def test_questions_are_grouped_by_the_words_of_their_shortest_answer():
    table = by_answer_length(ASKED, SAID)
    assert {name: row["questions"] for name, row in table.items()} == {"none": 1, "1": 2, "3 to 4": 1, "9 to 16": 1}
    assert table["1"]["exact"] == 50.0
    assert table["none"]["exact"] == 100.0


def test_a_question_without_a_prediction_counts_as_wrong():
    assert by_question_word(ASKED[:1], {})["which"] == {"questions": 1, "exact": 0.0, "f1": 0.0}
