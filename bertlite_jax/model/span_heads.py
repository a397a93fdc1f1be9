"""Start, end given the start, and whether there is an answer: the span head of ALBERT's run_squad_v2, after XLNet.

Rows may hold several windows, each a question with a part of its text; every softmax here is over one window.

Letters: B rows, L tokens, P windows in a row, D hidden, S starts in the beam, E ends for each of them.
Source: google-research/albert, squad_utils.py (`create_v2_model`).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32, Int, Int32, Key

from bertlite_jax.config.model import Head, Model
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.modules import Linear, Norm, matrix_init
from bertlite_jax.model.ops import products
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.dropout import dropout

START_TOP = 5
END_TOP = 5

# Logit of what cannot end a span: as good as impossible, and finite, since a window may have no token at all.
_NEVER = -1e30


class SpanScores(NamedTuple):
    """What the loss reads; the ends are those given the right start."""

    start: Float32[Array, "B L"]
    """Logits, very negative where no span may start."""
    end: Float32[Array, "B L"]
    """Logits, very negative where no span may end."""
    null: Float32[Array, "B P"]
    """Logits of "no answer"."""


class SpanBeams(NamedTuple):
    """What the head proposes for each window. Places count from the window's [CLS]; those outside mean nothing."""

    starts: Int32[Array, "B P S"]
    """Places."""
    start_scores: Float32[Array, "B P S"]
    """Log-probabilities."""
    ends: Int32[Array, "B P S E"]
    """Places."""
    end_scores: Float32[Array, "B P S E"]
    """Log-probabilities, given the start."""
    null: Float32[Array, "B P"]
    """Logits of "no answer"."""


class _Joined(nn.Module):
    """Dense on two states side by side, [first, second] W + b, as the sum of a product with each.

    The same second state stands beside many first ones, and is multiplied once.
    """

    config: Model

    @nn.compact
    def __call__(
        self, first: Float32[Array, "B N D"], second: Float32[Array, "B M D"]
    ) -> tuple[Float32[Array, "B N D"], Float32[Array, "B M D"]]:
        """The two summands of states that stand first and second."""
        width = self.config.hidden_size
        kernel = self.param("kernel", matrix_init(self.config.init_std), (2 * width, width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        of_first = products.matmul(first, kernel[:width], "float32") + bias[None, None]
        return of_first, products.matmul(second, kernel[width:], "float32")


class _WithoutBias(nn.Module):
    """Dense to one logit without a bias."""

    init_std: float

    @nn.compact
    def __call__(self, x: Float32[Array, "*rows D"]) -> Float32[Array, "*rows"]:
        """One logit for each state."""
        kernel = self.param("kernel", matrix_init(self.init_std), (x.shape[-1], 1))
        return products.matmul(x, kernel, "float32")[..., 0]


class ConditionedSpans(nn.Module):
    """Hidden states to `SpanScores` where the starts are given, otherwise to `SpanBeams`."""

    config: Model
    head: Head

    def setup(self) -> None:
        """Makes one head for starts, one for ends and one for "no answer"."""
        std = self.config.init_std
        self.start = Linear(1, std, "float32")
        self.end_hidden = _Joined(self.config)
        self.end_norm = Norm(self.config.norm_epsilon)
        self.end = Linear(1, std, "float32")
        self.answer_hidden = _Joined(self.config)
        self.answer = _WithoutBias(std)

    def __call__(
        self,
        hidden: Float[Array, "B L D"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        cls: Int[AnyArray, "B P"],
        starts: Int[AnyArray, "B P"] | None,
        dropout_keys: Key[Array, " B"] | None,
    ) -> SpanScores | SpanBeams:
        """Scores of starts and ends, and of "no answer".

        Args:
          hidden: states of the tokens.
          segments: as for `TaskModel`, like the next three.
          positions: inside the window.
          token_types: 1 for the text and its [SEP].
          cls: where each window's [CLS] stands.
          starts: where the answer of each window starts, counted from its [CLS]; None for the beam.
          dropout_keys: one a row; None switches dropout off.
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

    def _null(
        self,
        hidden: Float32[Array, "B L D"],
        start: Float32[Array, "B P L"],
        cls: Int[AnyArray, "B P"],
        dropout_keys: Key[Array, " B"] | None,
    ) -> Float32[Array, "B P"]:
        """From the state of [CLS] and the mean state of where the answer may start."""
        expected = jnp.einsum("bpl,bld->bpd", jax.nn.softmax(start), hidden)
        of_expected, of_cls = self.answer_hidden(expected, gather_rows(hidden, cls))
        x = jnp.tanh(of_expected + of_cls)
        return self.answer(dropout(x, dropout_keys, self.head.dropout))

    def _ends(
        self,
        hidden: Float32[Array, "B L D"],
        segments: Int[AnyArray, "B L"],
        starts: Int[AnyArray, "B P S"],
        allowed: Bool[Array, "B L"],
    ) -> list[Float32[Array, "B L"]]:
        """S times the logits of the ends, given each of a window's S starts, which are places in the row."""
        rows, windows, count = starts.shape
        given = gather_rows(hidden, starts.reshape(rows, -1))
        own, given = self.end_hidden(hidden, given)
        given = given.reshape(rows, windows, count, -1)
        window = jnp.maximum(segments - 1, 0)
        end_logits = []
        for number in range(count):  # One after the other: all at once would be S times the hidden states.
            x = self.end_norm(jnp.tanh(own + gather_rows(given[:, :, number], window)))
            end_logits.append(jnp.where(allowed, self.end(x)[..., 0], _NEVER))
        return end_logits


def may_be_end(
    segments: Int[AnyArray, "B L"], positions: Int[AnyArray, "B L"], token_types: Int[AnyArray, "B L"]
) -> Bool[Array, "B L"]:
    """True for [CLS], which stands for "no answer", and for the text without its [SEP]."""
    following = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    in_text = (token_types == 1) & (segments == following)
    return jnp.logical_and(segments > 0, in_text | (positions == 0))


def by_window(
    logits: Float32[Array, "B L"], segments: Int[AnyArray, "B L"], windows: int
) -> Float32[Array, "B {windows} L"]:
    """Each window's own logits, very negative elsewhere."""
    own = segments[:, None, :] == jnp.arange(1, windows + 1)[None, :, None]
    return jnp.where(own, logits[:, None, :], _NEVER)
