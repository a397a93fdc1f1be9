"""A head of elsewhere has the task's labels in another order, or none: its answers are put right, or refused."""

import io
import pathlib

import numpy as np
import pytest
from toy_task import write_encoder, write_sst2

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import label_order
from bertlite_jax.convert.weights.folder import load_weights, save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering.predict_split import predict_split

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def given(prepared, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("given")
    return pathlib.Path(write_encoder(folder / "model", prepared.tokenizer, head=Head(labels=("0", "1"))))


def test_outputs_in_another_order_give_the_same_answers_and_score(given, toy, tmp_path):
    swapped = label_order.reordered(load_weights(given), ("1", "0"))
    assert swapped is not None
    save_weights(swapped, tmp_path / "swapped")
    ours, theirs = io.StringIO(), io.StringIO()
    wanted = predict_split(str(given), "sst2", toy, "validation", ours)
    assert predict_split(str(tmp_path / "swapped"), "sst2", toy, "validation", theirs) == wanted
    assert theirs.getvalue() == ours.getvalue()


def test_outputs_without_names_are_not_scored(given, toy, tmp_path):
    """huggingface/transformers #12822; DFKI-NLP/thermostat #10: 7 % accuracy in the wrong order."""
    loaded = load_weights(given)
    assert np.shape(loaded.params["head"]["output"]["bias"]) == (2,)
    kept = label_order.reordered(loaded, ("0", "1"))
    assert kept is not None
    assert kept.head is not None
    unnamed = Head(labels=("LABEL_0", "LABEL_1"))
    save_weights(type(kept)(kept.params, kept.model, unnamed, kept.tokenizer), tmp_path / "unnamed")
    with pytest.raises(UserError, match=r"has head.labels = \('LABEL_0', 'LABEL_1'\), but sst2 needs .* --labels"):
        predict_split(str(tmp_path / "unnamed"), "sst2", toy, "validation", io.StringIO())
