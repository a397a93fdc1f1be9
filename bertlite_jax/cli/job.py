"""What a job on the command line is, and how one is chosen from a table of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bertlite_jax.cli import options
from bertlite_jax.errors import UserError, fields_close_to


class Job(NamedTuple):
    """One word after `bertlite`, and everything that the command line does differently for it.

    Attributes:
      name: the word.
      help: its line in the list of jobs.
      run: does the work; takes the arguments that follow the name.
      trains: keeps memory that is freed, for the next step.
      compiles: stores compiled programs for the next start. Benchmarks do not, as they measure compiling too.
      text_anywhere: its text may lie in object storage.
      without_jax: does its work without JAX, whatever the environment says to that.
      leaves_threads: threads of other libraries may still run when it is interrupted.
    """

    name: str
    help: str
    run: Callable[[Sequence[str]], None]
    trains: bool = False
    compiles: bool = False
    text_anywhere: bool = False
    without_jax: bool = False
    leaves_threads: bool = False


def job_of(name: str, description: str, function: Callable[..., Any], **flags: bool) -> Job:
    """A job whose options are the parameters of a function, which tyro parses.

    Args:
      name: what the user types after `bertlite`, such as `bench data`; the job is named by its last word.
      description: its line in the list of jobs.
      function: has a docstring that explains each parameter. What it returns is not used.
      **flags: as in `Job`.
    """
    run = functools.partial(options.call, function, prog=f"bertlite {name}")
    return Job(name.rpartition(" ")[2], description, run, **flags)


def wants_help(args: Sequence[str]) -> bool:
    """Whether `--help` is among the arguments, so that nothing will be done."""
    return bool({"-h", "--help"} & set(args))


def choose(command: str, noun: str, args: Sequence[str], jobs: Sequence[Job]) -> tuple[Job, list[str]]:
    """The job that the first argument names, and the other arguments.

    Args:
      command: named in errors.
      noun: what these jobs are called in errors: job, benchmark, format.
      args: what follows the command.
      jobs: to choose from.

    Raises:
      UserError: there is no such job, or no argument; names the nearest one or all.
    """
    names = [job.name for job in jobs]
    if not args:
        raise UserError(f"{command}: name a {noun}: {', '.join(names)}")
    if args[0] not in names:
        raise UserError(f"{command}: unknown {noun} {args[0]}; {fields_close_to(args[0], names)}")
    return jobs[names.index(args[0])], list(args[1:])


def usage(command: str, placeholder: str, jobs: Sequence[Job]) -> str:
    """The list of jobs that `bertlite --help` and the like show.

    Args:
      command: `bertlite`, `bertlite bench`.
      placeholder: stands for the name of a job, in capitals.
      jobs: one line each.
    """
    width = max(len(job.name) for job in jobs)
    lines = "\n".join(f"  {job.name:{width}}  {job.help}" for job in jobs)
    return f"usage: {command} {placeholder} ...\n\n{lines}\n\n`{command} {placeholder} --help` explains its options."
