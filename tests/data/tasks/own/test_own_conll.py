"""CoNLL-U and its relatives: which columns are words and tags, and which lines are no words.

Source of the format: https://universaldependencies.org/format.html.
"""

import gzip

import pytest
from task_files import counted, examples, own, put

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.own import conll, formats, reader
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs

SENTENCES = """\
# newdoc id = d1
# sent_id = s1
#free words, without a sign of equality
# text = Vámonos al mar.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\tv\tMood=Imp\t0\troot\t0:root\t_
2\tnos\tnosotros\tPRON\tp\t_\t1\tobj\t1:obj\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\ts\t_\t5\tcase\t5:case\t_
4\tel\tel\tDET\td\t_\t5\tdet\t5:det\t_
5\tmar\tmar\tNOUN\tn\tGender=Masc\t1\tobl\t1:obl:a\tSpaceAfter=No
6\t.\t.\tPUNCT\tf\t_\t1\tpunct\t1:punct\t_

# sent_id = s2
1\tSue\tSue\tPROPN\tn\t_\t2\tnsubj\t2:nsubj\t_
2\tlikes\tlike\tVERB\tv\t_\t0\troot\t0:root\t_
2.1\tlikes\tlike\tVERB\tv\t_\t_\t_\t0:root\tCopyOf=2
3\t10 000\t10 000\tNUM\tm\t_\t2\tobj\t2:obj\t_
""".splitlines()
WORDS = [("Vamos", "nos", "a", "el", "mar", "."), ("Sue", "likes", "10 000")]
UPOS = [("VERB", "PRON", "ADP", "DET", "NOUN", "PUNCT"), ("PROPN", "VERB", "NUM")]


def tags(path: str, **settings) -> list[tuple[str, ...]]:
    task = own(path, **settings)
    return [tuple(task.head.labels[tag] for tag in example.label) for example in examples(task, "")]  # type: ignore


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(path, **settings), "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["own.conllu", "own.conll", "own.txt", "own.tsv", "own.CONLLU", "own"])
def test_words_are_the_form_and_tags_the_upos_of_syntactic_words(tmp_path, name):
    """Words that are written together (1-2) and nodes that are not written (2.1) are no words to tag."""
    path = put(tmp_path, name, *SENTENCES)
    task = own(path)
    assert task.head.kind == "tag"
    assert [example.words for example in examples(task, "")] == WORDS
    assert tags(path) == UPOS
    counts = counted(task, "")
    assert (counts["multiword_tokens"], counts["empty_nodes"], counts["comments"]) == (2, 1, 5)
    assert task.survey
    assert "words in 'FORM', tags in 'UPOS'" in task.survey.in_words()[0]


def test_it_is_read_packed_and_with_the_line_ends_of_windows(tmp_path):
    path = tmp_path / "own.conllu.gz"
    path.write_bytes(gzip.compress("\r\n".join(["\ufeff" + SENTENCES[0], *SENTENCES[1:]]).encode()))
    assert tags(str(path)) == UPOS


@pytest.mark.parametrize(
    ("column", "first"),
    [("xpos", ("v", "p", "s", "d", "n", "f")), ("DEPREL", ("root", "obj", "case", "det", "obl", "punct"))],
)
def test_another_column_of_tags_can_be_named(tmp_path, column, first):
    assert tags(put(tmp_path, "own.conllu", *SENTENCES), label=column)[0] == first


def test_features_may_be_none(tmp_path):
    found = tags(put(tmp_path, "own.conllu", *SENTENCES), label="feats")
    assert found == [("Mood=Imp", "_", "_", "_", "Gender=Masc", "_"), ("_", "_", "_")]


def test_features_of_one_word_are_one_tag(tmp_path):
    """Although they are made of those of other words."""
    both, one, other = "Gender=Masc|Number=Sing", "Gender=Masc", "Number=Sing"
    lines = [
        row(str(n), "a").replace("NOUN\t_\t_", f"NOUN\t_\t{feats}") for n, feats in enumerate((both, one, other), 1)
    ]
    assert tags(put(tmp_path, "own.conllu", *lines, ""), label="feats") == [(both, one, other)]


def test_lemmas_can_be_the_words(tmp_path):
    assert examples(own(put(tmp_path, "own.conllu", *SENTENCES), text="lemma"), "")[0].words[0] == "ir"


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = put(tmp_path, "own.conllu", *SENTENCES)
    assert refused(path, label="pos").startswith(f"task: {path}: --data.label-column pos: no such column; it has: ID,")
    path = put(tmp_path, "own.conll", "EU B-ORG", "said O", "")
    assert "no such column; CoNLL columns have no names here" in refused(path, label="pos")


def test_a_sentence_without_annotation_has_no_tags(tmp_path):
    bare = [
        line if line.startswith("#") else "\t".join([*line.split("\t")[:3], *"_" * 7]) if line else line
        for line in SENTENCES
    ]
    path = put(tmp_path, "bare.conllu", *bare)
    assert "no tags; only a test split may lack them" in refused(path)
    task = own(put(tmp_path, "own.conllu", *SENTENCES), test=path)
    assert [(example.words, example.label) for example in examples(task, "", "test")] == [
        (each, None) for each in WORDS
    ]


def test_a_model_with_other_tags_reads_the_words(tmp_path):
    """The columns that its training data had need not be there."""
    unknown: dict[str, int] = {}
    path, head = put(tmp_path, "own.conllu", *SENTENCES), Head(kind="tag", labels=("O", "B-PER"))
    options = OwnOptions(text="tokens", label="ner")
    read = [example for _, example in reader.examples(path, head, options, counted(own(path), ""), unknown)]
    assert [example.words for example in read] == WORDS
    assert unknown["PROPN"] == 1


def test_columns_of_conllu_plus_are_those_it_lists(tmp_path):
    lines = ["# global.columns = ID FORM UPOS NER", "# sent_id = 1", "1\tBonn\tPROPN\tB-LOC", "2\tis\tAUX\tO", ""]
    path = put(tmp_path, "own.conllup", *lines)
    assert tags(path) == [("PROPN", "AUX")]
    assert tags(path, label="ner") == [("B-LOC", "O")]


def test_ten_columns_with_bio_tags_in_the_last_are_somebodys_own(tmp_path):
    lines = [
        "\t".join([str(n), word, *"abcdefg", tag]) for n, (word, tag) in enumerate([("EU", "B-ORG"), ("said", "O")], 1)
    ]
    path = put(tmp_path, "own.txt", *lines, "")
    assert tags(path) == [("B-ORG", "O")]
    assert examples(own(path), "")[0].words == ("EU", "said")


def test_the_columns_of_a_header_can_be_named(tmp_path):
    path = put(tmp_path, "own.conll", "word\tpos\tner", "EU\tNNP\tB-ORG", "said\tVBD\tO", "")
    assert tags(path) == [("B-ORG", "O")]
    assert tags(path, label="POS") == [("NNP", "VBD")]


def test_a_tag_that_cannot_be_is_named_with_its_word(tmp_path):
    path = put(tmp_path, "own.conllu", *SENTENCES)
    assert f"{path}:6: word 2: unknown label 'PRON'" in refused(path, label_names=("VERB", "X"))
    lines = [line.replace("\tPRON\t", "\t\u200b\t") for line in SENTENCES]
    assert ":7: an empty tag" in refused(put(tmp_path, "own.conllu", *lines))


def test_a_model_of_texts_refuses_it(tmp_path):
    """Its lines are no texts."""
    path = put(tmp_path, "own.conllu", *SENTENCES)
    with pytest.raises(UserError, match=r"^predict: .*own\.conllu: CoNLL columns have words with tags"):
        list(inputs.read(path, Head(labels=("x", "y"))))
    assert [example.words for example in inputs.read(path, Head(kind="tag", labels=("O", "X")))] == WORDS


def row(number: str, word: str, columns: int = 10) -> str:
    return "\t".join([number, word, "_", "NOUN", *"_" * (columns - 4)])


@pytest.mark.parametrize("before", [0, 200])
@pytest.mark.parametrize(
    ("lines", "at", "said"),
    [
        ([row("1", "a"), row("x", "b"), row("3", "c")], 2, "the number of the word is 'x', and 2 is expected"),
        ([row("1", "a"), row("1", "b")], 2, "the number of the word is '1', and 2 is expected; a blank line ends a"),
        ([row("1", "a"), row("3", "b")], 2, "the number of the word is '3', and 2 is expected"),
        ([row("1", "a"), row("2", "b"), row("3", "c", 9)], 3, "9 columns, and the lines before have 10"),
    ],
    ids=["no number", "no blank line", "a gap", "nine columns"],
)
def test_a_line_that_does_not_fit_is_refused_with_its_number(tmp_path, before, lines, at, said):
    """Wherever it is: one broken line does not make another format of the file."""
    good = [line for _ in range(before // 2) for line in (row("1", "a"), "")]
    path = put(tmp_path, "own.conllu", *good, *lines, "")
    assert f"{path}:{before + at}: {said}" in refused(path)


def test_a_column_that_is_there_twice_cannot_be_named(tmp_path):
    path = put(tmp_path, "own.conll", "word\tner\tner", "EU\tO\tB-ORG", "said\tO\tO", "")
    assert refused(path, label="ner").endswith("--data.label-column ner: 2 columns have this name")
    assert tags(path) == [("B-ORG", "O")]


# --- Comments of any form before a sentence --------------------------------------------------------------------------

FOUR = ("the DT B-NP O", "cat NN I-NP B-Actor", "", "a DT B-NP O", "dog NN I-NP B-Actor", "")
FOUR_WORDS = [("the", "cat"), ("a", "dog")]


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
    assert words(path) == FOUR_WORDS
    assert counted(own(path), "")["comments"] == sum(line.startswith("#") for line in comments)
    second = put(tmp_path, "second.conll", *rows[:3], *comments, *rows[3:])
    assert words(second) == FOUR_WORDS


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
