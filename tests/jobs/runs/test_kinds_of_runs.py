"""A run of the other kind is named as what it is, with the command that reads it."""

import dataclasses
import pathlib

import pytest

from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.files import kind_of_run, read_json, to_json
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.evaluate import evaluate
from bertlite_jax.jobs.pretraining.fill_mask import fill_mask
from bertlite_jax.jobs.runs import workdir

KINDS = {"pretraining": Pretrain(), "distillation": Distill(), "fine-tuning": Finetuned()}


@pytest.fixture(params=KINDS)
def run(request, tmp_path) -> tuple[str, pathlib.Path]:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(KINDS[request.param]), encoding="utf-8")
    return request.param, tmp_path / "run"


def said(call, *args) -> str:
    with pytest.raises(UserError) as raised:
        call(*args)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_tells_its_kind(kind):
    assert kind_of_run(dataclasses.asdict(KINDS[kind])) == kind
    assert kind_of_run({"data": {}, "run": {}}) == ""


def test_jobs_of_pretraining_name_predict_where_they_are_given_a_fine_tuned_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(to_json(Finetuned()), encoding="utf-8")
    right = f"{run} is a fine-tuned run, and one of pretraining is needed; bertlite predict {run} --input FILE answers"
    assert said(evaluate, str(run)).startswith(f"evaluate: {right}")
    assert said(fill_mask, str(run), "a [MASK]").startswith(f"fill-mask: {right}")


def test_what_needs_a_fine_tuned_run_names_finetune(tmp_path):
    (tmp_path / "config.json").write_text(to_json(Pretrain()), encoding="utf-8")
    line = said(read_json, tmp_path / "config.json", Finetuned)
    assert "is a run of pretraining" in line
    assert f"finetune RECIPE --init {tmp_path}" in line


def test_what_looks_into_a_run_of_pretraining_looks_into_one_of_distillation(tmp_path):
    """Its config comes back whole."""
    (tmp_path / "config.json").write_text(to_json(Distill()), encoding="utf-8")
    assert read_json(tmp_path / "config.json") == Distill()


def test_a_work_directory_with_a_run_of_the_other_kind_is_left_alone(run):
    kind, folder = run
    other = next(name for name in KINDS if name != kind)
    before = (folder / "config.json").read_bytes()
    line = said(workdir.open_workdir, folder, KINDS[other], False, {}, pytest.fail)
    assert line == (
        f"workdir: {folder} holds a {kind} run, and this is one of {other}; name another --workdir, or pass "
        "--overwrite to delete that run"
    )
    assert (folder / "config.json").read_bytes() == before
