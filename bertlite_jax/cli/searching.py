"""The commands that train many models and pick one: a search for a shape, and Agora."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

import tyro
from tyro.conf import UseAppendAction, arg

from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import config_file, fields_given, value_of
from bertlite_jax.cli.tables import print_figures, print_rows
from bertlite_jax.cli.tasks import finetune_settings, with_task
from bertlite_jax.config import effects
from bertlite_jax.config.agora.settings import Agora, Loop
from bertlite_jax.config.distillation.settings import OF_WINNER, Distillation, taught
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.search.limit import with_limit
from bertlite_jax.config.search.settings import Method, Search, Shape
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """Searches a space of shapes for the one with the best score of parameters, latency and error.

    Each shape is trained for a few steps, and its error compared with that of the maximum point. If the work directory
    holds a part of the search already, no trial is repeated. With --then distill the winner becomes a model.
    """

    config: Annotated[Search, arg(name="")]
    workdir: str
    """Folder of the search: results.jsonl with a line for each trial, winner.json (a recipe for bertlite pretrain),
    front.csv, front.png, table.md, table.json."""
    latency: str = ""
    """Longest time that an answer of the winner may take, such as 5ms; sets method.most_seconds."""
    host: str = ""
    """Machine that answers: this, where the 8-bit file of each shape is timed, or a TPU slice such as v5e-16, whose
    roofline counts. Sets cost.host and, unless it is given, cost.latency."""
    then: Literal["nothing", "distill"] = "nothing"
    """What happens to the winner. distill: it learns from --teacher for run.steps, and becomes an 8-bit file, in a
    folder of the work directory that is named by its shape; answer.json there has its time and score."""
    teacher: UseAppendAction[tuple[str, ...]] = ()
    """For --then distill: a teacher, as for `bertlite distill`; may be given several times."""
    calibrate: tuple[str, ...] = ()
    """For --then distill: text files or folders to measure the 8-bit file with, as for `bertlite convert int8`."""
    distill: Distillation = OF_WINNER
    """For --then distill: what the winner learns, as for `bertlite distill`. Shapes of a space have other widths than
    the teacher, so nothing is taken from it unless distill.start says so."""
    dry_run: bool = False
    """Only show the space, what its shapes cost, and how long the search takes, by a few timed steps. Nothing is
    written."""
    overwrite: bool = False
    """Train all trials again, and what --then has made of the winner."""


def search(args: Sequence[str]) -> None:
    """Reads a search and its overrides from the command line, and goes on with what is missing of it."""
    config, rest, prog = config_file("search", args, Search)
    options = parse(Options, rest, prog, default=Options(config=config, workdir=tyro.MISSING))
    given = fields_given(rest, config)
    config = with_limit(options.config, options.latency, options.host, given)
    check_given(given, config.method)
    effects.check_effects(config, given, effects.SEARCH_NEEDS)
    job = args[0], options.workdir, options.dry_run, options.overwrite
    check_then(options, rest)
    if options.then == "nothing":
        from bertlite_jax.jobs.searching.search import search as find

        find(config, *job)
        return
    from bertlite_jax.jobs.winner import Then, find_and_distill

    teachers = dataclasses.replace(options.distill, teachers=options.teacher or options.distill.teachers)
    find_and_distill(config, Then(teachers, options.calibrate), *job)


def check_then(options: Options, rest: Sequence[str]) -> None:
    """Raises UserError for an option of --then that is missing, or that nothing reads."""
    student = taught(options.config, options.distill)
    learnt = sorted(field for field in fields_given(rest, student) if field.startswith("distill."))
    if options.then == "distill":
        for name in ("teacher", "calibrate"):
            if not getattr(options, name) and not (name == "teacher" and options.distill.teachers):
                what = {"teacher": "RUN, which the winner learns from", "calibrate": "TEXT, to measure the 8-bit file"}
                raise UserError(f"search: --then distill needs --{name} {what[name]}")
        effects.check_effects(student, learnt, effects.DISTILL_NEEDS)
        return
    idle = [effects.option(name) for name in ("teacher", "calibrate") if getattr(options, name)]
    idle += [effects.option(field) for field in learnt]
    if idle:
        raise UserError(f"search: {idle[0]} has no effect without --then distill")


_ONLY_FOR = {
    "refine": ("published",),
    "trials": ("random", "halving", "supernet"),
    **dict.fromkeys(("factor", "rounds"), ("halving",)),
    **dict.fromkeys(("sampled", "population", "generations"), ("supernet",)),
}
"""Field of `method` to the methods that read it."""


def check_given(given: Collection[str], method: Method) -> None:
    """Raises UserError for a field that the search itself sets in every trial, or that none of its methods reads."""
    set_by = {f"model.{field.name}": f"space.{field.name}" for field in dataclasses.fields(Shape)}
    set_by["optim.learning_rate"] = set_by["optim.reference_batch"] = "surrogate.learning_rates"
    for field in sorted(given):
        if field in set_by:
            raise UserError(
                f"config: {effects.option(field)} has no effect: the search chooses it; "
                f"{effects.option(set_by[field])} says from what"
            )
    for name, readers in _ONLY_FOR.items():
        changed = f"method.{name}" in given and getattr(method, name) != getattr(Method(), name)
        if changed and not {method.name, *method.others} & set(readers):
            raise UserError(
                f"config: {effects.option(f'method.{name}')} has no effect: neither method.name nor method.others is "
                f"{' or '.join(readers)}"
            )


@dataclasses.dataclass(frozen=True)
class AgoraOptions:
    """Fine-tunes in rounds: mistakes on the validation split, changed and labelled by a teacher, are trained on next.

    Each round trains a model for each set of hyperparameters, and then leaves out sets that do not show promise, until
    none is left. If the work directory holds a part of the loop already, no model is trained again.
    """

    config: Annotated[Finetune, arg(name="")]
    agora: Agora
    workdir: str
    """Folder of the loop: results.jsonl with a line for each model, history.jsonl with a line for each round, points/,
    best/ (the run of the best model, for predict, convert and report), summary.json, table.md."""
    init: str
    """The encoder that every model starts from: a run's work directory, a folder of transformers, one that
    `bertlite convert` wrote, a model of the hub (hf:OWNER/NAME), or reference-en, which comes with the package."""
    teacher: str
    """Work directory or folder of a model of the same task with the same labels, which labels the new points. It has to
    be right on more than two thirds of the validation examples."""
    task: str = ""
    """Name of the task, such as rte. Without it, the recipe's data.task."""
    data: str = ""
    """Folder with the task's files; or, without a task, a file of your own. Without it, the recipe's data.folder."""
    dry_run: bool = False
    """Only ask the teacher, and show how many models are trained and what they cost, by a few timed steps. Nothing is
    written."""
    overwrite: bool = False
    """Start from the beginning, and delete the loop that the work directory holds."""


SET_BY = {
    "optim.learning_rate": "learning_rates",
    "optim.weight_decay": "weight_decays",
    "run.warmup_fraction": "warmup_fractions",
    "optim.warmup_steps": "warmup_fractions",
    "data.batch_examples": "batches",
}
"""Fields of a recipe, and the settings of `Agora` whose values take their place."""


def agora(args: Sequence[str]) -> None:
    """Reads a recipe and its overrides from the command line, and goes on with what is missing of the loop."""
    named = value_of("--task", args)
    config, rest, prog = config_file("agora", args, Finetune, named)
    missing = tyro.MISSING
    usual = AgoraOptions(config=config, agora=Agora(), workdir=missing, init=missing, teacher=missing)
    options = parse(AgoraOptions, rest, prog, default=usual)
    given = fields_given(rest, config)
    recipe = with_task(options.config, given, named or options.task, options.data, "agora")
    if recipe.data.task.startswith("all-"):
        raise UserError(f"agora: --task {recipe.data.task} is a suite; name one of its tasks")
    for field in sorted(given & SET_BY.keys()):
        if getattr(options.agora, SET_BY[field]):
            tried = effects.option(f"agora.{SET_BY[field]}")
            raise UserError(f"agora: {effects.option(field)} has no effect: {tried} says what is tried; pass that")
    recipe, lines = finetune_settings(recipe, given)
    loop = Loop(recipe, options.agora, options.init, options.teacher)
    effects.check_effects(loop, fields_given(rest, loop), effects.AGORA_NEEDS)
    for line in lines:
        print(f"agora: {line}")
    from bertlite_jax.jobs.agora.agora import agora as run_loop

    where = options.teacher, options.workdir, options.init
    summary = run_loop(recipe, options.agora, *where, options.dry_run, options.overwrite)
    if options.dry_run:
        return
    table = summary.get("table", ())
    print_rows("rounds", [{name: "diverged" if each is None else each for name, each in row.items()} for row in table])
    print_figures("summary", summary)
    if "table" in summary:
        print(f"agora: all figures are in {pathlib.Path(options.workdir, 'summary.json')}")
