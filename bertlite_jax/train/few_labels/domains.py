"""Several domains: features that do not tell them apart, and what each has of its own.

The shared features feed the labels and, behind a reversed gradient, a classifier of domains; a private encoder for each
domain takes up what is its own, so that the shared one need not. The label's logits are

    W_s shared(x) + W_p private_d(x) + b

and those of a domain without labels, or of any text once the model is kept, leave the private part out: what is kept is
a task model like any other.

Letters: B rows, L tokens, P windows a row, D hidden, K domains, C labels.
Sources: Ganin et al. 2016 (arXiv 1505.07818); Bousmalis et al. 2016 (arXiv 1608.06019); Chen and Cardie 2018
(arXiv 1802.05694), section 3 (private features of a domain without labels are zero).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def init(key: Array, width: int, domains: int, labels: int) -> dict[str, Any]:
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


def reverse(x: Array, strength: Array) -> Array:
    """X itself, whose gradient is multiplied by -strength.

    Source: Ganin et al. 2016 (arXiv 1505.07818), equations 13 and 14.
    """
    held = jax.lax.stop_gradient(x)
    return held - strength * (x - held)


def strength(progress: Array) -> Array:
    """2 / (1 + exp(-10 T)) - 1: from 0 to 1 along the run, so that features are there before they are confused.

    Source: Ganin et al. 2016 (arXiv 1505.07818), section 5.2.2.
    """
    return 2 / (1 + jnp.exp(-10 * progress)) - 1


def tell_apart(params: Any, pooled: Array) -> Array:
    """Logits of the domains: [B, P, D] -> [B, P, K]."""
    hidden = jax.nn.relu(pooled @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["output"]["kernel"] + params["output"]["bias"]


def private_states(
    private: Callable[..., Array], params: Any, embedded: Array, rows: dict[str, Array], keys: Array | None
) -> Array:
    """Each window's state from its own domain's encoder; all K encoders read all rows, and one of them counts.

    Args:
      private: (parameters of one domain, embedded, segments, cls, dropout keys) -> [B, P, D].
      params: `private` holds the parameters of all domains on a leading axis K.
      embedded: [B, L, D].
      rows: `segments`, `cls`, and `domain`, -1 where a window has none of the K encoders.
      keys: [B] dropout keys, or None.

    Returns:
      [B, P, D].
    """
    of_all = jax.vmap(lambda one: private(one, embedded, rows["segments"], rows["cls"], keys))(params["private"])
    chosen = jax.nn.one_hot(rows["domain"], of_all.shape[0])
    return jnp.einsum("kbpd,bpk->bpd", of_all, chosen)


def private_logits(params: Any, states: Array) -> Array:
    """W_p private(x): [B, P, D] -> [B, P, C]."""
    return states @ params["private_output"]["kernel"]
