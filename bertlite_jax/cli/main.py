"""The `bertlite` command: finds the job in one table, and turns what goes wrong into one line and an exit code.

Exit codes: 0 done (a preempted job too: it has saved), 2 bad input or config, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from bertlite_jax.cli import bench, compile, convert, runs, tasks, text
from bertlite_jax.cli.job import Job, choose, job_of, usage, wants_help
from bertlite_jax.cli.recipe import check_places
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import memory

JOBS = (
    job_of("tokenizer", "train a tokenizer on text, or take over a released one", text.tokenizer, text_anywhere=True),
    job_of("corpus", "cut text into the windows of a corpus", text.corpus, text_anywhere=True),
    Job("pretrain", "train an encoder on a corpus", runs.pretrain, trains=True, compiles=True),
    Job("finetune", "train a pretrained encoder on a task", tasks.finetune, trains=True, compiles=True),
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
    if not args or wants_help(args[:1]):
        print(usage("bertlite", "JOB", JOBS))
        return 0
    job = None
    try:
        job, rest = choose("bertlite", "job", args, JOBS)
        check_places(rest, text_anywhere=job.text_anywhere)
        _prepare(job, rest)
        job.run(rest)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Diverged as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        if argv is None and job and job.leaves_threads:
            # The threads are still at work, and taking the interpreter down under them can crash.
            sys.stderr.flush()
            os._exit(130)
        return 130
    except BrokenPipeError:  # The reader of our output, `head` for one, has closed it.
        return 0
    return 0


def _prepare(job: Job, args: Sequence[str]) -> None:
    """Settings of this process that have to be made before JAX is imported or compiles."""
    if job.trains:
        memory.keep_freed_memory()
    if job.compiles and not wants_help(args):
        from bertlite_jax.host import program_cache

        program_cache.keep_programs()
