"""Several domains: features that do not tell them apart, and features that each domain has of its own.

The shared features feed the labels and, behind a reversed gradient, a classifier of domains; a private encoder for each
domain takes up what is its own, so that the shared one need not. The label's logits are

    W_s shared(x) + W_p private_d(x) + b

The private part is left out for a domain without labels, and for any text once the model is saved: what is saved is a
task model like any other.

Letters: B rows, L tokens, P windows a row, D hidden, K domains, C labels.
Sources: Ganin et al. 2016 (arXiv 1505.07818); Bousmalis et al. 2016 (arXiv 1608.06019); Chen and Cardie 2018
(arXiv 1802.05694), section 3 (private features of a domain without labels are zero).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def init(key: Key[Array, ""], width: int, domains: int, labels: int) -> dict[str, Any]:
    """Classifier of domains (D -> D, relu, D -> K), and the private features' way to the logits, W_p, from 0 on.

    Args:
      key: of the draw.
      width: D.
      domains: K.
      labels: C.
    """
    first, second = jax.random.split(key)
    scale = width**-0.5
    return {
        "hidden": {"kernel": scale * jax.random.normal(first, (width, width)), "bias": jnp.zeros(width)},
        "output": {"kernel": scale * jax.random.normal(second, (width, domains)), "bias": jnp.zeros(domains)},
        "private_output": {"kernel": jnp.zeros((width, labels))},
    }


def reverse(x: Float[Array, "*S"], strength: Float[Array, " ..."]) -> Float[Array, "*S"]:
    """The identity, whose gradient is multiplied by -strength.

    Args:
      x: any shape.
      strength: a shape that broadcasts to that of `x`.

    Source: Ganin et al. 2016 (arXiv 1505.07818), equations 13 and 14.
    """
    constant = jax.lax.stop_gradient(x)
    return constant - strength * (x - constant)


def strength(progress: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """2 / (1 + exp(-10 T)) - 1: from 0 to 1 along the run, so that features are there before they are confused.

    Source: Ganin et al. 2016 (arXiv 1505.07818), section 5.2.2.
    """
    return 2 / (1 + jnp.exp(-10 * progress)) - 1


def tell_apart(params: Any, pooled: Float[Array, "B P D"]) -> Float[Array, "B P K"]:
    """Logits of the domains."""
    hidden = jax.nn.relu(pooled @ params["hidden"]["kernel"] + params["hidden"]["bias"][None, None])
    return hidden @ params["output"]["kernel"] + params["output"]["bias"][None, None]


def private_states(
    private: Callable[..., Float[Array, "B P D"]],
    params: Any,
    embedded: Float[Array, "B L D"],
    rows: dict[str, Array],
    keys: Key[Array, " B"] | None,
) -> Float[Array, "B P D"]:
    """Each window's state from its own domain's encoder; all K encoders read all rows, and one of them counts.

    Args:
      private: (parameters of one domain, embedded, segments, cls, dropout keys) -> [B, P, D].
      params: `private` holds the parameters of all domains on a leading axis K.
      embedded: what the encoders read.
      rows: `segments`, `cls`, and `domain`, -1 where a window has none of the K encoders.
      keys: of the dropout; None for none.
    """
    of_all = jax.vmap(lambda one: private(one, embedded, rows["segments"], rows["cls"], keys))(params["private"])
    chosen = jax.nn.one_hot(rows["domain"], of_all.shape[0])
    return jnp.einsum("kbpd,bpk->bpd", of_all, chosen)


def private_logits(params: Any, states: Float[Array, "B P D"]) -> Float[Array, "B P C"]:
    """W_p private(x)."""
    return states @ params["private_output"]["kernel"]
