"""A head of elsewhere has the task's labels in another order, or none: its answers are put right, or refused."""

import io
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from toy_task import write_encoder, write_sst2

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import label_order
from bertlite_jax.convert.weights.folder import load_weights, save_weights
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import predict
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


# --- Names that were said beside the model's own ---------------------------------------------------------------------

STARS = ("poor", "fair", "great")


@pytest.fixture(scope="module")
def rated(prepared, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("rated")
    return str(write_encoder(folder / "model", prepared.tokenizer, head=Head(labels=("1", "2", "3"))))


def answered(run: str, folder: pathlib.Path, values: list[Any], capsys, **options) -> tuple[list[str], str]:
    """The answers to texts with these labels, and the last line on standard error."""
    rows = [{"text": f"text {number}", "stars": label} for number, label in enumerate(values)]
    (folder / "own.json").write_text(json.dumps(rows), encoding="utf-8")
    out = io.StringIO()
    predict.predict(run, str(folder / "own.json"), out, columns=OwnOptions(label="stars"), **options)
    return [json.loads(line)["label"] for line in out.getvalue().splitlines()], capsys.readouterr().err


def test_numbers_that_are_the_models_own_names_are_scored_as_those(rated, tmp_path, capsys):
    own, _ = answered(rated, tmp_path, [1, 2, 3], capsys)
    spelled = [form(answer) for answer, form in zip(own, (int, str, float), strict=True)]
    named, said = answered(rated, tmp_path, spelled, capsys, labels=STARS)
    assert named == [STARS[int(answer) - 1] for answer in own]
    assert "predict: accuracy 1.0000" in said
    assert "predict: accuracy 1.0000" in answered(rated, tmp_path, named, capsys, labels=STARS)[1]


def test_numbers_from_0_beside_own_names_from_1_are_asked_about(rated, tmp_path, capsys):
    own, said = answered(rated, tmp_path, [0, 1, 2], capsys, labels=STARS)
    assert "predict: the input has the label 0, which is none of the model's own (1, 2, 3), so nothing is sc" in said
    assert "pass --labels 0 1 2" in said
    from_0 = [STARS.index(answer) for answer in own]
    assert "accuracy 1.0000" in answered(rated, tmp_path, from_0, capsys, labels=("0", "1", "2"))[1]


def test_numbers_from_1_for_names_that_count_from_0_are_asked_about(prepared, tmp_path, capsys):
    run = str(write_encoder(tmp_path / "model", prepared.tokenizer, head=Head(labels=STARS)))
    own, said = answered(run, tmp_path, [1, 2, 3], capsys, labels=("C", "B", "A"))
    assert "go to 3, and the model's count from 0 (0 is C), so nothing is scored; if they count from 1" in said
    from_1 = ["CBA".index(answer) + 1 for answer in own]
    assert "accuracy 1.0000" in answered(run, tmp_path, from_1, capsys, labels=("1", "2", "3"))[1]
