"""Results of `bertlite bench train` as tables in a terminal of 100 columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bertlite_jax.report.benchmarks.machine_line import machine_line


def print_speeds(figures: list[dict[str, Any]], machine: dict[str, Any], console: Console) -> None:
    """Tokens a second of all contenders, and the machine."""
    table = Table(title="ALBERT-base pretraining, AdamW: tokens a second")
    for name in ("rows", "who", "precision"):
        table.add_column(name)
    for name in ("filled", "slots/s", "real/s", "real/CPU-s", "of peer"):
        table.add_column(name, justify="right")
    for figure in figures:
        peer_best = max(
            (
                f["real_tokens_per_second"]
                for f in figures
                if f["length"] == figure["length"] and f["name"] != "bertlite_jax"
            ),
            default=None,
        )
        table.add_row(
            f"{figure['rows']} x {figure['length']}",
            figure["name"],
            figure["precision"],
            f"{figure['fill']:.1%}",
            f"{figure['slots_per_second']:,.0f}",
            f"{figure['real_tokens_per_second']:,.0f}",
            f"{figure['real_tokens_per_cpu_second']:,.0f}",
            f"{figure['real_tokens_per_second'] / peer_best:.2f}x" if peer_best else "",
        )
    console.print(table)
    peer = "".join(f", {name} {value}" for name, value in machine["peer"].items())
    console.print(
        f"{machine_line(machine)}{peer}\nfilled: share of slots with a real token (padding is not); real: real tokens; "
        "of peer: real/s over PyTorch's better figure. PyTorch pads one window a row, bertlite_jax packs. The best "
        "turn of each counts.",
        soft_wrap=True,
    )
    if any(not np.isfinite(figure["loss"]) for figure in figures):
        console.print("[red]a loss is not finite, so these figures are meaningless[/red]")


def print_parts(figure: dict[str, Any], console: Console) -> None:
    """Where the time of a step goes. Rates show what bounds a part: arithmetic for products, memory for the others."""
    if not figure["parts"]:
        return
    table = Table(title=f"{figure['rows']} x {figure['length']}, {figure['precision']}: a step, part by part")
    table.add_column("part")
    for name in ("ms", "share", "GFLOP", "GFLOP/s", "GB", "GB/s"):
        table.add_column(name, justify="right")
    whole = sum(part["seconds"] for part in figure["parts"])
    for part in figure["parts"]:
        seconds, gflop, gigabytes = part["seconds"], part["flops"] / 1e9, part["bytes"] / 1e9
        of_products = (f"{gflop:,.0f}", f"{gflop / seconds:,.0f}") if gflop and seconds else ("", "")
        moved = (f"{gigabytes:.2f}", f"{gigabytes / seconds:.1f}") if gigabytes and seconds else ("", "")
        table.add_row(part["name"], f"{1000 * seconds:,.0f}", f"{seconds / whole:.0%}", *of_products, *moved)
    console.print(table)
