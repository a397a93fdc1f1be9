"""The quickstart's parts on a short run; the full one is `make quickstart`, which takes minutes."""

import dataclasses
import json
import pathlib

import pytest

from bertlite_jax.config import Mask, checks
from bertlite_jax.errors import UserError
from bertlite_jax.jobs import quickstart
from bertlite_jax.jobs.runs import workdir

SUMMARY = (
    "steps",
    "real_tokens",
    "wall_seconds",
    "valid_mlm_loss",
    "valid_mlm_accuracy",
    "unigram_entropy",
    "valid_pair_accuracy",
    "pair_label_prior",
    "parameters",
    "hf_max_abs_diff",
    "onnx_bytes",
    "int8_bytes",
    "int8_top1_agreement",
    "latency_ms",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """The quickstart with 20 steps on one of the bundled texts."""
    folder = tmp_path_factory.mktemp("quickstart")
    text = folder / "text"
    text.mkdir()
    (text / "alice.txt.zst").symlink_to(quickstart.TEXT / "alice_in_wonderland.txt.zst")
    whole = quickstart.recipe

    def short(data: pathlib.Path, seed: int):
        config = whole(data, seed)
        run = dataclasses.replace(config.run, steps=20, eval_every=10, eval_rows=64, log_every=5, devices=1)
        optim = dataclasses.replace(config.optim, warmup_steps=5)
        return dataclasses.replace(config, run=run, optim=optim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "TEXT", text)
        patch.setattr(quickstart, "recipe", short)
        quickstart.quickstart(str(folder / "run"))
    return folder / "run"


@pytest.mark.thorough
def test_summary_holds_what_is_promised(finished: pathlib.Path):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(SUMMARY) <= summary.keys()
    assert summary["steps"] == 20
    assert summary["parameters"] == 365_418


@pytest.mark.thorough
def test_the_export_is_compared_with_pytorch(finished: pathlib.Path):
    pytest.importorskip("torch", reason="the comparison needs torch and transformers")
    assert json.loads((finished / "summary.json").read_text())["hf_max_abs_diff"] < 1e-4


@pytest.mark.thorough
def test_the_eight_bit_model_is_smaller_answers_alike_and_is_timed(finished: pathlib.Path):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["int8_bytes"] < 0.5 * summary["onnx_bytes"]
    assert summary["int8_top1_agreement"] > 0.9
    assert {"onnx-f32", "onnx-int8-token", "jax-f32", "jax-int8"} <= summary["latency_ms"].keys()
    assert all(milliseconds > 0 for milliseconds in summary["latency_ms"].values())


@pytest.mark.thorough
def test_it_leaves_report_export_and_checkpoints(finished: pathlib.Path):
    for name in (
        "report.html",
        "hf/model.safetensors",
        "hf/tokenizer.json",
        "onnx/onnx/model_quantized.onnx",
        "inference.json",
    ):
        assert (finished / name).is_file(), name


def test_the_recipe_fits_the_checks_and_the_plateau_page():
    """What docs/quickstart.md says of it."""
    config = quickstart.recipe(pathlib.Path("data"), seed=1)
    checks.check_pretrain(config)
    assert (config.model.num_layers, config.model.hidden_size, config.model.vocab_size) == (2, 128, 1000)
    assert config.model.position_init == "sinusoidal"
    assert config.run.seed == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_folder_with_another_run_is_refused_before_any_text_is_read(tmp_path, monkeypatch, seed):
    """Of another recipe, or of another seed; the tokenizer alone takes half a minute."""
    recipe = quickstart.recipe(tmp_path / "run-data", seed=0)
    other = recipe if seed else dataclasses.replace(recipe, mask=Mask(rate=0.2))
    workdir.open_workdir(tmp_path / "run", other, False, {})
    monkeypatch.setattr(quickstart, "make_tokenizer", None)
    with pytest.raises(UserError, match=r"holds a run with another config .*(mask.rate|run.seed)"):
        quickstart.quickstart(str(tmp_path / "run"), seed=seed)
    assert not (tmp_path / "run-data").exists()
