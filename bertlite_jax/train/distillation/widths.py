"""A teacher's parameters at smaller widths, by truncated singular value decompositions: a start, not the same function.

A basis of the hidden space takes the directions in which the teacher's word vectors are largest; one of the embedding
space likewise. Kernels are multiplied by the bases on both sides. What attention makes of queries and keys is their
product, and of values and output theirs, so each head gets the nearest product of its smaller width. Feed-forward
layers keep the neurons whose incoming and outgoing weights are largest. LayerNorm is not linear; its scales become
averages, and grow by what the removed directions were to it.

Letters: V vocabulary, E embedding, D hidden, F feed-forward, N layers, H heads, K width of a head; T before, S after.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bertlite_jax.config.model import Model

Flat = dict[str, np.ndarray]


class Basis(NamedTuple):
    """A space and what of it is left."""

    axes: Float[np.ndarray, "T S"]
    """Orthonormal columns."""
    share: float
    """Of the squared length of word vectors, the part that is left."""


def narrowed(flat: Flat, teacher: Model, student: Model) -> Flat:
    """The parameters at the student's widths; to the bit the given ones where they are equal.

    Args:
      flat: of the teacher, stacks [N, ...].
      teacher: its shape; no width is smaller than the student's, and heads are as many.
      student: the wanted widths and projection; its depth is not read.
    """
    sizes = ("embed_size", "hidden_size", "ffn_size", "projected")
    if all(getattr(teacher, name) == getattr(student, name) for name in sizes):
        return flat
    flat = {name: value.astype(np.float64) for name, value in flat.items()}
    words = flat["embeddings/word/embedding"]
    projection = flat.get("projection/kernel", np.eye(words.shape[1]))
    hidden = _basis(words @ projection, student.hidden_size)
    of_words = _basis(words, student.embed_size) if student.projected else hidden
    summed = hidden if student.projects_words else of_words
    made = {"embeddings/word/embedding": words @ of_words.axes}
    if student.projected:
        made["projection/kernel"] = of_words.axes.T @ projection @ hidden.axes
    if student.projected and not student.projects_words:
        made["projection/bias"] = flat.get("projection/bias", np.zeros(teacher.hidden_size)) @ hidden.axes
    for name in ("position", "token_type"):
        if f"embeddings/{name}/embedding" in flat:
            made[f"embeddings/{name}/embedding"] = flat[f"embeddings/{name}/embedding"] @ summed.axes
    made |= _norm(flat, "embeddings/norm", summed)
    made |= _attention(flat, teacher.num_heads, hidden)
    made |= _feed_forward(flat, student.ffn_size, hidden)
    for name in ("layers/norms/attention", "layers/norms/ffn", "final_norm"):
        made |= _norm(flat, name, hidden)
    made |= _linear(flat, "pooler", hidden, hidden) | _linear(flat, "mlm/dense", hidden, summed)
    made |= _norm(flat, "mlm/norm", summed)
    made |= {name: flat[name] for name in ("mlm/bias", "pair/bias") if name in flat}
    if "pair/kernel" in flat:
        made["pair/kernel"] = hidden.axes.T @ flat["pair/kernel"]
    if "layers/depth/bias" in flat:
        made["layers/depth/bias"] = flat["layers/depth/bias"] @ hidden.axes
    return {name: value.astype(np.float32) for name, value in made.items()}


def _basis(vectors: Float[np.ndarray, "V T"], width: int) -> Basis:
    """The right singular vectors with the largest singular values; the space itself where the width is all of it."""
    if width == vectors.shape[1]:
        return Basis(np.eye(width), 1.0)
    squares, axes = np.linalg.eigh(vectors.T @ vectors)  # Rising.
    return Basis(axes[:, ::-1][:, :width], float(squares[-width:].sum() / squares.sum()))


def _linear(flat: Flat, name: str, inside: Basis, outside: Basis) -> Flat:
    """A kernel [..., In, Out] and its bias between two spaces; nothing where there is none."""
    if f"{name}/kernel" not in flat:
        return {}
    kernel = inside.axes.T @ flat[f"{name}/kernel"] @ outside.axes
    return {f"{name}/kernel": kernel, f"{name}/bias": flat[f"{name}/bias"] @ outside.axes}


def _norm(flat: Flat, name: str, space: Basis) -> Flat:
    """Scale and bias of a LayerNorm.

    A normalised state of width T has the squared length T, of which `share` is left; one of width S has S.
    """
    if f"{name}/scale" not in flat:
        return {}
    T, S = space.axes.shape
    scale = flat[f"{name}/scale"] @ space.axes**2 * np.sqrt(space.share * T / S)
    return {f"{name}/scale": scale, f"{name}/bias": flat[f"{name}/bias"] @ space.axes}


def _feed_forward(flat: Flat, width: int, hidden: Basis) -> Flat:
    up, down = "layers/ffn/up", "layers/ffn/down"
    into, out = hidden.axes.T @ flat[f"{up}/kernel"], flat[f"{down}/kernel"] @ hidden.axes
    importance = np.linalg.norm(into, axis=1) * np.linalg.norm(out, axis=2)  # [N, F]
    taken = np.sort(np.argsort(-importance, axis=1, kind="stable")[:, :width], axis=1)
    return {
        f"{up}/kernel": np.take_along_axis(into, taken[:, None], axis=2),
        f"{up}/bias": np.take_along_axis(flat[f"{up}/bias"], taken, axis=1),
        f"{down}/kernel": np.take_along_axis(out, taken[:, :, None], axis=1),
        f"{down}/bias": flat[f"{down}/bias"] @ hidden.axes,
    }


def _attention(flat: Flat, heads: int, hidden: Basis) -> Flat:
    """Heads of width K_S that score and mix as nearly as they can like those of width K_T."""
    at = "layers/attention"
    T, S = hidden.axes.shape
    if T == S:
        return {name: value for name, value in flat.items() if name.startswith(f"{at}/")}
    query, key = (
        _by_head(
            np.concatenate([hidden.axes.T @ flat[f"{at}/{name}/kernel"], flat[f"{at}/{name}/bias"][:, None]], 1), heads
        )
        for name in ("query", "key")
    )
    # Scores are divided by the root of the width of a head, which is smaller now.
    query, key = _nearest(query * np.sqrt(S / T), key, S // heads)
    value = _by_head(hidden.axes.T @ flat[f"{at}/value/kernel"], heads)
    out = _by_head(np.swapaxes(flat[f"{at}/output/kernel"] @ hidden.axes, 1, 2), heads)
    value, out = _nearest(value, out, S // heads)
    # Weights of attention add up to 1, so that the bias of the values is one of the output.
    bias = flat[f"{at}/output/bias"] + np.einsum("nd,nde->ne", flat[f"{at}/value/bias"], flat[f"{at}/output/kernel"])
    made = {f"{at}/output/kernel": np.swapaxes(_joined(out), 1, 2), f"{at}/output/bias": bias @ hidden.axes}
    made |= {f"{at}/value/kernel": _joined(value), f"{at}/value/bias": np.zeros((len(bias), S))}
    for name, array in (("query", _joined(query)), ("key", _joined(key))):
        made |= {f"{at}/{name}/kernel": array[:, :-1], f"{at}/{name}/bias": array[:, -1]}
    return made


def _by_head(kernel: Float[np.ndarray, "N In D"], heads: int) -> Float[np.ndarray, "N {heads} In K"]:
    return np.swapaxes(kernel.reshape(*kernel.shape[:2], heads, -1), 1, 2)


def _joined(parts: Float[np.ndarray, "N H In K"]) -> Float[np.ndarray, "N In D"]:
    return np.swapaxes(parts, 1, 2).reshape(len(parts), parts.shape[2], -1)


def _nearest(
    left: Float[np.ndarray, "N H I T"], right: Float[np.ndarray, "N H O T"], width: int
) -> tuple[Float[np.ndarray, "N H I {width}"], Float[np.ndarray, "N H O {width}"]]:
    """Factors of smaller width whose product is nearest to left right^T: its truncated decomposition, halved."""
    (Q, R), (P, W) = np.linalg.qr(left), np.linalg.qr(right)
    U, S, Vt = np.linalg.svd(R @ np.swapaxes(W, -1, -2))
    root = np.sqrt(S[..., None, :width])
    return Q @ U[..., :width] * root, P @ np.swapaxes(Vt, -1, -2)[..., :width] * root
