"""What a job's work directory is: when it is made, gone on with, refused or cleared.

A directory is the work directory of a run when its `config.json` is one that a job wrote. Nothing else in a directory
is ever deleted or overwritten than what a run writes itself.
"""

from __future__ import annotations

import filecmp
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax

from bertlite_jax.config import files
from bertlite_jax.data.corpus.folder import on_disk
from bertlite_jax.data.vocabulary import tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.host.places import check_on_disk

CONFIG = "config.json"
ENVIRONMENT = "environment.json"

# In the order in which they are cleared. The config goes last: until then the directory still counts as a run, and
# without checkpoints that run starts at step 0.
WRITTEN_BY_A_RUN = (
    "checkpoints",
    "best",
    "metrics.jsonl",
    "summary.json",
    "samples.json",
    "inference.json",
    "report.html",
    "tensorboard",
    "profile",
    "tokenizer",
    ENVIRONMENT,
    CONFIG,
)

# None of these changes what is learnt, so a run may go on with other values.
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
        "run.profile_steps",
    }
)

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment(corpora: Sequence[str] = ()) -> dict[str, Any]:
    """What the bits of a run depend on besides its config: package versions, cores, devices, the CPU's name, corpora.

    Args:
      corpora: folders. Their `corpus.json` stands for them; it lists counts and the size of every file.
    """
    sidecars = {folder: (on_disk(folder) / "corpus.json").read_bytes() for folder in corpora}
    return {
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "cores": cpu.cores(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "cpu": cpu.name(),
        "corpora": {folder: hashlib.sha256(content).hexdigest() for folder, content in sidecars.items()},
    }


def open_workdir(
    path: str | os.PathLike[str],
    config: Any,
    overwrite: bool,
    environment: dict[str, Any],
    log: Callable[[str], None] = print,
) -> bool:
    """Makes the directory, or finds that it holds an earlier run of the same config. For the first process only.

    Args:
      path: the job's `--workdir`.
      config: frozen dataclass of settings, the whole of what the job depends on.
      overwrite: clear an earlier run's files first.
      environment: what `environment()` gives.
      log: takes one line.

    Returns:
      True to go on with the run that is there, False to start.

    Raises:
      UserError: the directory holds a run of another config or another corpus, or is not empty and holds no run.
        Nothing is written.
    """
    check_on_disk("workdir", path)
    folder = pathlib.Path(path)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"workdir: {folder} is a file; name a directory")
    if not (folder / CONFIG).is_file():
        _refuse_strangers(folder)
        goes_on = False
    elif overwrite:
        _refuse_other_programs(folder)
        _clear(folder)
        goes_on = False
    else:
        _refuse_other_programs(folder)
        _compare_configs(folder, config)
        _compare_environments(folder, environment, log)
        goes_on = True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole_files.remove_leftovers(folder)
        whole_files.write_text(folder / CONFIG, files.to_json(config) + "\n")
        whole_files.write_json(folder / ENVIRONMENT, environment)
    except OSError as error:
        raise UserError(f"workdir: {error.filename or folder} cannot be written: {error.strerror}") from error
    return goes_on


def _refuse_strangers(folder: pathlib.Path) -> None:
    # A kill during the very first write leaves a temporary file behind, and nothing else.
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    foreign = sorted(name for name in names if whole_files.intended_name(name) not in WRITTEN_BY_A_RUN)
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"workdir: {folder} is not empty ({shown}) and holds no {CONFIG} of a run; name a new or empty directory "
            "(--overwrite only clears the files of an earlier run)"
        )


def _refuse_other_programs(folder: pathlib.Path) -> None:
    """Other programs have a config.json too: a Hugging Face model, for one."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not (isinstance(values, dict) and isinstance(values.get("run"), dict) and isinstance(values.get("data"), dict)):
        raise UserError(
            f"workdir: {folder / CONFIG} is not the config of a run, so nothing here is touched, with --overwrite or "
            "without; name another --workdir"
        )


def _clear(folder: pathlib.Path) -> None:
    for name in WRITTEN_BY_A_RUN:
        entry = folder / name
        if entry.is_dir() and not entry.is_symlink():
            whole_files.remove_folder(entry)
        else:
            entry.unlink(missing_ok=True)


def _compare_configs(folder: pathlib.Path, config: Any) -> None:
    old = files.read_json(folder / CONFIG, type(config))
    before, after = files.flat(old), files.flat(config)
    fixed = [name for name in before if before[name] != after[name] and name not in FREE_TO_CHANGE]
    if not fixed:
        return
    lines = [line for line in files.differences(old, config) if line.partition(":")[0] in fixed]
    if fixed == ["run.steps"]:
        raise UserError(
            f"workdir: {folder}: {lines[0]}: the learning rate schedule depends on run.steps, so this would not be the "
            f"same run; start another one from its weights with --init {folder} and a new --workdir"
        )
    raise UserError(
        f"workdir: {folder} holds a run with another config ({'; '.join(lines)}); "
        "name another --workdir, or pass --overwrite to start anew"
    )


def _compare_environments(folder: pathlib.Path, now: dict[str, Any], log: Callable[[str], None]) -> None:
    path = folder / ENVIRONMENT
    if not path.is_file():  # Killed between the writes of the two files, before the first step.
        return
    then = json.loads(path.read_text(encoding="utf-8"))
    built = then.get("corpora", {})
    other = [name for name, digest in now.get("corpora", {}).items() if built.get(name, digest) != digest]
    if other:
        raise UserError(
            f"workdir: {folder} was begun with other data than what now lies in {other[0]}; put the first back, name "
            "another --workdir, or pass --overwrite to start anew"
        )
    old, new = _decisive(then), _decisive(now)
    changed = [f"{name}: {old.get(name)} -> {new.get(name)}" for name in old | new if old.get(name) != new.get(name)]
    if changed:
        log(
            f"workdir: {folder} was begun elsewhere ({'; '.join(changed)}); "
            "what follows is no longer promised to be bit for bit what it would have been"
        )


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    """The parts of an environment that decide the last bits, as `{name: value}`."""
    devices = values.get("devices", [])
    counts = ", ".join(f"{devices.count(kind)} x {kind}" for kind in sorted(set(devices)))
    return {**values.get("packages", {}), "cores": values.get("cores"), "devices": counts, "cpu": values.get("cpu")}


# --- Files ---------------------------------------------------------------------------------------------------------


def truncate_metrics(path: str | os.PathLike[str], step: int) -> None:
    """Drops what a resumed run will write again, and a last line that a kill cut off, so that no step is there twice.

    Args:
      path: `metrics.jsonl`; need not exist.
      step: of the restored checkpoint; lines of later steps go.

    Raises:
      UserError: a line before the last is not a JSON object with a step.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        return
    lines = file.read_bytes().split(b"\n")
    kept = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            of = json.loads(line)["step"]
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):  # No line break follows: it was cut off.
                continue
            raise UserError(f"metrics: {file}:{number}: not a JSON object with a step; repair or remove it") from error
        if of <= step:
            kept.append(line + b"\n")
    whole_files.write_bytes(file, b"".join(kept))


def copy_tokenizer(folder: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Copies a tokenizer folder to `tokenizer/` in the work directory, whole or not at all.

    Returns:
      The copy's path. On a resume the copy is there already, and is only compared.

    Raises:
      UserError: the copy that is there differs from `folder`.
    """
    source, target = tokenizer.on_disk(folder), pathlib.Path(workdir) / "tokenizer"
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    if target.is_dir():
        _, differing, absent = filecmp.cmpfiles(source, target, names, shallow=False)
        if differing or absent:
            name = (differing + absent)[0]
            raise UserError(
                f"workdir: {target / name} is not the same as {source / name}; "
                "give the tokenizer that the run began with, or --overwrite"
            )
        return target
    with whole_files.folder_beside(target) as copy:
        shutil.copytree(source, copy, dirs_exist_ok=True)
        whole_files.put_folder(copy, target)
    return target
