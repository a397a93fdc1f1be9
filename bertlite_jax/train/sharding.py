"""Devices, and what each of them holds. The only file that names mesh axes.

Parameters and optimiser state lie on every device; the rows of a batch are split over the axis `data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA = "data"


def make_mesh(local_devices: int = 0) -> Mesh:
    """A one-axis mesh over `local_devices` devices of each process; 0: all of them.

    Raises:
      ValueError: a process has fewer devices.
    """
    chosen = jax.devices()
    if local_devices:
        of_processes = [jax.local_devices(process) for process in range(jax.process_count())]
        fewest = min(map(len, of_processes))
        if local_devices > fewest:
            raise ValueError(f"{local_devices} devices wanted, {fewest} exist")
        chosen = [device for devices in of_processes for device in devices[:local_devices]]
    return jax.make_mesh((len(chosen),), (DATA,), axis_types=(AxisType.Auto,), devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, P(DATA))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows become its part of global arrays, [B, ...] each."""
    rows = by_rows(mesh)
    return {name: jax.make_array_from_process_local_data(rows, array) for name, array in batch.items()}


def vary(tree: Any) -> Any:
    """Inside `shard_map`: marks replicated values as each device's own.

    Without it the transpose of every use adds an all-reduce where the use stands, in a loop once an iteration.
    """
    return jax.tree.map(lambda leaf: jax.lax.pcast(leaf, (DATA,), to="varying"), tree)


def sum_over_devices(tree: Any) -> Any:
    """Inside `shard_map`: the sum over all devices of the data axis."""
    return jax.lax.psum(tree, DATA)


def on_rows(function: Any, mesh: Mesh) -> Any:
    """`function(replicated, rows)` computed by each device on its rows; what it returns must be reduced already."""
    return jax.shard_map(function, mesh=mesh, in_specs=(P(), P(DATA)), out_specs=P())


def mesh_over(devices: list[Any]) -> Mesh:
    """A one-axis mesh over given devices, which need not be this machine's; those of a slice lie together."""
    slices = {getattr(device, "slice_index", None) for device in devices}
    if len(slices) == 1:
        return jax.make_mesh((len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices)
    order = mesh_utils.create_hybrid_device_mesh((len(devices) // len(slices),), (len(slices),), devices)
    return Mesh(order, (DATA,), axis_types=(AxisType.Auto,))
