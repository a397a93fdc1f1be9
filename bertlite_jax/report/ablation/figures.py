"""Figures of a grid's members over their seeds, and their differences from what each is compared with.

Where a member and its reference have runs with the same seeds, their difference is taken seed by seed: both have seen
the same rows in the same order, so much of what a seed does to a loss goes out of the difference.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bertlite_jax.report.ablation.results import DIVERGED, FINISHED, Result


@dataclasses.dataclass(frozen=True)
class Compared:
    """A member of a grid and its runs."""

    name: str
    reference: str
    """Name of the member that it is compared with; empty for the first one."""
    results: tuple[Result, ...]
    vocabulary: str
    """Hash of the tokenizer that its corpora were built with."""
    corpora: tuple[str, ...]
    """Hashes of the corpora that it is evaluated on."""
    whole_split: bool = False
    """Whether it is evaluated on the whole validation split."""

    @property
    def finished(self) -> list[Result]:
        """Its runs that have final figures."""
        return [result for result in self.results if result.status == FINISHED]


PACE_TOLERANCE = 0.1
"""Share of a time budget by which a run may miss it without a remark."""


class Difference(NamedTuple):
    """Of two members in one figure."""

    mean: float
    error: float | None
    """Standard error of the mean of the differences seed by seed; None with less than two common seeds."""
    pairs: int
    """Seeds that both have; 0: it is the difference of two means."""


def mean(values: Sequence[float]) -> float | None:
    """None of no values."""
    return statistics.fmean(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample (over n - 1); None of less than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """How much larger our figure is.

    Args:
      ours: seed to figure.
      theirs: likewise, of the reference.

    Returns:
      None where one of the two has no figures.
    """
    if not ours or not theirs:
        return None
    paired = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if not paired:
        return Difference(statistics.fmean(ours.values()) - statistics.fmean(theirs.values()), None, 0)
    deviation = spread(paired)
    error = None if deviation is None else deviation / math.sqrt(len(paired))
    return Difference(statistics.fmean(paired), error, len(paired))


def incomparable(one: Compared, other: Compared) -> str:
    """Why the losses of two members cannot be compared; empty where they can."""
    if one.vocabulary != other.vocabulary:
        return "another vocabulary"
    if sorted(one.corpora) != sorted(other.corpora):
        return "other corpora"
    return ""


# --- A row for each member -------------------------------------------------------------------------------------------


def rows(members: Sequence[Compared]) -> list[dict[str, Any]]:
    """The figures of each member, as table.json has them."""
    by_name = {member.name: member for member in members}
    return [_row(member, by_name.get(member.reference)) for member in members]


def _row(member: Compared, reference: Compared | None) -> dict[str, Any]:
    finished = member.finished
    losses = _by_seed(finished, lambda result: result.valid_mlm_loss)
    scores = _by_seed(finished, lambda result: result.score)
    left = [result.left_at for result in finished if result.left_at is not None]
    reason = incomparable(member, reference) if reference else ""
    row: dict[str, Any] = {
        "member": member.name,
        "compared_with": member.reference or None,
        "runs": len(member.results),
        "finished": len(finished),
        "valid_mlm_loss": mean(list(losses.values())),
        "unigram_entropy": _mean_of(finished, "unigram_entropy"),
        "valid_mlm_loss_spread": spread(list(losses.values())),
        **_of(reference, "difference", losses if not reason else {}, lambda result: result.valid_mlm_loss),
        "incomparable": reason or None,
        "left_plateau": len(left),
        "steps_to_leave_plateau": mean(left),
        "steps": _mean_of(finished, "steps"),
        "real_tokens": _mean_of(finished, "real_tokens"),
        "train_seconds": _mean_of(finished, "train_seconds"),
        "total_flops": _mean_of(finished, "total_flops"),
        "parameters": _mean_of(finished, "parameters"),
        "score": mean(list(scores.values())),
        "score_spread": spread(list(scores.values())),
        **_of(reference, "score_difference", scores, lambda result: result.score),
        "seeds": [_as_json(result) for result in member.results],
    }
    return row


def _of(
    reference: Compared | None, name: str, ours: Mapping[int, float], figure: Callable[[Result], float | None]
) -> dict[str, float | int | None]:
    theirs = _by_seed(reference.finished, figure) if reference else {}
    found = difference(ours, theirs)
    return {
        name: found.mean if found else None,
        f"{name}_error": found.error if found else None,
        f"{name}_pairs": found.pairs if found else 0,
    }


def _as_json(result: Result) -> dict[str, Any]:
    steps, losses = result.curve
    return dataclasses.asdict(result) | {"curve": {"steps": list(steps), "valid_mlm_loss": list(losses)}}


def _by_seed(results: Sequence[Result], figure: Callable[[Result], float | None]) -> dict[int, float]:
    return {result.seed: value for result in results if (value := figure(result)) is not None}


def _mean_of(results: Sequence[Result], name: str) -> float | None:
    return mean([getattr(result, name) for result in results if getattr(result, name) is not None])


# --- What has to be said beside the table ----------------------------------------------------------------------------


def notes(members: Sequence[Compared], seconds: float = 0.0) -> list[str]:
    """A line for each run that is not finished, and for each difference that does not say what it seems to.

    Args:
      members: all of the grid.
      seconds: of training that each run was to have; 0: the grid counts steps.
    """
    by_name = {member.name: member for member in members}
    lines = [line for member in members for line in _unfinished(member)]
    lines += [line for member in members if seconds for line in _off_the_pace(member, seconds)]
    steps = [result.steps for member in members for result in member.finished if result.steps is not None]
    if len(set(steps)) > 1 and not seconds:
        lines.append(f"the runs differ in their steps, from {min(steps):,} to {max(steps):,}")
    for member in members:
        reference = by_name.get(member.reference)
        if reference is None:
            continue
        if reason := incomparable(member, reference):
            lines.append(
                f"{member.name} has {reason} than {reference.name}: a loss counts other pieces of other text there, so "
                "there is no difference of losses; compare the scores of a task"
            )
        elif _evaluated_elsewhere(member, reference):
            lines.append(
                f"{member.name} was evaluated at other positions than {reference.name} (other rows); set "
                "run.eval_rows = 0 in both to evaluate the whole split"
            )
    return lines


def _unfinished(member: Compared) -> list[str]:
    """How its runs ended that are not finished; a line for all seeds of which the same is true."""
    seeds: dict[str, list[str]] = {}
    for result in member.results:
        if result.status != FINISHED or result.line:
            # What follows says which rows a run diverged on, and what to do: it stands in the log.
            line = result.line.partition("; ")[0] if result.status == DIVERGED else result.line
            seeds.setdefault(f"{result.status}: {line}", []).append(str(result.seed))
    return [
        f"{member.name}, seed{'s' if len(some) > 1 else ''} {', '.join(some)}: {line}" for line, some in seeds.items()
    ]


def _off_the_pace(member: Compared, seconds: float) -> list[str]:
    """Runs that took clearly more or less time than they were to take: their steps are no fair share."""
    return [
        f"{member.name}, seed {result.seed}: trained for {result.train_seconds:,.1f} s and not {seconds:g}, since the "
        "machine was at another pace than when its steps were timed"
        for result in member.finished
        if result.train_seconds is not None and abs(result.train_seconds / seconds - 1) > PACE_TOLERANCE
    ]


def _evaluated_elsewhere(one: Compared, other: Compared) -> bool:
    """Whether two members were evaluated on rows of other text; of the whole split only the masks can differ."""
    if (one.whole_split and other.whole_split) or not (one.finished and other.finished):
        return False
    return _evaluated(one) != _evaluated(other)


def _evaluated(member: Compared) -> set[tuple[float | None, float | None]]:
    """What tells the positions of an evaluation apart: their number, and how frequent their pieces are."""
    return {
        (result.valid_predictions, round(result.unigram_entropy, 4) if result.unigram_entropy is not None else None)
        for result in member.finished
    }
