"""Hidden states become answers: classes of a text or pair, choices, tags of tokens, spans.

Letters: B rows, L tokens, P windows in a row, N tokens or windows, D hidden, C outputs.

Sources: google-research/bert:run_classifier.py and run_squad.py; the task classes of huggingface/transformers, whose
DistilBERT pools with a ReLU.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int, Key

from bertlite_jax.config.model import Head, Model
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.modules import Linear
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.dropout import HEAD_SITE, dropout, keys_at
from bertlite_jax.model.ops.precision import Compute, of_head
from bertlite_jax.model.span_heads import ConditionedSpans, SpanBeams, SpanScores


class TaskHead(nn.Module):
    """Hidden layers if any, dropout, and the outputs."""

    config: Model
    head: Head
    compute: Compute = "float32"

    @nn.compact
    def __call__(
        self, states: Float[Array, "B N D"], dropout_keys: Key[Array, " B"] | None
    ) -> Float32[Array, "B N {self.head.outputs}"]:
        """Logits of the states of windows or tokens; `dropout_keys` None switches dropout off."""
        x = states.astype(jnp.float32)
        for number, width in enumerate(self.head.hidden):
            x = _activate(Linear(width, self.config.init_std, self.compute, name=f"hidden_{number}")(x), self.head)
        x = dropout(x, dropout_keys, self.head.dropout)
        return Linear(self.head.outputs, self.config.init_std, self.compute, name="output")(x)


class TaskModel(nn.Module):
    """Encoder with one task head; its parameters lie beside the encoder's, under `head`."""

    config: Model
    head: Head
    compute: Compute = "float32"

    def setup(self) -> None:
        """Makes the encoder, the pooler where the head needs one, and the head."""
        self.encoder = Encoder(self.config, self.compute)
        nn.share_scope(self, self.encoder)
        if self.head.pooled:
            self.pooler = Linear(self.config.hidden_size, self.config.init_std, of_head(self.compute, "pooler"))
        if self.head.conditioned:
            self.task: Any = ConditionedSpans(self.config, self.head, name="head")
        else:
            self.task = TaskHead(self.config, self.head, of_head(self.compute, "head"), name="head")

    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        cls: Int[AnyArray, "B P"],
        dropout_keys: Key[Array, " B"] | None = None,
        starts: Int[AnyArray, "B P"] | None = None,
    ) -> Float32[Array, "B N C"] | SpanScores | SpanBeams:
        """Logits.

        Args:
          tokens: as for `Encoder`, like the next three and `dropout_keys`.
          segments: number of the window.
          positions: inside the window.
          token_types: part of the pair.
          cls: where each window's [CLS] stands; not read by `tag` and independent `span`.
          dropout_keys: one a row, or None.
          starts: where each window's answer starts, counted from its [CLS]. Only a conditioned `span` reads them; if
            None, it searches for the likeliest starts.

        Returns:
          [B, P, C] for `classify`, [B, P, 1] for `choose` (every choice is a window), [B, L, C] for `tag`, [B, L, 2]
          for `span` (start, end). Logits at padding mean nothing. A conditioned `span` gives what `span_heads` says.
        """
        hidden = self.encoder(tokens, segments, positions, token_types, dropout_keys)
        if self.head.conditioned:
            return self.task(hidden, segments, positions, token_types, cls, starts, keys_at(dropout_keys, HEAD_SITE))
        return self.answer(self.pooled(hidden, cls) if self.head.pooled else hidden, dropout_keys)

    # The same in parts, for training that changes something in between.

    def embed(
        self,
        tokens: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        keys: Key[Array, " B"] | None,
        shift: Float[Array, "B L E"] | None = None,
    ) -> Float[Array, "B L D"]:
        """As `Encoder.embed`."""
        return self.encoder.embed(tokens, positions, token_types, keys, shift)

    def apply_layers(
        self,
        x: Float[Array, "B L D"],
        segments: Int[AnyArray, "B L"],
        keys: Key[Array, " B"] | None,
        first: int = 0,
        last: int | None = None,
    ) -> Float[Array, "B L D"]:
        """As `Encoder.apply_layers`."""
        return self.encoder.apply_layers(x, segments, keys, first, last)

    def answer(
        self, states: Float[Array, "B N D"], dropout_keys: Key[Array, " B"] | None
    ) -> Float32[Array, "B N {self.head.outputs}"]:
        """Logits of pooled states (N is P), or of hidden states (N is L) for `tag` and independent `span`."""
        return self.task(states, keys_at(dropout_keys, HEAD_SITE))

    def pooled(self, hidden: Float[Array, "B L D"], cls: Int[AnyArray, "B P"]) -> Float32[Array, "B P D"]:
        """Dense and the head's activation on the state of each [CLS]."""
        return _activate(self.pooler(gather_rows(hidden, cls).astype(jnp.float32)), self.head)

    def hidden_states(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
    ) -> list[Float[Array, "B L D"]]:
        """The projected embeddings and the states after each layer: N + 1 arrays."""
        return self.encoder.hidden_states(tokens, segments, positions, token_types)


def _activate(x: Float32[Array, "B N D"], head: Head) -> Float32[Array, "B N D"]:
    return jnp.tanh(x) if head.activation == "tanh" else jax.nn.relu(x)
