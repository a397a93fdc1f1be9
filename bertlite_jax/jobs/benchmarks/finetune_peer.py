"""The other side of `bertlite bench finetune`: transformers in PyTorch learns a task from our weights and our tokens.

It runs in a process of its own, as `inference_peer` starts it: a call makes an update or answers examples. It trains as
the stock Trainer does: batches padded to their longest example, AdamW (fused) without weight decay on biases and
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
from bertlite_jax.jobs.benchmarks.runtime_process import Answer, Batch

INSTALL = 'pip install torch transformers  (or: pip install "bertlite_jax[torch]")'
Precision = Literal["float32", "bfloat16"]

LEARN, ANSWER = "learn", "answer"
"""Keys of what the process is asked: numbers of examples, of the training or of the validation split."""


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Everything that the peer's process needs.

    Attributes:
      folder: a folder of transformers with a sequence classifier, where the training starts.
      train, valid: the two splits as token ids.
      optim: peak, warm-up, moments, decay and clipping; `warmup_steps` as they are carried out.
      steps: updates of the whole run, where the rate ends.
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
    """Raises UserError, with the command to install it, where PyTorch or transformers is missing."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"bench: finetune needs {name} for the other side; {INSTALL}")


def check_recipe(config: Finetune, head: Head) -> None:
    """Raises UserError for a setting that PyTorch's side does not have, so that the two would not be alike."""
    optim, adapt = config.optim, config.adapt
    wanted = {
        "optim.name = adamw": optim.name == "adamw",
        "optim.bias_correction = True": optim.bias_correction,
        "optim.schedule = linear": optim.schedule == "linear",
        "optim.end_fraction = 0": optim.end_fraction == 0,
        "adapt.layer_decay = 1": adapt.layer_decay == 1,
        "adapt.freeze_layers = 0": adapt.freeze_layers == 0,
        "head.hidden = ()": not config.head.hidden,
        "run.patience = 0": config.run.patience == 0,
        "run.average = none": config.run.average == "none",
        "every learn.* as it is by default": config.learn == Learn(),
    }
    if unmet := [setting for setting, met in wanted.items() if not met]:
        raise UserError(f"bench: finetune compares with transformers' stock training, which wants {unmet[0]}")
    if head.kind != "classify":
        raise UserError(f"bench: finetune compares tasks that classify texts or pairs, not those that {head.kind}")


# --- Batches -----------------------------------------------------------------------------------------------------


def dealt_batches(encoded: Encoded, batch_examples: int, seed: int, steps: int) -> list[np.ndarray]:
    """The examples of each update of our own run, [K] int64 each: the same ones in the same order."""
    made: list[np.ndarray] = []
    epoch = 0
    while len(made) < steps:
        dealt = deal(encoded.sizes, batch_examples, seed, epoch)
        made += [batch[batch >= 0] for batch in dealt]
        epoch += 1
    return made[:steps]


def shuffled_batches(encoded: Encoded, batch_examples: int, seed: int) -> list[np.ndarray]:
    """An epoch as the stock Trainer draws it. For times: ours deal long examples evenly, which padding pays for."""
    order = packing.generator(seed, 0, 3).permutation(len(encoded.sizes))
    return [order[first : first + batch_examples] for first in range(0, len(order), batch_examples)]


def padded(encoded: Encoded, numbers: np.ndarray, pad_id: int) -> Batch:
    """Examples as rows that are padded to the longest of them, as DataCollatorWithPadding makes them.

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
    """Of the slots of padded batches, the share that holds tokens."""
    sizes = [encoded.sizes[batch] for batch in batches]
    return sum(int(each.sum()) for each in sizes) / sum(int(each.max()) * len(each) for each in sizes)


# --- In the peer's process -----------------------------------------------------------------------------------------


def load(lesson: Lesson, threads: int) -> Answer:
    """What `runtime_process.start` loads.

    Returns:
      `answer(request)`: {LEARN: [K] numbers} makes one update and gives its loss, [1]; {ANSWER: [K] numbers} gives the
      logits of validation examples, [K, C] float32, without dropout.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.manual_seed(lesson.seed)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(lesson.folder)
    forward = _forward(network, lesson.precision)
    update = _updates(network, lesson.optim, lesson.steps)

    def learn(numbers: np.ndarray) -> np.ndarray:
        network.train()
        loss = forward(padded(lesson.train, numbers, lesson.pad_id), True).loss
        loss.backward()
        update()
        return np.array([loss.item()], np.float32)

    def answer(numbers: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            return forward(padded(lesson.valid, numbers, lesson.pad_id), False).logits.float().numpy()

    return lambda request: learn(request[LEARN]) if LEARN in request else answer(request[ANSWER])


def _forward(network: Any, precision: Precision) -> Callable[[Batch, bool], Any]:
    """`forward(batch, with_labels)`: the class's output, under autocast where the precision says so."""
    import inspect

    import torch

    known = set(inspect.signature(network.forward).parameters)

    def forward(batch: Batch, with_labels: bool) -> Any:
        names = known if with_labels else known - {"labels"}
        tensors = {name: torch.from_numpy(value) for name, value in batch.items() if name in names}
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return network(**tensors)

    return forward


def _updates(network: Any, optim: Optim, steps: int) -> Callable[[], None]:
    """`update()`: clips, steps AdamW and its schedule, forgets the gradients.

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
