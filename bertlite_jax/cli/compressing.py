"""The commands that make trained models smaller."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro.conf import arg

from bertlite_jax.cli.job import wants_help
from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import fields_given
from bertlite_jax.cli.tables import print_figures, print_rows
from bertlite_jax.cli.tasks import finetune_settings
from bertlite_jax.config import files
from bertlite_jax.config.compression.compress import Compress
from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.config.finetune import Finetune, Finetuned
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """Makes a fine-tuned model faster: takes layers, attention heads and feed-forward neurons out of it for good.

    What goes is what the loss depends on least for the time that it takes on this machine. What is left is fine-tuned
    on the same task, with the recipe of the run; the options of fine-tuning change that recipe.
    """

    config: Annotated[Finetune, arg(name="")]
    prune: Annotated[Prune, arg(name="")]
    workdir: str
    """Folder of the results. For --speed-up 2 it gets 2x, the fine-tuning run of what is left. Results that are there
    already are kept, so the same command resumes."""
    overwrite: bool = False
    """Delete the models that the folder holds, for whichever speed-ups, and start from the beginning."""


@dataclasses.dataclass(frozen=True)
class FamilyOptions:
    """Makes a family of smaller models of a fine-tuned one, from a little faster to many times, and measures them.

    For each of --points layers of the teacher are left out, heads and neurons are pruned, and weights are rounded to
    integers; each time what is left is trained with the teacher's answers, by the recipe of the run, which the options
    of fine-tuning change. Every model gets a folder that is ready to be handed over.
    """

    config: Annotated[Finetune, arg(name="")]
    compress: Annotated[Compress, arg(name="")]
    workdir: str
    """Folder of the family: points with a folder for each model, students with their trainings, summary.json, table.md,
    family.png. Finished models are kept, so the same command resumes."""
    dry_run: bool = False
    """Only show the models and about how long their trainings take. Nothing is written."""
    overwrite: bool = False
    """Delete the family that the folder holds, and start from the beginning."""


def prune(args: Sequence[str]) -> None:
    """Prunes the best model of a fine-tuning run, which the first argument names."""

    def recipe_of(config: Finetuned, run: str) -> Finetune:
        from bertlite_jax.jobs.compressing.prune import recipe_of

        del run
        return recipe_of(config)

    usual = Options(config=Finetune(), prune=Prune(), workdir=tyro.MISSING)
    options, recipe, run = _read("prune", args, usual, recipe_of)
    from bertlite_jax.jobs.compressing.prune import prune as run_job

    summary = run_job(recipe, options.prune, run, options.workdir, options.overwrite)
    _show(summary, "models, the whole one first")
    if "stopped" not in summary:
        print(f"prune: all figures are in {pathlib.Path(options.workdir, 'summary.json')}")


def compress(args: Sequence[str]) -> None:
    """Compresses the best model of a fine-tuning run, which the first argument names."""

    def recipe_of(config: Finetuned, run: str) -> Finetune:
        from bertlite_jax.jobs.compressing.compress import recipe_of_students

        return recipe_of_students(config, run)

    usual = FamilyOptions(config=Finetune(), compress=Compress(), workdir=tyro.MISSING)
    options, recipe, run = _read("compress", args, usual, recipe_of)
    from bertlite_jax.jobs.compressing.compress import compress as run_job

    summary = run_job(recipe, options.compress, run, options.workdir, options.dry_run, options.overwrite)
    if summary:
        _show(summary, "models, the teacher first")
    if "models" in summary:
        print(f"compress: all figures are in {pathlib.Path(options.workdir, 'summary.json')}, the table in table.md")


O = TypeVar("O", Options, FamilyOptions)


def _read(
    job: str, args: Sequence[str], usual: O, recipe_of: Callable[[Finetuned, str], Finetune]
) -> tuple[O, Finetune, str]:
    """The options of a job whose first argument is a fine-tuning run, the recipe, and the run.

    Args:
      job: its name.
      args: what follows it.
      usual: the options where nothing is typed.
      recipe_of: makes the recipe that the options change, from the run's config and its folder.

    Raises:
      UserError: no run is named, it has no config, or an option cannot be used.
    """
    if not wants_help(args) and (not args or args[0].startswith("-")):
        raise UserError(f"{job}: the first argument is the work directory of a fine-tuning run")
    # Configs of students hold the name, so one with a slash at its end would be another teacher.
    run, rest = ("RUN", ["--help"]) if wants_help(args) else (str(pathlib.Path(args[0])), list(args[1:]))
    parse(type(usual), rest, f"bertlite {job} {run}", default=usual)  # A misspelt option is told first.
    config = recipe_of(files.read_json(pathlib.Path(run) / "config.json", Finetuned, job), run)
    options = parse(type(usual), rest, f"bertlite {job} {run}", default=dataclasses.replace(usual, config=config))
    recipe, lines = finetune_settings(options.config, fields_given(rest, config))
    for line in lines:
        print(f"{job}: {line}")
    return options, recipe, run


def _show(summary: dict[str, Any], title: str) -> None:
    """Prints the models that were measured and on what; of a run that a signal stopped, what it says."""
    if "stopped" in summary:
        print_figures("summary", summary)
        return
    print_rows(title, summary["models"])
    print_figures("measured on", {name: value for name, value in summary.items() if name != "models"})
