"""The score of an ONNX file is that of the model in it, for each kind of task."""

import dataclasses
import pathlib
from typing import Any

import pytest
import thorough
import toy_task
from toy_task import MODEL, recipe, recipe_for, write_encoder, write_squad

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import save_onnx
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.jobs.compressing import agreement, compress, served_scores
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.examples import open_evaluation
from bertlite_jax.jobs.finetuning.prepare import prepare

pytestmark = pytest.mark.usefixtures("compiled_once")


def judge_both(config: Finetune, head: Head, tokenizer: str, folder: pathlib.Path) -> tuple[Any, dict[str, float]]:
    """What ONNX Runtime answers from a file, and the figures of a fine-tuning run's evaluation; of random weights."""
    source = write_encoder(folder / "model", tokenizer, dataclasses.replace(MODEL, init_std=0.3), head=head)
    config = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, keep_head=True))
    loaded = sources.load(source)
    setup = prepare(own_data.decided(config, str(folder / "run")), loaded, source)
    weights = compress._exported(loaded, setup)
    save_onnx(build_onnx(weights, float32(weights), "auto"), folder / "model.onnx")
    pad_id = setup.start.tokenizer.pad_id
    evaluate = open_evaluation(setup.task, setup.start.config, setup.model, setup.mesh, setup.shape.length, pad_id)
    judged = served_scores.judge(folder / "model.onnx", weights, setup)
    assert agreement.agreement(judged, judged, head) == (None if head.problem == "regression" else 1.0)
    return judged.figures, evaluate(setup.start.params, setup.valid)


@pytest.mark.parametrize("kind", thorough.but(["tag"], ["tag", "choose", "multi_label", "regression"]))
def test_a_file_has_the_score_of_its_model(kind: str, prepared, tmp_path: pathlib.Path):
    """Though its batches are padded and in another order."""
    file, head, _ = toy_task.own_data(tmp_path, kind)
    config = recipe(file, "", data={"kind": kind, "validation_fraction": 0.4})
    ours, theirs = judge_both(config, head, prepared.tokenizer, tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_file_that_answers_questions_has_the_score_of_its_model(prepared, tmp_path: pathlib.Path):
    """Of texts in several windows, some without an answer."""
    head = Head(kind="span", labels=(), no_answer=True)
    config = recipe_for(write_squad(tmp_path / "squad"), "independent")
    ours, theirs = judge_both(config, head, prepared.tokenizer, tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-4)
