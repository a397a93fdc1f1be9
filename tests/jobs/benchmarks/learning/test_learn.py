"""The race to a loss, on a model that is small enough for a test."""

import dataclasses
import json

import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert.huggingface.tokenizer import write_tokenizer
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks.learning import learn, pytorch
from bertlite_jax.jobs.benchmarks.train_peer import transformers_config

RECIPE = """
from bertlite_jax.config import Data, Model, Optim, Pretrain, Run

config = Pretrain(
    model=Model(
        vocab_size=0, embed_size=32, hidden_size=64, num_layers=2, num_heads=2, ffn_size=128, max_positions=0
    ),
    data=Data(length=64, batch_rows=8),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=2, bias_correction=True),
    run=Run(steps=12, log_every=2, eval_every=4, eval_rows=8, checkpoint_every=12, tensorboard=False),
)
"""


def points(*losses):
    return [(10.0 * number, loss) for number, loss in enumerate(losses, 1)]


def test_the_mark_is_the_best_loss_that_pytorch_reached_at_any_rate():
    """Ours counts from the first evaluation that is at least as good."""
    curves = {"PyTorch, rate 0.001": points(5.0, 4.0, 4.5), "PyTorch, rate 0.002": points(5.0, 4.2, 4.1)}
    found = learn.compare(curves | {learn.OURS: points(4.0, 3.0)})
    assert found["mark"] == {"name": "PyTorch, rate 0.001", "loss": 4.0, "seconds": 20.0}
    assert found["ours"] == {"seconds": 10.0, "loss": 4.0}
    assert found["ratio"] == 0.5
    assert learn.compare(curves | {learn.OURS: points(4.1)})["ratio"] is None


def test_our_times_are_those_of_the_training_line_of_the_same_step():
    """An evaluation's own line has no time."""
    lines = [{"step": 2, "seconds": 3.0}, {"step": 4, "seconds": 5.0}, {"step": 4, "valid_mlm_loss": 2.5}]
    assert learn.curve_of(lines) == [(5.0, 2.5)]


def test_the_peer_trains_and_is_scored_as_published():
    """Without the factor and the parts that only our own side has."""
    plain = Model(init_std=0.02, position_init="normal")
    freed = {"own_norms": True, "depth_vector": True, "low_rank": 4, "own_first": 1, "own_last": 1}
    ours = dataclasses.replace(plain, init_std=0.05, residual_scale="depth", vocab_multiple=128, **freed)
    assert pytorch.published(ours) == plain


@pytest.mark.parametrize(("flags", "bfloat16"), [("avx2", False), ("avx2 avx512f avx512_bf16", True)])
def test_the_peer_has_autocast_only_where_the_cpu_has_bfloat16(flags, bfloat16, prepared, monkeypatch, tmp_path):
    """On other CPUs it makes each product some ten times as slow, and the comparison worthless."""
    monkeypatch.setenv("BERTLITE_CPU_FLAGS", flags)
    task = learn.task_of(Pretrain(), load_tokenizer(prepared.tokenizer), tmp_path, 1e-3, 60.0, 8, 2)
    assert task.bfloat16 == bfloat16


def test_the_rate_rises_for_a_tenth_of_the_time_and_falls_to_nothing():
    """The usual linear schedule, over time, as the number of steps is not known before."""
    assert [round(pytorch.share_of_rate(done), 3) for done in (0, 0.05, 0.1, 0.55, 1)] == [0, 0.5, 1, 0.5, 0]


@pytest.mark.thorough
def test_both_sides_are_scored_by_one_evaluation(prepared, tmp_path, capsys):
    """A peer that has hardly trained stands near log 300 = 5.7; the second call repeats nothing."""
    pytest.importorskip("torch", reason="the peer needs torch and transformers")
    pytest.importorskip("transformers", reason="the peer needs torch and transformers")
    recipe, run = tmp_path / "recipe.py", tmp_path / "run"
    recipe.write_text(RECIPE)
    places = {"workdir": str(run), "corpus": (prepared.corpus,), "tokenizer": prepared.tokenizer}
    options = {"minutes": 0.002, "rates": (1e-3,), "rows": 8, "snapshots": 2}
    summary = learn.bench_learn(str(recipe), **places, **options)
    theirs, ours = summary["curves"]["PyTorch, rate 0.001"], summary["curves"]["ours"]
    assert 1 <= len(theirs) <= 2
    assert len(ours) == 3
    for _, loss in theirs + ours:
        assert 4.5 < loss < 6.2
    assert json.loads((run / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "the mark: " in capsys.readouterr().out
    again = learn.bench_learn(str(recipe), **places, **options)
    assert again["curves"] == summary["curves"]
    assert "PyTorch trains" not in capsys.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize("embed_size", [32, 64])
def test_weights_are_scored_with_all_that_transformers_gives_them(embed_size, prepared, tmp_path):
    """Its ALBERT has a projection even where embeddings are as wide as hidden states, 64."""
    torch = pytest.importorskip("torch", reason="the peer needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="the peer needs torch and transformers")
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE.replace("embed_size=32", f"embed_size={embed_size}"))
    recipe, opened = learn.open_recipe(str(path), (prepared.corpus,), prepared.tokenizer)
    torch.manual_seed(0)
    network = transformers.AutoModelForPreTraining.from_config(transformers_config(pytorch.published(recipe.model)))
    write_tokenizer(opened, tmp_path, recipe.model.max_positions, recipe.model.token_types)
    for name, factor in (("whole", 1.0), ("without", 0.0)):
        network.albert.encoder.embedding_hidden_mapping_in.weight.data *= factor
        network.save_pretrained(tmp_path / name)
    whole, without = learn.scores(recipe, opened, [tmp_path / "whole", tmp_path / "without"])
    assert abs(whole - without) > 1e-3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rates": ()}, "--rates"),
        ({"rates": (2.0,)}, "--rates 2 must lie between 0 and 1"),
        ({"rates": (1e-3, 1e-3)}, "the same rate twice"),
        ({"minutes": 0.0}, "--minutes 0.0 must be positive"),
        ({"minutes": float("nan")}, "--minutes nan must be positive"),
        ({"snapshots": 0}, "--snapshots 0 must be positive"),
        ({}, "name --corpus and --tokenizer"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, said, tmp_path):
    """Before anything is trained."""
    pytest.importorskip("torch", reason="the peer needs torch and transformers")
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)
    with pytest.raises(UserError, match="bench: ") as refused:
        learn.bench_learn(str(recipe), workdir=str(tmp_path / "run"), **options)
    assert said in str(refused.value)
    assert not (tmp_path / "run").exists()
