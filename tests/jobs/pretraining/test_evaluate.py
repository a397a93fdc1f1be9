"""What a pretraining run is asked: figures on a validation split, and the pieces behind [MASK]."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import quantized
from bertlite_jax.data.corpus.folder import read_meta, unigram_counts
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary import codecs
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.evaluate import evaluate, open_evaluation, open_run
from bertlite_jax.jobs.pretraining.fill_mask import fill_mask, guess, sample_predictions
from bertlite_jax.jobs.pretraining.masked_lm import OpenMaskedLM, open_masked_lm
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.train import sharding
from bertlite_jax.train.pretraining import objective

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_evaluation_repeats_the_runs_own_figures(trained: pathlib.Path):
    """`evaluate` on the same rows gives what training reported last."""
    summary = json.loads((trained / "summary.json").read_text())
    again = evaluate(str(trained), rows=8)
    for name in ("valid_mlm_loss", "unigram_entropy", "valid_pair_accuracy"):
        assert again[name] == pytest.approx(summary[name], rel=1e-5)


def test_an_evaluation_reads_what_it_scores_and_one_tokenizer(trained: pathlib.Path, monkeypatch):
    """The unigram baseline needs the stored counts of the training split, not its windows."""
    splits, built = [], []
    open_records, build = source.open_records, codecs.build
    monkeypatch.setattr(source, "open_records", lambda *args: splits.append(args[1]) or open_records(*args))
    monkeypatch.setattr(codecs, "build", lambda *args: built.append(args[0]) or build(*args))
    evaluate(str(trained), rows=2)
    assert (splits, built) == (["validation"], ["sentencepiece"])
    run = open_run(str(trained))
    opened = OpenMaskedLM(run.config.model, PretrainingModel(run.config.model), run.params, run.tokenizer)
    sample_predictions(opened, run.config.data, samples=2)
    assert (splits, built) == (["validation"] * 2, ["sentencepiece"] * 2)


def test_the_unigram_baseline_counts_the_training_splits(prepared):
    """A corpus that is given twice counts twice."""
    counts = unigram_counts([prepared.corpus] * 2, "train")
    assert counts.sum() == 2 * read_meta(prepared.corpus)["splits"]["train"]["tokens"]


def test_a_pair_head_can_be_scored_on_another_task(trained: pathlib.Path):
    """The labels are those of the other task, counted here in its rows."""
    nsp = evaluate(str(trained), pair_task="nsp", rows=8)
    data = dataclasses.replace(open_run(str(trained)).config.data, pair_task="nsp")
    validation = source.open_source(data, "validation", objective.EVALUATION_SEED)
    (batch,) = batches.evaluation_rows(validation, 8, 8)
    labels = batch["pair_labels"][batch["pair_weights"] > 0]
    assert nsp["valid_pairs"] == len(labels)
    assert nsp["pair_label_prior"] == pytest.approx(max(labels.mean(), 1 - labels.mean()))
    assert np.ptp(labels) > 0
    correct = nsp["valid_pair_accuracy"] * nsp["valid_pairs"]
    assert correct == pytest.approx(round(correct), abs=1e-3)
    with pytest.raises(UserError, match="2 classes, which cannot be scored on three_way"):
        evaluate(str(trained), pair_task="three_way")


def test_in_integers_it_scores_what_the_weights_on_the_grid_score(trained: pathlib.Path, tmp_path):
    """Beside rounded weights only rounded activations are left, which cost less than a hundredth of a nat here."""
    exact, rounded = evaluate(str(trained), rows=8), evaluate(str(trained), rows=8, bits=8)
    for name in ("unigram_entropy", "valid_predictions", "majority_accuracy"):
        assert rounded[name] == exact[name]
    container = quantized.quantize(sources.load(trained), bits=8)
    run = open_run(str(trained))
    config = dataclasses.replace(
        run.config, model=container.model, run=dataclasses.replace(run.config.run, eval_rows=8)
    )
    on_grid = open_evaluation(config, PretrainingModel(container.model, "float32").apply, sharding.make_mesh(1))
    expected = on_grid(quantized.restore(container))["valid_mlm_loss"]
    assert 0 < abs(rounded["valid_mlm_loss"] - expected) < 0.01
    assert "valid_pair_accuracy" not in rounded
    with pytest.raises(UserError, match="--bits and --pair-task cannot be combined"):
        evaluate(str(trained), pair_task="nsp", bits=8)


def test_another_corpus_is_scored_as_far_as_the_model_has_positions(prepared, tmp_path, trained):
    for length, name in ((48, "shorter"), (96, "longer")):
        build_corpus([prepared.text], prepared.tokenizer, str(tmp_path / name), CorpusOptions(length=length), workers=1)
    assert evaluate(str(trained), corpus=(str(tmp_path / "shorter"),), rows=2)["valid_predictions"] > 0
    with pytest.raises(UserError, match="rows of 96 tokens; the model has 64 positions; build it with --length 64"):
        evaluate(str(trained), corpus=(str(tmp_path / "longer"),), rows=2)


def test_fill_mask_guesses_pieces_with_probabilities(trained: pathlib.Path):
    (first, second) = fill_mask(str(trained), "the [MASK] said alice [MASK]", top=3)
    assert len(first) == len(second) == 3
    assert all(0 < share <= 1 for _, share in first)
    assert first[0][1] >= first[1][1]
    with pytest.raises(UserError, match=r"no \[MASK\]"):
        fill_mask(str(trained), "nothing is missing")


def test_a_text_beyond_the_positions_is_cut_and_said(trained: pathlib.Path, capsys):
    """64 positions, of which [CLS] and [SEP] take two."""
    (found,) = fill_mask(str(trained), "the [MASK] said " + "alice " * 100, top=2)
    assert len(found) == 2
    assert "tokens; it is cut to the first 62" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"1 of the text's \[MASK\] behind the first 62 tokens.*shorten the text"):
        fill_mask(str(trained), "the [MASK] said " + "alice " * 100 + "[MASK]")


def test_an_argument_in_another_encoding(trained: pathlib.Path):
    """Python gives bytes that the locale cannot decode as halves of surrogate pairs."""
    escaped = "caf\u00e9 [MASK]".encode().decode("ascii", errors="surrogateescape")
    assert fill_mask(str(trained), escaped) == fill_mask(str(trained), "caf\u00e9 [MASK]")
    for text, message in (("a \udcff [MASK]", r"the text is not UTF-8 \(byte 0xff\)"), ("\ud800 [MASK]", "surrogate")):
        with pytest.raises(UserError, match=f"fill-mask: .*{message}"):
            fill_mask(str(trained), text)


def test_texts_of_different_lengths_are_guessed_together_as_alone(trained: pathlib.Path):
    model = open_masked_lm(sources.load(trained), str(trained), "fill-mask")
    texts = [model.tokenizer.encode(text, allow_special=True) for text in ("a [MASK] [MASK] of tea", "she [MASK] .")]
    alone = [found for text in texts for found in guess(model, [text], 300)]
    together = guess(model, texts, 300)
    assert [len(found) for found in together] == [2, 1]
    for ours, wanted in zip(together, alone, strict=True):
        for guesses, right in zip(ours, wanted, strict=True):
            assert dict(guesses) == pytest.approx(dict(right), rel=1e-4)
