"""`bertlite bench train`: real tokens a second of ALBERT-base training on this machine, beside PyTorch with `--peer`.

Both train on windows of the same text: ours packed, several in a row, the peer's one in a row with padding, as usual
there. Rows and their length are the same. Contenders take turns, and the best turn of each counts, because other
programs can only slow a turn down. Real tokens are those of windows, [CLS] and [SEP] among them, never padding.

At last our own step is taken apart: where its time goes, and at which rates. With `--as` the same runs in a process
that is held to the instruction sets of a lesser host.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console

import bertlite_jax
from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory, whole_files
from bertlite_jax.jobs.benchmarks import machine, train_peer
from bertlite_jax.jobs.benchmarks.infer import check_place
from bertlite_jax.jobs.pretraining.step import make_pretraining
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.jobs.text.tokenizer import make_tokenizer
from bertlite_jax.model.ops import choose_precision, precision
from bertlite_jax.report.benchmarks import training
from bertlite_jax.report.cost import breakdown, hlo, trace
from bertlite_jax.train import sharding, state

TEXT = pathlib.Path(bertlite_jax.__file__).parent / "quickstart_text"
VOCAB_SIZE = 8_000
"""Pieces that the bundled text is cut into. The model's table has ALBERT's 30,000 rows all the same."""
BATCHES = 4
"""Different batches; the share of real slots is the mean of theirs, whichever of them a turn takes."""

Turn = Callable[[int], tuple[float, float, float]]
"""Trains so many steps; wall seconds, CPU seconds, last loss."""
TakeApart = Callable[[], list[breakdown.Part]]
"""Trains a few steps under the profiler and adds up the fastest."""


@dataclasses.dataclass
class Contender:
    """Somebody who trains on rows of one length, and what was measured."""

    length: int
    name: str
    precision: str
    fill: float
    """Share of the slots that hold a real token."""
    slots: int
    """Tokens in a batch, padding included."""
    turn: Turn
    seconds: float = float("inf")
    """Of the fastest step, as a mean over a turn; wall."""
    cpu_seconds: float = float("inf")
    loss: float = float("nan")
    take_apart: TakeApart | None = None
    """Only of our own on a CPU."""


def bench_train(
    *,
    peer: bool = False,
    text: tuple[str, ...] = (),
    tokenizer: str = "",
    lengths: tuple[int, ...] = (128, 512),
    batch_tokens: int = 2048,
    rounds: int = 4,
    steps: int = 2,
    unroll: bool = False,
    as_host: Annotated[machine.Lesser | None, tyro.conf.arg(name="as")] = None,
    out: str = "",
) -> list[dict[str, Any]]:
    """Trains ALBERT-base for a few steps and prints real tokens a second.

    Args:
      peer: also train transformers' AlbertForPreTraining in PyTorch, in float32 and under bfloat16 autocast.
      text: text files; none: the text that comes with the package.
      tokenizer: a tokenizer folder; none: one is trained on the text.
      lengths: tokens in a row.
      batch_tokens: slots in a batch, so that a batch has batch_tokens / length rows.
      rounds: turns that each contender gets.
      steps: updates in a turn.
      unroll: write the layers out (`model.unroll`).
      as_host: hold both sides to a CPU with AVX2, or with AVX-512 without bfloat16.
      out: file for a JSON copy of the figures.

    Returns:
      A figure of each contender: {"length", "name", "precision", "fill", "slots_per_second", "real_tokens_per_second",
      "real_tokens_per_cpu_second", "seconds_per_step", "loss", "parts"}; the parts of our own step on a CPU are
      {"name", "seconds", "flops", "bytes"}, see `breakdown.PARTS`.

    Raises:
      UserError: the text cannot be used, the peer is not installed, or this CPU is less than `as_host`.
    """
    check_place("out", out)
    if not lengths:
        raise UserError("bench: --lengths needs at least one number, such as 128")
    for length in lengths:
        if length < 1 or length > presets.ALBERT_BASE.max_positions or batch_tokens % length:
            raise UserError(f"bench: length {length} must divide batch_tokens = {batch_tokens} and be at most 512")
    if rounds < 1 or steps < 1:
        raise UserError(f"bench: rounds = {rounds} and steps = {steps} must be positive")
    if peer:
        train_peer.check_installed()
    settings = {"text": text, "tokenizer": tokenizer, "lengths": lengths, "batch_tokens": batch_tokens}
    settings |= {"rounds": rounds, "steps": steps, "unroll": unroll, "peer": peer}
    if as_host:
        return machine.run_as(as_host, bench_train, out=out, **settings)
    load = os.getloadavg()[0]
    console = Console(highlight=False)
    memory.keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        model = dataclasses.replace(presets.ALBERT_BASE, unroll=unroll)
        configs = build_configs(text, tokenizer, lengths, batch_tokens, model, pathlib.Path(scratch), console)
        contenders = [c for config in configs for c in _ours(config, console)]
        about: dict[str, Any] = {}
        if peer:
            theirs, about = _theirs(configs, stack, console)
            contenders += theirs
        _race(contenders, rounds, steps, console)
    figures = [_figure(contender) for contender in sorted(contenders, key=lambda c: c.length)]
    about = machine.describe(("jax", "jaxlib", "flax", "numpy"), load) | {"peer": about}
    training.print_speeds(figures, about, console)
    for figure in figures:
        training.print_parts(figure, console)
    if out:
        whole_files.write_json(out, {"machine": about, "settings": settings, "figures": figures})
    return figures


# --- Data ----------------------------------------------------------------------------------------------------------


def build_configs(
    text: tuple[str, ...],
    tokenizer: str,
    lengths: tuple[int, ...],
    batch_tokens: int,
    model: Model,
    scratch: pathlib.Path,
    console: Console,
) -> list[Pretrain]:
    """A corpus for every length in the scratch folder, and the config that trains the model on it."""
    inputs = list(text) or [str(TEXT)]
    if not tokenizer:
        console.print(f"bench: a tokenizer of {VOCAB_SIZE:,} pieces from {', '.join(inputs)}", soft_wrap=True)
        tokenizer = str(scratch / "tokenizer")
        make_tokenizer(inputs, tokenizer, vocab_size=VOCAB_SIZE)
    pieces = load_tokenizer(tokenizer).vocab_size
    if pieces > model.vocab_size:
        raise UserError(
            f"bench: --tokenizer {tokenizer} has {pieces:,} pieces, and the model room for {model.vocab_size:,}; "
            f"give one that `bertlite tokenizer --vocab-size {model.vocab_size}` made"
        )
    made = []
    for length in lengths:
        folder = str(scratch / f"corpus{length}")
        with contextlib.redirect_stdout(io.StringIO()):
            build_corpus(inputs, tokenizer, folder, length=length, workers=1)
        data = Data(corpus=(folder,), tokenizer=tokenizer, length=length, batch_rows=batch_tokens // length)
        adamw = Optim(name="adamw", learning_rate=1e-4, warmup_steps=0)
        made.append(Pretrain(model=model, data=data, optim=adamw, run=Run(steps=1_000_000)))
    return made


def _fill(rows: list[dict[str, np.ndarray]], name: str) -> float:
    return float(np.mean([np.mean(batch[name] > 0) for batch in rows]))


def padded(config: Pretrain) -> list[dict[str, np.ndarray]]:
    """One window a row, masked as the peer's users mask: 15 % of the real tokens, labels -100 elsewhere."""
    data = dataclasses.replace(config.data, pack=False)
    opened = source.open_source(data, "train", 0)
    generator = np.random.default_rng(0)
    specials = list(opened.special_ids.values())
    made = []
    for step in range(1, BATCHES + 1):
        batch = batches.batch_at(opened, step, data.batch_rows)
        may = (batch["segments"] > 0) & ~np.isin(batch["tokens"], specials)
        hidden = may & (generator.random(may.shape) < config.mask.rate)
        values = {
            "input_ids": np.where(hidden, opened.special_ids["mask"], batch["tokens"]),
            "attention_mask": batch["segments"] > 0,
            "token_type_ids": batch["token_types"],
            "labels": np.where(hidden, batch["tokens"], -100),
            train_peer.label_of_pairs(config.model): batch["pair_labels"][:, 0],
        }
        made.append({name: value.astype(np.int64) for name, value in values.items()})
    return made


# --- Contenders ------------------------------------------------------------------------------------------------------


def _ours(config: Pretrain, console: Console) -> list[Contender]:
    """This package, in float32 and in what `auto` chooses where that is something else; compiled."""
    auto = choose_precision.resolve("auto", jax.default_backend())
    opened = source.open_source(config.data, "train", 0)
    rows = [batches.batch_at(opened, step, config.data.batch_rows) for step in range(1, BATCHES + 1)]
    made = []
    for compute in dict.fromkeys((auto, "float32")):
        console.print(f"bench: compiling, length {config.data.length}, {compute}")
        label = f"auto ({compute})" if compute == auto else compute
        turn, take_apart = _training(config, compute, opened.special_ids, rows)
        contender = Contender(
            length=config.data.length,
            name="bertlite_jax",
            precision=label,
            fill=_fill(rows, "segments"),
            slots=config.data.batch_rows * config.data.length,
            turn=turn,
            take_apart=take_apart if jax.default_backend() == "cpu" else None,
        )
        made.append(contender)
    return made


def _training(
    config: Pretrain, compute: precision.Compute, special_ids: dict[str, int], rows: list[dict[str, np.ndarray]]
) -> tuple[Turn, TakeApart]:
    """The step of `bertlite pretrain`, compiled and run once."""
    mesh = sharding.make_mesh(1)
    parts = make_pretraining(config, compute, mesh, special_ids)
    held = [state.init_state(parts.init_params, parts.optimizer, config.run.seed, parts.layout)]
    placed = [sharding.put_batch(batch, mesh) for batch in rows]
    program = parts.step.lower(held[0], placed[0]).compile()

    def turn(steps: int) -> tuple[float, float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        metrics = {}
        for number in range(steps):
            held[0], metrics = program(held[0], placed[number % len(placed)])
        loss = float(metrics["loss"])
        return time.perf_counter() - wall, time.process_time() - cpu, loss

    def take_apart() -> list[breakdown.Part]:
        module = hlo.parse(program.as_text())
        names = breakdown.operations(module)
        seconds, spent = min((_profiled(turn, names) for _ in range(BATCHES)), key=lambda step: step[0])
        return breakdown.breakdown(module, spent, seconds)

    turn(1)
    return turn, take_apart


def _profiled(turn: Turn, names: set[str]) -> tuple[float, dict[str, float]]:
    """Wall seconds of a step, and those of its operations by name."""
    with tempfile.TemporaryDirectory() as folder:
        with trace.profiling(folder):
            seconds, _, _ = turn(1)
        return seconds, trace.operation_seconds(folder, names)


def _theirs(
    configs: list[Pretrain], stack: contextlib.ExitStack, console: Console
) -> tuple[list[Contender], dict[str, Any]]:
    console.print("bench: starting PyTorch")
    rows = {config.data.length: padded(config) for config in configs}
    run, about = stack.enter_context(train_peer.start(configs[0].model, rows))
    made = []
    for config in configs:
        length = config.data.length
        for kind in ("float32", "bfloat16"):
            turn = functools.partial(run, length, kind)
            label = "bfloat16 autocast" if kind == "bfloat16" else kind
            slots = config.data.batch_rows * length
            fill = _fill(rows[length], "attention_mask")
            made.append(Contender(length, "PyTorch", label, fill, slots, turn))
    return made, about


def _race(contenders: list[Contender], rounds: int, steps: int, console: Console) -> None:
    """Turns for everybody, one after the other; who is hopeless on this machine gets only its first step.

    Bfloat16 on a CPU without instructions for it takes half a minute a step.
    """
    quickest: dict[int, float] = {}
    for contender in contenders:
        _measure(contender, 1)
        quickest[contender.length] = min(quickest.get(contender.length, float("inf")), contender.seconds)
    for number in range(rounds):
        console.print(f"bench: round {number + 1} of {rounds}")
        for contender in contenders:
            if contender.seconds < 8 * quickest[contender.length]:
                _measure(contender, steps)


def _measure(contender: Contender, steps: int) -> None:
    wall, cpu, contender.loss = contender.turn(steps)
    contender.seconds = min(contender.seconds, wall / steps)
    contender.cpu_seconds = min(contender.cpu_seconds, cpu / steps)


# --- Report --------------------------------------------------------------------------------------------------------


def _figure(contender: Contender) -> dict[str, Any]:
    real = contender.fill * contender.slots
    return {
        "length": contender.length,
        "rows": contender.slots // contender.length,
        "name": contender.name,
        "precision": contender.precision,
        "fill": contender.fill,
        "slots_per_second": contender.slots / contender.seconds,
        "real_tokens_per_second": real / contender.seconds,
        "real_tokens_per_cpu_second": real / contender.cpu_seconds,
        "seconds_per_step": contender.seconds,
        "loss": contender.loss,
        "parts": [dataclasses.asdict(part) for part in contender.take_apart()] if contender.take_apart else [],
    }
