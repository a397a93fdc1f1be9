"""A look inside a model: its attention is that of transformers, and like words are near."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
from huggingface_examples import random_params

from bertlite_jax.config.effects import replaced
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.jobs.pretraining.evaluate import Trained
from bertlite_jax.jobs.reports import inside


@pytest.fixture
def trained(prepared) -> Trained:
    """Random weights of the tiny ALBERT."""
    config = tiny.pretrain(prepared)
    model = dataclasses.replace(config.model, vocab_size=300, max_positions=64)
    config = dataclasses.replace(config, model=model)
    return Trained(config, random_params(model), load_tokenizer(prepared.tokenizer), None)


@pytest.mark.thorough
def test_attention_is_that_of_transformers(trained, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    ids = np.array([trained.tokenizer.cls_id, 40, 50, 60, 70, trained.tokenizer.sep_id], np.int32)
    ours = inside.attention(trained, ids)
    to_hf(Weights(trained.params, trained.config.model, pair_task="sop"), tmp_path / "hf")
    network = transformers.AutoModel.from_pretrained(tmp_path / "hf", attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = network(torch.tensor(ids[None].astype(np.int64)), output_attentions=True).attentions
    np.testing.assert_allclose(ours, np.stack([each[0].numpy() for each in theirs]), atol=1e-5)
    np.testing.assert_allclose(ours.sum(-1), 1.0, rtol=1e-5)


def test_words_with_like_rows_are_neighbours(trained):
    found = inside.neighbours(trained, words=3, near=2)
    assert [len(each["near"]) for each in found] == [2, 2, 2]
    tokenizer = trained.tokenizer
    first, second = ([tokenizer.pieces(range(300)).index(f"▁{each['word']}")] for each in found[:2])
    table = np.array(trained.params["embeddings"]["word"]["embedding"])
    table[second] = 2.0 * table[first]
    params = jax.tree.map(np.asarray, trained.params)
    params["embeddings"]["word"]["embedding"] = table
    near = inside.neighbours(dataclasses.replace(trained, params=params), words=3, near=2)[0]["near"]
    assert near[0][0] == found[1]["word"]
    assert near[0][1] == pytest.approx(1.0, abs=1e-5)


def test_a_text_is_cut_to_what_the_model_reads_and_to_what_can_be_shown(trained):
    shown = inside.look_inside(trained, "alice was [MASK] " * 20)
    assert len(shown["tokens"]) == inside.TOKENS
    assert "[MASK]" in shown["tokens"]
    config = replaced(trained.config, "model.max_positions", 8)
    short = dataclasses.replace(trained, config=config, params=random_params(config.model))
    assert len(inside.look_inside(short, "alice was [MASK] " * 20)["tokens"]) == 8


def test_a_run_without_a_checkpoint_has_no_look_inside(tmp_path, capsys):
    sample = {"text": "a [MASK]", "truth": "b", "predictions": []}
    assert inside.of_run(tmp_path, [sample]) == {}
    assert capsys.readouterr().out == ""
    (tmp_path / "checkpoints").mkdir()
    assert inside.of_run(tmp_path, [sample]) == {}
    assert "the report has no look inside" in capsys.readouterr().out
