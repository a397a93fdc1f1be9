"""The encoder that one domain has for itself: a few layers on the shared embeddings, and a pooler."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from bertlite_jax.config.model import Model
from bertlite_jax.model.encoder import Layers, Linear, Norm, attend_in
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.ops.precision import Compute


def narrowed(model: Model, layers: int) -> Model:
    """The shape of a private encoder with so many layers."""
    return dataclasses.replace(model, num_layers=layers, share_groups=1)


class PrivateEncoder(nn.Module):
    """Embedded texts [B, L, D] to one state a window [B, P, D], float32."""

    config: Model
    compute: Compute = "float32"

    def setup(self):
        c = self.config
        self.layers = Layers(c, self.compute)
        self.pooler = Linear(c.hidden_size, c.init_std, "float32")
        if c.norm == "pre":
            self.final_norm = Norm(c.norm_epsilon)

    def __call__(self, x: Array, segments: Array, cls: Array, dropout_keys: Array | None) -> Array:
        c = self.config
        x, _ = self.layers(x, attend_in(segments, c, self.compute), dropout_keys)
        x = self.final_norm(x) if c.norm == "pre" else x
        return jnp.tanh(self.pooler(gather_rows(x, cls).astype(jnp.float32)))
