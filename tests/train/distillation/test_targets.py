"""The names of what losses read of the teachers, which are also those in a store."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import tiny

from bertlite_jax.config.distillation.settings import Distill, Distillation
from bertlite_jax.config.pretrain import Data
from bertlite_jax.train.distillation import targets

STUDENT, TEACHER = tiny.bert(), tiny.bert(num_layers=4)
CONFIG = Distill(
    model=STUDENT,
    data=Data(length=16, batch_rows=2, windows_per_row=1, pair_task="none"),
    distill=Distillation(teachers=("a", "b"), cosine_weight=0.0, mlm_weight=0.0),
)


def with_(**changes) -> Distill:
    return dataclasses.replace(CONFIG, distill=dataclasses.replace(CONFIG.distill, **changes))


def test_a_name_says_which_layer_of_which_teacher():
    """Two layers learn from 2 and 4 of four; states have the embeddings, 0, before them."""
    config = with_(cosine_weight=1.0, states_weight=1.0, attention_weight=1.0)
    assert targets.names_of(config, [TEACHER]) == {
        "soft": ("soft/log_probs",),
        "cosine": ("0/states/4",),
        "states": ("0/states/0", "0/states/2", "0/states/4"),
        "attention": ("0/query/2", "0/key/2", "0/query/4", "0/key/4"),
    }


def test_relations_come_from_the_last_layer_of_each_teacher_kind_by_kind():
    found = targets.names_of(with_(soft_weight=0.0, relations_weight=1.0), [TEACHER, tiny.bert(num_layers=3)])
    wanted = ("0/query/4", "1/query/3", "0/key/4", "1/key/3", "0/value/4", "1/value/3")
    assert found == {"relations": wanted}


def test_a_loss_on_labels_reads_nothing():
    assert targets.names_of(with_(soft_weight=0.0, mlm_weight=1.0, relations_weight=1.0), [TEACHER]).keys() == {
        "relations"
    }


def test_where_nothing_is_compared_a_store_has_the_same_in_all_rows():
    """So that it takes no room: unused predictions, and padding."""
    rng = np.random.default_rng(0)
    rows = {
        "weights": jnp.array([[1.0, 0.0], [1.0, 1.0]]),
        "segments": jnp.array([[1, 1, 0], [1, 0, 0]], jnp.int32),
    }
    said = {
        targets.SOFT: jnp.asarray(rng.normal(size=(2, 2, tiny.VOCAB_SIZE)), jnp.float32),
        "0/states/4": jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.bfloat16),
    }
    stored = targets.to_store(said, rows, CONFIG, 4)
    assert {name: str(array.dtype) for name, array in stored.items()} == {
        targets.SOFT: "float32",
        targets.IDS: "uint16",
        targets.TAIL: "float32",
        "0/states/4": "bfloat16",
    }
    assert stored[targets.IDS][0, 1].tolist() == [0, 1, 2, 3]
    assert not np.any(stored[targets.SOFT][0, 1])
    assert np.all(np.any(np.asarray(stored[targets.SOFT]), axis=-1) == np.asarray(rows["weights"] > 0))
    assert np.all(np.any(np.asarray(stored["0/states/4"], np.float32), axis=-1) == np.asarray(rows["segments"] > 0))
