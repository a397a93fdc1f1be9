"""`bertlite search`: which shape? Shapes of a space are trained for a few steps, and scored with what they cost.

Written to be read from top to bottom. Every trial is a line of `results.jsonl` as soon as it ends, found again by all
that it follows from, so that the same command goes on wherever it was stopped or killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from bertlite_jax.config import files, sizes
from bertlite_jax.config.search.checks import check_search
from bertlite_jax.config.search.settings import MEASURED, MethodName, Search, Shape, Surrogate, winner_of
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import whole_files
from bertlite_jax.host.places import check_on_disk
from bertlite_jax.jobs.pretraining.vocabulary import tokenizer_of
from bertlite_jax.jobs.runs import one_job, several, signals, workdir
from bertlite_jax.jobs.searching import (
    figures,
    latency,
    notebook,
    picture,
    plan,
    results,
    supernet,
    table,
    teacher,
    training,
)
from bertlite_jax.jobs.searching.figures import Found
from bertlite_jax.jobs.searching.notebook import Notebook
from bertlite_jax.jobs.searching.plan import Group
from bertlite_jax.jobs.searching.rows import open_rows
from bertlite_jax.jobs.searching.supernet import Supernet
from bertlite_jax.jobs.searching.training import Setup
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report import terminal
from bertlite_jax.report.run.metrics import clock_time
from bertlite_jax.search import costs, published, space, strategies
from bertlite_jax.search.candidates import Candidate, check_maximum, every, fast_enough
from bertlite_jax.search.strategies import Choice
from bertlite_jax.search.trials import Evaluation, Result, tried

CONFIG, WINNER, FRONT, TABLE, FIGURES = "search.json", "winner.json", "front.csv", "table.md", "table.json"
"""Files in the folder of a search, beside those of `results`, `latency` and `teacher`."""


def search(config: Search, where: str, folder: str, dry_run: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Searches a space, and writes the recipe of the best shape.

    Args:
      config: space, trials, costs and method; its `OPEN_SIZES` may be 0.
      where: file that it comes from, for the table.
      folder: gets `results.jsonl`, `winner.json`, `front.csv`, `table.md` and `table.json`.
      dry_run: only show the space, its costs and about how long the search takes; nothing is written.
      overwrite: train all trials again.

    Returns:
      The content of `table.json`; {"stopped": True} after a signal; {} for a dry run.

    Raises:
      UserError: anything that is wrong before the first trial; or no trial has an error.
      Diverged: all of them did, or the maximum point.
    """
    # --- Check everything that can be checked without a shape's cost -------------------------------------------------
    check_on_disk("workdir", folder)
    place = pathlib.Path(folder)
    check_search(config)
    several.refuse_other_content(place, CONFIG, "search", "search", early=(results.FILE,))
    tokenizer = tokenizer_of(config)
    config = sizes_of(config, tokenizer)
    if not config.data.corpus:
        raise UserError("config: data.corpus is empty; pass --data.corpus DIR, a folder that `bertlite corpus` wrote")
    shapes = shapes_of(config)
    known_models = {} if dry_run else published_of(config, shapes)
    latency.elsewhere(config)  # Names of slices are read before anything is trained.
    with contextlib.ExitStack() as until_the_end:
        until_the_end.enter_context(contextlib.suppress(training.Stopped))
        if not dry_run:
            until_the_end.enter_context(one_job.alone_in(place, of_runs=True))
        stop_wanted = until_the_end.enter_context(signals.stop_signals())

        # --- What shapes cost, and which may be chosen ---------------------------------------------------------------
        rows = open_rows(config, tokenizer)
        if config.cost.latency in MEASURED and not dry_run and not (place / CONFIG).is_file():
            _open_folder(place, config)  # Minutes of timing are kept, whatever is wrong after them.
        everything = [*shapes, space.resolved(config.maximum)]
        beside = list(known_models.values())
        seconds_of = latency.seconds_of(config, everything, place, stop_wanted, not dry_run, beside)
        found = costs.candidates(shapes, config, latency.FORMULAS, seconds_of)
        maximum = costs.candidate(config.maximum, config, latency.FORMULAS, seconds_of)
        check_maximum(found, maximum)
        allowed = fast_enough(found, config.method.most_seconds)
        every(allowed, config.method.stride)
        if not dry_run:
            if overwrite:
                _remove_found(place)
            _open_folder(place, config)
            latency.keep_machine(config.cost, place)
        near = neighbours_of(config, shapes)
        score = figures.scored_by(config, maximum.cost)

        # --- What has been tried already, and what is left -----------------------------------------------------------
        compute = choose_precision.resolve(config.model.compute, jax.default_backend())
        corpora = workdir.corpus_digests(config.data.corpus)
        around = notebook.surroundings(config, compute, tokenizer.hash, corpora)
        lines = [] if overwrite else results.read(place / results.FILE)
        known = results.by_key(line for line in lines if line.status != results.NO_MEMORY)  # Perhaps there is now.
        book = Notebook(place / results.FILE, known, around, notebook.teacher_key(config, around))
        setup = Setup(config, compute, rows, (), stop_wanted)
        todo = [group for group in plan.groups(found, near, config, score) if _is_left(group, config, book)]
        if dry_run:
            if teacher.is_wanted(config) and (overwrite or not teacher.is_kept(place / teacher.FILE, book.teacher)):
                todo.append(Group(maximum, teacher.steps_of(config)))
            plan.print_plan(where, setup, found, maximum, todo, terminal.open_console())
            return {}
        print(
            f"search: {len(found):,} shapes, about {len(todo):,} trainings to do; {book.path} gets a line for each",
            flush=True,
        )

        # --- Trials, as the methods ask for them ---------------------------------------------------------------------
        about = [_about(config, maximum)]
        if teacher.is_wanted(config):
            point = teacher.open_teacher(setup, place / teacher.FILE, book.teacher)
            setup = setup._replace(teacher=jax.device_put(point.seen))
            about.append(
                f"The maximum point has an MLM loss of {point.loss:.4f} on the held-out rows, at its best learning "
                f"rate, {point.learning_rate:g}."
            )
        settings = config.surrogate
        error = notebook.open_errors(setup, book, _progress(todo, found, settings))
        nets: list[Supernet] = []
        inherited = supernet.open_supernet(setup, place, book, nets)
        evaluation = Evaluation(error, score, settings.learning_rates, settings.steps, inherited)
        picks = strategies.compared(found, near, evaluation, config.method)
        _check_any(picks[config.method.name], book, config)
        longer = _longer(found, picks, evaluation, config)

        # --- The result ----------------------------------------------------------------------------------------------
        published = {
            name: costs.candidate(shape, config, latency.FORMULAS, seconds_of) for name, shape in known_models.items()
        }
        net = nets[0] if nets else None
        content = figures.content(Found(config, found, maximum, book, picks, longer, net, published))
        _write(place, config, content, where, about)
        table.print_best(f"Search: {pathlib.Path(where).stem}", content, terminal.open_console())
        print(f"search: {content['winner']['name']} wins; bertlite pretrain {place / WINNER} trains it", flush=True)
        return content
    print("search: stopped by a signal; the same command resumes", flush=True)
    return {"stopped": True}


# --- The space -------------------------------------------------------------------------------------------------------


def sizes_of(config: Search, tokenizer: Tokenizer) -> Search:
    """The config with the sizes that its recipe left open, checked again."""
    resolved = sizes.resolve_sizes(config, tokenizer.vocab_size)
    assert isinstance(resolved, Search)
    check_search(resolved)
    return resolved


def shapes_of(config: Search) -> list[Shape]:
    """The shapes that may be chosen.

    Raises:
      UserError: there is none, or one cannot be built.
    """
    shapes = space.points(config.space)
    if config.method.head_size:
        shapes = space.distinct(shapes, config.method.head_size)
    if not shapes:
        raise UserError("config: space has no shape whose heads divide its width")
    space.check_shapes(config.model, shapes)
    return shapes


def neighbours_of(config: Search, shapes: Sequence[Shape]) -> Callable[[Shape], list[Shape]]:
    """Returns the neighbours of a shape; where only one number of heads is tried, with that number."""
    near = functools.partial(space.neighbours, config.space)
    if not config.method.head_size:
        return near
    chosen = {dataclasses.replace(shape, num_heads=0): shape for shape in shapes}

    def near_chosen(shape: Shape) -> list[Shape]:
        found = {chosen[dataclasses.replace(other, num_heads=0)] for other in near(shape)}
        return sorted(found - {shape})

    return near_chosen


def published_of(config: Search, shapes: Sequence[Shape]) -> dict[str, Shape]:
    """The published models that answer about as fast as the shapes of the space."""
    flops = functools.partial(costs.encoder_flops, length=config.cost.length, formulas=latency.FORMULAS)
    return published.comparable(config.model, config.cost.published_divisor, shapes, flops)


# --- The folder ------------------------------------------------------------------------------------------------------


def _remove_found(place: pathlib.Path) -> None:
    """Removes what an earlier search has found, but for times of answers."""
    of_parts = (results.FILE, teacher.FILE, supernet.WEIGHTS, supernet.ERRORS, picture.FILE)
    for name in (*of_parts, WINNER, FRONT, TABLE, FIGURES):
        (place / name).unlink(missing_ok=True)


def _open_folder(place: pathlib.Path, config: Search) -> None:
    whole_files.remove_leftovers(place)
    whole_files.write_text(place / CONFIG, files.to_json(config) + "\n")


def _write(place: pathlib.Path, config: Search, content: dict[str, Any], where: str, about: Sequence[str]) -> None:
    best = content["winner"]
    shape = Shape(**{axis: best[axis] for axis in space.AXES})
    recipe = winner_of(config, shape, best["learning_rate"])
    whole_files.write_json(place / FIGURES, content)
    whole_files.write_text(place / FRONT, table.front_csv(content))
    whole_files.write_text(place / TABLE, table.markdown(f"Search: {pathlib.Path(where).stem}", content, config, about))
    whole_files.write_bytes(place / picture.FILE, picture.draw(content, config.surrogate.kind))
    whole_files.write_text(place / WINNER, files.to_json(recipe) + "\n")


def _about(config: Search, maximum: Candidate) -> str:
    settings, cost = config.surrogate, config.cost
    shared = "; layers that share all parameters have the residual scale 1/N" if "all" in config.space.share else ""
    return (
        f"Each shape was trained for {settings.steps} steps of {config.data.batch_rows} rows of {config.data.length} "
        f"tokens. Learning rates: {_listed(settings.learning_rates)}, of which the best counts. Seeds: "
        f"{_listed(settings.seeds)}. The error is {settings.kind}, in nats, on {config.run.eval_rows or 'all'} "
        f"held-out rows under the one evaluation masking. Latency: {cost.rows} x {cost.length} tokens, {cost.latency}, "
        f"host {cost.host}. The maximum point is {space.describe(maximum.shape)} with {maximum.cost.parameters:,} "
        f"parameters{shared}."
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(map(str, values))


# --- Trials ----------------------------------------------------------------------------------------------------------


def _is_left(group: Group, config: Search, book: Notebook) -> bool:
    trials = notebook.trials_of(config, group.candidate.shape, group.steps)
    return any(book.line(config, trial) is None for trial in trials)


def _longer(
    found: Sequence[Candidate],
    picks: Mapping[MethodName, Choice],
    evaluation: Evaluation,
    config: Search,
) -> list[Result]:
    """The longer trainings, with which the short ones are compared."""
    steps = config.surrogate.longer_steps
    if not steps:
        return []
    chosen = [pick for pick, _ in picks.values() if pick is not None]
    shapes = dict.fromkeys([*chosen, *plan.longer_shapes(found, config)])
    return [result for each in shapes for result in tried(each, evaluation, steps)]


def _progress(
    todo: Sequence[Group], found: Sequence[Candidate], settings: Surrogate
) -> Callable[[Shape, int, list[results.Line], float], None]:
    """Returns what prints a line for each group of trials, with the time that is left by the planned FLOPs."""
    flops_of = {each.shape: each.cost.step_flops for each in found}
    planned, begin = sum(group.flops for group in todo), time.monotonic()
    done, count = 0, 0

    def ended(shape: Shape, steps: int, lines: list[results.Line], seconds: float) -> None:
        nonlocal done, count
        done, count = done + flops_of[shape] * steps, count + 1
        shown = ", ".join(
            f"{results.error(line, settings):.4f}" if line.status == results.DONE else line.status for line in lines
        )
        left = max(0.0, planned / done - 1) * (time.monotonic() - begin) if done else 0.0
        print(
            f"search: {count} of about {max(count, len(todo))}: {space.describe(shape)}, {steps} steps: {shown}; "
            f"{seconds:,.1f} s, about {clock_time(left)} left",
            flush=True,
        )

    return ended


def _check_any(choice: Choice, book: Notebook, config: Search) -> None:
    """Raises an error if no trial of the search's own method can be chosen: diverged, if all of them have."""
    pick, tried_ones = choice
    if pick is not None and any(each.candidate == pick and not math.isnan(each.score) for each in tried_ones):
        return
    lines = [line for each in tried_ones if (line := book.line(config, each.trial)) is not None]
    failed = [line for line in lines if line.steps == config.surrogate.steps] or lines
    if pick is None and config.method.name == "supernet":
        raise UserError(
            "search: no shape has an error with the weights of the supernet: it diverged, or method.trials (now "
            f"{config.method.trials}) leaves it no step; lower surrogate.learning_rates, or raise method.trials"
        )
    if not failed or any(line.status == results.DONE for line in failed):  # Then halving ended before the last round.
        raise UserError(
            f"search: {config.method.name} has too little compute for a trial of {config.surrogate.steps} steps; raise "
            f"method.trials (now {config.method.trials})"
        )
    kind = Diverged if all(line.status == results.DIVERGED for line in failed) else UserError
    first = failed[0]
    raise kind(
        f"search: no trial has an error ({book.path}); {space.describe(first.trial.shape)}, learning rate "
        f"{first.learning_rate:g}: {first.status}: {first.reason}"
    )
