"""The results of a run as a table of words: what `summary.json` has, without the names of its fields."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from bertlite_jax.report.html_parts import flatten, number, percent, table
from bertlite_jax.report.run.metrics import clock_time

LABELS: dict[str, tuple[str, str]] = {
    "task": ("Task", ""),
    "metric": ("Metric", "by which the best step is chosen"),
    "steps": ("Steps", ""),
    "seed": ("Seed", ""),
    "best_step": ("Best step", "whose weights are kept"),
    "real_tokens": ("Real tokens trained on", "padding not counted"),
    "wall_seconds": ("Wall time", "h:mm:ss or mm:ss"),
    "train_seconds": ("Training time", "h:mm:ss or mm:ss; without evaluations"),
    "examples_per_second": ("Examples a second", ""),
    "valid_mlm_loss": ("Validation MLM loss", "nats a [MASK] position"),
    "unigram_entropy": ("Unigram entropy", "nats; the loss of word frequencies alone at the same positions"),
    "valid_mlm_accuracy": ("Validation MLM accuracy", "on [MASK] positions"),
    "majority_accuracy": ("Majority accuracy", "always the most frequent token, same positions"),
    "valid_predictions": ("[MASK] positions", "that validation figures are means over"),
    "valid_pair_loss": ("Validation pair loss", "nats a pair"),
    "valid_pair_accuracy": ("Validation pair accuracy", ""),
    "pair_label_prior": ("Pair label prior", "always the commoner label"),
    "valid_pairs": ("Validation pairs", ""),
    "valid_replaced_loss": ("Validation loss on replaced tokens", "nats a token"),
    "valid_replaced_accuracy": ("Validation accuracy on replaced tokens", "of all tokens that are not special"),
    "valid_replaced_share": ("Share of replaced tokens", "calling none replaced is wrong on so many"),
    "parameters": ("Parameters", "heads included"),
    "compute": ("Products in", ""),
    "batch_shape": ("Rows and tokens of a batch", ""),
    "hf_max_abs_diff": ("Largest difference to transformers", "after the export, over all outputs; – if not checked"),
    "float32_mlm_accuracy": ("ONNX float32: MLM accuracy", "on text of its own, in ONNX Runtime"),
    "int8_mlm_accuracy": ("ONNX INT8: MLM accuracy", "at the same masks"),
    "int8_top1_agreement": ("ONNX INT8: same answer as float32", "share of the masks"),
    "onnx_bytes": ("ONNX float32, bytes", ""),
    "int8_bytes": ("ONNX INT8, bytes", ""),
}
"""For each figure what it is, and a remark."""
LATENCY, SHARES = "latency_ms", "time_shares"
"""Figures of several runtimes, and of several parts of the wall time."""


def section(summary: Mapping[str, Any], length: int) -> str:
    """The table under a heading, in the order of the summary, and the shares of the wall time; "" without figures.

    Args:
      summary: the content of `summary.json`, perhaps without some figures.
      length: tokens in a row, which its latencies belong to.
    """
    latencies = summary.get(LATENCY) or {}
    figures = {name: value for name, value in summary.items() if name not in (LATENCY, SHARES)}
    rows = [_row(name, value) for name, value in flatten(figures).items()]
    rows += [(f"A row of {length} tokens, ms", number(value), f"by {runtime}") for runtime, value in latencies.items()]
    if not rows:
        return ""
    return f"<h2>Results</h2>{table(rows, ('figure', 'value', ''), (1,))}{time_section(summary.get(SHARES) or {})}"


def in_words(name: str) -> str:
    """`Span f1, hard` of `span_f1.hard`."""
    words = name.replace("_", " ").replace(".", ", ")
    return words[:1].upper() + words[1:]


def _row(name: str, value: Any) -> tuple[str, str, str]:
    label, remark = LABELS.get(name, (in_words(name), ""))
    return label, _text(name, value), remark


def _text(name: str, value: Any) -> str:
    if value is not None and name in ("wall_seconds", "train_seconds"):
        return clock_time(value)
    if isinstance(value, float) and name in LABELS and name.endswith(("accuracy", "prior", "agreement", "share")):
        return percent(value)
    return number(value)


def time_section(shares: Mapping[str, float]) -> str:
    """The shares of the wall time as bars; "" if there are none."""
    if not shares:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td>{percent(share)}</td><td class="bar">{bar(share)}</td></tr>'
        for name, share in shares.items()
    )
    return f'<h3>Where the wall time went</h3><div class="sample"><table>{rows}</table></div>'


def bar(share: float) -> str:
    """A share as a bar as long."""
    return f'<i style="width:{100 * min(max(share, 0), 1):.1f}%"></i>'
