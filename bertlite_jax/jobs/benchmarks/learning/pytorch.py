"""The peer of `bertlite bench learn`: transformers in PyTorch pretrains on our windows, in the usual way.

That is `AutoModelForPreTraining` as transformers draws it, one window a row, `DataCollatorForLanguageModeling`, which
pads a batch to its longest row and masks 15 % of the single tokens, AdamW with linear warm-up and decay, gradients
clipped to a norm of 1, and autocast where the CPU has bfloat16. Nothing of it is ours but the windows and their pairs.

It runs in a process of its own, so that threads and memory of the two libraries do not mix.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data
from bertlite_jax.convert.huggingface.config import choose_family
from bertlite_jax.data.rows import batches, source
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.benchmarks.train_peer import label_of_pairs, transformers_config

WARMUP, DECAY, CLIP_NORM, MASKED = 0.1, 0.01, 1.0, 0.15
"""Share of the time in which the rate rises; weight decay; largest norm of the gradient; share of masked tokens."""
TIMES = "times.json"
_NO_PAIR = -100


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that the peer's process needs. It is pickled, so it holds settings only."""

    model: Model
    """Its shape, as `published` makes it: what is ours alone in a recipe may change without PyTorch training again."""
    data: Data
    """Corpora, length, pair task and `batch_rows`, the windows of a step. Windows are not packed."""
    tokenizer: str
    """Folder of transformers with the corpora's tokenizer."""
    rate: float
    """Peak learning rate."""
    seconds: float
    """Time to train: forward and backward passes, updates and the collator; not reading, not writing."""
    snapshots: int
    """How many times the weights are written, at equal distances; the last time at the end. Fewer if steps are long."""
    bfloat16: bool
    """Whether products are computed under autocast."""
    threads: int
    seed: int
    out: str
    """Folder that gets a folder of transformers for each snapshot, `1`, `2`, .., and `times.json` at the end."""


def published(model: Model) -> Model:
    """The shape without what no class of transformers trains, and with the published initialisation, which is theirs.

    Their weights are scored with it too: a residual factor, say, would be applied to branches that never had one.
    """
    plain = Model()
    ours = ("vocab_multiple", "residual_scale", "own_norms", "depth_vector", "low_rank", "own_first", "own_last")
    return dataclasses.replace(
        model, init_std=0.02, position_init="normal", **{name: getattr(plain, name) for name in ours}
    )


def share_of_rate(done: float) -> float:
    """Of the peak rate, once a share of the time is over: linear warm-up, then linear decay to 0."""
    return min(done / WARMUP, (1.0 - done) / (1.0 - WARMUP))


def train(task: Task) -> dict[str, Any]:
    """Trains for as long as the task says; writes snapshots and `times.json`.

    Returns:
      The content of `times.json`: {"seconds": of each snapshot, "steps": of each, "tokens": real tokens seen}.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _train(task)


def _train(task: Task) -> dict[str, Any]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(task.threads)
    transformers.set_seed(task.seed)
    shape = transformers_config(task.model)
    network: Any = transformers.AutoModelForPreTraining.from_config(shape, attn_implementation="sdpa").train()
    update = _make_update(network)
    collate = transformers.DataCollatorForLanguageModeling(
        transformers.AutoTokenizer.from_pretrained(task.tokenizer), mlm_probability=MASKED
    )
    seconds, tokens, times = 0.0, 0, {"seconds": [], "steps": []}
    due = task.seconds / task.snapshots
    for step, examples in enumerate(_examples(task), 1):
        before = time.perf_counter()
        tensors = collate(examples)
        with torch.autocast("cpu", torch.bfloat16, enabled=task.bfloat16):
            loss = network(**tensors).loss
        loss.backward()
        update(task.rate * share_of_rate(min(1.0, seconds / task.seconds)))
        seconds += time.perf_counter() - before
        tokens += sum(len(example["input_ids"]) for example in examples)
        if seconds >= due:
            due = task.seconds * (math.floor(task.snapshots * seconds / task.seconds) + 1) / task.snapshots
            times["seconds"].append(seconds)
            times["steps"].append(step)
            network.save_pretrained(pathlib.Path(task.out) / str(len(times["steps"])))
        if seconds >= task.seconds:
            break
    times |= {"tokens": tokens}
    whole_files.write_json(pathlib.Path(task.out) / TIMES, times)
    return times


def _make_update(network: Any) -> Any:
    """Returns `update(rate)`: clips the gradients, makes AdamW's step without decay on biases and norms, clears them.

    Source: huggingface/transformers:trainer.py (`get_decay_parameter_names`).
    """
    import torch

    named = list(network.named_parameters())
    exempt = [p for name, p in named if name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name]
    others = [p for _, p in named if all(p is not each for each in exempt)]
    groups = [{"params": others, "weight_decay": DECAY}, {"params": exempt, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)

    def update(rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def _examples(task: Task) -> Iterator[list[dict[str, Any]]]:
    """The windows of each step as a dataset of transformers would give them: lists without padding."""
    data = dataclasses.replace(task.data, pack=False, buckets=())
    opened = source.open_source(data, "train", task.seed)
    label = label_of_pairs(task.model)
    has_pairs = task.data.pair_task != "none" and choose_family(task.model) in ("albert", "bert")
    for step in itertools.count(1):
        batch = batches.batch_at(opened, step, data.batch_rows)
        yield [_example(batch, row, label if has_pairs else "") for row in range(data.batch_rows)]


def _example(batch: dict[str, np.ndarray], row: int, label: str) -> dict[str, Any]:
    size = int((batch["segments"][row] > 0).sum())
    example = {
        "input_ids": batch["tokens"][row, :size].tolist(),
        "token_type_ids": batch["token_types"][row, :size].tolist(),
    }
    if label:
        example[label] = int(batch["pair_labels"][row, 0]) if batch["pair_weights"][row, 0] else _NO_PAIR
    return example
