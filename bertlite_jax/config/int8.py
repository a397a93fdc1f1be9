"""Settings of a conversion to 8-bit integers, `bertlite convert int8`, and of training for it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.errors import UserError

Output = Literal["auto", "states", "fill-mask", "sentence"]
Bits = Literal[4, 7, 8]
"""Of weights. 8: the whole range of int8. 7: also, two neighbours of one sign have at most 128 steps together, so that
no CPU overflows (`convert/weights/quantized.py` has the reason). 4: from -8 to 7, two to a byte."""
WholeBits = Literal[7, 8]
"""Those of a byte a weight."""


@dataclasses.dataclass(frozen=True)
class Int8Options:
    """How a model is quantised, and how much worse it may become."""

    activations: Literal["token", "tensor", "static"] = "token"
    """Scales of the activations. token: one for each token, so that padding and neighbours change nothing. tensor: one
    for each tensor. static: fixed from the calibration text."""
    max_drop: float = 0.005
    """Largest allowed drop of the metric, as a share: 0.005 is half a percentage point. If it drops further, nothing is
    written."""
    data: str | None = None
    """Labelled examples, to measure the task's first metric as predict does (accuracy, pearson, span_f1 and others):
    any file that finetune reads, with the columns of the run. Not for models that answer questions. Without it,
    agreement with float32 is measured."""
    bits: Bits = 7
    """Bits of the integer weights. 7 is correct on every CPU; 8 only where u8 x s8 products do not saturate (VNNI, AMX,
    ARM). 4 halves the file but for its embeddings; train for it with finetune --quantise.bits 4."""
    leave_out: tuple[str, ...] = ()
    """Parts that stay in float, such as pooler layers.ffn.down layers.11"""
    auto: int = 0
    """Keep this many more parts in float: those whose quantisation costs most, measured one by one."""
    fit: bool = False
    """Choose the integers so that outputs on the text stay close, instead of rounding each weight alone. Takes minutes
    for a large model."""
    method: Literal["minmax", "percentile", "entropy"] = "minmax"
    """How static ranges are found from the calibration text."""
    rows: int = 256
    """Windows of text to read; half calibrate and half measure. At least 2."""
    length: int = 128
    """Tokens in a window, at most. At least 6."""
    output: Output = "auto"
    """What the model returns, and what is measured. auto: the answers of its head, or for a pretrained model the pieces
    behind [MASK]. states: one vector for each token. sentence: one for a text. Vectors are measured by their mean
    cosine with float32."""

    @property
    def as_in_training(self) -> bool:
        """Whether the file rounds as `Quantise` does: all parts, and activations a token at a time."""
        return not (self.leave_out or self.auto) and self.activations == "token"


@dataclasses.dataclass(frozen=True)
class Quantise:
    """Training for a file of 8-bit integers: each forward pass rounds as that file does."""

    bits: Literal[0, 4, 7, 8] = 0
    """Train for the file of convert int8 --bits with the same number: weights and activations are rounded as there, and
    scores and answers are those of the file. 0: off."""
    noise: float = 0.0
    """Round only this random share of the weights in the layers' kernels, drawn anew in each step; the others keep
    their values and get exact gradients. Evaluation and file round all. 0: training rounds all too."""


def check_quantise(quantise: Quantise) -> None:
    """Raises UserError for bits that no file has, and for noise that is no share or has no effect."""
    if quantise.bits not in (0, 4, 7, 8):
        raise UserError(f"config: quantise.bits = {quantise.bits} must be 4, 7 or 8, or 0 to train without rounding")
    if not 0 <= quantise.noise <= 1:
        raise UserError(
            f"config: quantise.noise = {quantise.noise} must lie between 0 (rounds all weights in each step) and 1"
        )
    if quantise.noise and not quantise.bits:
        raise UserError(
            f"config: quantise.noise = {quantise.noise} has no effect with quantise.bits = 0; pass --quantise.bits 7"
        )
