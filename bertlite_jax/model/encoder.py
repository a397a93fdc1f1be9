"""Token ids become hidden states: embeddings, projection, and layers that share parameters as the config says.

One definition serves ALBERT, BERT, DistilBERT and Bort. Letters: B rows, L tokens in a row, D hidden, E embedding,
N layers, S the width at which embeddings are summed (E, or D where words are projected first).

Sources: Devlin et al. 2018 (arXiv 1810.04805); Lan et al. 2020 (arXiv 1909.11942), section 3;
google-research/albert:modeling.py; brightmart/albert_zh:modeling.py (words projected first).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
from jax import Array
from jaxtyping import Float, Int, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.layers import Layers, attend_in
from bertlite_jax.model.modules import Linear, Norm, Table, WordProjection, matrix_init, sinusoid_init
from bertlite_jax.model.ops import dropout
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.precision import Compute, activation_dtype, of_part
from bertlite_jax.model.pruned_layers import PrunedLayers


class Embeddings(nn.Module):
    """Word, position and token-type rows, summed, normalised, dropped out: [B, L] -> [B, L, S].

    `decodes` says whether the word table is multiplied with too, which decides its bits in a mode of integers.
    """

    config: Model
    compute: Compute = "float32"
    decodes: bool = False

    def setup(self) -> None:
        """Makes the tables that the config asks for."""
        c = self.config
        normal = matrix_init(c.init_std)
        self.word = Table(c.vocab_size, c.embed_size, normal, c.padded_vocab, self.compute, self.decodes)
        of_positions = sinusoid_init(c.init_std) if c.position_init == "sinusoidal" else normal
        self.position = Table(c.max_positions, c.sum_size, of_positions, compute=self.compute)
        if c.token_types:
            self.token_type = Table(c.token_types, c.sum_size, normal, compute=self.compute)
        self.norm = Norm(c.norm_epsilon)

    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        keys: Key[Array, " B"] | None,
        shift: Float[Array, "B L E"] | None = None,
        project: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "B L S"]:
        """Float32.

        Args:
          tokens: ids.
          positions: inside the window.
          token_types: part of the pair.
          keys: of dropout; None switches it off.
          shift: is added to the word vectors.
          project: what word vectors go through before the sum, if anything.
        """
        words = self.word(tokens)
        words = words if shift is None else words + shift
        x = (project(words) if project else words) + self.position(positions)
        if self.config.token_types:
            x = x + self.token_type(token_types)
        return dropout.dropout(self.norm(x), dropout.keys_at(keys, dropout.EMBEDDING_SITE), self.config.hidden_dropout)


class Encoder(nn.Module):
    """Token ids to hidden states.

    Examples:
      ALBERT base by its shapes, which takes no memory. With the pooler, 590,592 more, it has 11,683,584 parameters.

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from bertlite_jax.config import presets
      >>> from bertlite_jax.model.encoder import Encoder
      >>> encoder, ids = Encoder(presets.ALBERT_BASE), jnp.zeros((8, 512), jnp.int32)
      >>> variables = jax.eval_shape(encoder.init, jax.random.key(0), ids, ids, ids, ids)
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
      11092992
      >>> jax.eval_shape(encoder.apply, variables, ids, ids, ids, ids).shape
      (8, 512, 768)
    """

    config: Model
    compute: Compute = "float32"
    decodes: bool = False
    """As for `Embeddings`."""

    def setup(self) -> None:
        """Makes the parts that the config asks for."""
        c = self.config
        self.embeddings = Embeddings(c, self.compute, self.decodes)
        if c.projects_words:
            self.projection = WordProjection(c.embed_size, c.hidden_size, c.init_std, self.compute)
        elif c.projected:
            self.projection = Linear(c.hidden_size, c.init_std, of_part(self.compute, "projection"))
        self.layers = (PrunedLayers if c.pruned else Layers)(c, self.compute)
        if c.norm == "pre":
            self.final_norm = Norm(c.norm_epsilon)

    def embed(
        self,
        tokens: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        keys: Key[Array, " B"] | None,
        shift: Float[Array, "B L E"] | None = None,
    ) -> Float[Array, "B L D"]:
        """The embeddings at width D; `shift` is added to the word vectors."""
        c = self.config
        first = self.projection if c.projects_words else None
        x = self.embeddings(tokens, positions, token_types, keys, shift, first)
        if c.projected and not c.projects_words:
            x = self.projection(x)
        return x.astype(activation_dtype(self.compute))

    def apply_layers(
        self,
        x: Float[Array, "B L D"],
        segments: Int[AnyArray, "B L"],
        keys: Key[Array, " B"] | None,
        first: int = 0,
        last: int | None = None,
        causal: bool = False,
    ) -> Float[Array, "B L D"]:
        """Layers `first` to before `last` (None: all that follow), and after the last of all the final norm if any."""
        layers = self.config.num_layers
        last = layers if last is None else last
        span = None if (first, last) == (0, layers) else (first, last)
        x, _ = self.layers(x, attend_in(segments, self.config, self.compute, causal), keys, span=span)
        return self.final_norm(x) if self.config.norm == "pre" and last == layers else x

    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        dropout_keys: Key[Array, " B"] | None = None,
        causal: bool = False,
    ) -> Float[Array, "B L D"]:
        """Hidden states of the last layer, in `activation_dtype(compute)`.

        Args:
          tokens: ids.
          segments: 1..P for the window a token belongs to, 0 for padding. Tokens see their own window.
          positions: starting at 0 in every window.
          token_types: not read where the model has no token types.
          dropout_keys: one a row; None switches dropout off.
          causal: whether tokens see only themselves and earlier ones.
        """
        x = self.embed(tokens, positions, token_types, dropout_keys)
        return self.apply_layers(x, segments, dropout_keys, causal=causal)

    def hidden_states(
        self,
        tokens: Int[AnyArray, "B L"],
        segments: Int[AnyArray, "B L"],
        positions: Int[AnyArray, "B L"],
        token_types: Int[AnyArray, "B L"],
        dropout_keys: Key[Array, " B"] | None = None,
    ) -> list[Float[Array, "B L D"]]:
        """The projected embeddings and the states after each layer: N + 1 arrays.

        All but the last are also what the next layer reads; under pre-LN the last has gone through the final norm.
        """
        x = self.embed(tokens, positions, token_types, dropout_keys)
        last, states = self.layers(x, attend_in(segments, self.config, self.compute), dropout_keys, collect=True)
        assert states is not None
        every = [x, *states]
        if self.config.norm == "pre":
            every[-1] = self.final_norm(last)
        return every
