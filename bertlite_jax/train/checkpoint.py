"""Checkpoints that are whole or not used. The only user of Orbax.

A step's folder holds the items `params`, `opt` and `meta` as Orbax writes them, and `SHA256SUMS`, which lists every
other file (`sha256sum -c SHA256SUMS` reads it). Orbax commits a step with one rename, but restores flipped bits
without a word and takes an empty folder named `9` for step 9. So a step counts only when it is *sealed*: its sums were
written after the commit, and they are checked before each restore.

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
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.train import processes

ITEMS = ("params", "opt", "meta")
SUMS = "SHA256SUMS"
UNSEALED = f"no {SUMS}; the run was stopped before the write was finished"
Log = Callable[[str], None]

# Orbax reports every phase of every save at level INFO.
logging.getLogger("absl").setLevel(logging.WARNING)


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """An open folder of checkpoints. The two lists hold at most one entry each."""

    folder: pathlib.Path
    keep_last: int
    keep_every: int
    manager: ocp.CheckpointManager
    worker: concurrent.futures.ThreadPoolExecutor
    waiting: list[int] = dataclasses.field(default_factory=list)
    """The step that Orbax may still be writing."""
    sealing: list[concurrent.futures.Future[None]] = dataclasses.field(default_factory=list)
    """The seal that the worker may still be computing."""


# --- Write -------------------------------------------------------------------------------------------------------


def open_checkpoints(folder: str | os.PathLike[str], keep_last: int, keep_every: int) -> Checkpoints:
    """Opens `folder` for writing; makes it where it does not exist and clears what a killed run left behind.

    Call `newest_good` first: a damaged step that is newer than the one to go on from would stop all later saves.

    Args:
      folder: `checkpoints/` in a work directory.
      keep_last: sealed steps that are kept, counted from the newest; at least 1.
      keep_every: steps that are multiples of this number are kept for good; 0: none.
    """
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if processes.is_first():
        whole_files.remove_leftovers(path)
    # Orbax clears its temporary folders in the background, and waits for that before the first save.
    # Old steps are removed below, after the seal. Orbax would remove them before it: with keep_last = 1, a kill
    # between the two would leave nothing that can be trusted.
    options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True, enable_async_checkpointing=True)
    manager = ocp.CheckpointManager(path.absolute(), options=options)
    worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal")
    return Checkpoints(path, keep_last, keep_every, manager, worker)


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
    seal(checkpoints)
    trees = {"params": ocp.args.StandardSave(params), "opt": ocp.args.StandardSave(opt)}
    items = ocp.args.Composite(**trees, meta=ocp.args.JsonSave(meta))
    saved = checkpoints.manager.save(step, args=items)
    if not saved:
        there = checkpoints.manager.latest_step()
        raise RuntimeError(f"checkpoint: step {step} was not saved; {checkpoints.folder} already has step {there}")
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
    _write_sums(checkpoints.folder / str(step))
    sealed = [old for old in _steps(checkpoints.folder) if (checkpoints.folder / str(old) / SUMS).is_file()]
    for old in sealed[: -checkpoints.keep_last]:
        if checkpoints.keep_every and old % checkpoints.keep_every == 0:
            continue
        whole_files.remove_folder(checkpoints.folder / str(old))


def _write_sums(folder: pathlib.Path) -> None:
    files = _files(folder)
    text = "".join(f"{digest}  {name}\n" for name, digest in zip(files, _digests(folder, files), strict=True))
    whole_files.write_text(folder / SUMS, text)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- Verify ------------------------------------------------------------------------------------------------------


def verified_steps(folder: str | os.PathLike[str]) -> list[int]:
    """The steps, ascending, whose every file is as it was written."""
    path = pathlib.Path(folder)
    return [step for step in _steps(path) if _problem(path / str(step)) is None]


def newest_good(folder: str | os.PathLike[str], log: Log) -> int | None:
    """The step to go on from. Damaged newer ones are named in a line and renamed to `<step>.damaged`.

    They have to go out of the way, because Orbax saves nothing that is older than the newest folder.
    With several processes the first one looks, and all get its answer.

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
    good, damaged = _search(folder)
    if good is None and any(problem != UNSEALED for _, problem in damaged):
        raise UserError(f"{_all_damaged(folder, damaged)}; put back a copy of one, or start anew with --overwrite")
    for step, problem in damaged:
        name = _free_name(folder, f"{step}.damaged")
        os.rename(folder / str(step), folder / name)
        then = "starting at step 0" if good is None else f"going on from {good}"
        log(f"checkpoint: {folder / str(step)} is damaged ({problem}), now named {name}; {then}")
    return good


def _search(folder: pathlib.Path) -> tuple[int | None, list[tuple[int, str]]]:
    """The newest good step, and the newer steps with what is wrong with them, newest first."""
    damaged = []
    for step in reversed(_steps(folder)):
        problem = _problem(folder / str(step))
        if problem is None:
            return step, damaged
        damaged.append((step, problem))
    return None, damaged


def _problem(folder: pathlib.Path) -> str | None:
    """What is wrong with a step's folder, in a few words; None for nothing."""
    try:
        files = _files(folder)
        for item in ITEMS:
            if not any(name.startswith(f"{item}/") for name in files):
                return f"no {item}"
        if not (folder / SUMS).is_file():
            return UNSEALED
        listed = _read_sums(folder / SUMS)
        if lost := sorted(listed.keys() - set(files)):
            return f"{lost[0]} is missing"
        if added := sorted(set(files) - listed.keys()):
            return f"{added[0]} is not listed in {SUMS}"
        for name, digest in zip(files, _digests(folder, files), strict=True):
            if listed[name] != digest:
                return f"{name}: SHA-256 differs"
    except OSError as error:  # A bad disk: the file is as good as lost.
        return f"{error.filename or folder}: {error.strerror}"
    return None


def _read_sums(path: pathlib.Path) -> dict[str, str]:
    """{file: SHA-256}. A broken line gives a name that no file has, or leaves one out; either is found above."""
    lines = path.read_bytes().decode("utf-8", errors="backslashreplace").split("\n")
    complete = lines[:-1]  # What follows the last line break is empty, or a line that was cut off.
    return {name: digest for digest, _, name in (line.partition("  ") for line in complete)}


def _steps(folder: pathlib.Path) -> list[int]:
    """All folders that look like a step, ascending, good or not."""
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and str(int(name)) == name)


def _files(folder: pathlib.Path) -> list[str]:
    """Every file below a step's folder as sorted relative names, without the sums and what becomes them."""
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if SUMS not in (name, whole_files.intended_name(name)))


def _digests(folder: pathlib.Path, files: list[str]) -> list[str]:
    def digest(name: str) -> str:
        with open(folder / name, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:  # Hashing releases the interpreter's lock.
        return list(pool.map(digest, files))


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
      UserError: the checkpoint does not exist, is damaged, or holds other names, shapes or dtypes. All this is checked
        before Orbax reads: it would cast dtypes silently, and flood stderr where it fails.
    """
    path = _checked(pathlib.Path(folder), step)
    _check_like(path, "params", params_like)
    _check_like(path, "opt", opt_like)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        wanted = {"params": ocp.args.StandardRestore(params_like), "opt": ocp.args.StandardRestore(opt_like)}
        items = reader.restore(path.absolute(), args=ocp.args.Composite(**wanted, meta=ocp.args.JsonRestore()))
    return items["params"], items["opt"], items["meta"]


def restore_params(
    folder: str | os.PathLike[str], step: int | None = None, log: Log = print
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads parameters without a model definition: for export, evaluation and the like. Changes nothing on disk.

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
        step, damaged = _search(path)
        if step is None:
            raise UserError(_all_damaged(path, damaged) if damaged else f"checkpoint: {path} holds no checkpoint")
        for bad, problem in damaged:
            log(f"checkpoint: {path / str(bad)} is damaged ({problem}); using {step}")
    else:
        _checked(path, step)
    handler = ocp.PyTreeCheckpointHandler()
    item = epath.Path((path / str(step) / "params").absolute())
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(item).tree)
    with ocp.Checkpointer(handler) as reader:
        params = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return params, json.loads((path / str(step) / "meta" / "metadata").read_text(encoding="utf-8"))


def _checked(folder: pathlib.Path, step: int) -> pathlib.Path:
    steps = _steps(folder)
    if step not in steps:
        there = f"there are {', '.join(map(str, steps))}" if steps else "there is none"
        raise UserError(f"checkpoint: {folder / str(step)} does not exist; {there}")
    if problem := _problem(folder / str(step)):
        raise UserError(f"checkpoint: {folder / str(step)} is damaged ({problem})")
    return folder / str(step)


def _check_like(folder: pathlib.Path, item: str, like: Any) -> None:
    handler = ocp.StandardCheckpointHandler()
    stored = _leaves(handler.metadata(epath.Path((folder / item).absolute())).tree)
    handler.close()
    wanted = _leaves(like)
    for name in sorted(stored.keys() | wanted.keys()):
        here, there = wanted.get(name, "absent"), stored.get(name, "absent")
        if here != there:
            raise UserError(f"checkpoint: {folder}: {item}/{name} is {there} in the file, but {here} in this config")


def _leaves(tree: Any) -> dict[str, str]:
    """`{"layers/ffn/up/bias": "float32 [1, 3072]", ...}`"""
    flat = ocp.tree.to_flat_dict(tree, sep="/")
    return {
        name: f"{np.dtype(leaf.dtype).name} {list(leaf.shape)}"
        for name, leaf in flat.items()
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    }
