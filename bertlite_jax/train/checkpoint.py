"""Checkpoints that are whole or not used.

A step's folder holds the items `params`, `opt` and `meta` as Orbax writes them, and `SHA256SUMS`, which lists every
other file (`sha256sum -c SHA256SUMS` reads it). Orbax commits a step with one rename, but restores flipped bits
without a word, takes an empty folder named `9` for step 9, and may commit what cannot be restored. So a step counts
only when it is *sealed*: after the commit it was opened again (`checkpoint_arrays.check`) and its sums were written
(`checkpoint_sums`), which are checked before each restore.

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
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.host import refusals, whole_files
from bertlite_jax.train import checkpoint_rollback, checkpoint_sums, processes

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """An open folder of checkpoints. The two lists hold at most one entry each."""

    folder: pathlib.Path
    keep_last: int
    keep_every: int
    manager: Callable[[], Any]
    """Orbax's CheckpointManager, opened when it is first asked for."""
    closing: contextlib.ExitStack
    """Closes the manager."""
    worker: concurrent.futures.ThreadPoolExecutor
    waiting: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
    """The step that Orbax may still be writing, and its `checkpoint_arrays.Content`."""
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
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if processes.is_first():
        whole_files.remove_leftovers(path)
        _remove_old_leftovers(path)
    # Old steps are removed below, after the seal. Orbax would remove them before it: with keep_last = 1, a kill
    # between the two would leave nothing that can be trusted.
    closing = contextlib.ExitStack()

    @functools.cache
    def manager() -> Any:
        from bertlite_jax.train import checkpoint_arrays

        return closing.enter_context(checkpoint_arrays.manager_of(path))

    worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal")
    return Checkpoints(path, keep_last, keep_every, manager, closing, worker)


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
      Exception: whatever went wrong while this or the previous checkpoint was written or sealed; `UserError` where the
        disk refuses, or where the previous one cannot be opened again.
    """
    from bertlite_jax.train import checkpoint_arrays

    seal(checkpoints)
    with _named(checkpoints.folder, step):
        checkpoint_arrays.start_save(checkpoints.manager(), step, params, opt, meta)
    checkpoints.waiting.append((step, checkpoint_arrays.content_of(params, opt, meta)))


def maybe_seal(checkpoints: Checkpoints) -> None:
    """Seals the last checkpoint in the background once it is committed. Never waits; for every step of the loop.

    Raises:
      Exception: whatever went wrong in a write or a seal that has ended.
    """
    if checkpoints.waiting and not checkpoints.manager().is_saving_in_progress():
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
        checkpoints.closing.close()


def _start_seal(checkpoints: Checkpoints) -> None:
    step, content = checkpoints.waiting.pop()
    with _named(checkpoints.folder, step):
        checkpoints.manager().wait_until_finished()  # Raises what went wrong in the write, but only once.
    if processes.is_first():
        checkpoints.sealing.append(checkpoints.worker.submit(_seal_and_prune, checkpoints, step, content))


def _seal_and_prune(checkpoints: Checkpoints, step: int, content: Any) -> None:
    with _named(checkpoints.folder, step):
        _seal(checkpoints.folder / str(step), content)
    steps = checkpoint_sums.steps_in(checkpoints.folder)
    sealed = [old for old in steps if checkpoint_sums.is_sealed(checkpoints.folder / str(old))]
    for old in sealed[: -checkpoints.keep_last]:
        if checkpoints.keep_every and old % checkpoints.keep_every == 0:
            continue
        whole_files.remove_folder(checkpoints.folder / str(old))


def _seal(step_folder: pathlib.Path, content: Any) -> None:
    """Seals a step, unless it cannot be opened again."""
    from bertlite_jax.train import checkpoint_arrays

    sums = checkpoint_sums.sums_of(step_folder)
    try:
        checkpoint_arrays.check(step_folder, content)
    except Exception as error:  # Whatever it is: what cannot be opened now cannot be restored later.
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"checkpoint: {step_folder} was written but cannot be opened again ({reason}), so it does not count; "
            f"{_to_resume_from(step_folder.parent)}"
        ) from error
    checkpoint_sums.write_sums(step_folder, sums)


# --- What keeps a checkpoint from being written ------------------------------------------------------------------


@contextlib.contextmanager
def naming_good_ones(folder: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Inside, a write for which there is no room ends in one line that names the checkpoints that are whole.

    Args:
      folder: `checkpoints/` in a work directory.
      what: is written inside.

    Raises:
      UserError: a full disk, a quota and the like (`refusals.NO_ROOM`). All other errors pass unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = refusals.error_number(error)
        if number not in refusals.NO_ROOM:
            raise
        # Orbax leaves the writes that it had not begun; Python would name each of them below the line.
        warnings.filterwarnings("ignore", "coroutine 'async_serialize_from_host.* was never awaited", RuntimeWarning)
        raise UserError(
            f"{what} cannot be written: {os.strerror(number)}; {refusals.NO_ROOM[number]}; "
            f"{_to_resume_from(pathlib.Path(folder))}"
        ) from error


@contextlib.contextmanager
def _named(folder: pathlib.Path, step: int) -> Iterator[None]:
    """The same for a step's write; what there is of it is removed, since it takes the room that is missing."""
    try:
        with naming_good_ones(folder, f"checkpoint: {folder / str(step)}"):
            yield
    except UserError:
        if processes.is_first():
            _remove_unfinished(folder, step)
        raise


def _remove_unfinished(folder: pathlib.Path, step: int) -> None:
    """Removes what there is of a step. Where one array failed, others may be written for a moment still."""
    for _ in range(20):
        unfinished = list(folder.glob(f"{step}.orbax-checkpoint-tmp*"))
        if not unfinished:
            return
        for each in unfinished:
            shutil.rmtree(each, ignore_errors=True)
        time.sleep(0.05)


def _to_resume_from(folder: pathlib.Path) -> str:
    whole = verified_steps(folder)
    if not whole:
        return "no checkpoint is whole yet, so the same command starts at step 0"
    return f"whole: {', '.join(map(str, whole))}; the same command resumes from {whole[-1]}"


# --- Verify ------------------------------------------------------------------------------------------------------


def verified_steps(folder: str | os.PathLike[str]) -> list[int]:
    """The steps, ascending, whose every file is as it was written."""
    path = pathlib.Path(folder)
    return [step for step in checkpoint_sums.steps_in(path) if checkpoint_sums.damage(path / str(step)) is None]


def newest_good(folder: str | os.PathLike[str], log: Log) -> int | None:
    """The step to resume from. What lies there of newer steps is named in a line each, and cleared away.

    An unfinished step is removed; a damaged one is renamed to `<step>.damaged`, and the last two of these stay. With
    several processes the first one looks, and all get its answer.

    Args:
      folder: `checkpoints/` in a work directory; need not exist.
      log: takes one line.

    Returns:
      None where there is no checkpoint, or only one that a killed run had not finished.

    Raises:
      UserError: there are checkpoints, and all are damaged, or something else than a folder lies there. Nothing is
        renamed or removed then.
    """
    return processes.first_decides(lambda: checkpoint_rollback.roll_back(pathlib.Path(folder), log))


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
      log: takes one line for each newer checkpoint that is unfinished or damaged.

    Returns:
      (params, meta): a nested dict of numpy arrays, and what `save` was given.

    Raises:
      UserError: no checkpoint there, no such step, or damaged.
    """
    from bertlite_jax.train import checkpoint_arrays

    path = pathlib.Path(folder)
    if step is not None:
        return checkpoint_arrays.read_params(_checked(path, step))
    while True:
        before = checkpoint_sums.steps_in(path)
        try:
            good, bad = _newest(path)
            restored = checkpoint_arrays.read_params(path / str(good))
        except Exception:
            if checkpoint_sums.steps_in(path) == before:
                raise
            continue  # The run goes on, and has removed an old step while it was read.
        for newer, problem in bad:
            state = "is unfinished" if problem == checkpoint_sums.UNSEALED else f"is damaged ({problem})"
            log(f"checkpoint: {path / str(newer)} {state}; using {good}")
        return restored


def _newest(folder: pathlib.Path) -> tuple[int, list[tuple[int, str]]]:
    good, bad = checkpoint_sums.newest_whole(folder)
    if good is None:
        raise UserError(checkpoint_rollback.none_whole(folder, bad))
    return good, bad


def _checked(folder: pathlib.Path, step: int) -> pathlib.Path:
    steps = checkpoint_sums.steps_in(folder)
    if step not in steps:
        there = f"there are {', '.join(map(str, steps))}" if steps else "there is none"
        raise UserError(f"checkpoint: {folder / str(step)} does not exist; {there}")
    if problem := checkpoint_sums.damage(folder / str(step)):
        raise UserError(f"checkpoint: {folder / str(step)} is damaged ({problem})")
    return folder / str(step)
