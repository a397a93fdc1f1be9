"""Hidden states become answers: classes of a text or pair, choices, tags of tokens, spans.

Letters: B rows, L tokens, P windows a row, D hidden, C outputs. Sources: google-research/bert:run_classifier.py and
run_squad.py; the task classes of huggingface/transformers, whose DistilBERT pools with a ReLU.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from bertlite_jax.config.model import Head, Model
from bertlite_jax.model.encoder import Encoder, Linear
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.ops.dropout import dropout
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.model.span_heads import ConditionedSpans, SpanBeams, SpanScores

# Where the head draws its dropout mask, apart from the encoder's places (0, and 1 + layer).
_HEAD_SITE = 1 << 20


class TaskHead(nn.Module):
    """Hidden layers if any, dropout, and the outputs: [B, N, D] -> [B, N, C] float32."""

    config: Model
    head: Head

    @nn.compact
    def __call__(self, states: Array, dropout_keys: Array | None) -> Array:
        x = states.astype(jnp.float32)
        for number, width in enumerate(self.head.hidden):
            x = _activate(Linear(width, self.config.init_std, "float32", name=f"hidden_{number}")(x), self.head)
        x = dropout(x, dropout_keys, self.head.dropout)
        return Linear(self.head.outputs, self.config.init_std, "float32", name="output")(x)


class TaskModel(nn.Module):
    """Encoder with one task head; its parameters lie beside the encoder's, under `head`."""

    config: Model
    head: Head
    compute: Compute = "float32"

    def setup(self):
        self.encoder = Encoder(self.config, self.compute)
        nn.share_scope(self, self.encoder)
        if self.head.pooled:
            self.pooler = Linear(self.config.hidden_size, self.config.init_std, "float32")
        kind: Any = ConditionedSpans if self.head.conditioned else TaskHead
        self.task = kind(self.config, self.head, name="head")

    def __call__(
        self,
        tokens: Array,
        segments: Array,
        positions: Array,
        token_types: Array,
        cls: Array,
        dropout_keys: Array | None = None,
        starts: Array | None = None,
    ) -> Array | SpanScores | SpanBeams:
        """Logits, float32.

        Args:
          tokens, segments, positions, token_types, dropout_keys: as for `Encoder`.
          cls: [B, P] int32, where each window's [CLS] stands; not read by `tag` and independent `span`.
          starts: [B, P] int32, where each window's answer starts, counted from its [CLS]; read by a conditioned `span`
            only, which searches for itself where there are none.

        Returns:
          [B, P, C] for `classify`, [B, P, 1] for `choose` (every choice is a window), [B, L, C] for `tag`, [B, L, 2]
          for `span` (start, end). Logits at padding mean nothing. Of a conditioned `span`: see `span_heads`.
        """
        hidden = self.encoder(tokens, segments, positions, token_types, dropout_keys)
        if self.head.conditioned:
            return self.task(hidden, segments, positions, token_types, cls, starts, _head_keys(dropout_keys))
        return self.answer(self.pooled(hidden, cls) if self.head.pooled else hidden, dropout_keys)

    # The same in parts, for training that changes something in between.

    def embed(
        self, tokens: Array, positions: Array, token_types: Array, keys: Array | None, shift: Array | None = None
    ) -> Array:
        """As `Encoder.embed`: [B, L, D]."""
        return self.encoder.embed(tokens, positions, token_types, keys, shift)

    def apply_layers(
        self, x: Array, segments: Array, keys: Array | None, first: int = 0, last: int | None = None
    ) -> Array:
        """As `Encoder.apply_layers`: [B, L, D] -> [B, L, D]."""
        return self.encoder.apply_layers(x, segments, keys, first, last)

    def answer(self, states: Array, dropout_keys: Array | None) -> Array:
        """Logits of pooled states [B, P, D], or of hidden states [B, L, D] for `tag` and independent `span`."""
        return self.task(states, _head_keys(dropout_keys))

    def pooled(self, hidden: Array, cls: Array) -> Array:
        """Dense and the head's activation on the state of each [CLS]: [B, L, D], [B, P] -> [B, P, D] float32."""
        return _activate(self.pooler(gather_rows(hidden, cls).astype(jnp.float32)), self.head)

    def hidden_states(self, tokens: Array, segments: Array, positions: Array, token_types: Array) -> list[Array]:
        """Projected embeddings and the output of every layer: N + 1 arrays [B, L, D]."""
        return self.encoder.hidden_states(tokens, segments, positions, token_types)


def _head_keys(keys: Array | None) -> Array | None:
    return None if keys is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, _HEAD_SITE)


def _activate(x: Array, head: Head) -> Array:
    return jnp.tanh(x) if head.activation == "tanh" else jax.nn.relu(x)
