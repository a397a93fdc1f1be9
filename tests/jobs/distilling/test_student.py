"""What becomes of a run and its student: killed and started again, exported, a teacher itself."""

import dataclasses
import pathlib
import signal

import jax
import numpy as np
import pytest
import tiny
from run_files import losses_of, start_with, wait_for

from bertlite_jax.config.distillation.settings import Distill, Distillation
from bertlite_jax.config.files import read_json
from bertlite_jax.config.pretrain import Data, Optim, Run
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.pretraining.fill_mask import fill_mask
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.observed import Request, observe
from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.usefixtures("compiled_once")
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden/0.1.0"
IDS = np.random.default_rng(3).integers(5, tiny.VOCAB_SIZE, (2, 12)).astype(np.int32)


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_bits(prepared, teacher, compiled, tmp_path):
    """Kill -9 while a checkpoint is written, and at some step: losses and weights of a run that was left alone."""
    config = tiny.distil(prepared, teacher, states_weight=1.0, relations_weight=1.0)
    run = dataclasses.replace(config.run, steps=40, checkpoint_every=3, eval_every=0, log_every=1)
    start = start_with(dataclasses.replace(config, run=run), compiled)
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    output, _ = start(whole).communicate(timeout=300)
    assert losses_of(whole), output
    for moment in (
        lambda: any((killed / "checkpoints").glob("*.orbax-checkpoint-tmp")),
        lambda: max(losses_of(killed), default=0) >= 20,
    ):
        process = start(killed)
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    output, _ = start(killed).communicate(timeout=300)
    assert "distill: resuming from step" in output
    assert losses_of(killed) == losses_of(whole)
    assert len(losses_of(whole)) == 40
    ours, wanted = (checkpoint.restore_params(run / "checkpoints")[0] for run in (killed, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)


def logits_of(run: pathlib.Path) -> np.ndarray:
    """At every token of `IDS`."""
    loaded = sources.load(run)
    rows = {"inputs": IDS, "segments": np.ones_like(IDS), "token_types": np.zeros_like(IDS)}
    rows["positions"] = np.broadcast_to(np.arange(12, dtype=np.int32), IDS.shape)
    seen = observe(PretrainingModel(loaded.model), Request(all_logits=True), loaded.params, jax.device_put(rows), None)
    return np.asarray(seen["all_logits"])


@pytest.mark.thorough
def test_a_student_is_a_distilbert_of_transformers(distilled, tmp_path):
    """It loads without a missing or unknown tensor, and gives the same logits."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    assert to_hf(sources.load(distilled), tmp_path / "hf") == "distilbert"
    model, report = transformers.DistilBertForMaskedLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        theirs = model.eval()(torch.tensor(IDS.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(logits_of(distilled), theirs, atol=1e-4)


@pytest.mark.thorough
def test_a_run_and_its_folder_of_transformers_teach_the_same(tmp_path):
    """A run of release 0.1.0, with a WordPiece vocabulary; the folder's is recognised as that of the corpus."""
    to_hf(sources.load(GOLDEN / "pretrained"), tmp_path / "hf")
    model = dataclasses.replace(read_json(GOLDEN / "pretrained/config.json").model, pooler=False, pair_classes=0)
    data = Data(
        corpus=(str(GOLDEN / "corpus"),), tokenizer=str(GOLDEN / "tokenizer"), length=64, batch_rows=4, pair_task="none"
    )
    run = Run(steps=1, eval_every=0, eval_rows=4, log_every=1, devices=1, tensorboard=False)
    for source in (GOLDEN / "pretrained", tmp_path / "hf"):
        given = Distillation(teachers=(str(source),), start="groups", relations_weight=1.0)
        config = Distill(model=model, data=data, optim=Optim(warmup_steps=0), run=run, distill=given)
        distill(config, str(tmp_path / f"of_{source.name}"))
    runs = [losses_of(tmp_path / name) for name in ("of_pretrained", "of_hf")]
    assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-5)


def test_an_exported_sentencepiece_vocabulary_is_another_one(distilled, prepared, tmp_path):
    """The export writes our rule about commas behind digits into the scores of the pieces, so the hash differs."""
    to_hf(sources.load(distilled), tmp_path / "hf")
    with pytest.raises(UserError, match=r"hf has another tokenizer than "):
        distill(tiny.distil(prepared, str(tmp_path / "hf")), str(tmp_path / "run"))


def test_a_student_answers(distilled):
    ((first, *_),) = fill_mask(str(distilled), "alice was [MASK] .", top=3)
    assert 0 < first[1] <= 1
