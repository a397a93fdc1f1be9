"""An option that a job does not have, or a value that it cannot have: one line with what would be right."""

import io
import pathlib
import sys

import pytest
import thorough

from bertlite_jax.cli.bench import BENCHMARKS
from bertlite_jax.cli.convert import FORMATS
from bertlite_jax.cli.main import JOBS, main
from bertlite_jax.cli.options import call
from bertlite_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEBUG, GLUE = str(ROOT / "configs" / "debug_cpu.py"), str(ROOT / "configs" / "finetune_glue.py")
GRID, BORT = str(ROOT / "configs" / "ablate_residual_scale.py"), str(ROOT / "configs" / "distil_bort.py")
SEARCH = str(ROOT / "configs" / "search_debug.py")
NAMED = {
    **{
        "pretrain": [DEBUG],
        "distill": [BORT],
        "teach": [BORT],
        "compile": [DEBUG],
        "finetune": [GLUE],
        "agora": [GLUE],
        "ablate": [GRID],
        "search": [SEARCH],
    },
    **{"predict": ["run"], "embed": ["run"], "evaluate": ["run"], "fill-mask": ["run", "text"], "report": ["run"]},
    "prune": ["run"],
    "compress": ["run"],
}
"""What the jobs want to be named, beside options."""
COMMANDS = [
    *([job.name, *NAMED.get(job.name, [])] for job in JOBS if job.name not in ("convert", "bench")),
    *(["convert", job.name, "run", "out"] for job in FORMATS),
    *(
        ["bench", job.name, *(["run"] if job.name in ("finetune", "learn", "distill", "predictions") else [])]
        for job in BENCHMARKS
    ),
    ["compile", "--table=table.md"],
]


FINETUNE, PRETRAIN = ("finetune", GLUE, "--workdir", "R", "--init", "I"), ("pretrain", DEBUG, "--workdir", "R")
MEANT = {
    (*FINETUNE, "--lr", "1e-4"): "--optim.learning-rate",
    (*FINETUNE, "--learning_rate=1e-4"): "--optim.learning-rate",
    (*FINETUNE, "--bs", "8"): "--data.batch-examples",
    (*FINETUNE, "--batch-size", "8"): "--data.batch-examples",
    (*FINETUNE, "--epochs", "8"): "--run.epochs",
    (*FINETUNE, "--num-train-epochs", "8"): "--run.epochs",
    (*FINETUNE, "--seed", "8"): "--run.seed",
    (*FINETUNE, "--max-seq-length", "8"): "--data.length",
    (*FINETUNE, "--optm.weight-decy", "8"): "--optim.weight-decay",
    ("finetune", GLUE, "--output-dir", "R", "--init", "I"): "--workdir",
    (*PRETRAIN, "--lr", "1e-4"): "--optim.learning-rate",
    (*PRETRAIN, "--batch-size", "8"): "--data.batch-rows",
    (*PRETRAIN, "--max-steps", "8"): "--run.steps",
}
"""What people type who know other programs, and what they mean."""


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.rstrip("\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_job_refuses_an_option_that_it_does_not_have(command, capsys):
    line = refused([*command, "--option-that-does-not-exist", "1"], capsys)
    assert line.startswith(f"{command[0]}: unknown option --option-that-does-not-exist; ")
    assert line.endswith("--help lists those that there are")


@pytest.mark.parametrize("arguments", MEANT, ids=lambda words: " ".join(pathlib.Path(word).name for word in words))
def test_the_names_of_other_programs_lead_to_ours(arguments, capsys):
    assert refused(list(arguments), capsys).endswith(f"; did you mean {MEANT[arguments]}?")


@pytest.mark.parametrize(
    ("job", "name", "example"),
    [
        ("finetune", "tune.py", "finetune_glue"),
        ("agora", "tune.py", "finetune_glue"),
        ("pretrain", "albert.py", "albert_base"),
        ("search", "bort.py", "search_bort"),
    ],
)
def test_a_missing_recipe_leads_to_one_of_the_right_kind(job, name, example, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused([job, name], capsys)
    tunes = job in ("finetune", "agora")
    assert line.startswith(f"config: {name} does not exist; did you mean ")
    named = line.rstrip("?").split("did you mean ")[1].split(", ")
    assert example in named
    assert all(("finetune" in word, "search" in word) == (tunes, job == "search") for word in named)
    assert (
        refused([job], capsys) == f"{job}: the first argument is a recipe, by its name or path, for example {example}"
    )
    wrong = DEBUG if tunes else GLUE
    assert refused([job, wrong], capsys).endswith(f", for example {example}")


LINES = {
    ("pretrain", DEBUG, "--workdir", "R", "--optim.learing-rate", "1e-3"): (
        "pretrain: unknown option --optim.learing-rate; did you mean --optim.learning-rate?"
    ),
    ("pretrain", DEBUG, "--workdir", "R", "--steps=5"): "pretrain: unknown option --steps; did you mean --run.steps?",
    ("pretrain", DEBUG, "--workdr", "R"): "pretrain: unknown option --workdr; did you mean --workdir?",
    ("search", SEARCH, "--workdir", "S", "--method.strid", "3"): (
        "search: unknown option --method.strid; did you mean --method.stride?"
    ),
    ("search", SEARCH): f"search: --workdir is missing; bertlite search {SEARCH} --help explains the options",
    ("pretrain", DEBUG): f"pretrain: --workdir is missing; bertlite pretrain {DEBUG} --help explains the options",
    ("finetune", GLUE): (
        f"finetune: --workdir, --init are missing; bertlite finetune {GLUE} --help explains the options"
    ),
    ("finetune", GLUE, "--workdir", "R", "--init", "I", "--data.no-pak"): (
        "finetune: unknown option --data.no-pak; did you mean --data.no-pack?"
    ),
    ("predict",): "predict: RUN is missing; bertlite predict --help explains the options",
    ("predict", "run", "--inptu", "a.txt"): "predict: unknown option --inptu; did you mean --input?",
    ("predict", "run", "texts.txt"): (
        "predict: texts.txt is an argument too many; bertlite predict --help lists those that there are"
    ),
    ("embed", "run", "--pool", "max"): "embed: --pool max is unknown; known: auto, mean, cls, tokens",
    ("embed", "run", "--pool", "tokns"): "embed: --pool tokns is unknown; did you mean tokens?",
    ("convert", "to-hf", "run", "out", "--familly", "bert"): (
        "convert: unknown option --familly; did you mean --family?"
    ),
}


@pytest.mark.parametrize("arguments", LINES, ids=lambda words: " ".join(pathlib.Path(word).name for word in words))
def test_the_line_names_the_option_and_what_would_be_right(arguments, capsys):
    assert refused(list(arguments), capsys) == LINES[arguments]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--run.steps", "many"), ("--run.steps", "1.5"), ("--optim.learning-rate", "fast"), ("--run.depths", "3")],
)
def test_a_value_of_another_kind_is_told_with_its_option(option, value, capsys):
    line = refused(["pretrain", DEBUG, "--workdir", "R", option, value], capsys)
    assert line.startswith(f"pretrain: {option}: ")
    assert value in line


def test_a_value_that_is_missing_is_told_with_its_option(capsys):
    line = refused(["predict", "run", "--input"], capsys)
    assert line == "predict: --input needs a value; bertlite predict --help explains the options"


class Terminal(io.StringIO):
    """A terminal with colours, in which tyro draws frames."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", thorough.but(["40"], ["40", "200"]))
@pytest.mark.parametrize("terminal", [Terminal, io.StringIO], ids=["colours and frames", "neither"])
def test_the_line_is_the_same_on_every_terminal(terminal, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    for arguments, line in LINES.items():
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", terminal())
            code = main(list(arguments))
        assert (code, capsys.readouterr().err) == (2, f"{line}\n")


def test_what_a_job_prints_and_raises_itself_is_not_touched(capsys):
    def job(name: str) -> None:
        print(f"to {name}", file=sys.stderr)
        raise SystemExit(3)

    with pytest.raises(SystemExit) as left:
        call(job, ["--name", "stderr"], "bertlite job")
    assert left.value.code == 3
    assert capsys.readouterr().err == "to stderr\n"
    with pytest.raises(UserError, match=r"^job: --name is missing; "):
        call(job, [], "bertlite job")
