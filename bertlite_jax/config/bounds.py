"""The largest number that each field may have.

Behind these bounds lie shapes that no encoder has, numbers that do not fit into 32 bits, and work without an end. What
is below them and still too large for a machine is compared with its memory before anything is compiled.
"""

from __future__ import annotations

from typing import Any

MOST_REAL = 1e30
"""Of real numbers that have no bound of their own; float32 ends at 3.4e38."""
MOST_WHOLE = 2**31 - 1
"""Of whole numbers that have no bound of their own: steps, rows and ids are int32."""
LEAST_RESIDUAL_SCALE, MOST_RESIDUAL_SCALE = 1e-6, 10.0
"""Of model.residual_scale: kernels are multiplied by it and, where weights are imported, divided by it."""

_MOST = {
    "model.vocab_size": 2**24,
    "model.vocab_multiple": 2**20,
    "model.embed_size": 2**18,
    "model.hidden_size": 2**18,
    "model.num_layers": 10_000,
    "model.num_heads": 2**18,
    "model.ffn_size": 2**20,
    "model.max_positions": 2**20,
    "model.token_types": 2**16,
    "model.share_groups": 10_000,
    "model.low_rank": 2**18,
    "model.own_first": 10_000,
    "model.own_last": 10_000,
    "model.pair_classes": 2**16,
    "head.hidden": 2**18,
    "data.weights": 2**63,  # Perhaps sizes in tokens.
    "data.length": 2**20,
    "data.row_length": 2**20,
    "data.buckets": 2**20,
    "data.windows_per_row": 2**16,
    "data.batch_rows": 2**24,
    "data.batch_examples": 2**24,
    "data.read_threads": 1024,
    "data.question_length": 2**20,
    "data.answer_length": 2**20,
    "data.window_step": 2**20,
    "learn.unlabelled_batch": 2**24,
    "mask.max_ngram": 2**16,
    "run.seed": 2**63,  # Its own check says which seeds there are.
}


_MOST_REAL = {"run.epochs": 1e5}


def most_of(group: str, name: str, number: int | float) -> int | float:
    """The largest number of this kind, whole or real, that a field may have."""
    if isinstance(number, float):
        return _MOST_REAL.get(f"{group}.{name}", MOST_REAL)
    return _MOST.get(f"{group}.{name}", MOST_WHOLE)


def shown(value: Any) -> str:
    """A value in an error message: short, and also of numbers whose digits Python does not print."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of about {value.bit_length() * 3 // 10:,} digits"
    try:
        text = repr(value)
    except ValueError:  # A number of thousands of digits inside a list.
        return f"a {type(value).__name__} of numbers with thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"
