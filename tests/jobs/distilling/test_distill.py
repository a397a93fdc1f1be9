"""`bertlite distill` as its user meets it: learns, resumes, runs on any devices, refuses early."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny
from run_files import lines_of, losses_of

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.text import documents
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.pretraining.evaluate import evaluate
from bertlite_jax.jobs.pretraining.pretrain import pretrain
from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.usefixtures("compiled_once")

TINYBERT = {"soft_weight": 0.0, "mlm_weight": 0.0, "cosine_weight": 0.0, "states_weight": 1.0, "attention_weight": 1.0}
MINILM = {"soft_weight": 0.0, "mlm_weight": 0.0, "cosine_weight": 0.0, "relations_weight": 1.0}


def params_of(run: pathlib.Path) -> dict:
    """Of the newest checkpoint."""
    return checkpoint.restore_params(run / "checkpoints")[0]


def with_model(config: Distill, **changes) -> Distill:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def short(config: Distill, steps: int = 2, **run) -> Distill:
    config = dataclasses.replace(
        config, run=dataclasses.replace(config.run, steps=steps, eval_every=0, log_every=1, **run)
    )
    return replaced(config, "optim.warmup_steps", 0)


# --- What a run leaves -----------------------------------------------------------------------------------------------


def test_a_run_leaves_what_pretraining_leaves_and_a_curve_for_each_loss(distilled, prepared, teacher):
    names = {path.name for path in distilled.iterdir()}
    assert names >= {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "summary.json", "tokenizer"}
    lines = [line for line in lines_of(distilled) if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    for line in lines:
        assert line["loss"] == pytest.approx(
            5 * line["soft_loss"] + 2 * line["mlm_loss"] + line["cosine_loss"], rel=1e-4
        )
        assert "mlm_accuracy" in line
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert files.read_json(distilled / "config.json") == tiny.distil(prepared, teacher)
    summary = json.loads((distilled / "summary.json").read_text())
    assert evaluate(str(distilled), rows=8)["valid_mlm_loss"] == pytest.approx(summary["valid_mlm_loss"], abs=1e-5)


@pytest.mark.thorough
def test_flops_of_the_teacher_count(prepared, teacher, distilled, tmp_path):
    """Of its four layers a forward pass, of the student's two three of them."""
    config = tiny.distil(prepared, teacher)
    pretrain_config = dataclasses.replace(tiny.pretrain(prepared, steps=2, eval_every=0), model=config.model)
    pretrain_config = dataclasses.replace(pretrain_config, data=config.data, mask=config.mask)
    pretrain_config = replaced(pretrain_config, "optim.warmup_steps", 0)
    pretrain(pretrain_config, str(tmp_path / "alone"))
    alone, together = (
        next(line["total_flops"] for line in lines_of(run) if line["step"] == 2)
        for run in (tmp_path / "alone", distilled)
    )
    assert 1.5 < together / alone < 5 / 3  # 10 layers for 6, and 4 vocabulary products for 3.


@pytest.mark.thorough
def test_a_student_starts_as_its_teacher_and_a_perfect_one_has_nothing_to_learn(prepared, teacher, tmp_path, capsys):
    """All four layers, without dropout, at no rate: losses to the teacher are zero, and its dropout does not matter."""
    config = short(
        tiny.distil(prepared, teacher, start="first", states_weight=1.0, attention_weight=1.0, relations_weight=1.0)
    )
    config = with_model(config, num_layers=4, hidden_dropout=0.0, attention_dropout=0.0)
    config = replaced(config, "optim.learning_rate", 1e-12)
    distill(config, str(tmp_path / "run"))
    assert tiny.TEACHER.hidden_dropout == 0.1
    lines = [line for line in lines_of(tmp_path / "run") if "loss" in line]
    for name in ("soft", "cosine", "states", "attention", "relations"):
        assert [line[f"{name}_loss"] for line in lines] == pytest.approx([0.0, 0.0], abs=2e-4), name
    assert lines[0]["mlm_loss"] > 1.0
    shown = capsys.readouterr().out
    assert "distill: layer of the student    0  1  2  3\n" in shown
    assert "distill: starts from layer(s)    0  1  2  3  of " in shown
    assert "distill: teacher " in shown


@pytest.mark.thorough
def test_a_student_of_no_teacher_starts_as_pretraining_does(prepared, teacher, tmp_path, capsys):
    """`random` draws the weights that `bertlite pretrain` draws with the same seed."""
    config = short(tiny.distil(prepared, teacher, start="random"), steps=1)
    config = replaced(config, "optim.learning_rate", 1e-12)
    distill(config, str(tmp_path / "run"))
    alone = dataclasses.replace(
        tiny.pretrain(prepared), **{name: getattr(config, name) for name in ("model", "data", "mask", "optim", "run")}
    )
    pretrain(alone, str(tmp_path / "alone"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7),
        params_of(tmp_path / "run"),
        params_of(tmp_path / "alone"),
    )


# --- Devices, batches, interruptions ---------------------------------------------------------------------------------


@pytest.mark.thorough
def test_accumulation_and_devices_give_the_losses_of_one_batch(prepared, teacher, losses_however_split):
    """One batch on one device; four parts on one; two parts on eight devices, with everything split. All losses.

    The student has half the width, so that its run has a projection to split too.
    """
    more = {"states_weight": 1.0, "attention_weight": 1.0, "relations_weight": 1.0, "soft_tokens": "all"}
    config = short(tiny.distil(prepared, teacher, start="random", **more), steps=4)
    config = with_model(config, hidden_size=16, embed_size=16)
    config = replaced(config, "data.batch_rows", 16)
    found = losses_however_split(config)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5, rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5, rtol=1e-6)


@pytest.mark.thorough
def test_four_thousand_rows_are_one_batch_on_one_device_and_on_many(prepared, teacher, tmp_path):
    """DistilBERT's batch: 125 parts of 32 rows on one device, and 20 parts of 25 rows on each of eight."""
    config = replaced(short(tiny.distil(prepared, teacher), steps=2), "data.batch_rows", 4000)
    found = []
    for parts, devices in ((125, 1), (20, 8)):
        split = replaced(replaced(config, "optim.micro_batches", parts), "run.devices", devices)
        distill(split, str(tmp_path / str(parts)))
        found.append(list(losses_of(tmp_path / str(parts)).values()))
    assert len(found[0]) == 2
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.thorough
def test_a_run_that_lost_its_last_steps_makes_them_again_with_the_same_bits(prepared, teacher, tmp_path):
    """With a projection of its own, which a checkpoint has too."""
    config = tiny.distil(prepared, teacher, **TINYBERT, start="random")
    config = with_model(config, hidden_size=16, embed_size=16)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, log_every=1, eval_every=0))
    run = tmp_path / "run"
    distill(config, str(run))
    wanted, bits = losses_of(run), params_of(run)
    assert bits["distill"]["width"]["kernel"].shape == (16, 32)
    for step in (8, 12):
        shutil.rmtree(run / "checkpoints" / str(step))
    distill(config, str(run))
    assert losses_of(run) == wanted
    assert len(wanted) == 12
    jax.tree.map(np.testing.assert_array_equal, params_of(run), bits)


@pytest.mark.thorough
def test_a_run_does_not_go_on_with_another_teacher(prepared, make_teacher, tmp_path):
    """The folder has the same name, and other weights."""
    place, run = make_teacher(), tmp_path / "run"
    distill(short(tiny.distil(prepared, place)), str(run))
    shutil.rmtree(place)
    shutil.copytree(make_teacher(seed=1), place)
    with pytest.raises(UserError, match=r"was started with other weights than .* now holds; put the old weights back"):
        distill(short(tiny.distil(prepared, place)), str(run))


# --- Recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_layers_of_another_width_learn_through_a_projection(prepared, teacher, tmp_path):
    """TinyBERT: half the width. What the run keeps for itself is neither weights to start from nor exported."""
    config = with_model(tiny.distil(prepared, teacher, **TINYBERT, start="random"), hidden_size=16, embed_size=16)
    run = tmp_path / "run"
    distill(config, str(run))
    lines = [line for line in lines_of(run) if "loss" in line]
    assert lines[-1]["states_loss"] < lines[0]["states_loss"]
    loaded = sources.load(run)
    assert "distill" not in loaded.params
    parameters.check_shapes(parameters.flatten(loaded.params), config.model, "student")
    counted = sum(array.size for array in parameters.flatten(loaded.params).values())
    assert json.loads((run / "summary.json").read_text())["parameters"] == counted


@pytest.mark.thorough
def test_relations_are_learnt_from_a_teacher_without_heads_of_any_shape(prepared, make_teacher, tmp_path):
    """MiniLM v2: another width, other attention heads, shared layers, no masked-LM head, eight relation heads."""
    headless = make_teacher(
        tiny.bert(num_layers=3, hidden_size=48, embed_size=16, share="all", num_heads=4), without="mlm"
    )
    config = tiny.distil(prepared, headless, **MINILM, start="random", relation_heads=8, relation_layer=2)
    distill(config, str(tmp_path / "run"))
    lines = [line for line in lines_of(tmp_path / "run") if "loss" in line]
    assert lines[-1]["relations_loss"] < lines[0]["relations_loss"]


@pytest.mark.thorough
def test_twice_the_same_teacher_is_one(prepared, make_teacher, teacher, tmp_path):
    """Predictions and relations of several are averaged; test_losses.py has teachers that differ."""
    more = {"cosine_weight": 0.0, "relations_weight": 1.0}
    same = make_teacher(seed=0)
    distill(short(tiny.distil(prepared, teacher, **more)), str(tmp_path / "one"))
    distill(short(tiny.distil(prepared, teacher, **more, teachers=(teacher, same))), str(tmp_path / "two"))
    one, two = (losses_of(tmp_path / name) for name in ("one", "two"))
    assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-5)


@pytest.mark.thorough
def test_pairs_are_learnt_from_labels_and_from_a_teacher(prepared, tmp_path, make_teacher):
    """A run of ours as the teacher: the pair task that it was trained on is known."""
    pairs = {"token_types": 2, "pooler": True, "pair_classes": 2}
    taught = dataclasses.replace(tiny.pretrain(prepared, steps=1, eval_every=0), model=tiny.bert(num_layers=3, **pairs))
    pretrain(replaced(taught, "optim.warmup_steps", 0), str(tmp_path / "teacher"))
    config = short(tiny.distil(prepared, str(tmp_path / "teacher"), pair_soft_weight=1.0))
    config = replaced(with_model(config, **pairs), "data.pair_task", "sop")
    distill(config, str(tmp_path / "run"))
    (first, *_) = (line for line in lines_of(tmp_path / "run") if "loss" in line)
    assert {"pair_loss", "pair_accuracy", "pair_soft_loss"} <= first.keys()


@pytest.mark.thorough
def test_layers_that_share_start_from_a_mean_and_its_rests(prepared, teacher, tmp_path, capsys):
    config = short(tiny.distil(prepared, teacher, start="groups"))
    config = with_model(config, num_layers=4, share="all", own_norms=True, low_rank=4, residual_scale="depth")
    distill(config, str(tmp_path / "run"))
    assert "layers of a group share attention, ffn: the mean of theirs; what it leaves out" in capsys.readouterr().out


# --- Refusals --------------------------------------------------------------------------------------------------------


def nan_in_a_kernel(flat: dict) -> dict:
    flat["layers/ffn/up/kernel"][0, 0, 0] = np.nan
    return flat


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill": {"teachers": ()}}, "distill.teachers is empty"),
        ({"distill": {"teachers": ("nowhere",)}}, "distill: nowhere does not exist"),
        ({"distill": {"temperature": 0.0}}, "distill.temperature = 0.0 must be positive"),
        ({"distill": {"soft_weight": 0.0, "cosine_weight": 0.0}}, "all weights of distill that need the teacher are 0"),
        ({"model": {"num_layers": 5}}, "needs a teacher with at least model.num_layers = 5 layers"),
        ({"model": {"ffn_size": 32}}, "pass --distill.fit-widths"),
        ({"distill": {"relations_weight": 1.0, "relation_heads": 5}}, "distill.relation_heads = 5 does not divide"),
        ({"run": {"depths": ((1, 1),)}, "model": {"share": "all"}}, "run.depths cannot be combined with distillation"),
        ({"objective": {"causal_every": 4}}, "objective.causal_every cannot be combined with distillation"),
    ],
    ids=str,
)
def test_a_config_that_cannot_work_is_one_line_before_anything_is_written(
    changes, message, prepared, teacher, tmp_path
):
    config = tiny.distil(prepared, teacher)
    for group, fields in changes.items():
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **fields)})
    said = refused(config, tmp_path)
    assert message in said


def refused(config: Distill, tmp_path: pathlib.Path) -> str:
    """What is said; in one line, and with nothing left behind."""
    with pytest.raises(UserError) as error:
        distill(config, str(tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    return str(error.value)


def test_a_teacher_that_cannot_teach_is_refused(prepared, make_teacher, tmp_path):
    kernel = np.full((4, 32, 64), np.nan, np.float32)
    # Our own folders are checked when they are read; a checkpoint of a run is not.
    broken = make_teacher(**{"layers/ffn/up/kernel": kernel})
    assert "NaN or infinity in layers/ffn/up/kernel" in refused(tiny.distil(prepared, broken), tmp_path)
    assert "has no masked-LM head" in refused(tiny.distil(prepared, make_teacher(without="mlm")), tmp_path)


def test_a_diverged_run_is_no_teacher(prepared, distilled, tmp_path, monkeypatch):
    """NaN in a checkpoint."""
    broken = params_of(distilled)
    broken["mlm"]["bias"] = np.full_like(broken["mlm"]["bias"], np.nan)
    monkeypatch.setattr(checkpoint, "restore_params", lambda folder: (broken, {}))
    assert "NaN or infinity in mlm/bias" in refused(tiny.distil(prepared, str(distilled)), tmp_path)


def test_a_teacher_with_another_tokenizer_is_refused(prepared, teacher, tmp_path):
    """Of the same size, and of other text."""
    text = documents.read_sentences([prepared.text])
    other = train_tokenizer((line[::-1] for line in text), str(tmp_path / "other"), tiny.VOCAB_SIZE)
    copy = tmp_path / "teacher"
    shutil.copytree(teacher, copy)
    shutil.rmtree(copy / "tokenizer")
    shutil.copytree(other.folder, copy / "tokenizer")
    stated = json.loads((copy / "config.json").read_text())
    del stated["sha256"], stated["sha256_of_description"]
    (copy / "config.json").write_text(json.dumps(stated))
    assert f"{copy} has another tokenizer than {prepared.tokenizer}" in refused(
        tiny.distil(prepared, str(copy)), tmp_path
    )
    shutil.rmtree(copy / "tokenizer")
    assert f"{copy} has no tokenizer" in refused(tiny.distil(prepared, str(copy)), tmp_path)


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_command_takes_teachers_and_refuses_recipes_of_another_kind(prepared, teacher, tmp_path, capsys):
    config = short(tiny.distil(prepared, "elsewhere"))
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n")
    assert main(["pretrain", str(recipe), "--workdir", str(tmp_path / "run")]) == 2
    assert "config is a Distill, pretrain needs a Pretrain" in capsys.readouterr().err
    assert main(["distill", str(recipe), "--teacher", teacher, "--workdir", str(tmp_path / "run")]) == 0
    assert files.read_json(tmp_path / "run" / "config.json").distill.teachers == (teacher,)
    idle = [
        "distill",
        str(recipe),
        "--teacher",
        teacher,
        "--workdir",
        str(tmp_path / "run"),
        "--distill.relation-heads",
        "4",
    ]
    assert main(idle) == 2
    assert "--distill.relation-heads" in capsys.readouterr().err
