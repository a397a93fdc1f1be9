"""What applying a block again is worth: the exponent of sharing, fitted to the losses of finished runs.

A block of parameters that is applied r times counts as r^phi blocks of its own in a law of the loss,

    L = E + A (N_once + r^phi N_shared)^-alpha,

in which N_shared are the parameters that are applied r times and N_once those that are applied once. With phi = 1 a
shared block is as good as r own ones; with phi = 0 applying it again is worth nothing. The published law adds B D^-beta
for D tokens of training: runs that are compared here see the same tokens, and E holds that term.

Source: Schwethelm et al. 2026 (arXiv 2604.21106): phi = 0.46 for decoders, over r of 1, 2, 4 and 8 in 116 runs of one
effective depth; 0.65 with hyper-connections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from bertlite_jax.errors import UserError

RUNS_A_NUMBER = 4
"""Runs that a fit needs for each number that it finds: E, A, alpha, and an exponent for each kind."""
_EXPONENTS, _ALPHAS = np.linspace(-1.0, 2.0, 13), np.geomspace(0.03, 3.0, 13)
"""Where the search begins. It may leave them, but not by far."""
_LEAST_ALPHA, _MOST_ALPHA, _MOST_EXPONENT = 1e-3, 10.0, 4.0

Vector = Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Point:
    """One finished run."""

    loss: float
    """Validation loss, nats."""
    once: int
    """Parameters that each token meets once; not those of embedding tables, which are looked up."""
    shared: int
    """Parameters that each token meets r times."""
    applications: int
    """R."""
    kind: str = ""
    """What an exponent is fitted for, such as blocks with a norm for each application. With r = 1 there is nothing to
    tell kinds apart, so such runs belong to all of them."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """The law that fits best, by least squares of the losses."""

    exponents: dict[str, float]
    """Phi of each kind."""
    intervals: dict[str, tuple[float, float]]
    """Where phi lies: the middle `coverage` of the bootstrap."""
    floor: float
    """E, nats."""
    scale: float
    """A."""
    alpha: float
    r_squared: float
    """Share of the variance of the losses that the law explains."""
    deviation: float
    """Root mean square of the residuals, nats, over the degrees of freedom."""

    def predicted(self, points: Sequence[Point]) -> Vector:
        """The loss that the law gives for each point."""
        design = _Design.of(points, tuple(self.exponents))
        return self.floor + self.scale * design.sizes(np.array([*self.exponents.values()])) ** -self.alpha


def fit(points: Sequence[Point], draws: int = 500, coverage: float = 0.95, seed: int = 0) -> Fit:
    """Fits the law, and draws its residuals again and again for the intervals.

    E and A follow from phi and alpha by linear least squares, so that only those are searched, from the best point of a
    grid. In each draw of the bootstrap, the losses are those of the law plus residuals of any runs, widened by the
    degrees of freedom, and the law is fitted anew.

    Args:
      points: of runs that saw the same tokens and predict the same pieces of the same text.
      draws: of the bootstrap.
      coverage: share of the draws that an interval holds.
      seed: of the draws.

    Raises:
      UserError: too few runs, a kind with a single r, or fewer than three sizes of one r, without which E, A and alpha
        cannot be told apart from phi.
    """
    kinds = tuple(sorted({point.kind for point in points if point.applications > 1}))
    _check(points, kinds)
    design = _Design.of(points, kinds)
    losses = np.array([point.loss for point in points], np.float64)
    found = _search(design, losses, _best_of_grid(design, losses))
    floor, scale, fitted = _linear(design, losses, found)
    residuals = losses - fitted
    freedom = len(losses) - 3 - len(kinds)
    widened = residuals * np.sqrt(len(losses) / freedom)
    draw = np.random.default_rng(seed)
    again = [_search(design, fitted + draw.choice(widened, len(losses)), found)[1:] for _ in range(draws)]
    ends = np.quantile(again, [(1 - coverage) / 2, (1 + coverage) / 2], axis=0)
    return Fit(
        dict(zip(kinds, found[1:].tolist(), strict=True)),
        {kind: (float(low), float(high)) for kind, low, high in zip(kinds, *ends, strict=True)},
        floor,
        scale,
        float(found[0]),
        float(1 - np.sum(residuals**2) / np.sum((losses - losses.mean()) ** 2)),
        float(np.sqrt(np.sum(residuals**2) / freedom)),
    )


def _check(points: Sequence[Point], kinds: Sequence[str]) -> None:
    """Raises UserError for runs that no law can be fitted to."""
    for kind in kinds or ("",):
        counts = sorted({point.applications for point in points if point.applications == 1 or point.kind == kind})
        if len(counts) < 2:
            name = f" of {kind}" if kind else ""
            raise UserError(f"exponent: the runs{name} have r = {counts} alone; add runs that apply their blocks once")
    least = RUNS_A_NUMBER * (3 + len(kinds))
    if len(points) < least:
        raise UserError(f"exponent: {len(points)} runs are too few for {3 + len(kinds)} numbers; at least {least}")
    sizes: dict[int, set[int]] = {}
    for point in points:
        sizes.setdefault(point.applications, set()).add(point.once + point.shared)
    if max(map(len, sizes.values())) < 3:
        raise UserError("exponent: no r has runs of three sizes, without which the law of the loss is not known")


@dataclasses.dataclass(frozen=True)
class _Design:
    """The points as arrays."""

    once: Vector
    shared: Vector
    log_r: Vector
    kind: Int[np.ndarray, " n"]
    """Place of each point's kind; any where r = 1."""

    @classmethod
    def of(cls, points: Sequence[Point], kinds: Sequence[str]) -> _Design:
        once, shared, applications = (
            np.array([getattr(point, name) for point in points], np.float64)
            for name in ("once", "shared", "applications")
        )
        places = [kinds.index(point.kind) if point.applications > 1 else 0 for point in points]
        return cls(once, shared, np.log(applications), np.array(places))

    def sizes(self, exponents: Vector) -> Vector:
        """N_once + r^phi N_shared."""
        return self.once + self.shared * np.exp(exponents[self.kind] * self.log_r)


def _linear(design: _Design, losses: Vector, numbers: Vector) -> tuple[float, float, Vector]:
    """E and A that fit best beside `numbers` (alpha, then the exponents), and the losses of that law."""
    powers = _powers(design, numbers)
    centred = powers - powers.mean()
    spread = float(centred @ centred)
    scale = float(centred @ losses) / spread if spread else 0.0
    floor = float(losses.mean()) - scale * float(powers.mean())
    # Powers are relative to the mean size, so that they stay near 1; A is not.
    mean = float(np.mean(design.once + design.shared))
    return floor, float(scale * mean ** numbers[0]), floor + scale * powers


def _powers(design: _Design, numbers: Vector) -> Vector:
    mean = float(np.mean(design.once + design.shared))
    return (design.sizes(numbers[1:]) / mean) ** -numbers[0]


def _best_of_grid(design: _Design, losses: Vector) -> Vector:
    """The best numbers with one exponent for all kinds."""
    kinds = int(design.kind.max()) + 1
    grid = [np.array([alpha, *[exponent] * kinds]) for alpha in _ALPHAS for exponent in _EXPONENTS]
    return min(grid, key=lambda numbers: float(np.sum((_linear(design, losses, numbers)[2] - losses) ** 2)))


def _search(design: _Design, losses: Vector, start: Vector) -> Vector:
    """Alpha and the exponents with the least squares near `start`."""
    import scipy.optimize  # JAX brings it. Slow to import.

    def numbers(given: Vector) -> Vector:
        alpha = np.exp(np.clip(given[0], np.log(_LEAST_ALPHA), np.log(_MOST_ALPHA)))
        return np.array([alpha, *np.clip(given[1:], -_MOST_EXPONENT, _MOST_EXPONENT)])

    def residuals(given: Vector) -> Vector:
        return _linear(design, losses, numbers(given))[2] - losses

    return numbers(scipy.optimize.leastsq(residuals, np.array([np.log(start[0]), *start[1:]]))[0])
