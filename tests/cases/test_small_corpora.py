"""Corpora of almost nothing: one document, documents of one sentence or word, text shorter than a window or a batch.

Users report crashes, empty data sets and wrong pair labels: huggingface/transformers #452, #12438, #12558, #18167,
#23424; NVIDIA/DeepLearningExamples #421; google-research/albert #234.
"""

import dataclasses
import pathlib
import re
import types
from typing import Any

import numpy as np
import pytest
import tiny
from corpus_rows import segments_of

from bertlite_jax.config.pretrain import Data
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus import splits
from bertlite_jax.data.corpus.folder import read_meta, unigram_counts
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining import pretrain
from bertlite_jax.jobs.text.corpus import build_corpus

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SENTENCES = [f"The {word} went to the {word[::-1]} and came back late." for word in ("cat", "dog", "emu", "fox", "gnu")]


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("letters")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return adopt_vocabulary(folder / "vocab.txt", folder / "made", lower=True)


def built(text: str, letters: Tokenizer, folder: pathlib.Path, length: int = 64, **options) -> str:
    (folder / "a.txt").write_text(text, encoding="utf-8")
    out = str(folder / "corpus")
    build_corpus([str(folder / "a.txt")], letters.folder, out, CorpusOptions(length=length, **options), workers=1)
    return out


def opened(corpus: str, letters: Tokenizer, task, length: int = 64, split: Any = "train") -> source.Source:
    data = Data(corpus=(corpus,), tokenizer=letters.folder, length=length, batch_rows=16, pair_task=task)
    return source.open_source(data, split, 0)


FORMS = {
    "one line": " ".join(SENTENCES * 4),
    "one document": "\n".join(SENTENCES * 4),
    "documents of one sentence": "\n\n".join(SENTENCES),
    "documents of one word": "cat\n\ndog\n\nemu\n\nfox\n\ngnu",
}


@pytest.mark.parametrize("task", ["sop", "nsp", "three_way"])
@pytest.mark.parametrize("form", FORMS)
def test_every_window_is_read_and_no_pair_has_a_label_that_is_not_true(form, task, letters, tmp_path):
    corpus = built(FORMS[form], letters, tmp_path, validation_fraction=0.25)
    counted = read_meta(corpus)["splits"]
    for split in splits.SPLITS:
        rows = opened(corpus, letters, task, split=split)
        assert counted[split]["windows"] > 0
        batch = batches.rows_at(rows, np.arange(source.rows_per_epoch(rows)))
        text = sorted(token for a, b in segments_of(batch) for token in a + b)
        if task == "sop":  # The others put text of other documents in.
            assert len(text) == counted[split]["tokens"]
        if "of one" in form:
            assert not batch["pair_weights"].any()
        elif task != "sop":  # Without a second document nothing is random.
            random = 1 if task == "nsp" else 2
            assert not ((batch["pair_labels"] == random) & (batch["pair_weights"] > 0)).any()


def test_the_only_document_gives_its_end_to_the_validation_split(letters, tmp_path, capsys):
    """One line of twenty sentences: without a second document it used to be all training, and no run could start."""
    corpus = built(FORMS["one line"], letters, tmp_path, validation_fraction=0.25)
    assert "its end is the validation split (" in capsys.readouterr().err
    meta = read_meta(corpus)
    assert [meta["splits"][split]["sentences"] for split in splits.SPLITS] == [15, 5]
    whole = letters.encode(FORMS["one line"])
    np.testing.assert_array_equal(
        sum(unigram_counts([corpus], split) for split in splits.SPLITS),
        np.bincount(whole, minlength=letters.vocab_size),
    )


def test_a_single_sentence_is_for_training_and_the_reason_is_told(letters, tmp_path, capsys):
    corpus = built(SENTENCES[0], letters, tmp_path)
    assert "there is only one document, so the validation split is empty" in capsys.readouterr().err
    with pytest.raises(UserError, match="no windows in the split validation; build it from more documents or sentence"):
        opened(corpus, letters, "sop", split="validation")


def test_no_document_is_held_back_where_nothing_is_to_be(letters, tmp_path):
    corpus = built(FORMS["one line"], letters, tmp_path, validation_fraction=0.0)
    assert [read_meta(corpus)["splits"][split]["documents"] for split in splits.SPLITS] == [1, 0]


@pytest.mark.parametrize(
    ("form", "task", "says"),
    [
        ("documents of one sentence", "sop", "no window can be cut into a pair"),
        ("one document", "nsp", r"none of \d+ pairs is random: random parts need windows of a second document"),
        ("one document", "three_way", r"none of \d+ pairs is random"),
        ("one document", "sop", "^$"),
    ],
)
def test_pairs_that_teach_nothing_are_named(form, task, says, letters, tmp_path):
    rows = opened(built(FORMS[form], letters, tmp_path), letters, task)
    problem = batches.pair_problem(batches.pair_statistics(rows, batches=2), task)
    assert re.search(says, problem)


@pytest.mark.thorough
def test_two_sentences_train_in_rows_of_512_and_batches_of_16(letters, tmp_path, capsys):
    """Text shorter than a window and than a batch: the same rows again and again, and a line about the pairs."""
    corpus = built("A cat sat.\nIt slept.\n", letters, tmp_path, length=512)
    prepared = types.SimpleNamespace(tokenizer=letters.folder, corpus=corpus)
    config = tiny.pretrain(prepared, steps=2, eval_every=0, checkpoint_every=2, log_every=1)
    config = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, warmup_steps=0),
        model=dataclasses.replace(config.model, vocab_size=letters.vocab_size, num_layers=1, max_positions=512),
        data=dataclasses.replace(config.data, length=512, batch_rows=16),
    )
    summary = pretrain.pretrain(config, str(tmp_path / "run"))
    assert summary["steps"] == 2
    assert np.isfinite(summary["valid_mlm_loss"])
    assert "pretrain: no window can be cut into a pair" in capsys.readouterr().out
