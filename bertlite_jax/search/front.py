"""The trade-off between objectives: which points no other beats, and how much of the space they cover.

All objectives are minimised, such as parameters, seconds and error.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def pareto(points: Float[np.ndarray, "N K"]) -> Bool[np.ndarray, " N"]:
    """Whether each point is on the front: none is at least as good in all objectives and better in one.

    Equal points do not beat each other. A point with a NaN, of a trial that failed, is not on the front and beats none.

    Examples:
      The third point is larger than the second, and worse.

      >>> import numpy as np
      >>> from bertlite_jax.search.front import hypervolume, pareto
      >>> points = np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [4.0, 1.0]])
      >>> pareto(points).tolist()
      [True, True, False, True]
      >>> hypervolume(points, np.array([5.0, 5.0]))
      11.0
    """
    real = np.all(~np.isnan(points), axis=1)
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    beaten = np.any(no_worse & better & real[:, None], axis=0)
    return np.logical_and(real, ~beaten)


def hypervolume(points: Float[np.ndarray, "N K"], reference: Float[np.ndarray, " K"]) -> float:
    """Volume of what the points beat, up to a reference point that is worse than they are.

    The last objective is cut into slices between the points; each slice has the volume, in one dimension less, of the
    points below it. The larger, the better is the front. It depends on the scale of the objectives, so divide each by
    that of the reference to compare fronts.

    Args:
      points: any; those that are not better than the reference in all objectives, or have a NaN, add nothing.
      reference: such as the maximum point's objectives.
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    heights = np.diff(np.append(inside[:, -1], reference[-1]))
    below = (hypervolume(inside[: number + 1, :-1], reference[:-1]) for number in range(len(inside)))
    return float(sum(height * area for height, area in zip(heights, below, strict=True) if height > 0))
