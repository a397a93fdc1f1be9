"""One run that changes depth, row length, batch, mask rate and learning rate on its way."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from run_files import lines_of, losses_of

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.schedule import stages
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining import pretrain, step
from bertlite_jax.jobs.pretraining.evaluate import evaluate
from bertlite_jax.report.cost import flops

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def config(prepared, shorter) -> Pretrain:
    """Six batches of 16 rows and then of 8, seven of them with rows of 32, two with one layer."""
    return tiny.scheduled(
        tiny.pretrain(prepared, log_every=1, eval_every=0),
        shorter,
        depths=((1, 2),),
        batches=((16, 6),),
        lengths=((32, 7),),
    )


@pytest.mark.thorough
def test_one_device_and_eight_learn_the_same_in_programs_that_are_compiled_once(config, tmp_path, monkeypatch, capsys):
    """1e-5, over four stages; FLOPs by formula; the learning rate is scaled for data.batch_rows throughout."""
    compiled = []
    monkeypatch.setattr(step, "compile_beside", _noting(step.compile_beside, compiled))
    pretrain.pretrain(config, str(tmp_path / "one"))
    said = capsys.readouterr().out
    assert len(compiled) == len(set(compiled)) == 4
    on_eight = dataclasses.replace(config, run=dataclasses.replace(config.run, devices=8))
    pretrain.pretrain(on_eight, str(tmp_path / "eight"))
    wanted = losses_of(tmp_path / "one")
    assert sorted(wanted) == list(range(1, 13))
    np.testing.assert_allclose(list(losses_of(tmp_path / "eight").values()), list(wanted.values()), atol=1e-5)

    made = np.diff([line["total_flops"] for line in lines_of(tmp_path / "one") if "total_flops" in line], prepend=0)
    of_stages = [flops.train_flops_per_step(stage.config) for stage in stages(config)]
    assert made.tolist() == [of_stages[0]] * 2 + [of_stages[1]] * 4 + [of_stages[2]] + [of_stages[3]] * 5

    rates = {line["step"]: line["learning_rate"] for line in lines_of(tmp_path / "one") if "learning_rate" in line}
    assert rates[4] == pytest.approx(config.optim.learning_rate * (8 / 16) ** 0.5), "the peak, behind the warm-up"

    table = [line.split() for line in said.splitlines() if " to " in line and "epoch" not in line]
    assert [line[1:7] for line in table] == [
        ["1", "to", "2", "1", "32", "16"],
        ["3", "to", "6", "2", "32", "16"],
        ["7", "to", "7", "2", "32", "8"],
        ["8", "to", "12", "2", "64", "8"],
    ]
    assert all("steps of 16 rows of 32 tokens" in " ".join(line) for line in table[:2])

    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    again = evaluate(str(tmp_path / "one"), rows=config.run.eval_rows)
    assert again["valid_mlm_loss"] == pytest.approx(summary["valid_mlm_loss"], abs=1e-5)
    assert again["valid_predictions"] == summary["valid_predictions"], "rows of the last length alone"


def _noting(compile_beside, compiled: list):
    def noting(stage, mesh):
        compiled.append(stage.config)
        return compile_beside(stage, mesh)

    return noting


def test_a_length_without_a_corpus_is_refused_before_anything_is_written(prepared, tmp_path):
    config = tiny.pretrain(prepared, lengths=((32, 4),))
    with pytest.raises(UserError, match=r"needs a corpus for rows of 32 tokens.*`bertlite corpus --length 32`"):
        pretrain.pretrain(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
