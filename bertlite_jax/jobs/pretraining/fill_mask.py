"""`bertlite fill-mask`: the pieces that a pretrained model predicts for each [MASK]."""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.pretrain import Data
from bertlite_jax.convert import adoption, sources
from bertlite_jax.data.rows import source
from bertlite_jax.data.rows.batches import evaluation_rows
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.masked_lm import OpenMaskedLM, open_masked_lm, refuse_task_run
from bertlite_jax.train.pretraining import objective

Guess = tuple[str, float]
"""A piece and its probability."""


def fill_mask(run: str, text: str, top: int = 5) -> list[list[Guess]]:
    """Returns the most likely pieces for every [MASK] in a text.

    A text with more tokens than the model has positions is cut, which a line on standard error says.

    Args:
      run: anything with a head for masked tokens that `adoption.open_weights` opens: a work directory of pretraining, a
        folder of transformers, one that `bertlite convert` wrote, an encoder of the package.
      text: a text with one or more `[MASK]`.
      top: number of pieces for each [MASK].

    Returns:
      For each [MASK] in order, (piece, probability), most likely first.

    Raises:
      UserError: no such model; the text is not UTF-8, has no [MASK], or has one behind the tokens that the model
        reads.

    Examples:
      >>> from bertlite_jax.jobs.pretraining.fill_mask import fill_mask
      >>> (guesses,) = fill_mask("reference-en", "She looked at the [MASK].", top=3)
      >>> len(guesses), guesses[0][1] >= guesses[1][1]
      (3, True)
    """
    text = _decoded(text)
    if top < 1:
        raise UserError(f"fill-mask: top = {top} must be positive")
    sources.check_there(run, "fill-mask")
    refuse_task_run(run, "fill-mask")
    with adoption.open_weights(run, "fill-mask") as weights:
        opened = open_masked_lm(weights, run, "fill-mask")
        return _fill(opened, text, top)


def _fill(opened: OpenMaskedLM, text: str, top: int) -> list[list[Guess]]:
    ids = opened.tokenizer.encode(text, allow_special=True)
    if opened.tokenizer.mask_id not in ids:
        raise UserError(f"fill-mask: no [MASK] in {text[:200]!r}; write it where a word is missing")
    room = opened.model.max_positions - 2
    if behind := int(np.sum(ids[room:] == opened.tokenizer.mask_id)):
        raise UserError(
            f"fill-mask: {behind} of the text's [MASK] behind the first {room} tokens, and the model reads no more; "
            f"shorten the text, which has {len(ids):,}"
        )
    if len(ids) > room:
        print(f"fill-mask: the text has {len(ids):,} tokens; it is cut to the first {room}", file=sys.stderr)
    (guesses,) = guess(opened, [ids[:room]], top)
    return guesses


def _decoded(text: str) -> str:
    """The text of an argument whose bytes the locale could not decode. Raises UserError if they are not UTF-8."""
    try:
        return text.encode("utf-8", errors="surrogateescape").decode("utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(f"fill-mask: the text is not UTF-8 (byte 0x{byte:02x})") from error
    except UnicodeEncodeError as error:
        raise UserError("fill-mask: the text has half of a surrogate pair, which is no character") from error


def guess(opened: OpenMaskedLM, texts: list[np.ndarray], top: int) -> list[list[list[Guess]]]:
    """Returns the most likely pieces at every [MASK] of several texts.

    Args:
      opened: the model.
      texts: token ids of each text, [n] int32, without special tokens but with one or more [MASK].
      top: number of pieces for each [MASK].

    Returns:
      For each text, for each of its [MASK] in order, (piece, probability), most likely first.

    Raises:
      UserError: a text has more tokens than the model has positions.
    """
    tokenizer, longest = opened.tokenizer, opened.model.max_positions
    length = max(map(len, texts)) + 2
    if length > longest:
        raise UserError(f"fill-mask: the text has {length - 2} tokens; the model takes at most {longest - 2}")
    tokens, segments = (np.full((len(texts), length), fill, np.int32) for fill in (tokenizer.pad_id, 0))
    for row, ids in enumerate(texts):
        tokens[row, : len(ids) + 2] = [tokenizer.cls_id, *ids, tokenizer.sep_id]
        segments[row, : len(ids) + 2] = 1
    mask_positions = [np.flatnonzero(row == tokenizer.mask_id) for row in tokens]
    slots = max(map(len, mask_positions))
    batch = {
        "inputs": tokens,
        "segments": segments,
        "positions": np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape),
        "token_types": np.zeros_like(tokens),
        "cls": np.zeros((len(texts), 1), np.int32),
        "predict_positions": np.array([np.pad(at, (0, slots - len(at))) for at in mask_positions], np.int32),
    }
    logits, _ = jax.jit(objective.logits_of, static_argnums=0)(opened.network.apply, opened.params, batch, None)
    probabilities = np.array(jax.nn.softmax(logits[..., : opened.model.vocab_size]))
    probabilities[..., list(tokenizer.special_ids)] = 0.0
    return [
        [_most_likely(tokenizer, of_piece, top) for of_piece in of_mask[: len(at)]]
        for of_mask, at in zip(probabilities, mask_positions, strict=True)
    ]


def _most_likely(tokenizer: Tokenizer, probabilities: np.ndarray, top: int) -> list[Guess]:
    """The `top` pieces by their probabilities [V]."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return list(zip(tokenizer.pieces(order), map(float, probabilities[order]), strict=True))


def sample_predictions(opened: OpenMaskedLM, data: Data, samples: int = 6, top: int = 5) -> list[dict[str, Any]]:
    """Masks one whole word in each of some windows of a validation split, and predicts it. For the report.

    Returns:
      [{"text": "... [MASK] ...", "truth": piece, "predictions": [[piece, probability], ...]}, ...].
    """
    tokenizer = opened.tokenizer
    validation = source.open_source(data, "validation", objective.EVALUATION_SEED, tokenizer)
    batch = next(evaluation_rows(validation, samples, samples))
    masked_texts, masked_windows = [], []
    for row in range(samples):
        first_window = batch["segments"][row] == 1
        special = np.isin(batch["tokens"][row][first_window], tokenizer.special_ids)
        ids, starts = (batch[name][row][first_window][~special] for name in ("tokens", "word_starts"))
        whole_words = np.flatnonzero(starts[:-1] & starts[1:] & np.char.isalpha(letters(tokenizer, ids[:-1])))
        if not len(whole_words):
            continue
        position = whole_words[len(whole_words) // 2]
        masked = ids.copy()
        masked[position] = tokenizer.mask_id
        masked_windows.append(masked)
        before, after = (tokenizer.decode(part) for part in (ids[:position], ids[position + 1 :]))
        truth = tokenizer.pieces(ids[position : position + 1])[0]
        masked_texts.append({"text": f"{before} [MASK] {after}".strip(), "truth": truth})
    guesses = guess(opened, masked_windows, top) if masked_windows else []
    return [text | {"predictions": predictions} for text, (predictions,) in zip(masked_texts, guesses, strict=True)]


def bare(piece: str) -> str:
    """A piece as people read it: without SentencePiece's word-start mark, unless the piece is nothing else."""
    return piece.removeprefix("▁") or piece


def letters(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """The pieces without word-start marks; a space where nothing is left, since `isalpha` needs a character."""
    return np.array([piece.strip("▁Ġ#") or " " for piece in tokenizer.pieces(ids)], dtype=str)
