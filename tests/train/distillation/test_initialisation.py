"""Which layer of a teacher goes where, to the bit; means and low-rank rests where the student's layers share."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from huggingface_examples import random_params

from bertlite_jax.config.model import Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.train.distillation.initialisation import layer_map, student_params, table

TEACHER = Model(
    vocab_size=60,
    embed_size=16,
    hidden_size=16,
    num_layers=12,
    num_heads=2,
    ffn_size=24,
    max_positions=32,
    share="none",
)
IDS = np.random.default_rng(0).integers(5, 60, (2, 9)).astype(np.int32)
INPUTS = IDS, np.ones_like(IDS), np.broadcast_to(np.arange(9, dtype=np.int32), (2, 9)), np.zeros_like(IDS)


def of_teacher(model: Model = TEACHER, **changes: np.ndarray) -> dict[str, np.ndarray]:
    return parameters.flatten(random_params(model)) | changes


def states(flat: dict[str, np.ndarray], model: Model) -> Any:
    params = {"params": parameters.nest(flat)}
    return PretrainingModel(model).apply(params, *INPUTS, method=PretrainingModel.hidden_states)


# --- Which layer goes where ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "students", "teachers", "wanted"),
    [
        ("alternate", 6, 12, (0, 2, 4, 7, 9, 11)),  # DistilBERT's extract_distilbert.py
        ("alternate", 4, 12, (0, 4, 7, 11)),
        ("alternate", 1, 12, (0,)),
        ("alternate", 12, 12, tuple(range(12))),
        ("first", 3, 12, (0, 1, 2)),
        ("last", 3, 12, (9, 10, 11)),
    ],
)
def test_each_layer_starts_from_one_layer(start, students, teachers, wanted):
    assert layer_map(start, students, teachers) == tuple((layer,) for layer in wanted)


def test_groups_cut_the_teacher_into_stretches():
    assert layer_map("groups", 4, 12) == ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
    assert layer_map("groups", 3, 4) == ((0,), (1,), (2, 3))
    assert layer_map("random", 2, 12) == ((), ())


@pytest.mark.parametrize("start", ["alternate", "first", "last"])
def test_the_layers_of_the_teacher_arrive_to_the_bit(start):
    """Every stack of the student holds the rows that the map names; tables and heads are the teacher's."""
    student, flat = dataclasses.replace(TEACHER, num_layers=6), of_teacher()
    layers = layer_map(start, 6, 12)
    made = student_params(flat, TEACHER, student, layers)
    assert made.keys() == flat.keys()
    for name, value in made.items():
        wanted = flat[name][[layer for (layer,) in layers]] if name.startswith("layers/") else flat[name]
        np.testing.assert_array_equal(value, wanted, err_msg=name)


def test_the_table_says_where_each_layer_comes_from():
    lines = table(layer_map("alternate", 6, 12), dataclasses.replace(TEACHER, num_layers=6), "runs/bert")
    assert lines == (
        "layer of the student    0  1  2  3  4   5",
        "starts from layer(s)    0  2  4  7  9  11  of runs/bert",
    )
    shared = dataclasses.replace(TEACHER, num_layers=4, share="all", low_rank=2)
    lines = table(layer_map("groups", 4, 12), shared, "runs/bert")
    assert lines[1] == "starts from layer(s)    0,1,2  3,4,5  6,7,8  9,10,11  of runs/bert"
    assert lines[2].startswith("layers of a group share attention, ffn, norms: the mean of theirs; ")
    assert lines[2].endswith("rank 2")


def test_a_student_of_the_same_shape_is_its_teacher():
    made = student_params(of_teacher(), TEACHER, TEACHER, layer_map("groups", 12, 12))
    for ours, theirs in zip(states(made, TEACHER), states(of_teacher(), TEACHER), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- Parts that one of the two has not -------------------------------------------------------------------------------


def test_the_first_token_type_goes_into_the_positions():
    """DistilBERT has no token types; its embeddings are then those of its teacher for a single text."""
    student = dataclasses.replace(TEACHER, num_layers=6, token_types=0, pooler=False, pair_classes=0)
    made = student_params(of_teacher(), TEACHER, student, layer_map("alternate", 6, 12))
    assert {name.split("/")[0] for name in made} == {"embeddings", "layers", "mlm"}
    parameters.check_shapes(made, student, "student")
    np.testing.assert_allclose(states(made, student)[0], states(of_teacher(), TEACHER)[0], atol=1e-5)


def test_parts_that_the_teacher_lacks_are_left_to_be_drawn():
    teacher = dataclasses.replace(TEACHER, token_types=0, pooler=False, pair_classes=0)
    flat = {name: value for name, value in of_teacher(teacher).items() if not name.startswith("mlm/")}
    made = student_params(flat, teacher, TEACHER, layer_map("first", 12, 12))
    lacking = parameters.missing_parts(parameters.nest(made), TEACHER)
    assert lacking == ["embeddings/token_type", "pooler", "mlm", "pair"]


def test_a_pair_head_of_other_classes_is_not_taken():
    student = dataclasses.replace(TEACHER, pair_classes=3)
    assert not [
        name for name in student_params(of_teacher(), TEACHER, student, layer_map("first", 12, 12)) if "pair" in name
    ]


# --- Layers that share -----------------------------------------------------------------------------------------------


def test_shared_layers_start_from_the_mean_of_their_group():
    student, flat = dataclasses.replace(TEACHER, share="all", share_groups=2), of_teacher()
    made = student_params(flat, TEACHER, student, layer_map("groups", 12, 12))
    for name, value in made.items():
        if name.startswith("layers/"):
            halves = [flat[name][:6].mean(0), flat[name][6:].mean(0)]
            np.testing.assert_allclose(value, halves, atol=1e-6, err_msg=name)
    parameters.check_shapes(made, student, "student")


@pytest.mark.parametrize(
    "model",
    [
        {"share": "attention"},
        {"share": "ffn", "share_groups": 3},
        {"own_norms": True, "depth_vector": True},
        {"own_first": 2, "own_last": 1, "low_rank": 3},
    ],
    ids=str,
)
def test_every_way_of_sharing_gets_all_its_parameters(model):
    student = dataclasses.replace(TEACHER, **{"share": "all", "num_layers": 6, **model})
    made = student_params(of_teacher(), TEACHER, student, layer_map("alternate", 6, 12))
    parameters.check_shapes(made, student, "student")
    if student.own_first:
        np.testing.assert_array_equal(made["layers/ffn/up/kernel"][:2], of_teacher()["layers/ffn/up/kernel"][[0, 2]])
        np.testing.assert_array_equal(made["layers/ffn/up/kernel"][-1], of_teacher()["layers/ffn/up/kernel"][11])


def alike_but_for_kernels(rank: int) -> dict[str, np.ndarray]:
    """A teacher whose layers differ only in feed-forward kernels, by a product of this rank."""
    flat, rng = of_teacher(), np.random.default_rng(1)
    for name in [name for name in flat if name.startswith("layers/")]:
        flat[name] = np.repeat(flat[name][:1], TEACHER.num_layers, axis=0)
    for name in ("up", "down"):
        kernel = flat[f"layers/ffn/{name}/kernel"]
        left = 0.1 * rng.normal(size=(TEACHER.num_layers, kernel.shape[1], rank))
        right = rng.normal(size=(rank, kernel.shape[2]))
        flat[f"layers/ffn/{name}/kernel"] = (kernel + left @ right).astype(np.float32)
    return flat


def test_low_rank_pairs_hold_what_the_mean_leaves_out():
    """Layers that differ by rank 3 are held to rounding by pairs of rank 3, and by no others."""
    flat = alike_but_for_kernels(3)
    wanted, distance = states(flat, TEACHER)[-1], {}
    for rank in (0, 1, 3):
        student = dataclasses.replace(TEACHER, share="all", low_rank=rank)
        made = student_params(flat, TEACHER, student, layer_map("groups", 12, 12))
        distance[rank] = float(np.abs(np.asarray(states(made, student)[-1]) - wanted).max())
    assert distance[3] < 2e-5
    assert min(distance[0], distance[1]) > 0.1


def test_a_rest_is_its_truncated_decomposition():
    """Eckart and Young: no product of this rank is nearer; the distance is the root of the squares that are left."""
    flat, student = of_teacher(), dataclasses.replace(TEACHER, share="all", low_rank=4)
    made = student_params(flat, TEACHER, student, layer_map("groups", 12, 12))
    kernel = flat["layers/ffn/up/kernel"]
    for layer in (0, 7):
        rest = kernel[layer] - kernel.mean(0)
        product = made["layers/low_rank/up_in/kernel"][layer] @ made["layers/low_rank/up_out/addition"][layer]
        left_out = np.linalg.svd(rest, compute_uv=False)[4:]
        assert np.linalg.norm(rest - product) == pytest.approx(np.linalg.norm(left_out), rel=1e-4)


def test_pairs_without_a_rest_can_still_learn():
    """B is 0 and A is not, so that B has a gradient; two zeros would stay."""
    flat = alike_but_for_kernels(1)
    flat |= {
        f"layers/ffn/{name}/kernel": np.repeat(flat[f"layers/ffn/{name}/kernel"][:1], 12, 0) for name in ("up", "down")
    }
    student = dataclasses.replace(TEACHER, share="all", low_rank=2)
    made = student_params(flat, TEACHER, student, layer_map("groups", 12, 12))
    assert not made["layers/low_rank/up_out/addition"].any()
    assert np.all(np.linalg.norm(made["layers/low_rank/up_in/kernel"], axis=1) > 1e-3)
