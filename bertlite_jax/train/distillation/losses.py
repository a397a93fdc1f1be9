"""What a student learns from a teacher, each loss as (sum, weight) of its rows.

A step adds both up over micro-batches and devices and divides once, as in `train/losses.py`. All arithmetic is float32,
and no teacher gets a gradient. Where a loss reads pairs of tokens, only pairs inside one window count: packed windows
do not see each other, and padding sees nothing that is learnt from.

Letters: B rows, L tokens in a row (M: those that are looked at), K predictions, V vocabulary, D hidden (S the
student's, T the teacher's), H attention heads, R relation heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, Real

from bertlite_jax.train import losses

Scalar = Float[Array, ""]
Term = tuple[Scalar, Scalar]
"""Sum of a loss over some rows, and of its weights."""

_FAR = -1e9
"""Score of what is no part of a softmax, such as tokens in other windows; finite."""


def token_weights(segments: Int[Array, "B L"]) -> Float[Array, "B L"]:
    """1 at real tokens, special ones included; 0 at padding."""
    return (segments > 0).astype(jnp.float32)


def pairs_seen(segments: Int[Array, "B L"]) -> Bool[Array, "B L L"]:
    """Which tokens see each other: those of the same window. Padding sees nothing."""
    return (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, :, None]


# --- Predictions -----------------------------------------------------------------------------------------------------


def averaged(each: Sequence[Float[Array, "*N V"]]) -> Float[Array, "*N V"]:
    """The logarithm of the mean of distributions, given as logarithms; a single one comes back as it is."""
    if len(each) == 1:
        return each[0]
    return jax.nn.logsumexp(jnp.stack(each), axis=0) - jnp.log(jnp.float32(len(each)))


def log_probs(logits: Sequence[Float[Array, "*N V"]], temperature: float) -> Float[Array, "*N V"]:
    """What an ensemble predicts: the logarithm of the mean of softmax(t / T), float32 and without gradient.

    Args:
      logits: t of each teacher.
      temperature: T.
    """
    given = [jax.lax.stop_gradient(t).astype(jnp.float32) for t in logits]
    return averaged([jax.nn.log_softmax(t / temperature) for t in given])


def soft_cross_entropy(
    logits: Float[Array, "*N V"], log_t: Float[Array, "*N V"], weights: Real[Array, "*N"], temperature: float
) -> Term:
    """T^2 KL(softmax(t / T) || softmax(z / T)): a sum over the vocabulary, which `weights` weigh.

    It is the cross-entropy with the teacher's distribution, less the entropy of that distribution, which has no
    gradient. The released Bort normalises the student's probabilities a second time and takes the mean over the
    vocabulary, which leaves a billionth of this gradient; a test compares the two.

    Args:
      logits: z, of the student.
      log_t: of `log_probs`.
      weights: 0 where nothing is predicted.
      temperature: T; the larger, the more the improbable pieces count.

    Source: Sanh et al. 2019 (arXiv 1910.01108), section 2; Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    weights = weights.astype(jnp.float32)
    return jnp.sum(losses.divergence(logits, log_t, temperature) * weights), jnp.sum(weights)


def widened(log_t: Float[Array, "*N V"], pieces: int) -> Float[Array, "*N {pieces}"]:
    """With further pieces that cannot be predicted, as the padding rows of a table of words."""
    missing = pieces - log_t.shape[-1]
    widths = [(0, 0)] * (log_t.ndim - 1) + [(0, missing)]
    return jnp.pad(log_t, widths, constant_values=_FAR) if missing else log_t


class Top(NamedTuple):
    """The k likeliest pieces of a distribution, and all others as one."""

    log_probs: Float[Array, "*N k"]
    """Falling."""
    ids: Integer[Array, "*N k"]
    tail: Float[Array, "*N"]
    """Logarithm of the probability that the others have together, r."""


def top_of(log_t: Float[Array, "*N V"], k: int) -> Top:
    """The k likeliest pieces, k < V."""
    values, ids = jax.lax.top_k(log_t, k)
    others = jnp.put_along_axis(log_t, ids, -jnp.inf, axis=-1, inplace=False)
    return Top(values, ids, jnp.maximum(jax.nn.logsumexp(others, axis=-1), _FAR))


def top_cross_entropy(logits: Float[Array, "*N V"], top: Top, weights: Real[Array, "*N"], temperature: float) -> Term:
    """`soft_cross_entropy` of what `top_of` leaves of a distribution: the other pieces count as one, for both models.

    Teacher and student give those pieces the probabilities r and s together, and deal them out among them as p and q.
    The whole loss is larger by T^2 r KL(p || q), which is at most T^2 r (log(n p_k / r) + R / T) for n such pieces,
    where p_k is the teacher's probability of the k-th piece and R the range of the student's logits among the n. The
    gradient of a logit is that of the whole loss at the k pieces. At the others it is T (s - r) q, where the whole loss
    has T (s q - r p): summed over all pieces, the two differ by at most 2 T r.

    Args:
      logits: z, of the student.
      top: of the teacher, at the same temperature.
      weights: 0 where nothing is predicted.
      temperature: T.

    Source: the grouping property of the Kullback-Leibler divergence, Cover and Thomas 2006, section 2.5.
    """
    weights = weights.astype(jnp.float32)
    each = _divergence_of_top(logits.astype(jnp.float32) / temperature, jax.lax.stop_gradient(top))
    return temperature**2 * jnp.sum(each * weights), jnp.sum(weights)


@jax.custom_vjp
def _divergence_of_top(z: Float[Array, "*N V"], top: Top) -> Float[Array, "*N"]:
    """At T = 1, its gradient written out as that of `train.losses.divergence`."""
    return _forward_of_top(z, top)[0]


def _forward_of_top(z: Float[Array, "*N V"], top: Top) -> tuple[Float[Array, "*N"], tuple[Any, ...]]:
    log_t = _spread(top, z.shape)
    log_p = jax.nn.log_softmax(z)
    named = log_t > _FAR
    of_named = jnp.sum(jnp.where(named, jnp.exp(log_t) * (log_t - log_p), 0.0), axis=-1)
    log_s = jax.nn.logsumexp(jnp.where(named, _FAR, log_p), axis=-1)
    total = jax.nn.logsumexp(z, axis=-1, keepdims=True)
    return of_named + jnp.exp(top.tail) * (top.tail - log_s), (z, top, total, log_s)


def _backward_of_top(residuals: tuple[Any, ...], slope: Float[Array, "*N"]) -> tuple[Float[Array, "*N V"], None]:
    """The student's probability of a piece less the teacher's; of the others, r is dealt out as the student does."""
    z, top, total, log_s = residuals
    log_t, log_p = _spread(top, z.shape), z - total
    taught = jnp.where(log_t > _FAR, log_t, log_p + (top.tail - log_s)[..., None])
    return slope[..., None] * (jnp.exp(log_p) - jnp.exp(taught)), None


_divergence_of_top.defvjp(_forward_of_top, _backward_of_top)


def _spread(top: Top, shape: tuple[int, ...]) -> Float[Array, "*N V"]:
    """The logarithms of the k probabilities at their pieces, and `_FAR` at all others."""
    far = jnp.full(shape, _FAR)
    return jnp.put_along_axis(far, top.ids.astype(jnp.int32), top.log_probs, axis=-1, inplace=False)


# --- Hidden states ---------------------------------------------------------------------------------------------------


def cosine(student: Float[Array, "B L D"], teacher: Float[Array, "B L D"], weights: Float[Array, "B L"]) -> Term:
    """1 - cos(h_S, h_T) of each token; 1 and without gradient where a state is 0.

    Source: Sanh et al. 2019 (arXiv 1910.01108), section 3.
    """
    h, t = student.astype(jnp.float32), jax.lax.stop_gradient(teacher).astype(jnp.float32)
    lengths = jnp.sum(h * h, axis=-1) * jnp.sum(t * t, axis=-1)
    scale = jnp.where(lengths > 0, jax.lax.rsqrt(jnp.where(lengths > 0, lengths, 1.0)), 0.0)
    return jnp.sum((1.0 - jnp.sum(h * t, axis=-1) * scale) * weights), jnp.sum(weights)


def squared_states(
    student: Float[Array, "B L D"], teacher: Float[Array, "B L D"], weights: Float[Array, "B L"]
) -> Term:
    """Mean over the width of (h_S W - h_T)^2 of each token; `student` is h_S W, at the teacher's width.

    Source: Jiao et al. 2020 (arXiv 1909.10351), equations 8 and 9.
    """
    difference = student.astype(jnp.float32) - jax.lax.stop_gradient(teacher).astype(jnp.float32)
    return jnp.sum(jnp.mean(difference * difference, axis=-1) * weights), jnp.sum(weights)


# --- Attention -------------------------------------------------------------------------------------------------------


def head_scores(left: Float[Array, "B L D"], right: Float[Array, "B M D"], heads: int) -> Float[Array, "B heads L M"]:
    """Products x y^T / sqrt(width of a head), with D split into heads."""
    parts = (x.astype(jnp.float32).reshape(*x.shape[:2], heads, -1) for x in (left, right))
    return jnp.einsum("blhk,bmhk->bhlm", *parts) * (left.shape[-1] // heads) ** -0.5


def squared_attention(
    student: Float[Array, "B H L L"], teacher: Float[Array, "B H L L"], seen: Bool[Array, "B L L"]
) -> Term:
    """Mean over the heads of (A_S - A_T)^2 for each pair of tokens that see each other; A before the softmax.

    The published code means over all L x L pairs, those with padding as zeros; here only real pairs count.

    Source: Jiao et al. 2020 (arXiv 1909.10351), equation 7.
    """
    weights = seen.astype(jnp.float32)
    squares = jnp.mean(jnp.square(student - jax.lax.stop_gradient(teacher)), axis=1)
    return jnp.sum(squares * weights), jnp.sum(weights)


def relation(x: Float[Array, "B L D"], heads: int, seen: Bool[Array, "B L L"]) -> Float[Array, "B heads L L"]:
    """The logarithm of softmax(x x^T / sqrt(d_r)), x split into heads of width d_r, over what is seen.

    Args:
      x: queries, keys or values of a layer, all attention heads side by side.
      heads: R, any divisor of D; it need not be the number of attention heads.
      seen: of `pairs_seen`.
    """
    return jax.nn.log_softmax(jnp.where(seen[:, None], head_scores(x, x, heads), _FAR))


def relations(
    student: Float[Array, "B L S"], teachers: Sequence[Float[Array, "B L _"]], heads: int, segments: Int[Array, "B L"]
) -> Term:
    """Mean over the relation heads of KL(R_T || R_S) for each token, R = softmax(x x^T / sqrt(d_r)).

    Widths may differ, since R is [L, L] for each head. Of several teachers, R_T is the mean.

    Args:
      student: its queries, keys or values.
      teachers: the same of each teacher.
      heads: R, which divides all widths.
      segments: 1..P for windows, 0 for padding.

    Source: Wang et al. 2021 (arXiv 2012.15828), section 3.
    """
    seen = pairs_seen(segments)
    taught = averaged([relation(jax.lax.stop_gradient(x), heads, seen) for x in teachers])
    learnt = relation(student, heads, seen)
    each = jnp.mean(jnp.sum(jnp.exp(taught) * (taught - learnt), axis=-1), axis=1)
    weights = token_weights(segments)
    return jnp.sum(each * weights), jnp.sum(weights)
