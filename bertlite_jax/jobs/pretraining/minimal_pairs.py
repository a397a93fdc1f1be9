"""`bertlite evaluate --minimal-pairs`: whether a model finds grammatical sentences likelier than ungrammatical ones.

A sentence is scored by its pseudo-log-likelihood: the sum over its tokens of log p(token | all others), for which each
token is masked in turn. A sentence of n tokens is so read n times; the copies of many sentences share rows.

Letters: W windows, R rows, L tokens in a row, P windows in a row.
Source: Salazar et al. 2020 (arXiv 1910.14659), sections 2 and 5 (BLiMP in their table 8).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from rich.console import Console
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

Score = Callable[[Sequence[str]], Float64[np.ndarray, " sentences"]]
"""(sentences) -> their pseudo-log-likelihoods, in nats; for the same pieces the same to the bit."""


def minimal_pairs(run: str, path: str, most: int = 0) -> list[dict[str, Any]]:
    """Scores a model on pairs of sentences.

    Args:
      run: anything with a head for masked tokens that `adoption.open_weights` opens: a work directory of pretraining, a
        folder of transformers, one that `bertlite convert` wrote.
      path: file or folder of pairs, see `data/scores/minimal_pairs.read`.
      most: pairs of each paradigm that are read, the first ones; 0: all.

    Returns:
      Rows of `phenomenon`, `pairs`, `accuracy`, the last one of all pairs. Of two sentences with the same score neither
      is the likelier one, which counts as wrong: a model whose logits are constant gets no pair right whose sentences
      have as many pieces.

    Raises:
      UserError: no such model or file; a sentence without a piece of the vocabulary; only pairs with sentences that are
        longer than the model reads (beside others they are left out, which a line on standard error says); weights
        whose scores are not finite.
    """
    if most < 0:
        raise UserError(f"evaluate: --pairs-each {most} cannot be negative; 0 reads all pairs")
    pairs = read(path, most)
    with adoption.open_weights(run, "evaluate") as weights:
        score = open_scoring(weights, run)
        assert weights.tokenizer is not None
        pairs = _that_fit(pairs, weights.tokenizer, weights.model.max_positions)
        chunks = [pairs[first : first + _CHUNK] for first in range(0, len(pairs), _CHUNK)]
        console = Console(stderr=True)
        shown = track(
            chunks, "evaluate: scoring pairs", transient=True, console=console, disable=not console.is_terminal
        )
        right = [_likelier(chunk, score, run) for chunk in shown]
    return accuracies(pairs, np.concatenate(right))


def _that_fit(pairs: Sequence[Pair], tokenizer: Tokenizer, positions: int) -> list[Pair]:
    """The pairs whose two sentences a model reads whole."""
    sizes = _encoded([text for pair in pairs for text in (pair.good, pair.bad)], tokenizer).sizes.reshape(-1, 2)
    for pair, both in zip(pairs, sizes.tolist(), strict=True):
        if min(both) < 3:
            raise UserError(f"evaluate: {pair.place}: a sentence has no piece of the model's vocabulary")
    found = [pair for pair, most in zip(pairs, sizes.max(axis=1).tolist(), strict=True) if most <= positions]
    if not found:
        raise UserError(f"evaluate: the model has {positions} positions, and every pair has a longer sentence")
    if left_out := len(pairs) - len(found):
        print(
            f"evaluate: {left_out:,} of {len(pairs):,} pairs are left out, since the model has {positions} positions",
            file=sys.stderr,
        )
    return found


def _likelier(pairs: Sequence[Pair], score: Score, run: str) -> np.ndarray:
    """Of each pair, whether the grammatical sentence is the likelier one."""
    good, bad = np.split(score([pair.good for pair in pairs] + [pair.bad for pair in pairs]), 2)
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
    compute = choose_precision.resolve(model.compute, jax.default_backend(), weights.trained_bits)
    network = PretrainingModel(model, compute)
    params = jax.device_put(parameters.pad_vocabulary(weights.params, weights.model))

    @jax.jit
    def log_probs(params: Any, rows: dict[str, jax.Array]) -> jax.Array:
        """[R, P] of the token behind each mask."""

        def logits_of(module: PretrainingModel) -> jax.Array:
            states = module.encoder(rows["tokens"], rows["segments"], rows["positions"], rows["token_types"], None)
            return module.word_logits(gather_rows(states, rows["predict_positions"]))

        logits = network.apply({"params": params}, method=logits_of)
        assert isinstance(logits, jax.Array)
        of_all = jax.nn.log_softmax(logits.astype(jnp.float32))
        return jnp.take_along_axis(of_all, rows["truths"][..., None], axis=-1)[..., 0]

    def score(texts: Sequence[str]) -> np.ndarray:
        encoded = _encoded(texts, tokenizer)
        pieces = np.split(encoded.tokens, encoded.offsets[1:-1])
        # Each sentence once: its place in a row decides the last bits, by which one of two equal ones would win.
        different = {sentence.tobytes(): sentence for sentence in pieces}
        copies, truths, masked_at, owners = _masked(list(different.values()), tokenizer.mask_id)
        totals = np.zeros(len(different), np.float64)
        for layout in batches.evaluation_batches(copies, _ROW, True, 1, _SENTENCES, tokenizer.pad_id, _SLOTS):
            used = layout.windows >= 0
            windows = layout.windows[used]
            rows = {name: layout.batch[name] for name in ("tokens", "segments", "positions", "token_types")}
            at, wanted = np.zeros_like(layout.batch["cls"]), np.zeros_like(layout.batch["cls"])
            at[used] = layout.batch["cls"][used] + masked_at[windows]
            wanted[used] = truths[windows]
            found = np.asarray(log_probs(params, rows | {"predict_positions": at, "truths": wanted}), np.float64)
            np.add.at(totals, owners[windows], found[used])
        of_pieces = dict(zip(different, totals.tolist(), strict=True))
        return np.array([of_pieces[sentence.tobytes()] for sentence in pieces], np.float64)

    return score


def _encoded(texts: Sequence[str], tokenizer: Tokenizer) -> features.Encoded:
    """The sentences as [CLS] ... [SEP]."""
    longest = np.iinfo(np.int32).max
    return features.encode([Example("", text) for text in texts], tokenizer, _SENTENCES, longest, "pairs")


def _masked(
    sentences: Sequence[np.ndarray], mask_id: int
) -> tuple[features.Encoded, np.ndarray, np.ndarray, np.ndarray]:
    """Each sentence once for each of its tokens, with that token masked.

    Args:
      sentences: as [CLS] ... [SEP].
      mask_id: of [MASK].

    Returns:
      The copies; of each copy the masked token [W], its place in the sentence [W], and the number of the sentence [W].
    """
    owners = np.repeat(np.arange(len(sentences)), [len(sentence) - 2 for sentence in sentences])
    masked_at = np.concatenate([np.arange(1, len(sentence) - 1) for sentence in sentences])
    copies = features.of_tokens([sentences[owner] for owner in owners.tolist()])
    places = copies.offsets[:-1] + masked_at
    truths = copies.tokens[places]
    copies.tokens[places] = mask_id
    return copies, truths, masked_at, owners
