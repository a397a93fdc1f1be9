"""Questions become windows of token ids in the arrays of `features.Encoded`, so that they are batched like all else.

Windows are batched like examples: those of several questions share a row. Passages and windows, from which answers
are made, are kept only where answers are wanted.

Letters: Q questions, W windows, T tokens in all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from bertlite_jax.config.finetune import Examples
from bertlite_jax.data.examples import passages
from bertlite_jax.data.examples.features import UNLABELLED, Encoded
from bertlite_jax.data.examples.passages import Passage, Window
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Questions:
    """The questions of a split.

    Attributes:
      encoded: the W windows; `labels` [W, 2] int32, start and end in the window's row, (0, 0) where it has no answer,
        -1 where nothing is known. `counts` has `examples` (windows), `tokens`, `truncated` (questions that lost their
        end), `empty_texts`, `unlabelled` (questions), `questions`, `nothing_to_learn` (questions with an answer that
        is not in their text, or none of it in a token), `divided_answers` (questions with an answer that no window
        shows whole).
      passages: [Q], empty for training.
      windows: Q times the windows of a passage, in the order of `encoded`; empty for training.
    """

    encoded: Encoded
    passages: tuple[Passage, ...] = ()
    windows: tuple[tuple[Window, ...], ...] = ()


def encode(examples: Iterable[Example], tokenizer: Tokenizer, data: Examples, training: bool, where: str) -> Questions:
    """Reads a stream of questions once.

    Args:
      examples: with `text` the question and `pair` its text.
      tokenizer: of the encoder.
      data: `length` of a row, `window_step`, `question_length`. A question that fills a row is cut to half of it.
      training: keep no passages, and leave out windows without a label.
      where: names the split in messages.

    Raises:
      UserError: there is no question, or one without a text, or in training an unlabelled one.
    """
    counted = ("truncated", "empty_texts", "unlabelled", "questions", "nothing_to_learn", "divided_answers")
    counts = dict.fromkeys(counted, 0)
    parts: dict[str, list[np.ndarray]] = {"tokens": [], "types": [], "labels": []}
    answerable: list[tuple[Passage, tuple[Window, ...]]] = []
    for example, passage in _with_passages(examples, tokenizer, data):
        counts["questions"] += 1
        counts["truncated"] += passage.dropped > 0
        counts["empty_texts"] += not (example.text.strip() and passage.context.strip())
        counts["unlabelled"] += example.label is None
        if training and example.label is None:
            raise UserError(f"data: {where}: {example.id}: no answers and no is_impossible, so nothing to learn from")
        windows = passages.windows(passage, data.length, data.window_step)
        targets = [_target(passage, window, example) for window in windows]
        counts["nothing_to_learn"] += example.label is not None and None in targets
        counts["divided_answers"] += bool(example.answers) and all(target == (0, 0) for target in targets)
        for window, target in zip(windows, targets, strict=True):
            if training and target is None:
                continue
            tokens, types = passages.row(passage, window, tokenizer)
            parts["tokens"].append(tokens)
            parts["types"].append(types.astype(np.int8))
            parts["labels"].append(np.array(target or (UNLABELLED, UNLABELLED), np.int32))
        if not training:
            answerable.append((passage, tuple(windows)))
    if not parts["tokens"]:
        raise UserError(f"data: {where} holds no question" + (" to learn from" if counts["questions"] else ""))
    sizes = [len(tokens) for tokens in parts["tokens"]]
    encoded = Encoded(
        tokens=np.concatenate(parts["tokens"]),
        types=np.concatenate(parts["types"]),
        words=np.zeros(0, np.int32),
        offsets=np.r_[0, np.cumsum(sizes)],
        firsts=np.arange(len(sizes) + 1),
        labels=np.stack(parts["labels"]),
        counts={"examples": len(sizes), "tokens": sum(sizes), **counts},
    )
    return Questions(encoded, tuple(passage for passage, _ in answerable), tuple(windows for _, windows in answerable))


def _with_passages(
    examples: Iterable[Example], tokenizer: Tokenizer, data: Examples
) -> Iterable[tuple[Example, Passage]]:
    """Each example with its passage; `passages` reads one example for each that it gives."""
    pending: list[Example] = []

    def noted() -> Iterable[Example]:
        for example in examples:
            pending.append(example)
            yield example

    for passage in passages.passages(noted(), tokenizer, data.question_length, data.length):
        yield pending.pop(), passage


def _target(passage: Passage, window: Window, example: Example) -> tuple[int, int] | None:
    return None if example.label is None else passages.target(passage, window, example.answers)
