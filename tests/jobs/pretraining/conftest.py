"""A pretraining run that several files look at."""

import pathlib

import pytest
import tiny

from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.jobs.pretraining import pretrain
from bertlite_jax.jobs.text.corpus import build_corpus


@pytest.fixture(scope="session")
def shorter(prepared, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A corpus of the same text for rows of 32 tokens."""
    folder = str(tmp_path_factory.mktemp("shorter") / "corpus")
    options = CorpusOptions(length=32, validation_fraction=0.1)
    build_corpus([prepared.text], prepared.tokenizer, folder, options, workers=1)
    return folder


@pytest.fixture(scope="session")
def trained(prepared, compiled, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Work directory of a finished run of `tiny.pretrain`. Tests leave it as it is."""
    from compiling import compile_once

    run = tmp_path_factory.mktemp("run") / "run"
    with compile_once(compiled):
        pretrain.pretrain(tiny.pretrain(prepared), str(run))
    return run
