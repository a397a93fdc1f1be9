"""Everything that weights are exported to, as files whose bytes can be compared."""

import pathlib
from typing import Any

from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.convert import bundle
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.int8 import convert
from bertlite_jax.convert.onnx import folder
from bertlite_jax.convert.weights.folder import Weights

TEXT_LENGTH = 16

Write = Any
"""Writes weights to a place, given a folder with text.txt."""
TARGETS: dict[str, Write] = {
    "to-hf": lambda weights, out, text: to_hf(weights, out),
    "to-hf for sentence-transformers": lambda weights, out, text: to_hf(weights, out, sentence_transformers=True),
    "onnx": lambda weights, out, text: folder.write(weights, out),
    "int8": lambda weights, out, text: convert.int8(
        weights, out, [text], Int8Options(max_drop=1, rows=16, length=TEXT_LENGTH, fit=True, auto=1)
    ),
    "int8, static": lambda weights, out, text: convert.int8(
        weights, out, [text], Int8Options(max_drop=1, rows=16, length=TEXT_LENGTH, activations="static")
    ),
    "bundle": lambda weights, out, text: bundle.write_bundle(weights, out),
}


def files_of(target: str, weights: Weights, place: pathlib.Path, text: str) -> dict[str, bytes]:
    """What an export writes below `place`, by name."""
    place.mkdir()
    TARGETS[target](weights, place / "out", text)
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*.*")}
