"""A model with a smaller vocabulary: the pieces that a text needs, and their rows.

The word table of a small encoder has most of its bytes, and the 67,349 texts of SST-2 have 11,570 of BERT's 30,522
pieces. A text of kept pieces alone is cut as before and gets the same hidden states; masks are answered among the kept
pieces. Other words are cut into other pieces. Abdaoui et al. 2020 (arXiv 2010.05609) take the languages out of a
multilingual BERT in this way.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertlite_jax.convert.int8 import measuring_text
from bertlite_jax.convert.int8.example_windows import Cut
from bertlite_jax.convert.int8.labelled import USUAL_COLUMNS
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, answer_length, save_weights
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.vocabulary import trimming
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError


class Trimmed(NamedTuple):
    """What became of a vocabulary."""

    before: int
    """Pieces, special ones included."""
    after: int
    share: float
    """Of the pieces in the text, special ones left out, those that stay."""


def trim(
    weights: Weights,
    out: os.PathLike[str] | str,
    text: Sequence[str],
    pieces: int = 0,
    columns: OwnOptions = USUAL_COLUMNS,
    overwrite: bool = False,
) -> Trimmed:
    r"""Writes a model with the most frequent pieces of a text, for `--init` and for exports.

    Args:
      weights: with a tokenizer.
      out: folder that `save_weights` writes.
      text: files or folders of text, or files of examples, of the kind that the model will read.
      pieces: to keep, special ones included; 0: all that the text has.
      columns: of files of examples.
      overwrite: replace an earlier result.

    Raises:
      UserError: no tokenizer or one of another kind, no text, too few pieces, or `out` is in the way.

    Examples:
      After `bertlite quickstart`:

      >>> import pathlib
      >>> from bertlite_jax.convert.sources import load
      >>> from bertlite_jax.convert.trim import trim
      >>> pathlib.Path("queen.txt").write_text("The Queen of Hearts, she made some tarts,\n")
      42
      >>> done = trim(load("runs/quickstart"), "queen", ["queen.txt"])
      >>> done.after < done.before, load("queen").tokenizer.decode(load("queen").tokenizer.encode("some tarts"))
      (True, 'some tarts')
    """
    if weights.tokenizer is None:
        raise UserError("convert: trim: the weights have no tokenizer")
    tokenizer = weights.tokenizer
    trimming.check_trimmable(tokenizer)
    counts = _counts(weights, tokenizer, text, columns)
    kept = trimming.choose_pieces(tokenizer, counts, pieces)
    with tempfile.TemporaryDirectory() as folder:
        smaller = trimming.write_trimmed(tokenizer, kept, pathlib.Path(folder) / "tokenizer")
        flat = parameters.exported(weights.params, weights.model)
        rows = {path: np.asarray(flat[path])[kept] for path in parameters.OF_PIECES if path in flat}
        model = dataclasses.replace(weights.model.exported, vocab_size=len(kept), vocab_multiple=1)
        params = parameters.nest(flat | rows)
        trimmed = dataclasses.replace(weights, params=params, model=model, tokenizer=smaller)
        save_weights(trimmed, out, overwrite=overwrite)
    return Trimmed(len(counts), len(kept), counts[kept].sum() / counts.sum())


def _counts(weights: Weights, tokenizer: Tokenizer, text: Sequence[str], columns: OwnOptions) -> np.ndarray:
    """How often the text has each piece, int64 [V]; special ones are not counted."""
    if not text:
        raise UserError("convert: trim: --text names no file; give text of the kind that the model will read")
    cut = Cut(tokenizer, answer_length(weights), weights.head)
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for window in measuring_text.every_window(text, weights.head, columns, cut, least=3):
        np.add.at(counts, window.ids, 1)
    counts[list(tokenizer.special_ids)] = 0
    if not counts.any():
        raise UserError(
            f"convert: trim: {', '.join(text)}: no text in it; give text of the kind that the model will read"
        )
    return counts
