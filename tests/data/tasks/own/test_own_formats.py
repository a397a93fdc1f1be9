"""People's own files are recognised: formats, delimiters, columns and kinds, whatever their names and line ends.

Cases B11, B15, B51, B52, B58 and B59 of public trackers: huggingface/datasets #1784, #6460, #622; flair #223.
"""

import gzip
import json

import pytest
from task_files import counted, examples, own, put

from bertlite_jax.data.tasks.own import formats
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

ROWS = [("A good, long film", "pos"), ("A bad one", "neg"), ("Middling", "pos")]


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(path, **settings), "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path: str, **settings) -> list[tuple[str, str]]:
    task = own(path, **settings)
    return [(example.text, task.head.labels[example.label]) for example in examples(task, "")]  # type: ignore[index]


def table(delimiter: str, header: str = "text,label", quote: bool = True) -> list[str]:
    rows = [(f'"{text}"' if quote and delimiter in text else text, label) for text, label in ROWS]
    return [header.replace(",", delimiter), *(delimiter.join(row) for row in rows)]


# --- Tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["own.csv", "own.txt", "own.dat"])
def test_the_delimiter_is_recognised_from_the_header(tmp_path, delimiter, name):
    assert read(put(tmp_path, name, *table(delimiter))) == ROWS


@pytest.mark.parametrize("header", ["Text,Label", "TEXT,LABEL", " text , label "])
def test_columns_are_found_in_any_case(tmp_path, header):
    assert read(put(tmp_path, "own.csv", *table(",", header))) == ROWS


def test_names_that_are_given_are_found_in_any_case_too(tmp_path):
    path = put(tmp_path, "own.csv", *table(";", "Review,Stars"))
    assert read(path, text="review", label="stars") == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_no_text(tmp_path, end, mark):
    lines = table(";")
    assert read(put(tmp_path, "own.csv", mark + lines[0], *lines[1:], end=end)) == ROWS


def test_a_delimiter_that_is_not_recognised_can_be_said(tmp_path):
    path = put(tmp_path, "own.csv", *table("~"))
    assert read(path, delimiter="~") == ROWS
    assert "something else divides the columns, name it with --data.delimiter" in refused(path)
    plain = put(tmp_path, "plain.csv", "text~label", "a~x", "b~y")
    assert "It has: text~label; if something else than the usual divides the columns, name it" in refused(plain)
    assert "must be one character" in refused(path, delimiter=";;")
    assert read(put(tmp_path, "tab.csv", *table("\t")), delimiter="tab") == ROWS


def test_what_spreadsheets_add_is_left_out(tmp_path):
    lines = ["sep=;", "text;label;;;", "a;x;;;", ";;;;", "b;y;;;"]
    path = put(tmp_path, "own.csv", *lines)
    assert read(path) == [("a", "x"), ("b", "y")]
    assert counted(own(path), "") == {"examples": 2, "blank_lines": 1}


def test_a_row_with_more_than_empty_fields_beyond_the_header_is_refused(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", "a,x", "b, and c,y")
    assert refused(path) == f"task: {path}:3: 3 fields, and the header has 2: text, label"


def test_columns_that_are_not_found_are_named_as_they_have_to_be_typed(tmp_path):
    path = put(tmp_path, "own.csv", "review,sentiment", *(f"{text.replace(',', '')},{label}" for text, label in ROWS))
    typed = "--data.text-column review --data.label-column sentiment"
    assert refused(path) == (f"task: {path}:1: which column is the text? It has: review, sentiment; pass {typed}")
    assert len(examples(own(path, text="review", label="sentiment"), "")) == 3
    path = put(tmp_path, "half.csv", "id,text,stars", "1,a b,3", "2,c d,4", "3,e f,3")
    assert refused(path).endswith("it has: id, text, stars; pass --data.label-column stars")
    path = put(tmp_path, "bare.csv", "A film that nobody liked at all in the whole wide world,neg", "Good,pos")
    assert refused(path).endswith("a table begins with a line that has the names of its columns")


def test_packed_files_are_unpacked(tmp_path):
    for name, lines in (("own.csv.gz", table(",")), ("own.jsonl.gz", [json.dumps({"text": "a", "label": "x"})])):
        (tmp_path / name).write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))
    assert read(str(tmp_path / "own.csv.gz")) == ROWS
    assert read(str(tmp_path / "own.jsonl.gz")) == [("a", "x")]
    (tmp_path / "cut.csv.gz").write_bytes((tmp_path / "own.csv.gz").read_bytes()[:-12])
    assert "truncated or damaged gz file" in refused(str(tmp_path / "cut.csv.gz"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.jsonl", "own.json", "own.txt", "own.conll"])
def test_utf16_is_told_how_to_convert_it(tmp_path, encoding, name):
    path = tmp_path / name
    path.write_bytes("text,label\na,x\n".encode(encoding))
    order = encoding.removeprefix("utf-16").replace("-", "")
    assert f"this is UTF-16{order.upper()}, not UTF-8; convert it: iconv -f utf-16{order}" in refused(str(path))
    path.write_bytes("text,label\na,x\n".encode(encoding.replace("16", "32")))
    assert f"this is UTF-32{order.upper()}, not UTF-8; convert it: iconv -f utf-32{order}" in refused(str(path))


@pytest.mark.parametrize("name", ["own.xlsx", "own.xls", "own.ods", "own.csv"])
def test_a_workbook_is_told_how_to_save_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 xl/workbook.xml")
    assert "save the sheet as CSV (UTF-8)" in refused(str(tmp_path / name))


# --- JSON ------------------------------------------------------------------------------------------------------------

OBJECTS = [{"text": text, "label": label} for text, label in ROWS]
WHOLE = {
    "list": json.dumps(OBJECTS),
    "pretty list": json.dumps(OBJECTS, indent=2),
    "pretty objects": "\n".join(json.dumps(each, indent=1) for each in OBJECTS),
    "under a name": json.dumps({"version": 1, "data": OBJECTS}, indent=1),
    "columns": json.dumps({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}),
    "columns of pandas": json.dumps(
        {
            "text": {str(place): text for place, (text, _) in enumerate(ROWS)},
            "label": {str(place): label for place, (_, label) in enumerate(ROWS)},
        }
    ),
    "lines": "\n".join(map(json.dumps, OBJECTS)),
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("form", WHOLE)
def test_json_may_be_written_in_any_form(tmp_path, form, suffix):
    assert read(put(tmp_path, f"own{suffix}", WHOLE[form])) == ROWS


def test_the_ids_of_a_list_are_its_numbers(tmp_path):
    task = own(put(tmp_path, "own.json", json.dumps(OBJECTS)))
    assert [example.id for example in examples(task, "")] == ["1", "2", "3"]
    listed = {"version": "1", "data": OBJECTS}
    assert read(put(tmp_path, "own.json", json.dumps(listed))) == ROWS


def test_a_list_within_an_example_is_part_of_it(tmp_path):
    record = {"text": "a", "label": "x", "entities": [{"start": 0}]}
    assert read(put(tmp_path, "own.json", json.dumps(record))) == [("a", "x")]
    assert read(put(tmp_path, "own.json", json.dumps(record, indent=1))) == [("a", "x")]


def test_an_element_of_a_list_is_known_by_its_line(tmp_path):
    path = put(tmp_path, "own.json", "[", ' {"text": "a", "label": "x"},', ' {"text": null, "label": "y"}', "]")
    assert refused(path) == f"task: {path}:3: 'text' holds null, not a string"
    path = put(tmp_path, "own.json", "[", ' {"text": "a", "label": "x"},', ' {"text": "b" "label": "y"}', "]")
    assert refused(path).startswith(f"task: {path}:3: not JSON: ")
    path = put(tmp_path, "own.json", '[{"text": "a", "label": "x"}, 7]')
    assert refused(path) == f"task: {path}:1: a JSON object is expected, not int"
    path = put(tmp_path, "own.json", '[{"text": "a", "label": "x"}')
    assert refused(path) == f"task: {path}:2: not JSON: the list has no end"
    assert "nested too deeply" in refused(put(tmp_path, "own.json", "[" + '{"a":' * 100_000))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("names", [("train", "test"), ("good", "bad"), ("data", "rest", "more")])
def test_several_lists_in_one_file_are_refused_by_name(tmp_path, names, indent):
    path = put(tmp_path, "own.json", json.dumps(dict.fromkeys(names, OBJECTS), indent=indent))
    message = refused(path)
    assert f"{path}: it holds {len(names)} lists of objects: {', '.join(map(repr, names))}; " in message
    assert read(put(tmp_path, "own.json", json.dumps({"train": OBJECTS, "test": []}))) == ROWS


@pytest.mark.parametrize("indent", [None, 1])
def test_names_beside_the_examples_are_pointed_out_where_labels_are_numbers(tmp_path, indent):
    numbered = [{"text": f"text {place}", "label": place % 2} for place in range(8)]
    made = {"labels": ["Gut", "Gar nicht"], "data": numbered}
    found = own(put(tmp_path, "own.json", json.dumps(made, indent=indent))).survey
    assert found
    line = "'labels' beside the examples is not read; --data.label-names Gut 'Gar nicht' names the labels"
    assert found.in_words()[-1] == line
    named = own(found.path, label_names=("Gut", "Gar nicht")).survey
    assert named
    assert line not in named.in_words()
    columns = {"text": ["a", "b"], "labels": ["0", "1"]}
    plain = own(put(tmp_path, "own.json", json.dumps(columns))).survey
    assert plain
    assert len(plain.in_words()) == 2


@pytest.mark.parametrize("form", ["under a name", "columns"])
def test_an_example_within_an_object_is_known_by_its_number(tmp_path, form):
    """Its line is not known, and is not 2."""
    made = [*OBJECTS[:1], {"text": None, "label": "x"}]
    columns = {name: [each[name] for each in made] for name in ("text", "label")}
    path = put(tmp_path, "own.json", json.dumps({"data": made} if form == "under a name" else columns, indent=2))
    assert f"task: {path}: record 2: 'text' holds null" in refused(path)
    twice = [{"id": 7, **each} for each in OBJECTS[:1] * 2]
    path = put(tmp_path, "own.json", json.dumps({"data": twice}, indent=2))
    assert f"task: {path}: record 2: the id '7' occurs twice, first in {path}: record 1" in refused(path)
    assert [each.id for each in examples(own(put(tmp_path, "own.json", json.dumps({"data": OBJECTS}))), "")] == [
        str(number) for number in range(1, len(OBJECTS) + 1)
    ]


def test_a_file_in_squads_layout_is_told_its_task(tmp_path):
    path = put(tmp_path, "own.json", json.dumps({"data": [{"paragraphs": []}], "version": "1"}))
    assert "--task squad1" in refused(path)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_is_read_with_the_names_of_its_classes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    labels = [1, 0, 1]
    made = pyarrow.table({"text": [text for text, _ in ROWS], "label": labels})
    parquet.write_table(made, tmp_path / "plain.parquet")
    assert read(str(tmp_path / "plain.parquet")) == [
        (text, str(label)) for (text, _), label in zip(ROWS, labels, strict=True)
    ]
    features = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    parquet.write_table(made.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "named.parquet")
    assert read(str(tmp_path / "named.parquet")) == ROWS
    tagged = pyarrow.table({"tokens": [["EU", "said"], ["Bonn"]], "ner_tags": [["B-ORG", "O"], ["B-LOC"]]})
    parquet.write_table(tagged, tmp_path / "tags.parquet")
    assert own(str(tmp_path / "tags.parquet")).head.kind == "tag"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    assert "cannot be read as Parquet" in refused(str(tmp_path / "bad.parquet"))


# --- Words with tags -------------------------------------------------------------------------------------------------

CONLL = ["-DOCSTART- -X- O", "", "EU NNP B-ORG", "said VBD O", "", "Bonn NNP B-LOC"]


@pytest.mark.parametrize("name", ["train.txt", "own.conll", "own.tsv", "own.bio", "own"])
@pytest.mark.parametrize("gap", [" ", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_conll_columns_are_recognised_without_a_kind(tmp_path, name, gap, mark):
    lines = [line.replace(" ", gap) for line in CONLL]
    task = own(put(tmp_path, name, mark + lines[0], *lines[1:]))
    assert (task.head.kind, task.head.labels) == ("tag", ("B-LOC", "B-ORG", "O"))
    assert [example.words for example in examples(task, "")] == [("EU", "said"), ("Bonn",)]


def test_a_header_numbers_of_words_and_comments_are_no_words(tmp_path):
    lines = ["# sent_id = 1", "1 EU NNP S-ORG", "2 said VBD O", "", "1 Bonn NNP S-LOC", "2 again RB O"]
    read_words = [example.words for example in examples(own(put(tmp_path, "own.conllu", *lines)), "")]
    assert read_words == [("EU", "said"), ("Bonn", "again")]
    headed = put(tmp_path, "own.txt", "word\ttag", "EU\tB-ORG", "said\tO", "", "Bonn\tB-LOC")
    assert [example.words for example in examples(own(headed), "")] == [("EU", "said"), ("Bonn",)]


def test_parts_of_speech_are_tags_too(tmp_path):
    task = own(put(tmp_path, "own.txt", "EU NNP", "said VBD", ". .", "", "Bonn NNP"))
    assert (task.head.kind, task.metrics) == ("tag", ("accuracy",))


def test_a_word_ends_at_the_tab_and_one_with_a_space_is_counted(tmp_path):
    """Flair #223, asahi417/tner #27: tabs and spaces in one file, a no-break space inside a word."""
    task = own(put(tmp_path, "own.txt", "New York\tB-LOC", "10\u00a0000\tO", "", "said O"))
    assert [example.words for example in examples(task, "")] == [("New York", "10\u00a0000"), ("said",)]
    assert counted(task, "") == {"examples": 2, "words_with_spaces": 1}


def test_lists_of_words_in_json_are_recognised_without_a_kind(tmp_path):
    for names in (("tokens", "tags"), ("words", "labels"), ("Tokens", "NER_tags")):
        path = put(tmp_path, "own.jsonl", dict(zip(names, (["EU", "said"], ["B-ORG", "O"]), strict=True)))
        task = own(path)
        assert (task.head.kind, task.head.labels) == ("tag", ("B-ORG", "O"))
    path = put(tmp_path, "empty.jsonl", {"tokens": ["a"], "tags": ["O"]}, {"tokens": [], "tags": []})
    assert refused(path) == f"task: {path}:2: no words to tag; leave the empty sentence out"


def test_plain_text_is_no_table(tmp_path):
    lines = ["Text, image and sound are three things.", "Sentence two, which is shorter.", "A third one"]
    path = put(tmp_path, "own.txt", *lines)
    assert formats.format_of(path, OwnOptions()) == "text"
    assert "plain text" in refused(path)
    for word in ("O", "B-LOC", "Bonn"):
        assert formats.format_of(put(tmp_path, "one.txt", word), OwnOptions()) == "text"


def test_zero_bytes_are_refused_in_csv_and_counted_elsewhere(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", "a\0b,x", "c,y")
    assert refused(path).startswith(f"task: {path}:2: a zero byte, which no text has")
    path = put(tmp_path, "own.tsv", "text\tlabel", "a\0b\tx", "c\ty")
    assert counted(own(path), "") == {"examples": 2, "texts_with_zero_bytes": 1}


# --- Characters that end no line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x0c", "\x85", "\x1c"])
@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.jsonl", "own.json"])
def test_only_line_feeds_end_lines(tmp_path, character, name):
    text = f"a{character}b"
    objects = [{"text": text, "label": "x"}, {"text": "c", "label": "y"}]
    whole = json.dumps(objects, ensure_ascii=False) if name == "own.json" else ""
    delimiter = "\t" if name == "own.tsv" else ","
    lines = [f"text{delimiter}label", f"{text}{delimiter}x", f"c{delimiter}y"]
    path = put(tmp_path, name, *([whole] if whole else objects if name == "own.jsonl" else lines))
    assert read(path) == [(text, "x"), ("c", "y")]
