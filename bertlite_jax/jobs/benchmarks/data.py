"""`bertlite bench data`: how fast batches are made, how full they are, and how easy their pairs are.

Real tokens are the slots of a window (`segments > 0`), with [CLS] and [SEP]; padding never counts.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.table import Table

from bertlite_jax.config.pair_tasks import PairTask
from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.corpus import folder
from bertlite_jax.data.rows import batches, packing, source
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu
from bertlite_jax.report import terminal


def bench_data(
    corpus: str,
    *,
    tokenizer: str = "",
    length: int | None = None,
    batch_rows: int = 256,
    steps: int = 50,
    pair_task: PairTask = "sop",
    windows_per_row: int = 8,
    pack: bool = True,
    step_seconds: float | None = None,
    threads: int = 2,
) -> dict[str, Any]:
    """Makes batches of a corpus and prints speed, fill and pair statistics.

    Args:
      corpus: Corpus folder that `bertlite corpus` made.
      tokenizer: Tokenizer folder that the corpus was built with. Without it, pairs are cut without regard to
        punctuation and capitals, and the edge rule is not computed.
      length: Tokens in a row; by default the length that the corpus was built for.
      batch_rows: Rows in a batch.
      steps: Number of batches to time.
      pair_task: Pair task, as in data.pair_task of a config.
      windows_per_row: Most windows in a row, as in data.windows_per_row.
      pack: Put several windows into a row, as in data.pack.
      step_seconds: Time of a training step, in seconds; if given, also measures how long steps wait for data.
      threads: Threads that prepare batches, as in data.read_threads.

    Returns:
      {"fill", "windows_per_row", "tokens_per_second", "tokens_per_second_core", "plan_seconds", "pairs", "wait_share"
      (None without `step_seconds`), "cpu", ..}. `tokens_per_second_core` divides by CPU time, over all threads.

    Raises:
      UserError: the corpus cannot be used, or `steps` is not positive.
    """
    if steps < 1 or batch_rows < 1 or threads < 1:
        raise UserError(f"bench: steps = {steps}, batch_rows = {batch_rows} and threads = {threads} must be positive")
    data = Data(
        corpus=(corpus,),
        tokenizer=tokenizer,
        length=length or folder.read_meta(corpus)["length"],
        batch_rows=batch_rows,
        pack=pack,
        windows_per_row=windows_per_row,
        pair_task=pair_task,
    )
    opened = source.open_source(data, "train", 0)
    figures = {
        "corpus": corpus,
        "length": data.length,
        "batch_rows": batch_rows,
        "pair_task": pair_task,
        "cpu": f"{cpu.name()} ({' '.join(cpu.fast_flags()) or 'no known flags'})",
        "plan_seconds": _plan_seconds(opened),
        **_speed(opened, batch_rows, steps),
        "pairs": batches.pair_statistics(opened, min(20, steps)) if pair_task != "none" else None,
        "wait_share": _wait_share(opened, batch_rows, steps, step_seconds, threads) if step_seconds else None,
        "step_seconds": step_seconds,
    }
    _print(figures, len(opened.corpora[0].lengths))
    return figures


def _plan_seconds(opened: source.Source) -> float:
    """Seconds to plan the rows and one pass over them, without cached orders."""
    corpus, began = opened.corpora[0], time.perf_counter()
    plan = packing.plan_rows(corpus.slots, opened.data.length, opened.data.window_slots)
    packing.order_windows(corpus.slots, 0, 0, 0)
    packing.order_rows(plan.rows, 0, 0, 0)
    return time.perf_counter() - began


def _speed(opened: source.Source, batch_rows: int, steps: int) -> dict[str, float]:
    batches.batch_at(opened, 1, batch_rows)  # Plans the first pass.
    real, slots, windows = 0, 0, 0
    wall = cpu = 0.0
    for step in range(1, steps + 1):
        began, began_cpu = time.perf_counter(), time.process_time()
        batch = batches.batch_at(opened, step, batch_rows)
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        real += int(np.count_nonzero(batch["segments"]))
        slots += batch["segments"].size
        windows += int(batch["segments"].max(axis=1).sum())
    return {
        "fill": real / slots,
        "windows_per_row": windows / (steps * batch_rows),
        "tokens_per_second": real / wall,
        "tokens_per_second_core": real / cpu,
        "batch_seconds": wall / steps,
    }


def _wait_share(opened: source.Source, batch_rows: int, steps: int, step_seconds: float, threads: int) -> float:
    """Share of its time that a loop waits for batches, if each step takes `step_seconds` besides."""
    steps = max(2, min(steps, int(20 / step_seconds)))
    feed = batches.feed(lambda step: batches.batch_at(opened, step, batch_rows), 1, steps, threads)
    next(feed)  # Every run waits for its first batch.
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps - 1):
        time.sleep(step_seconds)
        asked = time.perf_counter()
        next(feed)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - began)


def _print(figures: dict[str, Any], windows: int) -> None:
    table = Table(title=f"{figures['corpus']}: batches of {figures['batch_rows']} rows of {figures['length']} tokens")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_row("slots that hold a token (fill)", f"{figures['fill']:.2%}")
    table.add_row("windows and rests per row", f"{figures['windows_per_row']:.2f}")
    table.add_row("real tokens per second", f"{figures['tokens_per_second']:,.0f}")
    table.add_row("real tokens per second of CPU time", f"{figures['tokens_per_second_core']:,.0f}")
    table.add_row("a batch", f"{1000 * figures['batch_seconds']:.1f} ms")
    table.add_row(f"planning a pass over {windows:,} windows", f"{figures['plan_seconds']:.2f} s")
    if pairs := figures["pairs"]:
        for label, share in pairs["label_shares"].items():
            table.add_row(f"pairs ({figures['pair_task']}) with label {label}", f"{share:.2%}")
        table.add_row("windows without a pair", f"{pairs['weight_zero_share']:.2%}")
        table.add_row("tokens of windows outside their pairs", f"{pairs['rest_share']:.2%}")
        rule = pairs["edge_rule_accuracy"]
        table.add_row("a rule that reads only the edges scores", "needs --tokenizer" if rule is None else f"{rule:.3f}")
    if figures["wait_share"] is not None:
        table.add_row(
            f"a training step of {figures['step_seconds']:g} s waits for data",
            f"{figures['wait_share']:.2%} of the time",
        )
    console = terminal.open_console()
    console.print(table)
    console.print(f"CPU: {figures['cpu']}; real tokens include [CLS] and [SEP], never padding", highlight=False)
