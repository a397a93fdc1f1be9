"""Files of questions: each layout is read, and what is wrong is counted or refused."""

import json
import pathlib
from collections import Counter

import pytest

from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_inputs

CONTEXT = "In 1889 the tower opened. In 1890 it closed."


def squad(folder: pathlib.Path, *qas: dict, context: str = CONTEXT, name: str = "dev.json") -> str:
    content = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(qas)}]}]}
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def question(identity="q1", text="When?", answers=(("1889", 3),), **more) -> dict:
    given = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": identity, "question": text, "answers": given, **more}


def refusal(path: str) -> str:
    with pytest.raises(UserError) as caught:
        list(questions.read([path]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Layouts -----------------------------------------------------------------------------------------------------


def test_the_layout_of_squad_is_read(tmp_path):
    path = squad(tmp_path, question(), question("q2", "Who?", (), is_impossible=True))
    assert list(questions.read([path])) == [
        Example("q1", "When?", CONTEXT, label=1, answers=(("1889", 3),)),
        Example("q2", "Who?", CONTEXT, label=0),
    ]


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = pathlib.Path(squad(tmp_path, question()))
    lines = tmp_path / "own.jsonl"
    lines.write_text(json.dumps(question(context=CONTEXT)), encoding="utf-8")
    for file in (path, lines):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert [example.id for example in questions.read([str(file)])] == ["q1"]


def test_a_test_set_without_answers_is_unlabelled(tmp_path):
    notes = questions.Notes()
    path = squad(tmp_path, {"id": "q", "question": "When?"}, {"id": "r", "question": "Who?", "is_impossible": True})
    assert [example.label for example in questions.read([path], notes)] == [None, 0]
    assert notes.counts == {"questions": 2, "unlabelled": 1, "without_answer": 1}


def test_the_first_layout_of_cmrc_2018_is_read(tmp_path):
    """Its answers have no offsets: the first place counts."""
    path = tmp_path / "cmrc2018_dev.json"
    qas = [{"query_id": "DEV_0_QUERY_0", "query_text": "何时？", "answers": ["1889年", "1889年开放"]}]
    content = [{"context_id": "DEV_0", "context_text": "铁塔于1889年开放。", "title": "铁塔", "qas": qas}]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    notes = questions.Notes()
    (example,) = questions.read([str(path)], notes)
    assert example.answers == (("1889年", 3), ("1889年开放", 3))
    assert notes.counts["placed_answers"] == 2
    assert not notes.lines


def test_a_question_a_line_is_read_in_both_forms_of_answers(tmp_path):
    path = tmp_path / "own.jsonl"
    columns = {"text": ["1889", "1890"], "answer_start": [3, 29]}
    listed = [{"text": "1890", "answer_start": 29}]
    lines = [
        json.dumps({"id": 7, "question": "When?", "context": CONTEXT, "answers": columns}),
        "",
        json.dumps({"id": "8", "question": "And then?", "context": CONTEXT, "answers": listed}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    examples = list(questions.read([str(path)]))
    assert [(e.id, e.answers) for e in examples] == [("7", (("1889", 3), ("1890", 29))), ("8", (("1890", 29),))]


def test_questions_without_ids_are_numbered_and_empty_qas_are_nothing(tmp_path):
    """cdqa-suite/cdQA-annotator #35, deepset-ai/FARM #241."""
    nameless = {"question": "When?", "answers": [{"text": "1889", "answer_start": 3}]}
    content = {"data": [{"paragraphs": [{"context": "x", "qas": []}, {"context": CONTEXT, "qas": [nameless] * 2}]}]}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [(e.id, e.answers) for e in questions.read([str(path)])] == [
        ("1", (("1889", 3),)),
        ("2", (("1889", 3),)),
    ]


@pytest.mark.parametrize("form", ["lines", "list", "data"])
def test_questions_with_their_contexts_are_read_in_any_json(tmp_path, form):
    """What `datasets` exports: `to_json` writes an object a line under any name."""
    flat = [{"question": f"{n}?", "context": CONTEXT, "answers": {"text": ["1889"], "answer_start": [3]}} for n in "ab"]
    path = tmp_path / "train.json"
    whole = {"lines": "\n".join(map(json.dumps, flat)), "list": json.dumps(flat), "data": json.dumps({"data": flat})}
    path.write_text(whole[form], encoding="utf-8")
    read = list(questions.read([str(path)]))
    assert [(e.id, e.text, e.answers) for e in read] == [("1", "a?", (("1889", 3),)), ("2", "b?", (("1889", 3),))]
    notes = questions.Notes()
    one = questions.of_record(flat[0], 7, "here:7", notes)
    assert (one.id, one.label, notes.counts["answers"]) == ("7", 1, 1)


ARTICLES = [{"title": title, "paragraphs": [{"context": CONTEXT, "qas": [question(title)]}]} for title in "ab"]
WITHOUT_DATA = {
    "list of articles": (ARTICLES, ["a", "b"]),
    "list of paragraphs": ([part for article in ARTICLES for part in article["paragraphs"]], ["a", "b"]),
    "one article": (ARTICLES[0], ["a"]),
    "one paragraph": (ARTICLES[0]["paragraphs"][0], ["a"]),
    "one question": ({"id": "a", "question": "When?", "context": CONTEXT}, ["a"]),
    "paragraphs as data": ({"data": ARTICLES[0]["paragraphs"]}, ["a"]),
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", WITHOUT_DATA)
def test_what_lies_within_squads_data_is_read_by_itself(tmp_path, form, indent):
    content, ids = WITHOUT_DATA[form]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8")
    assert [example.id for example in questions.read([str(path)])] == ids
    assert [example.id for example in span_inputs.read(str(path), Counter())] == ids


@pytest.mark.parametrize(
    ("given", "answers", "label"),
    [
        ({"answer": "1889"}, (("1889", 3),), 1),
        ({"answer": "In", "answer_start": 26}, (("In", 26),), 1),
        ({"answer": {"text": "In", "answer_start": 26}}, (("In", 26),), 1),
        ({"answers": [], "is_impossible": "false"}, (), 0),
        ({"is_impossible": "true"}, (), 0),
        ({"is_impossible": ""}, (), None),
        ({"answer": None}, (), None),
    ],
)
def test_one_answer_and_words_for_true_and_false_are_understood(tmp_path, given, answers, label):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"question": "When?", "context": CONTEXT} | given), encoding="utf-8")
    (example,) = questions.read([str(path)])
    assert (example.answers, example.label) == (answers, label)


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("1889", (("1889", 3),)),
        ("\"{'text': ['In'], 'answer_start': [26]}\"", (("In", 26),)),
        ('"[{""text"": ""In"", ""answer_start"": 26}]"', (("In", 26),)),
        ('"[""1889"", ""In""]"', (("1889", 3), ("In", 0))),
        ("[sic]", (("[sic]", -1),)),
        ("", ()),
    ],
)
def test_answers_in_a_cell_of_a_table_are_read(tmp_path, cell, answers):
    path = tmp_path / "own.csv"
    path.write_text(f"question,context,answers\nWhen?,{CONTEXT},{cell}\n", encoding="utf-8")
    (example,) = span_inputs.read(str(path), Counter())
    assert example.answers == answers


def test_an_article_or_a_paragraph_a_line_is_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(ARTICLES[0]) + "\n" + json.dumps(ARTICLES[1]["paragraphs"][0]) + "\n", encoding="utf-8")
    assert [example.id for example in questions.read([str(path)])] == ["a", "b"]


def test_utf16_is_told_how_to_convert_it(tmp_path):
    path = tmp_path / "train.json"
    path.write_bytes(json.dumps({"data": []}).encode("utf-16"))
    assert "this is UTF-16, not UTF-8; convert it: iconv" in refusal(str(path))


def test_the_shared_squad_files_have_the_stated_counts(shared):
    """Figures of the data's README; no answer of theirs stands elsewhere than they say."""
    for name, total, without in (("dev-v1.1", 1490, 0), ("dev-v2.0", 2842, 1367), ("train-v2.0", 6307, 3288)):
        notes = questions.Notes()
        assert len(list(questions.read([str(shared / "squad" / f"{name}.json")], notes))) == total
        assert notes.counts["without_answer"] == without
        assert notes.lines == []


# --- What is wrong in them ---------------------------------------------------------------------------------------


def test_a_wrong_offset_is_moved_to_the_nearest_place_and_told(tmp_path):
    notes = questions.Notes()
    wrong = [("In", 20), ("In", 2), ("In", -5), ("In", 1000), ("In", 13)]
    path = squad(tmp_path, *[question(f"q{n}", answers=[answer]) for n, answer in enumerate(wrong)])
    examples = list(questions.read([path], notes))
    # "In" stands at 0 and 26; 13 is in the middle, where the first one is taken.
    assert [example.answers[0][1] for example in examples] == [26, 0, 0, 26, 0]
    assert notes.counts["moved_answers"] == 5
    assert path in notes.lines[0]
    assert "(q0)" in notes.lines[0]
    assert "is at 26, not at 20" in notes.lines[0]


def test_an_answer_that_its_context_lacks_is_kept_without_a_place_and_told(tmp_path):
    notes = questions.Notes()
    path = squad(tmp_path, question("lost", answers=[("1999", 3), ("", 0), ("1889", 3)]))
    (example,) = questions.read([path], notes)
    assert example.answers == (("1999", -1), ("", -1), ("1889", 3))
    assert notes.counts["missing_answers"] == 2
    assert notes.counts["answers"] == 3
    assert all(path in line and "(lost)" in line for line in notes.lines)


def test_empty_questions_and_contexts_are_kept_and_told(tmp_path):
    notes = questions.Notes()
    first = squad(tmp_path, question("a", "  "), name="1.json")
    second = squad(tmp_path, question("b", answers=()), context="", name="2.json")
    assert len(list(questions.read([first, second], notes))) == 2
    assert notes.counts["empty_questions"] == 1
    assert notes.counts["empty_contexts"] == 1
    assert "(a)" in notes.lines[0]
    assert "(b)" in notes.lines[1]


def test_only_the_first_hundred_things_are_told_and_all_counted(tmp_path):
    notes = questions.Notes()
    path = squad(tmp_path, *[question(str(n), answers=[("no", 0)]) for n in range(150)])
    assert len(list(questions.read([path], notes))) == 150
    assert notes.counts["missing_answers"] == 150
    assert len(notes.lines) == 100


def test_an_id_may_stand_once_in_all_files_of_a_split(tmp_path):
    first, second = squad(tmp_path, question("a"), name="1.json"), squad(tmp_path, question("a"), name="2.json")
    with pytest.raises(UserError, match=r"2\.json.*the id a occurs twice, first in .*1\.json"):
        list(questions.read([first, second]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [\n{]}', r":2: not JSON: .* \(column 2\)"),
        (b'{"data": "\xff"}', r":1: invalid UTF-8 \(byte 0xff\)"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"data": [], "data": []}', "an object has the name 'data' twice"),
        (b'{"articles": []}', "no field 'data'; it has 'articles'"),
        (b'[{"title": "t"}]', r"\[0\]: no field 'paragraphs'; it has 'title'"),
        (b'{"context": "c"}', "no field 'qas'; it has 'context'"),
        (b'{"data": ' + b"1" * 5000 + b"}", "a number has thousands of digits"),
        (b"{}", "no field 'data'; it has none"),
        (b'{"data": {}}', "data is dict and must be a list"),
        (b'{"data": [3]}', r"data\[0\]: int instead of an object with the field 'paragraphs'"),
        (b'{"data": [{"paragraphs": [{"qas": []}]}]}', "no field 'context'; it has 'qas'"),
        (b'"text"', "str instead of an object"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_the_place(content, message, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(questions.read([str(path)]))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": None}, "the question is NoneType and must be a string"),
        ({"question": "a\ud800"}, "half of a surrogate pair"),
        ({"answers": "1889"}, "answers is str and must be a list"),
        ({"answers": [{"answer_start": 3}]}, "no field 'text'"),
        ({"answers": [{"text": "1889", "answer_start": "3"}]}, "answer_start is '3'"),
        ({"answers": {"text": ["a", "b"], "answer_start": [1]}}, "2 answer texts and 1 offsets"),
        ({"is_impossible": True}, "it has answers and is_impossible is true"),
        ({"is_impossible": "TRUE"}, "it has answers and is_impossible is true"),
        ({"is_impossible": "no"}, "is_impossible is 'no' and must be true or false"),
        ({"is_impossible": 2}, "is_impossible is 2 and must be true or false"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_id(changes, message, tmp_path):
    shown = refusal(squad(tmp_path, question("q77") | changes))
    assert message in shown
    assert "(q77)" in shown
    assert "dev.json" in shown


def test_a_broken_line_is_refused_with_its_number(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "1", "question": "a", "context": "b"}\n{"id": \n', encoding="utf-8")
    assert f"{path}:2: not JSON" in refusal(str(path))


def test_a_file_that_is_not_there_is_refused():
    assert "nowhere.json: cannot be read" in refusal("nowhere.json")
