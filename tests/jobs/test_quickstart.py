"""The quickstart's parts on a short run; the full one is `make quickstart`, which takes minutes."""

import dataclasses
import json
import pathlib

import pytest

from bertlite_jax.jobs import quickstart as job

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
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """The quickstart with 20 steps on one of the bundled texts."""
    folder = tmp_path_factory.mktemp("quickstart")
    text = folder / "text"
    text.mkdir()
    (text / "alice.txt.zst").symlink_to(job.TEXT / "alice_in_wonderland.txt.zst")
    whole = job.recipe

    def short(data: pathlib.Path, seed: int):
        config = whole(data, seed)
        run = dataclasses.replace(config.run, steps=20, eval_every=10, eval_rows=64, log_every=5, devices=1)
        optim = dataclasses.replace(config.optim, warmup_steps=5)
        return dataclasses.replace(config, run=run, optim=optim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "TEXT", text)
        patch.setattr(job, "recipe", short)
        job.quickstart(str(folder / "run"))
    return folder / "run"


def test_summary_holds_what_is_promised(finished: pathlib.Path):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(SUMMARY) <= summary.keys()
    assert summary["steps"] == 20 and summary["parameters"] == 365_418


def test_the_export_is_compared_with_pytorch(finished: pathlib.Path):
    pytest.importorskip("torch", reason="the comparison needs torch and transformers")
    assert json.loads((finished / "summary.json").read_text())["hf_max_abs_diff"] < 1e-4


def test_eight_bit_weights_are_a_quarter_of_the_size_and_score_alike(finished: pathlib.Path):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["int8_bytes"] < 0.3 * summary["float32_bytes"]
    assert abs(summary["int8_valid_mlm_loss"] - summary["valid_mlm_loss"]) < 0.05


def test_it_leaves_report_export_and_checkpoints(finished: pathlib.Path):
    for name in ("report.html", "hf/model.safetensors", "hf/tokenizer.json", "int8/model.int8.safetensors"):
        assert (finished / name).is_file(), name


def test_the_recipe_fits_the_checks_and_the_plateau_page():
    """What docs/quickstart.md says of it."""
    from bertlite_jax import config as settings

    config = job.recipe(pathlib.Path("data"), seed=1)
    settings.check_pretrain(config)
    assert (config.model.num_layers, config.model.hidden_size, config.model.vocab_size) == (2, 128, 1000)
    assert config.model.position_init == "sinusoidal" and config.run.seed == 1
