"""A vocabulary without the pieces that a text does not need cuts that text as before."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from tokenizer_texts import ENGLISH, ours, real_lines

from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.data.vocabulary.trimming import check_trimmable, choose_pieces, write_trimmed
from bertlite_jax.errors import UserError

TEXT = "that is the view of a single man"
KINDS = ["wordpiece", "sentencepiece"]


def counts_in(tokenizer: Tokenizer, lines: list[str]) -> np.ndarray:
    flat = [piece for line in ours(tokenizer, lines) for piece in line]
    return np.bincount(flat, minlength=tokenizer.vocab_size)


def trimmed(tokenizer: Tokenizer, lines: list[str], most: int, out) -> tuple[Tokenizer, np.ndarray]:
    kept = choose_pieces(tokenizer, counts_in(tokenizer, lines), most)
    return write_trimmed(tokenizer, kept, out), kept


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_by_which_pieces_were_chosen_keeps_them(trained, kind, tmp_path):
    tokenizer = trained[kind]
    smaller, kept = trimmed(tokenizer, [TEXT], 0, tmp_path / "out")
    assert smaller.vocab_size == len(kept) < tokenizer.vocab_size
    assert smaller.pieces(smaller.encode(TEXT)) == tokenizer.pieces(tokenizer.encode(TEXT))
    assert kept[smaller.encode(TEXT)].tolist() == tokenizer.encode(TEXT).tolist()
    assert load_tokenizer(tmp_path / "out").hash == smaller.hash != tokenizer.hash


@pytest.mark.parametrize("kind", KINDS)
def test_special_pieces_stay_what_they_are(trained, kind, tmp_path):
    tokenizer = trained[kind]
    smaller, _ = trimmed(tokenizer, [TEXT], 0, tmp_path / "out")
    assert smaller.pieces(smaller.special_ids) == tokenizer.pieces(tokenizer.special_ids)
    assert smaller.settings == tokenizer.settings


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_whose_piece_went_is_spelt_with_others(trained, kind, tmp_path):
    """All letters of `TEXT` are left, and so is every word made of them; a letter that it has not is unknown."""
    smaller, _ = trimmed(trained[kind], [TEXT], 0, tmp_path / "out")
    for word in ("fame", "heavens", "gave"):
        ids = smaller.encode(word)
        assert smaller.unk_id not in ids
        assert smaller.decode(ids) == word
    assert smaller.unk_id in smaller.encode("duty")


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_frequent_pieces_stay_beside_all_characters(trained, kind):
    tokenizer = trained[kind]
    counts = counts_in(tokenizer, list(ENGLISH))
    everything = choose_pieces(tokenizer, counts, 0)
    kept = choose_pieces(tokenizer, counts, len(everything) - 5)
    gone = np.setdiff1d(everything, kept)
    assert len(gone) == 5
    assert np.all(np.diff(kept) > 0)
    long = [i for i in kept if len(tokenizer.pieces([i])[0].removeprefix("##").removeprefix("▁")) > 1]
    learnt = np.setdiff1d(long, tokenizer.special_ids)
    assert counts[gone].max() <= counts[learnt].min()
    with pytest.raises(UserError, match=r"--pieces 8 are too few: special pieces and the characters .* are \d+"):
        choose_pieces(tokenizer, counts, 8)


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(data=strategies.data())
def test_any_text_of_kept_pieces_is_cut_as_before(trained, tmp_path_factory, kind, data):
    tokenizer = trained[kind]
    words = sorted(set(" ".join(ENGLISH).split()))
    some = data.draw(strategies.lists(strategies.sampled_from(words), min_size=1, max_size=20))
    most = data.draw(strategies.integers(90, 110))
    line = " ".join(some)
    smaller, kept = trimmed(tokenizer, [line, TEXT], most, tmp_path_factory.mktemp("drawn") / "out")
    before = tokenizer.encode(line)
    if np.isin(before, kept).all():
        assert kept[smaller.encode(line)].tolist() == before.tolist()
    else:
        assert len(smaller.encode(line)) >= len(before)


def test_real_text_keeps_its_ids(shared, tmp_path):
    """The cased vocabulary of BERT, and four hundred lines of encyclopedia."""
    from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary

    names = sorted((shared / "vocab").rglob("*vocab*.txt"))
    lines = real_lines(shared / "pretrain" / "enwiki_valid.txt", most=400)
    tokenizer = adopt_vocabulary(names[0], tmp_path / "whole")
    smaller, kept = trimmed(tokenizer, lines, 0, tmp_path / "out")
    assert smaller.vocab_size < 0.5 * tokenizer.vocab_size
    assert [kept[line].tolist() for line in ours(smaller, lines)] == ours(tokenizer, lines)


def test_pieces_that_are_merged_from_each_other_cannot_go(trained):
    with pytest.raises(UserError, match="is a bpe tokenizer, and its pieces are merged from each other"):
        check_trimmable(trained["bpe"])
