"""`bertlite evaluate`: scores a run on the validation split of a corpus, always with the same masking."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bertlite_jax.config import bounds, files
from bertlite_jax.config.int8 import Bits
from bertlite_jax.config.model import Model
from bertlite_jax.config.pair_tasks import PairTask, pair_classes
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import quantized
from bertlite_jax.data.corpus.folder import read_meta, unigram_counts
from bertlite_jax.data.rows import batches, source, stages
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model import int8_encoder
from bertlite_jax.model.heads import PretrainingModel, gather_rows
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.train import sharding
from bertlite_jax.train.pretraining import objective

Evaluate = Callable[[Any], dict[str, float]]
"""(parameters) -> figures by name, see `open_evaluation`."""


def open_evaluation(
    config: Pretrain,
    apply: objective.Apply,
    mesh: Mesh,
    tokenizer: Tokenizer | None = None,
) -> Evaluate:
    """Opens the validation split and returns the function that scores parameters on it.

    Args:
      config: `data` names the corpora and the pair task; `run.eval_rows` is the number of rows to read, 0 for all. The
        most frequent pieces of the corpora's training splits are the baseline.
      apply: the model's forward pass.
      mesh: devices that share the rows.
      tokenizer: that of `data.tokenizer`, if the caller has loaded it already.

    Returns:
      `evaluate(params)`, which returns `valid_mlm_loss`, `valid_mlm_accuracy`, `unigram_entropy`, `majority_accuracy`,
      `valid_predictions`, and with a pair task `valid_pair_loss`, `valid_pair_accuracy`, `pair_label_prior`,
      `valid_pairs`; with a head for replaced tokens `valid_replaced_loss`, `valid_replaced_accuracy`,
      `valid_replaced_share`. Losses and the entropy are in nats.
    """
    validation = source.open_source(config.data, "validation", objective.EVALUATION_SEED, tokenizer)
    counts = np.zeros(config.model.vocab_size, np.float32)  # In int32 a frequent piece of a large corpus would wrap.
    seen = unigram_counts(config.data.corpus, "train")
    counts[: len(seen)] = seen
    classes = pair_classes(config.data.pair_task)
    sums = objective.make_evaluation(apply, config.model, validation.special_ids, classes)
    sums_of = jax.jit(sums, out_shardings=sharding.replicated(mesh))
    batch_rows = evaluation_batch_rows(config, sharding.row_parts(mesh))

    def evaluate(params: Any) -> dict[str, float]:
        totals: dict[str, Any] = {}
        process = (jax.process_index(), jax.process_count())
        for batch in batches.evaluation_rows(validation, config.run.eval_rows, batch_rows, *process):
            batch_sums = jax.device_get(sums_of(params, counts, sharding.put_batch(batch, mesh)))
            for name, value in batch_sums.items():
                totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
        return figures(totals)

    return evaluate


def evaluation_batch_rows(config: Pretrain, devices: int) -> int:
    """Rows in an evaluation batch: those of a micro-batch, or all rows of the evaluation if they are fewer."""
    rows = config.data.batch_rows // config.optim.micro_batches
    if config.run.eval_rows:
        rows = min(rows, config.run.eval_rows)
    return max(1, rows // devices) * devices


def figures(totals: Mapping[str, Any]) -> dict[str, float]:
    """Turns sums over the evaluation rows into the figures that are reported."""
    weight = float(totals["mlm_weight"])
    if not weight:
        raise UserError("evaluate: the validation split has no token to predict; build the corpus from more text")
    means = {
        "valid_mlm_loss": totals["mlm_sum"] / weight,
        "valid_mlm_accuracy": totals["mlm_correct"] / weight,
        "unigram_entropy": totals["unigram_sum"] / weight,
        "majority_accuracy": totals["majority_correct"] / weight,
        "valid_predictions": weight,
    }
    if totals.get("pair_weight", 0.0) > 0:
        pairs = totals["pair_weight"]
        means |= {
            "valid_pair_loss": totals["pair_sum"] / pairs,
            "valid_pair_accuracy": totals["pair_correct"] / pairs,
            "pair_label_prior": totals["pair_labels"].max() / pairs,
            "valid_pairs": pairs,
        }
    if totals.get("replaced_weight", 0.0) > 0:
        tokens = totals["replaced_weight"]
        means |= {
            "valid_replaced_loss": totals["replaced_sum"] / tokens,
            "valid_replaced_accuracy": totals["replaced_correct"] / tokens,
            "valid_replaced_share": totals["replaced_changed"] / tokens,
        }
    return {name: float(value) for name, value in means.items()}


def _row_length(data: Data, max_positions: int) -> int:
    """Tokens in a row: as in training, or more if a corpus was built for longer rows."""
    built = {folder: read_meta(folder)["length"] for folder in data.corpus}
    for folder, length in built.items():
        if length > max_positions:
            raise UserError(
                f"evaluate: {folder} was built for rows of {length} tokens; the model has {max_positions} positions; "
                f"build it with --length {max_positions}"
            )
    return max(data.length, *built.values())


@dataclasses.dataclass(frozen=True)
class Trained:
    """A pretrained model, opened for evaluation and prediction."""

    config: Pretrain
    params: Any
    tokenizer: Tokenizer
    apply: Any


def open_run(run: str | os.PathLike[str], job: str = "evaluate") -> Trained:
    """Opens the newest good checkpoint of a work directory, with its config and tokenizer; `job` begins messages.

    Raises:
      UserError: `run` is no work directory of pretraining, or no checkpoint in it can be restored.
    """
    folder = pathlib.Path(run)
    config = files.read_json(folder / "config.json", job=job)
    # The run's own copy; the folder that it was trained with may be gone.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=str(folder / "tokenizer")))
    weights = sources.load(folder, job)
    tokenizer = weights.tokenizer or load_tokenizer(str(folder / "tokenizer"))
    compute = choose_precision.resolve(config.model.compute, jax.default_backend(), weights.trained_bits)
    # The run's own attention may not work here: cuDNN's needs a GPU.
    model = PretrainingModel(dataclasses.replace(config.model, attention="auto"), compute)
    return Trained(config, weights.params, tokenizer, model.apply)


def evaluate(
    run: str,
    corpus: tuple[str, ...] = (),
    pair_task: PairTask | None = None,
    rows: int = 0,
    bits: Bits | None = None,
) -> dict[str, float]:
    """Scores the newest checkpoint of a run.

    Args:
      run: its work directory.
      corpus: folders whose validation splits are read; empty: those of the run.
      pair_task: task that the run's pair head is scored on, whichever it was trained on; None: that of the run.
      rows: number of rows of the validation split; 0: all.
      bits: compute in integers, as the file does that `bertlite convert int8` writes with a scale for each token.

    Returns:
      The figures, see `open_evaluation`; in integers those of the masked language model alone.

    Raises:
      UserError: no such run or corpus, a pair task that the head does not fit, or a corpus for longer rows than the
        model has positions.
    """
    if bits and pair_task:
        raise UserError("evaluate: --bits and --pair-task cannot be combined: no file of integers has a pair head")
    if rows < 0:
        raise UserError(f"evaluate: rows = {rows} cannot be negative; 0 reads all rows")
    if rows > bounds.MOST_WHOLE:
        raise UserError(f"evaluate: rows = {rows} is too large; 0 reads all rows")
    trained = open_run(run)
    config = trained.config
    data = dataclasses.replace(config.data, corpus=corpus) if corpus else stages.of_length(config)
    data = dataclasses.replace(data, weights=(), pair_task=pair_task or data.pair_task)
    data = dataclasses.replace(data, length=_row_length(data, config.model.max_positions))
    classes = config.model.pair_classes
    if pair_task and pair_classes(pair_task) not in (0, classes):
        raise UserError(
            f"evaluate: {run} has a pair head with {classes} classes, which cannot be scored on {pair_task}"
        )
    config = dataclasses.replace(config, data=data, run=dataclasses.replace(config.run, eval_rows=rows))
    params, apply = trained.params, trained.apply
    if bits:
        container = quantized.quantize(sources.load(run, "evaluate"), bits=bits)
        config = dataclasses.replace(config, model=container.model)
        params, apply = quantized.jax_params(container), _in_integers(container.model)
    return open_evaluation(config, apply, sharding.make_mesh(1), trained.tokenizer)(params)


def _in_integers(model: Model) -> objective.Apply:
    """The forward pass of a container with this shape, called as `PretrainingModel.apply` is, without pair logits."""

    def apply(
        variables: Any, tokens: Any, segments: Any, positions: Any, types: Any, cls: Any, places: Any, keys: None
    ) -> tuple[jax.Array, None]:
        del cls, keys
        params = variables["params"]
        states = int8_encoder.hidden_states(params, model, tokens, segments, positions, types)
        return int8_encoder.masked_lm(params, model, gather_rows(states[-1], places)), None

    return apply
