"""What a search has found, as figures: the ranking, the front, the methods beside each other, what it depends on."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config.search.settings import Counted, MethodName, Search, Shape, model_of
from bertlite_jax.jobs.searching import latency, results
from bertlite_jax.jobs.searching.notebook import Notebook
from bertlite_jax.jobs.searching.supernet import Supernet
from bertlite_jax.search import agreement, costs, front, score, space, trials
from bertlite_jax.search.candidates import Candidate, Cost, fast_enough
from bertlite_jax.search.strategies import Choice
from bertlite_jax.search.trials import Result

KINDS = ("teacher_cross_entropy", "teacher_divergence", "mlm")
"""Errors that a line of results has, if there is a teacher."""
STRIDES = (2, 3, 5, 10)


class Found(NamedTuple):
    """A search that has ended."""

    config: Search
    candidates: Sequence[Candidate]
    """The whole space, in the order of size."""
    maximum: Candidate
    notebook: Notebook
    picks: Mapping[MethodName, Choice]
    """By method; the first one is the search's own."""
    longer: Sequence[Result] = ()
    """Trials of `surrogate.longer_steps`."""
    supernet: Supernet | None = None
    """Where one of the methods is that."""
    published: Mapping[str, Candidate] = MappingProxyType({})
    """Published models by their names; of the space or not."""

    @property
    def score(self) -> score.Score:
        """The W-coefficient of the config."""
        return scored_by(self.config, self.maximum.cost)

    @property
    def tried(self) -> list[Result]:
        """Every trial that a method asked for, once."""
        return list({each.trial: each for _, tried in self.picks.values() for each in tried}.values())

    @property
    def whole(self) -> list[Result]:
        """Those of `surrogate.steps`."""
        return [each for each in self.tried if each.trial.steps == self.config.surrogate.steps]


def scored_by(config: Search, maximum: Cost, exponents: tuple[float, float, float] | None = None) -> score.Score:
    """The W-coefficient against a maximum point; without exponents, with those of the config."""
    return functools.partial(score.w_coefficient, maximum=maximum, exponents=exponents or config.method.exponents)


def best_of_shapes(found: Iterable[Result]) -> list[Result]:
    """The best trial of each shape that has one, the best shape first."""
    best: dict[Shape, Result] = {}
    for each in trials.ranking(found):
        best.setdefault(each.candidate.shape, each)
    return list(best.values())


def content(found: Found) -> dict[str, Any]:
    """All of table.json.

    Numbers that are none are None.
    """
    ranked = best_of_shapes(found.whole)
    own, _ = next(iter(found.picks.values()))
    winner = next(each for each in ranked if own is not None and each.candidate.shape == own.shape)
    on_front = _front(ranked)
    return {
        "space": {"shapes": len(found.candidates), "tried": len({each.candidate.shape for each in found.whole})},
        "winner": row(found, winner),
        "methods": [_method(found, name) for name in found.picks],
        "ranking": [row(found, each) for each in ranked],
        "front": [row(found, each) for each in on_front],
        "hypervolume": _hypervolume(on_front, found.maximum.cost, max(each.error for each in ranked)),
        "sensitivity": _sensitivity(found, winner),
        "correlations": _correlations(found, ranked),
        "hosts": _hosts(found),
        "published": [_published(name, candidate, ranked) for name, candidate in found.published.items()],
        "failed": _failed(found),
    }


def row(found: Found, result: Result) -> dict[str, Any]:
    """A shape with its costs, error and score; the spread is the standard deviation over the seeds, 0 for one."""
    line = found.notebook.line(found.config, result.trial)
    assert line is not None, result.trial
    settings, cost = found.config.surrogate, result.candidate.cost
    of_seeds = results.errors(line, settings.kind, settings.extrapolate_to)
    _, spread = score.spread(found.score, cost, of_seeds)
    return {
        "name": space.describe(result.candidate.shape),
        **dataclasses.asdict(result.candidate.shape),
        "parameters": cost.parameters,
        "seconds": cost.seconds,
        "learning_rate": result.trial.learning_rate,
        "steps": result.trial.steps,
        "error": results.as_json(result.error),
        "error_spread": float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else 0.0,
        "score": results.as_json(result.score),
        "score_spread": spread,
    }


def _method(found: Found, name: MethodName) -> dict[str, Any]:
    """What a method picked, and what that cost: FLOPs of one seed, also of trials that another method had made."""
    pick, tried = found.picks[name]
    best = next((each for each in best_of_shapes(found.whole) if pick and each.candidate.shape == pick.shape), None)
    longer = [each for each in found.longer if pick and each.candidate.shape == pick.shape]
    losses = _least(found, longer, lambda line: results.errors(line, "mlm"))
    return {
        "method": name,
        "shapes": len({each.candidate.shape for each in tried}),
        "flops": trials.spent(tried) + (found.supernet.flops if found.supernet and name == "supernet" else 0),
        "pick": row(found, best) if best else None,
        "longer_loss": results.as_json(min(losses.values(), default=math.nan)),
    }


def _published(name: str, candidate: Candidate, ranked: Iterable[Result]) -> dict[str, Any]:
    """A published model with its costs; with an error only if its very shape was tried."""
    errors = (each.error for each in ranked if each.candidate.shape == candidate.shape)
    return {
        "name": name,
        "shape": space.describe(candidate.shape),
        "parameters": candidate.cost.parameters,
        "seconds": candidate.cost.seconds,
        "error": next(errors, None),
    }


def _failed(found: Found) -> list[dict[str, Any]]:
    failed = []
    for each in [*found.tried, *found.longer]:
        line = found.notebook.line(found.config, each.trial)
        if line is not None and line.status != results.DONE:
            trial = {"learning_rate": line.learning_rate, "steps": line.steps}
            failed.append(
                {"name": space.describe(each.trial.shape), **trial, "status": line.status, "reason": line.reason}
            )
    return failed


# --- The front -------------------------------------------------------------------------------------------------------


def _points(ranked: Sequence[Result]) -> np.ndarray:
    """Parameters, seconds and error of each."""
    return np.array([[each.candidate.cost.parameters, each.candidate.cost.seconds, each.error] for each in ranked])


def _front(ranked: Sequence[Result]) -> list[Result]:
    kept = [each for each, best in zip(ranked, front.pareto(_points(ranked)), strict=True) if best]
    return sorted(kept, key=lambda each: (each.candidate.cost.parameters, each.candidate.cost.seconds))


def _hypervolume(on_front: Sequence[Result], maximum: Cost, largest_error: float) -> float:
    """Of the front, as a share of what lies below the maximum point's costs and the largest error."""
    reference = np.array([maximum.parameters, maximum.seconds, largest_error])
    return front.hypervolume(_points(on_front) / np.where(reference > 0, reference, 1.0), np.ones(3))


# --- What the choice depends on --------------------------------------------------------------------------------------


def _sensitivity(found: Found, winner: Result) -> list[dict[str, Any]]:
    """What other settings would have chosen of the same trials; nothing is trained."""
    changes = agreement.sensitivity(winner, _settings(found))
    return [
        {
            "setting": name,
            "pick": space.describe(change.best.candidate.shape) if change.best else None,
            "same": change.same_shape,
            "regret": results.as_json(change.regret),
        }
        for name, change in changes.items()
    ]


def _settings(found: Found) -> dict[str, list[Result]]:
    config, whole = found.config, found.whole
    a, b, c = config.method.exponents
    again = functools.partial(agreement.rescored, whole)
    settings = {
        f"exponents {each[0]:g} {each[1]:g} {each[2]:g}": again(scored_by(config, found.maximum.cost, each))
        for each in ((a, b, 2 * c), (a, b, 4 * c), (0.0, b, c), (a, 0.0, c))
    }
    for counted in ("all", "encoder", "layers"):
        if counted != config.cost.parameters:
            settings[f"parameters: {counted}"] = _recosted(found, counted)
    if config.cost.latency != "analytic":  # For W any machine does: it only sees the ratio of two times.
        analytic = dataclasses.replace(config.cost, latency="analytic")
        settings["latency: analytic"] = _retimed(
            found, costs.by_formula(analytic, latency.FORMULAS, costs.Machine(1.0))
        )
    for host, seconds in latency.elsewhere(config).items():
        settings[f"latency: roofline of {host}"] = _retimed(found, seconds)
    for kind in KINDS:
        if kind != config.surrogate.kind:
            settings[f"error: {kind}"] = _rejudged(found, lambda line, kind=kind: results.errors(line, kind))
    if config.surrogate.kind != "extrapolated":
        for share in (2, 4):
            kind = config.surrogate.kind
            settings[f"after {config.surrogate.steps // share} of the steps"] = _rejudged(
                found, lambda line, kind=kind, share=share: results.errors(line, kind, 0, share)
            )
    allowed = fast_enough(found.candidates, config.method.most_seconds)
    if {each.candidate for each in whole} == set(allowed):
        for stride in STRIDES:
            chosen = set(allowed[::stride])
            settings[f"stride: {stride}"] = [each for each in whole if each.candidate in chosen]
    return {name: each for name, each in settings.items() if trials.winner(each) is not None}


def _recosted(found: Found, counted: Counted) -> list[Result]:
    """With other parameters counted."""

    def cost(candidate: Candidate) -> Cost:
        model = model_of(found.config.model, candidate.shape)
        return dataclasses.replace(candidate.cost, parameters=costs.count(model, counted, latency.FORMULAS))

    return _with_costs(found, cost)


def _retimed(found: Found, seconds: costs.Seconds) -> list[Result]:
    """With other times of answers."""

    def cost(candidate: Candidate) -> Cost:
        return dataclasses.replace(candidate.cost, seconds=seconds(model_of(found.config.model, candidate.shape)))

    return _with_costs(found, cost)


def _with_costs(found: Found, cost: Callable[[Candidate], Cost]) -> list[Result]:
    new = {each.candidate.shape: cost(each.candidate) for each in found.whole}
    return agreement.rescored(found.whole, scored_by(found.config, cost(found.maximum)), new)


def _rejudged(found: Found, errors_of: Callable[[results.Line], Sequence[float]]) -> list[Result]:
    """With another error of the same trials."""
    changed = []
    for each in found.whole:
        line = found.notebook.line(found.config, each.trial)
        error = results.mean(errors_of(line)) if line is not None else math.nan
        changed.append(dataclasses.replace(each, error=error, score=found.score(each.candidate.cost, error)))
    return changed


# --- Do the measures agree? ------------------------------------------------------------------------------------------


def _correlations(found: Found, ranked: Sequence[Result]) -> list[dict[str, Any]]:
    """Spearman and Kendall of what a short training says with what a longer one says, or else with its end.

    Of each shape the learning rate counts that is best by the measure at hand.
    """
    config = found.config
    steps = config.surrogate.steps
    measures: dict[str, Callable[[results.Line], Sequence[float]]] = {}
    for kind in KINDS:
        for share in (1, 2, 4):
            measures[f"{kind} after {steps // share} steps"] = lambda line, kind=kind, share=share: results.errors(
                line, kind, 0, share
            )
    if config.surrogate.extrapolate_to:
        to = config.surrogate.extrapolate_to
        measures[f"mlm extrapolated to {to} steps"] = lambda line: results.errors(line, "extrapolated", to)
    if found.longer:
        target = _least(found, found.longer, lambda line: results.errors(line, "mlm"))
        name = f"mlm after {config.surrogate.longer_steps} steps"
    else:
        target = _least(found, found.whole, lambda line: results.errors(line, "mlm"))
        name = f"mlm after {steps} steps"
    rows = []
    for measure, errors_of in measures.items():
        rows.append(_correlation(measure, name, _least(found, found.whole, errors_of), target))
    if found.supernet is not None:
        rows.append(_correlation("weights of the supernet", name, found.supernet.errors, target))
    sizes = {each.candidate.shape: -float(each.candidate.cost.parameters) for each in ranked}
    rows.append(_correlation("parameters, more being better", name, sizes, target))
    flops = {each.candidate.shape: -float(each.candidate.cost.step_flops) for each in ranked}
    rows.append(_correlation("FLOP an update, more being better", name, flops, target))
    return [each for each in rows if each["spearman"] is not None and each["measure"] != name]


def _hosts(found: Found) -> list[dict[str, Any]]:
    """Whether a shape that is fast by the search's own latency is fast elsewhere, over the whole space."""
    times = {each.shape: each.cost.seconds for each in found.candidates}
    rows = []
    for host, seconds in latency.elsewhere(found.config).items():
        there = {shape: seconds(model_of(found.config.model, shape)) for shape in times}
        rows.append(_correlation(f"roofline of {host}", "latency of the search", there, times))
    return [each for each in rows if each["spearman"] is not None]


def _correlation(measure: str, name: str, mine: Mapping[Shape, float], target: Mapping[Shape, float]) -> dict[str, Any]:
    both = [shape for shape in target if shape in mine]
    spearman, kendall = agreement.rank_correlation([mine[s] for s in both], [target[s] for s in both])
    shapes = sum(math.isfinite(mine[s]) and math.isfinite(target[s]) for s in both)
    return {
        "measure": measure,
        "with": name,
        "shapes": shapes,
        "spearman": results.as_json(spearman),
        "kendall": results.as_json(kendall),
    }


def _least(
    found: Found, some: Iterable[Result], errors_of: Callable[[results.Line], Sequence[float]]
) -> dict[Shape, float]:
    """The least error of each shape over its learning rates."""
    least: dict[Shape, float] = {}
    for each in some:
        line = found.notebook.line(found.config, each.trial)
        error = results.mean(errors_of(line)) if line is not None else math.nan
        if math.isfinite(error):
            least[each.trial.shape] = min(error, least.get(each.trial.shape, math.inf))
    return least
