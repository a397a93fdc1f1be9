"""Pairs of sentences: the files that hold them, and how accuracies are counted."""

import json
import pathlib

import numpy as np
import pytest

from bertlite_jax.data.scores.minimal_pairs import Pair, accuracies, read
from bertlite_jax.errors import UserError

OURS = {"good": "Cats sleep.", "bad": "Cats sleeps.", "paradigm": "regular", "phenomenon": "agreement"}
BLIMP = {
    "sentence_good": "Dogs bark.",
    "sentence_bad": "Dogs barks.",
    "field": "morphology",
    "linguistics_term": "agreement",
    "UID": "irregular",
    "simple_LM_method": True,
    "pairID": "0",
}


def write(path: pathlib.Path, *records: object) -> str:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return str(path)


def test_our_names_and_those_of_the_release_are_read(tmp_path):
    path = write(tmp_path / "pairs.jsonl", OURS, BLIMP)
    assert read(path) == [
        Pair("Cats sleep.", "Cats sleeps.", "regular", "agreement", f"{path}:1"),
        Pair("Dogs bark.", "Dogs barks.", "irregular", "agreement", f"{path}:2"),
    ]


def test_a_paradigm_without_a_phenomenon_is_one_and_neither_is_needed(tmp_path):
    path = write(tmp_path / "pairs.jsonl", {"good": "a", "bad": "b", "paradigm": "p"}, {"good": "a", "bad": "b"})
    assert [(pair.paradigm, pair.phenomenon) for pair in read(path)] == [("p", "p"), ("", "")]


def test_a_folder_is_all_its_files_by_name_and_the_first_pairs_of_each_paradigm_can_be_taken(tmp_path):
    """Other files in it are no pairs."""
    (tmp_path / "README.md").write_text("BLiMP\n", encoding="utf-8")
    write(tmp_path / "b.jsonl", OURS | {"good": "third"}, OURS | {"good": "fourth"})
    write(tmp_path / "a.jsonl", OURS | {"good": "first"}, BLIMP, OURS | {"good": "second"})
    assert [pair.good for pair in read(str(tmp_path))] == ["first", "Dogs bark.", "second", "third", "fourth"]
    assert [pair.good for pair in read(str(tmp_path), most=2)] == ["first", "Dogs bark.", "second"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"good": "a"}, "bad is missing or empty"),
        ({"good": " ", "bad": "b"}, "good is missing or empty"),
        ({"good": "a", "bad": 3}, "bad should be a string"),
        ({"good": "a", "bad": "b", "UID": ["x"]}, "UID should be a string"),
        (["a", "b"], "a JSON object is expected"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, record, message):
    path = write(tmp_path / "pairs.jsonl", OURS, record)
    with pytest.raises(UserError, match=f"pairs.jsonl:2: {message}"):
        read(path)


def test_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no pair of sentences \(no .jsonl file in it\)"):
        read(str(tmp_path))
    with pytest.raises(UserError, match=r"no pair of sentences$"):
        read(write(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match=r"missing\.jsonl: cannot be read"):
        read(str(tmp_path / "missing.jsonl"))


def test_accuracies_are_means_over_paradigms():
    """Two paradigms of one phenomenon, of three pairs and of one: (1/3 + 1) / 2. With the third: (1/3 + 1 + 0) / 3."""
    names = ["p", "p", "p", "q", "r"]
    pairs = [Pair("a", "b", name, "x" if name in "pq" else "w", "f:1") for name in names]
    assert accuracies(pairs, np.array([True, False, False, True, False])) == [
        {"phenomenon": "w", "pairs": 1, "accuracy": 0.0},
        {"phenomenon": "x", "pairs": 4, "accuracy": 0.6667},
        {"phenomenon": "all", "pairs": 5, "accuracy": 0.4444},
    ]


def test_pairs_without_names_have_one_row():
    assert accuracies([Pair("a", "b", "", "", "f:1")], np.array([True])) == [
        {"phenomenon": "all", "pairs": 1, "accuracy": 1.0}
    ]


def test_the_released_pairs(shared):
    """Half of 67 paradigms of 1,000 pairs; the files name 13 phenomena. Four pairs are twice the same sentence."""
    pairs = read(str(shared / "blimp"))
    assert len(pairs) == 67 * 500
    assert len({pair.paradigm for pair in pairs}) == 67
    assert len({pair.phenomenon for pair in pairs}) == 13
    assert sum(pair.good == pair.bad for pair in pairs) == 4
