"""What a teacher answers, where it stands in a batch, and which teachers are refused."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from toy_task import (
    CHOOSER,
    MODEL,
    TAGGER,
    own_data,
    recipe,
    sentences,
    write_encoder,
    write_jsonl,
    write_sst2,
)

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Examples, Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights.folder import save_weights
from bertlite_jax.data.examples import batches, features, span_features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer, train_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.finetuning.few_labels import teacher
from bertlite_jax.jobs.finetuning.few_labels.teacher import Taught
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.runs import arrays
from bertlite_jax.model.ops.precision import of_bits
from bertlite_jax.model.task_heads import TaskModel

pytestmark = pytest.mark.usefixtures("compiled_once")

TEXTS = [text for text, _ in sentences(40, 5)]
SPANS = Head(kind="span", labels=())


# --- Its answers -----------------------------------------------------------------------------------------------------


def test_answers_are_those_of_predict_in_the_order_of_the_students_labels(prepared, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=Head(labels=("x", "y", "z")))
    examples = [Example(str(number), text) for number, text in enumerate(TEXTS)]
    taught = teacher.answers_to(source, "digest", examples, Head(labels=("z", "x", "y")), tmp_path)
    with adoption.open_weights(source) as loaded:
        wanted = np.stack(open_task_model(source, loaded).answer(examples)[0])
    np.testing.assert_array_equal(taught.outputs, wanted[:, [2, 0, 1]])
    assert taught.firsts.tolist() == list(range(41))


def test_other_texts_and_other_teachers_have_other_files(prepared, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=Head(labels=("x", "y")))
    examples = [Example("1", "the queen", choices=("a",), words=("the", "queen"))]
    for digest, change in (("one", {}), ("two", {}), ("one", {"text": "a"}), ("one", {"pair": ""})):
        changed = [dataclasses.replace(examples[0], **change)]
        teacher.answers_to(source, digest, changed, Head(labels=("x", "y")), tmp_path / "files")
    teacher.answers_to(source, "one", examples, Head(labels=("y", "x")), tmp_path / "files")
    assert len(list((tmp_path / "files").glob("teacher-*.npy"))) == 5


def test_words_behind_the_teachers_length_have_no_answer(prepared, tmp_path):
    """A model of 16 positions reads a few words of a sentence of twenty."""
    model = dataclasses.replace(MODEL, max_positions=16)
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, model, head=TAGGER)
    examples = [Example("1", "", words=("queen",) * 20), Example("2", "", words=("she", "said"))]
    taught = teacher.answers_to(source, "digest", examples, TAGGER, tmp_path)
    assert taught.firsts.tolist() == [0, 20, 22]
    known = ~np.isnan(taught.outputs).any(axis=1)
    read = len(open_answers(source, examples)[0])
    assert 1 < read < 20
    assert known.tolist() == [True] * read + [False] * (20 - read) + [True] * 2


def open_answers(source: str, examples: list[Example]) -> list[np.ndarray]:
    with adoption.open_weights(source) as loaded:
        return open_task_model(source, loaded).answer(examples)[0]


def test_the_scores_of_choices_follow_one_another(prepared, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=CHOOSER)
    examples = [
        Example("1", "the queen", choices=("went", "said so")),
        Example("2", "so", choices=("a", "the door", "on")),
    ]
    taught = teacher.answers_to(source, "digest", examples, CHOOSER, tmp_path)
    assert taught.outputs.shape == (5, 1)
    assert taught.firsts.tolist() == [0, 2, 5]
    np.testing.assert_array_equal(taught.outputs[:, 0], np.concatenate(open_answers(source, examples)))


def test_tokens_of_all_windows_have_a_start_and_an_end(prepared, tmp_path, monkeypatch):
    """Stored in two parts, and with each window alone in a row the same."""
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=SPANS)
    data = Examples(length=32, window_step=8, question_length=8)
    questions = [Example(str(n), "who was it?", pair=" ".join(TEXTS[3 * n : 3 * n + 3])) for n in range(6)]
    encoded = span_features.encode(questions, load_tokenizer(prepared.tokenizer), data, False, "here").encoded
    taught = teacher.spans_of(source, "digest", encoded, 0, tmp_path / "one")
    assert taught.outputs.shape == (len(encoded.tokens), 2)
    monkeypatch.setattr(teacher, "_PART", 1)
    alone = teacher.spans_of(source, "digest", encoded, 0, tmp_path / "other")
    np.testing.assert_allclose(taught.outputs, alone.outputs, atol=1e-5)


def test_a_teacher_that_was_trained_for_integers_answers_in_them(prepared, tmp_path):
    """As `bertlite predict` reads the same folder; four bits are far from float32."""
    model = dataclasses.replace(MODEL, init_std=0.3)
    source = write_encoder(tmp_path / "exact", prepared.tokenizer, model, head=SPANS)
    data = Examples(length=64, question_length=8)
    asked = [Example("1", "who was it?", pair=TEXTS[0])]
    encoded = span_features.encode(asked, load_tokenizer(prepared.tokenizer), data, False, "here").encoded
    with adoption.open_weights(source) as loaded:
        save_weights(dataclasses.replace(loaded, trained_bits=4), tmp_path / "rounded")
    exact, rounded = (
        teacher.spans_of(str(tmp_path / name), name, encoded, 0, tmp_path / "answers").outputs
        for name in ("exact", "rounded")
    )
    tokens, ones = encoded.tokens[None], np.ones((1, len(encoded.tokens)), np.int32)
    inputs = tokens, ones, np.cumsum(ones, axis=1) - 1, encoded.types[None].astype(np.int32), 0 * ones[:, :1]
    forward = jax.jit(TaskModel(loaded.model, SPANS, of_bits(4)).apply)
    wanted = np.asarray(forward({"params": loaded.params}, *inputs, None))[0]
    assert np.abs(rounded - wanted).max() < 0.1 * np.abs(exact - wanted).max()


# --- In a batch ------------------------------------------------------------------------------------------------------


def laid_out(encoded: features.Encoded, head: Head) -> batches.Layout:
    """All examples in two rows, the last first."""
    count = len(encoded.firsts) - 1
    windows = int(np.diff(encoded.firsts).sum())
    rows = [list(range(count - 1, 0, -1)), [0]]
    return batches.lay_out(encoded, rows, batches.Shape(3, 160, windows), head, 0)


def test_each_word_has_its_answer_at_its_first_piece(prepared):
    """Outputs are their own numbers: 10 times the word in the whole stream, and that plus 1."""
    tokenizer = load_tokenizer(prepared.tokenizer)
    examples = [Example(str(n), "", words=tuple(TEXTS[n].split())) for n in range(4)]
    encoded = features.encode(examples, tokenizer, TAGGER, 10, "here")
    assert encoded.counts["words_cut_off"] > 0
    firsts = np.r_[0, np.cumsum([len(example.words) for example in examples])]
    outputs = np.arange(firsts[-1])[:, None] * 10 + np.array([0, 1], np.float32)
    outputs[firsts[2] :: 2] = np.nan
    layout = laid_out(encoded, TAGGER)
    found = teacher.arrays_of(Taught(outputs, firsts), TAGGER, encoded, layout, layout.windows)
    seen = 0
    for row, column in np.argwhere(layout.windows >= 0):
        window, start = layout.windows[row, column], layout.batch["cls"][row, column]
        for place, word in enumerate(encoded.words[encoded.offsets[window] : encoded.offsets[window + 1]]):
            wanted = outputs[firsts[window] + word] if word >= 0 else [np.nan] * 2
            known = bool(np.isfinite(wanted[0]))
            assert found["teacher_known"][row, start + place] == known
            assert found["teacher"][row, start + place].tolist() == (list(wanted) if known else [0, 0])
            seen += known
    assert found["teacher_known"].sum() == seen > 8


def test_each_choice_and_each_token_of_a_window_has_its_answer(prepared):
    tokenizer = load_tokenizer(prepared.tokenizer)
    examples = [Example(str(n), "so", choices=tuple(TEXTS[2 * n : 2 * n + 2])) for n in range(3)]
    encoded = features.encode(examples, tokenizer, CHOOSER, 32, "here")
    layout = laid_out(encoded, CHOOSER)
    taught = Taught(np.arange(6, dtype=np.float32)[:, None], encoded.firsts)
    found = teacher.arrays_of(taught, CHOOSER, encoded, layout, layout.windows)["teacher"][..., 0]
    np.testing.assert_array_equal(found, np.maximum(layout.windows, 0))

    data = Examples(length=32, window_step=8)
    questions = [Example(str(n), "who?", pair=TEXTS[n]) for n in range(3)]
    encoded = span_features.encode(questions, tokenizer, data, False, "here").encoded
    layout = laid_out(encoded, SPANS)
    outputs = np.stack([encoded.tokens, -encoded.tokens], -1).astype(np.float32)
    found = teacher.arrays_of(Taught(outputs, encoded.offsets), SPANS, encoded, layout, layout.windows)["teacher"]
    real = layout.batch["segments"] > 0
    np.testing.assert_array_equal(found[..., 0], np.where(real, layout.batch["tokens"], 0))
    np.testing.assert_array_equal(found[..., 1], np.where(real, -layout.batch["tokens"], 0))


# --- Whole runs ------------------------------------------------------------------------------------------------------


def own(file: str, kind: str, learn: Learn, **run: Any) -> Finetune:
    groups: dict[str, Any] = {"adapt": {"dropout": 0.0}, "head": {"dropout": 0.0}}
    config = recipe(file, "", rate=5e-3, data={"kind": kind}, run={"steps": 40, "eval_every": 40, **run}, **groups)
    return dataclasses.replace(config, learn=learn)


@pytest.mark.parametrize(
    "kind", ["tag", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("choose", "multi_label", "regression"))]
)
def test_a_student_comes_nearer_to_a_teacher_of_any_kind(kind: str, encoder, prepared, tmp_path):
    """The teacher has random weights, so labels say nothing about its answers; and it teaches other texts too."""
    file, head, texts = own_data(tmp_path, kind)
    model = dataclasses.replace(MODEL, init_std=0.3)
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, model, head=head)
    learn = Learn(teacher=source, teacher_weight=1.0, unlabelled=texts, unlabelled_batch=8, copies=1, augment="edits")
    finetune(own(file, kind, learn), str(tmp_path / "run"), encoder)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    for name in ("label_loss", "teacher_loss"):
        losses = [value[name] for value in map(json.loads, lines) if name in value]
        assert len(losses) == 40
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    files = sorted((tmp_path / "run/learning").glob("*.npy"))
    assert len(files) == 2
    assert all(np.load(path).shape[1] == head.outputs for path in files)


@pytest.mark.thorough
def test_a_tagger_learns_what_its_teacher_answers_and_not_the_labels(encoder, tmp_path):
    """In the teacher's sentences the queen is an actor; the student's say that nobody is, and have no weight."""
    rows = [text.split() for text, label in sentences(64, seed=4) if label]
    for name, actor in (("right", "B-Actor"), ("wrong", "O")):
        tagged = [{"tokens": row, "tags": [actor if word == "queen" else "O" for word in row]} for row in rows]
        right = [{"tokens": row, "tags": ["B-Actor" if word == "queen" else "O" for word in row]} for row in rows]
        write_jsonl(tmp_path / name / "mit_movies/train.jsonl", tagged)
        write_jsonl(tmp_path / name / "mit_movies/valid.jsonl", right[:11])
    run = {"steps": 60, "eval_every": 60}
    config = recipe(str(tmp_path / "right"), "mit_movies", rate=3e-3, batch=8, run=run)
    assert finetune(config, str(tmp_path / "teacher"), encoder)["span_f1"] > 0.9
    config = recipe(str(tmp_path / "wrong"), "mit_movies", rate=3e-3, batch=8, run=run)
    taught = dataclasses.replace(config, learn=Learn(teacher=str(tmp_path / "teacher"), teacher_weight=1.0))
    assert finetune(taught, str(tmp_path / "student"), encoder)["span_f1"] > 0.9
    (file,) = (tmp_path / "student/learning").iterdir()
    arrays.load(file, (sum(map(len, rows)), 25))  # O, and B and I of twelve slots.


# --- What cannot work ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"), train=16)


def refused(config: Finetune, encoder: str, run: pathlib.Path) -> str:
    with pytest.raises(UserError) as error:
        finetune(config, str(run), encoder)
    assert not run.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (None, "is no fine-tuned model; name one that bertlite finetune made"),
        (TAGGER, r"is made for another kind of task (tag); this one is of the kind single_label"),
        (Head(labels=("0", "1"), problem="multi_label"), "another kind of task (multi_label)"),
        (Head(labels=("0", "2")), "has the labels 0, 2; the task has the labels 0, 1"),
    ],
    ids=["an encoder", "a tagger", "several labels", "other labels"],
)
def test_a_teacher_of_something_else_is_refused(head: Head | None, said: str, encoder, prepared, toy, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=head)
    config = dataclasses.replace(recipe(toy), learn=Learn(teacher=source))
    assert said in refused(config, encoder, tmp_path / "run")


def test_a_teacher_without_a_tokenizer_or_a_folder_is_refused(encoder, toy, tmp_path):
    source = write_encoder(tmp_path / "teacher", None, head=Head(labels=("0", "1")))
    config = dataclasses.replace(recipe(toy), learn=Learn(teacher=source))
    assert "has no tokenizer" in refused(config, encoder, tmp_path / "run")
    config = dataclasses.replace(recipe(toy), learn=Learn(teacher=str(tmp_path / "nowhere")))
    assert "nowhere does not exist" in refused(config, encoder, tmp_path / "run")


def test_pairs_do_not_stand_among_the_texts_of_single_ones(encoder, prepared, toy, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=Head(labels=("0", "1")))
    texts = write_jsonl(tmp_path / "texts.jsonl", [{"text": "the queen", "pair": "so"}])
    config = dataclasses.replace(recipe(toy), learn=Learn(teacher=source, unlabelled=texts))
    found = refused(config, encoder, tmp_path / "run")
    assert found == f"finetune: {texts}: text 1 has a second text; the examples of the task are single texts"


def test_numbers_have_no_temperature(encoder, prepared, tmp_path):
    file, head, _ = own_data(tmp_path, "regression")
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=head)
    config = own(file, "regression", Learn(teacher=source, temperature=3.0))
    assert refused(config, encoder, tmp_path / "run") == (
        "config: learn.temperature has no effect on numbers; leave it out"
    )


def test_what_needs_one_label_is_refused_elsewhere(encoder, tmp_path):
    file, _, _ = own_data(tmp_path, "tag")
    said = "all others need one label per text"
    assert said in refused(own(file, "tag", Learn(loss="gce")), encoder, tmp_path / "run")


@pytest.mark.parametrize(
    ("head", "changes", "said"),
    [
        (dataclasses.replace(SPANS, span="conditioned", no_answer=True), {}, "has a conditioned head"),
        (SPANS, {}, "cannot answer that there is no answer"),
        (
            dataclasses.replace(SPANS, no_answer=True),
            {"max_positions": 16},
            "reads 16 tokens at most; data.length is 32",
        ),
    ],
    ids=["conditioned", "always an answer", "short"],
)
def test_a_teacher_of_other_spans_is_refused(head: Head, changes: dict, said: str, encoder, prepared, tmp_path):
    model = dataclasses.replace(MODEL, **changes)
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, model, head=head)
    assert said in refused(questions(tmp_path, Learn(teacher=source)), encoder, tmp_path / "run")


def test_a_teacher_of_spans_needs_the_same_tokenizer(encoder, prepared, tmp_path):
    other = train_tokenizer(TEXTS * 4, tmp_path / "tokenizer", 50)
    model = dataclasses.replace(MODEL, vocab_size=50)
    source = write_encoder(tmp_path / "teacher", other.folder, model, head=dataclasses.replace(SPANS, no_answer=True))
    found = refused(questions(tmp_path, Learn(teacher=source)), encoder, tmp_path / "run")
    assert f"has another tokenizer than {encoder} (SHA-256 {other.hash[:12]}" in found


def test_a_conditioned_student_of_spans_is_refused(encoder, prepared, tmp_path):
    source = write_encoder(tmp_path / "teacher", prepared.tokenizer, head=dataclasses.replace(SPANS, no_answer=True))
    config = questions(tmp_path, Learn(teacher=source), head={"span": "conditioned"})
    assert "needs --head.span independent" in refused(config, encoder, tmp_path / "run")


def questions(folder: pathlib.Path, learn: Learn, **groups: Any) -> Finetune:
    """SQuAD 2.0 with one question in each file."""
    answer = {"text": "the queen", "answer_start": 4}
    qas = [{"id": "q", "question": "who?", "answers": [answer], "is_impossible": False}]
    text = '{"version": "v2.0", "data": [{"title": "x", "paragraphs": [{"context": "and the queen", "qas": QAS}]}]}'
    for name in ("train", "dev"):
        (folder / f"{name}-v2.0.json").write_text(text.replace("QAS", json.dumps(qas)))
    return dataclasses.replace(recipe(str(folder), "squad2", **groups), learn=learn)
