"""Which documents enter a corpus, and which split they get: each text once, its split drawn from the text.

A text that is alone is divided, so that a run on it can be evaluated.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
import sqlite3
from collections import Counter
from collections.abc import Iterator

from bertlite_jax.data.corpus.chunks import Document
from bertlite_jax.data.text.sentences import split_document

SPLITS = ("train", "validation")
HEAD_LIMIT = 1 << 24
"""Characters of text that wait in memory until each split is sure to have a document."""


def open_seen(folder: pathlib.Path) -> sqlite3.Connection:
    """A table for the digests of the documents read so far, on disk so that memory does not grow with them."""
    seen = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
    for pragma in ("journal_mode = off", "synchronous = off", "cache_size = -16384", "locking_mode = exclusive"):
        seen.execute(f"pragma {pragma}").fetchall()
    seen.execute("create table seen (digest blob primary key) without rowid")
    seen.execute("begin")
    return seen


def digest_of(paragraphs: list[str]) -> bytes:
    """16 bytes that tell one cleaned text from another."""
    return hashlib.blake2b("\n".join(paragraphs).encode(), digest_size=16).digest()


def distinct(
    documents: Iterator[list[str]], seen: sqlite3.Connection, counts: Counter[str]
) -> Iterator[tuple[bytes, list[str]]]:
    """(digest, paragraphs) of the documents whose cleaned text did not occur before."""
    for paragraphs in documents:
        digest = digest_of(paragraphs)
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
    of each split: if the draw gave none, the one that came closest is moved. If there is only one, its end becomes a
    second one (`divide`).

    Args:
      documents: (digest of the text, paragraphs).
      validation_fraction: share of the documents for validation; 0: none.
      seed: of the draws.
    """
    head: list[tuple[bytes, list[str]]] = []
    characters = 0
    while len(head) < head_count(validation_fraction) and (characters < HEAD_LIMIT or len(head) < 2):
        drawn = next(documents, None)
        if drawn is None:
            break
        head.append(drawn)
        characters += sum(map(len, drawn[1]))
    if validation_fraction and len(head) == 1:
        yield from divide(head[0][1], validation_fraction)
        return
    splits = split_head([digest for digest, _ in head], validation_fraction, seed)
    head.reverse()
    for number, split in enumerate(splits):
        yield Document(number, split, head.pop()[1])

    for number, (digest, paragraphs) in enumerate(documents, len(splits)):
        yield Document(number, split_of(digest, validation_fraction, seed), paragraphs)


def divide(paragraphs: list[str], validation_fraction: float) -> list[Document]:
    """The only document of a corpus as two: its last paragraphs, or sentences where it is one paragraph, validate.

    A single sentence stays whole, for training.
    """
    parts = paragraphs if len(paragraphs) > 1 else split_document(paragraphs)
    if len(parts) < 2:
        return [Document(0, "train", paragraphs)]
    stop = len(parts) - min(max(1, round(len(parts) * validation_fraction)), len(parts) - 1)
    first, last = parts[:stop], parts[stop:]
    if len(paragraphs) == 1:
        place = 0
        for sentence in first:
            place = paragraphs[0].index(sentence, place) + len(sentence)
        first, last = [paragraphs[0][:place]], [paragraphs[0][place:].strip()]
    return [Document(0, "train", first), Document(1, "validation", last)]


def head_count(validation_fraction: float) -> int:
    """How many of the first documents are drawn together, so that each split has one (`assign_splits`)."""
    return max(2, min(1000, math.ceil(1 / validation_fraction)) if validation_fraction else 0)


def split_head(digests: list[bytes], validation_fraction: float, seed: int) -> list[str]:
    """The splits of the first documents: as they are drawn, with one moved where a split would have none."""
    draws = [_draw(digest, seed) for digest in digests]
    validation = {index for index, draw in enumerate(draws) if draw < validation_fraction * 2.0**64}
    if validation_fraction and len(draws) > 1:
        validation = validation or {draws.index(min(draws))}
        if len(validation) == len(draws):
            validation.remove(draws.index(max(draws)))
    elif len(draws) == 1:
        validation = set()
    return [SPLITS[number in validation] for number in range(len(draws))]


def split_of(digest: bytes, validation_fraction: float, seed: int) -> str:
    """The split that is drawn for a document."""
    return SPLITS[_draw(digest, seed) < validation_fraction * 2.0**64]


def _draw(digest: bytes, seed: int) -> int:
    """64 random bits of a document."""
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(digest, digest_size=8, key=key).digest(), "little")
