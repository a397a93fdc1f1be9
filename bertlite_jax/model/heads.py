"""Hidden states become logits: masked language model, sentence pair, replaced tokens.

Letters: B rows, L tokens, D hidden, E embedding, S the width at which embeddings are summed (E, or D where words are
projected first), K predictions in a row, P windows in a row, V rows of the embedding table (the vocabulary, padded), C
pair classes.
Sources: google-research/albert:run_pretraining.py (`get_masked_lm_output`, `get_sentence_order_output`);
brightmart/albert_zh:run_pretraining.py (the way back through the projection);
google-research/electra:run_pretraining.py (`_get_discriminator_output`).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.modules import Linear, Norm
from bertlite_jax.model.ops import products
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.elementwise import activation
from bertlite_jax.model.ops.precision import Compute, of_head, of_part

# Logit of the table's padding rows: as good as impossible, and finite.
_NEVER = -1e9


def gather_rows(hidden: Float[Array, "B L D"], positions: Int[AnyArray, "B K"]) -> Float[Array, "B K D"]:
    """Picks the hidden states that a head will read.

    Only these reach the vocabulary product, so that logits are [B, K, V] and never [B, L, V].

    Args:
      hidden: any float dtype, which the result has too.
      positions: 0 where a row has fewer than K (their loss weight is 0).
    """
    return jnp.take_along_axis(hidden, positions[..., None], axis=1, mode="clip")


class MaskedLM(nn.Module):
    """Dense to S, activation, LayerNorm, and the product with the embedding table (tied)."""

    config: Model
    compute: Compute

    def setup(self) -> None:
        """Makes the dense layer, the norm and the bias of the vocabulary."""
        c = self.config
        self.dense = Linear(c.sum_size, c.init_std, of_part(self.compute, "mlm"))
        self.norm = Norm(c.norm_epsilon)
        self.bias = self.param("bias", nn.initializers.zeros, (c.padded_vocab,))

    def __call__(
        self,
        hidden: Float[Array, "B K D"],
        table: Float32[AnyArray, "V E"],
        projection: Float32[AnyArray, "E D"] | None = None,
    ) -> Float32[Array, "B K V"]:
        """Logits of hidden states; those of the table's padding rows are very negative.

        Args:
          hidden: states at the positions to predict.
          table: of the words.
          projection: kernel of the words' projection where it comes before the sum; the states go back through it.
        """
        c = self.config
        x = self.norm(activation(self.dense(hidden), c.activation))
        if projection is not None:
            x = products.matmul(x, projection.T, self.compute)
        # [B * K, V] until the end: the loss uses that shape too, and on a TPU another shape is another copy.
        logits = products.decode(x.reshape(-1, c.embed_size), table, self.bias, of_part(self.compute, "embeddings"))
        if c.padded_vocab > c.vocab_size:
            logits = jnp.where((jnp.arange(c.padded_vocab) < c.vocab_size)[None], logits, _NEVER)
        return logits.reshape(*hidden.shape[:-1], c.padded_vocab)


class ReplacedTokens(nn.Module):
    """Dense to D, activation, and one logit: whether a token is not the one of the text."""

    config: Model
    compute: Compute

    def setup(self) -> None:
        """Makes both dense layers."""
        c = self.config
        self.dense = Linear(c.hidden_size, c.init_std, self.compute)
        self.output = Linear(1, c.init_std, "float32")

    def __call__(self, hidden: Float[Array, "B L D"]) -> Float32[Array, "B L"]:
        """Logits of hidden states."""
        return self.output(activation(self.dense(hidden), self.config.activation).astype(jnp.float32))[..., 0]


class PretrainingModel(nn.Module):
    """Encoder with the pretraining heads that the config asks for.

    The encoder's parameters lie beside the heads' at the top of the tree, so that a model with other heads can read
    them by the same names.
    """

    config: Model
    compute: Compute = "float32"

    def setup(self) -> None:
        """Makes the encoder and the heads."""
        c = self.config
        self.encoder = Encoder(c, self.compute, decodes=True)
        nn.share_scope(self, self.encoder)
        self.mlm = MaskedLM(c, self.compute)
        if c.pooler:
            self.pooler = Linear(c.hidden_size, c.init_std, of_head(self.compute, "pooler"))
        if c.pair_classes:
            self.pair = Linear(c.pair_classes, c.init_std, of_head(self.compute, "pair"))
        if c.replaced_head:
            self.replaced = ReplacedTokens(c, self.compute)

    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        cls: Int[AnyArray, "B P"],
        predict_positions: Int[AnyArray, "B K"],
        dropout_keys: Key[Array, " B"] | None = None,
    ) -> tuple[Float32[Array, "B K V"], Float32[Array, "B P C"] | None]:
        """Logits of the masked language model and of the pair head; None without a pair head.

        Args:
          tokens: as for `Encoder`, like the next three and `dropout_keys`.
          segments: number of the window.
          positions: inside the window.
          token_types: part of the pair.
          cls: where each window's [CLS] stands; 0 where there is none.
          predict_positions: the positions to predict; 0 in unused slots.
          dropout_keys: one a row, or None.
        """
        hidden = self.encoder(tokens, segments, positions, token_types, dropout_keys)
        if self.config.replaced_head and self.is_initializing():
            self.replaced(hidden)  # Its parameters are made with the others, although it reads other rows.
        return self.word_logits(gather_rows(hidden, predict_positions)), self.pair_logits(hidden, cls)

    def word_logits(self, hidden: Float[Array, "B K D"]) -> Float32[Array, "B K V"]:
        """Logits of the masked language model's head at hidden states that were picked before."""
        projection = self.encoder.projection.kernel if self.config.projects_words else None
        return self.mlm(hidden, self.encoder.embeddings.word.embedding, projection)

    def replaced_logits(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        dropout_keys: Key[Array, " B"] | None = None,
    ) -> Float32[Array, "B L"]:
        """Of each token, whether it was replaced; arguments as for `Encoder`. The model has `replaced_head`."""
        return self.replaced(self.encoder(tokens, segments, positions, token_types, dropout_keys))

    def causal_states(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        dropout_keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B L D"]:
        """Hidden states of tokens that see only earlier ones of their window; arguments as for `Encoder`."""
        return self.encoder(tokens, segments, positions, token_types, dropout_keys, causal=True)

    def pair_logits(self, hidden: Float[Array, "B L D"], cls: Int[AnyArray, "B P"]) -> Float32[Array, "B P C"] | None:
        """Logits of the pair head for the state of each [CLS]; None without a pair head."""
        if not self.config.pooler:
            return None
        pooled = self.pooled(hidden, cls)
        return self.pair(pooled) if self.config.pair_classes else None

    def pooled(self, hidden: Float[Array, "B L D"], cls: Int[AnyArray, "B P"]) -> Float32[Array, "B P D"]:
        """Dense and tanh on the hidden state of each [CLS]."""
        return jnp.tanh(self.pooler(gather_rows(hidden, cls).astype(jnp.float32)))

    def hidden_states(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        dropout_keys: Key[Array, " B"] | None = None,
    ) -> list[Float[Array, "B L D"]]:
        """The projected embeddings and the states after each layer: N + 1 arrays."""
        return self.encoder.hidden_states(tokens, segments, positions, token_types, dropout_keys)

    def last_states(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        dropout_keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B L D"]:
        """The states after the last layer."""
        return self.encoder(tokens, segments, positions, token_types, dropout_keys)
