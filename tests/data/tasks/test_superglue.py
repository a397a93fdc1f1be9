"""SuperGLUE's tasks, each from small files in the layouts of its archive."""

from collections import Counter

import pytest
from task_files import counted, examples, label_of, put, refusal

from bertlite_jax.data import tasks


def test_boolq_asks_about_a_passage(tmp_path):
    row = {"question": "is it so", "passage": "It -- so.", "idx": 3, "label": True}
    put(tmp_path, "BoolQ/train.jsonl", row)
    put(tmp_path, "BoolQ/test.jsonl", {name: row[name] for name in ("question", "passage", "idx")})
    (example,) = examples("boolq", tmp_path)
    assert (example.id, example.text, example.pair) == ("3", "is it so", "It -- so.")
    assert label_of("boolq", example) == "true"
    assert examples("boolq", tmp_path, "test")[0].label is None


def test_cb_has_three_labels(tmp_path):
    put(tmp_path, "CB/val.jsonl", {"premise": "P", "hypothesis": "H", "label": "neutral", "idx": 0})
    (example,) = examples("cb", tmp_path, "validation")
    assert (example.text, example.pair, label_of("cb", example)) == ("P", "H", "neutral")


@pytest.mark.parametrize(("question", "word"), [("cause", "because"), ("effect", "so")])
def test_copa_joins_premise_and_choice_by_the_word_that_its_question_asks_for(tmp_path, question, word):
    row = {"premise": "The lamp fell.", "choice1": "It broke.", "choice2": "The cat jumped.", "question": question}
    put(tmp_path, "COPA/train.jsonl", row | {"label": 1, "idx": 0})
    put(tmp_path, "COPA/test.jsonl", row | {"idx": 0})
    (example,) = examples("copa", tmp_path)
    assert example.text == "The lamp fell."
    assert example.choices == (f"{word} It broke.", f"{word} The cat jumped.")
    assert example.label == 1
    assert examples("copa", tmp_path, "test")[0].label is None


def test_copa_refuses_another_question_and_a_choice_that_is_not_there(tmp_path):
    row = {"premise": "P", "choice1": "a", "choice2": "b", "question": "cause", "label": 0, "idx": 0}
    path = put(tmp_path, "COPA/train.jsonl", row, row | {"question": "why", "idx": 1})
    assert f"{path}:2: 'question' is 'why'; cause or effect is expected" in refusal("copa", tmp_path)
    put(tmp_path, "COPA/train.jsonl", row | {"label": 2})
    assert f"{path}:1: unknown label '2'; known are: 0, 1" in refusal("copa", tmp_path)


def multirc(answers: list[dict], **more) -> dict:
    text = "<b>Sent 1: </b>Ann left.<br><b>Sent 2: </b>Bob stayed.<br>"
    question = {"question": "Who left?", "sentences_used": [0], "idx": 5, "answers": answers}
    return {"idx": 2, "version": 1.1, "passage": {"text": text, "questions": [question]}} | more


def test_multirc_is_a_row_an_answer_in_groups_of_a_question(tmp_path):
    put(
        tmp_path,
        "MultiRC/train.jsonl",
        multirc([{"text": "Ann", "idx": 8, "label": 1}, {"text": "Bob", "idx": 9, "label": 0}]),
    )
    put(tmp_path, "MultiRC/test.jsonl", multirc([{"text": "Ann", "idx": 8}]))
    first, second = examples("multirc", tmp_path)
    assert (first.id, first.group, second.id, second.group) == ("2-5-8", "2-5", "2-5-9", "2-5")
    assert first.text == second.text == "Ann left. Bob stayed."
    assert (first.pair, first.label, second.pair, second.label) == ("Who left? Ann", 1, "Who left? Bob", 0)
    assert examples("multirc", tmp_path, "test")[0].label is None
    put(tmp_path, "MultiRC/val.jsonl", multirc([]))
    assert "val.jsonl:1: 'answers' is empty" in refusal("multirc", tmp_path, "validation")


def record(text: str, spans: list[tuple[int, int]], *queries: dict) -> dict:
    entities = [{"start": start, "end": end} for start, end in spans]
    return {"source": "CNN", "passage": {"text": text, "entities": entities}, "qas": list(queries), "idx": 4}


def query(idx: int, text: str, *answers: tuple[str, int]) -> dict:
    found = [{"text": name, "start": start, "end": start + len(name) - 1} for name, start in answers]
    return {"query": text, "idx": idx, "answers": found}


PASSAGE = "Ann met Bob in Rome.\n@highlight\nAnn left"


def test_record_is_a_row_an_entity_filled_into_the_query(tmp_path):
    # The official end is that of the last character; the last Ann is the first one again.
    spans = [(0, 2), (8, 10), (15, 18), (32, 34)]
    put(tmp_path, "ReCoRD/train.jsonl", record(PASSAGE, spans, query(7, "It was @placeholder who met Bob", ("Ann", 0))))
    rows = examples("record", tmp_path)
    assert [row.choices for row in rows] == [("Ann",), ("Bob",), ("Rome",)]
    assert [row.label for row in rows] == [1, 0, 0]
    assert rows[1].pair == "It was Bob who met Bob"
    assert {row.text for row in rows} == {"Ann met Bob in Rome. Ann left"}
    assert [(row.id, row.group) for row in rows] == [("4-7-0", "4-7"), ("4-7-1", "4-7"), ("4-7-2", "4-7")]
    assert {row.answers for row in rows} == {(("Ann", 0),)}


def test_record_refuses_what_points_outside_and_counts_what_cannot_be_answered(tmp_path):
    asked = query(7, "@placeholder", ("Eve", 0))
    path = put(tmp_path, "ReCoRD/train.jsonl", record(PASSAGE, [(0, 2)], asked))
    assert counted("record", tmp_path) == {"examples": 1, "answer_not_among_entities": 1}
    put(tmp_path, "ReCoRD/train.jsonl", record(PASSAGE, [(30, 60)], asked))
    assert f"{path}:1: an entity from 30 to 60 in a text of 40 characters" in refusal("record", tmp_path)
    put(tmp_path, "ReCoRD/train.jsonl", record(PASSAGE, [(0, 2)], query(7, "Who?", ("Ann", 0))))
    assert f"{path}:1: query 7 has no @placeholder" in refusal("record", tmp_path)


def test_training_rows_of_record_are_balanced_within_each_query(tmp_path):
    spans = [(0, 2), (8, 10), (15, 18)]
    queries = [query(n, "@placeholder left", ("Ann", 0)) for n in range(20)]
    put(tmp_path, "ReCoRD/train.jsonl", record(PASSAGE, spans, *queries))
    rows = examples("record", tmp_path)
    kept = list(tasks.balance(rows, seed=0))
    assert Counter((row.group, row.label) for row in kept) == {
        (f"4-{n}", label): 1 for n in range(20) for label in (0, 1)
    }
    assert {row.choices for row in kept if row.label == 0} == {("Bob",), ("Rome",)}
    assert kept == list(tasks.balance(rows, seed=0)) != list(tasks.balance(rows, seed=1))


def test_rte_of_superglue_is_not_glues(tmp_path):
    put(tmp_path, "RTE/train.jsonl", {"premise": "P", "hypothesis": "H", "label": "not_entailment", "idx": 0})
    (example,) = examples("superglue_rte", tmp_path)
    assert (example.text, example.pair, label_of("superglue_rte", example)) == ("P", "H", "not_entailment")


def test_wic_says_in_both_texts_which_word(tmp_path):
    row = {"word": "bed", "sentence1": "A bed of roses.", "sentence2": "Go to bed.", "idx": 0, "label": False}
    more = {"start1": 2, "start2": 6, "end1": 5, "end2": 9, "version": 1.1}
    put(tmp_path, "WiC/train.jsonl", row | more)
    (example,) = examples("wic", tmp_path)
    assert (example.text, example.pair) == ("bed: A bed of roses.", "bed: Go to bed.")
    assert label_of("wic", example) == "false"


def wsc(text: str, pronoun: str, index: int, noun: str = "Mark", label: object = True) -> dict:
    target = {"span1_text": noun, "span1_index": 0, "span2_text": pronoun, "span2_index": index}
    return {"text": text, "target": target, "idx": 0, "label": label}


@pytest.mark.parametrize(
    ("text", "pronoun", "index", "marked"),
    [
        ("Mark told Pete that he saw how he ran.", "he", 4, "Mark told Pete that *he* saw how he ran."),
        ("Mark told Pete that he saw how he ran.", "he", 7, "Mark told Pete that he saw how *he* ran."),
        ('Mark said, "He, there, knew him."', "He", 2, 'Mark said, "*He*, there, knew him."'),
        ("The theme was theirs; the end  was.", "the", 4, "The theme was theirs; *the* end  was."),
    ],
)
def test_wsc_marks_the_pronoun_at_its_word(tmp_path, text, pronoun, index, marked):
    put(tmp_path, "WSC/train.jsonl", wsc(text, pronoun, index))
    (example,) = examples("wsc", tmp_path)
    assert (example.text, example.pair) == (marked, f"{pronoun} means Mark")
    assert label_of("wsc", example) == "true"
    assert counted("wsc", tmp_path) == {"examples": 1}


def test_a_pronoun_of_wsc_beside_its_index_is_found_and_counted(tmp_path):
    put(tmp_path, "WSC/train.jsonl", wsc("Mark ran. He won.", "He", 3), wsc("Mark ran.", "she", 1) | {"idx": 1})
    beside, nowhere = examples("wsc", tmp_path)
    assert (beside.text, nowhere.text) == ("Mark ran. *He* won.", "Mark ran.")
    assert counted("wsc", tmp_path) == {"examples": 2, "pronoun_elsewhere": 1, "pronoun_not_found": 1}


def test_axb_and_axg_have_test_files_only(tmp_path):
    put(tmp_path, "AX-b/AX-b.jsonl", {"sentence1": "A", "sentence2": "B", "idx": 0, "label": "entailment", "logic": ""})
    rows = [{"premise": "P", "hypothesis": h, "idx": n, "label": "entailment"} for n, h in enumerate("abcd")]
    put(tmp_path, "AX-g/AX-g.jsonl", *rows)
    (axb,) = examples("axb", tmp_path, "test")
    assert (axb.text, axb.pair, label_of("axb", axb)) == ("A", "B", "entailment")
    axg = examples("axg", tmp_path, "test")
    assert [row.group for row in axg] == ["0", "0", "1", "1"]
    assert "no split 'train'" in refusal("axb", tmp_path)


def test_every_missing_field_is_named_with_its_line(tmp_path):
    path = put(tmp_path, "WiC/train.jsonl", {"word": "bed", "sentence1": "a", "idx": 0, "label": True})
    wanted = f"task: {path}:1: no column or field 'sentence2'; it has: word, sentence1, idx, label"
    assert refusal("wic", tmp_path) == wanted
    path = put(tmp_path, "WSC/train.jsonl", {"text": "a", "target": "he", "idx": 0, "label": True})
    assert refusal("wsc", tmp_path) == f"task: {path}:1: 'target' holds str, not dict"
