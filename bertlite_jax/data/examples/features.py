"""Examples of a task become token ids: [CLS] text [SEP] pair [SEP], cut to a length, kept in flat arrays.

Numpy only, without a Python object for each example, so that millions of examples take 4 bytes of memory a token.
Letters: M examples, W windows (one for an example, or one for each choice), T tokens in all windows, C labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError

UNLABELLED = -1
"""Label of an example or token that has none. In labels that are numbers it is NaN."""

_CHUNK = 1024
_NOTHING = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """All windows of a split.

    Attributes:
      tokens: [T] int32, special tokens included, one window after the other.
      types: [T] int8, 1 for the second text and its [SEP].
      words: [T] int32, the number of the word whose first piece this is, else -1; empty unless words are tagged.
      offsets: [W + 1] int64, where each window begins.
      firsts: [M + 1] int64, the first window of each example.
      labels: [M] int32 (one label, the right choice), [M, C] float32 (several labels, numbers), [T] int32 (tags).
      counts: `examples`, `tokens`, `truncated`, `empty_texts`, `unlabelled`, for classes and numbers `pairs`, for tags
        `words` and `words_cut_off`.
    """

    tokens: np.ndarray
    types: np.ndarray
    words: np.ndarray
    offsets: np.ndarray
    firsts: np.ndarray
    labels: np.ndarray
    counts: dict[str, int]

    @property
    def sizes(self) -> np.ndarray:
        """[M] int64: tokens of each example, all its choices together, as many as it takes of a row."""
        return np.diff(self.offsets[self.firsts])

    def digest(self) -> str:
        """SHA-256 over all arrays. It changes with every example, label, order, length and tokenizer."""
        whole = hashlib.sha256()
        for array in (self.tokens, self.types, self.words, self.offsets, self.firsts, self.labels):
            whole.update(f"{array.dtype}{array.shape}".encode())
            whole.update(np.ascontiguousarray(array).data)
        return whole.hexdigest()


def encode(examples: Iterable[Example], tokenizer: Tokenizer, head: Head, length: int, where: str) -> Encoded:
    """Reads a stream of examples once.

    A window that is too long is cut where its task loses least: the longer of two texts loses its end; with a choice,
    the premise loses its end first; a sentence of words loses its last words. A text without a character that the
    vocabulary knows becomes [CLS] [SEP], which is an example like any other.

    Args:
      examples: as a task's reader gives them.
      tokenizer: of the encoder.
      head: `kind`, `labels` and `problem` say what a label is.
      length: most tokens in a window.
      where: names the split in messages.

    Raises:
      UserError: there is no example, or one without choices or words, or with a label that does not fit the head.

    Source: google-research/bert:run_classifier.py (`_truncate_seq_pair`), run_race.py of google-research/albert.
    """
    builder = _Builder(tokenizer, head, length, where)
    stream = iter(examples)
    while chunk := list(itertools.islice(stream, _CHUNK)):
        builder.add(chunk)
    return builder.finish()


def of_tokens(windows: Sequence[np.ndarray]) -> Encoded:
    """Windows that are token ids already, special ones included: each is an example without a label."""
    tokens, sizes = np.concatenate(windows), [len(window) for window in windows]
    return Encoded(
        tokens=tokens,
        types=np.zeros(len(tokens), np.int8),
        words=_NOTHING,
        offsets=np.r_[0, np.cumsum(sizes)],
        firsts=np.arange(len(sizes) + 1),
        labels=np.full(len(sizes), UNLABELLED, np.int32),
        counts={"examples": len(sizes), "tokens": len(tokens), "unlabelled": len(sizes)},
    )


class _Builder:
    """Collects chunks; one array of each kind a chunk."""

    def __init__(self, tokenizer: Tokenizer, head: Head, length: int, where: str):
        self.tokenizer, self.head, self.length, self.where = tokenizer, head, length, where
        self.arrays: dict[str, list[np.ndarray]] = {
            name: [] for name in ("tokens", "types", "words", "sizes", "windows", "labels")
        }
        of_kind = {"classify": ("pairs",), "tag": ("words", "words_cut_off")}.get(head.kind, ())
        names = ("examples", "tokens", "truncated", "empty_texts", "unlabelled", *of_kind)
        self.counts: dict[str, int] = dict.fromkeys(names, 0)

    def add(self, chunk: Sequence[Example]) -> None:
        lines, owners = _lines(chunk, self.head, self.where)
        pieces = [ids for ids, _ in self.tokenizer.encode_lines(lines)]
        tagging = self.head.kind == "tag"
        sizes, windows = [], []
        for example, at in zip(chunk, owners, strict=True):
            encoded = [self._tagged(example, pieces[at])] if tagging else self._texts(example, pieces[at])
            for ids, types, words in encoded:
                self.arrays["tokens"].append(ids)
                self.arrays["types"].append(types)
                if tagging:
                    self.arrays["words"].append(words)
                sizes.append(len(ids))
            windows.append(len(encoded))
            label = _label(example, self.head, self.where)
            self.counts["unlabelled"] += example.label is None
            if tagging:
                words = encoded[0][2]
                label = np.where(words >= 0, label[words], UNLABELLED).astype(np.int32)
            self.arrays["labels"].append(label)
        self.arrays["sizes"].append(np.array(sizes, np.int64))
        self.arrays["windows"].append(np.array(windows, np.int64))
        self.counts["examples"] += len(chunk)
        self.counts["tokens"] += sum(sizes)

    def _texts(self, example: Example, pieces: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        self.counts["empty_texts"] += not all(map(len, pieces))
        seconds = pieces[1:]
        if self.head.kind == "choose":
            cut = [_cut_premise(pieces[0], choice, self.length - 3) for choice in seconds]
            pairs = [(first, choice, True) for first, choice in cut]
        elif seconds:
            pairs = [(*cut_pair(pieces[0], seconds[0], self.length - 3), True)]
            self.counts["pairs"] += 1
        else:
            pairs = [(pieces[0][: self.length - 2], _NOTHING, False)]
        whole = sum(map(len, pieces)) + (len(pairs) - 1) * len(pieces[0])
        left = sum(len(first) + len(second) for first, second, _ in pairs)
        self.counts["truncated"] += left < whole
        return [self._window(first, second if paired else None) for first, second, paired in pairs]

    def _window(self, first: np.ndarray, second: np.ndarray | None) -> tuple[np.ndarray, ...]:
        cls, sep = self.tokenizer.cls_id, self.tokenizer.sep_id
        head = np.r_[cls, first, sep]
        tail = np.r_[second, sep] if second is not None else _NOTHING
        types = np.repeat(np.array([0, 1], np.int8), (len(head), len(tail)))
        return np.r_[head, tail].astype(np.int32), types, _NOTHING

    def _tagged(self, example: Example, pieces: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """A word of which the vocabulary knows no character becomes one unknown piece, so that it gets an answer."""
        unknown = np.array([self.tokenizer.unk_id], np.int32)
        pieces = [ids if len(ids) else unknown for ids in pieces]
        starts = np.cumsum([0] + [len(ids) for ids in pieces])
        count = int(np.searchsorted(starts, self.length - 2, side="right")) - 1  # whole words only
        count = max(1, min(count, len(pieces)))
        inner = np.concatenate(pieces[:count])[: self.length - 2]
        words = np.full(len(inner) + 2, UNLABELLED, np.int32)
        words[1 + starts[:count]] = np.arange(count)
        self.counts["words"] += len(pieces)
        self.counts["words_cut_off"] += len(pieces) - count
        self.counts["truncated"] += bool(count < len(pieces) or len(inner) < starts[count])
        ids = np.r_[self.tokenizer.cls_id, inner, self.tokenizer.sep_id].astype(np.int32)
        return ids, np.zeros(len(ids), np.int8), words

    def finish(self) -> Encoded:
        if not self.counts["examples"]:
            raise UserError(f"data: {self.where} holds no example")
        joined = {name: np.concatenate(parts) for name, parts in self.arrays.items() if parts and name != "labels"}
        labels = np.concatenate(self.arrays["labels"])
        return Encoded(
            tokens=joined["tokens"],
            types=joined["types"],
            words=joined.get("words", np.zeros(0, np.int32)),
            offsets=np.r_[0, np.cumsum(joined["sizes"])],
            firsts=np.r_[0, np.cumsum(joined["windows"])],
            labels=labels,
            counts=self.counts,
        )


def _lines(chunk: Sequence[Example], head: Head, where: str) -> tuple[list[str], list[slice]]:
    """The texts of all examples, and the slice of the list that belongs to each example."""
    lines: list[str] = []
    owners = []
    for example in chunk:
        before = len(lines)
        lines += _texts_of(example, head, where)
        owners.append(slice(before, len(lines)))
    return lines, owners


def _texts_of(example: Example, head: Head, where: str) -> Iterator[str] | list[str]:
    if head.kind == "tag":
        if not example.words:
            raise UserError(f"data: {where}: {example.id}: no words to tag; leave the empty sentence out")
        return list(example.words)
    if head.kind == "choose":
        if len(example.choices) < 2:
            raise UserError(f"data: {where}: {example.id}: {len(example.choices)} choices; at least 2 are needed")
        return [example.text, *example.choices]
    if head.kind == "span":
        raise UserError(f"data: {where}: span tasks are encoded by span_features")
    return [example.text] if example.pair is None else [example.text, example.pair]


def cut_pair(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """The longer text loses its end until both fit: in one step what `_truncate_seq_pair` does token by token."""
    over = len(first) + len(second) - room
    if over <= 0:
        return first, second
    first_left, second_left = len(first), len(second)
    shorter = min(first_left, second_left)
    alone = min(over, abs(first_left - second_left))  # while one is longer, only that one is cut
    first_left -= alone if first_left > second_left else 0
    second_left -= alone if len(second) > shorter else 0
    rest = over - alone
    # Of two texts of one length the second is cut first, as there.
    return first[: first_left - rest // 2], second[: second_left - (rest + 1) // 2]


def _cut_premise(premise: np.ndarray, choice: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """The premise loses its end; a choice keeps its end, at least half of the room, because the answer is there."""
    choice = choice[-max(room - room // 2, room - len(premise)) :]
    return premise[: room - len(choice)], choice


def _label(example: Example, head: Head, where: str) -> np.ndarray:
    """[1] int32, [1, C] float32, or for tags [words] int32."""
    label, outputs = example.label, len(head.labels)
    if head.kind == "tag":
        given = (UNLABELLED,) * len(example.words) if label is None else label
        if not isinstance(given, tuple) or len(given) != len(example.words):
            raise UserError(f"data: {where}: {example.id}: {len(example.words)} words need as many labels")
        if any(not UNLABELLED <= each < outputs for each in given):
            raise UserError(f"data: {where}: {example.id}: a label that is not one of {', '.join(head.labels)}")
        return np.array(given, np.int32)
    if head.kind == "choose" or head.problem == "single_label":
        count = len(example.choices) if head.kind == "choose" else outputs
        given = UNLABELLED if label is None else label
        if not isinstance(given, (int, np.integer)) or not UNLABELLED <= given < count:
            raise UserError(f"data: {where}: {example.id}: label {label} is not one of 0 to {count - 1}")
        return np.array([given], np.int32)
    if label is None:
        return np.full((1, outputs), np.nan, np.float32)
    values = np.atleast_2d(np.array(label, np.float32))
    if values.shape != (1, outputs) or not np.isfinite(values).all():
        raise UserError(f"data: {where}: {example.id}: label {label} is not {outputs} finite numbers")
    return values
