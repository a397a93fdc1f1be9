"""Checkpoints that are whole or not used.

A step's folder holds the items `params`, `opt` and `meta` as Orbax writes them, and `SHA256SUMS`, which lists every
other file (`sha256sum -c SHA256SUMS` reads it). Orbax commits a step with one rename, but restores flipped bits
without a word and takes an empty folder named `9` for step 9. So a step counts only when it is *sealed*: its sums were
written after the commit (`checkpoint_sums`), and they are checked before each restore (`checkpoint_arrays`).

    step = newest_good(folder, log)                       # None: start at step 0
    checkpoints = open_checkpoints(folder, keep_last=3, keep_every=0)
    if step is not None:
        params, opt, meta = restore(folder, step, params_like, opt_like)
    for step in ...:
        maybe_seal(checkpoints)                           # cheap; in every step
        save(checkpoints, step, params, opt, {"step": step})
    finish(checkpoints)
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.train import checkpoint_sums, processes

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """An open folder of checkpoints. The two lists hold at most one entry each."""

    folder: pathlib.Path
    keep_last: int
    keep_every: int
    manager: Any
    """Orbax's CheckpointManager."""
    worker: concurrent.futures.ThreadPoolExecutor
    waiting: list[int] = dataclasses.field(default_factory=list)
    """The step that Orbax may still be writing."""
    sealing: list[concurrent.futures.Future[None]] = dataclasses.field(default_factory=list)
    """The seal that the worker may still be computing."""


# --- Write -------------------------------------------------------------------------------------------------------


def open_checkpoints(folder: str | os.PathLike[str], keep_last: int, keep_every: int) -> Checkpoints:
    """Opens `folder` for writing; makes it where it does not exist and clears what a killed run left behind.

    Call `newest_good` first: a damaged step that is newer than the one to resume from would stop all later saves.

    Args:
      folder: `checkpoints/` in a work directory.
      keep_last: sealed steps that are kept, counted from the newest; at least 1.
      keep_every: steps that are multiples of this number are kept for good; 0: none.
    """
    from bertlite_jax.train import checkpoint_arrays

    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if processes.is_first():
        whole_files.remove_leftovers(path)
        _remove_old_leftovers(path)
    # Old steps are removed below, after the seal. Orbax would remove them before it: with keep_last = 1, a kill
    # between the two would leave nothing that can be trusted.
    manager = checkpoint_arrays.open_manager(path)
    worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal")
    return Checkpoints(path, keep_last, keep_every, manager, worker)


def _remove_old_leftovers(folder: pathlib.Path) -> None:
    """Removes what killed runs of older code left: half removed steps, and sums that were being written."""
    for entry in folder.iterdir():
        if re.fullmatch(r"[0-9]+\.removing", entry.name):
            shutil.rmtree(entry)
        elif re.fullmatch(rf"[0-9]+\.{checkpoint_sums.SUMS}\.tmp", entry.name):
            entry.unlink()


def save(checkpoints: Checkpoints, step: int, params: Any, opt: Any, meta: dict[str, Any]) -> None:
    """Starts writing a checkpoint and returns once the arrays are copied, so that they may be donated at once.

    Args:
      checkpoints: the open folder.
      step: greater than that of any checkpoint there.
      params: tree of arrays.
      opt: tree of arrays, optax states included.
      meta: whatever JSON can hold.

    Raises:
      RuntimeError: Orbax declined, because a checkpoint of this or a later step exists. It only returns False.
      Exception: whatever went wrong while the previous checkpoint was written or sealed.
    """
    from bertlite_jax.train import checkpoint_arrays

    seal(checkpoints)
    checkpoint_arrays.start_save(checkpoints.manager, step, params, opt, meta)
    checkpoints.waiting.append(step)


def maybe_seal(checkpoints: Checkpoints) -> None:
    """Seals the last checkpoint in the background once it is committed. Never waits; for every step of the loop.

    Raises:
      Exception: whatever went wrong in a write or a seal that has ended.
    """
    if checkpoints.waiting and not checkpoints.manager.is_saving_in_progress():
        _start_seal(checkpoints)
    if checkpoints.sealing and checkpoints.sealing[0].done():
        checkpoints.sealing.pop().result()


def seal(checkpoints: Checkpoints) -> None:
    """Waits until the last checkpoint is committed and sealed.

    Raises:
      Exception: whatever went wrong while it was written or sealed.
    """
    if checkpoints.waiting:
        _start_seal(checkpoints)
    if checkpoints.sealing:
        checkpoints.sealing.pop().result()


def finish(checkpoints: Checkpoints) -> None:
    """Waits for the last checkpoint, seals it and closes the folder."""
    try:
        seal(checkpoints)
    finally:
        checkpoints.worker.shutdown()
        checkpoints.manager.close()


def _start_seal(checkpoints: Checkpoints) -> None:
    step = checkpoints.waiting.pop()
    checkpoints.manager.wait_until_finished()  # Raises what went wrong in the write, but only once.
    if processes.is_first():
        checkpoints.sealing.append(checkpoints.worker.submit(_seal_and_prune, checkpoints, step))


def _seal_and_prune(checkpoints: Checkpoints, step: int) -> None:
    checkpoint_sums.write_sums(checkpoints.folder / str(step))
    steps = checkpoint_sums.steps_in(checkpoints.folder)
    sealed = [old for old in steps if checkpoint_sums.is_sealed(checkpoints.folder / str(old))]
    for old in sealed[: -checkpoints.keep_last]:
        if checkpoints.keep_every and old % checkpoints.keep_every == 0:
            continue
        whole_files.remove_folder(checkpoints.folder / str(old))


# --- Verify ------------------------------------------------------------------------------------------------------


def verified_steps(folder: str | os.PathLike[str]) -> list[int]:
    """The steps, ascending, whose every file is as it was written."""
    path = pathlib.Path(folder)
    return [step for step in checkpoint_sums.steps_in(path) if checkpoint_sums.damage(path / str(step)) is None]


def newest_good(folder: str | os.PathLike[str], log: Log) -> int | None:
    """The step to resume from. Each damaged newer one is named in a line and renamed to `<step>.damaged`.

    They are renamed because Orbax saves nothing that is older than the newest folder. With several processes the first
    one looks, and all get its answer.

    Args:
      folder: `checkpoints/` in a work directory; need not exist.
      log: takes one line.

    Returns:
      None where there is no checkpoint, or only one that a killed run had not finished.

    Raises:
      UserError: there are checkpoints, and all are damaged. Nothing is renamed then.
    """
    return processes.first_decides(lambda: _roll_back(pathlib.Path(folder), log))


def _roll_back(folder: pathlib.Path, log: Log) -> int | None:
    good, damaged = checkpoint_sums.newest_whole(folder)
    if good is None and any(problem != checkpoint_sums.UNSEALED for _, problem in damaged):
        raise UserError(f"{_all_damaged(folder, damaged)}; put back a copy of one, or start again with --overwrite")
    for step, problem in damaged:
        name = _free_name(folder, f"{step}.damaged")
        os.rename(folder / str(step), folder / name)
        then = "starting at step 0" if good is None else f"resuming from {good}"
        log(f"checkpoint: {folder / str(step)} is damaged ({problem}), now named {name}; {then}")
    return good


def _free_name(folder: pathlib.Path, name: str) -> str:
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, 1_000_000))
    return next(candidate for candidate in candidates if not (folder / candidate).exists())


def _all_damaged(folder: pathlib.Path, damaged: list[tuple[int, str]]) -> str:
    listed = ", ".join(f"{step} ({problem})" for step, problem in damaged)
    return f"checkpoint: {folder}: every checkpoint is damaged: {listed}"


# --- Read --------------------------------------------------------------------------------------------------------


def restore(
    folder: str | os.PathLike[str], step: int, params_like: Any, opt_like: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """Reads a checkpoint back, bit for bit, onto any number of devices.

    Args:
      folder: `checkpoints/` in a work directory.
      step: of a checkpoint in it.
      params_like: tree of `jax.ShapeDtypeStruct` with shardings.
      opt_like: the same for the optimiser's state.

    Returns:
      (params, opt, meta), the trees like the given ones.

    Raises:
      UserError: the checkpoint does not exist, is damaged, or holds other names, shapes or dtypes.
    """
    from bertlite_jax.train import checkpoint_arrays

    return checkpoint_arrays.read(_checked(pathlib.Path(folder), step), params_like, opt_like)


def restore_params(
    folder: str | os.PathLike[str], step: int | None = None, log: Log = print
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads parameters without a model definition, as export and evaluation do. Changes nothing on disk.

    Args:
      folder: `checkpoints/` in a work directory.
      step: None for the newest good one.
      log: takes one line for each newer checkpoint that is damaged.

    Returns:
      (params, meta): a nested dict of numpy arrays, and what `save` was given.

    Raises:
      UserError: no checkpoint there, no such step, or damaged.
    """
    path = pathlib.Path(folder)
    if step is None:
        step, damaged = checkpoint_sums.newest_whole(path)
        if step is None:
            raise UserError(_all_damaged(path, damaged) if damaged else f"checkpoint: {path} holds no checkpoint")
        for bad, problem in damaged:
            log(f"checkpoint: {path / str(bad)} is damaged ({problem}); using {step}")
    else:
        _checked(path, step)
    from bertlite_jax.train import checkpoint_arrays

    return checkpoint_arrays.read_params(path / str(step))


def _checked(folder: pathlib.Path, step: int) -> pathlib.Path:
    steps = checkpoint_sums.steps_in(folder)
    if step not in steps:
        there = f"there are {', '.join(map(str, steps))}" if steps else "there is none"
        raise UserError(f"checkpoint: {folder / str(step)} does not exist; {there}")
    if problem := checkpoint_sums.damage(folder / str(step)):
        raise UserError(f"checkpoint: {folder / str(step)} is damaged ({problem})")
    return folder / str(step)
