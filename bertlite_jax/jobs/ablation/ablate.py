"""`bertlite ablate`: trains a grid of recipes with several seeds, and compares them in one table.

Each run is a `bertlite pretrain` or `bertlite distill` in a process of its own, so that one that diverges, lacks memory
or is killed ends in a line of the table, and the others go on. Finished runs are read, not repeated: the same command
resumes where it stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bertlite_jax.config import schedule, sizes
from bertlite_jax.config.ablation.grid import Grid, Member
from bertlite_jax.config.ablation.members import check_member, members
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert import adoption, sources
from bertlite_jax.data.rows import source, stages
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import cpu, json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.host.places import check_on_disk
from bertlite_jax.jobs.ablation import children, pace, plan, recipes, turns
from bertlite_jax.jobs.pretraining.vocabulary import tokenizer_of
from bertlite_jax.jobs.runs import one_job, workdir
from bertlite_jax.report import terminal
from bertlite_jax.report.ablation import curves, figures, results, table
from bertlite_jax.report.run.metrics import clock_time

TABLE, FIGURES, CURVES, PACE, TASK = "table.md", "table.json", "curves.png", "pace.json", "task.py"
"""Files in the grid's folder, beside a folder for each member."""


def ablate(
    grid: Grid, where: str, folder: str, dry_run: bool = False, overwrite: bool = False, at_once: int = 1
) -> dict[str, Any]:
    """Trains what is missing of a grid, and writes its table.

    Args:
      grid: the base, its variants and the seeds.
      where: file that it comes from, for messages and the table.
      folder: gets a folder for each member, `table.md`, `table.json` and `curves.png`.
      dry_run: only show what would run and about how long it takes; nothing is written.
      overwrite: train all runs again, from the beginning.
      at_once: runs at the same time, each on its share of the cores.

    Returns:
      The content of `table.json`; after a signal also {"stopped": True}. {} for a dry run.

    Raises:
      UserError: anything that is wrong before the first run; or no run at all could be finished.
      Diverged: all runs did.
    """
    # --- Check everything that can be checked before the first run ---------------------------------------------------
    check_on_disk("workdir", folder)
    shares = _shares(at_once, grid)
    place = pathlib.Path(folder)
    if (place / workdir.CONFIG).is_file():
        raise UserError(f"ablate: {folder} holds a single run; a grid needs another --workdir")
    prepared = _prepared_all(members(grid, where))
    with contextlib.ExitStack() as until_the_end:
        if not dry_run:
            until_the_end.enter_context(one_job.alone_in(place, of_runs=True))
        stop = until_the_end.enter_context(children.stop_signals())

        # --- Equal wall-clock: the number of steps follows from the pace ------------------------------------------
        stored = place / PACE if grid.seconds and not dry_run else None
        if stored is not None and overwrite:
            stored.unlink(missing_ok=True)
        paces: dict[str, Any] = {}
        if grid.seconds or dry_run:
            paces = dict(_timed(prepared, stop, stored))
        if grid.seconds:
            prepared = [_with_steps(each, grid.seconds, paces[each.member.name], where) for each in prepared]
        runs = [run for seed in grid.seeds for each in prepared for run in _runs_of(each, seed, place, grid)]
        if not overwrite:
            _refuse_other_runs(runs)
        todo = [run for run in runs if overwrite or not _is_settled(run)]

        # --- The plan ------------------------------------------------------------------------------------------------
        if dry_run:
            planned = [_planned(each, paces[each.member.name], runs, todo) for each in prepared]
            plan.print_plan(where, planned, grid.seconds, terminal.open_console())
            return {}
        print(f"ablate: {len(prepared)} members, {len(runs)} runs, {len(todo)} to do; {place / TABLE}", flush=True)

        # --- The runs, a table after each -----------------------------------------------------------------------------
        _write_recipes(prepared, grid, place)
        if overwrite:
            for run in runs:
                children.forget(run.folder)
        for left, seconds in turns.take(todo, overwrite, stop, shares):
            _write_table(prepared, grid, place, where)
            if left and not stop.wanted:
                print(f"ablate: {left} to do, about {clock_time(left * seconds)}", flush=True)

        # --- The table -------------------------------------------------------------------------------------------
        content = _write_table(prepared, grid, place, where)
        table.print_table(_title(where), content["members"], content["notes"], terminal.open_console())
        if stop.wanted:
            print("ablate: stopped by a signal; the same command resumes", flush=True)
            return content | {"stopped": True}
        _check_any_finished(content, place)
        return content


def _shares(at_once: int, grid: Grid) -> list[frozenset[int]]:
    """The cores of runs that are under way at the same time."""
    if not 1 <= at_once <= cpu.cores():
        raise UserError(f"ablate: --at-once {at_once} must be from 1 to {cpu.cores()}, the cores of this process")
    if at_once > 1 and grid.seconds:
        raise UserError(
            "ablate: --at-once does not go with the grid's seconds, since runs slow each other down; leave it out, or "
            "give steps"
        )
    return cpu.shares(at_once) if at_once > 1 else [frozenset()]


# --- Before the first run ----------------------------------------------------------------------------------------


class Prepared(NamedTuple):
    """A member whose data has been opened once."""

    member: Member
    sized: Pretrain
    """Its config with the sizes that the recipe left open, as a work directory stores it."""
    vocabulary: str
    """Hash of its tokenizer."""
    corpora: dict[str, str]
    """Folder to hash of its content."""
    teachers: dict[str, str]
    """Folder to hash of its weights."""
    problem: str = ""
    """Why nobody knows how many steps it has, and so it is not run."""


def _prepared_all(found: Sequence[Member]) -> list[Prepared]:
    """Opens the data and the teachers of each member, and of members with the same ones once."""
    seen: set[Any] = set()
    digests: dict[str, str] = {}
    return [_prepared(member, seen, digests) for member in found]


def _prepared(member: Member, seen: set[Any], digests: dict[str, str]) -> Prepared:
    config = member.config
    with _naming(member):
        tokenizer = tokenizer_of(config)
        data = config.data, config.run.steps, *(getattr(config.run, each.schedule) for each in schedule.SCHEDULED)
        if data not in seen:
            stages.open_stages(config, lambda data: source.open_source(data, "train", 0, tokenizer))
            seen.add(data)
        sized = sizes.resolve_sizes(config, tokenizer.vocab_size)
        corpora = workdir.corpus_digests(config.data.corpus)
        return Prepared(member, sized, tokenizer.hash, corpora, _teachers_of(config, digests))


def _teachers_of(config: Pretrain, digests: dict[str, str]) -> dict[str, str]:
    """Folder of each teacher to the hash of its weights; those of earlier members are in `digests`."""
    places = config.distill.teachers if isinstance(config, Distill) else ()
    for place in places:
        if place not in digests:
            sources.check_there(place, "distill")
            with adoption.open_weights(place, "distill") as loaded:
                digests[place] = loaded.digest()
    return {place: digests[place] for place in places}


@contextlib.contextmanager
def _naming(member: Member) -> Iterator[None]:
    """What is refused inside is refused with the name of the member."""
    try:
        yield
    except UserError as error:
        raise UserError(f"ablate: {member.name}: {error}") from error


def _timed(
    prepared: Sequence[Prepared], stop: children.Stop, stored: pathlib.Path | None
) -> Iterator[tuple[str, list[pace.Pace] | pace.NoPace]]:
    """The pace of each member by name, or why there is none."""
    print("ablate: timing a few steps of each member, one after the other", flush=True)
    for each in prepared:
        try:
            yield each.member.name, pace.of_member(each.sized, stop, stored)
        except pace.NoPace as reason:
            yield each.member.name, reason


def _with_steps(each: Prepared, seconds: float, paces: list[pace.Pace] | pace.NoPace, where: str) -> Prepared:
    """The member with as many updates as fit into the seconds. One that cannot be timed is not run, and says why."""
    if isinstance(paces, pace.NoPace):
        return each._replace(problem=str(paces))
    with _naming(each.member):
        steps = pace.steps_within(seconds, each.sized, paces)
    member = dataclasses.replace(each.member, config=replaced(each.member.config, "run.steps", steps))
    check_member(member, where)
    return each._replace(member=member, sized=replaced(each.sized, "run.steps", steps))


# --- Runs ------------------------------------------------------------------------------------------------------------


def _runs_of(each: Prepared, seed: int, place: pathlib.Path, grid: Grid) -> Iterator[turns.Run]:
    """Pretraining with a seed and, with a task, fine-tuning after it."""
    name, of_member = f"{each.member.name}, seed {seed}", place / each.member.name
    folder, given = of_member / f"seed-{seed}", ["--run.seed", str(seed)]
    arguments = [each.sized.job, str(of_member / "recipe.py"), "--workdir", str(folder), *given]
    config = replaced(each.sized, "run.seed", seed)
    log = of_member / f"seed-{seed}.log"
    of = {"corpora": each.corpora, "teachers": each.teachers, "problem": each.problem}
    yield turns.Run(name, each.member.name, folder, log, arguments, None, config, **of)
    if grid.task is not None:
        tuned = of_member / f"seed-{seed}-task"
        arguments = ["finetune", str(place / TASK), "--workdir", str(tuned), *given, "--init", str(folder)]
        log = of_member / f"seed-{seed}-task.log"
        yield turns.Run(f"{name}, task", each.member.name, tuned, log, arguments, folder, None, **of)


def _is_settled(run: turns.Run) -> bool:
    """Whether it would end as it has ended: refused and killed runs are tried again, diverged ones are not."""
    return children.remembered(run.folder).status in (results.FINISHED, results.DIVERGED)


def _refuse_other_runs(runs: Sequence[turns.Run]) -> None:
    """Raises UserError if a folder holds a run of another config, other data or another teacher than the grid says."""
    for run in runs:
        if run.config is None or not (run.folder / workdir.CONFIG).is_file():
            continue
        if changed := workdir.changed_fields(run.folder, run.config):
            raise UserError(
                f"ablate: {run.folder} holds a run with another config ({'; '.join(changed)}); give the member another "
                "name, name another --workdir, or pass --overwrite to train the whole grid again"
            )
        workdir.refuse_other_corpora(run.folder, run.corpora)
        workdir.refuse_other_corpora(run.folder, run.teachers, "teachers")


def _write_recipes(prepared: Sequence[Prepared], grid: Grid, place: pathlib.Path) -> None:
    for each in prepared:
        name, config = each.member.name, each.member.config
        recipes.write(
            place / name / "recipe.py", config, f"Member {name} of a grid of runs, written by bertlite ablate."
        )
    if grid.task is not None:
        recipes.write(place / TASK, grid.task, "The task of a grid of runs, written by bertlite ablate.")


def _planned(each: Prepared, paces: Any, runs: Sequence[turns.Run], todo: Sequence[turns.Run]) -> plan.Planned:
    name = each.member.name
    count, left = (sum(run.member == name and run.config is not None for run in some) for some in (runs, todo))
    if isinstance(paces, pace.NoPace):
        return plan.Planned(name, count, left, each.sized, (), str(paces))
    return plan.Planned(name, count, left, each.sized, tuple(paces), "")


# --- The table -------------------------------------------------------------------------------------------------------

_SCORES: dict[Any, Any] = {"metric": str, ...: json_shapes.ANYTHING}


def _write_table(prepared: Sequence[Prepared], grid: Grid, place: pathlib.Path, where: str) -> dict[str, Any]:
    """Writes table.json, table.md and the curves of what is there so far; returns the content of table.json."""
    members = [_compared(each, grid, place) for each in prepared]
    content = {
        "grid": where,
        "budget": {"steps": grid.steps or None, "seconds": grid.seconds or None},
        "seeds": list(grid.seeds),
        "members": figures.rows(members),
        "notes": figures.notes(members, grid.seconds),
    }
    whole_files.write_json(place / FIGURES, content)
    whole_files.write_text(place / TABLE, table.markdown(_title(where), content["members"], content["notes"]))
    if picture := curves.draw(members):
        whole_files.write_bytes(place / CURVES, picture)
    return content


def _compared(each: Prepared, grid: Grid, place: pathlib.Path) -> figures.Compared:
    """A member with what its runs have left on the disk."""
    found = []
    for seed in grid.seeds:
        run, tuned = (place / each.member.name / f"seed-{seed}{end}" for end in ("", "-task"))
        ended = children.remembered(run)
        result = results.read(run, seed, ended.status, ended.line)
        if grid.task is not None and ended.status == results.FINISHED:
            of_task = children.remembered(tuned)
            if of_task.status == results.FINISHED:
                result = dataclasses.replace(result, score=_score(tuned))
            else:
                result = dataclasses.replace(result, line=f"task {of_task.status}: {of_task.line}")
        found.append(result)
    member, whole = each.member, not each.sized.run.eval_rows
    corpora = tuple(each.corpora[name] for name in stages.of_length(each.sized).corpus)
    return figures.Compared(member.name, member.reference, tuple(found), each.vocabulary, corpora, whole)


def _score(tuned: pathlib.Path) -> float:
    path = tuned / "summary.json"
    summary = json_files.read_object(path, "ablate")
    json_shapes.check(summary, _SCORES, str(path), "ablate")
    json_shapes.check(summary, {summary["metric"]: NUMBER}, str(path), "ablate")
    return summary[summary["metric"]]


def _title(where: str) -> str:
    return f"Ablation: {pathlib.Path(where).stem}"


def _check_any_finished(content: dict[str, Any], place: pathlib.Path) -> None:
    """Raises an error if no run was finished: diverged, if all were; otherwise the first line."""
    seeds = [(row["member"], seed) for row in content["members"] for seed in row["seeds"]]
    if any(seed["status"] == results.FINISHED for _, seed in seeds):
        return
    name, first = seeds[0]
    kind = Diverged if all(seed["status"] == results.DIVERGED for _, seed in seeds) else UserError
    raise kind(f"ablate: no run was finished ({place / TABLE}); {name}, seed {first['seed']}: {first['line']}")
