"""Changed copies of examples: of which, how many, by whom they are labelled."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from toy_task import lines_of, recipe, sentences, write_encoder, write_jsonl, write_sst2

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.few_labels import copies
from bertlite_jax.jobs.finetuning.finetune import finetune

pytestmark = pytest.mark.usefixtures("compiled_once")

NUMBERED = copies.Changes(lambda text, number: f"{text} {number}", lambda words, number: (*words, str(number)))
"""Changes that show the number of their draws."""


def test_all_texts_of_an_example_change_and_its_label_goes():
    pair = copies.changed(Example("1", "a", "b", label=1, group="g"), NUMBERED, 10)
    assert pair == Example("1", "a 10", "b 11", group="g")
    choice = copies.changed(Example("2", "a", choices=("b", "c"), label=0), NUMBERED, 10)
    assert choice == Example("2", "a 10", choices=("b 12", "c 13"))
    tagged = copies.changed(Example("3", "a b", words=("a", "b"), label=(0, 1)), NUMBERED, 10)
    assert tagged == Example("3", "", words=("a", "b", "10"))
    question = copies.changed(Example("4", "a", "b", label=0, answers=(("b", 0),)), NUMBERED, 10)
    assert question == Example("4", "a 10", "b 11")
    single = copies.changed(Example("5", "a"), NUMBERED, 10)
    assert single.pair is None


def test_copies_stand_behind_the_texts_round_by_round_each_with_draws_of_its_own():
    texts, examples = [Example("t", "t")], [Example("a", "a", "pair", label=0), Example("b", "b", label=1)]
    found = list(copies.TextsWithCopies(texts, examples, NUMBERED, 3))
    assert len(found) == 1 + 3 * 2
    assert [text.id for text in found] == ["t", "a", "b", "a", "b", "a", "b"]
    assert found[0] == texts[0]
    shown = [text for one in found[1:] for text in (one.text, one.pair) if text]
    assert len({text.split()[-1] for text in shown}) == len(shown) == 9  # Three pairs and three single texts.


@pytest.mark.parametrize("augment", ["tfidf", "edits"])
def test_changes_without_a_model_are_the_same_for_the_same_seed(augment):
    examples = [Example(str(n), text) for n, (text, _) in enumerate(sentences(30, 1))]
    examples += [Example("w", "", words=("the", "queen", "said", "so", "again"))]
    learn = Learn(augment=augment, augment_rate=0.5)

    def changed(seed: int) -> list[Example]:
        changes = copies.offline(learn, seed, examples)
        return [copies.changed(example, changes, number << 8) for number, example in enumerate(examples)]

    assert changed(0) == changed(0) != changed(1)
    assert np.mean([a.text != b.text for a, b in zip(changed(0)[:-1], examples, strict=False)]) > 0.5
    assert set(changed(0)[-1].words) <= {word for text, _ in sentences(30, 1) for word in text.split()} | set(
        examples[-1].words
    )


def test_units_are_texts_that_are_not_empty_and_sentences_of_words():
    examples = [Example("1", "a", ""), Example("2", "", choices=("b", "c")), Example("3", "d e", words=("d", "e"))]
    assert list(copies.units_of(examples)) == ["a", "b", "c", ("d", "e")]


# --- Whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"), train=32)


@pytest.fixture(scope="module")
def teacher(prepared, tmp_path_factory) -> str:
    return write_encoder(tmp_path_factory.mktemp("teacher") / "teacher", prepared.tokenizer, head=Head())


def run_with(toy: str, steps: int = 4, **learn: object) -> Finetune:
    return dataclasses.replace(recipe(toy, run={"steps": steps}), learn=dataclasses.replace(Learn(), **learn))


def teachers_files(run: pathlib.Path) -> list[tuple[int, ...]]:
    return sorted(np.load(path).shape for path in (run / "learning").glob("teacher-*.npy"))


@pytest.mark.thorough
def test_the_teacher_labels_copies_in_place_of_other_texts_and_beside_them(encoder, toy, teacher, tmp_path, capsys):
    texts = write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text, _ in sentences(7, 9)])
    finetune(run_with(toy, teacher=teacher, copies=3), str(tmp_path / "alone"), encoder)
    assert "finetune: 96 unlabelled texts, 32 per step in" in capsys.readouterr().out
    assert teachers_files(tmp_path / "alone") == [(32, 2), (96, 2)]
    both = run_with(toy, teacher=teacher, copies=3, unlabelled=texts, augment="edits", unlabelled_batch=16)
    finetune(both, str(tmp_path / "both"), encoder)
    assert "finetune: 103 unlabelled texts, 16 per step in" in capsys.readouterr().out
    assert teachers_files(tmp_path / "both") == [(32, 2), (103, 2)]
    for run in ("alone", "both"):
        losses = [line["teacher_loss"] for line in lines_of(tmp_path / run) if "teacher_loss" in line]
        assert len(losses) == 4
        assert all(loss > 0 for loss in losses)


@pytest.mark.thorough
def test_another_teacher_in_the_same_place_does_not_take_over_a_run(encoder, prepared, toy, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=Head())
    config = run_with(toy, teacher=source)
    finetune(config, str(tmp_path / "run"), encoder)
    stated = json.loads((tmp_path / "teacher/config.json").read_text())
    (tmp_path / "teacher/config.json").write_text(
        json.dumps(
            {name: value for name, value in stated.items() if name != "sha256_of_description"}
            | {"head": stated["head"] | {"labels": ["1", "0"]}}
        )
    )
    with pytest.raises(UserError, match=f"was started with other weights than {source} now holds"):
        finetune(config, str(tmp_path / "run"), encoder)


@pytest.mark.parametrize(
    ("learn", "said"),
    [
        (Learn(copies=2), "learn.copies needs a teacher, which alone labels them; name one with learn.teacher"),
        (Learn(copies=-1, teacher="x"), "learn.copies = -1 must not be negative"),
        (Learn(copies=2000, teacher="x"), "learn.copies = 2000 is too large; at most 1000"),
        (Learn(copies=2, teacher="x", augment_rate=0.0), "learn.copies with learn.augment_rate = 0 are all alike"),
        (
            Learn(copies=2, teacher="x", unlabelled="x", consistency=1.0),
            "learn.copies cannot be combined with learn.consistency",
        ),
        (Learn(unlabelled_batch=8), "learn.unlabelled_batch has no effect without learn.unlabelled or learn.copies"),
        (Learn(augment="masked_lm"), "learn.augment = masked_lm changes no text without learn.copies"),
        (Learn(augment="edits", teacher="x"), "learn.augment = edits changes no text without learn.copies"),
        (Learn(augment_rate=0.5, teacher="x", unlabelled="x"), "learn.augment_rate = 0.5 changes no text without"),
        (Learn(candidates=3), "learn.candidates has no effect with learn.augment = tfidf; set masked_lm"),
        (Learn(augment_model="x"), "learn.augment_model has no effect with learn.augment = tfidf; set masked_lm"),
        (Learn(augment="masked_lm", copies=1, teacher="x", candidates=0), "learn.candidates = 0 must be greater"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_copies_that_cannot_be_made_are_refused(learn: Learn, said: str):
    with pytest.raises(UserError, match=f"config: {said}"):
        check_finetune(Finetune(learn=learn))
