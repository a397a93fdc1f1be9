"""A job's work directory: when it is created, resumed, refused or cleared.

A directory is a work directory if its `config.json` was written by a job. Only files that a run itself writes are ever
deleted or overwritten.
"""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from bertlite_jax.config import files
from bertlite_jax.data.corpus.folder import on_disk
from bertlite_jax.data.vocabulary import tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, folder_lock, json_files, whole_files
from bertlite_jax.host.places import check_on_disk

CONFIG = "config.json"
ENVIRONMENT = "environment.json"

# In the order in which they are cleared. The config goes last: until then the directory still counts as a work
# directory, of a run that starts at step 0 because its checkpoints are gone.
WRITTEN_BY_A_RUN = (
    "checkpoints",
    "best",
    "learning",
    "metrics.jsonl",
    "summary.json",
    "samples.json",
    "inference.json",
    "report.html",
    "tensorboard",
    "tracking.json",
    "wandb",
    "profile",
    "tokenizer",
    ENVIRONMENT,
    CONFIG,
)

# None of these changes what is learnt, so a run may resume with other values.
FREE_TO_CHANGE = frozenset(
    {
        "data.read_threads",
        "run.devices",
        "run.fsdp",
        "run.tensor",
        "run.zero1",
        "run.distributed",
        "run.log_every",
        "run.eval_every",
        "run.eval_rows",
        "run.checkpoint_every",
        "run.keep_last",
        "run.keep_every",
        "run.spike_factor",
        "run.tensorboard",
        "run.track",
        "run.track_project",
        "run.profile_steps",
    }
)

# The place of a file whose content is part of the digest of the training examples. It changes where a folder that holds
# both the file and runs is moved.
_KNOWN_BY_DIGEST = frozenset({"data.added_file"})

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment(
    corpora: Sequence[str] = (),
    teachers: Mapping[str, str] = {},
    stores: Mapping[str, str] = {},
    hub: Mapping[str, str] = {},
) -> dict[str, Any]:
    """What the exact bits of a run depend on besides its config: package versions, cores, devices, CPU and corpora.

    Args:
      corpora: corpus folders. Each is identified by its `corpus.json`, which lists counts and the size of every file.
      teachers: folder to the SHA-256 of what is read there.
      stores: the same of what teachers said.
      hub: model or dataset of the hub to the commit that is read.
    """
    held = {
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "cores": cpu.cores(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "cpu": cpu.name(),
        "corpora": corpus_digests(corpora),
    }
    more = {"teachers": dict(teachers), "stores": dict(stores), "hub": dict(hub)}
    return held | {entry: digests for entry, digests in more.items() if digests}


def corpus_digests(corpora: Sequence[str]) -> dict[str, str]:
    """Folder to the SHA-256 of its `corpus.json`, by which a corpus is identified."""
    return {folder: hashlib.sha256((on_disk(folder) / "corpus.json").read_bytes()).hexdigest() for folder in corpora}


def open_workdir(
    path: str | os.PathLike[str],
    config: Any,
    overwrite: bool,
    environment: dict[str, Any],
    log: Callable[[str], None] = print,
    read: Sequence[str] = (),
) -> bool:
    """Creates the directory, or checks that it holds an earlier run of the same config.

    For the first process of a job, inside `one_job.alone_in`.

    Args:
      path: the job's `--workdir`.
      config: frozen dataclass with all settings that the job depends on.
      overwrite: clear an earlier run's files first.
      environment: of this run, as `environment()` returns it.
      log: prints one line.
      read: files and folders that the run reads, which `overwrite` must not delete; empty ones are none.

    Returns:
      Whether the directory holds a run to resume.

    Raises:
      UserError: the directory holds a run with another config or another corpus, or is not empty and holds no run.
        Then nothing is written.
    """
    check_on_disk("workdir", path)
    folder = pathlib.Path(path)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"workdir: {folder} is a file; name a directory")
    refuse_no_run(folder)
    holds_run = (folder / CONFIG).is_file()
    if holds_run and overwrite:
        refuse_to_clear(folder, read)
        clear(folder)
        holds_run = False
    elif holds_run:
        _compare_configs(folder, config)
        _compare_environments(folder, environment, log)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole_files.remove_leftovers(folder, WRITTEN_BY_A_RUN)
        whole_files.write_text(folder / CONFIG, files.to_json(config) + "\n")
        whole_files.write_json(folder / ENVIRONMENT, environment)
    except OSError as error:
        raise UserError(f"workdir: {error.filename or folder} cannot be written: {error.strerror}") from error
    return holds_run


def refuse_no_run(folder: pathlib.Path) -> None:
    """Raises UserError for a directory that holds something else than a run; it may be empty or absent."""
    if (folder / CONFIG).is_file():
        _refuse_other_programs(folder)
    else:
        _refuse_foreign_files(folder)


def refuse_other_run(path: str | os.PathLike[str], config: Any) -> None:
    """Raises UserError if the directory holds what a run of this config cannot resume; for a job that does much before.

    Args:
      path: the job's `--workdir`.
      config: frozen dataclass with all settings that the job depends on.
    """
    folder = pathlib.Path(path)
    refuse_no_run(folder)
    if (folder / CONFIG).is_file():
        _compare_configs(folder, config)


def _refuse_foreign_files(folder: pathlib.Path) -> None:
    # A kill during the very first write leaves a temporary file and a lock behind, and nothing else.
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    ours = (*WRITTEN_BY_A_RUN, folder_lock.FILE)
    foreign = sorted(name for name in names if name != folder_lock.FILE and whole_files.intended_name(name) not in ours)
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"workdir: {folder} is not empty ({shown}) and holds no {CONFIG} of a run; name a new or empty directory "
            "(--overwrite only clears files of an earlier run)"
        )


def _refuse_other_programs(folder: pathlib.Path) -> None:
    """Refuses a `config.json` of another program, such as that of a Hugging Face model."""
    try:
        values = json_files.read(folder / CONFIG, "workdir")
    except UserError:
        values = None
    if not (isinstance(values, dict) and isinstance(values.get("run"), dict) and isinstance(values.get("data"), dict)):
        raise UserError(
            f"workdir: {folder / CONFIG} is not the config of a run; it is left alone, with or without --overwrite; "
            "name another --workdir"
        )


def refuse_to_clear(folder: pathlib.Path, read: Sequence[str]) -> None:
    """Raises UserError where `clear` would delete what the new run reads, such as the run that it starts from."""
    here = pathlib.Path(os.path.realpath(folder))
    for place in filter(None, read):
        parts = pathlib.Path(os.path.realpath(place))
        inside = parts.relative_to(here).parts if parts.is_relative_to(here) else None
        if inside is not None and (not inside or inside[0] in WRITTEN_BY_A_RUN):
            raise UserError(
                f"workdir: --overwrite would delete {place}, which this run reads; name another --workdir, or copy it "
                "first"
            )


def clear(folder: pathlib.Path) -> None:
    """Removes what a run has written."""
    for name in WRITTEN_BY_A_RUN:
        entry = folder / name
        if entry.is_dir() and not entry.is_symlink():
            whole_files.remove_folder(entry)
        else:
            entry.unlink(missing_ok=True)


def changed_fields(folder: pathlib.Path, config: Any) -> list[str]:
    """`optim.learning_rate: 0.001 -> 0.002` for each field in which the run in a directory is another one."""
    old = files.read_json(folder / CONFIG, type(config))
    free = FREE_TO_CHANGE | _KNOWN_BY_DIGEST
    return [line for line in files.differences(old, config) if line.partition(":")[0] not in free]


def _compare_configs(folder: pathlib.Path, config: Any) -> None:
    held = files.kind_of_run(json_files.read_object(folder / CONFIG, "config"))
    ours = files.kind_of_run(dataclasses.asdict(config))
    if held and ours and held != ours:
        raise UserError(
            f"workdir: {folder} holds a {held} run, and this is one of {ours}; name another --workdir, or pass "
            "--overwrite to delete that run"
        )
    lines = changed_fields(folder, config)
    if not lines:
        return
    if [line.partition(":")[0] for line in lines] == ["run.steps"]:
        raise UserError(
            f"workdir: {folder}: {lines[0]}: the learning rate schedule depends on run.steps, so this would be another "
            f"run; start one from these weights with --init {shlex.quote(str(folder))} and a new --workdir"
        )
    raise UserError(
        f"workdir: {folder} holds a run with another config ({'; '.join(lines)}); "
        "name another --workdir, or pass --overwrite to start again from step 0"
    )


def refuse_other_corpora(folder: pathlib.Path, corpora: dict[str, str], entry: str = "corpora") -> None:
    """Raises UserError if the run in a directory was started with other data.

    Args:
      folder: the directory. One that was killed before its first step may not say with which data.
      corpora: as `corpus_digests` returns them.
      entry: of `environment`: corpora, teachers or stores.
    """
    path = folder / ENVIRONMENT
    then = _read_environment(path).get(entry, {}) if path.is_file() else {}
    changed = [name for name, digest in corpora.items() if then.get(name, digest) != digest]
    if changed:
        what = {"corpora": "data", "teachers": "weights", "stores": "records"}[entry]
        raise UserError(
            f"workdir: {folder} was started with other {what} than {changed[0]} now holds; put the old {what} "
            "back, name another --workdir, or pass --overwrite to start again from step 0"
        )


def _compare_environments(folder: pathlib.Path, now: dict[str, Any], log: Callable[[str], None]) -> None:
    path = folder / ENVIRONMENT
    if not path.is_file():  # Killed between the writes of the two files, before the first step.
        return
    for entry in ("corpora", "teachers", "stores"):
        refuse_other_corpora(folder, now.get(entry, {}), entry)
    old, new = _decisive(_read_environment(path)), _decisive(now)
    changed = [f"{name}: {old.get(name)} -> {new.get(name)}" for name in old | new if old.get(name) != new.get(name)]
    if changed:
        log(
            f"workdir: {folder} was started in another environment ({'; '.join(changed)}); "
            "from here on, the run may differ in its last bits from an uninterrupted one"
        )


def _read_environment(path: pathlib.Path) -> dict[str, Any]:
    """An `environment.json` whose entries that are compared have the right types.

    Raises:
      UserError: it is damaged.
    """
    help = "remove the file to resume, if the corpora and the task's files are still those of the run"
    try:
        values = json_files.read_object(path, "workdir")
    except UserError as error:
        raise UserError(f"{error}; {help}") from error
    kinds = {**dict.fromkeys(("corpora", "teachers", "stores", "packages"), dict), "devices": list}
    for name, kind in kinds.items():
        if not isinstance(values.get(name, kind()), kind):
            raise UserError(f"workdir: {path}: `{name}` should be {_KINDS[kind]}; {help}")
    return values


_KINDS = {dict: "an object", list: "a list"}


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    """The parts of an environment that decide the last bits, by name."""
    devices = values.get("devices", [])
    counts = ", ".join(f"{devices.count(kind)} x {kind}" for kind in sorted(set(map(str, devices))))
    return {**values.get("packages", {}), "cores": values.get("cores"), "devices": counts, "cpu": values.get("cpu")}


# --- Its tokenizer -------------------------------------------------------------------------------------------------


def copy_tokenizer(folder: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Copies a tokenizer folder to `tokenizer/` in the work directory, whole or not at all.

    A resumed run has the copy already; then the two are only compared.

    Returns:
      The copy's path.

    Raises:
      UserError: the existing copy differs from `folder`, or there is no room for one.
    """
    source, target = tokenizer.on_disk(folder), pathlib.Path(workdir) / "tokenizer"
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    if target.is_dir():
        _, differing, absent = filecmp.cmpfiles(source, target, names, shallow=False)
        if differing or absent:
            name = (differing + absent)[0]
            raise UserError(
                f"workdir: {target / name} differs from {source / name}; "
                "pass the tokenizer that the run was started with, or --overwrite"
            )
        return target
    with whole_files.folder_beside(target) as copy, whole_files.output_errors(target, copy, "workdir"):
        shutil.copytree(source, copy, dirs_exist_ok=True)
        whole_files.put_folder(copy, target)
    return target
