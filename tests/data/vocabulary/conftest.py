"""Small trained vocabularies, and real text."""

from __future__ import annotations

import pathlib

import pytest
from tokenizer_texts import ENGLISH, real_lines

from bertlite_jax.data.vocabulary.tokenizer import Kind, Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def english(shared: pathlib.Path) -> list[str]:
    """Some 3,900 paragraphs: encyclopedia, novels, speeches, and Chinese in between."""
    quickstart = sorted((shared / "quickstart" / "en").glob("*.txt"))
    names = ("enwiki_valid.txt", "books_valid.txt")
    lines = real_lines(*(shared / "pretrain" / name for name in names), *quickstart, most=900)
    return lines + real_lines(shared / "pretrain" / "zhwiki_valid.txt", most=100)


@pytest.fixture(scope="session")
def chinese(shared: pathlib.Path) -> list[str]:
    """Some 2,300 paragraphs, traditional and simplified."""
    paths = shared / "pretrain" / "zhwiki_valid.txt", shared / "quickstart" / "zh" / "hongloumeng_1_10.txt"
    return real_lines(*paths, most=3000)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> dict[str, Tokenizer]:
    """One tokenizer of each kind, learnt from a few sentences."""
    folder = tmp_path_factory.mktemp("trained")
    sizes: dict[Kind, int] = {"sentencepiece": 110, "wordpiece": 150, "bpe": 400}
    return {kind: train_tokenizer(ENGLISH, folder / kind, size, kind=kind) for kind, size in sizes.items()}
