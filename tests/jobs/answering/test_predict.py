"""What a fine-tuned model answers: from lines, and for whole splits."""

import dataclasses
import io
import json
import pathlib
import shutil

import numpy as np
import pytest
from toy_task import MODEL, recipe, sentences, write_encoder, write_jsonl, write_sst2

from bertlite_jax.cli.main import main
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface import folder
from bertlite_jax.convert.weights.folder import load_weights
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import predict
from bertlite_jax.jobs.answering.predict_split import predict_split
from bertlite_jax.jobs.finetuning.finetune import finetune

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def trained(encoder, toy, tmp_path_factory) -> pathlib.Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    finetune(recipe(toy, run={"steps": 72, "eval_every": 72}), str(run), encoder)
    return run


def answers(run, lines: list[str], tmp_path: pathlib.Path, batch: int = 512) -> list[dict]:
    file, out = tmp_path / "input", io.StringIO()
    file.write_text("".join(line + "\n" for line in lines))
    predict.predict(str(run), str(file), out, batch)
    return [json.loads(line) for line in out.getvalue().splitlines()]


# --- Lines -----------------------------------------------------------------------------------------------------------


def test_texts_get_the_label_that_was_learnt_with_its_probability(trained, tmp_path):
    known = sentences(40, seed=9)
    found = answers(trained, [text for text, _ in known], tmp_path)
    assert [row["id"] for row in found] == [str(number) for number in range(1, 41)]
    assert np.mean([row["label"] == str(label) for row, (_, label) in zip(found, known, strict=True)]) > 0.9
    for row in found:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]


def test_neither_batches_nor_neighbours_nor_the_form_change_an_answer(trained, tmp_path):
    texts = [text for text, _ in sentences(9, seed=8)]
    together = answers(trained, texts, tmp_path)
    by_twos = answers(trained, texts, tmp_path, batch=2)
    objects = answers(trained, [json.dumps({"text": text, "label": "?"}) for text in texts], tmp_path)
    for rows in (by_twos, objects):
        assert [row["label"] for row in rows] == [row["label"] for row in together]
        for row, other in zip(rows, together, strict=True):
            assert row["probability"] == pytest.approx(other["probability"], abs=2e-6)


def test_blank_lines_before_the_first_text_or_object(trained, tmp_path):
    """Empty texts among texts, nothing among objects."""
    texts = answers(trained, ["", "the queen"], tmp_path)
    assert [row["id"] for row in texts] == ["1", "2"]
    objects = answers(trained, ["", '{"text": "the queen"}'], tmp_path)
    assert [row["id"] for row in objects] == ["2"]
    assert objects[0]["probability"] == texts[1]["probability"]
    assert [row["id"] for row in answers(trained, ["", " "], tmp_path)] == ["1", "2"]


def test_an_object_among_texts_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"input:2: a JSON object among plain texts"):
        answers(trained, ["the queen", '{"text": "the rabbit"}'], tmp_path)
    assert len(answers(trained, ["the queen", "{ the rabbit"], tmp_path)) == 2


def test_an_empty_and_an_endless_text_are_answered_and_counted(trained, tmp_path, capsys):
    found = answers(trained, ["the queen", "", "the rabbit " * 10_000], tmp_path)
    assert len(found) == 3
    assert "3 answered, 1 of them cut to 32 tokens, 1 empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', ":2: not JSON"),
        ('["a"]', ":2: a JSON object is expected"),
        ('{"txt": "a"}', r":2: which column is the text\? It has: txt"),
        ('{"text": 3}', ":2: 'text' holds int, not a string"),
        ('{"pair": "a"}', r":2: which column is the text\? It has: pair"),
        ('{"text": "a", "id": ' + "9" * 5000 + "}", ":2: .*a number has thousands of digits"),
    ],
)
def test_a_bad_line_is_named_after_the_good_ones_are_answered(trained, tmp_path, line, message):
    file, out = tmp_path / "input", io.StringIO()
    file.write_text('{"text": "the queen"}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        predict.predict(str(trained), str(file), out, batch=1)
    assert len(out.getvalue().splitlines()) == 1


def test_a_pair_is_refused_by_a_model_of_single_texts(trained, tmp_path):
    """Its second text would be read as tokens of a type that the model has never seen."""
    with pytest.raises(UserError, match=r"example 1: .* was trained on single texts; leave out 'pair'"):
        answers(trained, ['{"text": "the queen", "pair": "the rabbit"}'], tmp_path)


def test_a_single_text_is_refused_by_a_model_of_pairs_and_either_is_taken_where_nothing_is_known(trained, tmp_path):
    single, pair = '{"text": "the queen"}', '{"text": "the queen", "pair": "the rabbit"}'
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"train_pairs": summary["train_examples"]}))
    with pytest.raises(UserError, match="was trained on pairs; give the second text as 'pair'"):
        answers(run, [single], tmp_path)
    assert len(answers(run, [pair], tmp_path)) == 1
    (run / "summary.json").unlink()
    assert len(answers(run, [single, pair], tmp_path)) == 2


def test_bytes_that_are_no_utf8_are_named_with_their_line(trained, tmp_path):
    file = tmp_path / "input"
    file.write_bytes(b"fine\nbad \xff\n")
    with pytest.raises(UserError, match=r":2: invalid UTF-8 \(byte 0xff\)"):
        predict.predict(str(trained), str(file), io.StringIO())


def test_a_run_without_a_checkpoint_is_refused_by_the_name_of_the_job(trained, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "environment.json"):
        shutil.copy(trained / name, run)
    with pytest.raises(UserError) as refused:
        answers(run, ["the queen"], tmp_path)
    assert str(refused.value) == f"predict: {run} is a run without a checkpoint yet; start it again to go on"


def test_a_model_without_a_task_head_is_refused(encoder, tmp_path):
    with pytest.raises(UserError, match="has no task head; train one with bertlite finetune"):
        answers(encoder, ["a"], tmp_path)


# --- What is written for each kind of head ---------------------------------------------------------------------------


def test_several_labels_are_those_above_one_half():
    """Logits of 0, ln 3 and -ln 3 are probabilities of 1/2, 3/4 and 1/4."""
    head = Head(labels=("a", "b", "c"), problem="multi_label")
    found = predict.readable(head, Example("1", "x"), np.array([0.0, np.log(3), -np.log(3)], np.float32))
    assert found["labels"] == ["b"]
    assert found["probabilities"] == pytest.approx({"a": 0.5, "b": 0.75, "c": 0.25})


def test_a_number_is_given_as_it_is():
    head = Head(labels=("score",), problem="regression")
    assert predict.readable(head, Example("1", "x"), np.array([3.5], np.float32)) == {"id": "1", "value": 3.5}


def test_a_choice_is_counted_from_zero():
    found = predict.readable(Head(kind="choose"), Example("1", "x", choices=("a", "b")), np.array([0, 1], np.float32))
    assert found["choice"] == 1
    assert found["probabilities"] == pytest.approx([0.268941, 0.731059])


def test_spans_join_what_belongs_together_as_conlleval_counts_it():
    words, tags = (
        ["the", "New", "York", "Times", ",", "Paris", "France"],
        ["O", "B-ORG", "I-ORG", "I-ORG", "O", "B-LOC", "B-LOC"],
    )
    assert predict.spans_of(words, tags, "the New  York Times, Paris France") == [
        {"label": "ORG", "start": 1, "end": 4, "text": "New  York Times", "start_char": 4, "end_char": 19},
        {"label": "LOC", "start": 5, "end": 6, "text": "Paris", "start_char": 21, "end_char": 26},
        {"label": "LOC", "start": 6, "end": 7, "text": "France", "start_char": 27, "end_char": 33},
    ]
    listed = predict.spans_of(words, tags)
    assert [span["text"] for span in listed] == ["New York Times", "Paris", "France"]
    assert (listed[1]["start_char"], listed[1]["end_char"]) == (21, 26)  # Of the words joined by spaces.
    stray = predict.spans_of(words[:3], ["I-LOC", "I-ORG", "O"])
    assert [span["label"] for span in stray] == ["LOC", "ORG"]


# --- Splits ----------------------------------------------------------------------------------------------------------


def test_a_split_with_labels_is_scored_as_training_scored_it(trained, toy):
    out = io.StringIO()
    found = predict_split(str(trained), "sst2", toy, "validation", out)
    assert found["accuracy"] == json.loads((trained / "summary.json").read_text())["accuracy"]
    assert len(out.getvalue().splitlines()) == 29


def test_the_servers_file_has_a_header_and_every_index_once(trained, toy, tmp_path, capsys):
    command = ["predict", str(trained), "--task", "sst2", "--data", toy, "--submission", str(tmp_path / "sent")]
    assert main(command) == 0
    lines = (tmp_path / "sent/SST-2.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:]] == [str(number) for number in range(7)]
    known = [str(label) for _, label in sentences(7, seed=2)]
    assert np.mean([line.split("\t")[1] == label for line, label in zip(lines[1:], known, strict=True)]) > 0.8
    assert main(command) == 2
    assert "exists; name another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("sst", "test", "--task sst: no such task; did you mean sst2"),
        ("mnli", "test", "has head.labels = .*, but mnli needs .*entailment.*\\)$"),
        ("sst2", "validation", "no server takes predictions of 'validation'; it takes: test"),
    ],
)
def test_what_a_model_cannot_answer_is_refused(trained, toy, tmp_path, task, split, message):
    with pytest.raises(UserError, match=message):
        predict_split(str(trained), task, toy, split, io.StringIO(), str(tmp_path / "sent"))


# --- Labels ----------------------------------------------------------------------------------------------------------


def scored(run, path: pathlib.Path, tmp_path: pathlib.Path, **options) -> dict:
    predict.predict(str(run), str(path), io.StringIO(), metrics=str(tmp_path / "metrics.json"), **options)
    return json.loads((tmp_path / "metrics.json").read_text())


def test_a_file_with_labels_is_scored_as_training_scored_it(trained, toy, tmp_path, capsys):
    """The same sentences as in dev.tsv, as a table and as objects."""
    wanted = json.loads((trained / "summary.json").read_text())["accuracy"]
    rows = sentences(29, 1)
    (tmp_path / "dev.csv").write_text("label;sentence\n" + "".join(f'{label};"{text}"\n' for text, label in rows))
    assert scored(trained, tmp_path / "dev.csv", tmp_path, batch=7) == {"examples": 29, "accuracy": wanted}
    assert f"predict: accuracy {wanted:.4f}\n" in capsys.readouterr().err
    lines = [{"sentence": text, "label": label, "more": None} for text, label in rows]
    write_jsonl(tmp_path / "dev.jsonl", [*lines, {"sentence": "unlabelled"}])
    assert scored(trained, tmp_path / "dev.jsonl", tmp_path)["accuracy"] == wanted
    assert "(1 without a label are not scored)" in capsys.readouterr().err


def test_unknown_labels_are_errors_and_named(trained, tmp_path, capsys):
    """One of two known labels is right by the model's own answer, and a third of all three."""
    (tmp_path / "own.csv").write_text("text,label\nthe queen,1\nthe rabbit,1\nthe queen,2\n")
    assert scored(trained, tmp_path / "own.csv", tmp_path)["accuracy"] == pytest.approx(1 / 3)
    assert "1 labels are none of the model's (0, 1) and count as errors: 2 (1)" in capsys.readouterr().err


def test_labels_of_which_none_is_known_are_asked_about(trained, tmp_path, capsys):
    (tmp_path / "own.csv").write_text("text,label\nthe queen,pos\nthe rabbit,neg\n")
    with pytest.raises(UserError, match=r"no label of the input is one of the model's \(0, 1\).* Pass --labels"):
        scored(trained, tmp_path / "own.csv", tmp_path)
    assert not (tmp_path / "metrics.json").exists()
    assert len(answers(trained, ['{"text": "the queen", "label": "pos"}'], tmp_path)) == 1
    assert "so nothing is scored" in capsys.readouterr().err
    predict.predict(str(trained), str(tmp_path / "own.csv"), io.StringIO(), score=False)
    assert "scored" not in capsys.readouterr().err
    assert scored(trained, tmp_path / "own.csv", tmp_path, labels=("neg", "pos"))["accuracy"] == 1.0
    with pytest.raises(UserError, match=r"--labels a b c: .* has 2 outputs"):
        scored(trained, tmp_path / "own.csv", tmp_path, labels=("a", "b", "c"))


def test_metrics_need_labels_and_a_file(trained, tmp_path):
    (tmp_path / "own.txt").write_text("the queen\n")
    with pytest.raises(UserError, match="the input has no labels, so there is nothing to score"):
        scored(trained, tmp_path / "own.txt", tmp_path)
    with pytest.raises(UserError, match="is a folder"):
        predict.predict(str(trained), str(tmp_path / "own.txt"), io.StringIO(), metrics=str(tmp_path))


def test_batches_are_numbers_that_can_be(trained, tmp_path, capsys):
    (tmp_path / "own.txt").write_text("the queen\n")
    for batch in ("0", "9" * 20):
        assert main(["predict", str(trained), "--input", str(tmp_path / "own.txt"), "--batch", batch]) == 2
        assert f"predict: --batch {batch} must be 1 to 1,000,000" in capsys.readouterr().err


def test_answers_are_escaped_where_the_output_is_not_utf8(trained, tmp_path):
    (tmp_path / "own.jsonl").write_text('{"text": "the queen", "id": "é \\ud800"}\n')
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, "ascii", write_through=True)
    predict.predict(str(trained), str(tmp_path / "own.jsonl"), out)
    assert json.loads(raw.getvalue())["id"] == "é \ufffd"


# --- A head whose labels have other names ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnli(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("mnli")
    (folder / "MNLI").mkdir()
    names = ("entailment", "neutral", "contradiction")
    rows = [f"{number}\t{text}\tthe queen\t{names[number % 3]}\n" for number, (text, _) in enumerate(sentences(20, 1))]
    content = "index\tsentence1\tsentence2\tgold_label\n" + "".join(rows)
    for name in ("dev_matched.tsv", "train.tsv"):
        (folder / "MNLI" / name).write_text(content)
    return str(folder)


def test_placeholders_are_asked_about_and_other_orders_are_put_right(prepared, mnli, tmp_path):
    """huggingface/transformers #12822: a model with its labels in another order scores 7 percent without a word."""
    run = write_encoder(tmp_path / "run", prepared.tokenizer, head=Head(labels=("LABEL_0", "LABEL_1", "LABEL_2")))
    ours, other = ("contradiction", "entailment", "neutral"), ("Neutral", "Contradiction", "Entailment")
    with pytest.raises(UserError, match=r"head.labels = .*'LABEL_2'\), but mnli needs .*; pass --labels"):
        predict_split(run, "mnli", mnli, "validation", io.StringIO())
    found = []
    for labels in (ours, other):
        out = io.StringIO()
        predict_split(run, "mnli", mnli, "validation", out, labels=labels)
        found.append([json.loads(line) for line in out.getvalue().splitlines()])
    for one, two in zip(*found, strict=True):
        assert list(one["probabilities"]) == list(two["probabilities"]) == list(ours)
        assert two["label"] == other[ours.index(one["label"])].lower()


# --- Other kinds of tasks --------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_tags_are_learnt_scored_and_answered_word_by_word(encoder, tmp_path, capsys):
    """The queen is an actor in every sentence, and nobody else is."""
    rows = [text.split() for text, label in sentences(64, seed=4) if label]
    tagged = [{"tokens": row, "tags": ["B-Actor" if w == "queen" else "O" for w in row]} for row in rows]
    write_jsonl(tmp_path / "mit_movies/train.jsonl", tagged)
    write_jsonl(tmp_path / "mit_movies/valid.jsonl", tagged[:11])
    run = tmp_path / "run"
    config = recipe(str(tmp_path), "mit_movies", rate=3e-3, batch=8, run={"steps": 60, "eval_every": 60})
    summary = finetune(config, str(run), encoder)
    assert summary["span_f1"] > 0.9
    (found,) = answers(run, ["and the queen said so"], tmp_path)
    assert found["words"] == ["and", "the", "queen", "said", "so"]
    assert len(found["tags"]) == 5
    span = {"label": "Actor", "start": 2, "end": 3, "text": "queen", "start_char": 8, "end_char": 13}
    assert found["spans"] == [span]
    (apart,) = answers(run, ["(the queen, so!)"], tmp_path)
    assert apart["words"] == ["(", "the", "queen", ",", "so", "!", ")"]
    (joined,) = answers(run, ['{"words": ["the", "queen,"]}'], tmp_path)
    assert joined["words"] == ["the", "queen,"]
    emoji = answers(run, ["\U0001f4a9\U0001f4a9\U0001f4a9 is the queen"], tmp_path)[0]
    assert emoji["words"] == [*"\U0001f4a9\U0001f4a9\U0001f4a9", "is", "the", "queen"]
    head = load_weights(run / "best").head
    assert head is not None
    assert head.splits == ("punctuation", "chinese")
    capsys.readouterr()
    empty, found = answers(run, ['{"words": [], "tags": []}', '{"words": ["queen"], "tags": ["B-Actor"]}'], tmp_path)
    assert (empty["words"], empty["tags"], empty["spans"]) == ([], [], [])
    assert len(found["tags"]) == 1
    assert "2 answered, 1 empty" in capsys.readouterr().err
    assert [each["words"] for each in answers(run, ["queen", "", "  "], tmp_path)] == [["queen"], [], []]
    (tmp_path / "chunks.conll").write_text("the DT B-NP\nqueen NN I-NP\nsaid VB B-VP\n. . O\n")
    with pytest.raises(UserError, match=r"only 1 of the input's 4 tags are among the model's .*such as B-NP, I-NP"):
        scored(run, tmp_path / "chunks.conll", tmp_path)
    predict.predict(str(run), str(tmp_path / "chunks.conll"), io.StringIO())
    said = capsys.readouterr().err
    assert "so nothing is scored" in said
    assert "count as errors" not in said
    assert "span_f1" not in said
    (tmp_path / "dev.conll").write_text("the O\nqueen B-Actor\n\nthe O\nrabbit B-Animal\n")
    figures = scored(run, tmp_path / "dev.conll", tmp_path)
    assert figures["examples"] == 2
    assert (figures["span_precision"], figures["span_recall"]) == (1.0, 0.5)


@pytest.mark.thorough
def test_choices_are_learnt_scored_and_written_for_the_server(encoder, tmp_path, capsys):
    """The right one of two endings has the queen in it."""
    texts = sentences(60, seed=5)
    queens, rabbits = ([text for text, label in texts if label == wanted] for wanted in (1, 0))
    rows = []
    for number, (queen, rabbit) in enumerate(zip(queens, rabbits, strict=False)):
        first, second = (queen, rabbit) if number % 2 else (rabbit, queen)
        row = {"premise": "so it went", "question": "effect", "choice1": first, "choice2": second}
        rows.append(row | {"label": int(number % 2 == 0), "idx": number})
    write_jsonl(tmp_path / "COPA/train.jsonl", rows)
    write_jsonl(tmp_path / "COPA/val.jsonl", rows[:9])
    write_jsonl(tmp_path / "COPA/test.jsonl", [{k: v for k, v in row.items() if k != "label"} for row in rows[:9]])
    config = recipe(str(tmp_path), "copa", rate=3e-3, batch=8, run={"steps": 40, "eval_every": 40})
    assert finetune(config, str(tmp_path / "run"), encoder)["accuracy"] > 0.8
    command = ["predict", str(tmp_path / "run"), "--task", "copa", "--data", str(tmp_path)]
    assert main([*command, "--submission", str(tmp_path / "sent")]) == 0
    sent = [json.loads(line) for line in (tmp_path / "sent/COPA.jsonl").read_text().splitlines()]
    assert [row["idx"] for row in sent] == list(range(9))
    assert np.mean([row["label"] == rows[row["idx"]]["label"] for row in sent]) > 0.8


def test_a_folder_of_transformers_answers_with_its_own_vocabulary(prepared, tmp_path):
    """Its layers are shared, as those of every class of transformers with a projection."""
    head, model = Head(labels=("rabbit", "queen")), dataclasses.replace(MODEL, share="all")
    ours = write_encoder(tmp_path / "ours", prepared.tokenizer, model, head)
    folder.to_hf(sources.load(ours), tmp_path / "exported")
    lines = [text for text, _ in sentences(5, 11)]
    ours, theirs = (answers(place, lines, tmp_path) for place in (ours, tmp_path / "exported"))
    assert [line["label"] for line in theirs] == [line["label"] for line in ours]
    np.testing.assert_allclose([x["probability"] for x in theirs], [x["probability"] for x in ours], atol=1e-3)
