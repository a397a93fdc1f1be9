"""`bertlite bench train`: real tokens per second of ALBERT-base training, with `--peer` beside PyTorch.

Both train on windows of the same text, in rows of the same length. Ours are packed, several windows to a row; the
peer's rows hold one window and padding, as is usual there. Contenders take turns (`race.py`). Real tokens are those of
windows, with [CLS] and [SEP] but never padding.

At the end, our own step is broken down: where its time goes, and at which rates. With `--as` all of this runs in a
process that is limited to the instruction sets of a lesser host.
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

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.config.text import CorpusOptions, TokenizerOptions
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory, whole_files
from bertlite_jax.jobs.benchmarks import machine, output, race, train_peer
from bertlite_jax.jobs.benchmarks.sample_rows import TEXT
from bertlite_jax.jobs.pretraining.step import make_pretraining
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.jobs.text.tokenizer import make_tokenizer
from bertlite_jax.model.ops import choose_precision, precision
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks import training
from bertlite_jax.report.cost import breakdown, hlo, trace
from bertlite_jax.train import sharding, state

VOCAB_SIZE = 8_000
"""Pieces of the tokenizer that is trained on the text. The model's embedding table keeps ALBERT's 30,000 rows."""
BATCHES = 4
"""Number of different batches that the steps cycle through; `fill` is the mean over them."""
TOO_SLOW = 8.0
"""A contender whose first step takes more than this many times the fastest one's gets no turns."""

Train = Callable[[int], tuple[float, float, float]]
"""(steps) -> wall seconds, CPU seconds and the last loss of that many steps."""
BreakDown = Callable[[], list[breakdown.Part]]
"""Trains a few steps under the profiler; returns the parts of the fastest."""


@dataclasses.dataclass
class Contender(race.Contender):
    """A library in one precision that trains on rows of one length; `seconds` are per step, the mean over a turn."""

    length: int
    precision: str
    fill: float
    """Share of the slots that hold a real token."""
    slots: int
    """Tokens in a batch, padding included."""
    train: Train
    break_down: BreakDown | None = None
    """Only for our own step on a CPU."""
    cpu_seconds: float = float("inf")
    """The least per step, the mean over a turn."""
    loss: float = float("nan")

    def take_turn(self, steps: int) -> list[float]:
        """Trains `steps` steps and records the CPU time and the loss; returns the wall seconds per step."""
        wall, cpu, self.loss = self.train(steps)
        self.cpu_seconds = min(self.cpu_seconds, cpu / steps)
        return [wall / steps]


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
    """Trains ALBERT-base for a few steps and prints real tokens per second.

    Args:
      peer: Also train transformers' AlbertForPreTraining in PyTorch, in float32 and under bfloat16 autocast.
      text: Text files; by default the text that comes with the package.
      tokenizer: Tokenizer folder; by default one is trained on the text.
      lengths: Row lengths, in tokens.
      batch_tokens: Tokens in a batch, padding included: a batch has batch_tokens / length rows.
      rounds: Turns of each contender.
      steps: Training steps in a turn.
      unroll: Unroll the loop over the layers (model.unroll).
      as_host: Limit both sides to a CPU with AVX2, or with AVX-512 but without bfloat16.
      out: JSON file for the figures.

    Returns:
      For each contender {"length", "name", "precision", "fill", "slots_per_second", "real_tokens_per_second",
      "real_tokens_per_cpu_second", "seconds_per_step", "loss", "parts"}; the parts of our own step on a CPU are
      {"name", "seconds", "flops", "bytes"}, see `breakdown.PARTS`.

    Raises:
      UserError: the text cannot be used, the peer is not installed, or this CPU lacks what `as_host` needs.
    """
    output.check_file("out", out)
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
    console = terminal.open_console()
    memory.keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        model = dataclasses.replace(presets.ALBERT_BASE, unroll=unroll)
        configs = build_configs(text, tokenizer, lengths, batch_tokens, model, pathlib.Path(scratch), console)
        contenders = [c for config in configs for c in _ours(config, console)]
        about: dict[str, Any] = {}
        if peer:
            peer_contenders, about = _theirs(configs, stack, console)
            contenders += peer_contenders
        run_race(contenders, rounds, steps, console)
    timed = [contender for contender in contenders if contender.seconds]
    figures = [_figure(contender) for contender in sorted(timed, key=lambda c: c.length)]
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
    """Builds a corpus for every length in the scratch folder. Returns the configs that train the model on them."""
    inputs = list(text) or [str(TEXT)]
    if not tokenizer:
        console.print(f"bench: training a tokenizer of {VOCAB_SIZE:,} pieces on {', '.join(inputs)}", soft_wrap=True)
        tokenizer = str(scratch / "tokenizer")
        make_tokenizer(inputs, tokenizer, TokenizerOptions(vocab_size=VOCAB_SIZE))
    pieces = load_tokenizer(tokenizer).vocab_size
    if pieces > model.vocab_size:
        raise UserError(
            f"bench: --tokenizer {tokenizer} has {pieces:,} pieces, more than the model's {model.vocab_size:,}; "
            f"pass one that `bertlite tokenizer --vocab-size {model.vocab_size}` made"
        )
    configs = []
    for length in lengths:
        folder = str(scratch / f"corpus{length}")
        with contextlib.redirect_stdout(io.StringIO()):
            build_corpus(inputs, tokenizer, folder, CorpusOptions(length=length), workers=1)
        data = Data(corpus=(folder,), tokenizer=tokenizer, length=length, batch_rows=batch_tokens // length)
        adamw = Optim(name="adamw", learning_rate=1e-4, warmup_steps=0)
        configs.append(Pretrain(model=model, data=data, optim=adamw, run=Run(steps=1_000_000)))
    return configs


def _fill(batch_list: list[dict[str, np.ndarray]], name: str) -> float:
    """Share of the slots where the array `name` is positive."""
    return float(np.mean([np.mean(batch[name] > 0) for batch in batch_list]))


def padded(config: Pretrain) -> list[dict[str, np.ndarray]]:
    """Batches for the peer: one window per row, `mask.rate` of the real tokens masked, labels -100 elsewhere."""
    data = dataclasses.replace(config.data, pack=False)
    opened = source.open_source(data, "train", 0)
    generator = np.random.default_rng(0)
    specials = list(opened.special_ids.values())
    padded_batches = []
    for step in range(1, BATCHES + 1):
        batch = batches.batch_at(opened, step, data.batch_rows)
        maskable = (batch["segments"] > 0) & ~np.isin(batch["tokens"], specials)
        masked = maskable & (generator.random(maskable.shape) < config.mask.rate)
        values = {
            "input_ids": np.where(masked, opened.special_ids["mask"], batch["tokens"]),
            "attention_mask": batch["segments"] > 0,
            "token_type_ids": batch["token_types"],
            "labels": np.where(masked, batch["tokens"], -100),
            train_peer.label_of_pairs(config.model): batch["pair_labels"][:, 0],
        }
        padded_batches.append({name: value.astype(np.int64) for name, value in values.items()})
    return padded_batches


# --- Contenders ------------------------------------------------------------------------------------------------------


def _ours(config: Pretrain, console: Console) -> list[Contender]:
    """This package, compiled: in float32 and, if that is something else, in what `auto` chooses."""
    auto = choose_precision.resolve("auto", jax.default_backend())
    opened = source.open_source(config.data, "train", 0)
    batch_list = [batches.batch_at(opened, step, config.data.batch_rows) for step in range(1, BATCHES + 1)]
    contenders = []
    for compute in dict.fromkeys((auto, "float32")):
        console.print(f"bench: compiling, length {config.data.length}, {compute}")
        train, break_down = _make_train(config, compute, opened.special_ids, batch_list)
        contender = Contender(
            name="bertlite_jax",
            length=config.data.length,
            precision=f"auto ({compute})" if compute == auto else compute,
            fill=_fill(batch_list, "segments"),
            slots=config.data.batch_rows * config.data.length,
            train=train,
            break_down=break_down if jax.default_backend() == "cpu" else None,
        )
        contenders.append(contender)
    return contenders


def _make_train(
    config: Pretrain, compute: precision.Compute, special_ids: dict[str, int], batch_list: list[dict[str, np.ndarray]]
) -> tuple[Train, BreakDown]:
    """The step of `bertlite pretrain`, compiled and run once."""
    mesh = sharding.make_mesh(1)
    pretraining = make_pretraining(config, compute, mesh, special_ids)
    train_state = state.init_state(pretraining.init_params, pretraining.optimizer, config.run.seed, pretraining.layout)
    device_batches = [sharding.put_batch(batch, mesh) for batch in batch_list]
    program = pretraining.step.lower(train_state, device_batches[0]).compile()

    def train(steps: int) -> tuple[float, float, float]:
        nonlocal train_state
        wall, cpu = time.perf_counter(), time.process_time()
        metrics = {}
        for number in range(steps):
            train_state, metrics = program(train_state, device_batches[number % len(device_batches)])
        loss = float(metrics["loss"])
        return time.perf_counter() - wall, time.process_time() - cpu, loss

    def break_down() -> list[breakdown.Part]:
        module = hlo.parse(program.as_text() or "")
        names = breakdown.operations(module)
        seconds, by_operation = min((_profile_step(train, names) for _ in range(BATCHES)), key=lambda step: step[0])
        return breakdown.breakdown(module, by_operation, seconds)

    train(1)
    return train, break_down


def _profile_step(train: Train, names: set[str]) -> tuple[float, dict[str, float]]:
    """Wall seconds of a step, and those of its operations by name."""
    with tempfile.TemporaryDirectory() as folder:
        with trace.profiling(folder):
            seconds, _, _ = train(1)
        return seconds, trace.operation_seconds(folder, names)


def _theirs(
    configs: list[Pretrain], stack: contextlib.ExitStack, console: Console
) -> tuple[list[Contender], dict[str, Any]]:
    """The peer in float32 and under bfloat16 autocast, and its versions and threads."""
    console.print("bench: starting PyTorch")
    by_length = {config.data.length: padded(config) for config in configs}
    run, about = stack.enter_context(train_peer.start(configs[0].model, by_length))
    contenders = [
        Contender(
            name="PyTorch",
            length=length,
            precision="bfloat16 autocast" if kind == "bfloat16" else kind,
            fill=_fill(batch_list, "attention_mask"),
            slots=batch_list[0]["input_ids"].size,
            train=functools.partial(run, length, kind),
        )
        for length, batch_list in by_length.items()
        for kind in ("float32", "bfloat16")
    ]
    return contenders, about


def run_race(contenders: list[Contender], rounds: int, steps: int, console: Console) -> None:
    """Times a first step of each contender, then turns of those that are not too slow."""
    for contender in contenders:
        # Bfloat16 on a CPU without instructions for it takes minutes here, so the user sees what is going on.
        console.print(f"bench: first step of {contender.name}, {contender.precision}, length {contender.length}")
        contender.seconds += _turn_or_drop(contender, 1, console)
    contenders = [contender for contender in contenders if contender.seconds]
    for length in {contender.length for contender in contenders}:
        same_length = [contender for contender in contenders if contender.length == length]
        race.drop_slow(same_length, TOO_SLOW, min(contender.fastest for contender in same_length))
    race.race(contenders, rounds, lambda contender: _turn_or_drop(contender, steps, console), console.print)


def _turn_or_drop(contender: Contender, steps: int, console: Console) -> list[float]:
    """The seconds of a turn; none if it takes too long, and then the contender gets no further turns."""
    try:
        return contender.take_turn(steps)
    except TimeoutError as slow:
        contender.dropped = True
        outcome = "its earlier times count" if contender.seconds else "it is left out"
        console.print(f"bench: {contender.name}, {contender.precision}: {slow}; {outcome}")
        return []


# --- Report --------------------------------------------------------------------------------------------------------


def _figure(contender: Contender) -> dict[str, Any]:
    real = contender.fill * contender.slots
    return {
        "length": contender.length,
        "rows": contender.slots // contender.length,
        "name": contender.name,
        "precision": contender.precision,
        "fill": contender.fill,
        "slots_per_second": contender.slots / contender.fastest,
        "real_tokens_per_second": real / contender.fastest,
        "real_tokens_per_cpu_second": real / contender.cpu_seconds,
        "seconds_per_step": contender.fastest,
        "loss": contender.loss,
        "parts": [dataclasses.asdict(part) for part in contender.break_down()] if contender.break_down else [],
    }
