"""Settings of a conversion to 8-bit integers: `bertlite convert int8`."""

from __future__ import annotations

import dataclasses
from typing import Literal

Output = Literal["auto", "states", "fill-mask", "sentence"]
Bits = Literal[7, 8]


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
    ARM)."""
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
