"""A file for phones and ARM servers: ONNX Runtime's own format, s8 activations, and a budget of megabytes.

CPUs with SDOT or I8MM multiply s8 x s8; x86 reads the file too, slowly.

Source: onnxruntime.ai, "ORT model format" (a model optimised ahead of time, which its small builds can read).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.convert.int8 import checks, convert, measuring_text
from bertlite_jax.convert.onnx import graph, integer
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.model import Output, build_onnx
from bertlite_jax.convert.onnx.session import open_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import new_file

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
    output: Output = "auto",
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
      min_agreement: share of equal answers, of vectors their mean cosine, below which nothing is written.
      bits, leave_out: as for `quantize.quantize`.
      output: as for `build_onnx`.
      rows, length: windows of text and their tokens at most.
      overwrite: replace an earlier file.

    Returns:
      bytes, max_mb, products, integer_products, output, answers compared, `int8.alike`.

    Raises:
      UserError: an option out of its range, `out` in the way or of another suffix, too large (with what would fit),
        other answers than float32.
    """
    out = pathlib.Path(out)
    if not 0 < max_mb < np.inf:
        raise UserError(f"convert: --max-mb {max_mb}: a number above 0 would be right")
    checks.check_range("--min-agreement", min_agreement, 0, 1)
    checks.check_options(bits, rows, length)
    if out.suffix != SUFFIX:
        raise UserError(f"convert: ort: {out} should end in {SUFFIX}: ONNX Runtime tells the format by that")
    if out.is_dir():
        raise UserError(f"convert: ort: {out} is a folder and is not replaced; name a file")
    what = checks.check_source(weights, output)
    # The place is taken before the minutes of work, so that they cannot be in vain.
    with new_file(out, overwrite) as temporary:
        container = quantized.quantize(weights, bits=bits, leave_out=tuple(leave_out))
        checks.check_products(container, what)
        built = build_onnx(quantized.to_weights(container), integer.per_token(container, signed=True), output)
        content = to_ort(graph.to_bytes(built))
        if not len(content) <= max_mb * 1e6:
            raise UserError(
                f"convert: ort: {len(content) / 1e6:.2f} MB is more than --max-mb {max_mb:g}; "
                f"{what_fits(weights.model, what, max_mb * 1e6)}"
            )
        exact = build_onnx(weights, float32(weights), output)
        evaluation = convert.read_text(weights, text, None, rows, length, output).evaluation
        found = _read_back(content, evaluation, what)
        reference = convert.outcome(graph.to_bytes(exact), evaluation, what)
        _check_agreement(measuring_text.agreement(found, reference, what), min_agreement, len(found.logits), what)
        temporary.write_bytes(content)
    return {
        "bytes": len(content),
        "max_mb": max_mb,
        "integer_products": integer.integer_products(built),
        "products": convert.products(exact),
        "output": what.head.kind if what.head else what.output,
        "answers": len(found.logits),
        **convert.alike(found, reference, what),
    }


def _read_back(
    content: bytes, evaluation: Sequence[measuring_text.Batch], what: measuring_text.Scored
) -> measuring_text.Outcome:
    """What the file answers, loaded from a file as it will be."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / f"model{SUFFIX}"
        place.write_bytes(content)
        return convert.outcome(place, evaluation, what)


def _check_agreement(same: float, least: float, answers: int, what: measuring_text.Scored) -> None:
    if same >= least:
        return
    if what.vectors or what.numbers:
        measured = f"the cosine with float32 is {same:.4f}"
    else:
        measured = f"{same:.4f} of {answers} answers are those of float32"
    raise UserError(
        f"convert: ort: {measured}, less than --min-agreement {least:g}; nothing was written. convert.py int8 names "
        "the layers to leave out"
    )


def report(figures: dict[str, Any]) -> str:
    """The figures as text for people."""
    size = figures["bytes"]
    answers = f" ({figures['answers']} answers)" if figures["cosine"] is None else ""
    return "\n".join(
        [
            f"products of integers: {figures['integer_products']} of {figures['products']}",
            f"size: {size / 1e6:.2f} MB ({size / 2**20:.2f} MiB), of at most {figures['max_mb']:g} MB",
            convert.alike_line(figures) + answers,
        ]
    )


def to_ort(content: bytes) -> bytes:
    """An ONNX file's bytes in ONNX Runtime's format, optimised."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / f"model{SUFFIX}"
        open_session(content, threads=1, optimized_to=place)
        return place.read_bytes()


# --- The budget ------------------------------------------------------------------------------------------------------


def estimate_bytes(model: Model, what: measuring_text.Scored) -> int:
    """About what a model's file takes: a byte a weight, f32 for norms, biases and scales, and the nodes.

    Heads that the file does not hold do not count; the pooler counts for states of a model that has one.
    """
    pooler = what.head.pooled if what.head else model.pooler and what.output == "states"
    model = dataclasses.replace(model, vocab_multiple=1, pair_classes=0, pooler=pooler)
    total = _NODE_BYTES * (6 * model.num_layers + 4)
    for path, shape in parameters.shapes(model, what.head).items():
        size = int(np.prod(shape))
        if not what.uses(path) and not path.startswith("pooler/"):
            continue
        if path.endswith("kernel"):
            total += size + 4 * (size // shape[-2])
        else:
            total += size + 4 * shape[0] if path.endswith("embedding") else 4 * size
    return total


def what_fits(model: Model, what: measuring_text.Scored, limit: float) -> str:
    """What could be changed to stay below `limit` bytes: pieces, layers, or a preset of ours."""
    found = []
    smaller = range(model.vocab_size // 1000 * 1000, 999, -1000)
    vocabularies = [v for v in smaller if _fits(model, what, limit, vocab_size=v)]
    if vocabularies:
        found.append(f"{vocabularies[0]:,} pieces instead of {model.vocab_size:,}")
    if model.share != "all" and model.share_groups == 1:
        layers = [n for n in range(model.num_layers - 1, 0, -1) if _fits(model, what, limit, num_layers=n)]
        if layers:
            found.append(f"{layers[0]} layers instead of {model.num_layers}")
    known = {name: value for name, value in vars(presets).items() if isinstance(value, Model)}
    fitting = {name: size for name, value in known.items() if (size := estimate_bytes(value, what)) <= limit}
    if fitting:
        largest = max(fitting, key=lambda name: fitting[name])
        found.append(f"the preset {largest} ({fitting[largest] / 1e6:.1f} MB)")
    return "what would fit: " + ", or ".join(found) if found else "no preset and no smaller vocabulary would fit"


def _fits(model: Model, what: measuring_text.Scored, limit: float, **changed: int) -> bool:
    return estimate_bytes(dataclasses.replace(model, **changed), what) <= limit
