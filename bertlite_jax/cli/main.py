"""The `bertlite` command: finds the job in one table, and turns what goes wrong into one line and an exit code.

Exit codes: 0 done (a preempted job too: it has saved), 2 bad input or config, or the system or the machine refuses
(`host/refusals`), 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO

import bertlite_jax
from bertlite_jax.cli import (
    ablation,
    accelerators,
    bench,
    compile,
    compressing,
    convert,
    runs,
    searching,
    tasks,
    text,
)
from bertlite_jax.cli.job import Job, choose, job_of, usage, wants_help
from bertlite_jax.cli.recipe import check_places, recipes
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import memory, refusals
from bertlite_jax.host.places import check_utf8

OF_TEXT = {"text_anywhere": True, "without_jax": True}
JOBS = (
    job_of("tokenizer", "train a tokenizer on text, or take over a released one", text.tokenizer, **OF_TEXT),
    job_of("corpus", "cut text into the windows of a corpus", text.corpus, **OF_TEXT),
    Job("recipes", "list, show or copy the recipes that come with the package", recipes, without_jax=True),
    Job("pretrain", "train an encoder on a corpus", runs.pretrain, trains=True, compiles=True),
    Job("distill", "train a small encoder to imitate a large one", runs.distill, trains=True, compiles=True),
    Job("teach", "run the teachers of a distillation once, and store what they say", runs.teach, compiles=True),
    Job("ablate", "train a grid of recipes with several seeds, and compare them in a table", ablation.ablate),
    Job(
        "search",
        "search a space of shapes for the best in parameters, latency and error",
        searching.search,
        trains=True,
        compiles=True,
    ),
    Job("finetune", "train a pretrained encoder on a task", tasks.finetune, trains=True, compiles=True),
    Job("agora", "fine-tune in rounds, on changed mistakes too", searching.agora, trains=True, compiles=True),
    Job("prune", "take heads, neurons and layers out of a task model", compressing.prune, trains=True, compiles=True),
    Job(
        "compress",
        "make a family of smaller models of a task model, and measure them",
        compressing.compress,
        trains=True,
        compiles=True,
    ),
    job_of("predict", "answer texts with a task model, as JSON lines", tasks.predict, compiles=True),
    job_of("embed", "turn texts or their tokens into vectors, as .npy or JSON lines", tasks.embed, compiles=True),
    Job("convert", "to and from transformers, TensorFlow, ONNX and INT8", convert.convert, leaves_threads=True),
    job_of("evaluate", "score a run on held-out text", runs.evaluate, compiles=True),
    job_of("fill-mask", "show what a model predicts for [MASK]", runs.fill_mask, compiles=True),
    job_of("report", "put curves, figures and samples of a run into one HTML file", runs.report),
    Job("compile", "compile a training step for a TPU slice, without a TPU", compile.compile_step),
    Job("bench", "measure speed, beside PyTorch, transformers and other runtimes", bench.bench),
    job_of("quickstart", "all of it on bundled text, in minutes", runs.quickstart, trains=True, compiles=True),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one job.

    Args:
      argv: what follows `bertlite`. Without it, the arguments of this process, which may then be ended at once.

    Returns:
      The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bertlite_jax").setLevel(logging.INFO)
    if argv is None and isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")  # Under LC_ALL=C a ▁ must not end a job.
    try:
        code = _run(args, own_process=argv is None)
    finally:
        refused = _flush(sys.stdout)
        if refused and argv is None:
            _drop_output()
    if not refused or code:
        return code
    return _report_output(refused, args)


def _run(args: Sequence[str], own_process: bool) -> int:
    """Runs the job that the first argument names; returns the exit code."""
    job = None
    try:
        if not args or wants_help(args[:1]):
            print(usage("bertlite", "JOB", JOBS), "`bertlite --version` prints the version.", sep="\n")
            return 0
        if args[0] == "--version":
            print(f"bertlite_jax {bertlite_jax.__version__}")
            return 0
        job, rest = choose("bertlite", "job", args, JOBS)
        _check_surroundings(job)
        check_places(rest, text_anywhere=job.text_anywhere)
        _prepare(job, rest)
        job.run(rest)
    except UserError as error:
        return _say(error, 2)
    except Diverged as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        _say("interrupted", 130)
        if own_process and job and job.leaves_threads:
            # The threads are still at work, and taking the interpreter down under them can crash.
            sys.stderr.flush()
            os._exit(130)
        return 130
    except Exception as error:
        if isinstance(error, OSError) and (refused := _flush(sys.stdout)):
            return _report_output(refused, args)
        if isinstance(error, BrokenPipeError) and _reader_left(sys.stdout):
            return 0
        line = accelerators.line_of(error) or refusals.line_of(error, "".join(args[:1]) or "bertlite", args[1:])
        if line is None:
            raise
        return _say(line, 2)
    return 0


def _say(line: object, code: int) -> int:
    """Prints what went wrong in one line; returns the exit code.

    Names of files come with it, and one may hold line feeds or the codes by which a terminal is driven.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(line))
    with contextlib.suppress(OSError):  # Nobody can be told that standard error itself is full.
        print(shown, file=sys.stderr)
    return code


# --- Standard output -------------------------------------------------------------------------------------------------


def _flush(stream: TextIO | None) -> OSError | None:
    """Writes out what the stream still holds; returns what was refused. A closed stream (`>&-`) is None."""
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        return error
    return None


def _reader_left(stream: TextIO | None) -> bool:
    """Whether the pipe behind a stream has no reader any more. Unbuffered, the stream holds nothing that would tell."""
    try:
        descriptor = stream.fileno() if stream is not None else 1
    except OSError:  # No file of the system is behind it.
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _report_output(refused: OSError, args: Sequence[str]) -> int:
    """What to say where standard output takes no more; nothing where its reader, `head` for one, has closed it."""
    if isinstance(refused, BrokenPipeError):
        return 0
    return _say(f"{' '.join(args[:1]) or 'bertlite'}: standard output cannot be written: {refused.strerror}", 2)


def _drop_output() -> None:
    """Sends what is left in standard output nowhere: Python would try to write it again at the end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# --- Before a job ----------------------------------------------------------------------------------------------------


def _check_surroundings(job: Job) -> None:
    """Raises UserError where the folder that this runs in is gone, or has a name that other libraries cannot take."""
    try:
        here = os.getcwd()
    except OSError as error:
        raise UserError("bertlite: the folder that this runs in does not exist any more; go to another one") from error
    if job.trains:
        check_utf8("bertlite", here)


def _prepare(job: Job, args: Sequence[str]) -> None:
    """What has to be settled in this process before JAX is imported or compiles."""
    if job.trains:
        memory.keep_freed_memory()
    if not (job.without_jax or wants_help(args)):
        accelerators.check_xla_flags()
    if job.compiles and not wants_help(args):
        from bertlite_jax.host import program_cache

        program_cache.keep_programs()
