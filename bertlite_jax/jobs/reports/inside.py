"""A look inside a trained model, for its report: where each head attends, and which pieces have like embeddings.

Letters: N layers, H heads, L tokens, D hidden.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bertlite_jax.config.distillation.settings import trained_bits
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.evaluate import Trained, open_run
from bertlite_jax.jobs.pretraining.fill_mask import bare, letters
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.observed import Request, observe
from bertlite_jax.model.ops.precision import of_bits

TOKENS = 16
"""Most tokens of the text whose attention is shown."""
SHORTEST = 4
"""Letters of a word whose neighbours are shown: shorter ones are mostly particles."""


def of_run(workdir: pathlib.Path, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `look_inside` sees in a finished run; {} for one without a checkpoint that can be read, which a line says.

    Args:
      workdir: of a run of pretraining.
      samples: the content of its `samples.json`; the first is the text.
    """
    if not samples or not (workdir / "checkpoints").is_dir():
        return {}
    try:
        return look_inside(open_run(workdir, "report"), samples[0]["text"])
    except UserError as error:
        print(f"{error}; the report has no look inside")
        return {}


def look_inside(trained: Trained, text: str, words: int = 10, near: int = 6) -> dict[str, Any]:
    """What a report shows of a model beside its figures.

    Args:
      trained: the model.
      text: whose beginning is read; it may have [MASK].
      words: number of words whose neighbours are looked for: the first of the vocabulary, in which frequent ones come
        first.
      near: neighbours of each.

    Returns:
      {"tokens": L pieces, "attention": [N, H, L, L], rows are those that attend, "neighbours": [{"word": piece, "near":
      [(piece, cosine), ..]}, ..]}.
    """
    tokenizer = trained.tokenizer
    room = min(TOKENS, trained.config.model.max_positions) - 2
    ids = np.array([tokenizer.cls_id, *tokenizer.encode(text, allow_special=True)[:room], tokenizer.sep_id], np.int32)
    return {
        "tokens": [bare(piece) for piece in tokenizer.pieces(ids)],
        "attention": attention(trained, ids),
        "neighbours": neighbours(trained, words, near),
    }


def attention(trained: Trained, ids: np.ndarray) -> Float[np.ndarray, "N H L L"]:
    """The attention of every head in one window; each row adds up to 1.

    Args:
      trained: the model.
      ids: [L], with special tokens.
    """
    model, bits = trained.config.model, trained_bits(trained.config)
    compute = of_bits(bits) if bits else "float32"
    row, length = np.asarray(ids, np.int32)[None], len(ids)
    rows = {
        "inputs": row,
        "segments": np.ones_like(row),
        "positions": np.arange(length, dtype=np.int32)[None],
        "token_types": np.zeros_like(row),
    }
    request = Request(projections=tuple(range(1, model.num_layers + 1)))

    @jax.jit
    def weights(params: Any, rows: dict[str, Array]) -> Float[Array, "N H L L"]:
        seen = observe(PretrainingModel(model, compute), request, params, rows, None)
        return jnp.stack([_weights(query[0], key[0]) for query, key, _ in seen["projections"]])

    def _weights(query: Float[Array, "L D"], key: Float[Array, "L D"]) -> Float[Array, "H L L"]:
        q, k = (each.reshape(length, model.num_heads, -1).astype(jnp.float32) for each in (query, key))
        scores = jnp.einsum("qhd,khd->hqk", q, k) / np.float32(np.sqrt(q.shape[-1]))
        return jax.nn.softmax(scores, axis=-1)

    return np.asarray(weights(trained.params, rows))


def neighbours(trained: Trained, words: int, near: int) -> list[dict[str, Any]]:
    """The whole words whose rows of the word table have the highest cosine with that of a frequent one.

    Args:
      trained: the model.
      words: as for `look_inside`.
      near: as for `look_inside`.
    """
    tokenizer, size = trained.tokenizer, trained.config.model.vocab_size
    every = np.arange(size)
    spelled = letters(tokenizer, every)
    whole = np.char.isalpha(spelled) & (np.char.str_len(spelled) >= SHORTEST) & tokenizer.word_starts(every)
    whole[list(tokenizer.special_ids)] = False
    places = np.flatnonzero(whole)
    rows = np.asarray(trained.params["embeddings"]["word"]["embedding"], np.float32)[places]
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines = rows[:words] @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    pieces = [bare(piece) for piece in tokenizer.pieces(places)]
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(near, len(places) - 1)]
    return [
        {"word": pieces[number], "near": [(pieces[other], float(cosines[number, other])) for other in best]}
        for number, best in enumerate(order)
    ]
