"""The family beside BERT-base: published sizes, ratios that follow from the figures, times where they are asked for."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from rich.console import Console

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.rows import batches, source
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import family, sample_rows
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report import terminal

TINY = tiny.model(vocab_size=200, embed_size=32, hidden_size=32, ffn_size=64, max_positions=32, share="none")


def rows():
    return {row["name"]: row for row in family.bench_family()}


def test_the_family_has_its_published_sizes(capsys):
    """Lan et al. 2020, table 1, in full as the released configs give them; Devlin et al. 2018; Sanh et al. 2019."""
    made = rows()
    published = {
        "albert_base": 11_683_584,
        "albert_large": 17_683_968,
        "albert_xlarge": 58_724_864,
        "albert_xxlarge": 222_595_584,
        "bert_base": 109_482_240,
        "bert_large": 335_141_888,
        "distilbert": 66_362_880,
    }
    assert {name: made[name]["parameters"] for name in published} == published
    assert {"albert_tiny", "albert_small", "bert_tiny", "bort"} <= made.keys()
    assert not any("v1" in name for name in made)
    for row in made.values():
        assert row["float32_bytes"] == 4 * row["parameters"]
        assert 0.25 < row["int8_bytes"] / row["float32_bytes"] < 0.265  # a byte each, and scales
        assert row["optimiser_bytes"] == 2 * row["exchanged_bytes"]
        assert row["answer_seconds"] is None
        assert row["step_seconds"] is None
    assert max(map(len, capsys.readouterr().out.splitlines())) <= terminal.COLUMNS


def test_albert_is_smaller_and_not_faster_and_the_distilled_are_faster():
    made = rows()
    albert, distilled, bort = (made[name]["ratios"] for name in ("albert_base", "distilbert", "bort"))
    assert albert["parameters"] == pytest.approx(109_482_240 / 11_683_584)
    assert albert["exchanged_bytes"] > 9
    assert albert["step_bytes"] > 1.2
    assert albert["flops"] == pytest.approx(1, abs=0.01)
    assert distilled["flops"] == pytest.approx(2, rel=0.01)  # 6 of 12 layers
    assert bort["flops"] > 3
    assert set(made["bert_base"]["ratios"].values()) == {1.0, None}


def test_integer_bytes_are_those_of_the_container():
    model = dataclasses.replace(TINY, embed_size=16, share="all", pair_classes=0)
    generator = np.random.default_rng(0)
    shapes = {name: shape for name, shape in parameters.shapes(model).items() if not name.startswith("mlm")}
    params = parameters.nest({name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
    container = quantized.quantize(Weights(params, model))
    stored = [*container.integers.values(), *container.scales.values(), *container.floats.values()]
    assert family.int8_bytes(model) == sum(value.nbytes for value in stored)


def sentence(**ratios):
    even = {"parameters": 1.0, "step_bytes": 1.0, "exchanged_bytes": 1.0, "flops": 1.0, "answer_seconds": None}
    return family.conclusion({"name": "it", "ratios": even | ratios})


def test_the_sentence_says_what_the_figures_say():
    """A measured time counts for more than FLOPs."""
    assert sentence(parameters=9.37, step_bytes=2.5, exchanged_bytes=12.0) == (
        "it: 9.37x smaller, 2.50x less memory and 12.0x less communication in a training step, and answers no faster "
        "(by its FLOPs)."
    )
    assert "answers 2.00x faster (by its FLOPs)" in sentence(flops=2.0)
    assert "answers 4.00x slower (measured)" in sentence(flops=2.0, answer_seconds=0.25)
    assert sentence(parameters=0.5).startswith("it: 2.00x larger, as much memory and as much communication")


def test_answers_are_timed_where_that_is_asked_for(monkeypatch, tmp_path):
    """On shapes that are small enough for a test, in place of BERT-base and BERT-tiny."""
    monkeypatch.setattr(presets, "BERT_BASE", TINY)
    monkeypatch.setattr(presets, "BERT_TINY", dataclasses.replace(TINY, num_layers=1))
    out = tmp_path / "family.json"
    made = family.bench_family(measure=True, length=16, batch_rows=2, threads=1, only=("bert_tiny",), out=str(out))
    assert [row["name"] for row in made] == ["bert_tiny", "bert_base"]
    tiny, base = made
    assert 0 < tiny["answer_seconds"] < 5
    assert 0 < base["answer_seconds"] < 5
    assert tiny["step_seconds"] is None
    assert tiny["ratios"]["answer_seconds"] == pytest.approx(base["answer_seconds"] / tiny["answer_seconds"])
    assert json.loads(out.read_text())["rows"] == made


@pytest.mark.thorough
def test_training_steps_are_timed_where_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(presets, "BERT_BASE", dataclasses.replace(TINY, num_layers=1))
    monkeypatch.setattr(choose_precision, "resolve", lambda setting, platform: "float32")  # A trial takes seconds.
    (base,) = family.bench_family(train=True, length=16, batch_rows=2, only=("bert_base",))
    assert 0 < base["step_seconds"] < 5
    assert base["answer_seconds"] is None


def test_what_does_not_fit_into_the_time_is_left_out():
    shapes = {"bert_base": TINY, "bert_large": TINY}
    made = {name: {"flops": 1.0, "float32_bytes": 1, "answer_seconds": None} for name in shapes}
    console = Console(record=True, quiet=False, width=100)
    family.measure_within(1e-9, shapes, made, "answer_seconds", lambda model: 0.5, console)
    assert made["bert_base"]["answer_seconds"] == 0.5
    assert made["bert_large"]["answer_seconds"] is None
    assert "bert_large is not timed" in console.export_text()


def test_the_shapes_of_the_last_lines_are_timed_first():
    shapes: dict[str, Model] = dict.fromkeys(("bert_tiny", "bort", "bert_base", "distilbert"), TINY)
    sizes = {"bert_tiny": 0.1, "bort": 5.0, "bert_base": 10.0, "distilbert": 3.0}
    made = {name: {"flops": size, "float32_bytes": 1, "answer_seconds": None} for name, size in sizes.items()}
    order = iter(range(4))
    family.measure_within(60.0, shapes, made, "answer_seconds", lambda model: next(order), Console(quiet=True))
    assert sorted(made, key=lambda name: made[name]["answer_seconds"]) == [
        "bert_base",
        "distilbert",
        "bort",
        "bert_tiny",
    ]


def test_random_rows_look_like_those_of_a_corpus(prepared):
    data = Data(corpus=(prepared.corpus,), tokenizer=prepared.tokenizer, length=64, batch_rows=2, pack=False)
    real = batches.batch_at(source.open_source(data, "train", 0), 1, 2)
    drawn = family.random_batch(family.training_config(dataclasses.replace(TINY, max_positions=64), 64, 2))
    assert {name: (value.shape, value.dtype) for name, value in drawn.items()} == {
        name: (value.shape, value.dtype) for name, value in real.items()
    }
    for name in ("tokens", "segments", "positions", "token_types", "cls"):
        assert drawn[name].min() >= 0
        assert drawn[name].max() < 200


def test_random_weights_are_a_classifier_of_that_shape():
    """DistilBERT's classes pool with a ReLU, the others with tanh; every shape gets a pooler."""
    distilled = sample_rows.random_weights(dataclasses.replace(presets.DISTILBERT, vocab_size=100))
    assert distilled.head
    assert distilled.head.activation == "relu"
    assert distilled.model.pooler
    assert not distilled.model.pair_classes
    plain = sample_rows.random_weights(TINY)
    assert plain.head
    assert plain.head.activation == "tanh"
    assert plain.head.outputs == 2
    parameters.check_shapes(parameters.flatten(plain.params), plain.model, "test", plain.head)


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match="--only albert_bass: no such shape; did you mean albert_base"):
        family.bench_family(only=("albert_bass",))
    with pytest.raises(UserError, match="length = 513 must lie between 8 and 512"):
        family.bench_family(length=513)
