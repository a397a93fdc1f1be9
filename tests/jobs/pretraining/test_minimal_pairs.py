"""Which of two sentences a model finds the likelier."""

import dataclasses
import itertools
import json
import math
import pathlib

import jax
import numpy as np
import pytest

from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.fill_mask import guess
from bertlite_jax.jobs.pretraining.masked_lm import open_masked_lm
from bertlite_jax.jobs.pretraining.minimal_pairs import minimal_pairs, open_scoring

pytestmark = pytest.mark.usefixtures("compiled_once")

SENTENCES = ["alice was tired of sitting by her sister", "the rabbit", "off with her head, said the queen"]


def scores(weights: Weights, sentences: list[str]) -> np.ndarray:
    return open_scoring(weights, "run")(sentences)


def write_pairs(path: pathlib.Path, *pairs: tuple[str, str]) -> str:
    path.write_text("".join(json.dumps({"good": good, "bad": bad}) + "\n" for good, bad in pairs), encoding="utf-8")
    return str(path)


def constant(weights: Weights) -> Weights:
    """The model whose every prediction is the same for all pieces."""
    return dataclasses.replace(weights, params=jax.tree.map(np.zeros_like, weights.params))


def test_a_score_is_the_sum_over_tokens_of_what_fill_mask_says_of_the_truth(trained: pathlib.Path):
    """Each token masked in a text of its own, and not in rows that hold many."""
    model = open_masked_lm(sources.load(trained), str(trained), "evaluate")
    expected = []
    for sentence in SENTENCES:
        ids, total = model.tokenizer.encode(sentence), 0.0
        for place, truth in enumerate(model.tokenizer.pieces(ids)):
            masked = ids.copy()
            masked[place] = model.tokenizer.mask_id
            (of_place,) = guess(model, [masked], 300)[0]
            total += math.log(dict(of_place)[truth])
        expected.append(total)
    np.testing.assert_allclose(scores(sources.load(trained), SENTENCES), expected, rtol=1e-4)


def test_a_sentence_has_the_score_that_it_has_alone(trained: pathlib.Path):
    weights = sources.load(trained)
    beside = [" ".join(sentence.split()[:words]) for sentence in SENTENCES for words in range(1, 7)]
    alone = [scores(weights, [sentence])[0] for sentence in SENTENCES]
    np.testing.assert_allclose(scores(weights, [*beside, *SENTENCES])[-3:], alone, rtol=1e-5)


def test_sentences_of_the_same_pieces_have_the_same_score_to_the_bit(trained: pathlib.Path, tmp_path):
    """Whatever stands beside them; so neither is the likelier one, and their pair is wrong."""
    found = scores(sources.load(trained), SENTENCES * 40)
    assert found.tolist() == found[:3].tolist() * 40
    path = write_pairs(tmp_path / "pairs.jsonl", *zip(SENTENCES, SENTENCES, strict=True))
    assert minimal_pairs(str(trained), path)[-1] == {"phenomenon": "all", "pairs": 3, "accuracy": 0.0}


def test_a_pair_is_right_if_its_good_sentence_is_the_likelier(trained: pathlib.Path, tmp_path):
    """Of each two sentences one order is right and the other wrong, whatever the model has learnt."""
    (first, second, third) = SENTENCES
    there = write_pairs(tmp_path / "there.jsonl", (first, second), (second, third))
    back = write_pairs(tmp_path / "back.jsonl", (second, first), (third, second))
    here, reversed_ = (minimal_pairs(str(trained), path)[-1] for path in (there, back))
    assert here["pairs"] == 2
    assert here["accuracy"] + reversed_["accuracy"] == 1
    found = scores(sources.load(trained), SENTENCES)
    assert here["accuracy"] == np.mean(found[:2] > found[1:])


def test_equal_scores_are_wrong(trained: pathlib.Path, tmp_path, monkeypatch):
    """Otherwise a model that has learnt nothing would get every pair right."""
    path = write_pairs(tmp_path / "pairs.jsonl", ("the queen said", "said the queen"))
    weights = constant(sources.load(trained))
    found = scores(weights, ["the queen said", "said the queen"])
    assert found[0] == found[1]
    monkeypatch.setattr(sources, "load", lambda *_: weights)
    assert minimal_pairs(str(trained), path)[-1]["accuracy"] == 0


def test_a_folder_of_transformers_scores_as_the_run_that_it_came_from(trained: pathlib.Path, tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", *itertools.pairwise(SENTENCES))
    to_hf(sources.load(trained), tmp_path / "hf")
    assert minimal_pairs(str(tmp_path / "hf"), path) == minimal_pairs(str(trained), path)


def test_pairs_that_are_too_long_are_left_out_and_counted(trained: pathlib.Path, tmp_path, capsys):
    """The model has 64 positions."""
    long = ("alice " * 70, "rabbit")
    path = write_pairs(tmp_path / "pairs.jsonl", ("alice", "rabbit"), long, (long[1], long[0]))
    assert minimal_pairs(str(trained), path)[-1]["pairs"] == 1
    said = capsys.readouterr().err.rstrip()  # Older versions of rich end a bar that is not shown, too.
    assert said.endswith("evaluate: 2 of 3 pairs are left out, since the model has 64 positions")
    with pytest.raises(UserError, match=r"the model has 64 positions, and every pair has a longer sentence"):
        minimal_pairs(str(trained), write_pairs(tmp_path / "long.jsonl", long))


def test_what_cannot_be_scored_is_named(trained: pathlib.Path, tmp_path):
    blank = write_pairs(tmp_path / "blank.jsonl", ("alice", "\u200b"))
    with pytest.raises(UserError, match=r"blank.jsonl:1: a sentence has no piece of the model's vocabulary"):
        minimal_pairs(str(trained), blank)
    weights = sources.load(trained)
    headless = dataclasses.replace(weights, params={k: v for k, v in weights.params.items() if k != "mlm"})
    with pytest.raises(UserError, match="run has no head for masked tokens"):
        open_scoring(headless, "run")


def test_weights_that_are_not_numbers_are_named(trained: pathlib.Path, tmp_path, monkeypatch):
    path = write_pairs(tmp_path / "pairs.jsonl", ("alice", "rabbit"))
    weights = sources.load(trained)
    bias = np.full_like(weights.params["mlm"]["bias"], np.nan)
    broken = weights.params | {"mlm": weights.params["mlm"] | {"bias": bias}}
    monkeypatch.setattr(sources, "load", lambda *_: dataclasses.replace(weights, params=broken))
    with pytest.raises(UserError, match=r"scores are not finite"):
        minimal_pairs(str(trained), path)
