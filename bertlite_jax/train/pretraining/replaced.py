"""Replaced-token detection with one encoder that is generator and discriminator.

The masked language model proposes a piece for each masked token: one that it draws from its own prediction. The row
with these pieces, and with all other tokens as in the text, goes through the same encoder again, and a head says of
each token whether it is the one of the text. A piece that happens to be that one is not replaced. No gradient goes
through the choice of a piece.

Letters: B rows, L tokens, K predictions a row, V vocabulary, S sections of it with T pieces each.

Sources: Clark et al. 2020 (arXiv 2003.10555), section 2; in section 3.2 generator and discriminator of one size share
all weights. google-research/electra:run_pretraining.py (`_get_fake_data`, `_get_discriminator_output`), which also
counts special tokens; they are never replaced, so here they do not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from bertlite_jax.train import losses
from bertlite_jax.train.step import Batch


def sums(
    apply: Callable[..., Any],
    params: Any,
    rows: Batch,
    logits: Float[Array, "B K V"],
    sample_keys: Key[Array, " B"],
    dropout_keys: Key[Array, " B"] | None = None,
) -> dict[str, Array]:
    """The loss of the second pass over some rows, as sums.

    Args:
      apply: `model.apply`, of a model with `replaced_head`.
      params: its parameters.
      rows: masked rows, with what `objective.counted_tokens` says of them as `counted`.
      logits: of the first pass.
      sample_keys: one a row, for the choice of pieces.
      dropout_keys: one a row for the second pass, or None.

    Returns:
      `replaced_sum` (nats), `replaced_correct`, and `replaced_changed`: how many tokens were replaced. All of them are
      to be divided by the number of tokens that count.
    """
    slots = logits.shape[1]
    uniforms = jax.vmap(lambda key: jax.random.uniform(key, (slots,)))(sample_keys)
    pieces = sample(jax.lax.stop_gradient(logits), uniforms)
    inputs, changed = replace(rows["tokens"], rows["predict_positions"], rows["weights"] > 0, pieces)
    said = apply(
        {"params": params},
        inputs,
        rows["segments"],
        rows["positions"],
        rows["token_types"],
        dropout_keys,
        method="replaced_logits",
    )
    total, _, correct = losses.replaced(said, changed, rows["counted"])
    return {
        "replaced_sum": total,
        "replaced_correct": correct,
        "replaced_changed": jnp.sum(changed.astype(jnp.float32) * rows["counted"]),
    }


def replace(
    tokens: Int[Array, "B L"], positions: Int[Array, "B K"], used: Bool[Array, "B K"], pieces: Int[Array, "B K"]
) -> tuple[Int[Array, "B L"], Bool[Array, "B L"]]:
    """The rows with other pieces at some positions, and where they differ from before.

    Args:
      tokens: of the text.
      positions: of the pieces.
      used: False in slots without a position.
      pieces: to put there.
    """

    def row(
        tokens: Int[Array, " L"], positions: Int[Array, " K"], used: Bool[Array, " K"], pieces: Int[Array, " K"]
    ) -> Int[Array, " L"]:
        return tokens.at[jnp.where(used, positions, len(tokens))].set(pieces, mode="drop")

    inputs = jax.vmap(row)(tokens, positions, used, pieces)
    return inputs, inputs != tokens


def sample(logits: Float[Array, "B K V"], uniforms: Float[Array, "B K"]) -> Int[Array, "B K"]:
    """Draws a piece from the softmax of its logits, with one uniform number each.

    The piece is the first at which the running sum of probabilities exceeds the uniform number. It is looked for first
    among sections of about sqrt(V) pieces and then inside one, so that no running sum is as long as the vocabulary.
    Gumbel noise would need V random numbers for each piece, which take longer than the product that made the logits.

    Args:
      logits: padding pieces have very negative ones, and are never drawn.
      uniforms: in [0, 1).
    """
    size = logits.shape[-1]
    T = math.isqrt(size - 1) + 1
    S = -(-size // T)
    shifted = logits.astype(jnp.float32) - jnp.max(logits, axis=-1, keepdims=True).astype(jnp.float32)
    padded = jnp.pad(shifted, ((0, 0), (0, 0), (0, S * T - size)), constant_values=-jnp.inf)
    padded = padded.reshape(*logits.shape[:2], S, T)
    of_sections = jnp.sum(jnp.exp(padded), axis=-1)
    section, rest = _pick(of_sections, uniforms * jnp.sum(of_sections, axis=-1))
    # Picked before it is raised to a power again: nothing of the size of the logits is kept.
    inside = jnp.take_along_axis(padded, section[..., None, None], axis=2)[..., 0, :]
    place, _ = _pick(jnp.exp(inside), rest)
    return section * T + place


def _pick(weights: Float[Array, "B K n"], target: Float[Array, "B K"]) -> tuple[Int[Array, "B K"], Float[Array, "B K"]]:
    """The first place at which the running sum of the weights exceeds the target, and what is left of that there.

    A place without a weight is never picked: where rounding leaves the whole sum below the target, it is the last place
    with one.
    """
    ends = jnp.cumsum(weights, axis=-1)
    passed = ends <= target[..., None]
    last = weights.shape[-1] - 1 - jnp.argmax(weights[..., ::-1] > 0, axis=-1)
    place = jnp.minimum(jnp.sum(passed, axis=-1, dtype=jnp.int32), last.astype(jnp.int32))
    before = jnp.take_along_axis(jnp.pad(ends, ((0, 0), (0, 0), (1, 0))), place[..., None], axis=-1)[..., 0]
    return place, target - before
