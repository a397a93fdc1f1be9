"""Comments of any form before a sentence of CoNLL columns are left out; tweets that begin with a `#` are read."""

import pytest
from task_files import counted, examples, own, put

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.own import conll, formats
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs

FOUR = ("the DT B-NP O", "cat NN I-NP B-Actor", "", "a DT B-NP O", "dog NN I-NP B-Actor", "")
WORDS = [("the", "cat"), ("a", "dog")]


def words(path: str, **settings) -> list[tuple[str, ...]]:
    return [example.words for example in examples(own(path, **settings), "")]


@pytest.mark.parametrize(
    "comments",
    [
        ("# exported by annotool 2.1", "# columns: FORM POS CHUNK NER", ""),
        ("# exported",),
        ("# exported", ""),
        ("# one two three", ""),
        ("#one two three four", "#", "##", ""),
        ("# exported by annotool 2.1", "# text = the cat"),
        ("-DOCSTART- -X- -X- O", "# chapter", ""),
        ("#form pos chunk ner",),
    ],
)
@pytest.mark.parametrize("name", ["own.conll", "own.txt", "own"])
@pytest.mark.parametrize("tabs", [False, True])
def test_what_stands_before_a_sentence_is_a_comment(tmp_path, comments, name, tabs):
    rows = [line.replace(" ", "\t") for line in FOUR] if tabs else FOUR
    path = put(tmp_path, name, *comments, *rows)
    assert formats.format_of(path, OwnOptions()) == "columns"
    assert conll.width_of(path) == 4
    assert words(path) == WORDS
    assert counted(own(path), "")["comments"] == sum(line.startswith("#") for line in comments)
    second = put(tmp_path, "second.conll", *rows[:3], *comments, *rows[3:])
    assert words(second) == WORDS


def test_tweets_keep_their_first_word(tmp_path):
    lines = ("#\tO", "1\tO", "", "#Bonn\tB-LOC", "#rain\tO", "again\tO", "", "so\tO", "#\tO", "")
    path = put(tmp_path, "own.conll", "# from a tool", *lines)
    assert words(path) == [("#", "1"), ("#Bonn", "#rain", "again"), ("so", "#")]
    assert counted(own(path), "")["comments"] == 1


def test_a_part_of_speech_that_others_have_makes_a_word(tmp_path):
    path = put(tmp_path, "own.conll", "# NN", "1 CD", "", "# two", "number NN", "two CD", "")
    assert words(path) == [("#", "1"), ("number", "two")]


def test_words_without_tags_may_begin_with_the_sign(tmp_path):
    path = put(tmp_path, "new.conll", "# of the second week", "#Bonn", "again", "", "#", "1", "")
    read = inputs.read(path, Head(kind="tag", labels=("O", "B-LOC")))
    assert [example.words for example in read] == [("#Bonn", "again"), ("#", "1")]


def test_inside_a_sentence_it_is_no_comment(tmp_path):
    path = put(tmp_path, "own.conll", *FOUR[:1], "# a note on the cat", *FOUR[1:])
    with pytest.raises(UserError) as caught:
        words(path)
    assert str(caught.value).endswith(
        ":2: 6 columns, and the lines before have 4; a comment stands before the first word of a sentence"
    )


def test_the_columns_of_a_header_are_found_below_comments(tmp_path):
    path = put(tmp_path, "own.conll", "# exported by a tool", "word pos ner", "EU NNP B-ORG", "said VBD O", "")
    assert words(path, label="pos") == [("EU", "said")]
