"""The counts of a corpus, and the statistics that follow from them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bertlite_jax.data.corpus import windows
from bertlite_jax.data.text.documents import CLEANED

COUNTED = (
    *("documents", "paragraphs", "sentences", "cut_sentences", "tokens", "unknown_tokens"),
    *("windows", "short_windows", "single_sentence_windows", "pair_windows", "cut_words"),
    *("edges_SS", "edges_SM", "edges_MS", "edges_MM"),
)
"""Counts of each split (`chunks.encode_documents`, `windows.document_windows`)."""

READ = ("files", "empty_files", "bytes", "duplicate_documents", "empty_documents", "split_documents", "long_lines")
"""Counts of the files read (`documents.read_documents`)."""


def statistics_of(counts: Counter[str], splits: dict[str, dict[str, Any]], length: int) -> dict[str, Any]:
    """The statistics of `corpus.json`, over all splits.

    Args:
      counts: of the files read.
      splits: the counts of each split, by its name.
      length: tokens in a row.
    """
    total = {name: sum(split[name] for split in splits.values()) for name in COUNTED}
    share = 1 / max(1, total["windows"])
    return {
        **{name: counts[name] for name in READ},
        "cleaned": {kind: counts[kind] for kind in CLEANED},
        **total,
        "unknown_rate": total["unknown_tokens"] / max(1, total["tokens"]),
        "pair_share": total["pair_windows"] * share,
        "mean_length": total["tokens"] * share,
        "fill_one_a_row": (total["tokens"] * share + windows.SPECIALS) / length,
    }
