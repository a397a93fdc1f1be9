"""A file for phones and ARM servers: ONNX Runtime's own format, s8 activations, and a budget of megabytes.

CPUs with SDOT or I8MM multiply s8 x s8; x86 reads the file too, slowly.

Source: onnxruntime.ai, "ORT model format" (a model optimised ahead of time, which its small builds can read).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from bertlite_jax import presets
from bertlite_jax.config import Head, Model, UserError
from bertlite_jax.convert import (
    held_out,
    int8,
    onnx_float,
    onnx_graph,
    onnx_integer,
    onnx_model,
    onnx_session,
    parameters,
    quantize,
)
from bertlite_jax.convert.folders import new_file
from bertlite_jax.convert.weights import Weights

SUFFIX = ".ort"
_NODE_BYTES = 1500
"""Of the graph, for each application of a product: about as much as a layer's nodes and names take."""


def write(
    weights: Weights,
    out: os.PathLike[str] | str,
    text: Sequence[str],
    *,
    max_mb: float = 15.0,
    min_agreement: float = 0.95,
    bits: Literal[7, 8] = 7,
    leave_out: Sequence[str] = (),
    output: onnx_model.Output = "auto",
    rows: int = 64,
    length: int = 128,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes `out`, loads it once in ONNX Runtime, and compares its answers on text with the float32 model's.

    Args:
      weights: with a tokenizer.
      out: file, its name ends in .ort. It appears complete or not at all.
      text: files or folders to compare on.
      max_mb: budget, in millions of bytes.
      min_agreement: share of equal answers below which nothing is written.
      bits, leave_out: as for `quantize.quantize`.
      output: as for `onnx_model.build`.
      rows, length: windows of text and their tokens at most.
      overwrite: replace an earlier file.

    Returns:
      bytes, agreement with float32, answers compared, integer products.

    Raises:
      UserError: too large (with what would fit), other answers than float32, or a name that does not end in .ort.
    """
    out = pathlib.Path(out)
    if out.suffix != SUFFIX:
        raise UserError(f"convert: ort: {out} should end in {SUFFIX}: ONNX Runtime tells the format by that")
    container = quantize.quantize(weights, bits=bits, leave_out=tuple(leave_out))
    built = onnx_model.build(quantize.to_weights(container), onnx_integer.per_token(container, signed=True), output)
    content = to_ort(onnx_graph.to_bytes(built))
    if len(content) > max_mb * 1e6:
        raise UserError(
            f"convert: ort: {len(content) / 1e6:.2f} MB is more than --max-mb {max_mb:g}; "
            f"{what_fits(weights.model, weights.head, max_mb * 1e6)}"
        )
    exact = onnx_graph.to_bytes(onnx_model.build(weights, onnx_float.float32(weights), output))
    evaluation = int8.read_text(weights, text, None, rows, min(length, weights.model.max_positions)).evaluation
    with tempfile.TemporaryDirectory() as folder:
        # Read back from a file, as it will be.
        place = pathlib.Path(folder) / f"model{SUFFIX}"
        place.write_bytes(content)
        found = _outcome(place, weights, evaluation)
    reference = _outcome(exact, weights, evaluation)
    same = held_out.agreement(found, reference, weights.head)
    if same < min_agreement:
        raise UserError(
            f"convert: ort: {same:.4f} of {len(found.logits)} answers are those of float32, less than "
            f"--min-agreement {min_agreement:g}; nothing was written. convert.py int8 names the layers to leave out"
        )
    with new_file(out, overwrite) as temporary:
        temporary.write_bytes(content)
    return {
        "bytes": len(content),
        "agreement": same,
        "answers": len(found.logits),
        "integer_products": onnx_integer.integer_products(built),
    }


def to_ort(content: bytes) -> bytes:
    """An ONNX file's bytes in ONNX Runtime's format, optimised."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / f"model{SUFFIX}"
        onnx_session.open_session(content, threads=1, optimized_to=place)
        return place.read_bytes()


def _outcome(source: bytes | pathlib.Path, weights: Weights, batches: Sequence[held_out.Batch]) -> held_out.Outcome:
    session = onnx_session.open_session(source)

    def answer(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return onnx_session.answer(session, batch)

    return held_out.outcome(answer, batches, weights.head)


# --- The budget ------------------------------------------------------------------------------------------------------


def estimate_bytes(model: Model, head: Head | None) -> int:
    """About what a model's file takes: a byte a weight, f32 for norms, biases and scales, and the nodes.

    Without a head the masked-LM head counts, and the pooler and pair head, which such a file does not hold, do not.
    """
    pooler = head is not None and head.pooled
    model = dataclasses.replace(model, vocab_multiple=1, pair_classes=0, pooler=pooler)
    total = _NODE_BYTES * (6 * model.num_layers + 4)
    for path, shape in parameters.shapes(model, head).items():
        size = int(np.prod(shape))
        if path.endswith("kernel"):
            total += size + 4 * (size // shape[-2])
        else:
            total += size + 4 * shape[0] if path.endswith("embedding") else 4 * size
    return total


def what_fits(model: Model, head: Head | None, limit: float) -> str:
    """What could be changed to stay below `limit` bytes: pieces, layers, or a preset of ours."""
    found = []
    smaller = range(model.vocab_size // 1000 * 1000, 999, -1000)
    vocabularies = [v for v in smaller if _fits(model, head, limit, vocab_size=v)]
    if vocabularies:
        found.append(f"{vocabularies[0]:,} pieces instead of {model.vocab_size:,}")
    if model.share != "all" and model.share_groups == 1:
        layers = [n for n in range(model.num_layers - 1, 0, -1) if _fits(model, head, limit, num_layers=n)]
        if layers:
            found.append(f"{layers[0]} layers instead of {model.num_layers}")
    known = {name: value for name, value in vars(presets).items() if isinstance(value, Model)}
    fitting = {name: size for name, value in known.items() if (size := estimate_bytes(value, head)) <= limit}
    if fitting:
        largest = max(fitting, key=lambda name: fitting[name])
        found.append(f"the preset {largest} ({fitting[largest] / 1e6:.1f} MB)")
    return "what would fit: " + ", or ".join(found) if found else "no preset and no smaller vocabulary would fit"


def _fits(model: Model, head: Head | None, limit: float, **changed: int) -> bool:
    return estimate_bytes(dataclasses.replace(model, **changed), head) <= limit
