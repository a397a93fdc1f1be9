"""Which texts of one's own file are held out: a share of each label, never one of two equal texts, never none.

Case B68 of public trackers (autotrain-advanced #764, activetigger #683), and issue threads on tiny files.
"""

import pathlib
import unicodedata
from collections import Counter

import pytest
from task_files import examples, own, put

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import held_out
from bertlite_jax.errors import UserError


def divided(path: str, fraction: float = 0.1, stratified: bool = True, **settings) -> tuple[Counter, Counter]:
    """How many examples of each label are trained on and held out."""
    task = own(path, **settings)
    kept = held_out.rule(task, fraction, stratified)
    sides: tuple[Counter, Counter] = Counter(), Counter()
    for example in examples(task, ""):
        sides[kept(example)][str(example.label)] += 1
    return sides


def labelled(tmp_path, **counts: int) -> str:
    rows = [f"{label} {place},{label}" for label, count in counts.items() for place in range(count)]
    return put(tmp_path, "own.csv", "text,label", *rows)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({"a": 50, "b": 50}, {"0": 5, "1": 5}),
        ({"a": 990, "b": 10}, {"0": 99, "1": 1}),
        ({"a": 5, "b": 5}, {"0": 1, "1": 1}),
        ({"a": 200, "b": 30, "c": 6}, {"0": 20, "1": 3, "2": 1}),
        ({"common": 396, "rare": 4}, {"0": 40, "1": 1}),
        ({"a": 100, "b": 2, "c": 1}, {"0": 10, "1": 1}),
    ],
)
def test_a_tenth_of_each_label_is_held_out(tmp_path, counts, wanted):
    assert divided(labelled(tmp_path, **counts))[1] == wanted


def test_every_label_with_two_texts_is_both_trained_on_and_scored(tmp_path):
    path = labelled(tmp_path, **{f"l{number}": 2 for number in range(30)})
    train, valid = divided(path)
    assert len(train) == len(valid) == 30


def test_labels_of_one_text_are_divided_together_only_if_there_is_no_other_label(tmp_path):
    assert divided(labelled(tmp_path, **{f"l{number}": 1 for number in range(30)}))[1].total() == 3
    train, valid = divided(labelled(tmp_path, a=10, **{f"l{number}": 1 for number in range(30)}))
    assert valid == {"0": 1}
    assert len(train) == 31


@pytest.mark.parametrize("counts", [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 9, "b": 1}])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.9])
def test_neither_side_is_ever_empty(tmp_path, counts, fraction):
    train, valid = divided(labelled(tmp_path, **counts), fraction)
    assert train.total() >= 1
    assert valid.total() >= 1


def test_equal_texts_are_on_one_side(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", *(f"text {place % 20},{'ab'[place % 2]}" for place in range(200)))
    task = own(path)
    kept = held_out.rule(task, 0.2, stratified=True)
    sides: dict[str, set[bool]] = {}
    for example in examples(task, ""):
        sides.setdefault(example.text, set()).add(kept(example))
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {True} for side in sides.values()) == 4


def spellings(place: int) -> tuple[str, ...]:
    text = f"Ein Caf\u00e9 {place}, sch\u00f6n!"
    apart = unicodedata.normalize("NFD", text)
    return (
        text,
        text.replace(" ", "\n"),
        text.replace(" ", "  "),
        text.upper(),
        apart,
        f"{text}\u200b",
        f"{text[:-1]} !",
    )


def test_texts_of_which_tokenizers_make_the_same_tokens_are_on_one_side(tmp_path):
    """They differ in case, accents, width, white space or unseen characters."""
    path = put(tmp_path, "own.jsonl", *({"text": s, "label": p % 2} for p in range(40) for s in spellings(p)))
    task = own(path)
    kept = held_out.rule(task, 0.1, stratified=True)
    sides = [{kept(Example("1", s)) for s in spellings(place)} for place in range(40)]
    assert all(len(side) == 1 for side in sides)
    assert sum(side == {True} for side in sides) == 4


def test_a_text_without_others_like_it_goes_where_its_own_hash_goes(tmp_path):
    """Runs of files without such texts are divided as before there was a rule for them."""
    path = labelled(tmp_path, A=40)
    found = examples(own(path), "")
    kept = held_out.rule(own(path), 0.1, stratified=True)
    assert {held_out.digest(each) for each in found if kept(each)} == {*sorted(map(held_out.digest, found))[:4]}


def test_neither_the_order_of_the_file_nor_what_is_added_to_a_label_moves_texts_of_another(tmp_path):
    path = labelled(tmp_path, a=50, b=50)
    task = own(path)
    kept = held_out.rule(task, 0.1, stratified=True)
    first = {example.text for example in examples(task, "") if kept(example)}
    header, *rows = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    other = own(put(tmp_path, "more.csv", header, *reversed(rows), *(f"new {place},b" for place in range(50))))
    kept = held_out.rule(other, 0.1, stratified=True)
    again = {example.text for example in examples(other, "") if kept(example)}
    assert {text for text in first if text.startswith("a")} == {text for text in again if text.startswith("a")}


def test_of_numbers_tags_and_several_labels_a_tenth_is_held_out(tmp_path):
    numbers = put(tmp_path, "own.csv", "text,score", *(f"text {place},{place / 7}" for place in range(40)))
    assert divided(numbers, kind="regression")[1].total() == 4
    tags = put(tmp_path, "own.conll", *(line for place in range(40) for line in (f"w{place} B-X", "w O", "")))
    assert divided(tags)[1].total() == 4
    few = put(tmp_path, "few.csv", "text,score", *(f"text {place},{place / 7}" for place in range(4)))
    assert divided(few, kind="regression")[1].total() == 1


def test_a_file_of_one_text_is_refused(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", *(f"the same,{'ab'[place % 2]}" for place in range(10)))
    with pytest.raises(UserError, match="all texts are the same, so none can be held out for validation"):
        divided(path)


def test_a_changed_file_is_read_again(tmp_path):
    assert divided(labelled(tmp_path, a=10, b=10))[1].total() == 2
    assert divided(labelled(tmp_path, a=100, b=100))[1].total() == 20


def test_older_runs_hold_out_by_hash_alone(tmp_path):
    """The threshold is on the hash: 0.5 of 2**64 for a half."""
    path = labelled(tmp_path, a=20, b=20)
    by_hash = sum(held_out.digest(example) < 2**63 for example in examples(own(path), ""))
    assert divided(path, 0.5, stratified=False)[1].total() == by_hash
    assert held_out.is_held_out(Example("1", "x"), 1.0)
