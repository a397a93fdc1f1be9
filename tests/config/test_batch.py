"""The table of a batch gives every array its shape."""

import re

from bertlite_jax.config.batch import BATCH, batch_shapes


def test_shapes_follow_from_the_letters():
    shapes = batch_shapes(rows=32, length=128, windows=8)
    assert list(shapes) == list(BATCH)
    assert (shapes["rows"], shapes["tokens"], shapes["cls"]) == ((32,), (32, 128), (32, 8))


def test_every_array_has_axes_a_dtype_and_a_meaning():
    """The letters are those that the module explains; each meaning is a sentence."""
    for entry in BATCH.values():
        assert set(entry.axes.split()) <= {"B", "L", "P"}
        assert entry.dtype == "int32"
        assert re.fullmatch(r"[A-Z0-9].*\.", entry.meaning)
