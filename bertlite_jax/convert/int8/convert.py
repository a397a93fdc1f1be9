"""`bertlite convert int8`: a folder with float32 and 8-bit ONNX, measured on text, or an error that names bad layers.

Everything is measured with the files themselves, in ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx

from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.convert.int8 import calibrate, checks, example_windows, measuring_text, rounding, sensitivity
from bertlite_jax.convert.int8.labelled import USUAL_COLUMNS, Labelled, Scorer
from bertlite_jax.convert.int8.measuring_text import Batch, Scored
from bertlite_jax.convert.onnx import integer
from bertlite_jax.convert.onnx.arithmetic import Arithmetic
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.folder import MODEL, QUANTIZED, describe
from bertlite_jax.convert.onnx.graph import Graph, to_bytes
from bertlite_jax.convert.onnx.model import Output, build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights, longest_input
from bertlite_jax.convert.weights.quantized import Container
from bertlite_jax.convert.weights.reading import write_reading
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu
from bertlite_jax.host.whole_files import new_folder, write_json

SIDECAR = "onnx/quantization.json"
Activations = Literal["token", "tensor", "static"]
COSINE = "cosine with float32"
"""Metric of vectors and amounts without labels, which has a line of its own."""
_SEED = 0
_BATCH = 8
_BLAMED = 3


@dataclasses.dataclass(frozen=True)
class Text:
    """The batches of a measurement.

    Attributes:
      calibration: batches for the ranges of `static`.
      evaluation: other batches, with `labels` where the metric needs them.
      metric: name of what is measured.
      labelled: the examples of `evaluation`, where a task's metric is measured.
    """

    calibration: list[Batch]
    evaluation: list[Batch]
    metric: str
    labelled: Labelled | None = None


class Models(NamedTuple):
    """A float32 and an 8-bit graph of the same weights."""

    container: Container
    float32: onnx.ModelProto
    int8: onnx.ModelProto


def int8(
    weights: Weights,
    out: os.PathLike[str] | str,
    text: Sequence[str],
    options: Int8Options = Int8Options(),
    overwrite: bool = False,
    columns: OwnOptions = USUAL_COLUMNS,
    scorer: Scorer | None = None,
) -> dict[str, Any]:
    """Quantises, measures, and writes the folder `out` if the metric falls by no more than allowed.

    The folder has the files of `folder.describe`, `onnx/model.onnx`, `onnx/model_quantized.onnx`, the container
    (`model.int8.safetensors`) and the figures (`onnx/quantization.json`).

    Args:
      weights: with a tokenizer.
      out: folder; it appears complete or not at all.
      text: files or folders of text, or files of examples; one half of the windows calibrates, the other measures.
      options: how the model is quantised and measured, and how far the metric may fall.
      overwrite: replace an earlier result.
      columns: of all examples, as they were said when the model was trained.
      scorer: what `options.data` is measured by; needed only there.

    Returns:
      The contents of the sidecar.

    Raises:
      UserError: an option out of its range, `out` in the way, or a metric that falls by more than `max_drop`; the
        error names the parts that lose most. Nothing is written.
    """
    checks.check_range("--max-drop", options.max_drop, 0, 1)
    checks.check_options(options.bits, options.rows, options.length)
    checks.check_auto(options.auto)
    checks.warn_of_bits(options.bits)
    output, leave_out = options.output, options.leave_out
    checks.warn_of_training(weights, options.bits, as_in_training=options.as_in_training)
    scored = checks.check_source(weights, output)
    if options.data:
        measuring_text.check_labelled(scored)
        if scorer is None:
            raise ValueError("int8: options.data needs a scorer")
    # The output is reserved before the minutes of work, so that they cannot be in vain.
    with new_folder(out, overwrite, QUANTIZED) as folder:
        container = quantized.quantize(weights, bits=options.bits, leave_out=leave_out)
        checks.check_products(container, scored)
        checks.check_auto(options.auto, sensitivity.parts(container, scored))
        exact = quantized.as_trained(weights)
        batches = read_text(weights, text, options.data, options.rows, options.length, output, columns, scorer)
        if options.auto:
            worst = sensitivity.by_part(exact, container, batches.evaluation[:2], output=output)[: options.auto]
            leave_out = (*leave_out, *(loss.part for loss in worst))
            container = quantized.quantize(weights, bits=options.bits, leave_out=leave_out)
            checks.check_products(container, scored)
        if options.fit:
            container = rounding.fit(exact, container, batches.calibration, output)
        models = build(exact, container, options.activations, batches.calibration, options.method, output)
        figures = {
            "activations": options.activations,
            "bits": options.bits,
            "fitted": options.fit,
            "left_out": list(leave_out),
        }
        figures |= measure(exact, models, batches, output)
        if not figures["drop"] <= options.max_drop:
            raise UserError(_refusal(exact, container, batches, figures, options.max_drop, output))
        depth = sensitivity.by_depth(exact, container, batches.evaluation[:1], output)
        figures["by_depth"] = [row._asdict() for row in depth]
        _fill(folder, exact, models, figures, output)
    return figures


def _fill(folder: pathlib.Path, weights: Weights, models: Models, figures: dict[str, Any], output: Output) -> None:
    """Writes all files of the result; adds `container_bytes` to the figures."""
    (folder / MODEL).parent.mkdir(exist_ok=True)
    (folder / MODEL).write_bytes(to_bytes(models.float32))
    (folder / QUANTIZED).write_bytes(to_bytes(models.int8))
    figures["container_bytes"] = quantized.save(models.container, folder / quantized.FILE)
    describe(weights, folder, output, figures)
    if weights.head:
        write_reading(weights.reading, folder)
    if weights.tokenizer is not None:
        _copy_tokenizer(pathlib.Path(weights.tokenizer.folder), folder / "tokenizer")
    write_json(folder / SIDECAR, figures)


def _copy_tokenizer(source: pathlib.Path, to: pathlib.Path) -> None:
    to.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (to / file.name).write_bytes(file.read_bytes())


# --- Measuring -------------------------------------------------------------------------------------------------------


def read_text(
    weights: Weights,
    text: Sequence[str],
    data: str | None,
    rows: int,
    length: int,
    output: Output = "auto",
    columns: OwnOptions = USUAL_COLUMNS,
    scorer: Scorer | None = None,
) -> Text:
    """Batches to calibrate and to measure with; no window serves both. `length` is cut to what the model reads."""
    scored = measuring_text.scored_output(weights, output)
    length = min(length, longest_input(weights, output == "sentence"))
    # Examples first, so that an error in them does not wait for minutes of reading text.
    examples = measuring_text.labelled(weights, data, length, scorer, columns) if data and scorer else None
    windows = measuring_text.windows(weights, text, rows, length, columns, output)
    calibration = measuring_text.batches(weights, windows[::2], _BATCH, length)
    if examples:
        rows_of_examples = example_windows.split(examples.encoded)
        evaluation = measuring_text.batches(weights, rows_of_examples, _BATCH, length)
        return Text(calibration, evaluation, examples.scorer.metric, examples)
    evaluation = measuring_text.batches(weights, windows[1::2], _BATCH, length)
    if scored.output == "fill-mask":
        evaluation = [measuring_text.masked(weights, batch, _SEED + number) for number, batch in enumerate(evaluation)]
        if not any((batch["labels"] != measuring_text.IGNORED).any() for batch in evaluation):
            raise UserError(
                f"convert: {', '.join(text)}: none of {len(windows[1::2])} windows got a mask, so nothing can be "
                "scored; give more text or more --rows"
            )
        return Text(calibration, evaluation, "masked-LM accuracy")
    cosine = scored.vectors or scored.numbers
    return Text(calibration, evaluation, COSINE if cosine else "agreement with float32")


def build(
    weights: Weights,
    container: Container,
    activations: Activations,
    calibration: Sequence[Batch],
    method: calibrate.Method = "minmax",
    output: Output = "auto",
) -> Models:
    """Both graphs.

    Raises:
      RuntimeError: a product that the container stores as integers became a product of floats.
    """
    if activations == "static":
        arithmetic = integer.static(container, calibrate.ranges(weights, calibration, method, output=output))
    else:
        kinds = {"token": integer.per_token, "tensor": integer.per_tensor}
        arithmetic = kinds[activations](container)
    plain = build_onnx(weights, float32(weights), output)
    counted, expected = _counting(arithmetic, container)
    coarse = build_onnx(quantized.to_weights(container), counted, output)
    count = integer.integer_products(coarse)
    if count != len(expected):
        raise RuntimeError(f"int8: {count} of {len(expected)} products became products of integers")
    return Models(container, plain, coarse)


def _counting(arithmetic: Arithmetic, container: Container) -> tuple[Arithmetic, list[str]]:
    """The same arithmetic, and a list that fills with the names of products that the container stores as integers."""
    expected: list[str] = []

    def dense(graph: Graph, x: str, site: Any) -> str:
        if f"{site.weight.replace('.', '/')}/kernel" in container.integers:
            expected.append(site.name)
        return arithmetic.dense(graph, x, site)

    def decode(graph: Graph, x: str) -> str:
        if quantized.WORDS in container.integers:
            expected.append(integer.DECODE.name)
        return arithmetic.decode(graph, x)

    return arithmetic._replace(dense=dense, decode=decode), expected


def measure(weights: Weights, models: Models, text: Text, output: Output = "auto") -> dict[str, Any]:
    """Sizes, products, and the metric of both files in ONNX Runtime."""
    scored = measuring_text.scored_output(weights, output)
    contents = [to_bytes(model) for model in (models.float32, models.int8)]
    before, after = (outcome(content, text.evaluation, scored) for content in contents)
    if text.labelled and scored.head:
        metrics = [text.labelled.score(each.logits, scored.head) for each in (before, after)]
    else:
        metrics = [measuring_text.metric(each, before, scored) for each in (before, after)]
    return {
        "integer_products": integer.integer_products(models.int8),
        "products": products(models.float32),
        "float32_bytes": len(contents[0]),
        "int8_bytes": len(contents[1]),
        "ratio": len(contents[1]) / len(contents[0]),
        "output": scored.head.kind if scored.head else scored.output,
        "metric": text.metric,
        "before": metrics[0],
        "after": metrics[1],
        "drop": metrics[0] - metrics[1],
        **similarity(after, before, scored),
        "answers": len(text.labelled.examples) if text.labelled else len(before.logits),
        "cpu_flags": cpu.fast_flags(),
    }


def products(model: onnx.ModelProto) -> int:
    """Products with weights in a float32 graph."""
    return sum(node.op_type == "Gemm" for node in model.graph.node)


def similarity(
    candidate: measuring_text.Outcome, reference: measuring_text.Outcome, scored: Scored
) -> dict[str, float | None]:
    """`top1_agreement`: share of equal answers; `cosine` and `lowest_cosine` of vectors. None where one does not apply.

    Amounts have one cosine over all of them and no lowest one.
    """
    same = measuring_text.agreement(candidate, reference, scored)
    if not (scored.vectors or scored.numbers):
        return {"top1_agreement": same, "cosine": None, "lowest_cosine": None}
    lowest = float(measuring_text.cosines(candidate.logits, reference.logits).min()) if scored.vectors else None
    return {"top1_agreement": None, "cosine": same, "lowest_cosine": lowest}


def outcome(source: bytes | pathlib.Path, evaluation: Sequence[Batch], scored: Scored) -> measuring_text.Outcome:
    """The answers of a file, computed by ONNX Runtime."""
    session = open_session(source)

    def answer(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return run_session(session, batch)

    return measuring_text.outcome(answer, evaluation, scored)


def _refusal(
    weights: Weights,
    container: Container,
    text: Text,
    figures: dict[str, Any],
    max_drop: float,
    output: Output,
) -> str:
    losses = sensitivity.by_part(weights, container, text.evaluation[:2], output=output)[:_BLAMED]
    blamed = ", ".join(f"{loss.part} ({loss.divergence:.2g})" for loss in losses)
    measured = "divergence" if figures["cosine"] is None else "1 - cosine"
    return (
        f"convert: int8: {figures['metric']} falls from {figures['before']:.4f} to {figures['after']:.4f}, by more "
        f"than --max-drop {max_drop}; nothing was written. These parts lose most ({measured} when quantised alone): "
        f"{blamed}; keep parts in float32 with --leave-out {losses[0].part}"
    )


# --- For people ------------------------------------------------------------------------------------------------------


def report(figures: dict[str, Any]) -> str:
    """The figures as text."""
    before, after = figures["float32_bytes"] / 1e6, figures["int8_bytes"] / 1e6
    lines = [
        f"products of integers: {figures['integer_products']} of {figures['products']}"
        + (f"; float32: {', '.join(figures['left_out'])}" if figures["left_out"] else ""),
        f"size: {before:.2f} MB to {after:.2f} MB ({after * 1e6 / 2**20:.2f} MiB), {figures['ratio']:.4f} of it",
    ]
    if figures["metric"] != COSINE:
        lines.append(f"{figures['metric']}: {figures['before']:.4f} to {figures['after']:.4f} ({_count(figures)})")
    lines += [similarity_line(figures), f"cpu: {' '.join(figures['cpu_flags']) or 'no known flags'}"]
    return "\n".join(lines + _depth_lines(figures))


def similarity_line(figures: dict[str, Any]) -> str:
    """How near the answers are to float32's: the figures of `similarity` that apply."""
    if figures["cosine"] is None:
        return f"same answer as float32: {figures['top1_agreement']:.4f}"
    lowest = "" if figures["lowest_cosine"] is None else f", lowest {figures['lowest_cosine']:.5f}"
    return f"cosine with float32: {figures['cosine']:.5f}{lowest} ({_count(figures)})"


def _count(figures: dict[str, Any]) -> str:
    things = {"states": "tokens", "sentence": "texts"}
    return f"{figures['answers']} {things.get(figures['output'], 'answers')}"


def _depth_lines(figures: dict[str, Any]) -> list[str]:
    """A table with a line for each layer, below an explanation of its columns."""
    rows = figures["by_depth"]
    answers = rows[0]["top1"] is not None
    compared, one = ("texts' vectors", "text") if figures["output"] == "sentence" else ("tokens' states", "token")
    lines = [
        "8 bits against float32 after each layer",
        "layer: number of layers that were applied; 0 is the embeddings",
        f"cosine: of the {compared} with those of float32, mean; 1 is equal",
        f"lowest: the same cosine of the {one} that differs most",
        *["same answer: share of answers that stay the same when the head reads that layer's states"] * answers,
        "layer   cosine   lowest" + ("   same answer" if answers else ""),
    ]
    for row in rows:
        top1 = f"  {row['top1']:.4f}" if answers else ""
        lines.append(f"{row['layer']:5d}  {row['cosine']:.5f}  {row['worst']:.5f}{top1}")
    return lines
