"""The learning rate as a function of the updates made so far: s is 0 at step 1.

All four curves start at 0: the first update only fills the moments, as in the ALBERT release.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bertlite_jax.config.pretrain import Optim


def scaled_learning_rate(optim: Optim, batch_rows: int) -> float:
    """The peak for this batch: `learning_rate * sqrt(batch_rows / reference_batch)`, unscaled where that is 0.

    LAMB keeps its behaviour over batch sizes under the square root. The paper's 1.76e-3 belongs to 4096 rows; with 512
    it diverges late, and 6.2e-4 is its equal.

    Source: You et al. 2020 (arXiv 1904.00962), section 4; google-research/albert issue 29.

    Examples:
      >>> from bertlite_jax.config import Optim
      >>> from bertlite_jax.train.schedules import scaled_learning_rate
      >>> published = Optim(learning_rate=1.76e-3, reference_batch=4096)
      >>> [round(scaled_learning_rate(published, rows), 6) for rows in (4096, 512)]
      [0.00176, 0.000622]
    """
    if not optim.reference_batch:
        return optim.learning_rate
    return optim.learning_rate * math.sqrt(batch_rows / optim.reference_batch)


def with_warmup(optim: Optim, fraction: float, steps: int) -> Optim:
    """The settings with their warm-up counted in updates, as fine-tuning carries them out.

    Args:
      optim: `warmup_steps` counts where it is not 0.
      fraction: share of the updates that warm up where `warmup_steps` is 0.
      steps: updates in the run; the warm-up takes fewer.
    """
    warmup = optim.warmup_steps or int(fraction * steps)
    return dataclasses.replace(optim, warmup_steps=min(warmup, steps - 1))


def schedule(optim: Optim, steps: int, batch_rows: int) -> Callable[[ArrayLike], Float[Array, ""]]:
    """The curve that `optim.schedule` names.

    With peak p, warm-up W, T = `steps` and end e = `end_fraction`, every curve is p s / W for s < W, and after that

    - `reference`: p (1 - s / T). The decay clock starts at 0, so the rate drops by W / T at the end of the warm-up and
      the peak is never reached. Source: google-research/albert:optimization.py.
    - `linear`: from p at s = W straight down to e p at s = T.
    - `cosine`: the same way along half a cosine, e p + (1 - e) p (1 + cos(pi (s - W) / (T - W))) / 2. Source:
      Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts.
    - `wsd`: p up to s = T - `decay_steps`, then straight down to e p at s = T. Source: Hu et al. 2024
      (arXiv 2404.06395), section 4; with the linear decay of Hägele et al. 2024 (arXiv 2405.18392).

    The last update, step T, has s = T - 1, so its rate is one update above the end.

    Args:
      optim: peak, warm-up and shape.
      steps: T, updates in the run.
      batch_rows: rows in the global batch, for the scaling of the peak.

    Returns:
      A function of s (int32 scalar, traced or not) whose result is a float32 scalar. Beyond T it stays at the value of
      T.

    Examples:
      ALBERT's schedule. At the end of the warm-up it is at 0.975 of its peak, which it never reaches.

      >>> from bertlite_jax.config import Optim
      >>> from bertlite_jax.train.schedules import schedule
      >>> optim = Optim(schedule="reference", learning_rate=1.76e-3, warmup_steps=3125)
      >>> rate = schedule(optim, steps=125_000, batch_rows=4096)
      >>> [round(float(rate(s)), 6) for s in (0, 1562, 3125, 62_500, 125_000)]
      [0.0, 0.00088, 0.001716, 0.00088, 0.0]
    """
    peak, warmup = scaled_learning_rate(optim, batch_rows), optim.warmup_steps
    decays = {"reference": steps, "linear": steps - warmup, "cosine": steps - warmup, "wsd": optim.decay_steps}
    decay = decays[optim.schedule]
    end = 0.0 if optim.schedule == "reference" else optim.end_fraction

    def rate(updates: ArrayLike) -> Float[Array, ""]:
        s = jnp.asarray(updates, jnp.int32)
        # Integers up to the division: 1 - s / T in float32 is off by a percent just before the end.
        left = jnp.clip(steps - s, 0, decay) / decay
        if optim.schedule == "cosine":
            left = jnp.square(jnp.sin(jnp.float32(math.pi / 2) * left))  # (1 + cos) / 2, without its rounding near 0.
        share = end + (1.0 - end) * left
        return jnp.float32(peak) * jnp.where(s < warmup, s / max(warmup, 1), share)

    return rate
