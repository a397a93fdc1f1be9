"""Scores, computed by hand, by the rules of the official scorers, and by what published tables say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlite_jax.config.model import Head
from bertlite_jax.data.scores import suites, task_metrics
from bertlite_jax.data.tasks import TASKS, Task
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.layouts import texts
from bertlite_jax.errors import UserError


def made(head: Head, *names: str) -> Task:
    return Task(name="made", head=head, metrics=names, layout=texts, splits={})


def labelled(*labels, **more) -> list[Example]:
    return [Example(str(number), "t", label=label, **more) for number, label in enumerate(labels)]


def scored(task: str | Task, gold: list[Example], predictions: list) -> dict[str, float]:
    return task_metrics.score(TASKS[task] if isinstance(task, str) else task, gold, predictions)


TWO = Head(labels=("0", "1"))
THREE = Head(labels=("a", "b", "c"))


# --- Labels ----------------------------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_right_answers():
    assert scored("sst2", labelled(1, 0, 1, 1), [1, 0, 0, 1]) == {"accuracy": 0.75}


def test_scores_decide_by_the_largest_and_the_first_of_equal_ones():
    predictions = [np.array([0.1, 0.9]), np.array([5.0, -5.0]), np.array([1.0, 1.0])]
    assert scored("sst2", labelled(1, 0, 0), predictions) == {"accuracy": 1.0}


def test_matthews_correlation_of_six_right_and_two_wrong():
    # (3 * 3 - 1 * 1) / sqrt(4 * 4 * 4 * 4)
    assert scored("cola", labelled(1, 1, 1, 1, 0, 0, 0, 0), [1, 1, 1, 0, 0, 0, 0, 1]) == {"mcc": 0.5}


def test_matthews_correlation_is_0_for_one_answer_to_all():
    assert scored("cola", labelled(1, 0, 1), [1, 1, 1]) == {"mcc": 0.0}
    assert scored("cola", labelled(1, 1, 1), [1, 0, 1]) == {"mcc": 0.0}


def test_f1_is_that_of_label_1_and_decides_for_mrpc_and_qqp():
    # 2 of 3 answers of 1 are right, 2 of 4 are found: 2 * 2 / (3 + 4).
    found = scored("mrpc", labelled(1, 1, 1, 1, 0, 0), [1, 1, 0, 0, 1, 0])
    assert found == {"f1": pytest.approx(4 / 7), "accuracy": 0.5}
    assert list(found) == ["f1", "accuracy"] == list(TASKS["qqp"].metrics)
    assert scored("mrpc", labelled(0, 0), [0, 0]) == {"f1": 0.0, "accuracy": 1.0}


def test_macro_f1_of_cb_is_the_mean_over_labels_however_rare():
    # contradiction 2 * 1 / (1 + 2), entailment 2 * 2 / (3 + 2), neutral 0.
    found = scored("cb", labelled(0, 1, 1, 1, 2), [0, 1, 1, 0, 0])
    assert found["f1_macro"] == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)
    assert found["accuracy"] == 0.6


def test_several_labels_are_scored_label_by_label_and_as_a_whole():
    task = made(Head(labels=("a", "b", "c"), problem="multi_label"), "f1_micro", "f1_macro", "exact")
    found = scored(task, labelled((1, 0, 1), (0, 1, 0)), [(1, 0, 1), (1, 1, 0)])
    # Micro: 3 right of 4 given and 3 known. Macro: a 2/3, b 1, c 1.
    assert found == {"f1_micro": pytest.approx(6 / 7), "f1_macro": pytest.approx(8 / 9), "exact": 0.5}


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_pearson_and_spearman_of_four_numbers():
    # Means 2.5 and 2.75; sum of products 4.5, of squares 5 and 4.75. Ranks 1 2 4 3: 1 - 6 * 2 / (4 * 15).
    found = scored("stsb", labelled(1.0, 2.0, 3.0, 4.0), [1.0, 3.0, 4.0, 3.0])
    assert found["pearson"] == pytest.approx(3.5 / math.sqrt(5 * 4.75))
    found = scored("stsb", labelled(1.0, 2.0, 3.0, 4.0), [1.0, 2.0, 40.0, 3.0])
    assert found["spearman"] == pytest.approx(0.8)


def test_equal_numbers_share_their_rank():
    # Ranks of the answers: 1, 2.5, 2.5, 4; Pearson of the ranks is 4.5 / sqrt(5 * 4.5).
    found = scored(
        "stsb", labelled(1.0, 2.0, 3.0, 4.0), [np.array([0.0]), np.array([1.0]), np.array([1.0]), np.array([2.0])]
    )
    assert found["spearman"] == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def test_answers_that_are_all_the_same_correlate_with_nothing_and_no_number_is_no_score():
    assert scored("stsb", labelled(1.0, 2.0), [3.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0}
    assert all(math.isnan(value) for value in scored("stsb", labelled(1.0, 2.0), [math.nan, 1.0]).values())


# --- Groups ----------------------------------------------------------------------------------------------------------


def test_multirc_counts_answers_for_f1a_and_whole_questions_for_em():
    rows = [("q1", 1, 1), ("q1", 0, 0), ("q2", 1, 0), ("q2", 1, 1), ("q3", 0, 1), ("q3", 0, 0)]
    gold = [Example(str(n), "t", "q", label=label, group=group) for n, (group, label, _) in enumerate(rows)]
    # 2 right of 3 given and 3 known; only q1 is right as a whole.
    found = scored("multirc", gold, [answer for *_, answer in rows])
    assert found == {"group_f1a": pytest.approx(4 / 6), "group_em": pytest.approx(1 / 3)}


def test_parity_is_the_share_of_pairs_with_one_answer_right_or_wrong():
    gold = [Example(str(n), "t", "h", label=0, group=str(n // 2)) for n in range(6)]
    found = scored("axg", gold, [0, 0, 1, 1, 0, 1])
    assert found == {"parity": pytest.approx(2 / 3), "accuracy": 0.5}


def record(group: str, entities: list[str], answers: list[str]) -> list[Example]:
    golds = tuple((answer, 0) for answer in answers)
    return [
        Example(f"{group}-{n}", "t", "q", (name,), label=int(name in answers), group=group, answers=golds)
        for n, name in enumerate(entities)
    ]


def test_record_takes_the_likeliest_entity_and_its_best_match():
    gold = record("1", ["Barack Obama", "the U.S."], ["Obama", "Mr. Obama"]) + record("2", ["US", "Rome"], ["the U.S."])
    scores = [np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([3.0, 3.0]), np.array([9.0, 2.0])]
    # Against "Obama" 2 * 1 / (2 + 1), against "mr obama" 2 * 1 / (2 + 2); "us" is "the U.S." without article and dots.
    assert scored("record", gold, scores) == {"entity_f1": pytest.approx((2 / 3 + 1) / 2), "entity_em": 0.5}


def test_record_wants_to_know_how_likely_each_entity_is():
    gold = record("1", ["Ann", "Bob"], ["Bob"])
    assert scored("record", gold, [0.2, 0.9]) == {"entity_f1": 1.0, "entity_em": 1.0}
    with pytest.raises(ValueError, match="not an index"):
        scored("record", gold, [1, 1])


# --- Tags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-A I-A O B-A", [("A", 0, 1), ("A", 3, 3)]),
        ("B-A B-A I-A", [("A", 0, 0), ("A", 1, 2)]),
        ("O I-A I-A", [("A", 1, 2)]),
        ("B-A I-B I-B", [("A", 0, 0), ("B", 1, 2)]),
        ("I-A O I-A", [("A", 0, 0), ("A", 2, 2)]),
        ("B-A-X I-A-X I-A-Y", [("A-X", 0, 1), ("A-Y", 2, 2)]),
        ("O O", []),
        ("B-A I-A E-A S-B", [("A", 0, 2), ("B", 3, 3)]),
        ("B-A I-A L-A U-B U-B", [("A", 0, 2), ("B", 3, 3), ("B", 4, 4)]),
        ("B-A M-A E-A O S-A", [("A", 0, 2), ("A", 4, 4)]),
    ],
)
def test_spans_are_read_as_seqeval_does_by_default(tags, spans):
    assert task_metrics.tag_spans(tags.split()) == spans


def conlleval(tags: list[str]) -> list[tuple[str, int, int]]:
    """The rules of conlleval, which seqeval took over, for B, I and O: where a chunk ends and where it starts."""
    chunks, begin = [], 0
    before = ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        kind, _, name = tag.partition("-")
        ends = (before[0] in "BI" and kind in "BO") or (before[0] != "O" and before[1] != name)
        starts = kind == "B" or (before[0] == "O" and kind == "I") or (kind != "O" and before[1] != name)
        if ends:
            chunks.append((before[1], begin, place - 1))
        if starts:
            begin = place
        before = (kind, name)
    return chunks


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=12))
def test_spans_agree_with_conlleval_on_any_tags(tags):
    assert task_metrics.tag_spans(tags) == conlleval(tags)


def tagged(*sentences: tuple[int, ...]) -> list[Example]:
    return [Example(str(n), "t", words=("w",) * len(tags), label=tags) for n, tags in enumerate(sentences)]


def test_tags_are_scored_by_whole_spans_over_all_sentences():
    head = Head(kind="tag", labels=("O", "B-A", "I-A", "B-B", "I-B"))
    task = made(head, "span_f1", "span_precision", "span_recall", "accuracy")
    # Known: A 0-1, B 3-3, A 0-0. Found: A 0-1, B 3-4 (too long), A 0-0, B 1-1.
    gold, answers = tagged((1, 2, 0, 3, 0), (1, 0)), [(1, 2, 0, 3, 4), np.array([1, 3])]
    found = scored(task, gold, answers)
    wanted = {"span_f1": 4 / 7, "span_precision": 2 / 4, "span_recall": 2 / 3, "accuracy": 5 / 7}
    assert found == {name: pytest.approx(value) for name, value in wanted.items()}
    assert scored(task, tagged((0, 0)), [(0, 0)])["span_f1"] == 0.0
    with pytest.raises(ValueError, match="example 0: 1 tags for 2 words"):
        scored(task, tagged((0, 0)), [(0,)])


# --- Answers ---------------------------------------------------------------------------------------------------------


def test_answers_of_squad_are_scored_by_its_rules_as_fractions():
    gold = [
        Example("1", "q", "c", label=1, answers=(("the red car", 0), ("car", 8))),
        Example("2", "q", "c", label=0),
    ]
    assert scored("squad2", gold, ["A red Car!", ""]) == {"answer_f1": 1.0, "answer_exact": 1.0}
    assert scored("squad2", gold, ["red", "guess"]) == {"answer_f1": pytest.approx(1 / 3), "answer_exact": 0.0}


def test_answers_of_cmrc_are_scored_by_characters():
    gold = [Example("1", "q", "c", label=1, answers=(("北京大学", 0),))]
    # The longest common run has two of four characters: F1 2 * 2 / (2 + 4).
    found = scored("cmrc2018", gold, ["北京"])
    assert found == {
        name: pytest.approx(v) for name, v in (("chinese_average", 1 / 3), ("chinese_f1", 2 / 3), ("chinese_exact", 0))
    }


# --- Whole suites ----------------------------------------------------------------------------------------------------

BERT_LARGE_GLUE = {
    "cola": (60.5,),
    "sst2": (94.9,),
    "mrpc": (89.3, 85.4),
    "stsb": (87.6, 86.5),
    "qqp": (72.1, 89.3),
    "mnli": (86.7,),
    "mnli_mismatched": (85.9,),
    "qnli": (92.7,),
    "rte": (70.1,),
    "wnli": (65.1,),
}
"""The leaderboard's row of BERT-large, whose score is 80.5."""

BERT_SUPERGLUE = {
    "boolq": (77.4,),
    "cb": (75.7, 83.6),
    "copa": (70.6,),
    "multirc": (70.0, 24.0),
    "record": (72.0, 71.3),
    "superglue_rte": (71.6,),
    "wic": (69.5,),
    "wsc": (64.3,),
}
"""The row of BERT in Wang et al. 2019, table 3, whose average is 69.0."""

BORT_GLUE = {
    "cola": (63.9,),
    "sst2": (96.2,),
    "mrpc": (94.1, 92.3),
    "stsb": (89.2, 88.3),
    "qqp": (66.0, 85.9),
    "mnli": (88.1,),
    "mnli_mismatched": (87.8,),
    "qnli": (92.3,),
    "rte": (82.7,),
    "wnli": (71.2,),
}
BORT_SUPERGLUE = {
    "boolq": (83.7,),
    "cb": (81.9, 86.5),
    "copa": (89.6,),
    "multirc": (83.7, 54.1),
    "record": (49.8, 49.0),
    "superglue_rte": (81.2,),
    "wic": (70.1,),
    "wsc": (65.8,),
}
"""The rows of Bort in the README of alexa/bort, whose scores are 83.6 and 74.1."""


def named(rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    tasks = {name: TASKS["mnli" if name.startswith("mnli") else name] for name in rows}
    return {name: dict(zip(tasks[name].metrics, values, strict=True)) for name, values in rows.items()}


@pytest.mark.parametrize(
    ("suite", "rows", "average"),
    [
        ("glue", BERT_LARGE_GLUE, 80.52),
        ("superglue", BERT_SUPERGLUE, 68.96),
        ("glue", BORT_GLUE, 83.57),
        ("superglue", BORT_SUPERGLUE, 74.11),
    ],
)
def test_the_average_of_a_suite_is_that_of_its_leaderboard(suite, rows, average):
    """By hand to a digit more: 752.15 / 9 and 592.9 / 8 for Bort, 724.7 / 9 and 551.7 / 8 for BERT."""
    assert round(suites.suite_average(suite, named(rows)), 2) == average
    first = next(iter(rows))
    with pytest.raises(UserError, match=f"no average of {suite} without the scores of {first}"):
        suites.suite_average(suite, named({name: row for name, row in rows.items() if name != first}))


# --- What cannot be scored -------------------------------------------------------------------------------------------


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(UserError, match="sst2: no example to score"):
        scored("sst2", [], [])
    with pytest.raises(UserError, match="example 1 has no label"):
        scored("sst2", labelled(1, None), [1, 1])
    with pytest.raises(ValueError, match="1 predictions for 2 examples"):
        scored("sst2", labelled(1, 0), [1])


def test_every_metric_of_the_table_is_known():
    assert {name for task in TASKS.values() for name in task.metrics} <= task_metrics.METRICS.keys()
