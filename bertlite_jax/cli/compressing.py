"""The commands that make trained models smaller."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import arg

from bertlite_jax.cli.job import wants_help
from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import fields_given
from bertlite_jax.cli.tables import print_figures, print_rows
from bertlite_jax.cli.tasks import finetune_settings
from bertlite_jax.config import files
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


def prune(args: Sequence[str]) -> None:
    """Prunes the best model of a fine-tuning run, which the first argument names."""
    if not wants_help(args) and (not args or args[0].startswith("-")):
        raise UserError("prune: the first argument is the work directory of a fine-tuning run")
    run, rest = ("RUN", ["--help"]) if wants_help(args) else (args[0], list(args[1:]))
    usual = Options(config=Finetune(), prune=Prune(), workdir=tyro.MISSING)
    parse(Options, rest, f"bertlite prune {run}", default=usual)  # A misspelt option is told first.
    from bertlite_jax.jobs.compressing.prune import prune as run_job
    from bertlite_jax.jobs.compressing.prune import recipe_of

    config = recipe_of(files.read_json(pathlib.Path(run) / "config.json", Finetuned, "prune"))
    options = parse(Options, rest, f"bertlite prune {run}", default=dataclasses.replace(usual, config=config))
    recipe, lines = finetune_settings(options.config, fields_given(rest, config))
    for line in lines:
        print(f"prune: {line}")
    summary = run_job(recipe, options.prune, run, options.workdir, options.overwrite)
    if "stopped" in summary:
        print_figures("summary", summary)
        return
    print_rows("models, the whole one first", summary["models"])
    print_figures("measured on", {name: value for name, value in summary.items() if name != "models"})
    print(f"prune: all figures are in {pathlib.Path(options.workdir, 'summary.json')}")
