"""How a checkpoint's items are written and read: the only user of Orbax.

Importing Orbax takes half a second, and more while a step is traced. `train/checkpoint.py` therefore imports this file
inside its functions: a run that starts afresh pays for it at its first checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from etils import epath

from bertlite_jax.errors import UserError
from bertlite_jax.host.plain_path import plain
from bertlite_jax.train import checkpoint_sums

# Orbax logs every phase of every save, and a traceback of each error that it raises later on as well.
logging.getLogger("absl").setLevel(logging.CRITICAL)
# Of many arrays that cannot be written it raises the first; asyncio logs a traceback of each of the others.
logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())


def _leave_out_late_answers() -> None:
    """Where the write of one array has failed, TensorStore tells an event loop of the others that Orbax has closed.

    Python prints a traceback for each of these; the failure itself is raised.
    """
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            report(unraisable)

    sys.unraisablehook = hook


_leave_out_late_answers()


@contextlib.contextmanager
def manager_of(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    """Orbax's manager of a folder of checkpoints, which exists. It writes in the background and never removes a step.

    It clears its own temporary folders in the background and waits for that before the first save.
    """
    options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True, enable_async_checkpointing=True)
    with plain(folder) as place, contextlib.closing(ocp.CheckpointManager(place, options=options)) as manager:
        yield manager


def start_save(manager: ocp.CheckpointManager, step: int, params: Any, opt: Any, meta: dict[str, Any]) -> None:
    """Starts writing a step and returns once the arrays are copied.

    Raises:
      RuntimeError: Orbax declined, because a checkpoint of this or a later step exists. It only returns False.
    """
    trees = {"params": ocp.args.StandardSave(params), "opt": ocp.args.StandardSave(opt)}
    items = ocp.args.Composite(**trees, meta=ocp.args.JsonSave(meta))
    if not manager.save(step, args=items):
        there = manager.latest_step()
        raise RuntimeError(f"checkpoint: step {step} was not saved; its folder already has step {there}")


def read(step_folder: pathlib.Path, params_like: Any, opt_like: Any) -> tuple[Any, Any, dict[str, Any]]:
    """(params, opt, meta) of a step, the trees like the given ones.

    Raises:
      UserError: the step holds other names, shapes or dtypes. This is checked before Orbax reads: it would cast dtypes
        silently, and flood stderr where it fails.
    """
    with plain(step_folder) as place:
        for item, like in {"params": params_like, "opt": opt_like}.items():
            if difference := _difference(_stored_leaves(place / item), _leaves(like)):
                name, there, here = difference
                raise UserError(
                    f"checkpoint: {step_folder}: {item}/{name} is {there} in the file, but {here} in this config"
                )
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            wanted = {"params": ocp.args.StandardRestore(params_like), "opt": ocp.args.StandardRestore(opt_like)}
            items = reader.restore(place, args=ocp.args.Composite(**wanted, meta=ocp.args.JsonRestore()))
    return items["params"], items["opt"], items["meta"]


def read_params(step_folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params as a nested dict of numpy arrays, meta) of a step, without a model definition."""
    handler = ocp.PyTreeCheckpointHandler()
    with plain(step_folder) as place:
        item = epath.Path(place / "params")
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(item).tree)
        with ocp.Checkpointer(handler) as reader:
            params = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return params, checkpoint_sums.read_meta(step_folder)


# --- Written as it should be -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Content:
    """What a checkpoint has to hold: dtype and shape of each array of the two trees by its path, and the meta data."""

    params: dict[str, str]
    opt: dict[str, str]
    meta: str


def content_of(params: Any, opt: Any, meta: dict[str, Any]) -> Content:
    """What a checkpoint of these trees has to hold."""
    return Content(_leaves(params), _leaves(opt), _as_stored(meta))


def check(step_folder: pathlib.Path, content: Content) -> None:
    """Opens a step that Orbax has committed, and reads every stored byte of it once.

    Orbax commits what cannot be restored if one of its own steps finds nothing to do. So every array is opened again,
    its name, shape and dtype are compared with what was to be saved, and each of its chunks is read, but not unpacked:
    a chunk that is absent would be restored as zeros.

    Raises:
      ValueError: says what is missing or wrong. A step for which it was raised must not be sealed.
      OSError: a file cannot be read.
    """
    with plain(step_folder) as place:
        for item, wanted in {"params": content.params, "opt": content.opt}.items():
            listed = _check_descriptions(place / item)
            if difference := _difference(_read_arrays(place / item, listed), wanted):
                name, there, here = difference
                raise ValueError(f"{item}/{name} is {there} in the file instead of {here}")
    if _as_stored(checkpoint_sums.read_meta(step_folder)) != content.meta:
        raise ValueError("meta is not what was saved")


def _check_descriptions(item: pathlib.Path) -> list[str]:
    """Reads the JSON files that Orbax writes beside the arrays. Returns the names of the arrays and empty nodes."""
    if not (item / "manifest.ocdbt").is_file():
        raise ValueError(f"{item.name}/manifest.ocdbt is missing")
    for file in (*item.glob("_sharding"), *item.glob("array_metadatas/process_*")):
        json.loads(file.read_bytes())  # Restoring reads them where they are there.
    entries = json.loads((item / "_METADATA").read_bytes())["tree_metadata"].values()
    return ["/".join(str(key["key"]) for key in entry["key_metadata"]) for entry in entries]


def _read_arrays(item: pathlib.Path, names: list[str]) -> dict[str, str]:
    """Dtype and shape of those names that are arrays, as `_leaves` has them; every chunk of theirs has been read."""
    base = {"driver": "file", "path": f"{item}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    keys = {key.decode() for key in store.list().result()}
    found = {}
    for name in names:
        array = name.replace("/", ".")
        if f"{array}/.zarray" not in keys:
            continue
        header = json.loads(store.read(f"{array}/.zarray").result().value)
        found[name] = f"{np.dtype(header['dtype']).name} {header['shape']}"
        counts = [-(-size // chunk) for size, chunk in zip(header["shape"], header["chunks"], strict=True)]
        for chunk in itertools.product(*map(range, counts)):
            key = f"{array}/{'.'.join(map(str, chunk)) or '0'}"
            # One at a time: all of them may not fit into memory. Where its file is gone, TensorStore reads nothing.
            if key not in keys or not store.read(key).result().value:
                raise ValueError(f"{item.name}/{name} lacks a chunk ({key})")
    return found


def _as_stored(meta: dict[str, Any]) -> str:
    """As text, in which NaN equals NaN and a tuple equals the list that is read back."""
    return json.dumps(json.loads(json.dumps(meta)), sort_keys=True)


def _stored_leaves(item: pathlib.Path) -> dict[str, str]:
    handler = ocp.StandardCheckpointHandler()
    leaves = _leaves(handler.metadata(epath.Path(item)).tree)
    handler.close()
    return leaves


def _difference(stored: dict[str, str], wanted: dict[str, str]) -> tuple[str, str, str] | None:
    """(name, stored, wanted) of the first array that differs; None where none does."""
    pairs = ((name, stored.get(name, "absent"), wanted.get(name, "absent")) for name in sorted(stored | wanted))
    return next((pair for pair in pairs if pair[1] != pair[2]), None)


def _leaves(tree: Any) -> dict[str, str]:
    """Dtype and shape of every array by its path: {"layers/ffn/up/bias": "float32 [1, 3072]"}."""
    flat = ocp.tree.to_flat_dict(tree, sep="/")
    return {
        name: f"{np.dtype(leaf.dtype).name} {list(leaf.shape)}"
        for name, leaf in flat.items()
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    }
