"""A predictor of latency, fitted to a few measured shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bertlite_jax.config.model import Model


def features(model: Model, length: int) -> Float[np.ndarray, " 6"]:
    """What latency grows with: 1, N, N L D^2, N L D F, N L^2 D and N L H."""
    N, D, F, H, L = model.num_layers, model.hidden_size, model.ffn_size, model.num_heads, length
    return np.array([1, N, N * L * D * D, N * L * D * F, N * L * L * D, N * L * H], np.float64)


def fit(models: Sequence[Model], lengths: Sequence[int], seconds: Sequence[float]) -> Float[np.ndarray, " 6"]:
    """Coefficients of the features, by least squares of the relative errors.

    None is negative, so that a larger shape is never predicted to be faster.

    Args:
      models: that were measured; drawn at random, they differ in all their widths, and no feature follows another.
      lengths: tokens of each measurement.
      seconds: of each, all positive.

    Raises:
      ValueError: there are fewer measurements than features.
    """
    import scipy.optimize  # JAX brings it. Slow to import.

    if len(seconds) < 6:
        raise ValueError(f"{len(seconds)} measurements for 6 coefficients")
    rows = np.stack([features(model, length) for model, length in zip(models, lengths, strict=True)])
    relative = rows / np.asarray(seconds, np.float64)[:, None]
    scale = relative.max(axis=0)  # Products differ from 1 by many orders of magnitude.
    coefficients, _ = scipy.optimize.nnls(relative / scale, np.ones(len(rows)))
    return coefficients / scale


def predict(coefficients: Float[np.ndarray, " 6"], model: Model, length: int) -> float:
    """Seconds of an answer of `length` tokens."""
    return float(features(model, length) @ coefficients)
