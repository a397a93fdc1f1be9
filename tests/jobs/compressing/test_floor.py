"""The mean of word vectors learns what single words say."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from toy_task import FILLER, recipe, write_sst2

from bertlite_jax.config.effects import replaced
from bertlite_jax.convert import sources
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.jobs.compressing import floor, served_scores
from bertlite_jax.jobs.finetuning.prepare import prepare
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.train.compression import word_mean


@pytest.fixture(scope="module")
def opened(encoder, tmp_path_factory) -> tuple[Setup, Weights]:
    loaded = sources.load(encoder)
    setup = prepare(recipe(write_sst2(tmp_path_factory.mktemp("floor") / "glue")), loaded, encoder)
    return setup, dataclasses.replace(loaded, head=setup.start.config.head)


def test_it_learns_the_word_that_decides(opened: tuple[Setup, Weights], tmp_path: pathlib.Path):
    """The queen or the rabbit, on 29 texts that it has not seen, as ONNX Runtime answers them."""
    setup, teacher = opened
    path = tmp_path / "words" / floor.MODEL
    assert floor.is_for(teacher)
    size = floor.train(teacher, setup, path)
    assert size == 2 * teacher.model.vocab_size + 2
    assert served_scores.judge(path, teacher, setup).figures["accuracy"] == 1.0


def test_rare_labels_count_as_in_the_recipe_of_the_students(opened: tuple[Setup, Weights]):
    """Of one text of each label, with nothing known of words, the first step goes nowhere, or to the rarer label."""
    setup, teacher = opened
    labels = setup.train.encoded.labels
    arrays = floor._padded(setup.train.encoded, setup.start.tokenizer.pad_id) | {"labels": labels}
    rows = {name: values[[labels.argmin(), labels.argmax()]] for name, values in arrays.items()}
    rarer = int(labels.mean() < 0.5)
    params = word_mean.drawn(teacher.params["embeddings"]["word"]["embedding"], 2, jax.random.key(0))
    params = params._replace(kernel=np.zeros_like(params.kernel))
    for weights, moved in (("none", 0.0), ("balanced", floor._RATE)):
        config = replaced(setup.start.config, "learn.class_weights", weights)
        step, state = floor._make_step(setup._replace(start=setup.start._replace(config=config)))
        after, _ = step(params, state(params), rows)
        assert float(after.bias[rarer]) == pytest.approx(moved, rel=1e-3)


def test_order_is_nothing_to_it(opened: tuple[Setup, Weights], tmp_path: pathlib.Path):
    setup, teacher = opened
    floor.train(teacher, setup, tmp_path / floor.MODEL)
    session = open_session(tmp_path / floor.MODEL)
    ids = setup.start.tokenizer.encode(" ".join(FILLER)).astype(np.int64)[None]
    found = [
        run_session(session, {"input_ids": each, "attention_mask": np.ones_like(each)})["logits"]
        for each in (ids, ids[:, ::-1])
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_taggers_have_none(opened: tuple[Setup, Weights]):
    _, teacher = opened
    assert teacher.head is not None
    assert not floor.is_for(dataclasses.replace(teacher, head=dataclasses.replace(teacher.head, kind="tag")))
