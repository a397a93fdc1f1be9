"""Words that a masked language model proposes: against one forward pass a word, and in whole runs that are killed."""

import dataclasses
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from huggingface_examples import random_params
from toy_task import PRETRAINED, lines_of, losses_of, recipe, sentences, write_encoder, write_pretrained, write_sst2

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import masked_words
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.few_labels import copies, masked_lm, stored
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.model.heads import PretrainingModel

pytestmark = pytest.mark.usefixtures("compiled_once")

EXAMPLES = [Example(str(n), text, label=label) for n, (text, label) in enumerate(sentences(9, 3))]
EXAMPLES += [Example("pair", "The queen, she said so!", "3 rabbits (down) on it."), Example("empty", "")]


@pytest.fixture(scope="module")
def pretrained(prepared, tmp_path_factory) -> str:
    return write_pretrained(tmp_path_factory.mktemp("pretrained") / "model", prepared.tokenizer)


@pytest.fixture(scope="module")
def loaded(prepared) -> Weights:
    return Weights(random_params(PRETRAINED), PRETRAINED, None, load_tokenizer(prepared.tokenizer))


def changes(loaded: Weights, folder: pathlib.Path, seed: int = 0, examples=EXAMPLES, **learn: Any) -> copies.Changes:
    settings = dataclasses.replace(Learn(augment="masked_lm", augment_rate=0.4), **learn)
    return masked_lm.changes_of(examples, "model", loaded, "digest", settings, seed, folder)


# --- Candidates ------------------------------------------------------------------------------------------------------


def test_candidates_are_the_likeliest_words_of_one_pass_for_each_hole(loaded, tmp_path):
    """Every hole alone in a row, all of the vocabulary sorted, without what is no word or the hidden one itself."""
    tokenizer = loaded.tokenizer
    pieces = masked_words.pieces_alone(tokenizer)
    texts = ["she said that the rabbit went down", "and so the queen"]
    all_places = [masked_words.in_text(text, word_spans(text), tokenizer) for text in texts]
    holes = [
        (places, w, text[slice(*places.spans[w])])
        for text, places in zip(texts, all_places, strict=True)
        for w in range(len(places.bounds))
    ]
    assert len(holes) == 11
    found = masked_lm.make_propose(loaded, pieces, 4, 1)(holes)
    model = PretrainingModel(dataclasses.replace(PRETRAINED, attention="auto"), "float32")
    forward = jax.jit(lambda *rows: model.apply({"params": loaded.params}, *rows)[0])
    for (places, word, spelling), candidates in zip(holes, found, strict=True):
        first, stop = places.bounds[word]
        ids = [tokenizer.cls_id, *places.pieces[:first], tokenizer.mask_id, *places.pieces[stop:], tokenizer.sep_id]
        row = np.array([ids], np.int32)
        inputs = row, np.ones_like(row), np.arange(len(ids), dtype=np.int32)[None], 0 * row, 0 * row[:, :1]
        logits = np.asarray(forward(*inputs, np.array([[1 + first]], np.int32)))[0, 0]
        order = [n for n in np.argsort(-logits) if n < tiny.VOCAB_SIZE]  # The table has rows of padding.
        usable = [n for n in order if pieces.allowed[n] and pieces.spelled[n] != spelling]
        np.testing.assert_allclose(logits[candidates], logits[usable[:4]], atol=1e-4)
        assert len(set(candidates)) == 4
        assert spelling not in {pieces.spelled[number] for number in candidates}


def word_spans(text: str) -> list[tuple[int, int]]:
    ends = np.cumsum([len(word) + 1 for word in text.split()]) - 1
    return [(int(end) - len(word), int(end)) for word, end in zip(text.split(), ends, strict=True)]


def test_words_of_letters_change_at_the_rate_and_nothing_else_does(loaded, tmp_path):
    change = changes(loaded, tmp_path).text
    text, kept = "The queen, she said so!", 0
    found = [change(text, number) for number in range(400)]
    for one in found:
        words = one.removesuffix("!").replace(",", "").split()
        assert len(words) == 5
        assert one.count(",") == one.count("!") == 1
        assert one[0].isupper()
        kept += sum(a == b for a, b in zip(words, ("The", "queen", "she", "said", "so"), strict=True))
    assert 1 - kept / 2000 == pytest.approx(0.4, abs=0.05)
    assert all(
        one.startswith("3 ") and one.endswith(".") and "(" in one
        for one in map(change, ["3 rabbits (down) on it."] * 20, range(20))
    )
    assert change("", 0) == ""
    special = {loaded.tokenizer.pieces([number])[0] for number in loaded.tokenizer.special_ids}
    assert not any(piece in one for piece in special for one in found)


def test_each_word_gets_all_its_candidates_and_no_other(loaded, tmp_path):
    change = changes(loaded, tmp_path, candidates=3, augment_rate=1.0).text
    firsts = {change("The queen, she said so!", number).split(",")[0].split()[1] for number in range(100)}
    assert len(firsts) == 3


def test_the_same_seed_gives_the_same_bits_from_the_store_or_anew(loaded, tmp_path):
    def all_texts(folder: pathlib.Path, seed: int) -> list[str]:
        change = changes(loaded, folder, seed).text
        return [change(example.text, number) for number in range(5) for example in EXAMPLES]

    first = all_texts(tmp_path / "one", 0)
    assert first == all_texts(tmp_path / "one", 0) == all_texts(tmp_path / "other", 0)
    assert first != all_texts(tmp_path / "one", 1)
    (file,) = (tmp_path / "one").iterdir()  # The candidates do not depend on the seed.
    assert np.load(file).dtype == np.int32


def test_the_words_of_a_sentence_to_tag_stay_as_many(loaded, tmp_path):
    words = ("The", "queen", "'s", "3", "rabbits")
    change = changes(loaded, tmp_path, examples=[Example("1", "", words=words)], augment_rate=1.0).words
    found = [change(words, number) for number in range(20)]
    assert all(len(new) == 5 and (new[2], new[3]) == ("'s", "3") for new in found)
    assert all(new[0] != "The" and new[1] != "queen" and new[0][0].isupper() for new in found)


# --- Whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"), train=32)


@pytest.fixture(scope="module")
def teacher(prepared, tmp_path_factory) -> str:
    return write_encoder(tmp_path_factory.mktemp("teacher") / "teacher", prepared.tokenizer, head=Head())


def run_with(toy: str, teacher: str, **learn: Any) -> Finetune:
    run = {"steps": 6, "checkpoint_every": 1, "keep_last": 6, "eval_every": 6}
    settings = {"teacher": teacher, "copies": 2, "augment": "masked_lm", **learn}
    return dataclasses.replace(recipe(toy, run=run), learn=dataclasses.replace(Learn(), **settings))


@pytest.mark.thorough
def test_a_run_that_is_killed_while_words_are_proposed_and_while_it_learns_has_the_same_figures(
    encoder, pretrained, toy, teacher, tmp_path, monkeypatch
):
    """Killed behind the second of four parts of the candidates, behind the teacher's answers, and behind step 3."""
    monkeypatch.setattr(masked_lm, "_PART", 60)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = run_with(toy, teacher, augment_model=pretrained, unlabelled_batch=16)
    summary = finetune(config, str(whole), encoder)
    plain = stored._write

    def killed_behind(name: str):
        def write(path: pathlib.Path, array: np.ndarray) -> None:
            plain(path, array)
            if name in str(path):
                raise KeyboardInterrupt

        monkeypatch.setattr(stored, "_write", write)

    for name in ("parts/000001.npy", "teacher-"):
        killed_behind(name)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, str(broken), encoder)
    monkeypatch.setattr(stored, "_write", plain)
    finetune(config, str(broken), encoder)
    for step in (4, 5, 6):
        shutil.rmtree(broken / "checkpoints" / str(step))
    (broken / "summary.json").unlink()
    again = finetune(config, str(broken), encoder)
    assert losses_of(broken) == losses_of(whole)
    assert [line.get("teacher_loss") for line in lines_of(broken)] == [
        line.get("teacher_loss") for line in lines_of(whole)
    ]
    assert again["accuracy"] == summary["accuracy"]
    assert sorted(file.name for file in (broken / "learning").iterdir()) == sorted(
        file.name for file in (whole / "learning").iterdir()
    )


@pytest.mark.thorough
def test_the_model_to_start_from_proposes_words_if_it_has_a_head(pretrained, toy, teacher, tmp_path, capsys):
    finetune(run_with(toy, teacher), str(tmp_path / "run"), pretrained)
    assert f"finetune: the masked language model {pretrained} proposes 15 words in place of each of" in (
        capsys.readouterr().out
    )
    assert len(list((tmp_path / "run/learning").glob("candidates-*.npy"))) == 1


@pytest.mark.thorough
def test_runs_that_share_a_folder_propose_and_ask_once(pretrained, toy, teacher, tmp_path, capsys):
    """One file of candidates, and of the teacher one for the texts and one for their copies; the runs hold none."""
    for run in ("one", "two"):
        finetune(run_with(toy, teacher), str(tmp_path / run), pretrained, answers=tmp_path / "answers")
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "answers").iterdir()) == [
        *("candidates", "teacher", "teacher")
    ]
    assert not list(tmp_path.glob("*/learning/*.npy"))
    assert capsys.readouterr().out.count("computing the logits of the teacher") == 2


@pytest.mark.slow
def test_uda_agrees_on_texts_with_replaced_words(pretrained, toy, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(text + "\n" for text, _ in sentences(20, 5)))
    learn = Learn(unlabelled=str(texts), consistency=1.0, confidence=0.0, unlabelled_batch=8, augment="masked_lm")
    config = dataclasses.replace(recipe(toy), learn=learn)
    finetune(config, str(tmp_path / "run"), pretrained)
    parts = [line["consistency_loss"] for line in lines_of(tmp_path / "run") if "consistency_loss" in line]
    assert len(parts) == 4
    assert all(part > 0 for part in parts)


def test_a_model_without_a_head_is_refused(encoder, toy, teacher, tmp_path):
    for config, source in (
        (run_with(toy, teacher), encoder),
        (run_with(toy, teacher, augment_model=teacher), teacher),
    ):
        with pytest.raises(UserError, match=f"learn.augment = masked_lm: {source} has no masked-LM head; name a pre"):
            finetune(config, str(tmp_path / "run"), encoder)
        assert not (tmp_path / "run").exists()


def test_a_vocabulary_without_words_is_refused(encoder, toy, teacher, tmp_path):
    """One word is too few: where it is hidden there is nothing else."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##re\n")
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "tokenizer")
    model = tiny.trained_model(share="none", vocab_size=tokenizer.vocab_size)
    source = write_pretrained(tmp_path / "model", tokenizer.folder, model)
    with pytest.raises(UserError, match=r"has too few whole words to choose from \(1\); name another"):
        finetune(run_with(toy, teacher, augment_model=source), str(tmp_path / "run"), encoder)
    assert not (tmp_path / "run").exists()
