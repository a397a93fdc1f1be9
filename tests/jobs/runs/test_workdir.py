"""A work directory is made, gone on with, refused or cleared; nothing that is not a run's is ever touched."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil

import pytest

from bertlite_jax.config.files import read_json
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.runs import workdir

CONFIG = Pretrain(
    model=Model(num_layers=2),
    data=Data(corpus=("a", "b"), weights=(1.0, 2.0)),
    run=Run(steps=5000, checkpoint_every=50),
)
HERE = {
    "packages": {"jax": "0.10.2", "numpy": "2.3.0"},
    "python": "3.11.7",
    "cores": 2,
    "devices": ["cpu: cpu"],
    "cpu": "A CPU",
}


def changed(group: str, **values) -> Pretrain:
    return dataclasses.replace(CONFIG, **{group: dataclasses.replace(getattr(CONFIG, group), **values)})


def contents(folder: pathlib.Path) -> dict[str, str]:
    """{file: SHA-256}, to see that nothing was written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(folder, config=CONFIG, overwrite=False) -> str:
    """The line that the user reads. What lies in the folder is the same afterwards."""
    before = contents(folder)
    with pytest.raises(UserError) as error:
        workdir.open_workdir(folder, config, overwrite, HERE, pytest.fail)
    assert contents(folder) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def a_run(tmp_path) -> pathlib.Path:
    """A directory with all that a run writes, and one file that somebody put beside it."""
    folder = tmp_path / "runs" / "base"
    assert workdir.open_workdir(folder, CONFIG, False, HERE, pytest.fail) is False
    for name in (
        "checkpoints/50/params/x",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "tensorboard/e",
        "notes.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}\n")
    return folder


# --- Make and go on --------------------------------------------------------------------------------------------------


def test_a_new_directory_holds_the_config_and_the_environment(tmp_path):
    assert workdir.open_workdir(tmp_path / "a/b", CONFIG, False, HERE, pytest.fail) is False
    assert read_json(tmp_path / "a/b/config.json") == CONFIG
    assert json.loads((tmp_path / "a/b/environment.json").read_text()) == HERE
    assert sorted(os.listdir(tmp_path / "a/b")) == ["config.json", "environment.json"]


def test_an_empty_directory_is_as_good_as_none(tmp_path):
    assert workdir.open_workdir(tmp_path, CONFIG, False, HERE, pytest.fail) is False


def test_the_same_config_goes_on(a_run):
    before = contents(a_run)
    assert workdir.open_workdir(a_run, CONFIG, False, HERE, pytest.fail) is True
    assert contents(a_run) == before


def test_a_directory_killed_while_it_was_made_is_made_again(tmp_path):
    """Between the two files, and within the first."""
    workdir.open_workdir(tmp_path, CONFIG, False, HERE, pytest.fail)
    (tmp_path / "environment.json").unlink()
    assert workdir.open_workdir(tmp_path, CONFIG, False, HERE, pytest.fail) is True
    assert (tmp_path / "environment.json").is_file()
    os.rename(tmp_path / "config.json", tmp_path / ".config.json.0123456789ab.tmp")
    (tmp_path / "environment.json").unlink()
    assert workdir.open_workdir(tmp_path, CONFIG, False, HERE, pytest.fail) is False


def test_a_start_removes_no_files_but_those_that_a_run_was_writing(a_run):
    """The others are a user's own, and what another command is writing beside the run."""
    others = {".notes.tmp", ".config.json.tmp", ".vectors.npy.0123456789ab.tmp"}
    before = set(os.listdir(a_run))
    for name in (*others, ".metrics.jsonl.0123456789ab.tmp"):
        (a_run / name).touch()
    assert workdir.open_workdir(a_run, CONFIG, False, HERE, pytest.fail) is True
    assert set(os.listdir(a_run)) == before | others


def test_what_does_not_change_the_weights_may_change(a_run):
    run = dict(devices=1, log_every=7, eval_every=3, checkpoint_every=11, keep_last=9, keep_every=100)
    new = changed("run", **run, tensorboard=False, profile_steps=(10, 15))
    new = dataclasses.replace(new, data=dataclasses.replace(new.data, read_threads=5))
    assert workdir.open_workdir(a_run, new, False, HERE, pytest.fail) is True
    assert read_json(a_run / "config.json") == new
    assert (a_run / "checkpoints/50/params/x").exists()


# --- Refuse ----------------------------------------------------------------------------------------------------------


def test_another_config_is_refused_with_the_fields_that_differ(a_run):
    new = dataclasses.replace(changed("optim", learning_rate=0.5, name="adamw"), run=changed("run", log_every=1).run)
    line = refused(a_run, new)
    assert line.startswith(f"workdir: {a_run} holds a run with another config (")
    assert "optim.name: lamb -> adamw" in line
    assert f"optim.learning_rate: {Optim().learning_rate} -> 0.5" in line
    assert "log_every" not in line
    assert "--overwrite" in line


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("model", {"num_layers": 3}),
        ("data", {"weights": (2.0, 1.0)}),
        ("data", {"batch_rows": 8}),
        ("mask", {"rate": 0.3}),
        ("optim", {"micro_batches": 2}),
        ("run", {"seed": 1}),
    ],
)
def test_all_that_changes_the_weights_is_refused(a_run, group, values):
    assert f"{group}.{next(iter(values))}: " in refused(a_run, changed(group, **values))


@pytest.mark.parametrize("steps", [10_000, 4_000])
def test_other_steps_are_refused_because_the_schedule_depends_on_them(a_run, steps):
    line = refused(a_run, changed("run", steps=steps))
    assert f"run.steps: 5000 -> {steps}" in line
    assert "schedule depends on run.steps" in line
    assert "--init" in line


@pytest.mark.parametrize("overwrite", [False, True])
def test_somebody_elses_directory_is_refused_even_with_overwrite(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "checkpoints").mkdir()
    line = refused(tmp_path, overwrite=overwrite)
    assert "not empty (checkpoints, thesis.tex)" in line


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("text", ['{"architectures": ["AlbertModel"], "hidden_size": 768}', "[1, 2]", "no json", "{}"])
def test_another_programs_config_is_refused_even_with_overwrite(tmp_path, text, overwrite):
    """A Hugging Face model folder has a config.json and a tokenizer too."""
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/spiece.model").write_text("theirs")
    assert str(tmp_path) in refused(tmp_path, overwrite=overwrite)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="is a file; name a directory"):
        workdir.open_workdir(tmp_path / "run", CONFIG, True, HERE)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    """A file stands where the parent should be."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        workdir.open_workdir(tmp_path / "file" / "run", CONFIG, False, HERE)


# --- Overwrite -------------------------------------------------------------------------------------------------------


def test_overwrite_clears_what_a_run_writes_and_nothing_else(a_run):
    new = changed("optim", learning_rate=0.5)
    assert workdir.open_workdir(a_run, new, True, HERE, pytest.fail) is False
    assert sorted(os.listdir(a_run)) == ["config.json", "environment.json", "notes.txt"]
    assert read_json(a_run / "config.json") == new


def test_overwrite_of_nothing_is_an_ordinary_start(tmp_path):
    assert workdir.open_workdir(tmp_path / "new", CONFIG, True, HERE, pytest.fail) is False


def test_overwrite_does_not_follow_links(a_run, tmp_path):
    """Checkpoints on another disk: the link goes, what it points to stays."""
    elsewhere = tmp_path / "elsewhere"
    os.rename(a_run / "checkpoints", elsewhere)
    os.symlink(elsewhere, a_run / "checkpoints")
    workdir.open_workdir(a_run, CONFIG, True, HERE, pytest.fail)
    assert not (a_run / "checkpoints").exists()
    assert (elsewhere / "50/params/x").exists()


# --- Environment -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cores": 1}, "cores: 2 -> 1"),
        ({"packages": {"jax": "0.11.0", "numpy": "2.3.0"}}, "jax: 0.10.2 -> 0.11.0"),
        ({"devices": ["cpu: cpu"] * 8}, "devices: 1 x cpu: cpu -> 8 x cpu: cpu"),
        ({"cpu": "Another CPU"}, "cpu: A CPU -> Another CPU"),
    ],
)
def test_another_machine_goes_on_but_says_that_bits_may_differ(a_run, change, says):
    lines = []
    assert workdir.open_workdir(a_run, CONFIG, False, HERE | change, lines.append) is True
    assert len(lines) == 1
    assert says in lines[0]
    assert "may differ in its last bits" in lines[0]
    assert json.loads((a_run / "environment.json").read_text()) == HERE | change


def test_a_corpus_that_was_built_anew_is_refused(tmp_path):
    """The run would go on with other batches, and nobody would know."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "corpus.json").write_text('{"tokens": 1000}')
    first = HERE | {"corpora": workdir.environment([str(corpus)])["corpora"]}
    run = tmp_path / "run"
    assert workdir.open_workdir(run, CONFIG, False, first, pytest.fail) is False
    assert workdir.open_workdir(run, CONFIG, False, first, pytest.fail) is True
    (corpus / "corpus.json").write_text('{"tokens": 1001}')
    second = HERE | {"corpora": workdir.environment([str(corpus)])["corpora"]}
    before = contents(run)
    with pytest.raises(UserError, match=f"started with other data than {corpus} now holds"):
        workdir.open_workdir(run, CONFIG, False, second, pytest.fail)
    assert contents(run) == before
    assert workdir.open_workdir(run, CONFIG, True, second, pytest.fail) is False


@pytest.mark.parametrize(
    "content",
    ["", '{"cores": 2', "[]", "3", '{"corpora": []}', '{"packages": "jax"}', '{"devices": {}}', "\udcff", "[" * 9999],
)
def test_a_damaged_environment_is_one_line(a_run, content):
    """It is never taken for one without corpora: the data may be others."""
    (a_run / "environment.json").write_text(content, errors="surrogateescape")
    line = refused(a_run)
    assert str(a_run / "environment.json") in line
    assert line.endswith("remove the file to resume, if the corpora and the task's files are still those of the run")


def test_the_environment_is_the_real_one():
    import jax
    import numpy
    import orbax.checkpoint

    here = workdir.environment()
    assert here["packages"]["jax"] == jax.__version__
    assert here["packages"]["numpy"] == numpy.__version__
    assert here["packages"]["orbax-checkpoint"] == orbax.checkpoint.__version__
    assert set(here["packages"]) == {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"}
    assert here["cores"] == len(os.sched_getaffinity(0))
    assert len(here["devices"]) == jax.device_count()
    assert here["cpu"]
    json.dumps(here)


# --- Its tokenizer ---------------------------------------------------------------------------------------------------


def test_the_tokenizer_is_copied_once_and_compared_on_a_resume(tmp_path):
    source, run = tmp_path / "tokenizer-30k", tmp_path / "run"
    source.mkdir()
    run.mkdir()
    (source / "spiece.model").write_bytes(b"model")
    (source / "bertlite_tokenizer.json").write_text("{}")
    assert workdir.copy_tokenizer(source, run) == run / "tokenizer"
    assert contents(run / "tokenizer") == contents(source)
    assert workdir.copy_tokenizer(source, run) == run / "tokenizer"
    (source / "spiece.model").write_bytes(b"madel")
    with pytest.raises(UserError, match=r"tokenizer/spiece.model differs from .*tokenizer-30k/spiece.model"):
        workdir.copy_tokenizer(source, run)
    assert (run / "tokenizer/spiece.model").read_bytes() == b"model"


def test_no_room_for_the_tokenizer_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "t").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "t/vocab.txt").write_text("a")

    def full(source, target, **options):
        raise shutil.Error([(str(source), str(target), "[Errno 28] No space left on device: 'x'")])

    monkeypatch.setattr(workdir.shutil, "copytree", full)
    with pytest.raises(UserError, match=r"run/tokenizer cannot be written: No space left on device"):
        workdir.copy_tokenizer(tmp_path / "t", tmp_path / "run")
    assert os.listdir(tmp_path / "run") == []


def test_a_copy_that_was_killed_is_made_again(tmp_path):
    source, run = tmp_path / "t", tmp_path / "run"
    source.mkdir()
    (source / "vocab.txt").write_text("a\nb\n")
    (run / ".tokenizer.0123456789ab.tmp").mkdir(parents=True)
    (run / ".tokenizer.0123456789ab.tmp/vocab.txt").write_text("a")
    assert workdir.open_workdir(run, CONFIG, False, HERE, pytest.fail) is False
    workdir.copy_tokenizer(source, run)
    assert sorted(os.listdir(run)) == ["config.json", "environment.json", "tokenizer"]
    assert contents(run / "tokenizer") == contents(source)
