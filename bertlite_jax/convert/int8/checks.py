"""What `convert.py int8` and `ort` refuse before any work: options, sources and parts left out."""

from __future__ import annotations

from collections.abc import Sequence

from bertlite_jax.convert.int8 import measuring_text
from bertlite_jax.convert.int8.measuring_text import Scored
from bertlite_jax.convert.onnx import folder, model
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.quantized import Container
from bertlite_jax.errors import UserError


def check_range(option: str, value: float, lowest: float, highest: float) -> None:
    """Raises UserError where a value is no number or lies outside; both ends are allowed."""
    if not lowest <= value <= highest:
        raise UserError(f"convert: {option} {value}: a number from {lowest} to {highest} would be right")


def check_auto(auto: int, parts: Sequence[str] | None = None) -> None:
    """Raises UserError where fewer than none of the parts should stay float32, or all; `parts` where they are known."""
    if auto < 0 or (parts is not None and auto and auto >= len(parts)):
        most = f" to {len(parts) - 1}, since the parts are {', '.join(parts)}" if parts else " or more"
        raise UserError(f"convert: --auto {auto}: 0{most}")


def check_options(bits: int, rows: int, length: int) -> None:
    """Raises UserError where one of them is out of its range."""
    if bits not in (7, 8):
        raise UserError(f"convert: --bits {bits}: 7 or 8 would be right")
    if rows < 2:
        raise UserError(f"convert: --rows {rows}: 2 or more windows of text would be right, one to calibrate with")
    if length < measuring_text.LEAST_LENGTH:
        raise UserError(f"convert: --length {length}: {measuring_text.LEAST_LENGTH} or more tokens would be right")


def check_source(weights: Weights, output: model.Output) -> Scored:
    """What will be scored. Raises UserError for weights that cannot be quantised and measured, or lack the output."""
    if weights.facts.get("quantised"):
        raise UserError(
            "convert: int8: the weights of this source went through 8 bits already; give the run or folder that it was "
            "made of"
        )
    folder.check_tokenizer(weights)
    measuring_text.tokenizer_of(weights)
    return measuring_text.scored(weights, output)


def check_products(container: Container, what: Scored) -> None:
    """Raises UserError where no product of the file would be one of integers."""
    decodes = what.output == "fill-mask"
    if not any(what.uses(path) and quantized.is_multiplied(path, decodes) for path in container.integers):
        raise UserError("convert: int8: no product of integers is left; leave fewer parts out")
