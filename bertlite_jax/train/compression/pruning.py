"""Takes layers, heads and neurons out of a model for good: the arrays become smaller.

What is left computes what the whole model computes with the factors 0 on what was taken (`model/gates.py`), and
without the layers that were taken.

Letters: D hidden, H heads, K width of a head, F neurons, N layers.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError


class Kept(NamedTuple):
    """What stays of a model.

    Attributes:
      layers: numbers of the layers that stay, rising; of layers that share, equally many of each group.
      heads: numbers of the heads that stay, rising, by place in the stack of attention before pruning
        (`Model.stack_place`); those of places that no layer applies any more are not read.
      neurons: likewise, of feed-forward layers.
    """

    layers: tuple[int, ...]
    heads: list[np.ndarray]
    neurons: list[np.ndarray]


def everything(model: Model) -> Kept:
    """All of a model, which may be pruned already."""
    heads = model.pruned_heads or (model.num_heads,) * model.stack_sizes["attention"]
    neurons = model.pruned_ffn or (model.ffn_size,) * model.stack_sizes["ffn"]
    return Kept(tuple(range(model.num_layers)), list(map(np.arange, heads)), list(map(np.arange, neurons)))


def check_prunable(model: Model, where: str) -> None:
    """Raises UserError for layers that share in a way that nothing can be taken from; `where` begins the message."""
    own = [name for name in model.freed if name not in ("own_norms", "depth_vector")]
    if model.share not in ("all", "none") or own:
        field = own[0] if own else "share"
        raise UserError(
            f"{where}: model.{field} = {getattr(model, field)}: only layers that share all their kernels in groups, or "
            "none, can be pruned"
        )


def prune(params: dict[str, Any], model: Model, kept: Kept) -> tuple[dict[str, Any], Model]:
    """The parameters that stay, and their shape.

    Where all heads and equally many neurons of each place stay, the layers lie in stacks as before and every export
    has a place for them; otherwise by place (`Model.pruned`).

    Args:
      params: nested, float32, with the factor `Model.residual_factor` in the kernels.
      model: their shape; `check_prunable` accepts it.
      kept: what stays; at least one layer.
    """
    layers = list(kept.layers)
    places = {part: _places(model, part, layers) for part in model.stack_sizes}
    by_place = [
        {part: _of_place(params["layers"], model, part, at[i]) for part, at in places.items() if i < len(at)}
        for i in range(max(map(len, places.values())))
    ]
    heads = [kept.heads[place] for place in places["attention"]]
    neurons = [kept.neurons[place] for place in places["ffn"]]
    for parts, head, neuron in zip(by_place, heads, neurons, strict=False):
        parts["attention"] = _attention(parts["attention"], head, model.head_size)
        parts["ffn"] = _feed_forward(parts["ffn"], neuron)
    sizes = tuple(map(len, heads)), tuple(map(len, neurons))
    whole = dataclasses.replace(model, num_layers=len(layers), pruned_heads=(), pruned_ffn=())
    if set(sizes[0]) == {model.num_heads} and len(set(sizes[1])) == 1 and sizes[1][0]:
        stacks = {part: _stack([parts[part] for parts in by_place[: len(at)]]) for part, at in places.items()}
        return {**params, "layers": stacks}, dataclasses.replace(whole, ffn_size=sizes[1][0])
    named = {str(place): parts for place, parts in enumerate(by_place)}
    return {**params, "layers": named}, dataclasses.replace(whole, pruned_heads=sizes[0], pruned_ffn=sizes[1])


def _places(model: Model, part: str, layers: list[int]) -> list[int]:
    """Places in a part's stack that these layers apply, each once."""
    return list(dict.fromkeys(place for layer in layers if (place := model.stack_place(part, layer)) is not None))


def _of_place(layers: dict[str, Any], model: Model, part: str, place: int) -> dict[str, Any]:
    if model.pruned:
        return layers[str(place)][part]
    return _map(layers[part], lambda leaf: np.asarray(leaf)[place])


def _attention(part: dict[str, Any], heads: np.ndarray, width: int) -> dict[str, Any]:
    """The part with these heads only."""
    if not len(heads):
        return {"output": {"bias": np.asarray(part["output"]["bias"])}}
    columns = (np.asarray(heads)[:, None] * width + np.arange(width)).reshape(-1)
    inner = {name: _columns(part[name], columns) for name in ("query", "key", "value")}
    return {**inner, "output": _rows(part["output"], columns)}


def _feed_forward(part: dict[str, Any], neurons: np.ndarray) -> dict[str, Any]:
    """The part with these neurons only."""
    if not len(neurons):
        return {"down": {"bias": np.asarray(part["down"]["bias"])}}
    return {"up": _columns(part["up"], neurons), "down": _rows(part["down"], neurons)}


def _columns(linear: dict[str, Any], kept: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(np.asarray(value)[..., kept]) for name, value in linear.items()}


def _rows(linear: dict[str, Any], kept: np.ndarray) -> dict[str, np.ndarray]:
    return {"kernel": np.asarray(linear["kernel"])[kept], "bias": np.asarray(linear["bias"])}


def _map(tree: Any, change: Any) -> Any:
    return {name: _map(value, change) for name, value in tree.items()} if isinstance(tree, dict) else change(tree)


def _stack(trees: list[Any]) -> Any:
    first = trees[0]
    if isinstance(first, dict):
        return {name: _stack([tree[name] for tree in trees]) for name in first}
    return np.stack(trees)
