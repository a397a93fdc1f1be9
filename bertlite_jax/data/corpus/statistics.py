"""What is counted of a corpus, and what follows from it."""

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
"""What is counted in each split (`chunks.encode_documents`, `windows.document_windows`)."""


READ = ("files", "empty_files", "bytes", "duplicate_documents", "empty_documents", "split_documents", "long_lines")
"""What is counted while reading (`documents.read_documents`)."""


def statistics_of(counts: Counter[str], splits: dict[str, dict[str, Any]], length: int) -> dict[str, Any]:
    """The statistics of `corpus.json`, over all splits.

    Args:
      counts: what was counted while reading.
      splits: by name what was counted in each.
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
