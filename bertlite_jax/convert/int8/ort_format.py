"""A file for phones and ARM servers: ONNX Runtime's own format, s8 activations, and a budget of megabytes.

CPUs with SDOT or I8MM multiply s8 x s8 directly. x86 runs the file too, but slowly.

Source: onnxruntime.ai, "ORT model format" (a model optimised ahead of time, for small builds of the runtime).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config import presets
from bertlite_jax.config.int8 import WholeBits
from bertlite_jax.config.model import Model
from bertlite_jax.convert.int8 import checks, convert, measuring_text
from bertlite_jax.convert.int8.labelled import USUAL_COLUMNS
from bertlite_jax.convert.onnx import graph, integer
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.model import Output, build_onnx
from bertlite_jax.convert.onnx.session import open_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import new_file

SUFFIX = ".ort"
_NODE_BYTES = 1500
"""Size of the graph for each application of a product: about what its nodes and names take."""


def write(
    weights: Weights,
    out: os.PathLike[str] | str,
    text: Sequence[str],
    *,
    max_mb: float = 15.0,
    min_agreement: float = 0.95,
    bits: WholeBits = 7,
    leave_out: Sequence[str] = (),
    output: Output = "auto",
    rows: int = 64,
    length: int = 128,
    overwrite: bool = False,
    columns: OwnOptions = USUAL_COLUMNS,
) -> dict[str, Any]:
    """Writes `out`, loads it once in ONNX Runtime, and compares its answers on text with the float32 model's.

    Args:
      weights: with a tokenizer.
      out: file whose name ends in .ort. It appears complete or not at all.
      text: files or folders of text, or files of examples, to compare on.
      max_mb: budget, in millions of bytes.
      min_agreement: nothing is written below this share of equal answers, or for vectors below this mean cosine.
      bits: as for `quantized.quantize`.
      leave_out: as for `quantized.quantize`.
      output: as for `build_onnx`.
      rows: the most windows of text.
      length: the most tokens of a window.
      overwrite: replace an earlier file.
      columns: of the examples, as they were said when the model was trained.

    Returns:
      bytes, max_mb, products, integer_products, output, answers (how many were compared), and `convert.similarity`.

    Raises:
      UserError: an option out of its range, `out` in the way or of another suffix, a file above the budget (the error
        says what would fit), or answers that differ too much from float32's.
    """
    out = pathlib.Path(out)
    if not 0 < max_mb < np.inf:
        raise UserError(f"convert: --max-mb {max_mb} must be a number above 0")
    checks.check_range("--min-agreement", min_agreement, 0, 1)
    if bits not in (7, 8):
        raise UserError(f"convert: --bits {bits} must be 7 or 8")
    checks.check_options(bits, rows, length)
    _check_file(out)
    checks.warn_of_training(weights, bits, as_in_training=not leave_out)
    scored = checks.check_source(weights, output)
    # The output is reserved before the minutes of work, so that they cannot be in vain.
    with new_file(out, overwrite) as temporary:
        container = quantized.quantize(weights, bits=bits, leave_out=tuple(leave_out))
        checks.check_products(container, scored)
        built = build_onnx(quantized.to_weights(container), integer.per_token(container, signed=True), output)
        content = to_ort(graph.to_bytes(built))
        if not len(content) <= max_mb * 1e6:
            raise UserError(
                f"convert: ort: {len(content) / 1e6:.2f} MB is more than --max-mb {max_mb:g}; "
                f"{what_fits(weights.model, scored, max_mb * 1e6)}"
            )
        trained = quantized.as_trained(weights)
        exact = build_onnx(trained, float32(trained), output)
        evaluation = convert.read_text(weights, text, None, rows, length, output, columns).evaluation
        candidate = _read_back(content, evaluation, scored)
        reference = convert.outcome(graph.to_bytes(exact), evaluation, scored)
        agreement = measuring_text.agreement(candidate, reference, scored)
        _check_agreement(agreement, min_agreement, len(candidate.logits), scored)
        temporary.write_bytes(content)
    return {
        "bytes": len(content),
        "max_mb": max_mb,
        "integer_products": integer.integer_products(built),
        "products": convert.products(exact),
        "output": scored.head.kind if scored.head else scored.output,
        "answers": len(candidate.logits),
        **convert.similarity(candidate, reference, scored),
    }


def _check_file(out: pathlib.Path) -> None:
    """Raises UserError for a name that ONNX Runtime would misread."""
    if out.suffix != SUFFIX:
        raise UserError(f"convert: ort: {out} must end in {SUFFIX}: ONNX Runtime recognises the format by it")


def _read_back(
    content: bytes, evaluation: Sequence[measuring_text.Batch], scored: measuring_text.Scored
) -> measuring_text.Outcome:
    """The answers of the content, loaded from a file as it will be in use."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / f"model{SUFFIX}"
        place.write_bytes(content)
        return convert.outcome(place, evaluation, scored)


def _check_agreement(same: float, least: float, answers: int, scored: measuring_text.Scored) -> None:
    if same >= least:
        return
    if scored.vectors or scored.numbers:
        measured = f"the cosine with float32 is {same:.4f}"
    else:
        measured = f"{same:.4f} of {answers} answers are the same as in float32"
    raise UserError(
        f"convert: ort: {measured}, less than --min-agreement {least:g}; nothing was written. bertlite convert int8 "
        "names the layers to leave out"
    )


def report(figures: dict[str, Any]) -> str:
    """The figures as text for people."""
    size = figures["bytes"]
    answers = f" ({figures['answers']} answers)" if figures["cosine"] is None else ""
    return "\n".join(
        [
            f"products of integers: {figures['integer_products']} of {figures['products']}",
            f"size: {size / 1e6:.2f} MB ({size / 2**20:.2f} MiB), of at most {figures['max_mb']:g} MB",
            convert.similarity_line(figures) + answers,
        ]
    )


def to_ort(content: bytes) -> bytes:
    """Optimises the model in an ONNX file's bytes and returns it in ONNX Runtime's format."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / f"model{SUFFIX}"
        open_session(content, threads=1, optimized_to=place)
        return place.read_bytes()


# --- The budget ------------------------------------------------------------------------------------------------------


def estimate_bytes(model: Model, scored: measuring_text.Scored) -> int:
    """Estimated size of a model's file: a byte a weight, f32 for norms, biases and scales, and the nodes.

    Heads that are not in the file do not count; the pooler counts for the states of a model that has one.
    """
    pooler = scored.head.pooled if scored.head else model.pooler and scored.output == "states"
    model = dataclasses.replace(model, vocab_multiple=1, pair_classes=0, replaced_head=False, pooler=pooler)
    total = _NODE_BYTES * (6 * model.num_layers + 4)
    for path, shape in parameters.shapes(model, scored.head).items():
        size = int(np.prod(shape))
        if not scored.uses(path) and not path.startswith("pooler/"):
            continue
        if path.endswith("kernel"):
            total += size + 4 * (size // shape[-2])
        else:
            total += size + 4 * shape[0] if path.endswith("embedding") else 4 * size
    return total


def what_fits(model: Model, scored: measuring_text.Scored, limit: float) -> str:
    """Changes that would keep the file below `limit` bytes: fewer pieces or layers, or a preset of ours."""
    changes = []
    smaller = range(model.vocab_size // 1000 * 1000, 999, -1000)
    vocabularies = [v for v in smaller if _fits(model, scored, limit, vocab_size=v)]
    if vocabularies:
        changes.append(f"{vocabularies[0]:,} pieces instead of {model.vocab_size:,}")
    if model.share != "all" and model.share_groups == 1:
        layers = [n for n in range(model.num_layers - 1, 0, -1) if _fits(model, scored, limit, num_layers=n)]
        if layers:
            changes.append(f"{layers[0]} layers instead of {model.num_layers}")
    known = {name: value for name, value in vars(presets).items() if isinstance(value, Model)}
    fitting = {name: size for name, value in known.items() if (size := estimate_bytes(value, scored)) <= limit}
    if fitting:
        largest = max(fitting, key=lambda name: fitting[name])
        changes.append(f"the preset {largest} ({fitting[largest] / 1e6:.1f} MB)")
    return "what would fit: " + ", or ".join(changes) if changes else "no preset and no smaller vocabulary would fit"


def _fits(model: Model, scored: measuring_text.Scored, limit: float, **changed: int) -> bool:
    return estimate_bytes(dataclasses.replace(model, **changed), scored) <= limit
