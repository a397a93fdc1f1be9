"""Hidden states become logits: masked language model and sentence pair.

Letters: B rows, L tokens, D hidden, E embedding, K predictions a row, P windows a row, V vocabulary, C pair classes.
Source: google-research/albert:run_pretraining.py (`get_masked_lm_output`, `get_sentence_order_output`).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from bertlite_jax.config.model import Model
from bertlite_jax.model.encoder import Encoder, Linear, Norm
from bertlite_jax.model.ops import products
from bertlite_jax.model.ops.elementwise import activation
from bertlite_jax.model.ops.precision import Compute

# Logit of the table's padding rows: as good as impossible, and finite.
_NEVER = -1e9


def gather_rows(hidden: Array, positions: Array) -> Array:
    """Picks the hidden states that a head will read.

    Only these reach the vocabulary product, so that logits are [B, K, V] and never [B, L, V].

    Args:
      hidden: [B, L, D], any float dtype.
      positions: [B, K] int32; 0 where a row has fewer (their loss weight is 0).

    Returns:
      [B, K, D], dtype of `hidden`.
    """
    return jnp.take_along_axis(hidden, positions[..., None], axis=1, mode="clip")


class MaskedLM(nn.Module):
    """Dense to E, activation, LayerNorm, and the product with the embedding table (tied): [B, K, D] -> [B, K, Vpad]."""

    config: Model
    compute: Compute

    def setup(self):
        c = self.config
        self.dense = Linear(c.embed_size, c.init_std, self.compute)
        self.norm = Norm(c.norm_epsilon)
        self.bias = self.param("bias", nn.initializers.zeros, (c.padded_vocab,))

    def __call__(self, hidden: Array, table: Array) -> Array:
        c = self.config
        x = self.norm(activation(self.dense(hidden), c.activation))
        # [B K, Vpad] to the end: the loss takes it so as well, and on a TPU another shape is another copy.
        logits = products.matmul(x.reshape(-1, c.embed_size), table.T, self.compute).astype(jnp.float32) + self.bias
        if c.padded_vocab > c.vocab_size:
            logits = jnp.where(jnp.arange(c.padded_vocab) < c.vocab_size, logits, _NEVER)
        return logits.reshape(*hidden.shape[:-1], c.padded_vocab)


class PretrainingModel(nn.Module):
    """Encoder with the pretraining heads that the config asks for.

    The encoder's parameters lie beside the heads' at the top of the tree, so that a model with other heads can read
    them by the same names.
    """

    config: Model
    compute: Compute = "float32"

    def setup(self):
        c = self.config
        self.encoder = Encoder(c, self.compute)
        nn.share_scope(self, self.encoder)
        self.mlm = MaskedLM(c, self.compute)
        if c.pooler:
            self.pooler = Linear(c.hidden_size, c.init_std, "float32")
        if c.pair_classes:
            self.pair = Linear(c.pair_classes, c.init_std, "float32")

    def __call__(
        self,
        tokens: Array,
        segments: Array,
        positions: Array,
        token_types: Array,
        cls: Array,
        predict_positions: Array,
        dropout_keys: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Logits of both heads, float32.

        Args:
          tokens, segments, positions, token_types, dropout_keys: as for `Encoder`.
          cls: [B, P] int32, where each window's [CLS] stands; 0 where there is none.
          predict_positions: [B, K] int32, the positions to predict; 0 in unused slots.

        Returns:
          Masked-LM logits [B, K, Vpad] and pair logits [B, P, C], or None without a pair head.
        """
        hidden = self.encoder(tokens, segments, positions, token_types, dropout_keys)
        logits = self.mlm(gather_rows(hidden, predict_positions), self.encoder.embeddings.word.embedding)
        return logits, self._pair_logits(hidden, cls)

    def _pair_logits(self, hidden: Array, cls: Array) -> Array | None:
        if not self.config.pooler:
            return None
        pooled = self.pooled(hidden, cls)
        return self.pair(pooled) if self.config.pair_classes else None

    def pooled(self, hidden: Array, cls: Array) -> Array:
        """Dense and tanh on the hidden state of each [CLS]: [B, L, D], [B, P] -> [B, P, D] float32."""
        return jnp.tanh(self.pooler(gather_rows(hidden, cls).astype(jnp.float32)))

    def hidden_states(self, tokens: Array, segments: Array, positions: Array, token_types: Array) -> list[Array]:
        """Projected embeddings and the output of every layer: N + 1 arrays [B, L, D]."""
        return self.encoder.hidden_states(tokens, segments, positions, token_types)
