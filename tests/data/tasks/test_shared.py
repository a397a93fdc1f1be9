"""Real files of the tasks: as many examples as their makers say, and what a few of them are."""

from collections import Counter

import pytest
from task_files import counted, examples, label_of

from bertlite_jax.data import tasks

NOTHING_ODD: dict[str, int] = {}

COUNTS = {
    ("glue", "cola"): (8551, 1043, None),
    ("glue", "sst2"): (67349, 872, 1821),
    ("glue", "mrpc"): (3668, 408, 1725),
    ("glue", "stsb"): (5749, 1500, None),
    ("glue", "rte"): (2490, 277, 3000),
    ("glue", "wnli"): (635, 71, None),
    ("glue", "qnli"): (9999, 4787, None),
    ("glue", "qqp"): (8999, 1000, None),
    ("glue", "mnli"): (8999, 1000, None),
    ("squad", "squad1"): (7622, 1490, None),
    ("squad", "squad2"): (6307, 2842, None),
    ("race", "race_middle"): (25421, 1436, None),
    ("race", "race_high"): (12469, 3451, None),
    (".", "chnsenticorp"): (9146, 1200, 1200),
    (".", "mit_movies"): (7034, 782, 1953),
}
"""Suite's folder and task: training, validation and test examples, as the description of the data has them."""

ODD = {
    ("race_high", "train"): {"passages_without_questions": 1},
    ("squad1", "train"): {"answers": 24719},
    ("squad1", "validation"): {"answers": 5204},
    ("squad2", "train"): {"answers": 10431, "without_answer": 3288},
    ("squad2", "validation"): {"answers": 5147, "without_answer": 1367},
}


@pytest.mark.parametrize(("folder", "name"), COUNTS)
def test_every_example_of_a_real_task_is_read(shared, folder, name):
    for split, number in zip(("train", "validation", "test"), COUNTS[folder, name], strict=False):
        if number is None:
            continue
        found = counted(name, shared / folder, split)
        unlabelled = found.pop("unlabelled", 0)
        assert found == {"examples": number} | ODD.get((name, split), NOTHING_ODD)
        assert unlabelled in ((0, number) if split == "test" else (0,))


def test_two_of_three_sentences_of_cola_and_of_mrpc_are_good(shared):
    for name, positive, number in (("cola", 6023, 8551), ("mrpc", 2474, 3668)):
        labels = Counter(example.label for example in examples(name, shared / "glue"))
        assert labels == {1: positive, 0: number - positive}


@pytest.mark.parametrize(
    ("name", "folder", "copies"),
    [
        ("mnli", "MNLI", {"train": "train.tsv", "dev_matched": "dev_matched.tsv"}),
        ("qqp", "QQP", {"train": "train.tsv", "dev": "dev.tsv"}),
    ],
)
def test_rows_with_every_official_column_are_read(shared, tmp_path, name, folder, copies):
    for official, usual in copies.items():
        source = shared / "glue" / folder / f"official_layout_{official}.tsv"
        (tmp_path / usual).write_bytes(source.read_bytes())
        split = "train" if usual == "train.tsv" else "validation"
        read = examples(name, tmp_path, split)
        assert len(read) == source.read_bytes().count(b"\n") - 1
        assert {label_of(name, example) for example in read} == set(tasks.TASKS[name].head.labels)
        assert not any("( " in example.text[:2] or "(ROOT" in example.text for example in read)
