"""Checks of `bertlite convert int8` and `ort` before any work: options, sources and parts left out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bertlite_jax.convert.int8 import measuring_text
from bertlite_jax.convert.int8.measuring_text import Scored
from bertlite_jax.convert.onnx import folder, model
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.quantized import Container
from bertlite_jax.errors import UserError

_LOG = logging.getLogger(__name__)


def check_range(option: str, value: float, lowest: float, highest: float) -> None:
    """Raises UserError for a value that is NaN or out of range; both ends are allowed."""
    if not lowest <= value <= highest:
        raise UserError(f"convert: {option} {value} must be a number from {lowest} to {highest}")


def check_auto(auto: int, parts: Sequence[str] | None = None) -> None:
    """Raises UserError for a negative number, or for as many parts as there are; `parts`: None while unknown."""
    if auto < 0 or (parts is not None and auto and auto >= len(parts)):
        allowed = f"from 0 to {len(parts) - 1}, since the parts are {', '.join(parts)}" if parts else "0 or more"
        raise UserError(f"convert: --auto {auto} must be {allowed}")


def check_options(bits: int, rows: int, length: int) -> None:
    """Raises UserError for the first option that is out of its range."""
    if bits not in (4, 7, 8):
        raise UserError(f"convert: --bits {bits} must be 4, 7 or 8")
    if rows < 2:
        raise UserError(f"convert: --rows {rows} must be at least 2 windows of text: one calibrates, one measures")
    if length < measuring_text.LEAST_LENGTH:
        raise UserError(f"convert: --length {length} must be at least {measuring_text.LEAST_LENGTH} tokens")


def warn_of_bits(bits: int) -> None:
    """Logs a line for 8-bit weights beside unsigned 8-bit activations, which overflow on some CPUs."""
    if bits == 8:
        _LOG.warning(
            "convert: --bits 8: CPUs with AVX2 but without VNNI give wrong answers with this file, without a word; "
            "7 bits are right on every CPU"
        )


def warn_of_training(weights: Weights, bits: int, *, as_in_training: bool = True) -> None:
    """Logs a line where weights that were trained for a file of integers are written as another one.

    Args:
      weights: what will be written.
      bits: of the file.
      as_in_training: whether the file rounds all parts, and activations a token at a time.
    """
    if weights.trained_bits and (bits != weights.trained_bits or not as_in_training):
        _LOG.warning(
            "convert: these weights were trained for convert int8 --bits %d, with all parts rounded and one scale for "
            "each token; this file gives other answers than their training",
            weights.trained_bits,
        )


def check_source(weights: Weights, output: model.Output) -> Scored:
    """What will be scored. Raises UserError for weights that cannot be quantised or measured, or lack the output."""
    if weights.facts.get("quantised"):
        raise UserError(
            "convert: int8: the weights of this source have been quantised to 8 bits already; name the run or folder "
            "that it was made from"
        )
    folder.check_tokenizer(weights)
    measuring_text.tokenizer_of(weights)
    return measuring_text.scored_output(weights, output)


def check_products(container: Container, scored: Scored) -> None:
    """Raises UserError where no product of the file would be computed with integers."""
    decodes = scored.output == "fill-mask"
    if not any(scored.uses(path) and quantized.is_multiplied(path, decodes) for path in container.integers):
        raise UserError("convert: int8: no product would be computed with integers; leave fewer parts out")
