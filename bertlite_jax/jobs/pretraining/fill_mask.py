"""`bertlite fill-mask`: what a trained model would put in place of [MASK]."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from bertlite_jax.data.rows import source
from bertlite_jax.data.rows.batches import evaluation_rows
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.evaluate import Trained, open_run
from bertlite_jax.train.pretraining import objective

Guess = tuple[str, float]
"""A piece and its probability."""


def fill_mask(run: str, text: str, top: int = 5) -> list[list[Guess]]:
    """The likeliest pieces for every [MASK] in a text.

    Args:
      run: work directory of a pretraining run.
      text: with one or more `[MASK]`.
      top: how many pieces for each.

    Returns:
      For each [MASK] in order, pieces with probabilities, likeliest first.

    Raises:
      UserError: no [MASK] in the text, or more tokens than the model has positions.
    """
    if top < 1:
        raise UserError(f"fill-mask: top = {top} must be positive")
    trained = open_run(run)
    ids = trained.tokenizer.encode(text, allow_special=True)
    if trained.tokenizer.mask_id not in ids:
        raise UserError(f"fill-mask: no [MASK] in {text!r}; write it where a word is missing")
    (found,) = guess(trained, [ids], top)
    return found


def guess(trained: Trained, texts: list[np.ndarray], top: int) -> list[list[list[Guess]]]:
    """The likeliest pieces at every [MASK] of each text.

    Args:
      trained: the model.
      texts: token ids [n] int32 without specials, with one or more [MASK] each.
      top: how many pieces for each.

    Returns:
      Of each text, for each of its [MASK] in order, pieces with probabilities, likeliest first.

    Raises:
      UserError: more tokens than the model has positions.
    """
    tokenizer, longest = trained.tokenizer, trained.config.model.max_positions
    length = max(map(len, texts)) + 2
    if length > longest:
        raise UserError(f"fill-mask: the text has {length - 2} tokens; at most {longest - 2} fit")
    tokens, segments = (np.full((len(texts), length), fill, np.int32) for fill in (tokenizer.pad_id, 0))
    for row, ids in enumerate(texts):
        tokens[row, : len(ids) + 2] = [tokenizer.cls_id, *ids, tokenizer.sep_id]
        segments[row, : len(ids) + 2] = 1
    masked = [np.flatnonzero(window == tokenizer.mask_id) for window in tokens]
    slots = max(map(len, masked))
    rows = {
        "inputs": tokens,
        "segments": segments,
        "positions": np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape),
        "token_types": np.zeros_like(tokens),
        "cls": np.zeros((len(texts), 1), np.int32),
        "predict_positions": np.array([np.pad(places, (0, slots - len(places))) for places in masked], np.int32),
    }
    logits, _ = jax.jit(objective.logits_of, static_argnums=0)(trained.apply, trained.params, rows, None)
    shares = np.array(jax.nn.softmax(logits[..., : trained.config.model.vocab_size]))
    shares[..., list(tokenizer.special_ids)] = 0.0
    return [
        [_likeliest(tokenizer, each, top) for each in of_text[: len(places)]]
        for of_text, places in zip(shares, masked, strict=True)
    ]


def _likeliest(tokenizer: Tokenizer, shares: np.ndarray, top: int) -> list[Guess]:
    """Of probabilities [V]."""
    order = np.argsort(-shares, kind="stable")[:top]
    return list(zip(tokenizer.pieces(order), map(float, shares[order]), strict=True))


def sample_predictions(trained: Trained, samples: int = 6, top: int = 5) -> list[dict[str, Any]]:
    """Held-out windows with one whole word hidden, and what the model makes of them, for the report.

    Returns:
      [{"text": "... [MASK] ...", "truth": piece, "predictions": [[piece, probability], ...]}, ...].
    """
    held_out = source.open_source(trained.config.data, "validation", objective.EVALUATION_SEED)
    batch = next(evaluation_rows(held_out, samples, samples))
    found, windows = [], []
    for row in range(samples):
        here = batch["segments"][row] == 1
        special = np.isin(batch["tokens"][row][here], trained.tokenizer.special_ids)
        ids, starts = batch["tokens"][row][here][~special], batch["word_starts"][row][here][~special]
        whole = np.flatnonzero(starts[:-1] & starts[1:] & np.char.isalpha(_letters(trained.tokenizer, ids[:-1])))
        if not len(whole):
            continue
        place = whole[len(whole) // 2]
        windows.append(ids.copy())
        windows[-1][place] = trained.tokenizer.mask_id
        before, after = (trained.tokenizer.decode(part) for part in (ids[:place], ids[place + 1 :]))
        truth = trained.tokenizer.pieces(ids[place : place + 1])[0]
        found.append({"text": f"{before} [MASK] {after}".strip(), "truth": truth})
    guesses = guess(trained, windows, top) if windows else []
    return [sample | {"predictions": predictions} for sample, (predictions,) in zip(found, guesses, strict=True)]


def bare(piece: str) -> str:
    """A piece for people: without SentencePiece's mark of a word's start, unless that is all it is."""
    return piece.removeprefix("▁") or piece


def _letters(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """The pieces without their mark of a word's start; never empty strings, which are no letters."""
    return np.array([piece.strip("▁Ġ#") or " " for piece in tokenizer.pieces(ids)], dtype=str)
