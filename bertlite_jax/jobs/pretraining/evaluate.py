"""`bertlite evaluate`: scores a run on the validation split of a corpus, by the one fixed masking."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bertlite_jax.config import files
from bertlite_jax.config.pair_tasks import PairTask, pair_classes
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.data.corpus.folder import read_meta
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.train import sharding
from bertlite_jax.train.pretraining import objective

Evaluate = Callable[[Any], dict[str, float]]
"""Parameters in, `valid_*` figures out."""


def open_evaluation(
    config: Pretrain,
    apply: objective.Apply,
    mesh: Mesh,
    trained_on: source.Source,
    tokenizer: Tokenizer | None = None,
) -> Evaluate:
    """Opens the validation split and returns the function that scores parameters on it.

    Args:
      config: its `data` names the corpora and the pair task, `run.eval_rows` how many rows are read.
      apply: of the model.
      mesh: devices that share the rows.
      trained_on: the training split of the same corpora, whose frequent pieces are the baseline.
      tokenizer: that of `data.tokenizer` where the caller has loaded it.

    Returns:
      A function of the parameters. Its figures: `valid_mlm_loss`, `valid_mlm_accuracy`, `unigram_entropy`,
      `majority_accuracy`, and with a pair task `valid_pair_loss`, `valid_pair_accuracy`, `pair_label_prior`.
    """
    held_out = source.open_source(config.data, "validation", objective.EVALUATION_SEED, tokenizer)
    counts = np.zeros(config.model.vocab_size, np.float32)  # In int32 a frequent piece of a large corpus would wrap.
    seen = source.unigram_counts(trained_on)
    counts[: len(seen)] = seen
    classes = pair_classes(config.data.pair_task)
    sums = objective.make_evaluation(apply, config.model, held_out.special_ids, classes)
    sums_of = jax.jit(sums, out_shardings=sharding.replicated(mesh))
    rows = evaluation_batch_rows(config, sharding.row_parts(mesh))

    def evaluate(params: Any) -> dict[str, float]:
        totals: dict[str, Any] = {}
        here = (jax.process_index(), jax.process_count())
        for batch in batches.evaluation_rows(held_out, config.run.eval_rows, rows, *here):
            found = jax.device_get(sums_of(params, counts, sharding.put_batch(batch, mesh)))
            totals = {name: totals.get(name, 0.0) + np.asarray(value, np.float64) for name, value in found.items()}
        return figures(totals)

    return evaluate


def evaluation_batch_rows(config: Pretrain, devices: int) -> int:
    """Rows in an evaluation batch: a micro-batch's, or what the evaluation has if that is less."""
    wanted = config.data.batch_rows // config.optim.micro_batches
    if config.run.eval_rows:
        wanted = min(wanted, config.run.eval_rows)
    return max(1, wanted // devices) * devices


def figures(totals: Mapping[str, Any]) -> dict[str, float]:
    """Sums over the evaluation rows as the figures that are reported."""
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
    return {name: float(value) for name, value in means.items()}


def _row_length(data: Data, max_positions: int) -> int:
    """Tokens in a row: as trained, or more where a corpus was built for longer rows and the model has the positions."""
    built = {folder: read_meta(folder)["length"] for folder in data.corpus}
    for folder, length in built.items():
        if length > max_positions:
            raise UserError(
                f"evaluate: {folder} has windows for rows of {length} tokens and the model {max_positions} positions; "
                f"build it with --length {max_positions}"
            )
    return max(data.length, *built.values())


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that was trained, as evaluation, prediction and export need it."""

    config: Pretrain
    params: Any
    tokenizer: Tokenizer
    apply: Any


def open_run(run: str | os.PathLike[str]) -> Trained:
    """The newest good checkpoint of a work directory, its config and its tokenizer.

    Raises:
      UserError: not a work directory, or nothing in it can be restored.
    """
    folder = pathlib.Path(run)
    config = files.read_json(folder / "config.json")
    # The run's own copy; where it was trained from may be gone.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=str(folder / "tokenizer")))
    params = sources.load(folder).params
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    compute = choose_precision.resolve(config.model.compute, jax.default_backend())
    # What the run was trained with may not work here, as cuDNN's attention does not on a CPU.
    model = PretrainingModel(dataclasses.replace(config.model, attention="auto"), compute)
    return Trained(config, params, tokenizer, model.apply)


def evaluate(
    run: str,
    corpus: tuple[str, ...] = (),
    pair_task: PairTask | None = None,
    rows: int = 0,
) -> dict[str, float]:
    """Scores the newest checkpoint of a run.

    Args:
      run: its work directory.
      corpus: folders whose validation splits are read; empty: the run's own.
      pair_task: scored with the run's pair head, whatever it was trained on; None: the run's own.
      rows: how many rows of the validation split; 0: all.

    Returns:
      As of `open_evaluation`.
    """
    if rows < 0:
        raise UserError(f"evaluate: rows = {rows} cannot be negative; 0 reads all")
    trained = open_run(run)
    config = trained.config
    data = dataclasses.replace(
        config.data, corpus=corpus or config.data.corpus, weights=(), pair_task=pair_task or config.data.pair_task
    )
    data = dataclasses.replace(data, length=_row_length(data, config.model.max_positions))
    classes = config.model.pair_classes
    if pair_task and pair_classes(pair_task) not in (0, classes):
        raise UserError(f"evaluate: {run} has a pair head of {classes} classes; {pair_task} cannot be scored with it")
    config = dataclasses.replace(config, data=data, run=dataclasses.replace(config.run, eval_rows=rows))
    trained_on = source.open_source(config.data, "train", objective.EVALUATION_SEED)
    return open_evaluation(config, trained.apply, sharding.make_mesh(1), trained_on)(trained.params)
