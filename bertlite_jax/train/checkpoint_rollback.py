"""What happens to steps that are newer than the one to resume from, as Orbax saves nothing that is older than they are.

A run that is killed between commit and seal leaves one *unfinished* step, of full size and of no use: it is removed. A
*damaged* one may still tell what happened to the disk, so it is set aside, but not for ever.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable

from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.train import checkpoint_sums

DAMAGED_KEPT = 2
"""Damaged steps that stay beside the good ones, counted from the one that was set aside last."""


def roll_back(folder: pathlib.Path, log: Callable[[str], None]) -> int | None:
    """The newest whole step; newer ones are removed or set aside, as `checkpoint.newest_good` says."""
    if os.path.lexists(folder) and not folder.is_dir():  # A run must not begin at 0 because a disk is not mounted.
        what = f"a link to {os.readlink(folder)}, which does not exist" if folder.is_symlink() else "no folder"
        raise UserError(f"checkpoint: {folder} is {what}; put it back, or start again with --overwrite")
    good, bad = checkpoint_sums.newest_whole(folder)
    unfinished = [step for step, problem in bad if problem == checkpoint_sums.UNSEALED]
    if good is None and (len(bad) > len(unfinished) or len(unfinished) > 1):  # A kill leaves one at most.
        raise UserError(f"{none_whole(folder, bad)}; put back a copy of one, or start again with --overwrite")
    then = "starting at step 0" if good is None else f"resuming from {good}"
    for step, problem in bad:
        if step in unfinished:
            whole_files.remove_folder(folder / str(step))
            log(f"checkpoint: {folder / str(step)} was unfinished when the run was stopped and is removed; {then}")
            continue
        name = _free_name(folder, f"{step}.damaged")
        os.rename(folder / str(step), folder / name)
        os.utime(folder / name)  # When it was set aside.
        log(f"checkpoint: {folder / str(step)} is damaged ({problem}), now named {name}; {then}")
    _remove_old_damaged(folder)
    return good


def _remove_old_damaged(folder: pathlib.Path) -> None:
    if folder.is_dir():
        aside = [path for path in folder.iterdir() if re.fullmatch(r"[0-9]+\.damaged(-[0-9]+)?", path.name)]
        for old in sorted(aside, key=lambda path: path.stat().st_mtime_ns)[:-DAMAGED_KEPT]:
            whole_files.remove_folder(old)


def _free_name(folder: pathlib.Path, name: str) -> str:
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, 1_000_000))
    return next(candidate for candidate in candidates if not (folder / candidate).exists())


def none_whole(folder: pathlib.Path, bad: list[tuple[int, str]]) -> str:
    """The line for a folder without a whole step; `bad` as `checkpoint_sums.newest_whole` returns it."""
    if not bad:
        return f"checkpoint: {folder} holds no checkpoint"
    if [problem for _, problem in bad] == [checkpoint_sums.UNSEALED]:
        return f"checkpoint: {folder} holds no finished checkpoint yet, only the unfinished {bad[0][0]}"
    listed = ", ".join(f"{step} ({problem})" for step, problem in bad)
    return f"checkpoint: {folder}: every checkpoint is damaged: {listed}"
