"""`bertlite evaluate --minimal-pairs`: whether a model finds grammatical sentences likelier than ungrammatical ones.

A sentence is scored by its pseudo-log-likelihood: the sum over its tokens of log p(token | all others), for which each
token is masked in turn. A sentence of n tokens is so read n times; the copies of many sentences share rows.

Letters: W windows, R rows, L tokens in a row, P windows in a row.
Source: Salazar et al. 2020 (arXiv 1910.14659), sections 2 and 5 (BLiMP in their table 8).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from rich.progress import track

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.scores.minimal_pairs import Pair, accuracies, read
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model.heads import PretrainingModel, gather_rows
from bertlite_jax.model.ops import choose_precision

_CHUNK = 512
"""Pairs that are scored together."""
_ROW = 128
_SLOTS = 8192
_SENTENCES = Head(labels=("none",))

Score = Callable[[Sequence[str], Sequence[str]], Float64[np.ndarray, " sentences"]]
"""(sentences, the place of each for messages) -> their pseudo-log-likelihoods, in nats."""


def minimal_pairs(run: str, path: str, most: int = 0) -> list[dict[str, Any]]:
    """Scores a model on pairs of sentences.

    Args:
      run: anything with a head for masked tokens that `adoption.open_weights` opens: a work directory of pretraining, a
        folder of transformers, one that `bertlite convert` wrote.
      path: file or folder of pairs, see `data/scores/minimal_pairs.read`.
      most: pairs of each paradigm that are read, the first ones; 0: all.

    Returns:
      Rows of `phenomenon`, `pairs`, `accuracy`, the last one of all pairs. Of two sentences with the same score neither
      is the likelier one, which counts as wrong: a model whose logits are constant gets none right.

    Raises:
      UserError: no such model or file; a sentence without a piece of the vocabulary, or with more tokens than the model
        has positions; weights whose scores are not finite.
    """
    if most < 0:
        raise UserError(f"evaluate: --pairs-each {most} cannot be negative; 0 reads all pairs")
    pairs = read(path, most)
    with adoption.open_weights(run, "evaluate") as weights:
        score = open_scoring(weights, run)
        right = [
            _likelier(chunk, score, run)
            for chunk in track(list(_chunks(pairs)), "evaluate: scoring pairs", transient=True)
        ]
    return accuracies(pairs, np.concatenate(right))


def _chunks(pairs: Sequence[Pair]) -> list[list[Pair]]:
    stream = iter(pairs)
    return list(iter(lambda: list(itertools.islice(stream, _CHUNK)), []))


def _likelier(pairs: Sequence[Pair], score: Score, run: str) -> np.ndarray:
    """Of each pair, whether the grammatical sentence is the likelier one."""
    places = [pair.place for pair in pairs]
    good, bad = (score(texts, places) for texts in ([pair.good for pair in pairs], [pair.bad for pair in pairs]))
    if not np.isfinite([good, bad]).all():
        raise UserError(f"evaluate: scores are not finite (NaN or infinite), so the weights of {run} cannot be right")
    return good > bad


def open_scoring(weights: Weights, run: str) -> Score:
    """Opens a model for pseudo-log-likelihoods.

    Args:
      weights: with a head for masked tokens.
      run: where they were loaded from.

    Raises:
      UserError: they have no such head, or no tokenizer.
    """
    tokenizer, model = weights.tokenizer, dataclasses.replace(weights.model, attention="auto")
    if "mlm" not in weights.params:
        raise UserError(f"evaluate: {run} has no head for masked tokens, so it cannot say how likely a token is")
    if tokenizer is None:
        raise UserError(f"evaluate: {run} comes without a tokenizer, and text cannot be read without one")
    network = PretrainingModel(model, choose_precision.resolve(model.compute, jax.default_backend()))
    params = jax.device_put(parameters.pad_vocabulary(weights.params, weights.model))

    @jax.jit
    def log_probs(params: Any, rows: dict[str, jax.Array]) -> jax.Array:
        """[R, P] of the token behind each mask."""

        def logits_of(module: PretrainingModel) -> jax.Array:
            states = module.encoder(rows["tokens"], rows["segments"], rows["positions"], rows["token_types"], None)
            return module.word_logits(gather_rows(states, rows["predict_positions"]))

        logits = network.apply({"params": params}, method=logits_of)
        of_all = jax.nn.log_softmax(logits.astype(jnp.float32))
        return jnp.take_along_axis(of_all, rows["truths"][..., None], axis=-1)[..., 0]

    def score(texts: Sequence[str], places: Sequence[str]) -> np.ndarray:
        sentences = _encoded(texts, places, tokenizer, model.max_positions)
        copies, truths, masked_at, owners = _masked(sentences, tokenizer.mask_id)
        totals = np.zeros(len(texts), np.float64)
        for layout in batches.evaluation_batches(copies, _ROW, True, 1, _SENTENCES, tokenizer.pad_id, _SLOTS):
            used = layout.windows >= 0
            windows = layout.windows[used]
            rows = {name: layout.batch[name] for name in ("tokens", "segments", "positions", "token_types")}
            at, wanted = np.zeros_like(layout.batch["cls"]), np.zeros_like(layout.batch["cls"])
            at[used] = layout.batch["cls"][used] + masked_at[windows]
            wanted[used] = truths[windows]
            found = np.asarray(log_probs(params, rows | {"predict_positions": at, "truths": wanted}), np.float64)
            np.add.at(totals, owners[windows], found[used])
        return totals

    return score


def _encoded(texts: Sequence[str], places: Sequence[str], tokenizer: Tokenizer, positions: int) -> features.Encoded:
    """The sentences as [CLS] ... [SEP]. Raises UserError for one that is empty, or too long for the model."""
    longest = np.iinfo(np.int32).max
    sentences = features.encode([Example("", text) for text in texts], tokenizer, _SENTENCES, longest, "pairs")
    for place, size in zip(places, sentences.sizes.tolist(), strict=True):
        if size < 3:
            raise UserError(f"evaluate: {place}: a sentence has no piece of the model's vocabulary")
        if size > positions:
            raise UserError(
                f"evaluate: {place}: a sentence has {size:,} tokens with [CLS] and [SEP], and the model has "
                f"{positions:,} positions"
            )
    return sentences


def _masked(sentences: features.Encoded, mask_id: int) -> tuple[features.Encoded, np.ndarray, np.ndarray, np.ndarray]:
    """Each sentence once for each of its tokens, with that token masked.

    Returns:
      The copies; of each copy the masked token [W], its place in the sentence [W], and the number of the sentence [W].
    """
    sizes = sentences.sizes
    owners = np.repeat(np.arange(len(sizes)), sizes - 2)
    masked_at = np.concatenate([np.arange(1, size - 1) for size in sizes.tolist()])
    offsets = np.r_[0, np.cumsum(sizes[owners])]
    starts = sentences.offsets[owners]
    tokens = np.concatenate(
        [sentences.tokens[start : start + size] for start, size in zip(starts, sizes[owners], strict=True)]
    )
    truths = tokens[offsets[:-1] + masked_at]
    tokens[offsets[:-1] + masked_at] = mask_id
    copies = dataclasses.replace(
        sentences,
        tokens=tokens,
        types=np.zeros(len(tokens), np.int8),
        offsets=offsets,
        firsts=np.arange(len(offsets)),
        labels=np.full(len(owners), features.UNLABELLED, np.int32),
    )
    return copies, truths, masked_at, owners
