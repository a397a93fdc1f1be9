"""The commands around tasks: finetune, predict, embed."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import config_file, fields_given, value_of
from bertlite_jax.cli.runs import send_report
from bertlite_jax.cli.tables import print_figures, print_rows
from bertlite_jax.config import effects
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.errors import UserError, fields_close_to

_MOST_SEEDS = 10_000
_Run = Annotated[Positional[str], arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains a pretrained encoder on a task. If the work directory holds this run already, training resumes."""

    config: Annotated[Finetune, arg(name="")]
    workdir: str
    """Folder of the run. If it already holds this run, training resumes."""
    init: str
    """The encoder to start from: a run's work directory, a folder of transformers, one that `bertlite convert` wrote,
    a model of the hub (hf:OWNER/NAME), or reference-en, which comes with the package."""
    task: str = ""
    """Name of the task, such as sst2, or of a suite: all-glue, all-superglue. Without it, the recipe's data.task. A
    recipe may have other settings for each task."""
    data: str = ""
    """Folder with the task's files; or, without a task, a file of your own: a table, JSON, Parquet or CoNLL columns.
    Without it, the recipe's data.folder."""
    seeds: int = 1
    """Number of runs, with run.seed and the seeds after it. The report has their median, lowest and highest score."""
    sweep: bool = False
    """Train with each of --sweep-rates and --sweep-batches, and report all and the best. A sweep that was stopped
    resumes."""
    sweep_rates: tuple[float, ...] = (5e-5, 4e-5, 3e-5, 2e-5)
    """Learning rates of the sweep."""
    sweep_batches: tuple[int, ...] = (16, 32)
    """Batch sizes of the sweep, in examples."""
    probe: Literal["none", "layers"] = "none"
    """layers: keep the encoder frozen and train one head on the states of each layer, to see which layers know the
    task."""
    overwrite: bool = False
    """Start from the beginning, and delete the run that the work directory holds."""


def finetune(args: Sequence[str]) -> None:
    """Trains a recipe once, with several seeds, over a grid, layer by layer, or on each task of a suite."""
    options, config = _recipe(args, value_of("--task", args), print)
    if not 1 <= options.seeds <= _MOST_SEEDS:
        raise UserError(f"finetune: --seeds {options.seeds} must be at least 1 and at most {_MOST_SEEDS:,}")
    if config.run.seed + options.seeds > 2**32:
        raise UserError(f"finetune: --seeds {options.seeds} from run.seed = {config.run.seed} on exceeds 2**32")
    if config.data.task.startswith("all-"):
        _suite(args, options, config.data.task)
        return
    from bertlite_jax.jobs.finetuning import seeds_and_sweeps
    from bertlite_jax.jobs.finetuning.finetune import finetune as run_once

    where = options.workdir, options.init
    if options.probe == "layers":
        from bertlite_jax.jobs.finetuning import layer_probe

        if options.sweep or options.seeds > 1:
            raise UserError("finetune: --probe cannot be combined with --seeds or --sweep")
        summary = layer_probe.probe_layers(config, *where, options.overwrite)
        print_rows("layers", summary["layers"])
    elif options.sweep:
        rates, batches = options.sweep_rates, options.sweep_batches
        summary = seeds_and_sweeps.finetune_sweep(config, *where, rates, batches, options.seeds, options.overwrite)
        print_rows("points of the sweep", summary.get("points", ()))
    elif options.seeds > 1:
        summary = seeds_and_sweeps.finetune_seeds(config, *where, options.seeds, options.overwrite)
    else:
        summary = of_interest(run_once(config, *where, options.overwrite))
    print_figures("summary", summary)
    print(f"finetune: all figures are in {pathlib.Path(options.workdir, 'summary.json')}")
    if options.probe == "none":
        send_report(config, options.workdir, summary)


def of_interest(summary: dict[str, Any]) -> dict[str, Any]:
    """What is looked for first in the summary of a run: scores, best step, time, parameters; the file has the rest."""
    names = list(summary)
    if "best_step" not in names:  # A signal stopped the run.
        return summary
    speed = ("best_step", "steps", "train_seconds", "examples_per_second", "parameters")
    return {name: summary[name] for name in (*names[: names.index("best_step")], *speed) if name in summary}


def _recipe(args: Sequence[str], task: str, log: Callable[[str], None] = lambda line: None) -> tuple[Options, Finetune]:
    """The options on the command line, and the recipe with its overrides for a task.

    Args:
      args: what follows the job.
      task: whose settings a recipe may have.
      log: prints a line about what was given and takes the place of the recipe's.

    Raises:
      UserError: an option has no effect, or two contradict each other.
    """
    config, rest, prog = config_file("finetune", args, Finetune, task)
    missing = tyro.MISSING
    default = Options(config=config, workdir=missing, init=missing)
    options = parse(Options, rest, prog, default=default)
    given = fields_given(rest, config)
    full = with_task(options.config, given, task or options.task, options.data, "finetune")
    _check_mode(options, given, rest)
    full, lines = finetune_settings(full, given)
    for line in lines:
        log(f"finetune: {line}")
    return options, full


def with_task(config: Finetune, given: Collection[str], task: str, folder: str, job: str) -> Finetune:
    """The recipe with what --task and --data name; empty ones leave what it has.

    Raises:
      UserError: they and the options of the recipe contradict each other.
    """
    named = {"task": task, "folder": folder}
    for name, value in named.items():
        said = getattr(config.data, name)
        if f"data.{name}" in given and value not in ("", said):
            raise UserError(f"{job}: --{'task' if name == 'task' else 'data'} {value} and --data.{name} {said} differ")
    data = dataclasses.replace(config.data, **{name: value for name, value in named.items() if value})
    return dataclasses.replace(config, data=data)


def finetune_settings(config: Finetune, given: Collection[str]) -> tuple[Finetune, list[str]]:
    """The recipe in which the command line has won, and lines about it; see `effects.settled`.

    `--run.epochs` takes the place of a recipe's steps, and of the warm-up and the evaluations that were counted in
    them. `--head.labels` names the labels of one's own data.
    """
    steps, warmup = config.run.steps, config.optim.warmup_steps
    if "head.labels" in given:
        if "data.label_names" in given and config.data.label_names != config.head.labels:
            raise UserError("finetune: --head.labels and --data.label-names differ; leave one of them out")
        if config.data.task:
            raise UserError(f"finetune: --head.labels has no effect with --task {config.data.task}, which has its own")
        config = effects.replaced(config, "data.label_names", config.head.labels)
        config = effects.replaced(config, "head.labels", Head().labels)
    config, lines = effects.settled(config, given, effects.FINETUNE_OVERRIDES)
    if steps and not config.run.steps:
        if warmup and config.optim.warmup_steps and "optim.warmup_steps" not in given:
            config = effects.replaced(config, "run.warmup_fraction", round(warmup / steps, 4))
            config = effects.replaced(config, "optim.warmup_steps", 0)
            lines.append(f"warm-up is {warmup / steps:.1%} of the steps, as in the recipe")
        if "run.eval_every" not in given:
            config = effects.replaced(config, "run.eval_every", 0)
    effects.check_effects(config, given, effects.FINETUNE_NEEDS)
    return config, lines


def _check_mode(options: Options, given: Collection[str], args: Sequence[str]) -> None:
    """Raises UserError for an option that --sweep or --probe does not read, or that only they read."""
    typed = {text.partition("=")[0] for text in args if text.startswith("--")}
    if options.sweep:
        for field, name in (("optim.learning_rate", "--sweep-rates"), ("data.batch_examples", "--sweep-batches")):
            if field in given:
                raise UserError(f"finetune: {effects.option(field)} has no effect with --sweep; pass {name}")
    elif idle := sorted(typed & {"--sweep-rates", "--sweep-batches"}):
        raise UserError(f"finetune: {idle[0]} has no effect without --sweep")
    if options.probe == "layers":
        read = ("run.seed", "run.devices")
        unread = ("optim", "run", "learn", "quantise")
        idle = sorted(name for name in given if name.split(".")[0] in unread and name not in read)
        if idle:
            raise UserError(f"finetune: {effects.option(idle[0])} has no effect with --probe layers")


def _suite(args: Sequence[str], options: Options, name: str) -> None:
    from bertlite_jax.jobs.finetuning import suite

    if name not in suite.SUITES:
        raise UserError(f"finetune: --task {name} is not a suite; {fields_close_to(name, list(suite.SUITES))}")
    if options.sweep or options.probe != "none":
        raise UserError(f"finetune: --task {name} cannot be combined with --sweep or --probe; they need a single task")
    where = options.workdir, options.init

    summary = suite.finetune_suite(name, lambda task: _recipe(args, task)[1], *where, options.seeds, options.overwrite)
    print_rows(f"{name}, percent", summary.get("table", ()))
    print_figures("summary", summary)
    send_report(options.config, options.workdir, summary)


def predict(
    run: _Run,
    /,
    input: str = "-",
    batch: int = 512,
    text_column: str = "",
    pair_column: str = "",
    label_column: str = "",
    id_column: str = "",
    choice_columns: tuple[str, ...] = (),
    delimiter: str = "",
    decimal: Literal["auto", ".", ","] = "auto",
    labels: tuple[str, ...] = (),
    score: bool = True,
    metrics: str = "",
    task: str = "",
    data: str = "",
    split: str = "test",
    submission: str = "",
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
) -> None:
    """Answers texts with a fine-tuned model; prints one JSON object on each line.

    Args:
      run: Work directory of a fine-tuning run, any folder with a task model, or one of the hub (hf:OWNER/NAME).
      input: File of any form that finetune reads: CSV, TSV, JSON, Parquet, CoNLL columns. Or lines with one text each,
        or one JSON object each: {"text", "pair"}, {"text", "choices"}, {"words"}, {"question", "context"}. - reads
        such lines from standard input.
      batch: Lines that are read and answered together.
      text_column: Column or field of the (first) text, or of the question. Without it, as in training, or one of the
        usual names.
      pair_column: Column or field of the second text, or of the text that answers the question, likewise.
      label_column: Column or field of the label, likewise. Where there are labels, the answers are scored.
      id_column: Column or field of the id. Without it, the first of id, idx and index, or a column such as nr, number
        or guid that has no value twice. If there is none, the number of the example from 1; in JSON lines, of the line;
        in CoNLL columns, of the line where the sentence begins.
      choice_columns: Columns of the choices, or one field with a list of them.
      delimiter: Character between the columns of a table. Without it, recognised from the header.
      decimal: Decimal sign of labels that are numbers, where it could stand between thousands. auto: as in training.
      labels: Names of the model's outputs in their order, where the model does not know them or the input has others.
      score: Compare the answers with the labels of --input, where it has any.
      metrics: File for the scores, as JSON. They are printed in any case.
      task: Answer a split of this task instead of --input, and score it if it has labels.
      data: Folder with the task's files.
      split: Split of the task to answer.
      submission: Folder for the file that the task's evaluation server takes, instead of JSON lines.
      n_best: Number of answers to a question, best first.
      null_threshold: Answer "no answer" to a question where the score for that exceeds this. Without it, 0 if
        the model was trained on questions without an answer; otherwise there is always an answer.
      predictions: Also write the answers to this file, in the format of SQuAD's scorer.
    """
    from bertlite_jax.convert import sources
    from bertlite_jax.data.tasks.own.options import OwnOptions

    run = str(sources.folder_of(run, "predict"))
    columns = OwnOptions(
        text=text_column,
        pair=pair_column,
        label=label_column,
        id=id_column,
        choices=choice_columns,
        delimiter=delimiter,
        decimal=decimal,
    )
    if task:
        from bertlite_jax.jobs.answering.predict_split import predict_split

        if columns != OwnOptions() or input != "-":
            raise UserError(
                "predict: --task reads the task's own files; leave out --input, --delimiter, --decimal and the columns"
            )
        answers = n_best, null_threshold, predictions
        predict_split(run, task, data, split, sys.stdout, submission, *answers, metrics, labels)
        return
    if data or submission or split != "test":
        raise UserError("predict: --data, --split and --submission need --task")

    from bertlite_jax.jobs.answering.predict import predict as answer_lines

    answer_lines(run, input, sys.stdout, batch, n_best, null_threshold, predictions, columns, metrics, labels, score)


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
    text_column: str = "",
    pair_column: str = "",
    delimiter: str = "",
    overwrite: bool = False,
) -> None:
    """Turns texts into vectors: one for each text, or one for each token.

    Args:
      run: Work directory of a run, a folder of transformers or sentence-transformers, one that `bertlite convert`
        wrote, a model of the hub (hf:OWNER/NAME), or reference-en, which comes with the package.
      input: File with one text on each line, or one JSON object {"text", "pair"}; or a table or Parquet file. - reads
        lines from standard input.
      out: File to write, such as vectors.npy or vectors.jsonl. - writes JSON lines to standard output.
      pool: mean: of the states of a text's tokens. cls: the state of [CLS]. tokens: one vector for each token. auto:
        what a folder of sentence-transformers says, including unit length; otherwise the mean.
      layers: Layers to take the states from. last; numbers such as 0,6, concatenated (0 is the embeddings;
        --layers=-2,-1 counts from the end); mean, of all layers; mean:5,6.
      normalize: Scale each vector to length 1.
      length: Most tokens of a text; longer ones are cut. 0: what a folder of sentence-transformers says, otherwise all
        positions of the model.
      batch: Lines that are read and encoded together.
      compute: Precision of matrix products. auto: what is fastest on this machine.
      text_column: Column or field of the (first) text. Without it, the first of the usual names, such as text.
      pair_column: Column or field of the second text, likewise.
      delimiter: Character between the columns of a table. Without it, recognised from the header.
      overwrite: Replace the file if it exists.
    """
    from bertlite_jax.convert import sources
    from bertlite_jax.data.tasks.own.options import OwnOptions
    from bertlite_jax.jobs.answering.embed import embed as write_vectors

    run = str(sources.folder_of(run, "embed"))
    columns = OwnOptions(text=text_column, pair=pair_column, delimiter=delimiter)
    write_vectors(run, input, out, pool, layers, normalize, length, batch, compute, overwrite, columns)
