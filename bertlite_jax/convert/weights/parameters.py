"""Our parameters as plain arrays: flat names, the shape of each, and the padded vocabulary. Numpy only."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from bertlite_jax.config.model import Head, Model
from bertlite_jax.errors import UserError
from bertlite_jax.model import residual_scale

Flat = dict[str, np.ndarray]
"""Arrays by flat name, such as `layers/ffn/up/kernel`."""

OPTIONAL_PARTS = ("pooler", "mlm", "pair")
"""Parts that a checkpoint may lack as a whole: a base model has no heads, a masked language model no pooler."""
OF_PIECES = ("embeddings/word/embedding", "mlm/bias")
"""Parameters with a row for each piece of the vocabulary."""


def flatten(params: dict[str, Any], prefix: str = "") -> Flat:
    """`{"layers/ffn/up/kernel": array, ...}` from nested dictionaries."""
    flat: Flat = {}
    for name, value in params.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}/") if isinstance(value, dict) else {path: np.asarray(value)}
    return flat


def nest(flat: Flat) -> dict[str, Any]:
    """The inverse of `flatten`."""
    params: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, leaf = path.split("/")
        place = params
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = value
    return params


def shapes(model: Model, head: Head | None = None) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, by flat name: of the pretraining model, or of the task model with `head`."""
    v, e, d = model.padded_vocab, model.embed_size, model.hidden_size
    s = model.sum_size
    known = {
        "embeddings/word/embedding": (v, e),
        "embeddings/position/embedding": (model.max_positions, s),
        "embeddings/norm/scale": (s,),
        "embeddings/norm/bias": (s,),
    }
    if model.token_types:
        known["embeddings/token_type/embedding"] = (model.token_types, s)
    if model.projected:
        known["projection/kernel"] = (e, d)
    if model.projected and not model.projects_words:
        known["projection/bias"] = (d,)
    known |= _pruned_layer_shapes(model) if model.pruned else _layer_shapes(model)
    if model.norm == "pre":
        known |= {"final_norm/scale": (d,), "final_norm/bias": (d,)}
    if model.pooler:
        known |= {"pooler/kernel": (d, d), "pooler/bias": (d,)}
    if head is not None:
        return known | _head_shapes(head, d)
    known |= {"mlm/dense/kernel": (d, s), "mlm/dense/bias": (s,), "mlm/norm/scale": (s,), "mlm/norm/bias": (s,)}
    known["mlm/bias"] = (v,)
    if model.pair_classes:
        known |= {"pair/kernel": (d, model.pair_classes), "pair/bias": (model.pair_classes,)}
    if model.replaced_head:
        known |= {"replaced/dense/kernel": (d, d), "replaced/dense/bias": (d,)}
        known |= {"replaced/output/kernel": (d, 1), "replaced/output/bias": (1,)}
    return known


def _layer_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    size, d, f = model.stack_sizes, model.hidden_size, model.ffn_size
    known: dict[str, tuple[int, ...]] = {}
    for name in ("query", "key", "value", "output"):
        at = f"layers/attention/{name}"
        known |= {f"{at}/kernel": (size["attention"], d, d), f"{at}/bias": (size["attention"], d)}
    known |= {"layers/ffn/up/kernel": (size["ffn"], d, f), "layers/ffn/up/bias": (size["ffn"], f)}
    known |= {"layers/ffn/down/kernel": (size["ffn"], f, d), "layers/ffn/down/bias": (size["ffn"], d)}
    for name in ("attention", "ffn"):
        known |= {f"layers/norms/{name}/{leaf}": (size["norms"], d) for leaf in ("scale", "bias")}
    if "depth" in size:
        known["layers/depth/bias"] = (size["depth"], d)
    if "low_rank" in size:
        for name, (fan_in, fan_out) in {"up": (d, f), "down": (f, d)}.items():
            known[f"layers/low_rank/{name}_in/kernel"] = (size["low_rank"], fan_in, model.low_rank)
            known[f"layers/low_rank/{name}_out/addition"] = (size["low_rank"], model.low_rank, fan_out)
    return known


def _pruned_layer_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Of layers whose parameters lie by place, as `PrunedLayers` has them."""
    size, d = model.stack_sizes, model.hidden_size
    known: dict[str, tuple[int, ...]] = {}
    for place, heads in enumerate(model.pruned_heads):
        at, width = f"layers/{place}/attention", heads * model.head_size
        inner = {"query": (d, width), "key": (d, width), "value": (d, width), "output": (width, d)} if heads else {}
        known |= {f"{at}/{name}/kernel": shape for name, shape in inner.items()}
        known |= {f"{at}/{name}/bias": (shape[-1],) for name, shape in inner.items()} | {f"{at}/output/bias": (d,)}
    for place, width in enumerate(model.pruned_ffn):
        at = f"layers/{place}/ffn"
        inner = {"up": (d, width), "down": (width, d)} if width else {}
        known |= {f"{at}/{name}/kernel": shape for name, shape in inner.items()}
        known |= {f"{at}/{name}/bias": (shape[-1],) for name, shape in inner.items()} | {f"{at}/down/bias": (d,)}
    for place in range(size["norms"]):
        names = [f"layers/{place}/norms/{part}/{leaf}" for part in ("attention", "ffn") for leaf in ("scale", "bias")]
        known |= dict.fromkeys(names, (d,))
    return known | {f"layers/{place}/depth/bias": (d,) for place in range(size.get("depth", 0))}


def of_place(flat: Flat, path: str, index: int | None) -> np.ndarray:
    """The array of one layer or group: cut out of its stack, or by place where layers are pruned.

    Args:
      flat: parameters by flat name.
      path: as a stack would have it, such as `layers/ffn/up/kernel`.
      index: place in the stack; None for what is in no stack.
    """
    if index is None:
        return flat[path]
    return flat[path][index] if path in flat else flat[by_place(path, index)]


def by_place(path: str, index: int) -> str:
    """The name of a stacked array's part: `layers/3/ffn/up/kernel`."""
    return f"layers/{index}/{path.removeprefix('layers/')}"


def _head_shapes(head: Head, width: int) -> dict[str, tuple[int, ...]]:
    if head.conditioned:
        return _conditioned_shapes(width)
    known = {}
    layers = {f"hidden_{i}": wide for i, wide in enumerate(head.hidden)} | {"output": head.outputs}
    for name, out in layers.items():
        known |= {f"head/{name}/kernel": (width, out), f"head/{name}/bias": (out,)}
        width = out
    return known


def _conditioned_shapes(d: int) -> dict[str, tuple[int, ...]]:
    known: dict[str, tuple[int, ...]] = {"head/end_norm/scale": (d,), "head/end_norm/bias": (d,)}
    for name in ("start", "end"):
        known |= {f"head/{name}/kernel": (d, 1), f"head/{name}/bias": (1,)}
    for name in ("end_hidden", "answer_hidden"):
        known |= {f"head/{name}/kernel": (2 * d, d), f"head/{name}/bias": (d,)}
    return known | {"head/answer/kernel": (d, 1)}


def check_shapes(flat: Flat, model: Model, where: str, head: Head | None = None) -> None:
    """Raises one UserError that lists every missing, unknown and wrongly shaped parameter.

    Without a task head, a part of `OPTIONAL_PARTS` may be missing as a whole.
    """
    wanted = shapes(model, head)
    optional = () if head else OPTIONAL_PARTS
    absent = {part for part in optional if not any(path.split("/")[0] == part for path in flat)}
    missing = [path for path in wanted if path not in flat and path.split("/")[0] not in absent]
    unknown = [path for path in flat if path not in wanted]
    present = {path: tuple(flat[path].shape) for path in wanted if path in flat}
    wrong = [(path, shape, wanted[path]) for path, shape in present.items() if shape != wanted[path]]
    raise_problems(where, missing, unknown, wrong)


def is_float(value: np.ndarray) -> bool:
    """Whether an array holds floats. The dtype.kind of ml_dtypes' bfloat16 is "V"."""
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"


def digest(params: dict[str, Any], stated: str) -> str:
    """SHA-256, in hex, of what is stated about a model and of its parameters by name."""
    whole = hashlib.sha256(stated.encode())
    for name, array in sorted(flatten(params).items()):
        whole.update(name.encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def check_finite(flat: Flat, where: str) -> None:
    """Raises UserError for NaN or infinity: every answer of such a model would be NaN."""
    broken = [path for path, value in flat.items() if not np.isfinite(value).all()]
    if broken:
        more = f" and {len(broken) - 8} more" if len(broken) > 8 else ""
        raise UserError(
            f"convert: {where}: NaN or infinity in {', '.join(broken[:8])}{more}; the training diverged or the file is "
            "damaged, take an earlier one"
        )


def refuse_conditioned(head: Head | None, where: str) -> None:
    """Raises UserError for a span head whose end is predicted given its start: no task class or runtime has it."""
    if head is not None and head.conditioned:
        raise UserError(
            f"convert: {where}: head.span = conditioned cannot be exported; answer with bertlite predict, or fine-tune "
            "with --head.span independent"
        )


def raise_problems(where: str, missing: list[str], unknown: list[str], wrong: list[tuple]) -> None:
    """Raises one UserError that lists every problem, if there are any.

    Args:
      where: named in the error.
      missing: names of tensors.
      unknown: names of tensors.
      wrong: (name, its shape, wanted shape) of each tensor with a wrong shape.
    """
    problems = []
    if missing:
        problems.append(f"missing: {', '.join(missing)}")
    if unknown:
        problems.append(f"unknown: {', '.join(unknown)}")
    if wrong:
        problems.append("wrong shape: " + ", ".join(f"{name} is {got}, wanted {want}" for name, got, want in wrong))
    if problems:
        raise UserError(f"convert: {where}: tensors do not fit the config; " + "; ".join(problems))


def missing_parts(params: dict[str, Any], model: Model) -> list[str]:
    """Parts that `model` has and `params` lacks, such as `pair` or `embeddings/token_type`; they need fresh values."""
    flat = flatten(params)
    lacking = [path.rsplit("/", 1)[0] for path in shapes(model) if path not in flat]
    return list(dict.fromkeys("mlm" if part.startswith("mlm") else part for part in lacking))


def trim_vocabulary(flat: Flat, model: Model) -> Flat:
    """Drops the padded rows of the word table and of the output bias: [Vpad, ...] becomes [V, ...]."""
    return {path: value[: model.vocab_size] if path in OF_PIECES else value for path, value in flat.items()}


def pad_vocabulary(params: dict[str, Any], model: Model) -> dict[str, Any]:
    """Adds or drops rows of zeros so that the word table and the output bias have `model.padded_vocab` rows.

    Raises:
      UserError: the parameters belong to another vocabulary.
    """
    flat = flatten(params)
    for path in OF_PIECES:
        if path not in flat:
            continue
        value, surplus = flat[path][: model.padded_vocab], flat[path][model.padded_vocab :]
        if len(value) < model.vocab_size or surplus.any():
            raise UserError(f"convert: {path} has {len(flat[path])} rows and model.vocab_size is {model.vocab_size}")
        widths = [(0, model.padded_vocab - len(value))] + [(0, 0)] * (value.ndim - 1)
        flat[path] = np.pad(value, widths)
    return nest(flat)


def exported(params: dict[str, Any], model: Model) -> Flat:
    """The parameters as exports hold them, for `model.exported`, by flat name.

    The padded rows of the vocabulary and the head for replaced tokens are dropped, and the residual factor is
    multiplied into its kernels.
    """
    params = {part: value for part, value in params.items() if part != "replaced"}
    if model.residual_factor != 1:
        params = {**params, "layers": residual_scale.folded(params["layers"], model.residual_factor)}
    return trim_vocabulary(flatten(params), model)


def rescaled(params: dict[str, Any], before: Model, after: Model) -> dict[str, Any]:
    """The parameters with which `after` computes what `before` computes: other kernels where the factors differ.

    Two models with the same `residual_scale` keep their kernels, whatever their depths: the factor follows the depth
    for that purpose. Else within one rounding (`residual_scale.unfolded`).
    """
    if before.residual_scale == after.residual_scale:
        return params
    published = residual_scale.folded(params["layers"], before.residual_factor)
    return {**params, "layers": residual_scale.unfolded(published, after.residual_factor)}
