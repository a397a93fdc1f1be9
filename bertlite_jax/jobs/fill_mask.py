"""`bertlite fill-mask`: what a trained model would put in place of [MASK]."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from bertlite_jax.config import UserError
from bertlite_jax.data import source
from bertlite_jax.data.batches import evaluation_rows
from bertlite_jax.data.tokenizer import Tokenizer
from bertlite_jax.jobs.evaluate import Trained, open_run
from bertlite_jax.train import objective

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
    return guess(trained, ids, top)


def guess(trained: Trained, ids: np.ndarray, top: int) -> list[list[Guess]]:
    """The likeliest pieces at every [MASK] of one window without specials, [n] int32."""
    tokenizer, longest = trained.tokenizer, trained.config.model.max_positions
    if len(ids) + 2 > longest:
        raise UserError(f"fill-mask: the text has {len(ids)} tokens; at most {longest - 2} fit")
    window = np.array([[tokenizer.cls_id, *ids, tokenizer.sep_id]], np.int32)
    (masked,) = np.nonzero(window[0] == tokenizer.mask_id)
    ones = np.ones_like(window)
    rows = {
        "inputs": window,
        "segments": ones,
        "positions": np.arange(window.shape[1], dtype=np.int32)[None],
        "token_types": 0 * ones,
        "cls": np.zeros((1, 1), np.int32),
        "predict_positions": masked[None].astype(np.int32),
    }
    logits, _ = objective.logits_of(trained.apply, trained.params, rows, None)
    shares = np.array(jax.nn.softmax(logits[0, :, : trained.config.model.vocab_size]))
    shares[:, list(tokenizer.special_ids)] = 0.0
    best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    return [list(zip(tokenizer.pieces(order), map(float, row[order]))) for row, order in zip(shares, best)]


def sample_predictions(trained: Trained, samples: int = 6, top: int = 5) -> list[dict[str, Any]]:
    """Held-out windows with one whole word hidden, and what the model makes of them, for the report.

    Returns:
      [{"text": "... [MASK] ...", "truth": piece, "predictions": [[piece, probability], ...]}, ...].
    """
    held_out = source.open_source(trained.config.data, "validation", objective.EVALUATION_SEED)
    batch = next(evaluation_rows(held_out, samples, samples))
    found = []
    for row in range(samples):
        here = batch["segments"][row] == 1
        special = np.isin(batch["tokens"][row][here], trained.tokenizer.special_ids)
        ids, starts = batch["tokens"][row][here][~special], batch["word_starts"][row][here][~special]
        whole = np.flatnonzero(starts[:-1] & starts[1:] & np.char.isalpha(_letters(trained.tokenizer, ids[:-1])))
        if not len(whole):
            continue
        place = whole[len(whole) // 2]
        hidden = ids.copy()
        hidden[place] = trained.tokenizer.mask_id
        before, after = (trained.tokenizer.decode(part) for part in (ids[:place], ids[place + 1 :]))
        found.append(
            {
                "text": f"{before} [MASK] {after}".strip(),
                "truth": trained.tokenizer.pieces(ids[place : place + 1])[0],
                "predictions": guess(trained, hidden, top)[0],
            }
        )
    return found


def bare(piece: str) -> str:
    """A piece for people: without SentencePiece's mark of a word's start, unless that is all it is."""
    return piece.removeprefix("▁") or piece


def _letters(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """The pieces without their mark of a word's start; never empty strings, which are no letters."""
    return np.array([piece.strip("▁Ġ#") or " " for piece in tokenizer.pieces(ids)], dtype=str)
