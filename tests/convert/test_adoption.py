"""Foreign weights are imported with their own tokenizer, which decides the size of the vocabulary, or refused."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption, tensorflow
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.huggingface.tokenizer import write_tokenizer
from bertlite_jax.convert.import_options import ImportOptions
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, load_weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError

TEXT = [
    "The hall was long and low.",
    "A row of lamps hung from the roof.",
    "It was dark, in 2011, and she was late.",
] * 5
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"äö", "##ing", "the"]


def small(vocab_size: int, seed: int = 0) -> Weights:
    """A BERT of one layer."""
    model = tiny.model(
        vocab_size=vocab_size, hidden_size=8, num_layers=1, ffn_size=8, share="none", activation="gelu_erf"
    )
    draw = np.random.default_rng(seed)
    flat = {path: draw.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    return Weights(parameters.nest(flat), model, pair_task="nsp")


@pytest.fixture
def bare(tmp_path) -> pathlib.Path:
    """A folder of transformers without a tokenizer, for the vocabulary above."""
    to_hf(small(len(PIECES)), tmp_path / "hf")
    return tmp_path / "hf"


def tokenizer_of(weights: Weights) -> Tokenizer:
    """The tokenizer that came with the weights."""
    assert weights.tokenizer is not None
    return weights.tokenizer


def write_vocabulary(folder: pathlib.Path, pieces: list[str]) -> None:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")


# --- The tokenizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_our_own_export_comes_back_with_a_tokenizer_of_the_same_ids(kind, tmp_path):
    size = {"sentencepiece": 43, "wordpiece": 60, "bpe": 300}[kind]
    made = train_tokenizer(TEXT, tmp_path / "made", size, kind)
    loaded = dataclasses.replace(small(made.vocab_size), tokenizer=made)
    to_hf(loaded, tmp_path / "hf")
    imported = adoption.import_hf(tmp_path / "hf", tmp_path / "ours")
    assert imported.notes == []
    read = load_weights(tmp_path / "ours")
    assert read.model == loaded.model
    assert tokenizer_of(read).special_ids == made.special_ids
    for text in [*TEXT[:3], "Älter, 3,000 or 12,5 — THE [MASK] end."]:
        np.testing.assert_array_equal(tokenizer_of(read).encode(text), made.encode(text))
        np.testing.assert_array_equal(tokenizer_of(imported.weights).encode(text), made.encode(text))


@pytest.mark.parametrize(
    "name",
    thorough.but(["bert_uncased_vocab.txt"], ["albert_spiece.model", "bert_cased_vocab.txt", "bert_uncased_vocab.txt"]),
)
def test_a_released_vocabulary_comes_back_from_an_export_with_the_same_ids(name, shared, tmp_path):
    """Written for AutoTokenizer and adopted again; compared on lines of an encyclopedia."""
    made = adoption.adopt(shared / "vocab" / name, tmp_path / "made")
    assert made.vocab_size == {"albert": 30_000, "bert_cased": 28_996, "bert_uncased": 30_522}[name.rsplit("_", 1)[0]]
    (tmp_path / "hf").mkdir()
    write_tokenizer(made, tmp_path / "hf", 512, 2)
    back = adoption.adopt(tmp_path / "hf", tmp_path / "back")
    assert back.special_ids == made.special_ids
    lines = (shared / "pretrain" / "enwiki_valid.txt").read_text(encoding="utf-8").splitlines()[:500]
    for line, (ours, _), (theirs, _) in zip(lines, made.encode_lines(lines), back.encode_lines(lines), strict=True):
        np.testing.assert_array_equal(theirs, ours, err_msg=line)


@pytest.mark.parametrize(
    ("stated", "lower", "keeps"),
    [
        ({}, True, False),
        ({"do_lower_case": False}, False, True),
        ({"do_lower_case": True, "strip_accents": False}, True, True),
        ({"do_lower_case": False, "strip_accents": True}, False, False),
        ({"do_lower_case": True, "strip_accents": None}, True, False),
    ],
)
def test_case_and_accents_are_as_tokenizer_config_states_them(stated, lower, keeps, bare, tmp_path):
    """As in transformers' BertTokenizer: lower-casing strips accents, unless strip_accents says otherwise."""
    write_vocabulary(bare, PIECES)
    (bare / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **stated}))
    settings = tokenizer_of(adoption.import_hf(bare, tmp_path / "ours").weights).settings
    assert (settings["lower"], settings["keep_accents"]) == (lower, keeps)


def test_outputs_without_names_are_pointed_out(tmp_path):
    """huggingface/transformers #12822: LABEL_0 is entailment in one model and contradiction in another."""
    model = dataclasses.replace(small(35).model, pair_classes=0)
    head = Head("classify", ("LABEL_0", "LABEL_1"))
    draw = np.random.default_rng(0)
    flat = {path: draw.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model, head).items()}
    to_hf(Weights(parameters.nest(flat), model, head), tmp_path / "hf")
    notes = adoption.import_hf(tmp_path / "hf", tmp_path / "ours").notes
    assert notes[0] == "the outputs of the head are called LABEL_0, LABEL_1; --labels names them, in this order"
    named = adoption.import_hf(tmp_path / "hf", tmp_path / "named", ImportOptions(labels=("no", "yes")))
    assert named.weights.head == dataclasses.replace(head, labels=("no", "yes"))
    # What an import says of its weights is sealed as they are.
    place = tmp_path / "named" / "config.json"
    stated = json.loads(place.read_text())
    stated["head"]["labels"].reverse()
    place.write_text(json.dumps(stated))
    with pytest.raises(UserError, match="its fields do not have the SHA-256 that it states"):
        load_weights(tmp_path / "named")


def test_without_a_tokenizer_only_the_weights_are_imported_and_a_note_says_what_needs_one(bare, tmp_path):
    imported = adoption.import_hf(bare, tmp_path / "ours")
    assert imported.weights.tokenizer is None
    assert not (tmp_path / "ours" / "tokenizer").exists()
    (note,) = imported.notes
    assert "has no tokenizer" in note
    assert "bundles, sentence embeddings" in note
    assert load_weights(tmp_path / "ours").model.vocab_size == len(PIECES)


def test_a_tokenizer_can_be_named_or_left_out(bare, tmp_path):
    write_vocabulary(tmp_path, PIECES)
    named = adoption.import_hf(bare, tmp_path / "named", ImportOptions(tokenizer=str(tmp_path / "vocab.txt")))
    back = ImportOptions(tokenizer=str(tmp_path / "named" / "tokenizer"))
    ours = adoption.import_hf(bare, tmp_path / "ours", back)
    assert tokenizer_of(named.weights).hash == tokenizer_of(ours.weights).hash
    write_vocabulary(bare, PIECES[:20])
    alone = adoption.import_hf(bare, tmp_path / "alone", ImportOptions(tokenizer="none"))
    assert alone.weights.tokenizer is None
    assert "left out" in alone.notes[0]


def test_a_tokenizer_that_cannot_be_adopted_is_refused_with_the_way_out(bare, tmp_path):
    (bare / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {}}}))
    with pytest.raises(
        UserError, match=r"is WordLevel; known are .*; convert from-hf --tokenizer none imports the weights alone"
    ):
        adoption.import_hf(bare, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


# --- Sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "zero"), [(40, False), (48, False), (64, False), (37, True), (41, True)])
def test_padded_rows_are_dropped_with_a_note(rows, zero, tmp_path):
    """35 pieces: rounded up to a multiple of 8, 16 and 64; or any number of rows of zeros."""
    assert len(PIECES) == 35
    write_vocabulary(tmp_path, PIECES)
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "tokenizer")
    loaded = small(rows)
    if zero:
        loaded.params["embeddings"]["word"]["embedding"][35:] = 0
        loaded.params["mlm"]["bias"][35:] = 0
    fitted, notes = adoption.fit_vocabulary(loaded, tokenizer, "folder")
    assert fitted.model.vocab_size == 35
    assert fitted.tokenizer is tokenizer
    assert f"{rows} rows for 35 pieces; the {rows - 35} beyond them" in notes[0]
    assert ("all zero" in notes[0]) == zero
    before, after = parameters.flatten(loaded.params), parameters.flatten(fitted.params)
    parameters.check_shapes(after, fitted.model, "result")
    for path, value in after.items():
        np.testing.assert_array_equal(value, before[path][: len(value)])


@pytest.mark.parametrize("rows", [34, 32, 36, 37, 50, 56, 80])
def test_a_vocabulary_of_another_size_is_refused_with_both_numbers(rows, bare, tmp_path):
    write_vocabulary(tmp_path, PIECES)
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "tokenizer")
    cause = r"resize_token_embeddings" if rows < 35 else r"--drop-rows"
    with pytest.raises(UserError, match=f"tokenizer has 35 pieces and the model's table {rows} rows.*{cause}"):
        adoption.fit_vocabulary(small(rows), tokenizer, "folder")


def test_pieces_without_rows_are_told_with_the_job_that_met_them(tmp_path):
    to_hf(small(34), tmp_path / "hf")
    write_vocabulary(tmp_path / "hf", PIECES)
    with (
        pytest.raises(UserError, match=r"^finetune: .*1 pieces have none. Most likely tokens were added without"),
        adoption.open_weights(tmp_path / "hf", "finetune"),
    ):
        pass


def test_a_blank_line_at_the_end_is_told_where_the_weights_do_not_count_it(tmp_path):
    """AutoTokenizer counts it as a piece that no text has; some weights have a row for it."""
    for rows in (35, 36):
        to_hf(small(rows), tmp_path / f"hf{rows}")
        write_vocabulary(tmp_path / f"hf{rows}", [*PIECES, ""])
    with pytest.raises(UserError, match=r"because the vocabulary ends in a blank line, .*; remove line 36$"):
        adoption.import_hf(tmp_path / "hf35", tmp_path / "ours")
    assert adoption.import_hf(tmp_path / "hf36", tmp_path / "ours").notes == []
    to_hf(load_weights(tmp_path / "ours"), tmp_path / "back")
    assert tokenizer_of(adoption.import_hf(tmp_path / "back", tmp_path / "again").weights).vocab_size == 36


@pytest.mark.parametrize("rows", [37, 42, 71, 1035])
def test_spare_rows_are_dropped_where_the_tokenizer_is_the_models_own(rows, tmp_path):
    """dbmdz/berts #12: 32,102 rows for 31,102 pieces; lonePatient/ERNIE #4: 18,000 for 17,964."""
    to_hf(small(rows), tmp_path / "hf")
    write_vocabulary(tmp_path / "hf", PIECES)
    imported = adoption.import_hf(tmp_path / "hf", tmp_path / "ours")
    assert f"{rows:,} rows for 35 pieces; the {rows - 35:,} beyond them (not zero, but never" in imported.notes[0]
    with adoption.open_weights(tmp_path / "hf") as opened:
        assert opened.model.vocab_size == 35
    flat, before = (parameters.flatten(each.params) for each in (imported.weights, small(rows)))
    np.testing.assert_array_equal(flat["mlm/bias"], before["mlm/bias"][:35])


def test_a_single_spare_row_looks_like_a_lost_piece_and_goes_on_demand(tmp_path):
    """huggingface/transformers #5777: MiniLM's vocabulary lacked one, and every id behind it was wrong."""
    to_hf(small(36), tmp_path / "hf")
    write_vocabulary(tmp_path / "hf", PIECES)
    with pytest.raises(UserError, match=r"table 36 rows, as if the vocabulary had lost a piece.*--drop-rows"):
        adoption.import_hf(tmp_path / "hf", tmp_path / "ours")
    imported = adoption.import_hf(tmp_path / "hf", tmp_path / "ours", ImportOptions(drop_rows=True))
    assert imported.weights.model.vocab_size == 35


def test_a_table_of_the_tokenizers_size_stays_as_it_is(tmp_path):
    write_vocabulary(tmp_path, PIECES)
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "tokenizer")
    loaded = small(35)
    fitted, notes = adoption.fit_vocabulary(loaded, tokenizer, "folder")
    assert fitted.params is loaded.params
    assert fitted.model == loaded.model
    assert notes == []


# --- Checkpoints of TensorFlow ---------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> pathlib.Path:
    """The folder of a BERT encoder, with variables that need no TensorFlow to be read."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "bert_model.ckpt.index").touch()
    sizes = {"vocab_size": 35, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 8, "max_position_embeddings": 16, "type_vocab_size": 2}  # fmt: skip
    (folder / "bert_config.json").write_text(json.dumps(sizes))
    flat = parameters.flatten(small(35).params)
    model = dataclasses.replace(small(35).model, pair_classes=0, pooler=False)
    variables = {}
    for entry in tensorflow.entries("bert", model):
        if not entry.ours.startswith("mlm"):
            value = flat[entry.ours]
            variables[entry.theirs] = value if entry.index is None else value[entry.index]
    monkeypatch.setattr(tensorflow, "read_variables", lambda prefix: variables)
    return folder


@pytest.mark.parametrize("name", ["vocab.txt", "vocab_chinese.txt"])
def test_the_vocabulary_beside_a_checkpoint_comes_with_it(name, checkpoint, tmp_path):
    write_vocabulary(checkpoint, PIECES)
    (checkpoint / "vocab.txt").rename(checkpoint / name)
    imported = adoption.import_tf(checkpoint, tmp_path / "ours")
    assert tokenizer_of(imported.weights).vocab_size == 35
    read = load_weights(tmp_path / "ours")
    assert read.model.activation == "gelu_erf"
    assert tokenizer_of(read).vocab_size == 35


def test_of_several_unknown_vocabularies_none_is_guessed(checkpoint, tmp_path):
    write_vocabulary(checkpoint, PIECES)
    shutil.copy(checkpoint / "vocab.txt", checkpoint / "vocab_a.txt")
    (checkpoint / "vocab.txt").rename(checkpoint / "vocab_b.txt")
    notes = adoption.import_tf(checkpoint, tmp_path / "ours", activation="gelu_tanh").notes
    assert any("several vocabularies (vocab_a.txt, vocab_b.txt)" in note for note in notes)
    assert load_weights(tmp_path / "ours").model.activation == "gelu_tanh"
