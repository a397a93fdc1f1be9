"""The benchmarks: bertlite bench data | train | learn | distill | scale | infer | family | finetune | predictions."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence

from bertlite_jax.cli import options
from bertlite_jax.cli.job import Job, choose, usage, wants_help


def _measure(name: str, module: str, args: Sequence[str]) -> None:
    """Parses the options of one benchmark and runs it. Its file is read only now: most import JAX."""
    function = getattr(importlib.import_module(f"bertlite_jax.jobs.benchmarks.{module}"), f"bench_{name}")
    options.call(function, args, f"bertlite bench {name}")


def _benchmark(name: str, description: str, module: str = "") -> Job:
    return Job(name, description, functools.partial(_measure, name, module or name))


BENCHMARKS = (
    _benchmark("data", "how fast batches are made from a corpus"),
    _benchmark("train", "how fast a model trains; with --peer, beside PyTorch"),
    _benchmark("learn", "how long a recipe takes to the loss that PyTorch reaches in the usual way", "learning.learn"),
    _benchmark("distill", "what a teacher costs in a step of distillation, live and stored", "learning.distill"),
    _benchmark("scale", "how training speed changes with the number of devices, and what they send each other"),
    _benchmark("infer", "how fast a model answers, in every runtime and precision that is installed"),
    _benchmark("family", "what each published shape costs to store, train and run, beside BERT-base"),
    _benchmark("finetune", "how fast and how well a task is learnt, beside transformers in PyTorch"),
    _benchmark("predictions", "whether an exported task model gives the same answers in transformers"),
)


def bench(args: Sequence[str]) -> None:
    """Runs one benchmark, or lists them."""
    if args and wants_help(args[:1]):
        print(usage("bertlite bench", "BENCHMARK", BENCHMARKS))
        return
    job, rest = choose("bench", "benchmark", args, BENCHMARKS)
    job.run(rest)
