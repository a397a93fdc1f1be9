"""The validation losses of a grid's members over the steps, in one picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bertlite_jax.report import plots
from bertlite_jax.report.ablation.figures import Compared, incomparable, mean

_DASHES = ("-", (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)))
_MARKERS = ("o", "s", "^", "v", "D", "x", "+")
_GREYS = ("#111111", "#6b8fb3", "#777777")


def draw(members: Sequence[Compared]) -> bytes | None:
    """A line for each member that can be compared with the first one, as PNG.

    The line is the mean over seeds, the band from their least to their greatest loss.
    Members are told apart by dash and marker, and not only by colour.

    Returns:
      None where no run has been evaluated yet.

    Raises:
      UserError: matplotlib is not installed.
    """
    shown = [(member, points) for member in members if (points := _points(member))]
    shown = [(member, points) for member, points in shown if not incomparable(member, members[0])]
    if not shown:
        return None
    unigrams = [result.unigram_entropy for member, _ in shown for result in member.finished]
    unigram = mean([value for value in unigrams if value is not None])
    with plots.drawing((9.6, 4.6), "png", job="ablate") as (figure, file):
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter

        axes = plots.open_axes(figure)
        looks = itertools.product(_GREYS, _DASHES)
        for (member, points), (color, dash), marker in zip(shown, itertools.cycle(looks), itertools.cycle(_MARKERS)):
            steps = sorted(points)
            middle = [sum(points[step]) / len(points[step]) for step in steps]
            look = {"color": color, "linestyle": dash, "marker": marker, "markersize": 3.4, "linewidth": 1.3}
            axes.plot(steps, middle, label=member.name, markevery=max(1, len(steps) // 12), **look)
            least, greatest = [min(points[step]) for step in steps], [max(points[step]) for step in steps]
            axes.fill_between(steps, least, greatest, color=color, alpha=0.12, linewidth=0)
        if unigram is not None:
            axes.axhline(unigram, label="unigram entropy", **plots.STYLES["level"])
        axes.set_xlabel("step")
        axes.set_ylabel("validation MLM loss, nats")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8.5, handlelength=3.2)
    return file.getvalue()


def _points(member: Compared) -> dict[int, list[float]]:
    """Step to the losses of the seeds that were evaluated there; of finished runs alone, once there are any."""
    points: dict[int, list[float]] = {}
    for result in member.finished or member.results:
        for step, loss in zip(*result.curve, strict=True):
            points.setdefault(step, []).append(loss)
    return points
