"""A step that cannot fit is refused before anything is compiled or written, with the setting that would help."""

import dataclasses
import pathlib
from typing import Any

import jax
import pytest
import tiny
from toy_task import recipe, write_encoder, write_sst2

from bertlite_jax.convert.weights.folder import load_weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory
from bertlite_jax.jobs.finetuning import finetune, memory_need
from bertlite_jax.jobs.finetuning.batches import Batches
from bertlite_jax.jobs.finetuning.prepare import init_params, layout_of, make_optimizer_and_step, prepare
from bertlite_jax.train import state


@pytest.fixture(scope="module")
def place(tmp_path_factory, prepared) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("memory")
    write_sst2(folder / "glue", train=300)
    model = tiny.trained_model(embed_size=64, hidden_size=192, num_layers=5, num_heads=3, ffn_size=640, pair_classes=0)
    write_encoder(folder / "encoder", prepared.tokenizer, model)
    return folder


def of_batch(place: pathlib.Path, examples: int, monkeypatch: pytest.MonkeyPatch, has: int | None = None):
    """A run with batches of so many examples on a machine with so many bytes."""
    monkeypatch.setattr(memory, "most_bytes", lambda: has)
    return recipe(str(place / "glue"), batch=examples), str(place / "encoder")


def test_a_batch_that_does_not_fit_is_told_with_its_settings(place, tmp_path, monkeypatch):
    config, init = of_batch(place, 256, monkeypatch)
    parts = memory_need.check(prepare(config, load_weights(place / "encoder"), init))
    assert parts["logits"] == 0
    config, init = of_batch(place, 256, monkeypatch, int(0.83 * parts["total"]))
    with pytest.raises(UserError, match=r"^finetune: a step needs about .* GiB, and this machine has") as refused:
        finetune.finetune(config, str(tmp_path / "run"), init)
    assert "raise optim.micro_batches (now 1), or lower data.batch_examples (now 256)" in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_is_told_as_such(place, tmp_path, monkeypatch):
    config, init = of_batch(place, 1, monkeypatch, 10**6)
    with pytest.raises(UserError, match="take a smaller model; its parameters and the optimiser alone need"):
        finetune.finetune(config, str(tmp_path / "run"), init)


def test_a_pruned_model_needs_what_is_left_of_it(place):
    """Two of five layers' widths are those of the whole model, three have none: the estimate is that of two fifths."""
    config, encoder = recipe(str(place / "glue")), load_weights(place / "encoder")
    setup = prepare(config, encoder, str(place / "encoder"))

    def need(**changes: Any) -> dict[str, int]:
        start = setup.start.config
        shape = dataclasses.replace(start.model, share="none", **changes)
        config = dataclasses.replace(start, model=shape)
        return memory_need.check(setup._replace(start=setup.start._replace(config=config)))

    pruned = need(pruned_heads=(3, 3, 3, 3, 3), pruned_ffn=(640, 640, 0, 0, 0))
    assert pruned == need(ffn_size=256)
    assert pruned["total"] < need()["total"]


@pytest.mark.thorough
def test_what_xla_would_fit_is_never_refused(place, monkeypatch):
    """The estimate is at most a sixth above what XLA counts for the whole step: what comes in, and what it adds."""
    config, init = of_batch(place, 256, monkeypatch)
    setup = prepare(config, load_weights(place / "encoder"), init)
    estimate = memory_need.check(setup)["total"]
    optimizer, step = make_optimizer_and_step(setup)
    start = state.init_state(init_params(setup), optimizer, 0, layout_of(setup))
    rows, _ = Batches(setup).at(1)
    counted = jax.jit(step).lower(start, rows).compile().memory_analysis()
    assert counted is not None
    needed = counted.argument_size_in_bytes + counted.temp_size_in_bytes
    assert 0.5 * needed < estimate < 7 / 6 * needed
