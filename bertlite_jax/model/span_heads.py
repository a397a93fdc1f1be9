"""Start, end given the start, and whether there is an answer: the span head of ALBERT's run_squad_v2, after XLNet.

Rows may hold several windows, each a question with a part of its text; every softmax here is over one window.

Letters: B rows, L tokens, P windows a row, D hidden, S starts in the beam, E ends for each of them.
Source: google-research/albert, squad_utils.py (`create_v2_model`).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from bertlite_jax.config.model import Head, Model
from bertlite_jax.model.encoder import Linear, Norm, matrix_init
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.ops import products
from bertlite_jax.model.ops.dropout import dropout

START_TOP = 5
END_TOP = 5

# Logit of what cannot be an end of a span: as good as impossible, and finite, as a window may have no token at all.
_NEVER = -1e30


class SpanScores(NamedTuple):
    """What the loss reads; the ends are those given the right start."""

    start: Array
    """[B, L] logits, very negative where no span may start."""
    end: Array
    """[B, L] logits, very negative where no span may end."""
    null: Array
    """[B, P] logits, more for "no answer"."""


class SpanBeams(NamedTuple):
    """What the head proposes for each window. Places count from the window's [CLS]; those outside mean nothing."""

    starts: Array
    """[B, P, S] int32."""
    start_scores: Array
    """[B, P, S] log-probabilities."""
    ends: Array
    """[B, P, S, E] int32."""
    end_scores: Array
    """[B, P, S, E] log-probabilities, given the start."""
    null: Array
    """[B, P] logits, more for "no answer"."""


class _Joined(nn.Module):
    """Dense on two states side by side, [first, second] W + b, as the sum of a product with each.

    The same second state stands beside many first ones, and is multiplied once.
    """

    config: Model

    @nn.compact
    def __call__(self, first: Array, second: Array) -> tuple[Array, Array]:
        """The two summands, [..., D] each, of states [..., D] each."""
        width = self.config.hidden_size
        kernel = self.param("kernel", matrix_init(self.config.init_std), (2 * width, width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        return products.matmul(first, kernel[:width], "float32") + bias, products.matmul(
            second, kernel[width:], "float32"
        )


class _WithoutBias(nn.Module):
    """Dense to one logit without a bias: [..., D] -> [...]."""

    init_std: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", matrix_init(self.init_std), (x.shape[-1], 1))
        return products.matmul(x, kernel, "float32")[..., 0]


class ConditionedSpans(nn.Module):
    """Hidden states to `SpanScores` where the starts are given, else to `SpanBeams`."""

    config: Model
    head: Head

    def setup(self):
        std = self.config.init_std
        self.start = Linear(1, std, "float32")
        self.end_hidden = _Joined(self.config)
        self.end_norm = Norm(self.config.norm_epsilon)
        self.end = Linear(1, std, "float32")
        self.answer_hidden = _Joined(self.config)
        self.answer = _WithoutBias(std)

    def __call__(
        self,
        hidden: Array,
        segments: Array,
        positions: Array,
        token_types: Array,
        cls: Array,
        starts: Array | None,
        dropout_keys: Array | None,
    ) -> SpanScores | SpanBeams:
        """All logits float32.

        Args:
          hidden: [B, L, D].
          segments, positions, token_types, cls: as for `TaskModel`; type 1 is the text and its [SEP].
          starts: [B, P] int32, where the answer of each window starts, counted from its [CLS]; None for the beam.
          dropout_keys: [B] keys, one a row; None switches dropout off.
        """
        hidden = hidden.astype(jnp.float32)
        allowed = may_be_end(segments, positions, token_types)
        start = jnp.where(allowed, self.start(hidden)[..., 0], _NEVER)
        of_windows = by_window(start, segments, cls.shape[1])
        null = self._null(hidden, of_windows, cls, dropout_keys)
        if starts is not None:
            end = self._ends(hidden, segments, (cls + starts)[..., None], allowed)[0]
            return SpanScores(start, end, null)
        width = min(START_TOP, start.shape[1]), min(END_TOP, start.shape[1])
        start_scores, start_places = jax.lax.top_k(jax.nn.log_softmax(of_windows), width[0])
        ends = self._ends(hidden, segments, start_places, allowed)
        ends = jnp.stack([by_window(end, segments, cls.shape[1]) for end in ends], axis=2)
        end_scores, end_places = jax.lax.top_k(jax.nn.log_softmax(ends), width[1])
        places = start_places - cls[..., None], end_places - cls[..., None, None]
        return SpanBeams(places[0], start_scores, places[1], end_scores, null)

    def _null(self, hidden: Array, start: Array, cls: Array, dropout_keys: Array | None) -> Array:
        """From the state of [CLS] and the mean state of where the answer may start: [B, P]."""
        expected = jnp.einsum("bpl,bld->bpd", jax.nn.softmax(start), hidden)
        x = jnp.tanh(sum(self.answer_hidden(expected, gather_rows(hidden, cls))))
        return self.answer(dropout(x, dropout_keys, self.head.dropout))

    def _ends(self, hidden: Array, segments: Array, starts: Array, allowed: Array) -> list[Array]:
        """Logits of the ends given each of S starts of a window, whose places in the row are [B, P, S]: S x [B, L]."""
        rows, windows, count = starts.shape
        given = gather_rows(hidden, starts.reshape(rows, -1))
        own, given = self.end_hidden(hidden, given)
        given = given.reshape(rows, windows, count, -1)
        window = jnp.maximum(segments - 1, 0)
        found = []
        for number in range(count):  # One after the other: all at once would be S times the hidden states.
            x = self.end_norm(jnp.tanh(own + gather_rows(given[:, :, number], window)))
            found.append(jnp.where(allowed, self.end(x)[..., 0], _NEVER))
        return found


def may_be_end(segments: Array, positions: Array, token_types: Array) -> Array:
    """[B, L] bool: [CLS], which stands for "no answer", and the text without its [SEP]."""
    following = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    in_text = (token_types == 1) & (segments == following)
    return (segments > 0) & (in_text | (positions == 0))


def by_window(logits: Array, segments: Array, windows: int) -> Array:
    """Each window's own logits, very negative elsewhere: [B, L] -> [B, P, L]."""
    own = segments[:, None, :] == jnp.arange(1, windows + 1)[:, None]
    return jnp.where(own, logits[:, None, :], _NEVER)
