"""The results of tools/accelerator_check.py as a page in Markdown."""

from __future__ import annotations

from typing import Any

COLUMNS = ("model", "length", "who", "attention", "precision", "rows", "rows/s", "real tokens/s", "MFU", "GiB", "note")
RIGHT = ("length", "rows", "rows/s", "real tokens/s", "MFU", "GiB")

LEGEND = """\
Rows/s: rows of the full length, with padding; real tokens/s: without padding. bertlite_jax packs several windows into a
row, transformers pads one window to a row. MFU: the FLOPs that a step needs by formula over the published peak of the
device; that transformers also computes logits where nothing is predicted does not count. GiB: the most device memory
that the process has used. The fastest of three turns counts."""


def table(result: dict[str, Any]) -> str:
    """The machine, a row for each contender, parity, and why some attention is not available."""
    lines = ["# Accelerator check", "", _machine(result), ""]
    if result["machine"]["platform"] == "cpu":
        lines += ["No accelerator: tiny shapes on the CPU, which only show that the check works.", ""]
    lines += _markdown(COLUMNS, [_cells(figure) for figure in result["figures"]], RIGHT)
    lines += ["", LEGEND, "", *_parity(result["parity"])]
    if result["notes"]:
        lines += ["", "Attention that is not available here:", "", *(f"* {note}" for note in result["notes"])]
    return "\n".join(lines) + "\n"


def outcome(figure: dict[str, Any]) -> str:
    """A line about one contender."""
    speed = f"{figure['rows_per_second']:,.1f} rows/s" if figure["status"] == "measured" else _note(figure)
    return f"{figure['preset']} {figure['length']}, {figure['who']}, attention {figure['attention']}: {speed}"


def _machine(result: dict[str, Any]) -> str:
    machine, settings = result["machine"], result["settings"]
    limit = machine["bytes_limit"]
    memory = f", {limit / 2**30:.1f} GiB for JAX" if limit else ""
    versions = machine["versions"] | machine["torch_versions"]
    return (
        f"One {machine['device_kind']} of {machine['devices']}{memory}; {machine['cpu']}, {machine['cores']} cores; "
        f"{', '.join(f'{name} {value}' for name, value in versions.items())}. At most {settings['batch_tokens']:,} "
        f"tokens a step{', layers unrolled' if settings['unroll'] else ''}. "
        f"{result['spent_seconds']:.0f} of {60 * settings['minutes']:.0f} s used."
    )


def _cells(figure: dict[str, Any]) -> list[str]:
    named = [figure["preset"], str(figure["length"]), figure["who"], figure["attention"]]
    if figure["status"] != "measured":
        return [*named, "", str(figure.get("rows", "")), "", "", "", "", _note(figure)]
    mfu, peak = figure["mfu"], figure["peak_bytes"]
    return [
        *named,
        figure["precision"],
        f"{figure['rows']:,}",
        f"{figure['rows_per_second']:,.1f}",
        f"{figure['real_tokens_per_second']:,.0f}",
        "unknown" if mfu is None else f"{mfu:.1%}",
        "unknown" if peak is None else f"{peak / 2**30:.1f}",
        _note(figure),
    ]


def _note(figure: dict[str, Any]) -> str:
    """Why there are no figures, or which batches did not fit."""
    too_many = figure.get("tried_rows", [])[:-1]
    if figure["status"] == "measured":
        return f"{', '.join(map(str, too_many))} rows: out of memory" if too_many else ""
    if figure["status"] == "out of memory":
        return f"out of memory with {figure['rows']} row{'s' if figure['rows'] > 1 else ''}"
    return f"{figure['status']}: {figure['reason']}".replace("|", "/").replace("\n", " ")


def _parity(parity: dict[str, Any]) -> list[str]:
    if not parity:
        return ["Losses have not been compared with the CPU's yet."]
    title = f"Losses of {parity['steps']} steps of {parity['preset']}, {parity['rows']} x {parity['length']}, AdamW"
    if parity["status"] != "measured":
        return [f"{title}: {parity['status']}: {parity['reason']}"]
    rows = [
        [name, f"{run['largest']:.2e}", f"{run['relative']:.2e}", str(run["step"])]
        for name, run in parity["runs"].items()
    ]
    first, last = parity["cpu_losses"][0], parity["cpu_losses"][-1]
    head = f"{title}, compared with the CPU in float32, where the loss went from {first:.4f} to {last:.4f}:"
    columns = ("precision", "largest difference", "relative", "at step")
    return [head, "", *_markdown(columns, rows, columns[1:])]


def _markdown(columns: tuple[str, ...], rows: list[list[str]], right: tuple[str, ...]) -> list[str]:
    dashes = ["--:" if name in right else "---" for name in columns]
    return [f"| {' | '.join(cells)} |" for cells in (columns, dashes, *rows)]
