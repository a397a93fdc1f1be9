"""What tests of the loop share: pretended models, which take no time, and loops on small files of tasks."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from toy_task import FILLER, recipe

from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import FILE
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import Diverged
from bertlite_jax.jobs.agora import agora, ground, history, mistakes, rounds


class Killed(Exception):
    """The process ends here."""


@dataclasses.dataclass
class Pretended:
    """Takes the place of `finetune` and of `open_model`.

    Attributes:
      score: recipe and number of points -> the task's first metric.
      wrong: a model answers about one example of so many wrongly, which ones depends on its folder; 0: none.
      teacher_wrong: the same of the folder `teacher`.
      kill_at: the training with this number, from 1, ends the process; 0: none.
      killed: what ends it.
      trained: recipes of all models whose training ended.
      answers: folders for what a teacher answers.
    """

    score: Callable[[Finetune, int], float]
    wrong: int = 4
    teacher_wrong: int = 0
    kill_at: int = 0
    killed: type[Exception] = Killed
    trained: list[Finetune] = dataclasses.field(default_factory=list)
    answers: set[pathlib.Path] = dataclasses.field(default_factory=set)
    metrics: tuple[str, ...] = ("accuracy",)

    def finetune(self, config: Finetune, run: str, init: str, answers: pathlib.Path) -> dict[str, Any]:
        """Leaves the folder of a run, and says what `finetune` says."""
        self.answers.add(answers)
        if self.kill_at == len(self.trained) + 1:
            self.kill_at = 0
            raise Killed
        added = config.data.added_file
        points = len(pathlib.Path(added).read_text(encoding="utf-8").split("\n")) - 1 if added else 0
        score = self.score(config, points)
        self.trained.append(config)
        if score < 0:
            raise Diverged("finetune: step 1: loss nan")
        figures = {name: score for name in self.metrics}
        summary = {"best_step": 3, "steps": 4, "train_seconds": 1.5, **figures}
        folder = pathlib.Path(run)
        (folder / "best").mkdir(parents=True, exist_ok=True)
        (folder / "best" / FILE).write_bytes(b"")
        (folder / "config.json").write_text(json.dumps({"rate": config.optim.learning_rate, "seed": config.run.seed}))
        (folder / "summary.json").write_text(json.dumps(summary))
        return summary

    def open_model(self, folder: str, head: Head) -> Callable[[list[Example]], list[np.ndarray]]:
        """Answers by the labels of examples, but for some; where there is none, by the number of letters."""

        def answer(examples: list[Example]) -> list[np.ndarray]:
            return [_logits(head, example, self._is_wrong(folder, example)) for example in examples]

        return answer

    def _is_wrong(self, folder: str, example: Example) -> bool:
        name = pathlib.Path(folder).name  # The same in another work directory.
        share = self.teacher_wrong if name == "teacher" else self.wrong
        if not share or example.label is None:
            return False
        return hashlib.sha256(f"{name} {example.id}".encode()).digest()[0] % share == 0


def _logits(head: Head, example: Example, is_wrong: bool) -> np.ndarray:
    label: Any = example.label
    if head.problem == "regression":
        return np.array([1.0 if label is None else label + 4 * is_wrong], np.float32)
    if head.problem == "multi_label":
        bits = np.array([1] + [0] * (len(head.labels) - 1) if label is None else label, np.float32)
        return (bits - 0.5) * (-1 if is_wrong else 1)
    count = len(example.choices) if head.kind == "choose" else len(head.labels)
    wanted = (len(example.text) if label is None else label + is_wrong) % count
    return np.eye(count, dtype=np.float32)[wanted]


# --- Files of tasks --------------------------------------------------------------------------------------------------


def text(number: int, words: int = 9) -> str:
    """A sentence of its own for each number."""
    rng = np.random.default_rng(number)
    return " ".join(rng.permutation(FILLER)[:words].tolist())


def write_task(name: str, folder: pathlib.Path) -> None:
    """Twenty training, twelve validation and three test examples in the official files of a task."""
    for split, count, first in (("train", 20, 0), ("validation", 12, 100), ("test", 3, 200)):
        task = tasks.TASKS[name]
        ((pattern,), *_) = [patterns for patterns in task.splits[split] if len(patterns) == 1]
        path = folder / task.folders[0] / pattern.replace("*", "")
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = range(first, first + count)
        path.write_text("".join(f"{line}\n" for line in _LINES[name](numbers, split)), encoding="utf-8")


def _pairs(labels: tuple[str, ...], column: str) -> Callable[[range, str], list[str]]:
    def lines(numbers: range, split: str) -> list[str]:
        known = split != "test"
        rows = [
            "\t".join([str(n), text(2 * n), text(2 * n + 1), *([labels[n % len(labels)]] if known else [])])
            for n in numbers
        ]
        return ["\t".join(["index", "sentence1", "sentence2", *([column] if known else [])]), *rows]

    return lines


def _copa(numbers: range, split: str) -> list[str]:
    rows = [
        {"premise": text(3 * n), "choice1": text(3 * n + 1), "choice2": text(3 * n + 2), "question": "cause", "idx": n}
        for n in numbers
    ]
    return [json.dumps(row | ({"label": row["idx"] % 2} if split != "test" else {})) for row in rows]


def _race(numbers: range, split: str) -> list[str]:
    """A passage with one question that has three options."""
    return [
        json.dumps(
            {
                "id": f"middle{n}.txt",
                "article": text(n, words=18),
                "questions": [f"Why did _ in number {n}?"],
                "options": [[text(3 * n + place, words=5) for place in range(3)]],
                "answers": ["ABC"[n % 3]],
            }
        )
        for n in numbers
    ]


_LINES = {
    "race_middle": _race,
    "rte": _pairs(("entailment", "not_entailment"), "label"),
    "stsb": _pairs(("0.0", "2.5", "5.0"), "score"),
    "copa": _copa,
}


# --- Loops -----------------------------------------------------------------------------------------------------------

SETTINGS = Agora(
    learning_rates=(1e-4, 5e-5, 2e-5), batches=(8,), seeds=(0, 1), transforms=("deletion", "swap"), replays=0
)


def by_rate(config: Finetune, points: int) -> float:
    """The second rate is the best, the second seed is a little better, and points help a little."""
    of_rate = {1e-4: 0.5, 5e-5: 0.7, 2e-5: 0.6}[config.optim.learning_rate]
    return of_rate + 0.01 * config.run.seed + 0.001 * min(points, 50)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    made = Pretended(by_rate)
    monkeypatch.setattr(rounds, "finetune", made.finetune)
    monkeypatch.setattr(mistakes, "open_model", made.open_model)
    monkeypatch.setattr(ground.teacher, "check", lambda config, tokenizer, pairs: {config.learn.teacher: "digest"})
    return made


class Loops:
    """Loops on a task, each in a folder of its own beside its files."""

    settings, by_rate, text = SETTINGS, staticmethod(by_rate), staticmethod(text)

    def __init__(self, place: pathlib.Path, encoder: str, task: str = "rte"):
        self.place, self.encoder = place, encoder
        write_task(task, place / "data")
        (place / "teacher").mkdir()
        self.config = recipe(str(place / "data"), task, batch=8)

    def run(self, name: str, settings: Agora = SETTINGS, config: Finetune | None = None, **more: Any) -> dict[str, Any]:
        teacher, out = str(self.place / "teacher"), str(self.place / name)
        return agora.agora(config or self.config, settings, teacher, out, self.encoder, **more)

    def lines(self, name: str, file: str = history.HISTORY) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.place / name / file).read_text().splitlines()]

    def content(self, name: str) -> dict[str, bytes]:
        """Files whose content no kill may change."""
        folder = self.place / name
        names = [
            "history.jsonl",
            *(f"points/{path.name}" for path in (folder / "points").iterdir()),
            "best/config.json",
        ]
        return {name: (folder / name).read_bytes() for name in names}

    def points(self, name: str) -> list[str]:
        files = sorted((self.place / name / "points").iterdir())
        return files[-1].read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture
def loops(tmp_path: pathlib.Path, encoder: str, pretended: Pretended) -> Loops:
    return Loops(tmp_path, encoder)


@pytest.fixture
def loops_on(tmp_path: pathlib.Path, encoder: str, pretended: Pretended) -> Callable[[str], Loops]:
    """Loops on the task of a name."""
    return lambda task: Loops(tmp_path, encoder, task)
