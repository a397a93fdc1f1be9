"""An export is read as its run: the same columns, with a score, or a line that says why there is none."""

import dataclasses
import io
import json
import pathlib
import shutil

import pytest
from toy_task import MODEL, write_encoder

from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights import quantized, reading
from bertlite_jax.convert.weights.folder import Weights, answer_length, load_weights, save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import predict, span_predict
from bertlite_jax.jobs.answering.inputs import options_of_run

pytestmark = pytest.mark.usefixtures("compiled_once")
SHARED = dataclasses.replace(MODEL, share="all")
SCORE = Head(labels=("score",), problem="regression")
DATA = Examples(
    folder="secret.csv", kind="regression", metric="spearman", label_column="Bewertung", delimiter=";", length=16
)
TABLE = 'Nr;Sentence1;Sentence2;Bewertung\na;the queen;"she\nsaid";0,5\nb;the rabbit;she;1,5\nc;time;down;0,25\n'


@pytest.fixture(scope="module")
def weights(prepared, tmp_path_factory) -> Weights:
    folder = tmp_path_factory.mktemp("model") / "model"
    return load_weights(pathlib.Path(write_encoder(folder, prepared.tokenizer, SHARED, SCORE)))


def exported(weights: Weights, folder: pathlib.Path, form: str, pairs: bool | None = True, known: bool = True) -> str:
    weights = dataclasses.replace(weights, reading=reading.reading_of(DATA, pairs) if known else None)
    assert weights.tokenizer
    if form == "transformers":
        to_hf(weights, folder)
    elif form == "ours":
        save_weights(weights, folder)
    else:
        folder.mkdir()
        quantized.save(quantized.quantize(weights), folder / quantized.FILE)
        shutil.copytree(weights.tokenizer.folder, folder / "tokenizer")
        reading.write_reading(weights.reading, folder)
    return str(folder)


def answers(run: str, folder: pathlib.Path, content: str, name: str = "a.csv") -> list[dict]:
    out = io.StringIO()
    (folder / name).write_text(content)
    predict.predict(run, str(folder / name), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("form", ["transformers", "ours", "int8"])
def test_an_export_scores_the_columns_of_its_training(weights, tmp_path, capsys, form):
    run = exported(weights, tmp_path / "out", form)
    assert [answer["id"] for answer in answers(run, tmp_path, TABLE)] == ["a", "b", "c"]
    assert "predict: spearman " in capsys.readouterr().err
    stated = sources.load(run).reading
    assert stated == reading.reading_of(DATA, pairs=True)
    assert stated
    assert stated.data.folder == ""
    assert options_of_run(run).label == "Bewertung"


@pytest.mark.parametrize("form", ["transformers", "ours", "int8"])
def test_an_export_cuts_texts_where_its_run_does(weights, tmp_path, capsys, form):
    """Not where its positions end: the answers would be others."""
    run = exported(weights, tmp_path / "out", form)
    answers(run, tmp_path, "Sentence1;Sentence2\n" + "the queen " * 20 + ";she\n")
    assert "1 answered, 1 of them cut to 16 tokens" in capsys.readouterr().err
    if form == "transformers":
        assert json.loads((tmp_path / "out/tokenizer_config.json").read_text())["model_max_length"] == 16


def test_an_export_of_unknown_length_reads_all_positions(weights, tmp_path):
    """Exports of earlier versions do not state it, and other programs state no reading at all."""
    run = exported(weights, tmp_path / "out", "transformers", known=False)
    stated = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert stated["model_max_length"] == weights.model.max_positions
    (tmp_path / "out" / reading.FILE).write_text('{"data": {"label_column": "Bewertung"}, "pairs": true}')
    loaded = sources.load(run)
    assert loaded.reading == reading.Reading(Examples(label_column="Bewertung"), True, 0)
    assert answer_length(loaded) == weights.model.max_positions


@pytest.mark.parametrize("damage", ['"data": {}, "length": -1', '"data": {"window_step": 0}'])
def test_lengths_that_cannot_be_are_refused(tmp_path, damage):
    (tmp_path / reading.FILE).write_text(f"{{{damage}}}")
    with pytest.raises(UserError, match="a length is not positive"):
        reading.reading_in(tmp_path)


def test_windows_on_texts_are_those_of_the_training(prepared, tmp_path):
    model = dataclasses.replace(SHARED, pooler=False)
    folder = pathlib.Path(write_encoder(tmp_path / "model", prepared.tokenizer, model, Head(kind="span")))
    data = Examples(length=24, window_step=7, question_length=5, answer_length=3)
    spans = dataclasses.replace(load_weights(folder), reading=reading.reading_of(data, None))
    to_hf(spans, tmp_path / "hf")
    assert span_predict._recipe(sources.load(str(tmp_path / "hf"))) == data


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (
            TABLE,
            "nothing is scored, as no column or field holds labels; if one of 'Bewertung' does, pass --label",
        ),
        ("text;label\na;\nb;\n", "nothing is scored: 'label' is empty; --label-column names another"),
        ("text;id\na;1\nb;2\n", ""),
    ],
    ids=["absent", "empty", "nothing but texts"],
)
def test_a_table_without_a_score_says_so(weights, tmp_path, capsys, content, wanted):
    answers(exported(weights, tmp_path / "out", "ours", known=False), tmp_path, content)
    said = capsys.readouterr().err
    assert wanted in said
    assert ("nothing is scored" in said) == bool(wanted)


def test_a_model_of_single_texts_leaves_the_second_text_of_a_table_alone(weights, tmp_path, capsys):
    run = exported(weights, tmp_path / "out", "ours", pairs=False)
    assert len(answers(run, tmp_path, TABLE)) == 3
    assert "predict: 'Sentence2' is not read: the model was trained on single texts" in capsys.readouterr().err
    with pytest.raises(UserError, match="was trained on single texts; leave out 'pair', and --pair-column"):
        answers(run, tmp_path, '{"text": "the queen", "pair": "she"}\n', "a.jsonl")


def test_a_model_of_pairs_names_the_option_for_the_second_text(weights, tmp_path):
    run = exported(weights, tmp_path / "out", "ours")
    with pytest.raises(UserError, match=r"was trained on pairs; .* --pair-column"):
        answers(run, tmp_path, "text;reply\nthe queen;she\n")


@pytest.mark.parametrize(
    ("header", "ids"), [("Nr", ["7", "9"]), ("guid", ["7", "9"]), ("same", ["1", "2"]), ("number", ["1", "2"])]
)
def test_ids_are_of_a_column_without_repetitions_or_numbers_from_1(weights, tmp_path, header, ids):
    """Whatever lines the rows stand in."""
    run = exported(weights, tmp_path / "out", "ours", pairs=None)
    second = "7" if header == "number" else "9"
    found = answers(run, tmp_path, f'text;{header}\n"the\nqueen";7\nthe rabbit;{second}\n')
    assert [answer["id"] for answer in found] == ids


def test_an_empty_second_text_is_counted_as_an_empty_text_is(weights, tmp_path, capsys):
    answers(exported(weights, tmp_path / "out", "ours"), tmp_path, "text;pair\nthe queen;\n;she\nthe;time\n")
    assert "3 answered, 2 empty" in capsys.readouterr().err
