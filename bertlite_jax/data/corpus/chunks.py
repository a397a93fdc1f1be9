"""Documents to windows in one process or in several, in order.

What runs in the worker processes is here and imports neither TFDS nor JAX. How the work is split does not change the
result: a window depends on its document, its number and the seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from bertlite_jax.data.corpus import windows
from bertlite_jax.data.text.sentences import split_document
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError

IN_FLIGHT = 1 << 25
"""Characters of text that are on their way to and from the workers at a time."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a document becomes windows."""

    cutting: windows.Cutting
    language: str = "auto"
    one_sentence_per_line: bool = False


class Document(NamedTuple):
    """A document on its way into the corpus."""

    number: int
    split: str
    paragraphs: list[str]


class Chunk(NamedTuple):
    """Some documents, and how far the input had been read with the last of them."""

    documents: list[Document]
    position: int
    """Bytes of the files as they are stored."""
    text_bytes: int
    """Bytes of text."""
    size: int
    """Characters of these documents."""


@dataclasses.dataclass
class Windowed:
    """The windows of some documents of one split."""

    records: list[bytes] = dataclasses.field(default_factory=list)
    lengths: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """Tokens of each window and of its pair."""
    tokens: list[np.ndarray] = dataclasses.field(default_factory=list)
    """Ids of each document, as they are stored."""
    counts: Counter[str] = dataclasses.field(default_factory=Counter)


def encode_documents(tokenizer: Tokenizer, recipe: Recipe, documents: list[Document]) -> dict[str, Windowed]:
    """Splits, tokenises and cuts documents; one result for each split that occurs.

    The counts are those of `document_windows`, and `documents`, `paragraphs`, `sentences`, `cut_sentences`, `tokens`,
    `unknown_tokens`.
    """
    by_split: dict[str, Windowed] = {}
    sentences: list[list[str]] = []
    for document in documents:
        counts = by_split.setdefault(document.split, Windowed()).counts
        sentences.append(split_document(document.paragraphs, recipe.language, recipe.one_sentence_per_line, counts))
    # One call for all of them: what a call costs is shared by thousands of sentences.
    encoded = iter(tokenizer.encode_lines([sentence for lines in sentences for sentence in lines]))
    stored = windows.token_type(tokenizer.vocab_size)
    for document, lines in zip(documents, sentences, strict=True):
        part = by_split[document.split]
        part.counts["documents"] += 1
        part.counts["paragraphs"] += len(document.paragraphs)
        pieces = [next(encoded) for _ in lines]
        if not any(len(ids) for ids, _ in pieces):
            continue
        tokens = np.concatenate([ids for ids, _ in pieces])
        word_starts = np.concatenate([starts for _, starts in pieces])
        # A sentence of which the tokenizer leaves nothing is none.
        boundaries = np.unique(np.cumsum([0, *(len(ids) for ids, _ in pieces)]))
        part.counts["sentences"] += len(boundaries) - 1
        part.counts["tokens"] += len(tokens)
        part.counts["unknown_tokens"] += int(np.count_nonzero(tokens == tokenizer.unk_id))
        part.tokens.append(tokens.astype(stored))
        records, lengths = windows.document_windows(
            recipe.cutting, document.number, part.tokens[-1], word_starts, boundaries, part.counts
        )
        part.records += records
        part.lengths += lengths
    return by_split


# --- Several processes -----------------------------------------------------------------------------------------------

_worker: tuple[Tokenizer, Recipe]


def _start_worker(folder: str, recipe: Recipe) -> None:
    global _worker
    # Ctrl-C is for the main process, which ends its workers. When it is killed, they have to end by themselves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    # Every core has its worker, so the Rust tokenizers need no threads of their own.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = load_tokenizer(folder), recipe


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _work(documents: list[Document]) -> dict[str, Windowed]:
    return encode_documents(*_worker, documents)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C reaches the parent a moment later, and workers that are started meanwhile never: they inherit the mask.

    A worker's own handler would come too late, as it takes a second until the first line of ours runs there. The mask
    alone does not hold the parent's handler off, since the system may choose any of its threads.
    """
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C interrupts the main thread only.
        yield
        return
    received: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if received:
            signal.raise_signal(signal.SIGINT)


def encode_chunks(
    tokenizer: Tokenizer, recipe: Recipe, chunks: Iterator[Chunk], workers: int
) -> Generator[tuple[Chunk, dict[str, Windowed]]]:
    """`encode_documents` of each chunk, in order: with one worker in this process, else in that many others.

    Only a few chunks are under way at a time, so memory does not grow with the text.

    Raises:
      UserError: a worker was killed; and whatever reading `chunks` raises.
    """
    if workers == 1:
        for chunk in chunks:
            yield chunk, encode_documents(tokenizer, recipe, chunk.documents)
        return
    size = 0
    under_way: deque[tuple[Chunk, Future[dict[str, Windowed]]]] = deque()
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(tokenizer.folder, recipe)
    )
    try:
        for chunk in chunks:
            with _ctrl_c_waits():
                under_way.append((chunk, pool.submit(_work, chunk.documents)))
            size += chunk.size
            while len(under_way) > 2 * workers or (size > IN_FLIGHT and len(under_way) > 1):
                chunk, future = under_way.popleft()
                size -= chunk.size
                yield chunk, future.result()
        while under_way:
            chunk, future = under_way.popleft()
            yield chunk, future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "corpus: a worker process was killed, perhaps because memory ran out; try --workers 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
