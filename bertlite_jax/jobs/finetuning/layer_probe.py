"""`bertlite finetune --probe layers`: what each layer knows. A head is trained on the frozen states of each layer.

The encoder runs once over the examples. Its states are stored in the work directory until the probe is done, so that
memory holds one batch of them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption, sources
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.examples.batches import evaluation_batches
from bertlite_jax.data.examples.features import UNLABELLED
from bertlite_jax.data.rows import packing
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock, json_files, whole_files
from bertlite_jax.host.whole_files import new_file
from bertlite_jax.jobs.answering import embed, task_splits
from bertlite_jax.jobs.answering.outputs import predictions
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.prepare import prepare
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import arrays, one_job
from bertlite_jax.model import pooling
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.task_heads import TaskHead
from bertlite_jax.report.plots import Level
from bertlite_jax.report.tasks import task_plots
from bertlite_jax.train.tasks import layer_probe

RATE = 1e-3
"""Learning rate of the heads; decays linearly to 0."""
BATCH = 128
LEAST_STEPS, LEAST_EPOCHS = 600, 5
"""Training steps and epochs of the heads: whichever is more."""
CONFIG = "probe.json"


class States(NamedTuple):
    """The encoder's states for a split: one per item, which is a window or, for tags, a word.

    Letters: N layers, I items, D width, M examples, P items per example (1, or the number of choices), C outputs.
    """

    values: np.ndarray
    """[N + 1, I, D] float32, mapped from a file: the mean state of a window, or the state of a word's first piece."""
    items: np.ndarray
    """[M, P] int64: the items of each example, -1 for none; for tags [I, 1]."""
    labels: np.ndarray
    """[M] int32 or [M, C] float32; for tags [I] int32."""
    examples: np.ndarray
    """[I] int64: the example of each item."""


def probe_layers(config: Finetune, run: str, init: str, overwrite: bool = False) -> dict[str, Any]:
    """Trains a head on each layer of a frozen encoder.

    The head is the task's, without the pooler, with hidden layers as in `config.head`. It reads the mean of a text's
    states, since the [CLS] of a low layer has hardly attended to the text yet; for tags, the state of each word's first
    piece. The states of each layer are scaled to deviation 1.

    Args:
      config: the recipe; of `optim` and `run`, only `run.seed` and `run.devices` are used.
      run: the work directory: probe.json, summary.json, layers.svg, and the states until the probe is done.
      init: where the encoder comes from, as for `finetune`.
      overwrite: delete a probe that the directory holds, and start again.

    Returns:
      The content of `summary.json`: the task's metrics of the best layer, and those of each layer under `layers`.

    Raises:
      UserError: `finetune` refuses the recipe, the task asks for spans, or the directory holds something else.
    """
    check_finetune(config)
    sources.check_there(init, "finetune")
    config = own_data.decided(config, run, overwrite)
    folder = pathlib.Path(run)
    with adoption.open_weights(init, "finetune") as weights:
        setup = prepare(config, weights, init)
        if setup.start.config.head.kind == "span":
            raise UserError("finetune: --probe layers does not apply to tasks that ask for spans; probe another task")
        with one_job.alone_in(folder, of_runs=True):
            _open_folder(folder, setup, overwrite)
            if (folder / "summary.json").is_file():
                return json_files.read_object(folder / "summary.json", "finetune")
            train, valid = (states_of(folder, split, setup) for split in (setup.train, setup.valid))
            return _write(folder, setup, _summary(setup, _scores(setup, train, valid)))


def _write(folder: pathlib.Path, setup: Setup, summary: dict[str, Any]) -> dict[str, Any]:
    with new_file(folder / "layers.svg", overwrite=True, job="finetune") as unfinished:
        unfinished.write_bytes(picture(summary))
    whole_files.write_json(folder / "summary.json", summary)
    shutil.rmtree(folder / "states")
    return summary


def picture(summary: dict[str, Any]) -> bytes:
    """Plots the task's first metric over the layers, as SVG."""
    values = [row[summary["metric"]] for row in summary["layers"]]
    share = summary.get("majority_share") if summary["metric"] == "accuracy" else None
    levels = [Level("most frequent label", share)] if share is not None else []
    return task_plots.layers(values, f"{summary['task']}: {summary['metric'].replace('_', ' ')}", levels)


def _open_folder(folder: pathlib.Path, setup: Setup, overwrite: bool) -> None:
    """Makes the work directory, or checks that it holds this same probe."""
    config = files.to_json(setup.start.config)
    config_file = folder / CONFIG
    if any(entry.name != folder_lock.FILE for entry in folder.iterdir()):
        if not config_file.is_file():
            raise UserError(f"finetune: {folder} holds something other than a probe; name another --workdir")
        if overwrite:
            _clear(folder)
        elif config_file.read_bytes() != config.encode():
            raise UserError(f"finetune: {folder} holds another probe; pass --overwrite, or name another --workdir")
    (folder / "states").mkdir(parents=True, exist_ok=True)
    with new_file(config_file, overwrite=True, job="finetune") as unfinished:
        unfinished.write_text(config, encoding="utf-8")


def _clear(folder: pathlib.Path) -> None:
    """Deletes what a probe writes, its config last: until then the folder counts as a probe's."""
    for name in ("states", "layers.svg", "summary.json", "report.html", CONFIG):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


# --- States of the encoder -------------------------------------------------------------------------------------------


def states_of(folder: pathlib.Path, split: task_splits.Split, setup: Setup) -> States:
    """The states of a split: read from the work directory, or computed and written there first."""
    encoded, head = split.encoded, setup.start.config.head
    windows = np.diff(encoded.firsts)
    if head.kind == "tag":
        places = np.flatnonzero(encoded.words >= 0)
        examples = np.searchsorted(encoded.offsets, places, side="right") - 1
        items, labels = np.arange(len(places))[:, None], encoded.labels[places]
    else:
        examples = np.repeat(np.arange(len(windows)), windows)
        across = np.arange(windows.max())
        items = np.where(across < windows[:, None], encoded.firsts[:-1, None] + across, -1)
        labels = encoded.labels
    path, model = folder / "states" / f"{split.name}.npy", setup.start.config.model
    shape = (model.num_layers + 1, len(examples), model.hidden_size)
    if not path.is_file():
        with new_file(path, overwrite=True, job="finetune") as unfinished:
            file = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=shape)
            for items_of_batch, values in _compute(split, setup):
                file[:, items_of_batch] = values
            file.flush()
    return States(arrays.load(path, shape, mapped=True), items, labels, examples)


def _compute(split: task_splits.Split, setup: Setup) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields numbers [n] of items and their states [N + 1, n, D], batch by batch."""
    config, encoded = setup.start.config, split.encoded
    model = Encoder(config.model, setup.model.compute)
    padded = parameters.pad_vocabulary(setup.start.params, config.model)
    params = jax.device_put({name: part for name, part in padded.items() if name in embed.ENCODER})
    tagging = config.head.kind == "tag"

    @jax.jit
    def forward(params: Any, rows: dict[str, jax.Array]) -> jax.Array:
        inputs = (rows[name] for name in ("tokens", "segments", "positions", "token_types"))
        every: Any = model.apply({"params": params}, *inputs, method="hidden_states")
        states = jnp.stack(every)
        if tagging:
            return states.astype(jnp.float32)
        return jax.vmap(pooling.mean_of_windows, (0, None, None))(states, rows["segments"], rows["cls"].shape[1])

    pad = setup.start.tokenizer.pad_id
    first_words = np.cumsum(encoded.words >= 0) - (encoded.words >= 0) if tagging else encoded.words
    pack = config.data.pack
    for layout in evaluation_batches(encoded, setup.shape.length, pack, 1, config.head, pad, 2048):
        rows = {name: layout.batch[name] for name in ("tokens", "segments", "positions", "token_types", "cls")}
        states = np.asarray(jax.device_get(forward(params, rows)))
        places = np.argwhere(layout.windows >= 0)
        if not tagging:
            yield layout.windows[places[:, 0], places[:, 1]], states[:, places[:, 0], places[:, 1]]
            continue
        for row, column in places.tolist():
            begin, end = encoded.offsets[layout.windows[row, column] :][:2]
            words = np.flatnonzero(encoded.words[begin:end] >= 0)
            yield first_words[begin + words], states[:, row, layout.batch["cls"][row, column] + words]


# --- Heads -----------------------------------------------------------------------------------------------------------


def _scores(setup: Setup, train: States, valid: States) -> list[dict[str, float]]:
    """The task's metrics on the validation split, layer by layer."""
    config, head = setup.start.config, setup.start.config.head
    module = TaskHead(config.model, head)

    def apply(params: Any, states: jax.Array, keys: jax.Array | None) -> Any:
        return module.apply({"params": params}, states, keys)

    def init(key: jax.Array) -> Any:
        return module.init(key, jnp.zeros((1, 1, config.model.hidden_size)), None)["params"]

    scale, count = scale_of(train), len(train.items)
    batch = min(BATCH, count)
    epochs = max(LEAST_EPOCHS, -(-LEAST_STEPS * batch // count))
    orders = (packing.generator(config.run.seed, epoch).permutation(count) for epoch in range(epochs))
    steps = epochs * (count // batch)
    chosen = (order[first : first + batch] for order in orders for first in range(0, count - batch + 1, batch))
    batches = (batch_of(train, numbers, head) for numbers in chosen)
    rate = optax.linear_schedule(RATE, 0.0, steps)
    layers = config.model.num_layers + 1
    params = layer_probe.fit(init, apply, head, layers, batches, scale, rate, config.run.seed)
    answers = layer_probe.make_answers(apply, scale)
    logits = np.concatenate(
        [np.asarray(answers(params, jnp.asarray(states))) for states in _evaluation_batches(valid)], axis=1
    )
    return [_score(setup, valid, of_layer) for of_layer in logits[:, : len(valid.items)]]


def scale_of(states: States) -> layer_probe.Scale:
    """Mean and deviation over the items, layer by layer, so that at most one layer is in memory."""
    means = np.stack([layer.mean(0, dtype=np.float64) for layer in states.values])
    deviations = np.stack([layer.std(0, dtype=np.float64) for layer in states.values])
    shaped = (value.astype(np.float32)[:, None, None] for value in (means, deviations + 1e-6))
    return layer_probe.Scale(*shaped)


def batch_of(states: States, numbers: np.ndarray, head: Head) -> layer_probe.Batch:
    """A training batch of examples, or of words for tags, by their numbers."""
    items, labels = states.items[numbers], states.labels[numbers]
    batch = {"states": _gather(states.values, items)}
    if head.kind == "choose":
        right = (np.arange(items.shape[1]) == labels[:, None]).astype(np.int32)
        return batch | {"choices": (items >= 0).astype(np.int32), "labels": right, "weights": right.astype(np.float32)}
    if labels.dtype == np.float32:
        return batch | {"labels": labels[:, None], "weights": np.ones((len(numbers), 1), np.float32)}
    known = labels != UNLABELLED
    return batch | {"labels": np.where(known, labels, 0)[:, None], "weights": known.astype(np.float32)[:, None]}


def _gather(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The states of items [B, P]: [N + 1, B, P, D], 0 where the item is -1."""
    flat = np.maximum(items, 0).ravel()
    states = np.stack([layer[flat] for layer in values]).reshape(len(values), *items.shape, -1)
    return states * (items >= 0)[..., None]


def _evaluation_batches(states: States) -> Iterator[np.ndarray]:
    """The states of all examples in batches of one shape; the last is filled up with the first example."""
    for first in range(0, len(states.items), 4 * BATCH):
        numbers = np.arange(first, first + 4 * BATCH)
        yield _gather(states.values, states.items[np.where(numbers < len(states.items), numbers, 0)])


def _score(setup: Setup, valid: States, logits: np.ndarray) -> dict[str, float]:
    """The metrics of one layer, from logits [M, P, C], for tags [I, 1, C]."""
    head, examples = setup.start.config.head, setup.valid.examples
    if head.kind == "tag":
        ends = np.searchsorted(valid.examples, np.arange(1, len(examples)))
        outputs = np.split(logits[:, 0], ends)
    elif head.kind == "choose":
        outputs = [choices[items >= 0, 0] for choices, items in zip(logits, valid.items, strict=True)]
    else:
        outputs = list(logits[:, 0])
    return task_metrics.score(setup.task, examples, predictions(head, outputs, examples))


def _summary(setup: Setup, scores: list[dict[str, float]]) -> dict[str, Any]:
    metric = setup.task.metrics[0]
    best = int(np.argmax([row[metric] for row in scores]))
    return {
        "task": setup.task.name,
        "metric": metric,
        "probe": "layers",
        "best_layer": best,
        **scores[best],
        "layers": [{"layer": layer, **row} for layer, row in enumerate(scores)],
        **setup.notes,
        "seed": setup.start.config.run.seed,
        "init": setup.start.config.init,
        "compute": setup.model.compute,
        "head": dataclasses.asdict(setup.start.config.head),
    }
