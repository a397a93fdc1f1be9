"""PyTorch's side of `bertlite bench finetune` learns what ours learns: same weights, tokens, order, optimiser."""

import dataclasses
import functools
import importlib.util
import pickle

import numpy as np
import pytest
from toy_task import MODEL, recipe, write_encoder, write_sst2

from bertlite_jax.config.model import Head
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import finetune_ours, finetune_peer
from bertlite_jax.jobs.benchmarks.finetune_peer import ANSWER, TRAIN, PeerTask

ALBERT = dataclasses.replace(MODEL, share="all", activation="gelu_tanh")
BERT = dataclasses.replace(MODEL, embed_size=32, activation="gelu_erf", norm_epsilon=1e-12)
STILL = {"adapt": {"dropout": 0.0}, "head": {"dropout": 0.0}}


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"))


def opened(prepared, toy, tmp_path, model, **groups):
    encoder = write_encoder(tmp_path / "encoder", prepared.tokenizer, model)
    return finetune_ours.open_setup(recipe(toy, **groups), encoder)


def peer_task_of(setup, folder) -> PeerTask:
    """From the weights that our side starts from."""
    config = setup.start.config
    to_hf(Weights(finetune_ours.start_params(setup), config.model, config.head), folder)
    return PeerTask(
        folder=str(folder),
        train=setup.train.encoded,
        valid=setup.valid.encoded,
        optim=finetune_ours.optim_in_steps(setup),
        steps=setup.steps,
        seed=0,
        pad_id=setup.start.tokenizer.pad_id,
        precision="float32",
    )


@pytest.mark.thorough
@pytest.mark.parametrize("model", [ALBERT, BERT], ids=["albert", "bert"])
def test_both_sides_lose_the_same_in_each_update(model, prepared, toy, tmp_path):
    """Without dropout, over warm-up, peak and decay; our rows are packed, theirs padded.

    Weight decay and clipping are strong enough to show: without either the losses part by more than 1e-3.
    """
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    groups = STILL | {"optim": {"weight_decay": 5.0, "clip_norm": 0.5}, "run": {"steps": 5, "warmup_fraction": 0.2}}
    setup = opened(prepared, toy, tmp_path, model, rate=1e-2, **groups)
    train_peer = finetune_peer.load(peer_task_of(setup, tmp_path / "hf"), 1)
    train = finetune_ours.open_steps(setup)
    order = finetune_peer.dealt_batches(setup.train.encoded, 16, setup.start.config.run.seed, setup.steps)
    theirs = [float(train_peer({TRAIN: numbers})[0]) for numbers in order]
    ours = [float(train(number)[0]["loss"]) for number in range(1, setup.steps + 1)]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.ptp(theirs) > 0.05


def test_an_answer_has_no_dropout_and_an_update_has(prepared, toy, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    setup = opened(prepared, toy, tmp_path, BERT, rate=1e-12, **{"head": {"dropout": 0.5}})
    ask = finetune_peer.load(peer_task_of(setup, tmp_path / "hf"), 1)
    some = np.arange(16)
    np.testing.assert_array_equal(ask({ANSWER: some}), ask({ANSWER: some}))
    assert ask({ANSWER: some}).shape == (16, 2)
    first, second = (float(ask({TRAIN: some})[0]) for _ in range(2))
    assert abs(first - second) > 1e-4  # With a rate of 1e-12 only the masks differ.


# --- Batches -------------------------------------------------------------------------------------------------------


def encoded(sizes, labels) -> Encoded:
    """Token t of the split has id 10 + t; all but the first token of an example are of type 1."""
    offsets = np.r_[0, np.cumsum(sizes)]
    types = np.concatenate([np.arange(size) > 0 for size in sizes]).astype(np.int8)
    tokens = np.arange(offsets[-1], dtype=np.int32) + 10
    words = np.zeros(0, np.int32)
    return Encoded(tokens, types, words, offsets, np.arange(len(sizes) + 1), labels, {"examples": len(sizes)})


def test_a_batch_is_padded_to_its_longest_example():
    split = encoded([3, 1, 2], np.array([0, 1, 1], np.int32))
    batch = finetune_peer.padded(split, np.array([2, 1]), 7)
    assert batch["input_ids"].tolist() == [[14, 15], [13, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1], [0, 0]]
    assert batch["labels"].tolist() == [1, 1]
    assert batch["labels"].dtype == np.int64


def test_numbers_stay_numbers():
    labels = np.array([[0.5], [1.5]], np.float32)
    assert finetune_peer.padded(encoded([2, 2], labels), np.array([1, 0]), 0)["labels"].tolist() == [[1.5], [0.5]]


def test_filled_is_the_share_of_tokens_in_padded_batches():
    """3 + 1 of 2 x 3 slots, 2 of 1 x 2: 6 of 8."""
    split = encoded([3, 1, 2], np.zeros(3, np.int32))
    assert finetune_peer.filled(split, [np.array([0, 1]), np.array([2])]) == 6 / 8


def test_an_epoch_of_the_trainer_holds_every_example_once():
    split = encoded([2] * 10, np.zeros(10, np.int32))
    batches = finetune_peer.shuffled_batches(split, 4, seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches).tolist()) == list(range(10))


# --- What cannot be compared ---------------------------------------------------------------------------------------


def test_a_missing_torch_is_a_line_with_its_command(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(UserError, match=r"bench: finetune needs torch.*pip install torch transformers"):
        finetune_peer.check_installed()


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        ({"optim": {"name": "lamb"}}, "optim.name = adamw"),
        ({"optim": {"bias_correction": False}}, "optim.bias_correction = True"),
        ({"optim": {"schedule": "reference"}}, "optim.schedule = linear"),
        ({"optim": {"update_clip": 1.0}}, "optim.update_clip = 0"),
        ({"adapt": {"layer_decay": 0.9}}, "adapt.layer_decay = 1"),
        ({"head": {"hidden": (64,)}}, r"head.hidden = \(\)"),
        ({"run": {"patience": 2}}, "run.patience = 0"),
    ],
)
def test_a_recipe_that_pytorch_does_not_have_is_refused(groups, wanted):
    with pytest.raises(UserError, match=f"needs {wanted}"):
        finetune_peer.check_recipe(recipe("glue", **groups), Head())


def test_only_classifiers_are_compared():
    with pytest.raises(UserError, match="this one has a tag head"):
        finetune_peer.check_recipe(recipe("glue"), Head("tag", ("O", "B")))


def test_the_peers_task_fits_into_a_pipe(prepared, toy, tmp_path):
    """It is pickled for the other process, so it holds arrays and settings only."""
    split = encoded([2], np.zeros(1, np.int32))
    peer_task = PeerTask("x", split, split, Optim(), 1, 0, 0, "float32")
    again = pickle.loads(pickle.dumps(functools.partial(finetune_peer.load, peer_task))).args[0]
    assert again.train.tokens.tolist() == [10, 11]
