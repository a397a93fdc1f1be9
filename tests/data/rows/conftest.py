"""Synthetic corpora, built once for each file of tests."""

import corpus_rows
import pytest
import synthetic_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> corpus_rows.Corpus:
    folder = tmp_path_factory.mktemp("corpora") / "first"
    return str(folder), synthetic_corpus.build(folder, 150, 0, shard_size=700)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> corpus_rows.Corpus:
    folder = tmp_path_factory.mktemp("corpora") / "second"
    return str(folder), synthetic_corpus.build(folder, 60, 7)
