"""Heads on frozen layers: each sees its layer's own states, and finds what is in them and nowhere else."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from bertlite_jax.cli.main import main
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import load_weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning import layer_probe
from bertlite_jax.jobs.finetuning.prepare import prepare
from bertlite_jax.jobs.reports.report import report
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.train.tasks.layer_probe import fit, make_answers

pytestmark = pytest.mark.usefixtures("compiled_once")

WIDTH = 8


def linear(head: Head):
    """A linear head as (init, apply)."""

    def init(key):
        return {"kernel": 0.01 * jax.random.normal(key, (WIDTH, head.outputs)), "bias": jnp.zeros(head.outputs)}

    return init, lambda params, states, keys: states @ params["kernel"] + params["bias"][None, None]


def taught(head: Head, states: layer_probe.States, rate: float = 0.02, steps: int = 150) -> np.ndarray:
    """Logits [N + 1, M, P, C] of heads that have seen all of `states` in every step."""
    init, apply = linear(head)
    everything = layer_probe.batch_of(states, np.arange(len(states.items)), head)
    scale = layer_probe.scale_of(states)
    batches = iter([everything] * steps)
    params = fit(init, apply, head, len(states.values), batches, scale, rate, seed=0)
    return np.asarray(make_answers(apply, scale)(params, jnp.asarray(everything["states"])))


def test_a_head_finds_what_its_layer_knows_and_only_that():
    """Layer 1 has the label in one direction, however small; layers 0 and 2 are noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400).astype(np.int32)
    values = rng.normal(size=(3, 400, WIDTH)).astype(np.float32) * np.array([1, 0.01, 50], np.float32)[:, None, None]
    values[1, :, 3] += 0.05 * (2 * labels - 1)
    states = layer_probe.States(values, np.arange(400)[:, None], labels, np.arange(400))
    right = (taught(Head(labels=("a", "b"), dropout=0.0), states)[:, :, 0].argmax(-1) == labels).mean(-1)
    assert right[1] > 0.98
    assert max(right[0], right[2]) < 0.65


def test_of_choices_the_one_whose_state_says_so_is_found():
    """Two or three choices each; in layer 1 the right one is larger in one direction."""
    rng = np.random.default_rng(1)
    windows = rng.integers(2, 4, 150)
    labels = (rng.random(150) * windows).astype(np.int32)
    firsts = np.r_[0, np.cumsum(windows)]
    values = rng.normal(size=(2, firsts[-1], WIDTH)).astype(np.float32)
    values[1, firsts[:-1] + labels, 0] += 6
    across = np.arange(3)
    items = np.where(across < windows[:, None], firsts[:-1, None] + across, -1)
    states = layer_probe.States(values, items, labels, np.repeat(np.arange(150), windows))
    scores = np.where(items >= 0, taught(Head(kind="choose", labels=(), dropout=0.0), states)[..., 0], -np.inf)
    right = (scores.argmax(-1) == labels).mean(-1)
    assert right[1] > 0.95 > 0.7 > right[0]


def test_numbers_are_read_off():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1, 200, WIDTH)).astype(np.float32)
    wanted = (1.5 * values[0, :, 2] - 0.5).astype(np.float32)[:, None]
    head = Head(labels=("score",), problem="regression", dropout=0.0)
    states = layer_probe.States(values, np.arange(200)[:, None], wanted, np.arange(200))
    np.testing.assert_allclose(taught(head, states, 0.05, 400)[0, :, 0], wanted, atol=0.15)


# --- With an encoder -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory, prepared):
    folder = tmp_path_factory.mktemp("probe")
    toy_task.write_sst2(folder / "glue")
    toy_task.write_encoder(folder / "encoder", prepared.tokenizer)
    return folder


def alone(setup, split) -> list[list[np.ndarray]]:
    """Of each window, by itself, without packing: the states of every layer [N + 1, tokens, D]."""
    model = Encoder(setup.start.config.model, "float32")
    params = {name: part for name, part in setup.start.params.items() if name not in ("pooler", "head")}
    forward = jax.jit(lambda rows: model.apply({"params": params}, *rows, method="hidden_states"))
    found, encoded = [], split.encoded
    for begin, end in itertools.pairwise(encoded.offsets):
        rows = np.zeros((4, 1, 32), np.int32)
        rows[0, 0, : end - begin], rows[1, 0, : end - begin] = encoded.tokens[begin:end], 1
        rows[2, 0] = np.arange(32)
        found.append([np.asarray(state)[0, : end - begin] for state in forward(rows)])
    return found


def test_states_are_those_of_each_text_by_itself(place, tmp_path):
    init = str(place / "encoder")
    config = toy_task.recipe(str(place / "glue"))
    setup = prepare(config, load_weights(place / "encoder"), init)
    (tmp_path / "states").mkdir()
    states = layer_probe.states_of(tmp_path, setup.valid, setup)
    wanted = np.stack([[layer.mean(0) for layer in text] for text in alone(setup, setup.valid)], axis=1)
    np.testing.assert_allclose(states.values, wanted, atol=1e-5)
    assert states.values.shape == (3, 29, 32)


def test_of_tags_the_first_piece_of_each_word_is_read(place, tmp_path):
    rows = [{"words": text.split(), "tags": ["Q" if word == "queen" else "O" for word in text.split()]}
            for text, _ in toy_task.sentences(40, 5)]  # fmt: skip
    file = toy_task.write_jsonl(tmp_path / "tags.jsonl", rows)
    config = toy_task.recipe(file, task="", data={"task": "", "kind": "tag", "folder": file, "length": 32})
    setup = prepare(config, load_weights(place / "encoder"), str(place / "encoder"))
    (tmp_path / "states").mkdir()
    states, encoded = layer_probe.states_of(tmp_path, setup.train, setup), setup.train.encoded
    wanted = []
    for window, text in enumerate(alone(setup, setup.train)):
        words = encoded.words[encoded.offsets[window] : encoded.offsets[window + 1]]
        wanted += [[layer[token] for layer in text] for token in np.flatnonzero(words >= 0)]
    np.testing.assert_allclose(states.values, np.stack(wanted, axis=1), atol=1e-5)
    assert len(states.labels) == encoded.counts["words"]


@pytest.fixture(scope="module")
def probed(place):
    """The command, as people run it."""
    recipe = place / "recipe.py"
    recipe.write_text(
        "from bertlite_jax.config import *\n"
        "config = Finetune(data=Examples(length=32, batch_examples=16), adapt=Adapt(compute='float32'),\n"
        "                  run=TuneRun(devices=1), optim=Optim(name='adamw', learning_rate=1e-3, warmup_steps=0))\n"
    )
    command = ["finetune", str(recipe), "--task", "sst2", "--data", str(place / "glue"), "--init",
               str(place / "encoder"), "--workdir", str(place / "run"), "--probe", "layers"]  # fmt: skip
    assert main(command) == 0
    return command, place / "run"


def test_a_probe_leaves_figures_and_a_picture_of_every_layer(probed):
    _, run = probed
    assert sorted(path.name for path in run.iterdir() if path.name != "report.html") == [
        "layers.svg", "probe.json", "summary.json"
    ]  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    assert [row["layer"] for row in summary["layers"]] == [0, 1, 2]
    # One word decides, and the mean of the embeddings still has it.
    assert summary["layers"][0]["accuracy"] > 0.9 > summary["majority_share"]
    assert summary["accuracy"] == max(row["accuracy"] for row in summary["layers"])
    assert (run / "layers.svg").read_bytes().startswith(b"<?xml")


def test_the_same_probe_again_is_read(probed, capsys):
    command, run = probed
    before = (run / "summary.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (run / "summary.json").stat().st_mtime_ns == before


def test_a_probe_has_a_report(probed):
    assert "Probe of layers" in report(probed[1]).read_text(encoding="utf-8")


def test_another_probe_and_other_folders_are_refused(probed, place, capsys):
    command, _ = probed
    assert main([*command, "--run.seed", "1"]) == 2
    assert "holds another probe; pass --overwrite" in capsys.readouterr().err
    (place / "other").mkdir(exist_ok=True)
    (place / "other" / "thesis.txt").write_text("mine")
    assert main([*command, "--workdir", str(place / "other"), "--overwrite"]) == 2
    assert "something other than a probe" in capsys.readouterr().err
    assert (place / "other" / "thesis.txt").read_text() == "mine"
    assert main([*command, "--seeds", "2"]) == 2


def test_spans_are_refused(place, monkeypatch):
    config = toy_task.recipe(str(place / "glue"))

    def asks_for_spans(*args):
        setup = prepare(*args)
        head = Head(kind="span", labels=())
        start = setup.start._replace(config=dataclasses.replace(setup.start.config, head=head))
        return setup._replace(start=start)

    monkeypatch.setattr(layer_probe, "prepare", asks_for_spans)
    with pytest.raises(UserError, match="does not apply to tasks that ask for spans"):
        layer_probe.probe_layers(config, str(place / "spans"), str(place / "encoder"))
    assert not (place / "spans").exists()
