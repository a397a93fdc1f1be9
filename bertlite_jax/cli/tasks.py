"""The commands around tasks: finetune, predict, embed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from bertlite_jax.cli.recipe import config_file, value_of
from bertlite_jax.cli.tables import print_figures, print_rows
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.errors import UserError, fields_close_to

_Run = Annotated[Positional[str], arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains a task model on a pretrained encoder, or goes on with the run in the work directory."""

    config: Annotated[Finetune, arg(name="")]
    workdir: str
    """Folder of the run. One that holds the same run already is gone on with."""
    init: str
    """The encoder: a run's work directory, a folder of transformers, or one that convert.py wrote."""
    task: str = ""
    """Name of the task, such as sst2, or a suite: all-glue, all-superglue; by default the recipe's data.task. A recipe
    may have other settings for each task."""
    data: str = ""
    """Folder with the task's files, or without a task a CSV, TSV or JSONL file; by default the recipe's data.folder."""
    seeds: int = 1
    """Train so many times, with run.seed and those that follow it; reports median, least and greatest."""
    sweep: bool = False
    """Train at each of --sweep-rates and --sweep-batches, and report all and the best; goes on where it stopped."""
    sweep_rates: tuple[float, ...] = (5e-5, 4e-5, 3e-5, 2e-5)
    """Learning rates of the sweep."""
    sweep_batches: tuple[int, ...] = (16, 32)
    """Examples in a batch of the sweep."""
    probe: Literal["none", "layers"] = "none"
    """layers: leave the encoder as it is, and train a head on the states of each of its layers, to see what it knows
    where."""
    overwrite: bool = False
    """Start anew where the work directory holds a run."""


def finetune(args: Sequence[str]) -> None:
    """Reads a recipe and overrides, and runs it once, with several seeds, over a grid, layer by layer, or a suite."""
    options, config = _recipe(args, value_of("--task", args))
    if options.seeds < 1:
        raise UserError(f"finetune: --seeds {options.seeds} must be at least 1")
    if config.data.task.startswith("all-"):
        _suite(args, options, config.data.task)
        return
    from bertlite_jax.jobs.finetuning import seeds_and_sweeps
    from bertlite_jax.jobs.finetuning.finetune import finetune as run_once

    where = options.workdir, options.init
    if options.probe == "layers":
        from bertlite_jax.jobs.finetuning import layer_probe

        if options.sweep or options.seeds > 1:
            raise UserError("finetune: --probe goes without --seeds and --sweep")
        summary = layer_probe.probe_layers(config, *where, options.overwrite)
        print_rows("layers", summary["layers"])
    elif options.sweep:
        rates, batches = options.sweep_rates, options.sweep_batches
        summary = seeds_and_sweeps.finetune_sweep(config, *where, rates, batches, options.seeds, options.overwrite)
        print_rows("points of the sweep", summary.get("points", ()))
    elif options.seeds > 1:
        summary = seeds_and_sweeps.finetune_seeds(config, *where, options.seeds, options.overwrite)
    else:
        summary = run_once(config, *where, options.overwrite)
    print_figures("summary", summary)


def _recipe(args: Sequence[str], task: str) -> tuple[Options, Finetune]:
    """What the command line says, and the recipe with its overrides for a task."""
    config, rest, prog = config_file("finetune", args, Finetune, task)
    missing = tyro.MISSING
    default = Options(config=config, workdir=missing, init=missing)
    options = tyro.cli(Options, args=rest, prog=prog, default=default)
    named = {"task": task or options.task, "folder": options.data}
    data = dataclasses.replace(options.config.data, **{name: value for name, value in named.items() if value})
    return options, dataclasses.replace(options.config, data=data)


def _suite(args: Sequence[str], options: Options, name: str) -> None:
    from bertlite_jax.jobs.finetuning import suite

    if name not in suite.SUITES:
        raise UserError(f"finetune: --task {name} is no suite; {fields_close_to(name, list(suite.SUITES))}")
    if options.sweep or options.probe != "none":
        raise UserError(f"finetune: --task {name} goes without --sweep and --probe; name a task for these")
    where = options.workdir, options.init

    summary = suite.finetune_suite(name, lambda task: _recipe(args, task)[1], *where, options.seeds, options.overwrite)
    print_rows(f"{name}, percent", summary.get("table", ()))
    print_figures("summary", summary)


def predict(
    run: _Run,
    /,
    input: str = "-",
    batch: int = 512,
    task: str = "",
    data: str = "",
    split: str = "test",
    submission: str = "",
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
) -> None:
    """Answers texts with a fine-tuned model, as JSON lines on standard output.

    Args:
      run: Work directory of a fine-tuning run, or any folder with a task model.
      input: File with a text a line, or JSON objects {"text", "pair"}, {"text", "choices"}, {"words"} or {"question",
        "context"}; a .json file in the layout of SQuAD; - reads standard input.
      batch: Lines that are read and answered together.
      task: Answer a split of this task instead, and score it where it has labels.
      data: Folder with the task's files.
      split: Of the task.
      submission: Folder for the file that the task's server takes, instead of JSON lines.
      n_best: So many answers to a question, best first.
      null_threshold: A question has no answer where its score for that is above this.
      predictions: Also write the answers to this file, as SQuAD's scorers read them.
    """
    if task:
        from bertlite_jax.jobs.answering.predict_split import predict_split

        predict_split(run, task, data, split, sys.stdout, submission, n_best, null_threshold, predictions)
        return
    if data or submission:
        raise UserError("predict: --data and --submission want --task")

    from bertlite_jax.jobs.answering.predict import predict as answer_lines

    answer_lines(run, input, sys.stdout, batch, n_best, null_threshold, predictions)


def embed(
    run: _Run,
    /,
    input: str = "-",
    out: str = "-",
    pool: Literal["auto", "mean", "cls", "tokens"] = "auto",
    layers: str = "last",
    normalize: bool = False,
    length: int = 0,
    batch: int = 512,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
    overwrite: bool = False,
) -> None:
    """Turns texts into vectors, one a text or one a token.

    Args:
      run: Work directory of a run, a folder of transformers or sentence-transformers, or one that convert.py wrote.
      input: File with a text a line, or JSON objects {"text", "pair"}; - reads standard input.
      out: File vectors.npy or vectors.jsonl; - writes JSON lines to standard output.
      pool: The mean over a text's tokens, the state of its [CLS], or each token's state; auto: what a folder of
        sentence-transformers states, unit length too, else the mean.
      layers: last; numbers such as 0,6 (0 is the embeddings; --layers=-2,-1 counts from the end), one behind the other;
        mean, of all layers; mean:5,6.
      normalize: Divide each vector by its length.
      length: Tokens of a text at most; 0: what a folder of sentence-transformers states, else all positions.
      batch: Lines that are read and encoded together.
      compute: Precision of the products; auto takes what is fast on this machine.
      overwrite: Replace the file.
    """
    from bertlite_jax.jobs.answering.embed import embed as write_vectors

    write_vectors(run, input, out, pool, layers, normalize, length, batch, compute, overwrite)
