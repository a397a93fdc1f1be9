"""Which documents enter a corpus, and into which split: each text once, drawn by what it says."""

from __future__ import annotations

import hashlib
import math
import pathlib
import sqlite3
from collections import Counter
from collections.abc import Iterator

from bertlite_jax.data.chunks import Document

SPLITS = ("train", "validation")
HEAD_LIMIT = 1 << 24
"""Characters of text that are held until one document of each split is certain."""


def open_seen(folder: pathlib.Path) -> sqlite3.Connection:
    """Digests of the documents that were read: on disk, so that memory does not grow with their number."""
    seen = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
    for pragma in ("journal_mode = off", "synchronous = off", "cache_size = -16384", "locking_mode = exclusive"):
        seen.execute(f"pragma {pragma}").fetchall()
    seen.execute("create table seen (digest blob primary key) without rowid")
    seen.execute("begin")
    return seen


def distinct(
    documents: Iterator[list[str]], seen: sqlite3.Connection, counts: Counter[str]
) -> Iterator[tuple[bytes, list[str]]]:
    """(digest, paragraphs) of the documents whose cleaned text did not occur before."""
    for paragraphs in documents:
        digest = hashlib.blake2b("\n".join(paragraphs).encode(), digest_size=16).digest()
        counts["documents"] += 1
        if seen.execute("insert or ignore into seen values (?)", (digest,)).rowcount:
            yield digest, paragraphs
        else:
            counts["duplicate_documents"] += 1


def assign_splits(
    documents: Iterator[tuple[bytes, list[str]]], validation_fraction: float, seed: int
) -> Iterator[Document]:
    """Numbers the documents and draws the split of each from its text and the seed.

    Among the first 1 / validation_fraction documents (fewer, but at least two, where they are very long) there is one
    of each split: if the draw gave none, the one that came closest is moved.

    Args:
      documents: (digest of the text, paragraphs).
      validation_fraction: 0: all are for training.
      seed: other seeds draw other documents.
    """
    limit = validation_fraction * 2.0**64
    head_count = min(1000, math.ceil(1 / validation_fraction)) if validation_fraction else 0
    head: list[tuple[int, list[str]]] = []
    held = 0
    while len(head) < max(head_count, 2) and (held < HEAD_LIMIT or len(head) < 2):
        drawn = next(documents, None)
        if drawn is None:
            break
        head.append((_draw(drawn[0], seed), drawn[1]))
        held += sum(map(len, drawn[1]))
    draws = [draw for draw, _ in head]
    validation = {index for index, draw in enumerate(draws) if draw < limit}
    if validation_fraction and len(head) > 1:
        validation = validation or {draws.index(min(draws))}
        if len(validation) == len(head):
            validation.remove(draws.index(max(draws)))
    elif len(head) == 1:
        validation = set()
    head.reverse()
    for number in range(len(head)):
        yield Document(number, SPLITS[number in validation], head.pop()[1])

    for number, (digest, paragraphs) in enumerate(documents, len(draws)):
        yield Document(number, SPLITS[_draw(digest, seed) < limit], paragraphs)


def _draw(digest: bytes, seed: int) -> int:
    """64 random bits of a document."""
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(digest, digest_size=8, key=key).digest(), "little")
