"""The commands that make trained models smaller."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import arg

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
    """Takes layers, heads and feed-forward neurons out of a fine-tuned model until it is as fast as asked for.

    Those go whose absence changes the loss least for the time that they take on this machine. What is left is
    fine-tuned on the same task: the other options are those of the run's own fine-tuning, which they replace.
    """

    config: Annotated[Finetune, arg(name="")]
    prune: Annotated[Prune, arg(name="")]
    workdir: str
    """Folder of the result: for a speed-up of 2, 2x is the fine-tuning run of what is left. What is there already is
    not made again."""
    overwrite: bool = False
    """Make everything again."""


def prune(args: Sequence[str]) -> None:
    """Prunes the best model of a fine-tuning run, which the first argument names."""
    wants_help = {"-h", "--help"} & set(args)
    if not wants_help and (not args or args[0].startswith("-")):
        raise UserError("prune: the first argument is the work directory of a fine-tuning run")
    run, rest = ("RUN", ["--help"]) if wants_help else (args[0], list(args[1:]))
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
    print_rows("models", summary.get("points", ()))
    print_figures("the whole model", {name: value for name, value in summary.items() if name != "points"})
