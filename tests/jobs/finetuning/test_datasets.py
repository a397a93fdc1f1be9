"""`bertlite finetune --data hf://datasets/...`: a split is read as a file of one's own would be."""

import json
import pathlib

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.finetune import Examples
from bertlite_jax.data import tasks
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits

datasets = pytest.importorskip("datasets")
pytestmark = [
    # Of pyarrow and pandas, on their way through `datasets`.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROOT = pathlib.Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/0.1.0"


@pytest.fixture
def place(tmp_path, monkeypatch) -> str:
    """Reviews with the names of their labels, in two splits; the cache is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    hub_datasets.copied_split.cache_clear()
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )

    def part(count: int):
        texts = [f"It was {'fine' if number % 2 else 'dull'}, all {number} of it." for number in range(count)]
        return datasets.Dataset.from_dict(
            {"text": texts, "label": [number % 2 for number in range(count)]}, features=features
        )

    (tmp_path / "reviews").mkdir()
    for name, count in (("train", 60), ("test", 20)):
        part(count).to_parquet(str(tmp_path / "reviews" / f"{name}.parquet"))
    datasets.DatasetDict({"train": part(60), "test": part(20)}).save_to_disk(str(tmp_path / "saved"))
    return "hf://datasets/./reviews?split=train"


@pytest.mark.parametrize("folder", ["reviews", "saved"])
def test_a_split_is_a_task_with_the_names_of_its_labels(folder, place):
    data = Examples(
        folder=f"hf://datasets/./{folder}?split=train", validation_file=f"hf://datasets/./{folder}?split=test"
    )
    task = task_splits.task_of(data)
    assert task.head.labels == ("bad", "good")
    assert task.name == folder
    examples = {split: list(task_splits.examples_of(task, data, split)) for split in ("train", "validation")}
    assert [len(examples[split]) for split in ("train", "validation")] == [60, 20]
    assert examples["train"][0].text == "It was dull, all 0 of it."
    assert [example.label for example in examples["validation"][:2]] == [0, 1]


def test_the_command_trains_on_it_and_resumes_only_with_the_same_examples(place, tmp_path, monkeypatch, capsys):
    """And the run says which commit it has read, as if the dataset lay on the hub."""
    monkeypatch.setattr(hub_datasets, "commits", lambda places, job: {place: "c" * 40} if place in places else {})
    run = tmp_path / "run"
    command = ["finetune", str(ROOT / "tests/golden/recipe_finetune.py"), "--data", place, "--workdir", str(run)]
    command += ["--init", str(GOLDEN / "hf"), "--run.steps", "2"]
    assert main(command) == 0
    assert json.loads((run / "config.json").read_text())["data"]["folder"] == place
    assert json.loads((run / "summary.json").read_text())["task"] == "reviews"
    assert json.loads((run / "environment.json").read_text())["hub"] == {place: "c" * 40}
    capsys.readouterr()
    assert main(command) == 0
    assert "is finished already" in capsys.readouterr().out
    texts = [f"It is {'good' if number % 2 else 'bad'} {number}." for number in range(60)]
    changed = datasets.Dataset.from_dict({"text": texts, "label": [number % 2 for number in range(60)]})
    changed = changed.cast_column("label", datasets.ClassLabel(names=["bad", "good"]))
    changed.to_parquet(str(tmp_path / "reviews/train.parquet"))
    hub_datasets.copied_split.cache_clear()  # As another process would begin.
    assert main(command) == 2
    assert "was started with other data" in capsys.readouterr().err


def test_what_is_wrong_is_one_line(place, capsys):
    for changed, message in (
        (place.replace("train", "dev"), "no split 'dev'; name one with split=: "),
        (f"{place}&field=text", "field= is for text; --data.text-column names the column of the examples"),
    ):
        with pytest.raises(UserError, match="finetune: ") as refused:
            task_splits.task_of(Examples(folder=changed))
        assert message in str(refused.value)
    with pytest.raises(UserError, match=r"--task sst2 reads the task's own files; leave it out to read hf://datasets"):
        task_splits.task_of(Examples(task="sst2", folder=place))
    assert main(["finetune", "finetune_glue", "--init", place, "--workdir", "w"]) == 2
    assert capsys.readouterr().err.startswith(f"init: {place} is a dataset; only text, --data and")


def test_a_copy_has_the_classes_that_the_dataset_names(place):
    copy = hub_datasets.copied_split(place, "finetune")
    assert tasks.task_of_file(copy).head.labels == ("bad", "good")
    assert pathlib.Path(copy).name == "reviews-train.parquet"
