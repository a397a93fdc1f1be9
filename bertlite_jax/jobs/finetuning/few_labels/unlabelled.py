"""Texts that come without labels, changed copies of the training texts, and the batches of both."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.data.examples import batches, features, joining, span_features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs, span_inputs
from bertlite_jax.jobs.finetuning.examples import check_planned, training_examples
from bertlite_jax.jobs.finetuning.few_labels import copies
from bertlite_jax.jobs.finetuning.setup import Extra, Setup

ORDER = 1
"""Added to the seed for the order of unlabelled texts, when their batches are planned and when they are formed."""


def read_texts(path: str, head: Head) -> list[Example]:
    """Reads a file in any form that `predict` reads; labels are ignored, and for a tagger lines without a word."""
    if head.kind == "span":
        texts = [dataclasses.replace(example, label=None, answers=()) for example in _questions(path)]
    else:
        texts = list(inputs.read(path, head, job="finetune", labelled=False))
    if head.kind == "tag":
        texts = [example for example in texts if example.words]
    if not texts:
        raise UserError(f"finetune: {path} contains no text")
    return texts


def _questions(path: str) -> Iterator[Example]:
    try:
        yield from span_inputs.read(path, Counter())
    except UserError as error:
        raise UserError(f"finetune: {str(error).removeprefix('predict: ')}") from error


def check_pairs(texts: Iterable[Example], path: str, pairs: bool | None) -> None:
    """Raises UserError for a pair among the texts of a task without pairs, or the reverse; `pairs` None: either may be.

    Args:
      texts: of the file `path`.
      path: for messages.
      pairs: whether all examples of the task are pairs, or none is.
    """
    for text in texts if pairs is not None else ():
        if (text.pair is not None) != pairs:
            has, task = ('no second text ("pair")', "pairs") if pairs else ("a second text", "single texts")
            raise UserError(f"finetune: {path}: text {text.id} has {has}; the examples of the task are {task}")


def examples_of_training(setup: Setup) -> Iterable[Example]:
    """The examples that are trained on, in the order of their windows."""
    return training_examples(setup.task, setup.start.config.data, setup.start.config.head)


def digest_of(texts: Iterable[Example]) -> str:
    """SHA-256, in hex, of texts as they are before anything reads them."""
    whole = hashlib.sha256()
    for unit in copies.units_of(texts):
        whole.update(f"{unit!r}\0".encode())
    return whole.hexdigest()


def check_count(config: Finetuned, texts: int, examples: int, steps: int) -> None:
    """Raises UserError if the batches of a run could not be planned in reasonable time."""
    count = texts + config.learn.copies * examples
    if count:
        check_planned(steps, min(config.learn.unlabelled_batch, count), count, "unlabelled texts")


def complete(setup: Setup, changes: copies.Changes | None = None) -> Setup:
    """Makes the copies and augmentations of a run, and determines the shape of the batches that they are in.

    Args:
      setup: with the texts of `learn.unlabelled`, if there are any.
      changes: how texts are changed; None: by `copies.offline`.
    """
    config, extra = setup.start.config, setup.extra
    learn, texts = config.learn, extra.texts
    if not learn.reads_unlabelled:
        return setup
    examples = list(examples_of_training(setup)) if learn.copies else []
    if changes is None and (examples or learn.augments):
        changes = copies.offline(learn, config.run.seed, examples or texts)
    if changes is not None and examples:
        texts = copies.TextsWithCopies(texts, examples, changes, learn.copies)
    multiple = setup.mesh.size * config.optim.micro_batches
    head = dataclasses.replace(config.head, splits=setup.splits)
    batched = batched_texts(config, head, setup.start.tokenizer, texts, changes, setup.steps, multiple)
    return setup._replace(extra=extra._replace(texts=batched.texts, unlabelled=batched.unlabelled, shape=batched.shape))


def batched_texts(
    config: Finetuned,
    head: Head,
    tokenizer: Tokenizer,
    texts: Sequence[Example],
    changes: copies.Changes | None,
    steps: int,
    multiple: int,
) -> Extra:
    """Encodes texts, with an augmentation of each if `learn` augments, and plans their batches.

    Args:
      config: of the run.
      head: of the model.
      tokenizer: of the encoder.
      texts: without labels.
      changes: that make the augmentations, where `learn` augments.
      steps: in the whole run.
      multiple: the rows of a batch are a multiple of this.
    """
    learn, data = config.learn, config.data
    where = learn.unlabelled or f"copies of {data.folder}"
    if head.kind == "span":
        encoded = span_features.encode(texts, tokenizer, data, training=False, where=where).encoded
    else:
        encoded = features.encode(texts, tokenizer, head, data.length, where)
    if changes is not None and learn.augments:
        augmented = [copies.changed(text, changes, 2 * number) for number, text in enumerate(texts)]
        encoded = joining.beside(encoded, features.encode(augmented, tokenizer, head, data.length, where))
    count = len(encoded.firsts) - 1
    batch = min(learn.unlabelled_batch, count)
    epochs = -(-steps // batches.batches_in_epoch(count, batch))
    shape = batches.plan(encoded, batch, True, 0, epochs, config.run.seed + ORDER)
    shape = shape._replace(rows=-(-shape.rows // multiple) * multiple)
    rows = f"{shape.rows} rows of {shape.length} tokens"
    print(f"finetune: {_in_words(encoded, len(texts), head)}, {batch} per step in {rows}")
    return Extra(texts=texts, unlabelled=encoded, shape=shape)


def _in_words(encoded: features.Encoded, texts: int, head: Head) -> str:
    """`2,000 unlabelled texts, 3 cut to data.length`."""
    cut = encoded.counts["truncated"]
    if head.kind == "span":
        shortened = f", {cut:,} cut to data.question_length" if cut else ""
        return f"{texts:,} unlabelled questions{shortened}, in {encoded.counts['examples']:,} windows"
    return f"{texts:,} unlabelled texts" + (f", {cut:,} cut to data.length" if cut else "")
