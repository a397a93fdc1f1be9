"""Chooses the arithmetic of matrix products for this machine: by what its CPU has, and by a short timed trial.

A CPU's flags say what it can multiply, not whether XLA's library makes use of it, so a layer with its gradients is
compiled and timed in float32 and in `cpu_bfloat16`. The outcome is stored beside the compiled programs: a second start
need not try again, and a resumed run computes as before.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import pathlib
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.int8 import Bits
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.model.ops import attention, products
from bertlite_jax.model.ops.elementwise import activation
from bertlite_jax.model.ops.precision import Compute, of_bits

FLAGS = ("amx_bf16", "avx512_bf16")
"""Instruction sets that multiply bfloat16, fastest first, by Linux' names."""
LEAST_SPEED_UP = 1.1
"""`auto` takes bfloat16 where the timed trial runs this many times as fast as in float32."""
MOST_ERROR = 0.02
"""Relative distance of the trial's loss and gradients from those in float32: operands are rounded to 8 bits."""
TURNS = 5
"""Times that each mode runs, in turn. The fastest counts, since other programs can only slow one down."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trial:
    """Outcome of a trial of `cpu_bfloat16` on this machine."""

    failure: str = ""
    """Why its results cannot be used; empty where they can."""
    speed_up: float = 0.0
    """Time of a layer with its gradients in float32 over that in `cpu_bfloat16`."""


def resolve(
    setting: Literal["auto", "float32", "bfloat16"], platform: str, trained_bits: Bits | Literal[0] = 0
) -> Compute:
    """The mode of the products for a config value on a platform.

    Args:
      setting: `Model.compute`.
      platform: `jax.devices()[0].platform`: cpu, gpu or tpu.
      trained_bits: of the file that a model is trained for; 0 for models that are not.

    Returns:
      On a CPU `auto` is `cpu_bfloat16` where the CPU has one of `FLAGS` and a trial gives right results faster, and
      `float32` otherwise. `bfloat16` asks only for right results, and falls back with a warning. On other platforms
      both are `bfloat16`. What is trained for a file of integers is computed as in that file everywhere.
    """
    if trained_bits:
        return of_bits(trained_bits)
    if setting == "float32":
        return "float32"
    if platform != "cpu":
        return "bfloat16"
    flag = bfloat16_flag()
    if not flag:
        level = logging.WARNING if setting == "bfloat16" else logging.INFO
        log.log(level, "precision: products in float32; this CPU has none of %s", ", ".join(FLAGS))
        return "float32"
    outcome = load_or_run_trial()
    if outcome.failure:
        log.warning("precision: products in float32; a trial of bfloat16 (%s) failed: %s", flag, outcome.failure)
        return "float32"
    if setting == "auto" and outcome.speed_up < LEAST_SPEED_UP:
        log.info(
            "precision: products in float32; in a trial bfloat16 (%s) ran %.2f times as fast", flag, outcome.speed_up
        )
        return "float32"
    log.info("precision: products in bfloat16 (%s), %.2f times as fast as float32 in a trial", flag, outcome.speed_up)
    return "cpu_bfloat16"


def bfloat16_flag() -> str:
    """The fastest of `FLAGS` that this CPU has; empty where it has none."""
    return next((flag for flag in FLAGS if flag in cpu.flags()), "")


@functools.cache
def load_or_run_trial() -> Trial:
    """The outcome stored for this version of JAX beside its compiled programs; without a whole one, of a new trial."""
    programs = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    caching = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    if not programs or not caching or not os.access(programs, os.W_OK):
        return trial()
    path = pathlib.Path(programs) / f"precision_trial_jax{jax.__version__}.json"
    if path.is_file():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return Trial(failure=str(stored["failure"]), speed_up=float(stored["speed_up"]))
        except (ValueError, TypeError, KeyError) as error:
            log.warning("precision: %s is damaged (%s: %s); timing anew", path, type(error).__name__, error)
    outcome = trial()
    whole_files.write_json(path, dataclasses.asdict(outcome))  # Several processes may start at once.
    return outcome


def trial() -> Trial:
    """Runs a small layer for its results and a larger one for its time, both with gradients.

    XLA refuses some products of this kind only when they run (`Unsupported element type for DotThunk::Execute`), so
    the small layer has each kind: dense layers, attention, the product with a transposed table.
    """
    right = _small_layer("float32")
    try:
        error = float(np.linalg.norm(_small_layer("cpu_bfloat16") - right) / np.linalg.norm(right))
    except jax.errors.JaxRuntimeError as refused:
        return Trial(failure=str(refused).splitlines()[0])
    if not error < MOST_ERROR:
        return Trial(failure=f"its results are off by {error:.1%}")
    return Trial(speed_up=_speed_up())


def _small_layer(compute: Compute) -> np.ndarray:
    """Loss and gradients of attention, two dense layers and a tied table, in one vector."""
    size, length = products.MIN_SIZE, products.MIN_ROWS
    generator = np.random.default_rng(0)
    draw = functools.partial(generator.normal, scale=size**-0.5)
    values: Any = {
        "x": generator.normal(size=(2, length, size)),
        "parts": {
            name: {"kernel": draw(size=(size, size)), "bias": draw(size=size)}
            for name in ("query", "key", "value", "output")
        },
        "table": draw(size=(4 * size, size)),
    }
    values = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), values)
    segments = jnp.tile(jnp.arange(length) // (length // 2), (2, 1))

    def loss(values: Any) -> jax.Array:
        joined = products.qkv(values["x"], values["parts"], compute)
        mask = attention.segment_mask(segments)
        mixed = attention.joined_attention(joined, 2, segments, mask, "xla", compute)
        hidden = activation(products.dense(mixed, values["parts"]["output"], compute), "gelu_tanh")
        return jnp.mean(jnp.square(products.matmul(hidden, values["table"].T, compute)))

    value, gradient = jax.jit(jax.value_and_grad(loss))(values)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves((value, gradient))])


def _speed_up() -> float:
    """Time in float32 over that in bfloat16, of BERT-base's product [1024, 768] x [768, 3072] with its gradients."""
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(1024, 768)), jnp.float32)
    params = {"kernel": jnp.asarray(generator.normal(size=(768, 3072)), jnp.float32), "bias": jnp.zeros(3072)}

    def program(compute: Compute) -> Any:
        loss = lambda params, x: jnp.sum(jnp.square(products.dense(x, params, compute).astype(jnp.float32)))  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()

    programs = [program("float32"), program("cpu_bfloat16")]
    seconds = [float("inf"), float("inf")]
    for turn in range(TURNS + 1):
        for which, run in enumerate(programs):
            before = time.perf_counter()
            jax.block_until_ready(run(params, x))
            if turn:  # The first one warms up.
                seconds[which] = min(seconds[which], time.perf_counter() - before)
    return seconds[0] / seconds[1]
