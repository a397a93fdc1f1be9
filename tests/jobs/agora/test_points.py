"""New points: how mistakes are changed, what may not be one, which labels they have, and that they are read again."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.examples.subsequence import distance
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.jobs.agora import leaks, points
from bertlite_jax.jobs.answering import inputs, task_splits
from bertlite_jax.jobs.finetuning.few_labels import copies

OFFLINE = Agora(transforms=("deletion", "swap"), points=4)
PAIR = Example("a", "the queen said that it was time to go on again", "she went down by the door and so", label=1)
LONG = Example("b", "they went down to the door and said it was not the time", "so it was time to go on", label=0)
SHORT = Example("c", "rabbit", None, label=0)
SINGLE = Head(labels=("no", "yes"))


def made(mistakes: list[Example], settings: Agora = OFFLINE, seed: int = 0, round_number: int = 1) -> list[Example]:
    kept_out = leaks.kept_out(mistakes)
    transforms = points.transforms_of(settings, seed, None)
    return points.changed(mistakes, transforms, settings, round_number, lambda example: not kept_out.has(example))


# --- Changes ---------------------------------------------------------------------------------------------------------


def test_points_are_similar_to_their_mistakes_and_never_the_same():
    mistakes = {example.id: example for example in (PAIR, LONG)}
    found = made([*mistakes.values()])
    assert len(found) == 8
    assert len({leaks.row_of(example) for example in found}) == 8
    for example in found:
        source = mistakes[example.id.split("-")[1]]
        assert example.label is None
        assert example.text != source.text
        assert example.pair != source.pair
        words = [f"{each.text} {each.pair}".split() for each in (source, example)]
        assert OFFLINE.least_distance <= distance(*words) <= OFFLINE.most_distance


def test_the_first_points_of_all_mistakes_come_before_the_second():
    """So a limit cuts the later points of each, and no mistake altogether."""
    assert [example.id for example in made([PAIR, LONG])] == [f"1-{e}-{copy}" for copy in range(4) for e in "ab"]


def test_transformations_take_turns():
    """Deletion first for points 0 and 2, which are shorter; swaps for 1 and 3, which have the same words."""
    shorter = [len(example.text.split()) < len(PAIR.text.split()) for example in made([PAIR])]
    assert shorter == [True, False, True, False]


def test_the_same_seed_and_round_draw_the_same():
    assert made([PAIR, LONG]) == made([PAIR, LONG])
    texts = [example.text for example in made([PAIR])]
    assert [example.text for example in made([PAIR], seed=1)] != texts
    assert [example.text for example in made([PAIR], round_number=2)] != texts


def test_where_nothing_else_can_be_done_there_are_templates():
    """A single word cannot be left out or moved; too little of the words stays in the long template."""
    settings = dataclasses.replace(OFFLINE, points=2, templates=("Say: {text}", "Of all that can be said: {text}"))
    assert [example.text for example in made([SHORT], settings)] == ["Say: rabbit"]
    assert made([SHORT], dataclasses.replace(settings, templates=())) == []


def test_only_templates_will_do_too():
    settings = Agora(transforms=(), points=2, templates=("Well, {text}", "She said: {text}"))
    assert [example.text for example in made([LONG], settings)] == [f"Well, {LONG.text}", f"She said: {LONG.text}"]


def test_words_of_a_masked_language_model_come_first():
    """A mistake whose texts that model leaves as they are falls back to the next transformation."""

    def propose(text: str, number: int) -> str:
        return text.replace("queen", "king").replace("door", "gate")

    settings = Agora(transforms=("masked_lm", "deletion"), points=1)
    transforms = points.transforms_of(settings, 0, copies.Changes(propose, lambda words, number: list(words)))
    kept_out = leaks.kept_out([PAIR, LONG])
    found = points.changed([PAIR, LONG], transforms, settings, 1, lambda example: not kept_out.has(example))
    assert found[0].text == PAIR.text.replace("queen", "king")
    assert "gate" not in f"{found[1].text} {found[1].pair}"  # Its second text would have stayed as it was.
    assert len(found[1].text.split()) < len(LONG.text.split())


def test_what_may_not_become_a_point_is_tried_otherwise():
    wanted = [example.text for example in made([PAIR])]
    transforms = points.transforms_of(OFFLINE, 0, None)
    without = points.changed([PAIR], transforms, OFFLINE, 1, lambda example: example.text not in wanted)
    assert len(without) == 4
    assert not {example.text for example in without} & set(wanted)


# --- Labels ----------------------------------------------------------------------------------------------------------


def teacher_of(*logits: list[float]):
    return lambda examples: [np.array(each, np.float32) for each in logits[: len(examples)]]


def labels_of(head: Head, *logits: list[float], confidence: float = 0.0) -> list[Any]:
    some = [Example(str(number), "text", choices=("a", "b", "c")) for number in range(len(logits))]
    return [example.label for example in points.labelled(some, teacher_of(*logits), head, confidence)]


def test_the_teacher_labels_them():
    assert labels_of(SINGLE, [0.0, 1.0], [2.0, -1.0]) == [1, 0]
    assert labels_of(Head(kind="choose", labels=()), [0.0, 3.0, 1.0]) == [1]
    assert labels_of(Head(labels=("x", "y", "z"), problem="multi_label"), [1.0, -1.0, 2.0]) == [(1, 0, 1)]
    assert labels_of(Head(labels=("score",), problem="regression"), [3.25]) == [3.25]


def test_labels_that_it_is_not_sure_of_are_left_out():
    """Softmax of (0, 2) gives 0.88, of (0, 1) 0.73."""
    assert labels_of(SINGLE, [0.0, 2.0], [1.0, 0.0], confidence=0.8) == [1]


def test_no_label_has_more_than_its_even_part():
    some = [Example(str(number), "text", label=int(number > 5)) for number in range(10)]  # 6 of label 0, 4 of label 1.
    assert [e.id for e in points.balanced(some, SINGLE, 4)] == ["0", "1", "6", "7"]
    assert [e.id for e in points.balanced(some, SINGLE, 9)] == ["0", "1", "2", "3", "4", "6", "7", "8", "9"]
    assert len(points.balanced(some, SINGLE, 100)) == 10
    assert len(points.balanced(some, Head(kind="choose", labels=()), 4)) == 4


# --- The file --------------------------------------------------------------------------------------------------------

OWN = Examples(folder="mine.csv")
KINDS = {
    "pairs": (
        tasks.TASKS["rte"].head,
        Examples(task="rte"),
        Example("1-7-0", "a premise", "a claim\u2028here", label=1),
    ),
    "single texts": (tasks.TASKS["sst2"].head, Examples(task="sst2"), Example("1-7-0", 'a "text"', label=0)),
    "an empty second text": (tasks.TASKS["mrpc"].head, Examples(task="mrpc"), Example("1-7-0", "a text", "", label=0)),
    "numbers": (tasks.TASKS["stsb"].head, Examples(task="stsb"), Example("1-7-0", "a", "b", label=2.5)),
    "choices": (
        tasks.TASKS["copa"].head,
        Examples(task="copa"),
        Example("1-7-0", "it fell", choices=("so it broke", "so I ran"), label=1),
    ),
    "several labels": (
        Head(labels=("x", "y", "z"), problem="multi_label"),
        OWN,
        Example("1-7-0", "a text", label=(1, 0, 1)),
    ),
    "no label of several": (
        Head(labels=("x", "y", "z"), problem="multi_label"),
        OWN,
        Example("1-7-0", "a text", label=(0, 0, 0)),
    ),
    "columns that were said": (
        SINGLE,
        Examples(folder="mine.csv", text_column="question", pair_column="text", label_column="gold", id_column="key"),
        Example("1-7-0", "a question", "a text", label=1),
    ),
    "a column for each choice": (
        Head(kind="choose", labels=()),
        Examples(folder="mine.csv", choice_columns=("first", "second")),
        Example("1-7-0", "it fell", choices=("so it broke", "so I ran"), label=1),
    ),
    "another column of choices": (
        Head(kind="choose", labels=()),
        Examples(folder="mine.jsonl", choice_columns=("endings",)),
        Example("1-7-0", "it fell", choices=("so it broke", "so I ran"), label=1),
    ),
    "a column for each label": (
        Head(labels=("x", "y"), problem="multi_label"),
        Examples(folder="mine.csv", label_column="x,y"),
        Example("1-7-0", "a text", label=(0, 1)),
    ),
    "labels that are numbers": (Head(labels=("0", "1", "2")), OWN, Example("1-7-0", "ein Text", label=2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_read_as_they_were_written(kind: str, tmp_path):
    head, data, point = KINDS[kind]
    path = tmp_path / "points" / "round-002.jsonl"
    columns = task_splits.options_of_more(data)
    points.write(path, [], [point], head, columns)
    assert list(inputs.read(str(path), head, columns, job="finetune")) == [point]
    assert points.rows_in(path, head, columns) == {leaks.row_of(point)}
    other = dataclasses.replace(point, id="2-7-0")
    points.write(tmp_path / "round-003.jsonl", points.lines_of(path), [other], head, columns)
    assert [e.id for e in inputs.read(str(tmp_path / "round-003.jsonl"), head, columns)] == ["1-7-0", "2-7-0"]


def test_before_the_first_points_there_is_no_file(tmp_path):
    assert points.lines_of(tmp_path / "round-001.jsonl") == []
    assert points.rows_in(tmp_path / "round-001.jsonl", SINGLE, OwnOptions()) == set()
