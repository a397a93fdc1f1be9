"""Published vocabularies, adopted once for all tests of data."""

from __future__ import annotations

import pathlib

import pytest

from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary


@pytest.fixture(scope="session")
def albert(shared: pathlib.Path, tmp_path_factory) -> Tokenizer:
    return adopt_vocabulary(shared / "vocab" / "albert_spiece.model", tmp_path_factory.mktemp("a") / "albert")


@pytest.fixture(scope="session")
def uncased(shared: pathlib.Path, tmp_path_factory) -> Tokenizer:
    return adopt_vocabulary(shared / "vocab" / "bert_uncased_vocab.txt", tmp_path_factory.mktemp("u") / "uncased")
