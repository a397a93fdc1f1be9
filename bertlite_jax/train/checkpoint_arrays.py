"""How a checkpoint's items are written and read: the only user of Orbax.

Importing Orbax takes half a second. `train/checkpoint.py` therefore imports this file inside its functions, so that a
start pays for it while its first step is compiled.
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from bertlite_jax.errors import UserError

# Orbax reports every phase of every save at level INFO.
logging.getLogger("absl").setLevel(logging.WARNING)
# And warns where one save waits for another, which is as meant.
logging.getLogger("absl").addFilter(lambda record: not str(record.msg).startswith("Waiting for previous save"))


def open_manager(folder: pathlib.Path) -> ocp.CheckpointManager:
    """Orbax's manager of a folder of checkpoints, which exists. It writes in the background and never removes a step.

    It clears its own temporary folders in the background and waits for that before the first save.
    """
    options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True, enable_async_checkpointing=True)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def start_save(manager: ocp.CheckpointManager, step: int, params: Any, opt: Any, meta: dict[str, Any]) -> None:
    """Starts writing a step and returns once the arrays are copied.

    Raises:
      RuntimeError: Orbax declined, because a checkpoint of this or a later step exists. It only returns False.
    """
    trees = {"params": ocp.args.StandardSave(params), "opt": ocp.args.StandardSave(opt)}
    items = ocp.args.Composite(**trees, meta=ocp.args.JsonSave(meta))
    if not manager.save(step, args=items):
        there = manager.latest_step()
        raise RuntimeError(f"checkpoint: step {step} was not saved; {manager.directory} already has step {there}")


def read(step_folder: pathlib.Path, params_like: Any, opt_like: Any) -> tuple[Any, Any, dict[str, Any]]:
    """(params, opt, meta) of a step, the trees like the given ones.

    Raises:
      UserError: the step holds other names, shapes or dtypes. This is checked before Orbax reads: it would cast dtypes
        silently, and flood stderr where it fails.
    """
    _check_like(step_folder, "params", params_like)
    _check_like(step_folder, "opt", opt_like)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        wanted = {"params": ocp.args.StandardRestore(params_like), "opt": ocp.args.StandardRestore(opt_like)}
        items = reader.restore(step_folder.absolute(), args=ocp.args.Composite(**wanted, meta=ocp.args.JsonRestore()))
    return items["params"], items["opt"], items["meta"]


def read_params(step_folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params as a nested dict of numpy arrays, meta) of a step, without a model definition."""
    handler = ocp.PyTreeCheckpointHandler()
    item = epath.Path((step_folder / "params").absolute())
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(item).tree)
    with ocp.Checkpointer(handler) as reader:
        params = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return params, json.loads((step_folder / "meta" / "metadata").read_text(encoding="utf-8"))


def _check_like(step_folder: pathlib.Path, item: str, like: Any) -> None:
    handler = ocp.StandardCheckpointHandler()
    stored = _leaves(handler.metadata(epath.Path((step_folder / item).absolute())).tree)
    handler.close()
    wanted = _leaves(like)
    for name in sorted(stored.keys() | wanted.keys()):
        here, there = wanted.get(name, "absent"), stored.get(name, "absent")
        if here != there:
            raise UserError(
                f"checkpoint: {step_folder}: {item}/{name} is {there} in the file, but {here} in this config"
            )


def _leaves(tree: Any) -> dict[str, str]:
    """Dtype and shape of every array by its path: {"layers/ffn/up/bias": "float32 [1, 3072]"}."""
    flat = ocp.tree.to_flat_dict(tree, sep="/")
    return {
        name: f"{np.dtype(leaf.dtype).name} {list(leaf.shape)}"
        for name, leaf in flat.items()
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    }
