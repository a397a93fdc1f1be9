"""Devices, and what each of them holds. The only file that names mesh axes.

The mesh has the axes `data`, `fsdp` and `model`; an axis of length 1 is left out. The rows of a batch are split over
`data` and `fsdp` together. Each parameter and its optimiser state is split by these rules or lies on every device:

  replicated  nothing is split.
  zero1       optimiser state is split over `data`.
  fsdp        parameters, gradients and optimiser state are split over `fsdp`.
  tensor      attention heads, the feed-forward layer and the vocabulary are split over `model`.

They can be combined. Parameters that `fsdp` splits are put together once a step, before the first micro-batch, and
gradients are summed once a step, after the last one, whatever the number of layers. Source of the modes: Rajbhandari et
al. 2020 (arXiv 1910.02054), stages 1 and 3 but for the gathering of one layer at a time, which compact models do not
need; Shoeybi et al. 2019 (arXiv 1909.08053).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bertlite_jax.errors import UserError

DATA, FSDP, MODEL = "data", "fsdp", "model"

SMALLEST = 1024
"""Arrays with fewer numbers are not split over `data` or `fsdp`: a message costs more than they do."""

_LAST = frozenset({"query", "key", "value", "up", "up_out"})
"""Layers whose outputs are split over `model`."""
_FIRST = frozenset({"output", "down", "down_in"})
"""Layers whose inputs are split over `model`; their outputs are summed."""


# --- Devices -----------------------------------------------------------------------------------------------------


def make_mesh(local_devices: int = 0, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """A mesh over `local_devices` devices of each process; 0: all of them.

    Args:
      local_devices: used of each process.
      fsdp: size of the axis `fsdp`; `data` gets what is left.
      tensor: size of the axis `model`. A group along it lies in one process, since all its devices read the same rows.

    Raises:
      UserError: a process has fewer devices, or they do not divide.
    """
    by_process = [jax.local_devices(process) for process in range(jax.process_count())]
    fewest = min(map(len, by_process))
    if local_devices > fewest:
        raise UserError(
            f"config: run.devices = {local_devices}: a process has {fewest}; on a CPU set JAX_NUM_CPU_DEVICES"
        )
    return mesh_over([device for devices in by_process for device in devices[: local_devices or None]], fsdp, tensor)


def mesh_over(devices: list[Any], fsdp: int = 1, tensor: int = 1) -> Mesh:
    """A mesh over given devices, which need not be this machine's; those of a slice lie together, slice by slice.

    Raises:
      UserError: `fsdp` times `tensor` does not divide the devices of a slice, or `tensor` those of a process.
    """
    of_a_process = min(collections.Counter(device.process_index for device in devices).values())
    if of_a_process % tensor:
        raise UserError(f"config: run.tensor = {tensor} must divide the {of_a_process} devices of a process")
    slices: dict[int, list[Any]] = {}
    for device in sorted(devices, key=lambda device: device.process_index):
        slices.setdefault(getattr(device, "slice_index", 0), []).append(device)
    each = min(map(len, slices.values()))
    if each % (fsdp * tensor):
        raise UserError(f"config: run.fsdp = {fsdp} times run.tensor = {tensor} must divide {each} devices")
    data = each // (fsdp * tensor)
    # A sum over an axis of length 1 would stay in the program, and copy what it sums. Rows need one axis in any case.
    sizes = {DATA: data} if data * len(slices) > 1 or fsdp == 1 else {}
    sizes |= {axis: size for axis, size in ((FSDP, fsdp), (MODEL, tensor)) if size > 1}
    names, shape, kinds = tuple(sizes), tuple(sizes.values()), (AxisType.Auto,) * len(sizes)
    placed = [
        # Process by process, which keeps a group along `model` in one of them; else as the links lie.
        np.asarray(of_slice).reshape(shape)
        if tensor > 1
        else jax.make_mesh(shape, names, axis_types=kinds, devices=of_slice).devices
        for _, of_slice in sorted(slices.items())
    ]
    return Mesh(np.concatenate(placed), names, axis_types=kinds)


def describe(mesh: Mesh) -> str:
    """The axes and their sizes, such as `data 4, fsdp 2`."""
    return ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())


def row_parts(mesh: Mesh) -> int:
    """The number of parts that the rows of a batch are split into."""
    return math.prod(mesh.shape[axis] for axis in _of_rows(mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices but those of one group along `model`."""
    return NamedSharding(mesh, P(_of_rows(mesh)))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows become its part of global arrays, [B, ...] each."""
    rows = by_rows(mesh)
    return {name: jax.make_array_from_process_local_data(rows, array) for name, array in batch.items()}


def whole(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a tree, wherever their parts lie, on every device. All processes call it together."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


# --- What lies where -----------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """How the parameters are split; all trees have their structure, the latter two with a `PartitionSpec` for each."""

    mesh: Mesh
    shapes: Any
    """Of the parameters."""
    params: Any
    moments: Any
    """Of a parameter's optimiser state, and of its gradient after the sum over devices."""


def layout(shapes: Any, mesh: Mesh, zero1: bool = False) -> Layout:
    """The layout of parameters of these shapes.

    Args:
      shapes: tree of parameters or their shapes, by name.
      mesh: the devices.
      zero1: split optimiser state over `data`.
    """

    def split(path: tuple[Any, ...], leaf: Any) -> P:
        axes = _tensor_axes(_name(path), len(leaf.shape)) if MODEL in mesh.shape else [None] * len(leaf.shape)
        return _and_over(FSDP, P(*axes), leaf.shape, mesh)

    params = jax.tree_util.tree_map_with_path(split, shapes)
    moments = params
    if zero1:
        moments = jax.tree.map(lambda leaf, spec: _and_over(DATA, spec, leaf.shape, mesh), shapes, params)
    return Layout(mesh, shapes, params, moments)


def places(specs: Any, mesh: Mesh) -> Any:
    """`NamedSharding`s for a tree of `PartitionSpec`s."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=_is_spec)


def put_params(params: Any, layout: Layout) -> Any:
    """Whole parameters on the host become arrays that are split as the layout says. All processes have the same."""
    return jax.device_put(params, places(layout.params, layout.mesh))


def placed_shapes(layout: Layout) -> Any:
    """Shapes, dtypes and places of the parameters."""
    return jax.tree.map(
        lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at),
        layout.shapes,
        places(layout.params, layout.mesh),
    )


def places_of_optimizer(opt: Any, layout: Layout) -> Any:
    """`NamedSharding`s for an optimiser's state: its trees of moments are split like gradients, the rest is whole.

    A moment is known by the end of its name, which is that of its parameter.
    """
    specs = jax.tree_util.tree_leaves_with_path(layout.moments, is_leaf=_is_spec)
    by_name = {_name(path): spec for path, spec in specs}

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        parts = _name(path).split("/")
        candidates = (by_name.get("/".join(parts[start:])) for start in range(len(parts)))
        spec = next((spec for spec in candidates if spec is not None), P())
        return NamedSharding(layout.mesh, spec if len(spec) <= len(leaf.shape) else P())

    return jax.tree_util.tree_map_with_path(place, opt)


def bytes_a_device(tree: Any) -> int:
    """Of arrays that have been placed: what one device holds of them."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _tensor_axes(name: str, rank: int) -> list[str | None]:
    """The axis over which a parameter is split for `model`, if any."""
    axes: list[str | None] = [None] * rank
    *parents, layer, leaf = ["", *name.split("/")]
    if name in ("embeddings/word/embedding", "mlm/bias"):
        axes[0] = MODEL
    elif parents[1:2] == ["layers"] and layer in _LAST:
        axes[-1] = MODEL
    elif parents[1:2] == ["layers"] and layer in _FIRST and leaf == "kernel":
        axes[-2] = MODEL
    return axes


def _and_over(axis: str, spec: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The spec, with the longest dimension that is whole and divides split over `axis`; unchanged where none does."""
    size = mesh.shape.get(axis, 1)
    fitting = [(-length, place) for place, length in enumerate(shape) if spec[place] is None and length % size == 0]
    if size == 1 or not fitting or math.prod(shape) < SMALLEST:
        return spec
    longest = min(fitting)[1]
    return P(*(axis if place == longest else part for place, part in enumerate(spec)))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_spec(value: Any) -> bool:
    return isinstance(value, P)


# --- Inside a step ---------------------------------------------------------------------------------------------------


def on_rows(function: Callable[..., Any], layout: Layout, others: Sequence[Layout] = ()) -> Any:
    """`function((params, more, other params), rows) -> (gradients, sums)`, computed by each device on its rows.

    It is given its parts of the parameters, and returns its parts of the gradients and what is the same everywhere.
    The axis `model` stays with XLA's partitioner: its groups compute one function together.

    Args:
      function: see above.
      layout: of the parameters that have gradients.
      others: of a tuple of further parameters, which have none.
    """
    params, moments = (_by_hand(specs) for specs in (layout.params, layout.moments))
    return jax.shard_map(
        function,
        mesh=layout.mesh,
        in_specs=((params, P(), tuple(_by_hand(other.params) for other in others)), P(_of_rows(layout.mesh))),
        out_specs=(moments, P()),
        axis_names=set(_of_rows(layout.mesh)),
    )


def map_rows(function: Callable[..., Any], mesh: Mesh, others: Sequence[Layout]) -> Any:
    """`function((number, params), rows) -> arrays of these rows`, computed by each device on its rows, as `on_rows`.

    Args:
      function: see above. The number is the same everywhere.
      mesh: the devices.
      others: of the tuple of parameters, of which the function gets its parts.
    """
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=((P(), tuple(_by_hand(other.params) for other in others)), P(_of_rows(mesh))),
        out_specs=P(_of_rows(mesh)),
        axis_names=set(_of_rows(mesh)),
    )


def vary(tree: Any, layout: Layout) -> Any:
    """Inside `on_rows`: marks values that are the same everywhere as each device's own.

    Without it the transpose of every use adds an all-reduce where the use stands, in a loop once an iteration.
    """
    return jax.tree.map(lambda leaf: jax.lax.pcast(leaf, _of_rows(layout.mesh), to="varying"), tree)


def gather(params: Any, layout: Layout) -> Any:
    """Inside `on_rows`: whole parameters from the parts along `fsdp`, which then vary over devices."""

    def put_together(leaf: jax.Array, spec: P) -> jax.Array:
        if FSDP not in spec:
            return vary(leaf, layout)
        leaf = jax.lax.all_gather(leaf, FSDP, axis=spec.index(FSDP), tiled=True)
        return jax.lax.pcast(leaf, DATA, to="varying") if DATA in layout.mesh.shape else leaf

    return jax.tree.map(put_together, params, layout.params)


def sum_over_devices(tree: Any, layout: Layout) -> Any:
    """Inside `on_rows`: the sum over all parts of the rows, on every device."""
    return jax.lax.psum(tree, _of_rows(layout.mesh))


def sum_gradients(grads: Any, layout: Layout) -> Any:
    """Inside `on_rows`: summed over all parts of the rows; each device gets its part of the layout.

    What is split is added and split in one go (reduce-scatter) along the axes that split it, `fsdp` first, and then
    added along the others. XLA joins the sums of all leaves.
    """

    def add(leaf: jax.Array, spec: P) -> jax.Array:
        axes = [axis for axis in (FSDP, DATA) if axis in spec]
        for axis in axes:
            leaf = jax.lax.psum_scatter(leaf, axis, scatter_dimension=spec.index(axis), tiled=True)
        rest = tuple(axis for axis in _of_rows(layout.mesh) if axis not in axes)
        return jax.lax.psum(leaf, rest) if rest else leaf

    return jax.tree.map(add, grads, layout.moments)


def _of_rows(mesh: Mesh) -> tuple[str, ...]:
    """The axes along which each device has rows of its own."""
    return tuple(axis for axis in (DATA, FSDP) if axis in mesh.shape)


def _by_hand(specs: Any) -> Any:
    """The specs without the axis `model`."""
    return jax.tree.map(lambda spec: P(*(None if axis == MODEL else axis for axis in spec)), specs, is_leaf=_is_spec)
