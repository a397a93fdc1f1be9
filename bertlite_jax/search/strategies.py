"""How shapes are picked for trials. All are pure functions of candidates in the order of size and of an `Evaluation`.

`tried_at_strides` with the stride 1 is exact enumeration. What the paper proves of it, an approximation in polynomial
time, needs a strongly convex loss and a compact space of weights; no transformer has the first, so nothing of the kind
is claimed here.

Sources: de Wynter 2020 (arXiv 2010.08512) and de Wynter and Perry 2020 (arXiv 2010.10499), whose code was never
released; the order of the loops is from descriptions by others. Li and Talwalkar 2019 (arXiv 1902.07638) on random
search; Jamieson and Talwalkar 2016 (arXiv 1502.07943) on successive halving.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from bertlite_jax.config.search.settings import Method, MethodName, Shape
from bertlite_jax.search import evolution
from bertlite_jax.search.candidates import Candidate, every, fast_enough
from bertlite_jax.search.trials import Evaluation, Result, ranking, spent, tried, winner

UNTRIED = ("ranking", "supernet")
"""Methods that choose without a trial of their choice."""
Choice = tuple[Candidate | None, list[Result]]
"""What a method chose, and all that it tried. None: no trial with all steps has a score, because all of them diverged
or the budget is too small for one."""


def compared(
    candidates: Sequence[Candidate],
    neighbours: Callable[[Shape], Sequence[Shape]],
    evaluation: Evaluation,
    method: Method,
) -> dict[MethodName, Choice]:
    """What each method of the settings chooses, the search's own first; what those of `UNTRIED` choose is tried too.

    Without `method.trials` the others may spend what the published search has spent, with refinement.

    Args:
      candidates: the whole space, in the order of size.
      neighbours: of a shape.
      evaluation: error and score.
      method: with its settings.

    Raises:
      UserError: no candidate is fast enough, or the stride is too long.
    """
    names: tuple[MethodName, ...] = (method.name, *method.others)
    choices: dict[MethodName, Choice] = {}
    budget = 0.0
    for name in sorted(names, key=lambda name: name != "published"):
        pick, results = searched(candidates, neighbours, evaluation, dataclasses.replace(method, name=name), budget)
        if name == "published" and not method.trials:
            budget = spent(results)
        if name in UNTRIED and pick is not None:
            results = tried(pick, evaluation)
        choices[name] = pick, results
    return {name: choices[name] for name in names}


def searched(
    candidates: Sequence[Candidate],
    neighbours: Callable[[Shape], Sequence[Shape]],
    evaluation: Evaluation,
    method: Method,
    budget: float = 0.0,
) -> Choice:
    """What one method chooses of the candidates that are fast enough.

    Args:
      candidates: the whole space, in the order of size.
      neighbours: of a shape.
      evaluation: error and score.
      method: with its settings; the other methods that it names do not matter.
      budget: for random search, halving and the supernet, as `trials.spent` counts; 0: what `method` says.

    Raises:
      UserError: no candidate is fast enough, or the stride is too long.
    """
    allowed = fast_enough(candidates, method.most_seconds)
    if method.name == "ranking":
        return largest(allowed), []
    budget = budget or _budget(allowed, evaluation, method)
    if method.name == "published":
        results = tried_at_strides(allowed, evaluation, method.stride, method.offset)
        results = refined(results, allowed, neighbours, evaluation) if method.refine else results
    elif method.name == "random":
        results = random_search(allowed, evaluation, budget, method.seed)
    elif method.name == "supernet":
        return of_supernet(allowed, neighbours, evaluation, method, budget), []
    else:
        results = successive_halving(allowed, evaluation, budget, method.seed, method.factor, method.rounds)
    best = winner(each for each in results if each.trial.steps == evaluation.steps)
    return (best.candidate if best else None), results


# --- As published ----------------------------------------------------------------------------------------------------


def tried_at_strides(
    candidates: Sequence[Candidate], evaluation: Evaluation, stride: int = 1, offset: int = 0
) -> list[Result]:
    """Every `stride`-th candidate with every learning rate.

    The paper goes over learning rates first; here the rates of a shape follow one another, so that each shape is
    compiled once. The result is the same.

    Args:
      candidates: in the order of size.
      evaluation: error and score.
      stride: ε; 1 tries all.
      offset: place of the first.
    """
    return [result for each in every(candidates, stride, offset) for result in tried(each, evaluation)]


def refined(
    results: Sequence[Result],
    candidates: Sequence[Candidate],
    neighbours: Callable[[Shape], Sequence[Shape]],
    evaluation: Evaluation,
) -> list[Result]:
    """What was tried, and then the neighbours of the best, and theirs, until none is better.

    Args:
      results: of a coarser search.
      candidates: all that may be chosen; neighbours that are not among them are left out.
      neighbours: of a shape.
      evaluation: the same error and score as of the results.
    """
    allowed = {each.shape: each for each in candidates}
    seen = {each.candidate.shape for each in results}
    results, best = list(results), winner(results)
    while best is not None:
        near = [shape for shape in neighbours(best.candidate.shape) if shape in allowed and shape not in seen]
        for shape in near:
            results += tried(allowed[shape], evaluation)
        seen.update(near)
        before, best = best, winner(results)
        if best is before:
            break
    return results


# --- At equal compute ------------------------------------------------------------------------------------------------


def random_search(candidates: Sequence[Candidate], evaluation: Evaluation, budget: float, seed: int) -> list[Result]:
    """Candidates in a random order, as long as the next one's trials fit into the budget.

    Args:
      candidates: to draw from, without replacement.
      evaluation: error and score.
      budget: as `trials.spent` counts.
      seed: of the order.
    """
    return _tried_in_order(_shuffled(candidates, seed), evaluation, evaluation.steps, budget)


def successive_halving(
    candidates: Sequence[Candidate], evaluation: Evaluation, budget: float, seed: int, factor: int = 2, rounds: int = 3
) -> list[Result]:
    """Many candidates with few steps; in each round the best ones again, with `factor` times the steps.

    Each round has an equal share of the compute, with what earlier ones left over: where all shapes cost the same, it
    has 1 / `factor` of the candidates of the round before. The last round has the steps of the evaluation, and its
    results come last. Each trains anew, because learning rates follow a schedule over the steps of a trial.

    Args:
      candidates: to draw from, without replacement.
      evaluation: error and score.
      budget: as `trials.spent` counts.
      seed: of the draw.
      factor: by which a round has more steps.
      rounds: number of rounds.
    """
    order, results = _shuffled(candidates, seed), []
    for left in reversed(range(rounds)):
        steps = max(1, evaluation.steps // factor**left)
        latest = _tried_in_order(order, evaluation, steps, (budget - spent(results)) / (left + 1))
        results += latest
        order = list(dict.fromkeys(result.candidate for result in ranking(latest)))
    return results


def of_supernet(
    candidates: Sequence[Candidate],
    neighbours: Callable[[Shape], Sequence[Shape]],
    evaluation: Evaluation,
    method: Method,
    budget: float,
) -> Candidate | None:
    """One training whose weights all candidates share, and then evolution over what they are worth with them.

    Args:
      candidates: to choose from.
      neighbours: of a shape.
      evaluation: score, and the error with inherited weights.
      method: with the settings of evolution.
      budget: as `trials.spent` counts.
    """
    assert evaluation.inherited is not None
    error = evaluation.inherited(candidates, budget)
    how = method.population, method.generations, method.seed
    return evolution.evolved(candidates, neighbours, error, evaluation.score, *how)


def largest(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the most parameters, without any trial: what every other method has to beat.

    Source: Serianni and Kalita 2023 (arXiv 2306.00288), where no training-free measure of 500 small BERTs ranks them
    much better than their number of parameters does.
    """
    return max(candidates, key=lambda each: (each.cost.parameters, each.cost.seconds, each.shape))


def _shuffled(candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    return random.Random(seed).sample(list(candidates), len(candidates))


def _tried_in_order(order: Sequence[Candidate], evaluation: Evaluation, steps: int, budget: float) -> list[Result]:
    """Ends at the first candidate that does not fit: going on with cheaper ones would prefer small shapes."""
    results = []
    for candidate in order:
        budget -= _compute(candidate, evaluation, steps)
        if budget < 0:
            break
        results += tried(candidate, evaluation, steps)
    return results


def _budget(allowed: Sequence[Candidate], evaluation: Evaluation, method: Method) -> float:
    """`method.trials` of average cost; without it those that the published search begins with."""
    if method.trials:
        return method.trials * sum(_compute(each, evaluation, evaluation.steps) for each in allowed) / len(allowed)
    return sum(_compute(each, evaluation, evaluation.steps) for each in every(allowed, method.stride, method.offset))


def _compute(candidate: Candidate, evaluation: Evaluation, steps: int) -> int:
    """Of its trials with all learning rates."""
    return candidate.cost.step_flops * steps * len(evaluation.learning_rates)
