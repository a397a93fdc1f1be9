"""The jobs that make a pretraining run and look into it: pretrain, teach, distill, evaluate, fill-mask and so on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import config_file, fields_given
from bertlite_jax.cli.tables import print_figures, print_rows
from bertlite_jax.config import effects
from bertlite_jax.config.distillation.settings import TOP_K, Distill
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.int8 import Bits
from bertlite_jax.config.pair_tasks import PairTask
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError

Run = Annotated[Positional[str], arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class PretrainOptions:
    """Trains an encoder on a corpus. If the work directory holds this run already, training resumes."""

    config: Annotated[Pretrain, arg(name="")]
    workdir: str
    """Folder of the run. If it already holds this run, training resumes."""
    init: str = ""
    """Start from the weights of another run (its work directory), of a folder of transformers, of a model of the hub
    (hf:OWNER/NAME), or of reference-en, which comes with the package."""
    overwrite: bool = False
    """Start from the beginning, and delete the run that the work directory holds."""


def pretrain(args: Sequence[str]) -> None:
    """Reads a recipe and its overrides from the command line, and trains."""
    config, rest, prog = config_file("pretrain", args, Pretrain)
    default = PretrainOptions(config=config, workdir=tyro.MISSING)
    options = parse(PretrainOptions, rest, prog, default=default)
    effects.check_effects(options.config, fields_given(rest, config), effects.PRETRAIN_NEEDS)
    from bertlite_jax.jobs.pretraining.pretrain import pretrain as train

    summary = train(options.config, options.workdir, options.init, options.overwrite)
    if summary:  # Of several processes only the first one has it.
        print_figures("summary", summary)
        send_report(options.config, options.workdir, summary)


def send_report(config: Pretrain | Finetune, workdir: str, summary: Mapping[str, Any]) -> None:
    """At the end of a run, or of several: writes their reports for their trackers. A report that fails ends no job."""
    if not config.run.track or "stopped" in summary:
        return
    from bertlite_jax.jobs.reports import tracked

    try:
        tracked.send_reports(workdir)
    except UserError as error:
        print(f"track: no report was sent: {error}")


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """Trains a small encoder on a corpus to imitate a large one.

    If the work directory holds this run already, training resumes.
    """

    config: Annotated[Distill, arg(name="")]
    workdir: str
    """Folder of the run. If it already holds this run, training resumes."""
    teacher: UseAppendAction[tuple[str, ...]] = ()
    """A teacher: a run's work directory, a folder of transformers, one that `bertlite convert` wrote, or a model of the
    hub (hf:OWNER/NAME); may be given several times. Without it, the recipe's distill.teachers."""
    overwrite: bool = False
    """Start from the beginning, and delete the run that the work directory holds."""


def distill(args: Sequence[str]) -> None:
    """Reads a recipe and its overrides from the command line, and trains a student."""
    config, rest, prog = config_file("distill", args, Distill)
    default = DistillOptions(config=config, workdir=tyro.MISSING)
    options = parse(DistillOptions, rest, prog, default=default)
    config = _with_teachers(options.config, options.teacher)
    effects.check_effects(config, fields_given(rest, config), effects.DISTILL_NEEDS)
    from bertlite_jax.jobs.distilling.distill import distill as train

    summary = train(config, options.workdir, options.overwrite)
    if summary:
        print_figures("summary", summary)
        send_report(config, options.workdir, summary)


@dataclasses.dataclass(frozen=True)
class TeachOptions:
    """Runs the teachers of a distillation once, and stores what they say of the rows of its steps.

    `bertlite distill --distill.store FOLDER` then trains without running them. If the folder holds a part of this store
    already, writing resumes.
    """

    config: Annotated[Distill, arg(name="")]
    out: str = ""
    """Folder of the store. Without it, the recipe's distill.store."""
    teacher: UseAppendAction[tuple[str, ...]] = ()
    """As for `bertlite distill`."""
    top_k: int = TOP_K
    """Pieces of each prediction to store, the likeliest; the probability of all others is stored as one number. 0: all
    pieces, with which training is the same to the bit."""
    overwrite: bool = False
    """Write the store anew, and delete one that the folder holds."""


def teach(args: Sequence[str]) -> None:
    """Reads a recipe of distillation and its overrides from the command line, and writes a store."""
    config, rest, prog = config_file("teach", args, Distill)
    options = parse(TeachOptions, rest, prog, default=TeachOptions(config=config))
    config = _with_teachers(options.config, options.teacher)
    effects.check_effects(config, fields_given(rest, config), effects.DISTILL_NEEDS)
    from bertlite_jax.jobs.distilling.teach import teach as write_store

    print_figures("store", write_store(config, options.out, options.top_k, options.overwrite))


def _with_teachers(config: Distill, teachers: tuple[str, ...]) -> Distill:
    """The config with the teachers of the command line, if any."""
    return effects.replaced(config, "distill.teachers", teachers) if teachers else config


def evaluate(
    run: Run,
    /,
    corpus: UseAppendAction[tuple[str, ...]] = (),
    pair_task: PairTask | None = None,
    rows: int = 0,
    bits: Bits | None = None,
    minimal_pairs: str | None = None,
    pairs_each: int = 0,
) -> None:
    """Scores a run on the validation split of a corpus, or on minimal pairs of sentences.

    Args:
      run: Work directory of a pretraining run. With --minimal-pairs, any model with a head for masked tokens, as for
        `bertlite fill-mask`.
      corpus: Corpus folder; may be given several times. Without it, the run's own.
      pair_task: Task to score the pair head on, even if it was trained on another. Without it, the run's own.
      rows: Rows of the validation split to read; 0: all.
      bits: Compute in integers with weights of this many bits, as the file of `bertlite convert int8` does.
      minimal_pairs: File of grammatical and ungrammatical sentences, such as one of BLiMP's, or a folder of them: how
        often the grammatical one is the likelier. JSON lines with good and bad, and paradigm and phenomenon if known.
      pairs_each: Pairs of each paradigm to read; 0: all.
    """
    if minimal_pairs is None:
        if pairs_each:
            raise UserError("evaluate: --pairs-each has no effect without --minimal-pairs")
        from bertlite_jax.jobs.pretraining.evaluate import evaluate as score

        print_figures(f"evaluation of {run}", score(run, tuple(corpus), pair_task, rows, bits))
        return
    idle = {"--corpus": corpus, "--pair-task": pair_task, "--rows": rows, "--bits": bits}
    for option, value in idle.items():
        if value:
            raise UserError(f"evaluate: {option} has no effect with --minimal-pairs, which reads no corpus")
    from bertlite_jax.jobs.pretraining.minimal_pairs import minimal_pairs as score_pairs

    print_rows(f"minimal pairs: {run}", score_pairs(run, minimal_pairs, pairs_each))


def fill_mask(run: Run, text: Annotated[Positional[str], arg(metavar="TEXT")], /, top: int = 5) -> None:
    """Shows what a trained model predicts for each [MASK] in a text.

    Args:
      run: Work directory of a pretraining run, or any other model with a head for masked tokens: a folder, one of the
        hub (hf:OWNER/NAME), or reference-en, which comes with the package.
      text: A text that contains [MASK].
      top: Predictions to show for each [MASK].
    """
    from bertlite_jax.jobs.pretraining.fill_mask import bare
    from bertlite_jax.jobs.pretraining.fill_mask import fill_mask as guesses_for

    for number, guesses in enumerate(guesses_for(run, text, top), 1):
        shown = "  ".join(f"{bare(piece)} {share:.3f}" for piece, share in guesses)
        print(f"[MASK] {number}: {shown}")


def report(run: Run, /, track: bool = False) -> None:
    """Writes report.html into a work directory: one file with curves, figures and samples.

    Args:
      run: Work directory of a run of pretraining or fine-tuning, of several fine-tuning runs, of pruning,
        or of compression.
      track: Also send the report, and what is missing of the metrics, to the trackers of the run (--run.track).
    """
    from bertlite_jax.jobs.reports import tracked
    from bertlite_jax.jobs.reports.report import report as write_report

    if track:
        tracked.send_reports(run)
    else:
        print(f"report: wrote {write_report(run)}")


def quickstart(workdir: str = "runs/quickstart", seed: int = 0, overwrite: bool = False) -> None:
    """Makes an evaluated, exported ALBERT from bundled text, in minutes.

    Args:
      workdir: Folder for the run and its exports; tokenizer and corpus go into a folder beside it.
      seed: Seed of the weights, the order of the data and the masks.
      overwrite: Start from the beginning, and delete an earlier quickstart in the folder.
    """
    from bertlite_jax.jobs.quickstart import quickstart as job

    job(workdir, seed, overwrite)
