"""A table of modules leads from their tensors to our parameters."""

import numpy as np
import pytest

from bertlite_jax.convert.weights import renaming
from bertlite_jax.convert.weights.renaming import Entry
from bertlite_jax.errors import UserError

MODULES = (("layers/up", "block{i}.fc", "dense"), ("pooler", "pool", "dense"))
LEAVES = {"dense": (("kernel", ".weight", True), ("bias", ".bias", False))}
SHAPES = {"layers/up/kernel": (2, 3, 4), "pooler/kernel": (3, 3), "pooler/bias": (3,)}
"""Two layers without a bias, and a pooler with one."""

ENTRIES = [
    Entry("layers/up/kernel", 0, "block0.fc.weight", True),
    Entry("layers/up/kernel", 1, "block1.fc.weight", True),
    Entry("pooler/kernel", None, "pool.weight", True),
    Entry("pooler/bias", None, "pool.bias", False),
]


def their_tensors() -> dict[str, np.ndarray]:
    kernels = [np.arange(12.0).reshape(4, 3), np.arange(12.0, 24.0).reshape(4, 3)]
    layers = {f"block{i}.fc.weight": kernel for i, kernel in enumerate(kernels)}
    return layers | {"pool.weight": np.arange(9.0).reshape(3, 3), "pool.bias": np.ones(3)}


def test_every_layer_has_an_entry_and_leaves_that_the_model_lacks_have_none():
    assert renaming.list_entries(MODULES, LEAVES, SHAPES) == ENTRIES


def test_kernels_are_transposed_layers_stacked_and_all_are_float32():
    ours = renaming.to_ours(ENTRIES, their_tensors(), SHAPES, "test")
    assert {path: value.shape for path, value in ours.items()} == SHAPES
    assert all(value.dtype == np.float32 and value.flags["C_CONTIGUOUS"] for value in ours.values())
    # Row 2, column 1 of our second kernel is row 1, column 2 of theirs: 12 + 1 x 3 + 2.
    assert ours["layers/up/kernel"][1, 2, 1] == 17.0
    np.testing.assert_array_equal(ours["pooler/kernel"], np.arange(9.0).reshape(3, 3).T)


def test_an_optional_part_may_be_missing_as_a_whole_but_not_in_part():
    tensors = their_tensors()
    del tensors["pool.bias"]
    with pytest.raises(UserError, match=r"missing: pool\.bias$"):
        renaming.to_ours(ENTRIES, tensors, SHAPES, "test", {"pooler"})
    del tensors["pool.weight"]
    assert list(renaming.to_ours(ENTRIES, tensors, SHAPES, "test", {"pooler"})) == ["layers/up/kernel"]
    with pytest.raises(UserError, match=r"missing: pool\.weight, pool\.bias$"):
        renaming.to_ours(ENTRIES, tensors, SHAPES, "test")


def test_every_misfit_is_listed():
    tensors = their_tensors() | {"block1.fc.weight": np.ones((3, 4)), "extra": np.ones(1)}
    with pytest.raises(UserError, match=r"unknown: extra; wrong shape: block1.fc.weight is \(3, 4\), wanted \(4, 3\)"):
        renaming.to_ours(ENTRIES, tensors, SHAPES, "test")
