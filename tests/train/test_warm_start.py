"""Given weights are taken where they fit, and refused before anything is drawn where they do not."""

import jax
import numpy as np
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.train import warm_start


def params(positions: int, hidden: int = 4, **more: tuple[int, ...]) -> dict:
    tables = {"position": {"embedding": np.full((positions, hidden), 1.0 * positions, np.float32)}}
    heads = {name: np.full(shape, 1.0 * positions, np.float32) for name, shape in more.items()}
    return {"embeddings": tables} | heads


def shapes_of(tree: dict) -> dict:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def test_a_longer_table_keeps_the_given_rows_and_names_the_new_ones():
    merged, notes = warm_start.merge(params(5), params(3), "RUN")
    table = np.asarray(merged["embeddings"]["position"]["embedding"])
    assert table[:, 0].tolist() == [3, 3, 3, 5, 5]
    assert notes == ["init: embeddings/position/embedding: rows 0 to 2 from RUN, rows 3 to 4 initialised randomly"]


def test_what_only_one_side_has_is_named():
    merged, notes = warm_start.merge(params(3, new=(2,)), params(3, old=(2,)), "RUN")
    assert set(merged) == {"embeddings", "new"}
    assert notes == ["init: new is not in RUN: initialised randomly", "init: old of RUN is not used by this config"]


def test_shapes_are_enough_to_refuse():
    warm_start.check_shapes(shapes_of(params(5)), params(3), "RUN")
    with pytest.raises(UserError) as refused:
        warm_start.check_shapes(shapes_of(params(5, hidden=8)), params(3), "RUN")
    assert str(refused.value) == (
        "init: RUN does not fit the config: embeddings/position/embedding is (3, 4), the config wants (5, 8)"
    )


def test_three_weights_are_named_and_the_others_counted():
    old, new = ({name: np.zeros(size, np.float32) for name in "abcde"} for size in (2, 3))
    with pytest.raises(UserError, match=r"a is \(2,\), .*; b is .*; c is \(2,\), the config wants \(3,\); and 2 more$"):
        warm_start.merge(new, old, "RUN")
