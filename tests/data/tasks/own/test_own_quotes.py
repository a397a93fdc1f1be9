"""Quotes in tables with tabs are quoting where they explain the whole file, and characters elsewhere.

pandas and Python's csv module write quotes around what holds a tab, a quote or a line break. GLUE's
files know no quoting.
"""

import csv

import pytest
from task_files import counted, examples, own, put

from bertlite_jax.data.tasks.own import formats
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

ODD = [("Plain", "neg"), ('He said "no"', "neg"), ("two\nlines\n\nand one", "pos"), ("a\ttab", "pos"), (' "', "neg")]


def read(path: str, **settings) -> list[tuple[str, str]]:
    task = own(path, **settings)
    return [(example.text, task.head.labels[example.label]) for example in examples(task, "")]  # type: ignore[index]


@pytest.mark.parametrize("name", ["own.tsv", "own.txt", "own.tab", "own.csv", "own"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("rows", [ODD, ODD[2:] + ODD[:2]])
def test_what_csv_writes_is_read_back(tmp_path, name, quoting, rows):
    with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", quoting=quoting).writerows([("text", "label"), *rows])
    assert read(str(tmp_path / name), kind="classify") == [(text.strip(), label) for text, label in rows]


def test_both_readings_fit_a_row_of_quoted_words_and_the_quotes_are_taken_off_and_counted(tmp_path):
    path = put(tmp_path, "own.tsv", "text\tlabel", '"Great movie"\tpos', "so so\tneg", '"A ""classic"""\tpos')
    assert read(path, kind="classify") == [("Great movie", "pos"), ("so so", "neg"), ('A "classic"', "pos")]
    counts = counted(own(path, kind="classify"), "")
    assert counts["fields_without_the_quotes_around_them"] == 2


def test_quoted_names_of_columns_leave_no_doubt_and_nothing_is_said(tmp_path):
    path = put(tmp_path, "own.tsv", '"text"\t"label"', '"Great movie"\t"pos"', '"so so"\t"neg"')
    assert read(path, kind="classify") == [("Great movie", "pos"), ("so so", "neg")]
    assert "fields_without_the_quotes_around_them" not in counted(own(path, kind="classify"), "")


@pytest.mark.parametrize(
    "lone",
    [
        ['"never ends\tpos', "fine\tneg"],
        ['"ends early" he said\tpos', "fine\tneg"],
        ['"begins here\tpos', 'and ends there"\tneg'],
        ['"\tpos', "between\tneg", '"\tpos'],
        ['"quoted"\tpos', '"never ends\tneg'],
    ],
)
@pytest.mark.parametrize("name", ["own.tsv", "own.csv"])
def test_lone_quotes_are_characters_and_join_no_rows(tmp_path, name, lone):
    path = put(tmp_path, name, "text\tlabel", *lone)
    assert read(path, kind="classify") == [tuple(line.split("\t")) for line in lone]
    assert not counted(own(path, kind="classify"), "").keys() & {"fields_without_the_quotes_around_them"}


def test_a_file_that_neither_reading_explains_is_refused_with_the_quote_that_is_odd(tmp_path):
    path = put(tmp_path, "own.tsv", "text\tlabel", '"two', 'lines"\tpos', '"odd" one\tneg')
    with pytest.raises(UserError) as caught:
        read(path, kind="classify")
    assert f"{path}:2: 1 fields, and the header has 2: text, label; its quotes are read as characters" in str(
        caught.value
    )
    assert f"{path}:4: 'tab' expected after '\"'" in str(caught.value)


def test_a_quoted_header_of_a_text_file_is_recognised_although_its_first_text_has_two_lines(tmp_path):
    path = put(tmp_path, "own.txt", '"text";"label"', '"two', 'lines";"pos"', '"one";"neg"')
    assert formats.format_of(path, OwnOptions()) == "table"
    assert read(path, kind="classify") == [("two\nlines", "pos"), ("one", "neg")]


@pytest.mark.parametrize("odd", ["\r", "\0", "\x0b", "\u2028", 'a"', '"', "x" * 200_000])
def test_no_character_of_a_first_line_hinders_the_recognition(tmp_path, odd):
    assert formats.format_of(put(tmp_path, "own.txt", f"a{odd}b", "c"), OwnOptions()) == "text"
    assert read(put(tmp_path, "own.tsv", "text\tlabel", f"a{odd}b\tx", "c\ty"), kind="classify")[0][0] == f"a{odd}b"


@pytest.mark.parametrize("given", ["\\t", "tab", "\t"])
def test_a_tab_may_be_named_in_three_ways(tmp_path, given):
    path = put(tmp_path, "own.txt", "text\tlabel", '"a\tb"\tpos', "c\tneg")
    assert formats.format_of(path, OwnOptions(delimiter=given)) == "table"
    assert read(path, delimiter=given, kind="classify") == [("a\tb", "pos"), ("c", "neg")]
