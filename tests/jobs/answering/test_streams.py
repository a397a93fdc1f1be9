"""Tables and CoNLL columns that come through a pipe: their lines are no texts, so nothing of them is answered."""

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.tasks.own.streams import plain_lines
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs

CLASSES = Head(labels=("neg", "pos"))
TAGS = Head(kind="tag", labels=("I-LOC", "NOUN", "O", "."))
TRAINED = OwnOptions(text="Anfrage", label="Abteilung")

Given = Callable[..., list[str]]


@pytest.fixture
def given(monkeypatch) -> Given:
    """Reads a text from standard input."""

    def read(content: str, head: Head = CLASSES, options: OwnOptions = TRAINED) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        return [example.text for example in inputs.read("-", head, options)]

    return read


@pytest.mark.parametrize(
    "header",
    [
        "Ticket-Nr.;Anfrage;Abteilung",
        "\ufeffTicket-Nr.;Anfrage;Abteilung\r",
        '"Nr","anfrage"',
        "Nr\tANFRAGE",
        "Nr|Anfrage",
        "id, Anfrage",
        "sentence,label",
        "text;rating",
    ],
)
def test_a_header_with_a_column_of_the_run_or_a_usual_one_is_a_table(given, header):
    with pytest.raises(
        UserError, match=r"^predict: standard input:1: .*table \(it names the column '\w+'\).* --input FILE$"
    ):
        given(f"{header}\n9001,where is it\n")


def test_blank_lines_before_a_header_and_the_first_line_of_excel(given):
    with pytest.raises(UserError, match=r"standard input:2: .* a table"):
        given("\nNr;Anfrage\n1;where is it\n")
    with pytest.raises(UserError, match=r"standard input:1: .*table \(it says what divides the columns\)"):
        given("sep=;\nNr;Anfrage\n1;where is it\n")
    with pytest.raises(UserError, match="a table"):
        given("Nr#Anfrage\n1#where is it\n", options=OwnOptions(text="Anfrage", delimiter="#"))


@pytest.mark.parametrize(
    "lines",
    [
        ["yes, text and label, both", "a, b;c|d"],
        ["Text, image and sound.", "Anfrage, bitte"],
        ["Anfrage", "1;2;3"],
        ["a\tb", "1;Anfrage;3"],
        ["type O", "vitamin B-12 is a vitamin", "type O"],
        ["A fine film .", "", "A bad film .", "A long film ."],
        ["-DOCSTART-s are lines"],
    ],
)
@pytest.mark.parametrize("head", [CLASSES, TAGS])
def test_texts_that_merely_contain_such_signs_are_read(given, lines, head):
    assert given("\n".join(lines), head) == lines


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("\n-DOCSTART- -X- O\n\nin O\n", 2),
        ("in O\nNew I-LOC\nYork I-LOC\n", 3),
        ("# sent_id = 1\nso O\n\nin O\n\n# sent_id = 3\nRome I-LOC\n", 7),
        ("token pos\nIt O\nis O\n. O\n", 4),
        ("in IN B-PP\nRome NN B-NP\n. . O\n", 3),
        ("Rome NOUN\nItaly NOUN\n. .\n", 3),
        ("1\tRome\tRome\tPROPN\t_\t_\t0\troot\t_\t_\n", 1),
    ],
)
def test_columns_of_words_and_tags_are_refused(given, content, line):
    with pytest.raises(UserError, match=f"^predict: standard input:{line}: .* CoNLL columns, .* --input FILE$"):
        given(content, TAGS)


def test_columns_are_refused_by_a_model_of_texts(given):
    with pytest.raises(UserError, match="CoNLL columns"):
        given("in O\nNew I-LOC\nYork I-LOC\n", CLASSES)


def test_objects_are_not_looked_at(given):
    assert given('{"Anfrage": "a, text, label"}\n{"Anfrage": "b"}\n') == ["a, text, label", "b"]


def test_a_named_pipe_is_a_stream(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("Nr;Anfrage\n1;where is it\n"))
    writer.start()
    with pytest.raises(UserError, match=r"pipe.csv:1: .* a table .*through a pipe"):
        list(inputs.read(str(pipe), CLASSES, TRAINED))
    writer.join()


def test_each_line_is_passed_on_before_the_next_is_read():
    """Whoever types texts waits for no second line."""
    read: list[int] = []

    def typed() -> Iterator[tuple[int, str]]:
        for number in range(1, 200):
            read.append(number)
            yield number, f"text {number}, O"

    for number, _ in plain_lines(typed(), TRAINED, ("O",), "standard input"):
        assert read[-1] == number
        if number == 2:
            break
