"""The peer of `bertlite bench finetune`: transformers in PyTorch trains a task from our weights and our tokens.

It runs in a process of its own (`runtimes/process.py`); a request makes a training step or answers examples. It trains
as the stock Trainer does: batches padded to their longest example, AdamW (fused) without weight decay on biases and
LayerNorm, linear warm-up and decay, gradients clipped to a global norm, the library's own attention and dropout.

Letters: M examples, K examples of a batch, L tokens of its longest one, C outputs.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.data.examples.batches import deal
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.data.rows import packing
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks.runtimes.process import Answer, Batch

INSTALL = 'pip install torch transformers  (or: pip install "bertlite_jax[torch]")'
Precision = Literal["float32", "bfloat16"]

TRAIN, ANSWER = "train", "answer"
"""Keys of a request, whose value is an array of example numbers in the training or the validation split."""


@dataclasses.dataclass(frozen=True)
class PeerTask:
    """Everything that the peer's process needs. It is pickled, so it holds arrays and settings only.

    Attributes:
      folder: folder of transformers with a sequence classifier, from which training starts.
      train: training split as token ids.
      valid: validation split as token ids.
      optim: peak rate, warm-up, moments, decay and clipping; `warmup_steps` is the number that is used.
      steps: training steps of the whole run, at which the rate reaches 0.
      seed: of the dropout.
      pad_id: of the tokenizer.
      precision: of the products; bfloat16 is autocast, with weights and moments in float32.
    """

    folder: str
    train: Encoded
    valid: Encoded
    optim: Optim
    steps: int
    seed: int
    pad_id: int
    precision: Precision


# --- What can be compared ----------------------------------------------------------------------------------------


def check_installed() -> None:
    """Raises UserError, with the command to install it, if PyTorch or transformers is missing."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"bench: finetune needs {name} for the peer; {INSTALL}")


def check_recipe(config: Finetune, head: Head) -> None:
    """Raises UserError for a setting that the peer does not have, so the two sides would train differently."""
    optim, adapt = config.optim, config.adapt
    requirements = {
        "optim.name = adamw": optim.name == "adamw",
        "optim.bias_correction = True": optim.bias_correction,
        "optim.schedule = linear": optim.schedule == "linear",
        "optim.end_fraction = 0": optim.end_fraction == 0,
        "optim.update_clip = 0": optim.update_clip == 0,
        "adapt.layer_decay = 1": adapt.layer_decay == 1,
        "adapt.freeze_layers = 0": adapt.freeze_layers == 0,
        "head.hidden = ()": not config.head.hidden,
        "run.patience = 0": config.run.patience == 0,
        "run.average = none": config.run.average == "none",
        "every learn.* at its default": config.learn == Learn(),
    }
    if unmet := [setting for setting, met in requirements.items() if not met]:
        raise UserError(f"bench: finetune compares with transformers' stock training, which needs {unmet[0]}")
    if head.kind != "classify":
        raise UserError(f"bench: finetune compares tasks that classify texts or pairs; this one has a {head.kind} head")


# --- Batches -----------------------------------------------------------------------------------------------------


def dealt_batches(encoded: Encoded, batch_examples: int, seed: int, steps: int) -> list[np.ndarray]:
    """The examples of each step of our own run, in order: [K] int64 each."""
    batches: list[np.ndarray] = []
    epoch = 0
    while len(batches) < steps:
        epoch_batches = deal(encoded.sizes, batch_examples, seed, epoch)
        batches += [batch[batch >= 0] for batch in epoch_batches]
        epoch += 1
    return batches[:steps]


def shuffled_batches(encoded: Encoded, batch_examples: int, seed: int) -> list[np.ndarray]:
    """The batches of an epoch as the stock Trainer draws them, for speed.

    Ours deal long examples evenly over the batches, which would cost the peer padding.
    """
    order = packing.generator(seed, 0, 3).permutation(len(encoded.sizes))
    return [order[first : first + batch_examples] for first in range(0, len(order), batch_examples)]


def padded(encoded: Encoded, numbers: np.ndarray, pad_id: int) -> Batch:
    """A batch of examples, padded to the longest of them, as DataCollatorWithPadding makes it.

    Returns:
      input_ids, attention_mask, token_type_ids: [K, L] int64; labels: [K] int64, or [K, C] float32.
    """
    sizes = encoded.sizes[numbers]
    batch = {
        name: np.full((len(numbers), int(sizes.max())), filler, np.int64)
        for name, filler in (("input_ids", pad_id), ("attention_mask", 0), ("token_type_ids", 0))
    }
    for row, (number, size) in enumerate(zip(numbers.tolist(), sizes.tolist(), strict=True)):
        start = int(encoded.offsets[encoded.firsts[number]])
        batch["input_ids"][row, :size] = encoded.tokens[start : start + size]
        batch["token_type_ids"][row, :size] = encoded.types[start : start + size]
        batch["attention_mask"][row, :size] = 1
    labels = encoded.labels[numbers]
    return batch | {"labels": labels if labels.dtype == np.float32 else labels.astype(np.int64)}


def filled(encoded: Encoded, batches: list[np.ndarray]) -> float:
    """Share of the slots of padded batches that hold a token."""
    sizes = [encoded.sizes[batch] for batch in batches]
    return sum(int(of_batch.sum()) for of_batch in sizes) / sum(
        int(of_batch.max()) * len(of_batch) for of_batch in sizes
    )


# --- In the peer's process -----------------------------------------------------------------------------------------


def load(peer_task: PeerTask, threads: int) -> Answer:
    """Loads the peer, as `process.start` calls it.

    Returns:
      `answer(request)`: {TRAIN: [K] numbers} makes one step and returns its loss, [1]; {ANSWER: [K] numbers} returns
      the logits of validation examples, [K, C] float32, without dropout.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.manual_seed(peer_task.seed)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(peer_task.folder)
    forward = _forward(network, peer_task.precision)
    update = _make_update(network, peer_task.optim, peer_task.steps)

    def train(numbers: np.ndarray) -> np.ndarray:
        network.train()
        loss = forward(padded(peer_task.train, numbers, peer_task.pad_id), True).loss
        loss.backward()
        update()
        return np.array([loss.item()], np.float32)

    def answer(numbers: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            return forward(padded(peer_task.valid, numbers, peer_task.pad_id), False).logits.float().numpy()

    return lambda request: train(request[TRAIN]) if TRAIN in request else answer(request[ANSWER])


def _forward(network: Any, precision: Precision) -> Callable[[Batch, bool], Any]:
    """Returns `forward(batch, with_labels)`, which runs the class, under autocast for bfloat16."""
    import inspect

    import torch

    known = set(inspect.signature(network.forward).parameters)

    def forward(batch: Batch, with_labels: bool) -> Any:
        names = known if with_labels else known - {"labels"}
        tensors = {name: torch.from_numpy(value) for name, value in batch.items() if name in names}
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return network(**tensors)

    return forward


def _make_update(network: Any, optim: Optim, steps: int) -> Callable[[], None]:
    """Returns `update()`, which clips the gradients, steps AdamW and its schedule, and clears the gradients.

    Source: huggingface/transformers:trainer.py (`get_decay_parameter_names`, `create_scheduler`).
    """
    import torch
    import transformers

    exempt = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, torch.nn.LayerNorm) or name == "bias"
    }
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if id(p) not in exempt], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if id(p) in exempt], "weight_decay": 0.0},
    ]
    moments = {"betas": (optim.beta1, optim.beta2), "eps": optim.epsilon}
    optimizer = torch.optim.AdamW(groups, lr=optim.learning_rate, fused=True, **moments)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, optim.warmup_steps, steps)

    def update() -> None:
        if optim.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)

    return update
