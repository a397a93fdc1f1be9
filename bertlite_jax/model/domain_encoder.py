"""The private encoder of one domain: a few layers on the shared embeddings, and a pooler.

Letters: B rows, L tokens in a row, P windows in a row, D hidden.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.layers import Layers, attend_in
from bertlite_jax.model.modules import Linear, Norm
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.precision import Compute


def narrowed(model: Model, layers: int) -> Model:
    """The shape of a private encoder with this number of layers, in one group.

    Its stacks hold what the model's lowest layers apply, or as many as the private encoder has room for.
    """
    return dataclasses.replace(
        model, num_layers=layers, share_groups=1, own_first=min(model.own_first, layers - 1), own_last=0
    )


class PrivateEncoder(nn.Module):
    """Embedded texts to one state for each window."""

    config: Model
    compute: Compute = "float32"

    def setup(self) -> None:
        """Makes the layers, the pooler and the final norm if the config has one."""
        c = self.config
        self.layers = Layers(c, self.compute)
        self.pooler = Linear(c.hidden_size, c.init_std, "float32")
        if c.norm == "pre":
            self.final_norm = Norm(c.norm_epsilon)

    def __call__(
        self,
        x: Float[Array, "B L D"],
        segments: Int[AnyArray, "B L"],
        cls: Int[AnyArray, "B P"],
        dropout_keys: Key[Array, " B"] | None,
    ) -> Float32[Array, "B P D"]:
        """The pooled states.

        Args:
          x: projected embeddings.
          segments: 1..P for the window a token belongs to, 0 for padding.
          cls: where each window's [CLS] stands.
          dropout_keys: one a row; None switches dropout off.
        """
        c = self.config
        x, _ = self.layers(x, attend_in(segments, c, self.compute), dropout_keys)
        x = self.final_norm(x) if c.norm == "pre" else x
        return jnp.tanh(self.pooler(gather_rows(x, cls).astype(jnp.float32)))
