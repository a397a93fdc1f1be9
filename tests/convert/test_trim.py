"""`bertlite convert trim`: a model without the pieces that a text does not need answers that text as before."""

import dataclasses
import pathlib

import numpy as np
import pytest
from int8_examples import MODEL, WORDS, trained_like
from onnx_examples import flax_answer

from bertlite_jax.cli.main import main
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.trim import trim
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, train_tokenizer
from bertlite_jax.errors import UserError

HEAD = Head("classify", ("no", "yes"))
LINE = "the lamp on the desk was lit and nobody knew why it was so very dark"


@pytest.fixture
def text(tmp_path) -> str:
    (tmp_path / "lines.txt").write_text(LINE + "\n", encoding="utf-8")
    return str(tmp_path / "lines.txt")


def tokenizer_of(weights: Weights) -> Tokenizer:
    """The tokenizer that lies beside the weights."""
    assert weights.tokenizer is not None
    return weights.tokenizer


def answer(weights: Weights) -> dict[str, np.ndarray]:
    ids = tokenizer_of(weights).encode(LINE)[None].astype(np.int64)
    return flax_answer(weights, {"ids": ids, "mask": np.ones_like(ids), "types": np.zeros_like(ids)})


@pytest.mark.parametrize("multiple", [1, 32])
def test_the_text_gets_the_same_logits(text, tmp_path, multiple):
    """Of a pretrained model the columns of the pieces that stay; padded rows go with the others."""
    weights = trained_like(tmp_path, MODEL)
    padded = dataclasses.replace(weights.model, vocab_multiple=multiple)
    weights = dataclasses.replace(weights, model=padded, params=parameters.pad_vocabulary(weights.params, padded))
    done = trim(weights, tmp_path / "out", [text])
    smaller = sources.load(tmp_path / "out")
    assert smaller.model.vocab_size == done.after < done.before == weights.model.vocab_size
    assert done.share == 1
    names = tokenizer_of(weights).pieces(range(done.before))
    kept = [names.index(piece) for piece in tokenizer_of(smaller).pieces(range(done.after))]
    np.testing.assert_allclose(answer(smaller)["logits"], answer(weights)["logits"][..., kept], atol=1e-6)


@pytest.mark.parametrize("line", ["lamp", "the lamp " * 300 + "desk"], ids=["a word", "the end of a long text"])
def test_every_piece_of_the_text_counts(line, tmp_path):
    """A document of one word, and the word behind the last whole window."""
    (tmp_path / "line.txt").write_text(line + "\n", encoding="utf-8")
    trim(trained_like(tmp_path, MODEL), tmp_path / "out", [str(tmp_path / "line.txt")])
    smaller = tokenizer_of(sources.load(tmp_path / "out"))
    assert smaller.decode(smaller.encode(line.split()[-1])) == line.split()[-1]


def test_a_task_model_keeps_its_head_and_starts_a_run(text, tmp_path, capsys):
    weights = trained_like(tmp_path, MODEL, HEAD)
    save_weights(weights, tmp_path / "whole")
    assert main(["convert", "trim", str(tmp_path / "whole"), str(tmp_path / "out"), "--text", text]) == 0
    smaller = sources.load(tmp_path / "out")
    assert smaller.head == weights.head
    np.testing.assert_allclose(answer(smaller)["logits"], answer(weights)["logits"], atol=1e-6)
    printed = capsys.readouterr().out
    assert f"{smaller.model.vocab_size} of {weights.model.vocab_size} pieces, 100.00% of the text's tokens" in printed


def test_examples_are_read_as_the_model_reads_them(tmp_path):
    """Both texts of a pair count, and the label does not."""
    weights = trained_like(tmp_path, MODEL, HEAD)
    (tmp_path / "pairs.tsv").write_text("text\tpair\tlabel\nthe lamp\tthe desk\tyes\n", encoding="utf-8")
    done = trim(weights, tmp_path / "out", [str(tmp_path / "pairs.tsv")], pieces=0)
    tokenizer = tokenizer_of(sources.load(tmp_path / "out"))
    assert done.share == 1
    for word in ("lamp", "desk"):
        assert tokenizer.decode(tokenizer.encode(word)) == word


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("pieces", r"convert: trim: --pieces 3 are too few: special pieces and the characters of the text are \d+"),
        ("empty", "no text in it; give text"),
        ("bpe", "its pieces are merged from each other"),
        ("none", "convert: trim: the weights have no tokenizer"),
    ],
)
def test_what_cannot_be_trimmed_is_refused(text, tmp_path, case, message):
    weights, pieces = trained_like(tmp_path, MODEL), 0
    if case == "pieces":
        pieces = 3
    elif case == "empty":
        pathlib.Path(text).write_text("\n\n")
    elif case == "bpe":
        made = train_tokenizer([" ".join(WORDS)] * 3, tmp_path / "bpe", 300, "bpe")
        weights = dataclasses.replace(weights, tokenizer=made)
    else:
        weights = dataclasses.replace(weights, tokenizer=None)
    with pytest.raises(UserError, match=message):
        trim(weights, tmp_path / "out", [text], pieces)
    assert not (tmp_path / "out").exists()


def test_an_earlier_result_stays_without_overwrite(text, tmp_path, capsys):
    save_weights(trained_like(tmp_path, MODEL), tmp_path / "whole")
    command = ["convert", "trim", str(tmp_path / "whole"), str(tmp_path / "out"), "--text", text]
    assert main(command) == 0
    assert main(command) == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
