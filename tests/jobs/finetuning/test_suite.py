"""A suite of tasks in one command: what is there is trained, what is missing is named, published rows stand beside."""

import json
import pathlib
import shutil

import pytest
from toy_task import recipe, sentences, write_sst2

from bertlite_jax.cli.main import main
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning import suite

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> str:
    """SST-2, MNLI with both validation sets, and RTE; nothing else of GLUE."""
    place = tmp_path_factory.mktemp("glue")
    write_sst2(place, train=32, dev=13)
    labels = ("contradiction", "entailment", "neutral")
    for folder, files, label in (
        ("MNLI", ("train", "dev_matched", "dev_mismatched"), "gold_label"),
        ("RTE", ("train", "dev"), "label"),
    ):
        (place / folder).mkdir()
        for name in files:
            named = labels if folder == "MNLI" else ("entailment", "not_entailment")
            rows = [f"{i}\t{text}\t{text}\t{named[i % len(named)]}\n" for i, (text, _) in enumerate(sentences(18, 4))]
            (place / folder / f"{name}.tsv").write_text(f"index\tsentence1\tsentence2\t{label}\n" + "".join(rows))
    return str(place)


@pytest.fixture(scope="module")
def run(encoder, glue, tmp_path_factory) -> pathlib.Path:
    place = tmp_path_factory.mktemp("suite")
    suite.finetune_suite("all-glue", lambda task: recipe(glue, task, run={"steps": 1}), str(place), encoder)
    return place


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.thorough
def test_every_task_whose_files_are_there_has_a_run_and_the_others_are_named(run):
    summary = read(run / "summary.json")
    assert set(summary["tasks"]) == {"mnli", "sst2", "rte"}
    assert set(summary["left_out"]) == {"cola", "mrpc", "stsb", "qqp", "qnli", "wnli"}
    assert "no train file of cola" in summary["left_out"]["cola"]
    assert summary["average"] is None
    for task in summary["tasks"]:
        assert read(run / task / "summary.json") == summary["tasks"][task]


@pytest.mark.thorough
def test_rte_starts_from_the_suites_model_for_mnli_and_the_rest_from_the_encoder(run, encoder):
    starts = {task: read(run / task / "config.json")["init"] for task in ("mnli", "sst2", "rte")}
    assert starts == {"mnli": encoder, "sst2": encoder, "rte": str(run / "mnli")}


@pytest.mark.thorough
def test_the_table_has_our_percents_and_the_published_rows(run):
    summary = read(run / "summary.json")
    ours, bert, *_, albert = summary["table"]
    assert ours["model"] == "this run"
    assert ours["cola"] == ""
    assert ours["sst2"] == f"{100 * summary['tasks']['sst2']['accuracy']:.1f}"
    assert (bert["model"], bert["cola"], bert["mrpc"]) == ("BERT-large", "60.6", "88.0")
    # Lan et al. 2020, table 9, last row.
    assert [albert[name] for name in ("mnli", "qnli", "qqp", "rte", "sst2", "mrpc", "cola", "stsb")] == (
        ["90.8", "95.3", "92.2", "89.2", "96.9", "90.9", "71.4", "93.0"]
    )


@pytest.mark.thorough
def test_the_same_command_reads_what_has_ended(run, encoder, glue):
    before = {task: (run / task / "summary.json").stat().st_mtime_ns for task in ("mnli", "sst2", "rte")}
    summary = suite.finetune_suite("all-glue", lambda task: recipe(glue, task, run={"steps": 1}), str(run), encoder)
    assert {task: (run / task / "summary.json").stat().st_mtime_ns for task in before} == before
    assert summary["table"] == read(run / "summary.json")["table"]


def test_the_average_is_the_suites_when_all_its_tasks_are_there():
    found = {
        "cola": {"mcc": 0.605},
        "sst2": {"accuracy": 0.949},
        "mrpc": {"f1": 0.893, "accuracy": 0.854},
        "stsb": {"pearson": 0.876, "spearman": 0.865},
        "qqp": {"f1": 0.721, "accuracy": 0.893},
        "mnli": {"accuracy": 0.867, "validation_mismatched_accuracy": 0.859},
        "qnli": {"accuracy": 0.927},
        "rte": {"accuracy": 0.701},
        "wnli": {"accuracy": 0.651},
    }
    # The leaderboard's row of BERT-large.
    assert round(suite.average("glue", found) or 0, 1) == 80.5
    del found["wnli"]
    assert suite.average("glue", found) is None


@pytest.mark.parametrize("content", ["", "index\tsentence1\tsentence2\tlabel\n"])
def test_a_damaged_file_of_a_later_task_is_found_before_the_first_one_trains(content, encoder, glue, tmp_path):
    shutil.copytree(glue, tmp_path / "glue")
    (tmp_path / "glue" / "RTE" / "train.tsv").write_text(content)
    with pytest.raises(UserError, match=r"RTE/train\.tsv|rte: the split train"):
        suite.finetune_suite(
            "all-glue", lambda task: recipe(str(tmp_path / "glue"), task), str(tmp_path / "R"), encoder
        )
    assert not (tmp_path / "R").exists()


def test_a_folder_without_any_task_of_the_suite_is_refused(encoder, tmp_path):
    with pytest.raises(UserError, match="has no task of superglue"):
        suite.finetune_suite("all-superglue", lambda task: recipe(str(tmp_path), task), str(tmp_path / "run"), encoder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "all-gleu"], "is not a suite; did you mean all-glue"),
        (["--task", "all-glue", "--sweep"], "cannot be combined with --sweep or --probe"),
    ],
)
def test_what_a_suite_cannot_be_is_said_in_one_line(arguments, message, tmp_path, capsys):
    places = ["--data", str(tmp_path), "--init", "x", "--workdir", str(tmp_path / "run")]
    assert main(["finetune", "configs/finetune_glue.py", *arguments, *places]) == 2
    assert message in capsys.readouterr().err
