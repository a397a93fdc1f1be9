"""Learnt vocabularies: the same bytes every time, and one line for what cannot be learnt."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys

import pytest
from tokenizer_texts import ENGLISH

from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
from bertlite_jax.errors import UserError

TRAIN = """
import sys, tests.examples.tokenizer_texts as here
from bertlite_jax.data.vocabulary import tokenizer
for kind, size in (("sentencepiece", 100), ("wordpiece", 140), ("bpe", 350)):
    tokenizer.train_tokenizer(here.ENGLISH, f"{sys.argv[1]}/{kind}", size, kind=kind, input_sentences=15)
"""


def digests(folder: pathlib.Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_text_gives_the_same_bytes_in_another_process(tmp_path):
    """Hash seeds differ between processes, in Python and in Rust."""
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path / seed)], check=True, env=environment)
    first, second = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert len(first) == 6
    assert first == second


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_too_large_a_vocabulary_is_refused_with_the_largest_that_works(kind, tmp_path, capfd):
    with pytest.raises(UserError, match="the largest that works is") as caught:
        train_tokenizer(ENGLISH, tmp_path / "t", 100_000, kind=kind)
    assert "\n" not in str(caught.value)
    largest = int(str(caught.value).split()[-1])
    assert train_tokenizer(ENGLISH, tmp_path / "t", largest, kind=kind).vocab_size == largest
    with pytest.raises(UserError, match=f"the largest that works is {largest}"):
        train_tokenizer(ENGLISH, tmp_path / "u", largest + 1, kind=kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_too_small_a_vocabulary_is_refused_with_the_smallest_that_has_room(kind, tmp_path):
    with pytest.raises(UserError, match="the smallest that works is"):
        train_tokenizer(ENGLISH, tmp_path / "t", 20, kind=kind)


@pytest.mark.parametrize(("size", "problem"), [(0, "must be positive"), (-5, "must be"), (2**63, "is too large")])
def test_a_size_that_is_none_is_refused(size, problem, tmp_path):
    with pytest.raises(UserError, match=f"vocab_size = {size} {problem}"):
        train_tokenizer(ENGLISH, tmp_path / "t", size)


def test_a_folder_that_cannot_be_made_is_refused_before_the_text_is_read(tmp_path):
    def lines():
        yield pytest.fail("the text was read")

    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/t cannot be written: File exists; name another place"):
        train_tokenizer(lines(), tmp_path / "file" / "t", 1000)


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_no_text_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(["", " \n"], tmp_path / "t", 1000, kind=kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_what_goes_wrong_while_reading_the_text_comes_through(kind, tmp_path):
    def lines():
        yield from ENGLISH
        raise UserError("text: notes.txt:1204: invalid UTF-8 (byte 0xff)")

    with pytest.raises(UserError, match=r"notes.txt:1204"):
        train_tokenizer(lines(), tmp_path / "t", 1000, kind=kind)
    assert list(tmp_path.iterdir()) == []


def test_text_far_longer_than_a_sentence_is_learnt_from(tmp_path):
    """SentencePiece itself leaves out lines of more than 4,192 bytes without a word."""
    line = "zebracadabra " * 1000
    tokenizer = train_tokenizer([*ENGLISH, line], tmp_path / "t", 110)
    assert tokenizer.pieces(tokenizer.encode("zebracadabra")) == ["▁zebracadabra"]


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_rare_ascii_characters_are_never_unknown(kind, tmp_path):
    """One 7 among 200,000 characters lies outside the usual coverage of 0.99995; so does one snowman."""
    text = [*ENGLISH * 100, "7 ~ ☃"]
    assert 1 / sum(map(len, text)) < 0.00005
    tokenizer = train_tokenizer(text, tmp_path / "t", 100, kind=kind)
    assert tokenizer.unk_id not in tokenizer.encode("7 ~")
    assert tokenizer.unk_id in tokenizer.encode("☃")
