"""Labels and tags that people's programs write and that mean something else than a name.

From public trackers: huggingface/datasets #6778, NVIDIA/cudf #14547 (lists without commas), pandas-dev/pandas #10813
(lists without quotes), #16891 (tuples); numpy/numpy #23622; refuel-ai/autolabel #473 (quotes that take in rows);
huggingface/transformers #10449, pytorch/pytorch #1204 (-100 and -1 as labels); chakki-works/seqeval #23, #46, #67
(spellings of spans).
"""

from __future__ import annotations

import pytest
from task_files import examples, own, put, refusal

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.own.task import OwnTask
from bertlite_jax.errors import UserError


def texts_with(tmp_path, *cells: str, name: str = "own.csv") -> str:
    quoted = ['"{}"'.format(cell.replace('"', '""')) for cell in cells]
    return put(tmp_path, name, "text,label", *(f"text {place},{cell}" for place, cell in enumerate(quoted)))


def words(tmp_path, *tags: str) -> str:
    return put(tmp_path, "own.conll", *(f"word{place} {tag}" for place, tag in enumerate(tags)))


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        own(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(task: OwnTask) -> list:
    return [example.label for example in examples(task, "")]


# --- Lists in cells --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("[1. 0. 1.]", [1, 0, 1]),
        ("[1 0\n 1]", [1, 0, 1]),
        ("[ True False]", [True, False]),
        ("tensor([1, 0])", [1, 0]),
        ("array([1., 0.], dtype=float32)", [1, 0]),
        ("(1, 0)", [1, 0]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("['EU' 'said']", ["EU", "said"]),
        ("[\"don't\" 'x'\n 'y']", ["don't", "x", "y"]),
        ("['a', 'b']", ["a", "b"]),
        ("[]", []),
    ],
)
def test_a_list_in_a_cell_is_read_as_python_numpy_and_pytorch_write_it(cell, values):
    assert fields.listed(cell) == values


@pytest.mark.parametrize(
    "cell",
    ["(a)", "(1)", "[a, b]", "{'a': 1}", "{}", "['a' 'b' ... 'c']", "[1 2 ... 3]", "[", "it 'is' 'so'", "[007 1]"],
)
def test_other_cells_are_no_lists(cell):
    assert fields.listed(cell) is None


def test_vectors_of_numpy_are_several_labels(tmp_path):
    task = own(texts_with(tmp_path, "[1. 0. 1.]", "[0. 1. 0.]"))
    assert (task.head.problem, task.head.labels) == ("multi_label", ("0", "1", "2"))
    assert labels(task) == [(1, 0, 1), (0, 1, 0)]


def test_words_and_tags_in_arrays_of_numpy_stay_apart(tmp_path):
    """Python joins 'EU' 'said' to one string, and so it does their tags."""
    rows = ("\"['EU' 'said']\",\"['B-ORG' 'O']\"", "\"['Bonn']\",\"['B-LOC']\"")
    task = own(put(tmp_path, "own.csv", "tokens,tags", *rows))
    assert task.head.labels == ("B-LOC", "B-ORG", "O")
    assert [example.words for example in examples(task, "")] == [("EU", "said"), ("Bonn",)]


@pytest.mark.parametrize("cell", ["[a, b]", "{'a': 1, 'b': 0}", "[1 2 ... 9]", "tensor(1, device='cuda:0')"])
def test_a_label_that_is_a_list_which_nobody_can_read_is_asked_about(tmp_path, cell):
    path = texts_with(tmp_path, cell, "c")
    assert "looks like a list and cannot be read as one; write it as JSON" in refused(path)
    assert cell in own(path, kind="classify").head.labels
    assert own(texts_with(tmp_path, "[ENT]", "(none)")).head.labels == ("(none)", "[ENT]")


def test_rows_of_1_0_and_0_0_are_asked_about(tmp_path):
    assert "(0.0,1.0); one for each of several labels?" in refused(texts_with(tmp_path, "1.0,0.0", "0.0,1.0"))


@pytest.mark.parametrize("between", [" ", ";", "|", ",", ", "])
def test_rows_of_0_and_1_are_asked_about(tmp_path, between):
    path = texts_with(tmp_path, between.join("101"), between.join("011"))
    shown = between.strip() or " "
    assert f"({between.join('011')}); one for each of several labels? --data.kind multi_label" in refused(path)
    assert labels(own(path, kind="multi_label", separator=shown)) == [(1, 0, 1), (0, 1, 1)]
    assert own(texts_with(tmp_path, "1 0", "2 0")).head.labels == ("1 0", "2 0")


def test_lists_of_probabilities_are_no_names_of_labels(tmp_path):
    path = put(tmp_path, "own.jsonl", {"text": "a", "label": [0.9, 0.1]}, {"text": "b", "label": [0.2, 0.8]})
    for kind in ("auto", "multi_label"):
        assert "several labels are numbers with fractions (0.1 0.2 0.8 ..)" in refused(path, kind=kind)


# --- Quotes that take in rows ----------------------------------------------------------------------------------------


def test_a_label_that_took_in_a_row_is_refused(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", 'sure,"yes', 'maybe,no"', "ok,yes")
    assert refused(path) == (
        f"task: {path}:2: the label 'yes\\\\nmaybe,no' goes over several lines; is a quote missing, or one too many?"
    )


def test_a_text_that_took_in_a_row_is_told(tmp_path):
    rows = ("text,label", "fine,yes", '"sure,yes', 'maybe",no')
    survey = own(put(tmp_path, "own.csv", *rows)).survey
    assert survey
    assert any(note.startswith("the text of line 3 goes over several lines") for note in survey.notes)
    survey = own(put(tmp_path, "own.csv", "text,label", "fine,yes", '"sure, yes', 'maybe",no')).survey
    assert survey
    assert survey.notes == ()


def test_texts_that_pandas_wrote_for_none_are_counted(tmp_path):
    survey = own(put(tmp_path, "own.csv", "text,label", "nan,yes", "fine,no", "NaN,no")).survey
    assert survey
    assert survey.notes == ("2 texts are 'nan', which pandas writes where there is none; leave them out",)


def test_texts_that_were_encoded_twice_are_counted(tmp_path):
    """A spreadsheet opened the file in its own encoding and saved it: caf\u00e9 becomes caf\u00c3\u00a9."""
    twice = "caf\u00e9 \u201chere\u201d".encode().decode("windows-1252", "replace")
    survey = own(put(tmp_path, "own.csv", "text,label", f"{twice},yes", "caf\u00e9 \u00c3 S\u00c3O,no")).survey
    assert survey
    (note,) = survey.notes
    assert note.startswith("1 texts look like UTF-8 that was read in another encoding and saved again")


def test_a_second_text_that_is_not_read_is_named(tmp_path):
    """BoolQ's and FEVER's columns: the question alone would be classified."""
    rows = ("question,context,source,label", "is it,the long text,web,yes", "was it,another text,web,no")
    survey = own(put(tmp_path, "own.csv", *rows)).survey
    assert survey
    assert survey.notes == ("'context' not read; --data.pair-column context reads it as a second text",)
    survey = own(put(tmp_path, "own.csv", *rows), pair="context").survey
    assert survey
    assert survey.notes == ()


# --- No label --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-100, "-100", -100.0])
def test_100_below_0_is_no_label(tmp_path, value):
    rows = [{"text": str(place), "label": label} for place, label in enumerate([0, value, 1, 2])]
    path = put(tmp_path, "own.jsonl", *rows)
    assert "the label -100 (1) says that there is none" in refused(path)
    assert refused(path).endswith("--data.label-names 0 1 2 leaves it out")
    assert labels(own(path, label_names=("0", "1", "2"))) == [0, 1, 2]


def test_100_below_0_is_a_label_among_others_below_0(tmp_path):
    assert own(texts_with(tmp_path, "-100", "-50", "0", "50")).head.labels == ("-100", "-50", "0", "50")


def test_100_below_0_is_no_tag(tmp_path):
    path = put(tmp_path, "own.jsonl", {"tokens": ["EU", "sa", "id"], "tags": ["B-ORG", "O", "-100"]})
    assert "the tag -100 (1) says that there is none, as losses ignore it; give each whole word one tag" in refused(
        path
    )
    numbered = put(tmp_path, "n.jsonl", {"tokens": ["EU", "sa", "id"], "ner_tags": [1, 0, -100]})
    assert "word 3: unknown label '-100'" in refusal(own(numbered, label_names=("O", "B-ORG")), "")


@pytest.mark.parametrize("gap", ["#REF!", "#DIV/0!", "?", "NaT"])
def test_what_a_spreadsheet_writes_for_a_broken_formula_is_named(tmp_path, gap):
    survey = own(texts_with(tmp_path, "red", gap, "blue")).survey
    assert survey
    assert survey.notes == (f"taken as names of labels: {gap!r}; leave out examples that have no label",)


# --- Tags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [("B_ORG", "I_ORG"), ("ORG-B", "LOC-I"), ("ORG_B", "LOC_S"), ("B:ORG", "I:ORG")])
def test_spans_in_another_spelling_are_asked_about(tmp_path, tags):
    """They would be scored word by word, and nobody would be told."""
    path = words(tmp_path, *tags, "O")
    assert "look like spans in another spelling; only B- and I- before a name are read as spans" in refused(path)
    assert own(path, label_names=(*tags, "O")).metrics == ("accuracy",)


@pytest.mark.parametrize(
    "tags",
    [("NOUN", "VERB", "O"), ("B_ORG", "I_ORG"), ("B-ORG", "I_ORG", "O"), ("NN_B", "X", "O"), ("N-S", "V-S", "O")],
)
def test_other_tags_are_names(tmp_path, tags):
    assert own(words(tmp_path, *tags)).head.labels == tuple(sorted(tags))


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        (("B", "I", "O"), "the tags have no type, so that words are scored; B-X and I-X instead of B and I make spans"),
        (("0", "3", "5"), "tags are numbers; --data.label-names names them, in the order of 0, 1, .."),
        (("B-X", "O") * 600, "the longest sentence has 1,200 words; a blank line ends a sentence"),
        (("B", "M", "E", "S"), ""),
        (("B-X", "O", "X"), "the tags X have no B- or I- before them, so each word that has one is a span"),
        (("B-X", "O"), ""),
    ],
)
def test_tags_that_may_be_meant_otherwise_are_told(tmp_path, tags, note):
    survey = own(words(tmp_path, *tags)).survey
    assert survey
    assert survey.notes == ((note,) if note else ())


@pytest.mark.parametrize("outside", ["0", "OUT", "o", "_", "-X-", "NIL"])
def test_another_tag_in_place_of_o_is_refused(tmp_path, outside):
    """Each such word would be a span in the score: boun-tabi-LMG/turkish-lm-tuner #59, neuralmagic/deepsparse #742."""
    path = words(tmp_path, "B-PER", outside, outside, "I-PER")
    assert f"here they seem to have {outside!r} (2), which would make each a span" in refused(path)
    assert own(path, label_names=("B-PER", "I-PER", outside)).head.labels == ("B-PER", "I-PER", outside)


def test_ids_of_sentences_are_no_words(tmp_path):
    """MultiCoNER's have as many parts as a row, and WNUT's three."""
    lines = ("# id 5f-1 domain=train", "it _ _ O", "is _ _ B-X", "", "# id 5f-2", "so _ _ O")
    task = own(put(tmp_path, "own.conll", *lines))
    assert [example.words for example in examples(task, "")] == [("it", "is"), ("so",)]
    hashes = own(put(tmp_path, "hash.conll", "# O", "id B-X", "x O"))
    assert [example.words for example in examples(hashes, "")] == [("#", "id", "x")]
