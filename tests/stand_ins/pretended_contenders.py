"""Models for tests/jobs/benchmarks/test_infer.py. Other processes import them, so nothing heavy is imported here."""

import functools
import os
import signal
import time

import numpy as np

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks.runtimes.process import Answer


def answer_right(batch, sign=1.0, delay=0.0):
    time.sleep(delay)
    logit = sign * np.sin(batch["input_ids"].sum(axis=-1).astype(np.float32))
    return np.stack([logit, -logit], axis=-1)


def load_right(threads):
    return answer_right


def load_wrong(threads):
    return functools.partial(answer_right, sign=-1.0)


def load_slow(threads):
    return functools.partial(answer_right, delay=0.05)


def load_cores(threads):
    return lambda batch: np.array([len(os.sched_getaffinity(0)), int(os.environ["OMP_NUM_THREADS"])])


def load_refused(threads):
    raise UserError("convert: there is no such model")


def load_broken(threads):
    raise ZeroDivisionError("of this test")


def load_killed(threads) -> Answer:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it was killed")
