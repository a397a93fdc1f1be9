"""Vectors of texts: those of transformers, whatever shares a row; files complete or absent; mistakes in one line."""

import dataclasses
import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.convert import adoption
from bertlite_jax.convert.huggingface.tokenizer import build_fast_tokenizer
from bertlite_jax.convert.weights.folder import Sentence, save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import embed, vector_files
from bertlite_jax.model import pooling

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ran",
    "over",
    "big",
    "green",
    "hill",
    "while",
    "old",
    "fish",
    "slept",
    "in",
    "cold",
    "water",
]
LAYERS = 3


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder of transformers: a BERT of 3 layers, drawn at random."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", ".", ","]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    config = transformers.BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=300, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Of 0 to 150 words, so that rows of two lengths and rows with many texts come up."""
    rng = np.random.default_rng(0)
    sizes = [0, 1, 3, 7, 40, 150, 5, 2, 2, 2, 9, 130]
    return [" ".join(rng.choice(WORDS, size)) for size in sizes]


@pytest.fixture(scope="module")
def theirs(bert, texts) -> list[list[np.ndarray]]:
    """Hidden states of transformers: for each text, layer by layer, [tokens, D]. One text at a time: no padding."""
    import torch
    import transformers

    model = transformers.BertModel.from_pretrained(bert).eval()
    ids = {piece: place for place, piece in enumerate((bert / "vocab.txt").read_text().split())}
    found = []
    for text in texts:
        tokens = torch.tensor([[ids["[CLS]"], *(ids[word] for word in text.split()), ids["[SEP]"]]])
        with torch.no_grad():
            states = model(tokens, output_hidden_states=True).hidden_states
        found.append([state[0].numpy() for state in states])
    return found


def vectors(bert, texts, tmp_path: pathlib.Path, name: str = "v.npy", **options) -> np.ndarray:
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in texts))
    embed.embed(str(bert), str(tmp_path / "texts.txt"), str(tmp_path / name), compute="float32", **options)
    return np.load(tmp_path / name)


def test_the_mean_is_that_of_transformers_in_the_order_of_the_texts(bert, texts, theirs, tmp_path):
    wanted = np.stack([states[-1].mean(0) for states in theirs])
    np.testing.assert_allclose(vectors(bert, texts, tmp_path), wanted, atol=1e-5)


def test_chunks_give_the_same_vectors_as_the_whole_file(bert, texts, theirs, tmp_path):
    wanted = np.stack([states[-1][0] for states in theirs])
    np.testing.assert_allclose(vectors(bert, texts, tmp_path, pool="cls", batch=4), wanted, atol=1e-5)


def test_layers_are_joined_averaged_and_brought_to_unit_length(bert, texts, theirs, tmp_path):
    means = [np.stack([states[layer].mean(0) for states in theirs]) for layer in range(LAYERS + 1)]
    joined = vectors(bert, texts, tmp_path, layers="0,-1")
    np.testing.assert_allclose(joined, np.concatenate([means[0], means[LAYERS]], axis=1), atol=1e-5)
    unit = vectors(bert, texts, tmp_path, name="unit.npy", layers="mean", normalize=True)
    wanted = np.mean(means[1:], axis=0)
    np.testing.assert_allclose(unit, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)


def test_token_vectors_come_with_their_ids_and_where_each_text_begins(bert, texts, theirs, tmp_path):
    found = vectors(bert, texts, tmp_path, pool="tokens", layers="1", batch=7)
    np.testing.assert_allclose(found, np.concatenate([states[1] for states in theirs]), atol=1e-5)
    beside = np.load(tmp_path / "v.tokens.npz")
    assert list(np.diff(beside["offsets"])) == [len(text.split()) + 2 for text in texts]
    assert len(beside["ids"]) == len(found)
    assert beside["ids"][beside["offsets"][2]] == 2  # [CLS]


def test_pairs_and_ids_are_read_from_objects_and_written_as_lines(bert, tmp_path):
    lines = [{"id": "first", "text": "the cat", "pair": "a dog"}, {"text": "the cat"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    embed.embed(str(bert), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), pool="tokens", compute="float32")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in found] == ["first", "2"]
    assert found[0]["tokens"] == ["[CLS]", "the", "cat", "[SEP]", "a", "dog", "[SEP]"]
    assert np.shape(found[1]["vectors"]) == (4, 32)


def test_what_was_cut_or_empty_is_counted_and_said(bert, texts, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in texts))
    counts = embed.embed(str(bert), str(tmp_path / "texts.txt"), "-", length=100, compute="float32")
    assert counts["examples"] == len(texts)
    assert counts["truncated"] == 2  # 150 and 130 words
    assert counts["empty_texts"] == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(texts)
    assert "2 cut to 100 tokens, 1 empty" in said.err


def test_a_folder_of_sentence_transformers_says_how(bert, theirs, texts, tmp_path):
    """[CLS], unit length, and five tokens at most: [CLS], three words, [SEP]."""
    folder = tmp_path / "sentences"
    with adoption.open_weights(bert) as given:
        save_weights(dataclasses.replace(given, sentence=Sentence("cls", True, 5)), folder)
    short = [place for place, text in enumerate(texts) if len(text.split()) <= 3]
    found = vectors(folder, texts, tmp_path)[short]
    first = np.stack([theirs[place][-1][0] for place in short])
    np.testing.assert_allclose(found, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-5)
    means = vectors(folder, texts, tmp_path, name="mean.npy", pool="mean")[short]
    np.testing.assert_allclose(means, np.stack([theirs[place][-1].mean(0) for place in short]), atol=1e-5)


def test_a_way_that_cannot_be_held_wants_another(bert, tmp_path):
    with adoption.open_weights(bert) as given:
        stated = Sentence(unheld="there is a dense layer behind the pooling")
        save_weights(dataclasses.replace(given, sentence=stated), tmp_path / "sentences")
    with pytest.raises(UserError, match="dense layer behind the pooling; choose another --pool"):
        vectors(tmp_path / "sentences", ["the cat"], tmp_path)


def test_a_bad_line_leaves_no_file(bert, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "the cat"}\n{"text": 3}\n')
    with pytest.raises(UserError, match=r"^embed: .*in\.jsonl:2: 'text' holds int, not a string"):
        embed.embed(str(bert), str(tmp_path / "in.jsonl"), str(tmp_path / "v.npy"), batch=1, compute="float32")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "v.txt"}, "should end in .npy or .jsonl"),
        ({"layers": "4"}, "0 \\(the embeddings\\) to 3, not 4"),
        ({"layers": "first"}, "should be last, mean"),
        ({"length": 301}, "must be 3 to 300"),
        ({"batch": 0}, "embed: --batch 0 must be 1 to"),
        ({"batch": 10**20}, "embed: --batch 100000000000000000000 must be 1 to"),
        ({"inputs": "missing.txt"}, "^embed: missing.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_line(bert, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("in.txt").write_text("the cat\n")
    with pytest.raises(UserError, match=message):
        embed.embed(str(bert), **({"inputs": "in.txt", "out": "v.npy", "compute": "float32"} | options))


def test_a_file_that_is_there_is_replaced_only_on_demand(bert, tmp_path):
    (tmp_path / "v.npy").write_bytes(b"old")
    with pytest.raises(UserError, match="pass --overwrite"):
        vectors(bert, ["the cat"], tmp_path)
    assert vectors(bert, ["the cat"], tmp_path, overwrite=True).shape == (1, 32)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_never_replaced_by_vectors(overwrite, tmp_path):
    (tmp_path / "v.npy").mkdir()
    with pytest.raises(UserError, match=r"^embed: .*/v.npy is a folder and is not replaced; name a file$"):
        vector_files.check(str(tmp_path / "v.npy"), overwrite)


def test_the_file_beside_is_not_replaced_either(bert, tmp_path):
    (tmp_path / "v.tokens.npz").write_bytes(b"old")
    with pytest.raises(UserError, match=r"v.tokens.npz exists; pass --overwrite"):
        vectors(bert, ["the cat"], tmp_path, pool="tokens")
    assert not (tmp_path / "v.npy").exists()


def test_a_vector_that_is_not_finite_is_refused(bert, tmp_path):
    """Weights that are finite, as far as anyone can see, and overflow."""
    with adoption.open_weights(bert) as given:
        norm = {name: np.full_like(value, 3e38) for name, value in given.params["embeddings"]["norm"].items()}
        params = {**given.params, "embeddings": {**given.params["embeddings"], "norm": norm}}
        save_weights(dataclasses.replace(given, params=params), tmp_path / "broken")
    with pytest.raises(UserError, match=r"embed: the vector of text \d is not finite \(NaN or infinite\)"):
        vectors(tmp_path / "broken", ["the mat", "a cat"], tmp_path)
    assert not (tmp_path / "v.npy").exists()


def test_tables_and_odd_characters(bert, tmp_path, capsys):
    (tmp_path / "t.csv").write_text('label;text\n;the cat\nx;"a; dog"\n')
    embed.embed(str(bert), str(tmp_path / "t.csv"), str(tmp_path / "t.npy"), compute="float32")
    np.testing.assert_allclose(np.load(tmp_path / "t.npy"), vectors(bert, ["the cat", "a; dog"], tmp_path), atol=1e-6)
    (tmp_path / "s.jsonl").write_text('{"text": "the \\ud800 cat", "id": "\\udfff", "label": [0, "x"]}\n')
    embed.embed(str(bert), str(tmp_path / "s.jsonl"), str(tmp_path / "s_out.jsonl"), compute="float32")
    assert json.loads((tmp_path / "s_out.jsonl").read_text())["id"] == "\ufffd"
    assert "1 inputs with half of a surrogate pair, which is now U+FFFD" in capsys.readouterr().err


def test_truncation_and_padding_that_a_tokenizer_file_states_are_not_obeyed(bert, tmp_path):
    """asyml/texar #264: a tokenizer.json that was saved with them would cut every text to 8 pieces without a word."""
    text = " ".join(WORDS * 2)
    wanted = vectors(bert, [text], tmp_path)
    folder = tmp_path / "stated"
    shutil.copytree(bert, folder)
    with adoption.open_weights(bert) as given:
        assert given.tokenizer is not None
        made = build_fast_tokenizer(given.tokenizer)
    made.enable_truncation(8)
    made.enable_padding(length=16)
    made.save(str(folder / "tokenizer.json"))
    np.testing.assert_allclose(vectors(folder, [text], tmp_path, name="w.npy"), wanted, atol=1e-6)


def test_an_empty_input_is_refused(bert, tmp_path):
    with pytest.raises(UserError, match="has no text"):
        vectors(bert, [], tmp_path)


def test_means_leave_out_other_windows_and_padding():
    states = jnp.arange(12.0).reshape(1, 6, 2)
    segments = jnp.array([[1, 1, 2, 2, 2, 0]])
    found = pooling.mean_of_windows(states, segments, 3)
    np.testing.assert_allclose(found, [[[1, 2], [6, 7], [0, 0]]])  # (0, 2)/2; (4, 6, 8)/3; no third window


def test_a_vector_of_zeros_has_no_direction():
    np.testing.assert_allclose(pooling.unit_length(jnp.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("text", "numbers", "mean"),
    [("last", (12,), False), ("0,6", (0, 6), False), ("-4,-1", (9, 12), False), ("mean:-2,-1", (11, 12), True)],
)
def test_layers_are_counted_from_both_ends(text, numbers, mean):
    assert embed.parse_layers(text, 12) == (numbers, mean)


def test_short_texts_do_not_lie_in_long_rows():
    """Two of 10 tokens and one of 200: a row of 128 for both, one of 256; at most half of it padding."""
    from bertlite_jax.data.examples.features import Encoded

    sizes = np.array([10, 200, 10])
    empty = np.zeros(0, np.int32)
    tokens = np.zeros(220, np.int32)
    encoded = Encoded(tokens, tokens.astype(np.int8), empty, np.r_[0, np.cumsum(sizes)], np.arange(4),
                      np.zeros(3, np.int32), {})  # fmt: skip

    class Padding:
        pad_id = 0

    found = list(embed.layouts(encoded, Padding(), 8192))  # type: ignore[arg-type]
    assert [layout.batch["tokens"].shape for layout in found] == [(1, 128), (1, 256)]
    assert [sorted(layout.windows[layout.windows >= 0]) for layout in found] == [[0, 2], [1]]


def test_tokens_lie_beside_vectors():
    assert vector_files.tokens_beside(pathlib.Path("a/b.npy")) == pathlib.Path("a/b.tokens.npz")
