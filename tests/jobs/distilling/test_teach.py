"""`bertlite teach`, and runs that read what it stored: the losses of live teachers, without running one."""

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from run_files import caching_environment, lines_of, wait_for

from bertlite_jax.cli.main import main
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.data.teaching import index, records, store, writing
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.distilling.step import make_distillation
from bertlite_jax.jobs.distilling.teach import teach
from bertlite_jax.jobs.distilling.teachers import Teacher
from bertlite_jax.jobs.pretraining.step import init_params, lower
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.report.cost import flops
from bertlite_jax.train import sharding
from bertlite_jax.train.distillation import targets

pytestmark = pytest.mark.usefixtures("compiled_once")

EVERY = {"states_weight": 1.0, "attention_weight": 1.0, "relations_weight": 1.0}
"""Beside those that a teacher is asked for by default."""
SOFT_ALONE = {"mlm_weight": 0.0, "cosine_weight": 0.0}


def short(config: Distill, steps: int = 3, **run) -> Distill:
    run = dataclasses.replace(config.run, steps=steps, eval_every=0, log_every=1, **run)
    return replaced(dataclasses.replace(config, run=run), "optim.warmup_steps", 0)


def losses_of(run: pathlib.Path) -> list[dict[str, float]]:
    """All curves of the losses, step by step."""
    lines = (line for line in lines_of(run) if "loss" in line)
    return [{name: value for name, value in line.items() if name.endswith("loss")} for line in lines]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def config(prepared, teacher) -> Distill:
    """All losses, in two parts on each of four devices."""
    made = short(tiny.distil(prepared, teacher, **EVERY), devices=4)
    return replaced(made, "optim.micro_batches", 2)


@pytest.fixture(scope="module")
def whole(config, compiled_once, tmp_path_factory) -> pathlib.Path:
    """A store of all pieces with a file for each step. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "FILE_BYTES", 1)
        teach(config, str(folder), top_k=0)
    return folder


# --- The same losses ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(config, compiled_once, tmp_path_factory) -> list[dict[str, float]]:
    """The losses of a run whose steps run the teacher."""
    run = tmp_path_factory.mktemp("live") / "run"
    distill(config, str(run))
    return losses_of(run)


@pytest.mark.thorough
def test_all_pieces_give_the_losses_of_the_live_teacher_to_the_bit(config, whole, live, tmp_path):
    """Every loss of every step; also of one that is made again after its checkpoint was lost."""
    reading = replaced(replaced(config, "distill.store", str(whole)), "run.checkpoint_every", 1)
    run = tmp_path / "run"
    distill(reading, str(run))
    assert losses_of(run) == live
    assert len(live) == 3
    assert live[0].keys() >= {"soft_loss", "cosine_loss", "states_loss", "attention_loss", "relations_loss"}
    total = [line["total_flops"] for line in lines_of(run) if "total_flops" in line][-1]
    assert total == pytest.approx(3 * flops.train_flops_per_step(config)), "FLOPs of a teacher count"
    shutil.rmtree(run / "checkpoints/3")
    distill(reading, str(run))
    assert losses_of(run) == live


@pytest.mark.slow
def test_so_do_several_teachers_in_rows_and_batches_that_change(prepared, teacher, make_teacher, tmp_path):
    """Rows of two lengths, a batch that grows, a mask rate that falls, predictions at every token."""
    more = {"cosine_weight": 0.0, "relations_weight": 1.0, "soft_tokens": "all"}
    two = (teacher, make_teacher(seed=1))
    made = short(tiny.distil(prepared, teacher, **more, teachers=two), steps=6, batches=((4, 2),))
    for field, value in {"data.pack": False, "data.buckets": (32,), "mask.first_rate": 0.3}.items():
        made = replaced(made, field, value)
    assert teach(made, str(tmp_path / "store"), top_k=0)["rows"] > 2 * 4 + 4 * 8
    assert set(index.read_index(str(tmp_path / "store"), "").layouts) == {32, 64}
    distill(made, str(tmp_path / "live"))
    distill(replaced(made, "distill.store", str(tmp_path / "store")), str(tmp_path / "stored"))
    assert losses_of(tmp_path / "stored") == losses_of(tmp_path / "live")


@pytest.mark.thorough
def test_the_likeliest_pieces_give_the_loss_within_its_bound(prepared, teacher, tmp_path):
    """Of a student whose logits are all alike: T^2 r log(n p_k / r) smaller at most (`losses.top_cross_entropy`).

    A teacher that was trained for a dozen steps says much the same of all pieces; the temperature sharpens it.
    """
    temperature = 0.4
    made = short(tiny.distil(prepared, teacher, **SOFT_ALONE, start="random", temperature=temperature), steps=1)
    made = replaced(made, "model.init_std", 1e-6)
    figures = teach(made, str(tmp_path / "store"), top_k=64)
    distill(made, str(tmp_path / "live"))
    distill(replaced(made, "distill.store", str(tmp_path / "store")), str(tmp_path / "stored"))
    (live,), (stored,) = (losses_of(tmp_path / name) for name in ("live", "stored"))

    opened = store.open_store(str(tmp_path / "store"), "test")
    names = (targets.SOFT, targets.TAIL)
    said = store.read(opened, 1, np.arange(8), 64, names, lambda step: 8)
    used = said[targets.SOFT][..., 0] < 0
    r, p_k = np.exp(said[targets.TAIL][used]), np.exp(said[targets.SOFT][used][:, -1])
    most = np.mean(temperature**2 * r * np.log((tiny.VOCAB_SIZE - 64) * p_k / r))
    assert 0 < live["soft_loss"] - stored["soft_loss"] <= most
    assert figures["top_share"] == pytest.approx(1 - r.mean(), abs=1e-3)
    assert most < 0.5 * live["soft_loss"], "the bound says little"


@pytest.fixture(scope="module")
def fewer(config) -> Distill:
    """One step, and not all of the losses."""
    distillation = dataclasses.replace(config.distill, **dict.fromkeys(EVERY, 0.0))
    return dataclasses.replace(short(config, steps=1), distill=distillation)


@pytest.mark.thorough
def test_one_store_serves_runs_with_fewer_losses_and_steps(fewer, whole, live, tmp_path):
    """At step 1 each loss is what it is beside others."""
    distill(replaced(fewer, "distill.store", str(whole)), str(tmp_path / "run"))
    (found,) = losses_of(tmp_path / "run")
    assert found == {name: live[0][name] for name in found} | {"loss": found["loss"]}
    assert found.keys() == {"loss", "soft_loss", "mlm_loss", "cosine_loss"}


@pytest.mark.thorough
def test_the_step_does_not_run_the_teacher():
    """Nothing of the teacher's width 48 is in the program, neither parameters nor states."""
    student, wide = tiny.bert(), tiny.bert(num_layers=3, hidden_size=48, embed_size=48)
    made = Distill(model=student, data=dataclasses.replace(Distill().data, length=16, batch_rows=4, pair_task="none"))
    made = dataclasses.replace(made, distill=dataclasses.replace(made.distill, cosine_weight=0.0))
    mesh = sharding.make_mesh(1)
    given = (
        Teacher("teacher", wide, init_params(PretrainingModel(wide), jax.random.key(0)), "").reduced(made).described()
    )
    K = 3 + made.data.window_slots
    layout = tuple(
        records.Entry(name, kind, shape)
        for name, kind, shape in (
            (targets.IDS, "uint16", (K, 64)),
            (targets.SOFT, "float32", (K, 64)),
            (targets.TAIL, "float32", (K,)),
        )
    )
    special = {"pad": 0, "cls": 2, "sep": 3, "mask": 4}
    programs = []
    for stored in ({}, {16: layout}):
        parts = make_distillation(made, "float32", mesh, special, teachers=(given,), stored=stored, in_floats="float32")
        assert len(parts.teachers) == (0 if stored else 1)
        programs.append(lower(made, parts, mesh).as_text())
    live, stored = ("x48x" in program for program in programs)
    assert live
    assert not stored


# --- Interruptions ---------------------------------------------------------------------------------------------------


def test_a_store_that_was_interrupted_ends_with_the_same_bytes(config, whole, tmp_path, monkeypatch, capsys):
    """In the middle of its second file."""
    out = tmp_path / "store"
    monkeypatch.setattr(writing, "FILE_BYTES", 1)
    appended = iter(range(2))
    real = writing.append

    def append(writer, layout, arrays):
        if next(appended, None) is None:
            raise KeyboardInterrupt
        real(writer, layout, arrays)

    monkeypatch.setattr(writing, "append", append)
    with pytest.raises(KeyboardInterrupt):
        teach(config, str(out), top_k=0)
    assert {"teacher-00001.array_record", "teacher-00002.array_record"} & content(out).keys() == {
        "teacher-00001.array_record"
    }
    with pytest.raises(UserError, match=r"store is not complete; the `bertlite teach` that began it goes on with it"):
        distill(replaced(config, "distill.store", str(out)), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(writing, "append", real)
    teach(config, str(out), top_k=0)
    assert "has 2 steps already" in capsys.readouterr().out
    assert content(out) == content(whole)


def test_only_files_that_are_missing_are_written_again(config, whole, tmp_path, monkeypatch):
    """Such as a damaged one that was removed: the others stay as they are."""
    out = tmp_path / "store"
    shutil.copytree(whole, out)
    removed, others = (
        out / "teacher-00001.array_record",
        [out / f"teacher-0000{number}.array_record" for number in (0, 2)],
    )
    removed.unlink()
    before = [file.stat().st_ino for file in others]
    monkeypatch.setattr(writing, "FILE_BYTES", 1)
    teach(config, str(out), top_k=0)
    assert content(out) == content(whole)
    assert [file.stat().st_ino for file in others] == before


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_bytes(prepared, teacher, compiled, tmp_path):
    """Kill -9 while a file is written, and between two; in processes of their own."""
    made = replaced(short(tiny.distil(prepared, teacher), steps=40), "data.batch_rows", 8)
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"from bertlite_jax.config import *\nconfig = {made!r}\n")
    code = (
        "import sys; from bertlite_jax.data.teaching import writing; writing.FILE_BYTES = 500_000; "
        "from bertlite_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )

    def start(out: pathlib.Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, "teach", str(recipe), "--out", str(out)]
        given = caching_environment(compiled, devices=1)
        return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    output, _ = start(tmp_path / "left").communicate(timeout=300)
    assert index.read_index(str(tmp_path / "left"), "test").complete, output
    killed = tmp_path / "killed"
    for wanted in (2, 5):
        process = start(killed)
        wait_for(lambda wanted=wanted: len(list(killed.glob("teacher-*"))) >= wanted, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    output, _ = start(killed).communicate(timeout=300)
    assert "steps already" in output
    assert content(killed) == content(tmp_path / "left")


# --- Refusals --------------------------------------------------------------------------------------------------------


def changed(config: Distill, fields: dict) -> Distill:
    for field, value in fields.items():
        config = replaced(config, field, value)
    return config


OTHERS = [
    ({"run.seed": 1}, "was written with run.seed = 0, not 1"),
    ({"data.batch_rows": 16}, "was written with data.batch_rows = 8, not 16"),
    ({"mask.rate": 0.2}, "was written with mask.rate = 0.15, not 0.2"),
    ({"mask.scheme": "word"}, "was written with mask.scheme = token, not word"),
    ({"mask.first_rate": 0.3}, "was written with mask.first_rate = 0.0, not 0.3"),
    ({"distill.temperature": 3.0}, "was written with distill.temperature = 2.0, not 3.0"),
]


@pytest.mark.parametrize(("fields", "message"), OTHERS, ids=str)
def test_a_store_of_another_run_is_refused_before_anything_is_written(config, whole, tmp_path, fields, message):
    before = content(whole)
    with pytest.raises(UserError, match=message) as refused:
        distill(changed(config, fields | {"distill.store": str(whole)}), str(tmp_path / "run"))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=message):
        teach(changed(config, fields), str(whole), top_k=0)
    assert content(whole) == before
    assert not (tmp_path / "run").exists()


def test_so_is_one_of_other_corpora_or_another_teacher(config, prepared, make_teacher, whole, tmp_path):
    """Which are compared by their hashes."""
    reading = replaced(config, "distill.store", str(whole))
    with pytest.raises(UserError, match=r"with other teachers \(SHA-256 [0-9a-f]{12}, not [0-9a-f]{12}\)"):
        distill(replaced(reading, "distill.teachers", (make_teacher(seed=1),)), str(tmp_path / "run"))
    other = tmp_path / "corpus"
    shutil.copytree(prepared.corpus, other)
    meta = other / "corpus.json"
    meta.write_text(meta.read_text() + "\n")
    with pytest.raises(UserError, match=r"with other corpora \(SHA-256 [0-9a-f]{12}, not [0-9a-f]{12}\)"):
        distill(replaced(reading, "data.corpus", (str(other),)), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"run.steps": 4}, r"store has 3 steps, and run.steps = 4; write one with `bertlite teach`"),
        ({"distill.relation_layer": 1}, r"store lacks what distill.relations_weight compares"),
        ({"distill.layers": (1, 2)}, r"store lacks what distill.states_weight compares"),
        ({"distill.store": "nowhere"}, r"nowhere is no store of a teacher \(no store.json\)"),
    ],
    ids=str,
)
def test_a_store_that_lacks_something_is_refused(config, whole, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        distill(changed(config, {"distill.store": str(whole), **fields}), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_run_does_not_go_on_with_another_store(fewer, whole, tmp_path):
    """Of the same rows and teachers, but not the same file."""
    place = tmp_path / "store"
    shutil.copytree(whole, place)
    reading = replaced(fewer, "distill.store", str(place))
    distill(reading, str(tmp_path / "run"))
    meta = place / "store.json"
    meta.write_text(json.dumps(json.loads(meta.read_text())))
    with pytest.raises(UserError, match=r"was started with other records than .*store now holds"):
        distill(reading, str(tmp_path / "run"))


@pytest.mark.thorough
def test_the_command_writes_what_a_run_reads(prepared, teacher, tmp_path, capsys):
    recipe = tmp_path / "recipe.py"
    made = short(tiny.distil(prepared, "elsewhere", **SOFT_ALONE), steps=1)
    recipe.write_text(f"from bertlite_jax.config import *\nconfig = {made!r}\n")
    given = [str(recipe), "--teacher", teacher]
    assert main(["teach", *given]) == 2
    assert "name the folder of the store with --out, or set distill.store" in capsys.readouterr().err
    assert main(["teach", *given, "--out", str(tmp_path / "store"), "--top-k", "-1"]) == 2
    states = ["--distill.soft-weight", "0", "--distill.states-weight", "1"]
    assert main(["teach", *given, *states, "--out", str(tmp_path / "store"), "--top-k", "8"]) == 2
    assert "--top-k 8 has no effect, since no loss compares predictions" in capsys.readouterr().err
    assert main(["teach", *given, "--out", str(tmp_path / "store"), "--run.distributed"]) == 2
    assert "a store is written by one process" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    assert main(["teach", *given, "--out", str(tmp_path / "store")]) == 0
    reads = [*given, "--distill.store", str(tmp_path / "store"), "--workdir", str(tmp_path / "run")]
    assert main(["distill", *reads]) == 0
    assert "the 64 likeliest pieces of each prediction, computed in float32; runs no teacher" in capsys.readouterr().out
    other = [*given, "--out", str(tmp_path / "store"), "--run.seed", "1"]
    assert main(["teach", *other]) == 2
    assert main(["teach", *other, "--overwrite"]) == 0
    assert main(["distill", *reads]) == 2
    assert "was written with run.seed = 1, not 0" in capsys.readouterr().err
