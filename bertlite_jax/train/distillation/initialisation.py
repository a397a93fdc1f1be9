"""A student's first weights, taken from the layers of a teacher.

The teacher comes with a stack of N layers, none of them shared, and with the residual factor in its kernels; parameters
are flat, `layers/ffn/up/kernel` to an array. Where layers of the student share, the shared part is the mean of what
each of them would have by itself; the low-rank pairs of a layer get what the mean leaves out.

Letters: M layers of the student, N of the teacher, D hidden, F feed-forward, r rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bertlite_jax.config.model import Model
from bertlite_jax.train.distillation import widths

Flat = dict[str, np.ndarray]
Stack = np.ndarray
"""[layers, ...]: one array for each layer."""
Map = tuple[tuple[int, ...], ...]
"""For each layer of the student the teacher's layers that it starts from, numbers from 0; none: it is drawn."""


def layer_map(start: str, student: int, teacher: int) -> Map:
    """Which layers go where.

    Args:
      start: `Distillation.start`. `alternate`: layer i from i (N - 1) / (M - 1), rounded; `groups`: from a stretch.
      student: M.
      teacher: N, at least M unless `start` is random.

    Source: huggingface/transformers-research-projects:distillation/scripts/extract_distilbert.py has 0, 2, 4, 7, 9, 11
    for 6 of 12, which `alternate` gives.
    """
    M, N = student, teacher
    if start == "random":
        return ((),) * M
    if start == "groups":
        return tuple(tuple(range(i * N // M, (i + 1) * N // M)) for i in range(M))
    if start == "alternate":
        gaps = max(1, M - 1)
        return tuple(((2 * i * (N - 1) + gaps) // (2 * gaps),) for i in range(M))
    return tuple((i + (N - M if start == "last" else 0),) for i in range(M))


def table(layers: Map, student: Model, source: str) -> tuple[str, ...]:
    """Lines that say which layer of the teacher went where."""
    named = [",".join(map(str, taken)) if len(taken) < 4 else f"{taken[0]}-{taken[-1]}" for taken in layers]
    sizes = [max(len(name), len(str(number))) for number, name in enumerate(named)]
    lines = [
        f"layer of the student    {'  '.join(f'{i:>{size}}' for i, size in enumerate(sizes))}",
        f"starts from layer(s)    {'  '.join(f'{name:>{size}}' for name, size in zip(named, sizes, strict=True))}"
        f"  of {source}",
    ]
    if student.share != "none" and len(student.sharing_layers) > student.share_groups:
        parts = ", ".join(student.shared_parts)
        rest = f"; what it leaves out of a feed-forward layer: rank {student.low_rank}" if student.low_rank else ""
        lines.append(f"layers of a group share {parts}: the mean of theirs{rest}")
    return tuple(lines)


def student_params(flat: Flat, teacher: Model, student: Model, layers: Map) -> Flat:
    """The student's parameters, with the residual factor in their kernels; parts that the teacher lacks are missing.

    Args:
      flat: the teacher's, [N, ...] in each stack.
      teacher: its shape; widths may exceed the student's (`widths.narrowed`).
      student: its shape.
      layers: of `layer_map`.
    """
    flat = widths.narrowed(_with_types(dict(flat), student), teacher, student)
    heads = {"pooler": student.pooler, "pair": student.pair_classes, "replaced": student.replaced_head}
    absent = [part for part, there in heads.items() if not there]
    if flat.get("pair/bias", np.zeros(0)).shape != (student.pair_classes,):
        absent.append("pair")
    made = {name: value for name, value in flat.items() if name.split("/")[0] not in (*absent, "layers")}
    wanted = {name: _of_layers(value, layers) for name, value in flat.items() if name.startswith("layers/")}
    if student.depth_vector and "layers/depth/bias" not in wanted:
        wanted["layers/depth/bias"] = np.zeros((student.num_layers, student.hidden_size), np.float32)
    for name, value in wanted.items():
        part = name.split("/")[1]
        if part in student.stack_sizes:
            made[name] = _shared(value, [student.stack_place(part, layer) for layer in range(student.num_layers)])
    return made | (_low_rank(wanted, made, student) if student.low_rank else {})


def _with_types(flat: Flat, student: Model) -> Flat:
    """The token types that the student has.

    Without a table of them, the teacher's first row, which it adds to every token of a single text, goes into the
    position table. DistilBERT's own script drops it.
    """
    types = flat.pop("embeddings/token_type/embedding", None)
    if types is None:
        return flat
    if not student.token_types:
        flat["embeddings/position/embedding"] = flat["embeddings/position/embedding"] + types[:1]
    elif len(types) >= student.token_types:
        flat["embeddings/token_type/embedding"] = types[: student.token_types]
    return flat


def _of_layers(stack: Stack, layers: Map) -> Stack:
    """The mean of the layers that each layer of the student starts from."""
    return np.stack([_mean(stack[list(taken)]) for taken in layers])


def _shared(stack: Stack, places: Sequence[int | None]) -> Stack:
    """The mean over the layers that have the same place."""
    known = sorted({place for place in places if place is not None})
    return np.stack([_mean(stack[[layer for layer, at in enumerate(places) if at == place]]) for place in known])


def _mean(stack: Stack) -> np.ndarray:
    """One array stays to the bit what it is."""
    return stack[0] if len(stack) == 1 else np.asarray(np.mean(stack, axis=0, dtype=np.float64), np.float32)


# --- Low-rank pairs --------------------------------------------------------------------------------------------------


def _low_rank(wanted: Flat, made: Flat, student: Model) -> Flat:
    """Pairs whose products come nearest to what each layer's kernels are beside the shared ones.

    Source: Bae et al. 2025 (arXiv 2410.20672), section 2.3.
    """
    pairs: Flat = {}
    for name in ("up", "down"):
        path = f"layers/ffn/{name}/kernel"
        rests = [wanted[path][i] - made[path][student.stack_place("ffn", i)] for i in student.sharing_layers]
        lefts, rights = zip(*(_factors(rest, student.low_rank, student.init_std) for rest in rests), strict=True)
        pairs[f"layers/low_rank/{name}_in/kernel"] = np.stack(lefts)
        pairs[f"layers/low_rank/{name}_out/addition"] = np.stack(rights)
    return pairs


def _factors(
    matrix: Float[np.ndarray, "In Out"], rank: int, std: float
) -> tuple[Float[np.ndarray, "In r"], Float[np.ndarray, "r Out"]]:
    """A and B whose product is the truncated singular value decomposition.

    All columns of A have one length, so that a direction whose singular value is 0 can still be learnt: two zeros would
    have no gradient. The length is the root of the largest singular value, or that of a drawn column where all are 0.
    """
    U, S, Vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    length = np.sqrt(S[0]) or std * np.sqrt(len(matrix))
    left, right = U[:, :rank] * length, (S[:rank] / length)[:, None] * Vt[:rank]
    return left.astype(np.float32), right.astype(np.float32)
