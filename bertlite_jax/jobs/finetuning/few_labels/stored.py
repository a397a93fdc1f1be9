"""Arrays that take long to compute: computed part by part and stored, so that a killed run goes on with the next part.

A part is written whole or not at all. When all are there they become one file, and their folder goes.
"""

from __future__ import annotations

import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

import numpy as np

from bertlite_jax.host import whole_files
from bertlite_jax.jobs.runs import arrays
from bertlite_jax.report.run import metrics

SECONDS_BETWEEN_LINES = 10.0
"""At least so long is the time from one line on the progress to the next."""


def in_parts(
    path: pathlib.Path,
    sizes: Sequence[int],
    width: int,
    begin: Callable[[], Callable[[int], np.ndarray]],
    what: str,
) -> np.ndarray:
    """The array that is stored at `path`, or else is computed now and stored there.

    Args:
      path: of the whole, a .npy file. Its name has a hash of everything that the array follows from.
      sizes: rows of each part.
      width: numbers in a row.
      begin: opens what computes, and returns (number of a part) -> its array [size, width]. It is called only if
        something has to be computed.
      what: ends the lines on the progress, behind how many rows are done, such as `texts have an answer`.

    Raises:
      UserError: a stored file is damaged, or a file cannot be written.
    """
    whole, folder = (sum(sizes), width), path.with_suffix(".parts")
    if path.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # Of a run that was killed before it could do so.
        return arrays.load(path, whole)
    parts, compute = [], None
    started = shown = time.monotonic()
    computed = 0
    for number, size in enumerate(sizes):
        part = folder / f"{number:06}.npy"
        if len(sizes) > 1 and part.is_file():
            parts.append(arrays.load(part, (size, width)))
            continue
        compute = compute or begin()
        parts.append(compute(number))
        assert parts[-1].shape == (size, width)
        computed += size
        if len(sizes) > 1:
            _write(part, parts[-1])
        now, done = time.monotonic(), sum(map(len, parts))
        if now - shown > SECONDS_BETWEEN_LINES and done < whole[0]:
            left = metrics.clock_time((now - started) / computed * (whole[0] - done))
            print(f"finetune: {done:,} of {whole[0]:,} {what}, {left} left")
            shown = now
    array = np.concatenate(parts)
    _write(path, array)
    shutil.rmtree(folder, ignore_errors=True)
    return array


def _write(path: pathlib.Path, array: np.ndarray) -> None:
    with whole_files.new_file(path, overwrite=True, job="finetune") as unfinished, open(unfinished, "wb") as out:
        np.save(out, array)
