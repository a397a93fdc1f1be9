"""Finds the largest batch that fits a device's memory, with few compilations: memory grows linearly with the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Attempt = Callable[[int], dict[str, Any]]
"""(rows per device) -> what `compile_step.compile_step` returns for them."""


def used_bytes(result: dict[str, Any]) -> int:
    """Memory of one device, as the compiler planned it or, if it does not fit, as its message says."""
    if not result["fits"]:
        return result["used_bytes"]
    parts = ("argument_bytes", "output_bytes", "temporary_bytes", "code_bytes")
    return sum(result[part] for part in parts)


def on_grid(rows: float) -> int:
    """The largest number with at most three significant bits that is not above `rows`; at least 1.

    1 to 8, 10, 12, 14, 16, 20, .. 28, 32, 40, ..: steps of at most a quarter, and multiples of powers of two.
    """
    whole = max(1, int(rows))
    coarse = max(0, whole.bit_length() - 3)
    return whole >> coarse << coarse


def after(rows: int) -> int:
    """The next number on the grid."""
    return rows + (1 << max(0, rows.bit_length() - 3))


def find_largest(
    attempt: Attempt,
    first: int,
    available: int,
    points: Iterable[tuple[int, int]] = (),
    log: Callable[[str], None] = print,
) -> tuple[int, dict[str, Any]]:
    """Tries numbers of rows until the largest on the grid that fits is known, as far as memory is linear.

    Args:
      attempt: compiles the step.
      first: rows to start with.
      available: memory of a device, in bytes.
      points: known pairs (rows, bytes) for the same step; (0, bytes of the state) helps.
      log: prints a line for each attempt.

    Returns:
      The rows and the result of `attempt`; (0, the last result) if not even one row fits.
    """
    memory = dict(points)
    results: dict[int, dict[str, Any]] = {}
    fits, fails, rows = 0, 0, on_grid(first)
    while rows:
        result = results[rows] = attempt(rows)
        memory[rows] = used_bytes(result)
        verdict = "fit" if result["fits"] else "do not fit"
        log(f"compile: {rows} rows per device {verdict}: {memory[rows] / 2**30:.1f} of {available / 2**30:.1f} GiB")
        if result["fits"]:
            fits = max(fits, rows)
        else:
            fails = min(fails or rows, rows)
        rows = _next(memory, fits, fails, available)
    return fits, results[fits or fails]


def _next(memory: dict[int, int], fits: int, fails: int, available: int) -> int:
    """The rows to try next; 0 if the largest that fit are known."""
    if fails and after(fits) >= fails:
        return 0
    guess = on_grid(_rows_at(memory, available))
    if guess <= fits:
        return 0  # By the line, the next number would not fit.
    if fails and guess >= fails:
        guess = on_grid(fails - 1)
    return max(guess, after(fits))


def _rows_at(memory: dict[int, int], available: int) -> float:
    """The rows at which the line through the two points nearest to the limit reaches it."""
    (rows_a, bytes_a), *others = sorted(memory.items(), key=lambda point: abs(point[1] - available))
    if not others:
        return rows_a * available / bytes_a
    rows_b, bytes_b = others[0]
    slope = (bytes_b - bytes_a) / (rows_b - rows_a)
    return rows_a + (available - bytes_a) / slope if slope > 0 else rows_a * available / bytes_a
