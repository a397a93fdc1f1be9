"""Results of `bertlite bench scale` as a table in the terminal and as a plot."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.report import plots
from bertlite_jax.report.benchmarks.machine_line import machine_line

Figures = dict[str, Any]
"""As `jobs/benchmarks/scale.py` returns them."""
_HEAD = (
    "devices",
    "rows",
    "ms/step",
    "real/s",
    "speed-up",
    "efficiency",
    "reduced MB",
    "of 4 B/param",
    "waiting",
)
_LOOKS = {
    ("devices", "strong"): {"color": "#111111", "marker": "o", "linestyle": "-"},
    ("devices", "weak"): {"color": "#111111", "marker": "o", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
    ("processes", "strong"): {"color": "#6b8fb3", "marker": "s", "linestyle": "-"},
    ("processes", "weak"): {"color": "#6b8fb3", "marker": "s", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
}


def rows_of(results: Figures) -> list[tuple[str, ...]]:
    """A row of text for each figure: spread, scaling, and the columns of `_HEAD`."""
    return [
        (
            each["spread"],
            each["scaling"],
            f"{each['devices']}",
            f"{each['rows']}",
            f"{1000 * each['seconds_per_step']:,.0f}",
            f"{each['real_tokens_per_second']:,.0f}",
            f"{each['speed_up']:.2f}",
            f"{each['efficiency']:.2f}",
            f"{each['reduced_bytes'] / 1e6:.2f}",
            f"{each['reduced_bytes'] / (4 * each['parameters']):.4f}",
            f"{each['waiting_share']:.0%}",
        )
        for each in results["figures"]
    ]


def notes(results: Figures) -> list[str]:
    """What was measured on which machine, what the columns mean, and what does not follow from them."""
    on, settings, first = results["machine"], results["settings"], results["figures"][0]
    most = max(each["devices"] for each in results["figures"])
    lines = [
        f"{settings['preset']}, {first['parameters']:,} parameters, rows of {settings['length']} tokens, AdamW, "
        f"products in {first['compute']}; {on['device_kind']}; {machine_line(on)}",
        "strong: one batch divided among more devices; weak: the same number of rows for each device. real/s: tokens "
        "without padding. speed-up: over one device. efficiency: speed-up over devices. reduced: bytes that a device "
        "contributes to reductions in a step, counted in the compiled program, also over 4 bytes a parameter. waiting: "
        "share of the devices' time between having their own part of a sum and having the sum, in extra steps under "
        "the profiler; it includes the wait for slower devices and the transfer.",
    ]
    if on["platform"] == "cpu":
        few = f", and {most} devices on {on['cores']} cores take turns" if most > on["cores"] else ""
        lines.append(
            f"This shows overhead, not speed: all devices share the same {on['cores']} cores, which one device already "
            f"uses{few}. The best speed-up here is about 1; what is missing is the cost of splitting."
        )
    if on["load"] > on["cores"] / 2:
        lines.append("Other programs kept this machine busy, in each row to another extent: do not compare speeds.")
    return lines


def print_table(results: Figures, console: Console) -> None:
    """One block for each spread and scaling, then the notes."""
    table = Table(
        title="Training speed by devices", box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title_justify="left"
    )
    for name in ("over", "scaling", *_HEAD):
        table.add_column(name, justify="right" if name in _HEAD else "left", no_wrap=True)
    rows = rows_of(results)
    for number, row in enumerate(rows):
        last = number + 1 == len(rows) or rows[number + 1][:2] != row[:2]
        table.add_row(*row, end_section=last)
    console.print(table)
    for line in results["notes"]:
        console.print(line, soft_wrap=True)


def draw(results: Figures) -> bytes:
    """Speed-up, and the share of time spent waiting, over the number of devices, as PNG.

    Raises:
      UserError: matplotlib is not installed.
    """
    counts = sorted({each["devices"] for each in results["figures"]})
    shared = results["machine"]["platform"] == "cpu"
    with plots.drawing((9.6, 3.8), "png", job="bench") as (figure, file):
        left, right = figure.subplots(1, 2)
        ideal = [1 if shared else count for count in counts]
        label = f"about the best: {results['machine']['cores']} cores for all" if shared else "best possible"
        left.plot(counts, ideal, label=label, **plots.STYLES["level"])
        for (spread, scaling), look in _LOOKS.items():
            line = [each for each in results["figures"] if (each["spread"], each["scaling"]) == (spread, scaling)]
            if line:
                places = [each["devices"] for each in line]
                left.plot(places, [each["speed_up"] for each in line], label=f"{scaling}, {spread}", **look)
                right.plot(places, [100 * each["waiting_share"] for each in line], **look)
        left.set_ylabel("real tokens/s, over those of one device")
        right.set_ylabel("devices' time inside collectives, %")
        left.set_ylim(bottom=0)
        right.set_ylim(0, 100)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.set_xlabel("devices")
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        settings = results["settings"]
        where = "a CPU pretending to be several devices" if shared else results["machine"]["device_kind"]
        figure.suptitle(f"{settings['preset']}, rows of {settings['length']} tokens, {where}")
        figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=8.5)
    return file.getvalue()
