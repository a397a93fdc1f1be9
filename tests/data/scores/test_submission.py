"""Files for the servers of GLUE and SuperGLUE, in the layouts that they take."""

import json

import numpy as np
import pytest

from bertlite_jax.data.scores import submission
from bertlite_jax.data.tasks import TASKS
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError


def sent(name: str, examples: list[Example], predictions: list) -> str:
    return submission.submission(TASKS[name], examples, predictions)


def rows(*ids: str) -> list[Example]:
    return [Example(id, "a", "b") for id in ids]


def objects(text: str) -> list[dict]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_every_set_that_a_server_scores_has_its_file_name():
    names = {task.name: dict(task.sent_as) for task in TASKS.values() if task.suite == "glue"}
    assert {name for files in names.values() for name in files.values()} == {
        "CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv", "RTE.tsv",
        "WNLI.tsv", "AX.tsv",
    }  # fmt: skip
    names = {submission.submission_name(task) for task in TASKS.values() if task.suite == "superglue"}
    assert names == {
        "BoolQ.jsonl", "CB.jsonl", "COPA.jsonl", "MultiRC.jsonl", "ReCoRD.jsonl", "RTE.jsonl", "WiC.jsonl", "WSC.jsonl",
        "AX-b.jsonl", "AX-g.jsonl",
    }  # fmt: skip
    assert submission.submission_name(TASKS["mnli"], "test_mismatched") == "MNLI-mm.tsv"


def test_glue_takes_index_and_prediction_with_the_names_of_labels():
    assert sent("rte", rows("0", "1"), [1, 0]) == "index\tprediction\n0\tnot_entailment\n1\tentailment\n"
    assert sent("cola", rows("0", "7"), [np.array([0.1, 2.0]), np.int64(0)]) == "index\tprediction\n0\t1\n7\t0\n"
    assert sent("mnli", rows("0"), [np.array([0.0, 0.1, 3.0])]).endswith("0\tneutral\n")


def test_stsb_is_sent_as_a_number_within_its_scale():
    text = sent("stsb", rows("0", "1", "2"), [2.34567, -0.2, 5.4])
    assert text == "index\tprediction\n0\t2.346\n1\t0.000\n2\t5.000\n"


def test_superglue_takes_an_object_a_line_with_each_tasks_way_of_writing_labels():
    assert objects(sent("boolq", rows("3"), [1])) == [{"idx": 3, "label": "true"}]
    assert objects(sent("wic", rows("0"), [0])) == [{"idx": 0, "label": "false"}]
    assert objects(sent("wsc", rows("0", "1"), [0, 1])) == [{"idx": 0, "label": "False"}, {"idx": 1, "label": "True"}]
    assert objects(sent("copa", rows("0"), [np.array([0.2, 0.9])])) == [{"idx": 0, "label": 1}]
    assert objects(sent("cb", rows("0"), [2])) == [{"idx": 0, "label": "neutral"}]
    assert objects(sent("axg", rows("0"), [0])) == [{"idx": 0, "label": "entailment"}]


def test_multirc_nests_answers_in_questions_in_passages():
    found = objects(sent("multirc", rows("0-0-0", "0-0-1", "0-1-2", "4-9-3"), [1, 0, 0, 1]))
    first = [{"idx": 0, "answers": [{"idx": 0, "label": 1}, {"idx": 1, "label": 0}]}]
    first += [{"idx": 1, "answers": [{"idx": 2, "label": 0}]}]
    last = [{"idx": 9, "answers": [{"idx": 3, "label": 1}]}]
    assert found == [{"idx": 0, "passage": {"questions": first}}, {"idx": 4, "passage": {"questions": last}}]


def test_record_names_the_entity_that_is_likeliest_in_each_query():
    examples = [Example(f"0-5-{n}", "t", "q", (name,), group="0-5") for n, name in enumerate(("Ann", "Zoë"))]
    examples.append(Example("0-6-0", "t", "q", ("Rome",), group="0-6"))
    text = sent("record", examples, [np.array([0.0, 1.0]), np.array([-3.0, -1.0]), np.array([9.0, 0.0])])
    assert objects(text) == [{"idx": 5, "label": "Zoë"}, {"idx": 6, "label": "Rome"}]
    assert "Zoë" in text


def test_other_tasks_and_splits_have_no_server():
    with pytest.raises(UserError, match="no server takes predictions of 'validation'; it takes: test"):
        submission.submission_name(TASKS["rte"], "validation")
    with pytest.raises(UserError, match="mit_movies is of neither GLUE nor SuperGLUE"):
        sent("mit_movies", [], [])
    with pytest.raises(ValueError, match="1 predictions for 2 examples"):
        sent("rte", rows("0", "1"), [0])
