"""The command line: helps, names what is wrong in one line, and leaves with the right code."""

import pathlib
import subprocess
import sys

import pytest

import bertlite_jax
from bertlite_jax.cli.bench import BENCHMARKS
from bertlite_jax.cli.convert import FORMATS
from bertlite_jax.cli.job import Job
from bertlite_jax.cli.main import JOBS, main
from bertlite_jax.errors import Diverged, UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEBUG = str(ROOT / "configs" / "debug_cpu.py")


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [([], JOBS), (["--help"], JOBS), (["bench", "-h"], BENCHMARKS), (["convert", "--help"], FORMATS)],
    ids=["bertlite", "--help", "bench", "convert"],
)
def test_help_lists_every_job_of_the_table(arguments, jobs, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [job.name for job in jobs]


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bertlite_jax {bertlite_jax.__version__}\n"
    assert main(["--help"]) == 0
    assert "`bertlite --version`" in capsys.readouterr().out


def test_jobs_that_train_store_their_programs():
    assert all(job.compiles for job in JOBS if job.trains)
    trains = {"pretrain", "distill", "search", "finetune", "agora", "prune", "compress", "quickstart"}
    assert {job.name for job in JOBS if job.trains} == trains


def test_help_explains_each_field_with_its_unit(capsys):
    with pytest.raises(SystemExit) as left:
        main(["pretrain", DEBUG, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert left.value.code == 0
    for words in ("--optim.learning-rate", "Steps of linear warm-up", "--data.batch-rows", "--model.share"):
        assert words in shown


def test_a_recipe_of_an_older_version_is_refused_in_one_line(tmp_path, capsys, recwarn):
    recipe = tmp_path / "old.py"
    recipe.write_text(
        "from bertlite_jax.config.pretrain import Pretrain, Run\nconfig = Pretrain(run=Run(depths='3:20000,6:50000'))\n"
    )
    assert main(["pretrain", str(recipe), "--workdir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        f"config: {recipe}: run.depths = '3:20000,6:50000' should be numbers: depths=((3, 20000), (6, 50000)) in a "
        "recipe, --run.depths 3 20000 6 50000 on the command line\n"
    )
    assert not recwarn.list


def test_unknown_jobs_are_refused_with_the_nearest_known(capsys):
    assert main(["pretrian"]) == 2
    assert capsys.readouterr().err == "bertlite: unknown job pretrian; did you mean pretrain?\n"
    assert main(["convert", "to-fh"]) == 2
    assert capsys.readouterr().err == "convert: unknown format to-fh; did you mean to-hf?\n"
    assert main(["bench", "trian"]) == 2
    assert capsys.readouterr().err == "bench: unknown benchmark trian; did you mean train?\n"
    assert main(["bench"]) == 2
    assert capsys.readouterr().err.startswith("bench: name a benchmark: data, train, learn, distill, scale")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--optim.learing-rate", "1e-3"], "--optim.learning-rate"),
        (["--run.steps", "many"], "--run.steps"),
        (["--model.share", "some"], "--model.share"),
    ],
)
def test_wrong_options_leave_with_code_2_and_write_nothing(arguments, named, tmp_path, capsys):
    assert main(["pretrain", DEBUG, "--workdir", str(tmp_path / "run"), *arguments]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("config = Pretrain(", ":2: "),
        ("config = Pretrain(modle=Model())", "modle"),
        ("other = 1", "does not assign the name `config`"),
        ("config = Model()", "config is a Model, pretrain needs a Pretrain"),
    ],
)
def test_a_broken_config_file_is_named(content, message, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(f"from bertlite_jax.config import *\n{content}\n")
    assert main(["pretrain", str(path), "--workdir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert error.count("\n") == 1


def test_a_missing_config_file_is_named(tmp_path, capsys):
    assert main(["pretrain", "nowhere.py", "--workdir", str(tmp_path / "run")]) == 2
    assert "nowhere.py does not exist" in capsys.readouterr().err


def test_a_user_error_in_the_real_process_is_one_line_and_code_2(tmp_path):
    """No traceback, nothing on standard output, nothing written."""
    command = [sys.executable, "-m", "bertlite_jax", "evaluate", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_takes_the_options_that_its_errors_name(tmp_path, capsys):
    """--on-bad-text replace and --overwrite."""
    text = tmp_path / "text.txt"
    text.write_bytes("".join(f"line {n} says {chr(97 + n % 26) * 3}\n" for n in range(200)).encode() + b"\xff\n")
    command = ["tokenizer", str(text), "--out", str(tmp_path / "made"), "--vocab-size", "80"]
    assert main(command) == 2
    assert "pass --on-bad-text replace" in capsys.readouterr().err
    command += ["--on-bad-text", "replace"]
    assert main(command) == 0
    assert main(command) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("corpus: wrong"), 2, "corpus: wrong\n"),
        (Diverged("pretrain: step 3: loss nan"), 1, "pretrain: step 3: loss nan\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_is_no_mistake_of_ours_ends_in_one_line(error, code, line, monkeypatch, capsys):
    def job(args):
        raise error

    monkeypatch.setattr("bertlite_jax.cli.main.JOBS", (Job("pretrain", "", job),))
    assert main(["pretrain"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("leaves_threads", "last"), [(True, ""), (False, "at exit\n")])
def test_an_interrupted_job_that_leaves_threads_ends_at_once(leaves_threads, last):
    """Python's own ending would take the interpreter down under threads that still run."""
    program = (
        "import atexit, sys\n"
        "from bertlite_jax.cli import main\n"
        "from bertlite_jax.cli.job import Job\n"
        "def interrupt(args): raise KeyboardInterrupt\n"
        f"main.JOBS = (Job('convert', '', interrupt, leaves_threads={leaves_threads}),)\n"
        "atexit.register(lambda: print('at exit'))\n"
        "sys.argv = ['bertlite', 'convert']\n"
        "sys.exit(main.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, last, "interrupted\n")


def test_of_the_jobs_convert_leaves_threads():
    assert [job.name for job in JOBS if job.leaves_threads] == ["convert"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "run", "--rows", "-3"], "evaluate: rows = -3 cannot be negative"),
        (["evaluate", "run", "--pairs-each", "9"], "evaluate: --pairs-each has no effect without --minimal-pairs"),
        (
            ["evaluate", "run", "--minimal-pairs", "f", "--pairs-each", "-9"],
            "evaluate: --pairs-each -9 cannot be negative",
        ),
        (
            ["evaluate", "run", "--minimal-pairs", "f", "--rows", "9"],
            "evaluate: --rows has no effect with --minimal-pairs",
        ),
        (["fill-mask", "run", "a [MASK]", "--top", "0"], "fill-mask: top = 0 must be positive"),
        (["evaluate", DEBUG], f"config: {DEBUG}/config.json does not exist"),
    ],
)
def test_numbers_and_folders_that_make_no_sense_are_refused(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "RUN", "--out", ""],
        ["embed", "RUN", "--out="],
        ["embed", "RUN", "--input", "", "--out", "-"],
        ["predict", "RUN", "--metrics", ""],
        ["predict", "RUN", "--predictions="],
        ["predict", "RUN", "--task", "sst2", "--data", "d", "--submission", ""],
        ["corpus", "a.txt", "--tokenizer", "t", "--out", ""],
        ["tokenizer", "a.txt", "--out", ""],
        ["pretrain", DEBUG, "--workdir", ""],
        ["finetune", DEBUG, "--workdir", "w", "--init="],
        ["quickstart", "--workdir", ""],
        ["evaluate", "RUN", "--minimal-pairs", ""],
        ["finetune", DEBUG, "--workdir", "w", "--learn.teacher", ""],
    ],
    ids=" ".join,
)
def test_an_empty_name_of_a_file_or_folder_is_refused(arguments, tmp_path, monkeypatch, capsys):
    """As of `--out "$OUT"` where nobody has set OUT."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.endswith("is followed by an empty name; name a file or folder\n")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
