"""The size of a model, the cost of a step and the share of the machine that it uses: all by formula, without tracing.

XLA's own cost analysis counts the body of a scan once, whatever the number of layers, so it cannot serve for MFU.
Conventions: one multiply-add is 2 FLOPs; only matrix products count (softmax, LayerNorm, GELU, dropout and the
optimiser do not); training is three times the forward pass, and recomputation by rematerialisation is not counted.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable

import numpy as np

from bertlite_jax.config import schedule
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain, causal_slots, predictions_per_row

# Dense peaks in FLOP/s of one JAX device, by a part of `jax.Device.device_kind`: (bfloat16, float32 as JAX computes it
# by default, which is TF32 on these GPUs and one bfloat16 pass on TPUs; docs.jax.dev, "Matmul precision").
# Sources: NVIDIA's data sheets without sparsity, Google Cloud's TPU pages. TPU v2, v3 and TPU7x show two devices a
# chip, so a device has half of the chip's peak; v4 and v5p show one (megacore). The first name that occurs wins.
PEAKS: dict[str, tuple[float, float]] = {
    "A100": (312e12, 156e12),
    "H100 PCIe": (756e12, 378e12),
    "H100 NVL": (835e12, 417e12),
    "H100": (989e12, 494.5e12),
    "H200 NVL": (835e12, 417e12),
    "H200": (989e12, 494.5e12),
    "TPU v2": (22.5e12, 22.5e12),
    "TPU v3": (61.5e12, 61.5e12),
    "TPU v4 lite": (137e12, 137e12),
    "TPU v4": (275e12, 275e12),
    "TPU v5 lite": (197e12, 197e12),
    "TPU v5e": (197e12, 197e12),
    "TPU v5": (459e12, 459e12),
    "TPU v6": (918e12, 918e12),
    "TPU7": (1153.5e12, 1153.5e12),
}


# --- Parameters --------------------------------------------------------------------------------------------------


def parameters(model: Model) -> dict[str, int]:
    """Trainable parameters by formula.

    Shared attention and feed-forward parts are held once a group, unshared ones once a layer. The two LayerNorms of a
    block are shared only with `share = "all"` and without `own_norms`. Rows that pad the vocabulary count, because they
    take memory.

    Returns:
      `embeddings` (word, position and token type tables with their LayerNorm), `projection` (E to D, where they
      differ), `attention`, `ffn`, `norms`, `depth` and `low_rank` where the model has them, `encoder` (all of these),
      `pooler`, `mlm`, `pair`, `replaced`, `heads` (the last three) and `total` (encoder + pooler + heads).

    Source: google-research/albert: modeling.py; Lan et al. 2020 (arXiv 1909.11942), table 4 for the sharing modes.

    Examples:
      ALBERT base and BERT base, with their poolers: the 12M and 108M of ALBERT's table 1.

      >>> from bertlite_jax.config import presets
      >>> from bertlite_jax.report.cost.flops import parameters
      >>> counts = [parameters(model) for model in (presets.ALBERT_BASE, presets.BERT_BASE)]
      >>> [count["encoder"] + count["pooler"] for count in counts]
      [11683584, 109482240]
    """
    V, E, D, F, S = model.padded_vocab, model.embed_size, model.hidden_size, model.ffn_size, model.sum_size
    copies = model.stack_sizes
    count = {
        "embeddings": V * E + (model.max_positions + model.token_types) * S + 2 * S,
        "projection": _projection(model),
        "attention": copies["attention"] * 4 * (D * D + D),
        "ffn": copies["ffn"] * (2 * D * F + F + D),
        "norms": copies["norms"] * 4 * D + (2 * D if model.norm == "pre" else 0),
    }
    if "depth" in copies:
        count["depth"] = copies["depth"] * D
    if "low_rank" in copies:
        count["low_rank"] = copies["low_rank"] * 2 * model.low_rank * (D + F)
    count["encoder"] = sum(count.values())
    count["pooler"] = D * D + D if model.pooler else 0
    count["mlm"] = D * S + S + 2 * S + V
    count["pair"] = (D + 1) * model.pair_classes
    count["replaced"] = D * D + D + D + 1 if model.replaced_head else 0
    count["heads"] = count["mlm"] + count["pair"] + count["replaced"]
    count["total"] = count["encoder"] + count["pooler"] + count["heads"]
    return count


def _projection(model: Model) -> int:
    """Parameters between embeddings and encoder; there is no bias where words are projected before the sum."""
    if not model.projected:
        return 0
    return model.hidden_size * (model.embed_size + (not model.projects_words))


# --- FLOPs -------------------------------------------------------------------------------------------------------


def forward_flops_per_row(model: Model, length: int, predictions: int, windows: int) -> int:
    """FLOPs of one forward pass over one row.

    Sharing layers saves parameters, not FLOPs, so `model.share` does not matter. Low-rank pairs count as two products
    of each token, as exported models compute them; training multiplies the pairs with each other instead, which is
    less (`depth_parts.widened`). Attention counts the full L x L product of the row, which is computed although packed
    windows do not see one another. Of pruned layers those heads and neurons count that are left.

    Args:
      model: its shape.
      length: L, slots in the row, padding included.
      predictions: K, slots that reach the vocabulary product; `length` for a head without the gather.
      windows: P, [CLS] positions that reach the pooler and the pair head; 0 leaves both out.

    Examples:
      A text of 128 tokens through ALBERT base costs what it costs in BERT base, and the projection on top.

      >>> from bertlite_jax.config import presets
      >>> from bertlite_jax.report.cost.flops import forward_flops_per_row
      >>> models = (presets.ALBERT_BASE, presets.BERT_BASE)
      >>> [round(forward_flops_per_row(model, 128, 0, 0) / 1e9, 2) for model in models]
      [22.37, 22.35]
    """
    V, E, D, F, N = model.padded_vocab, model.embed_size, model.hidden_size, model.ffn_size, model.num_layers
    S = model.sum_size
    heads = sum(model.heads_in(layer) for layer in range(N)) * model.head_size
    layers = (8 * D * heads + 4 * D * sum(model.ffn_size_in(layer) for layer in range(N))) * length
    layers += model.stack_sizes.get("low_rank", 0) * 4 * model.low_rank * (D + F) * length
    attention = 4 * length * length * heads
    projection = 2 * E * D * length if model.projected else 0
    back = D * E if model.projects_words else 0
    head = 2 * predictions * (D * S + back + E * V)
    pooled = 2 * D * D + 2 * D * model.pair_classes if model.pooler else 0
    return layers + attention + projection + head + windows * pooled


def train_flops_per_step(config: Pretrain) -> int:
    """FLOPs of one update over the global batch: three forward passes, with the static K and P of the config.

    With `objective.replaced_weight` a forward pass is two, through the encoder. A causal step (`Objective.causal`) has
    one pass and a prediction at every slot, and neither pairs nor replaced tokens. All slots of the B rows count,
    filled or not, because they are computed. Multiply by the share of filled slots for the FLOPs of real tokens.
    """
    model, length = config.model, config.data.length
    if config.objective.causal:
        return 3 * config.data.batch_rows * forward_flops_per_row(model, length, length, 0)
    row = forward_flops_per_row(model, length, predictions_per_row(config), config.data.window_slots)
    if config.objective.replaced_weight:
        D = model.hidden_size
        row += forward_flops_per_row(model, length, 0, 0) + length * (2 * D * D + 2 * D)
    return 3 * config.data.batch_rows * row


def run_flops(config: Pretrain) -> int:
    """FLOPs of all updates of a run."""
    return sum(stage_flops(stage) for stage in schedule.stages(config))


def stage_flops(stage: schedule.Stage) -> int:
    """FLOPs of all updates of a stage."""
    return sum(kind.steps * train_flops_per_step(kind.config) for kind in schedule.kinds(stage))


# --- Peaks and MFU -----------------------------------------------------------------------------------------------


def peak_flops(
    device_kind: str, compute: str, multiply: Callable[[np.ndarray, np.ndarray], object] | None = None
) -> float | None:
    """Peak FLOP/s of one device in dense matrix products, or None if it is not known.

    A CPU has no entry: its peak is measured, once a process, over all cores. Without `multiply` numpy measures float32;
    bfloat16 on a CPU needs `multiply`, because a float32 peak would flatter it. A jitted product is better in any case:
    on a busy machine numpy's threads wait for each other and show a hundredth. `peak_origin` says which it was.

    Args:
      device_kind: as `jax.Device.device_kind` gives it, e.g. "NVIDIA H100 80GB HBM3", "TPU v5 lite", "cpu".
      compute: "float32" or "bfloat16" ("auto" has to be resolved before).
      multiply: takes two float32 matrices [n, n], may convert them, and returns when the product is computed.
    """
    if compute not in ("float32", "bfloat16"):
        raise ValueError(f"compute = {compute!r} must be float32 or bfloat16")
    if device_kind.lower() == "cpu":
        if multiply is None and compute == "bfloat16":
            return None
        return measured_peak(multiply or np.matmul)
    if " MIG " in device_kind:  # a slice of a GPU has a slice of its peak
        return None
    for name, (bfloat16, float32) in PEAKS.items():
        if name in device_kind:
            return bfloat16 if compute == "bfloat16" else float32
    return None


def peak_origin(device_kind: str) -> str:
    """`measured` for a CPU, `published` for a device in the table, else `unknown`: to print beside the MFU."""
    if device_kind.lower() == "cpu":
        return "measured"
    return "published" if peak_flops(device_kind, "bfloat16") else "unknown"


@functools.cache
def measured_peak(
    multiply: Callable[[np.ndarray, np.ndarray], object],
    seconds: float = 0.25,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Best FLOP/s of square matrix products of growing size, each repeated, within about `seconds`.

    It takes the best of many, because other processes only make a product slower; if they never pause, the peak is too
    low and the MFU too high.
    """
    end, best, size = now() + seconds, 0.0, 256
    while True:
        a = np.full((size, size), 0.5, np.float32)
        multiply(a, a)  # the first call may compile or start threads
        next_size, shortest = now() + seconds / 5, float("inf")
        while True:
            before = now()
            multiply(a, a)
            after = now()
            shortest = min(shortest, max(after - before, 1e-9))
            grows = size < 4096 and after + 16 * shortest < end  # twice the size is eight times the work, done twice
            if after + shortest > end or (grows and after > next_size):
                break
        best = max(best, 2 * size**3 / shortest)
        if not grows:
            return best
        size *= 2


def mfu(flops_per_step: float, seconds_per_step: float, peak: float | None, devices: int = 1) -> float | None:
    """Model FLOPs utilisation, 0 to 1: the analytic FLOPs of a step over what the devices could do in that time.

    Args:
      flops_per_step: over all devices.
      seconds_per_step: wall time.
      peak: of one device, from `peak_flops`; None gives None.
      devices: that share the step. A CPU's peak is that of the whole host, so there it is the number of hosts and not
        of JAX's CPU devices.
    """
    if peak is None or seconds_per_step <= 0:
        return None
    return flops_per_step / (seconds_per_step * peak * devices)


# --- Memory ------------------------------------------------------------------------------------------------------


def step_memory_bytes(config: Pretrain, devices: int = 1, compute: str = "", scores: bool = True) -> dict[str, int]:
    """Bytes that a training step needs on one of `devices` devices, within a sixth of XLA's count in float32.

    Counted: float32 parameters, gradients (twice with micro-batches: the sum and the newest) and moments (two, but one
    of what Muon moves), as `run.fsdp`, `run.tensor` and `run.zero1` split them; the whole parameters that `fsdp` puts
    together for a step; what the backward pass keeps of one micro-batch; and the logits [rows, K, V] with their
    gradient in float32. Not counted: the batch and the copies that the compiler chooses to make.

    Args:
      config: model, data, optimiser and how the run splits them.
      devices: that share the step.
      compute: "float32" or "bfloat16" once "auto" is resolved; "" takes the config's, and "auto" as float32.
      scores: whether attention keeps its scores for the backward pass, as `attention.choose` says: not in cuDNN, nor
        in the TPU's kernel, nor in pieces on a CPU.

    Returns:
      `parameters`, `gradients`, `optimiser`, `activations`, `logits`, `total`.
    """
    data, optim, run = config.data, config.optim, config.run
    weights = 4 * parameters(config.model)["total"] // run.tensor
    copies = devices // (run.tensor * run.fsdp) if run.zero1 else 1
    rows = -(-data.batch_rows * run.tensor // (devices * optim.micro_batches))
    part = dataclasses.replace(
        config.model, num_heads=config.model.num_heads // run.tensor, ffn_size=config.model.ffn_size // run.tensor
    )
    width = 2 if (compute or config.model.compute) == "bfloat16" else 4
    causal = config.objective.causal
    K = causal_slots(config) if causal else predictions_per_row(config)
    passes = 2 if config.objective.replaced_weight and not causal else 1
    saved = passes * _saved_bytes_per_token(part, data.length if scores or causal else 0, width)
    saved += (passes - 1) * 2 * config.model.hidden_size * 4  # The hidden layer of the head for replaced tokens.
    memory = {
        "parameters": weights // run.fsdp + (weights if run.fsdp > 1 else 0),
        "gradients": weights * (2 if optim.micro_batches > 1 else 1),
        "optimiser": 4 * _moments(config) // (run.tensor * run.fsdp * copies),
        "activations": rows * data.length * saved + _saved_kernel_bytes(part, width),
        "logits": 2 * rows * K * config.model.padded_vocab // run.tensor * 4,
    }
    return memory | {"total": sum(memory.values())}


def _moments(config: Pretrain) -> int:
    """Numbers that the optimiser remembers; those of NorMuon's neurons are too few to count."""
    model, both = config.model, 2 * parameters(config.model)["total"]
    if config.optim.name not in ("muon", "normuon"):
        return both
    D, copies = model.hidden_size, model.stack_sizes
    kernels = copies["attention"] * 4 * D * D + copies["ffn"] * 2 * D * model.ffn_size
    kernels += copies.get("low_rank", 0) * model.low_rank * (D + model.ffn_size)  # Of a pair, the first matrix.
    return both - kernels - (model.embed_size * D if model.projected else 0)


def _saved_kernel_bytes(model: Model, width: int) -> int:
    """Bytes of the feed-forward kernels that each layer's low-rank pairs have widened, for the backward pass."""
    kernels = model.stack_sizes.get("low_rank", 0) * 2 * model.hidden_size * model.ffn_size
    return kernels * {"none": width, "dots": 4, "full": 0}[model.remat]


def _saved_bytes_per_token(model: Model, length: int, width: int) -> int:
    """Bytes of one token that the backward pass needs over all layers, at `width` bytes a number.

    The multiples of D and F are those by which XLA's `memory_analysis` of this encoder grows a layer under a scan (jax
    0.10.2): nine states of D and the feed-forward layer before and after its activation; norms and activation are
    computed again. Attention that keeps its scores keeps H x `length` of them twice. `dots` keeps a layer's input and
    its six products, `full` the input; one whole layer comes on top while it is computed.
    """
    D, F, N = model.hidden_size, model.ffn_size, model.num_layers
    scores = model.num_heads * length
    masks = (2 * D if model.hidden_dropout else 0) + ((width + 1) * scores if model.attention_dropout else 0)
    layer = (9 * D + 2 * F) * width + (4 + width) * scores + masks
    if model.remat == "none":
        return (N + 1) * layer
    return N * (6 * D + F if model.remat == "dots" else D) * width + layer
