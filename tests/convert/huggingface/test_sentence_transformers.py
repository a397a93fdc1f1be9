"""An exported folder is one of sentence-transformers, whose vectors are the mean of our hidden states."""

import dataclasses
import json
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import adoption
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.huggingface.sentence_transformers import read_sentence
from bertlite_jax.convert.onnx.folder import MODEL, write
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Sentence, Weights, load_weights
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model.heads import PretrainingModel

# Lewis Carroll, Alice's Adventures in Wonderland, 1865.
TEXTS = ["Down, down, down.", "There were doors all round the hall, but they were all locked.", "Curiouser!"]

ALBERT = tiny.model(vocab_size=39, ffn_size=24, max_positions=64)
BERT = dataclasses.replace(ALBERT, embed_size=16, share="none")
DISTILBERT = dataclasses.replace(BERT, token_types=0, pooler=False, pair_classes=0)
MODELS = {
    "albert": ALBERT,
    "albert_without_pooler": dataclasses.replace(ALBERT, pooler=False, pair_classes=0),
    "bert": BERT,
    "distilbert": DISTILBERT,
    "bort": dataclasses.replace(DISTILBERT, norm_epsilon=1e-5),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(TEXTS, tmp_path_factory.mktemp("tokenizer") / "small", 39)


def random_weights(model: Model, tokenizer) -> Weights:
    rng = np.random.default_rng(0)
    model = dataclasses.replace(model, vocab_size=tokenizer.vocab_size)
    flat = {
        path: (rng.normal(size=shape) * 0.3 + path.endswith("scale")).astype(np.float32)
        for path, shape in parameters.shapes(model).items()
    }
    return Weights(parameters.nest(flat), model, tokenizer=tokenizer)


def mean_states(weights: Weights, text: str) -> np.ndarray:
    """The mean of our last hidden states over [CLS], the text and [SEP], at length 1: [D]."""
    tokenizer: Any = weights.tokenizer
    ids = np.array([[tokenizer.cls_id, *tokenizer.encode(text).tolist(), tokenizer.sep_id]], np.int32)
    places = np.arange(ids.shape[1], dtype=np.int32)[None]
    flax = PretrainingModel(weights.model)
    with jax.disable_jit():
        inputs = (jnp.asarray(ids), jnp.ones_like(ids), places, jnp.zeros_like(ids))
        hidden = np.asarray(flax.apply({"params": weights.params}, *inputs, method="hidden_states")[-1])
    mean = hidden[0].mean(0)
    return mean / np.linalg.norm(mean)


def load_reported(folder: pathlib.Path, caplog) -> tuple[Any, str]:
    """The model, and the report of transformers about missing and unexpected tensors."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    caplog.clear()
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        return sentence_transformers.SentenceTransformer(str(folder), device="cpu"), caplog.text
    finally:
        logger.removeHandler(caplog.handler)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("case", MODELS)
def test_sentence_transformers_gives_the_mean_of_our_hidden_states(case, tokenizer, tmp_path, caplog):
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    weights = random_weights(MODELS[case], tokenizer)
    to_hf(weights, tmp_path / "out", sentence_transformers=True)
    theirs, report = load_reported(tmp_path / "out", caplog)
    assert "MISSING" not in report, report
    assert "UNEXPECTED" not in report, report
    vectors = theirs.encode(TEXTS, batch_size=len(TEXTS))
    assert theirs.max_seq_length == weights.model.max_positions
    assert vectors.shape == (len(TEXTS), 16)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, mean_states(weights, text), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_without_our_setting_a_pooler_would_be_missing(tokenizer, tmp_path, caplog):
    """Shows that the report above is seen, and why sentence_bert_config.json says add_pooling_layer."""
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    weights = random_weights(MODELS["albert_without_pooler"], tokenizer)
    to_hf(weights, tmp_path / "out", sentence_transformers=True)
    settings = tmp_path / "out" / "sentence_bert_config.json"
    stated = json.loads(settings.read_text())
    assert stated.pop("model_args") == {"add_pooling_layer": False}
    settings.write_text(json.dumps(stated))
    assert "MISSING" in load_reported(tmp_path / "out", caplog)[1]


def test_the_files_are_in_the_layout_that_old_versions_read_as_well(tokenizer, tmp_path):
    to_hf(random_weights(BERT, tokenizer), tmp_path / "out", sentence_transformers=True)
    read = {name: json.loads((tmp_path / "out" / name).read_text()) for name in ("modules.json", "config.json")}
    assert [(module["path"], module["type"]) for module in read["modules.json"]] == [
        ("", "sentence_transformers.models.Transformer"),
        ("1_Pooling", "sentence_transformers.models.Pooling"),
        ("2_Normalize", "sentence_transformers.models.Normalize"),
    ]
    assert read["config.json"]["architectures"] == ["BertModel"]
    pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 16
    assert [name for name, chosen in pooling.items() if chosen is True] == ["pooling_mode_mean_tokens"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert "pipeline_tag: sentence-similarity" in card
    back = from_hf(tmp_path / "out")
    assert "mlm" not in back.params
    assert back.model.pooler
    assert back.model.pair_classes == 0


def test_a_model_with_a_task_head_or_without_a_tokenizer_gives_no_sentence_vectors(tokenizer, tmp_path):
    weights = random_weights(BERT, tokenizer)
    with pytest.raises(UserError, match="needs a tokenizer"):
        to_hf(dataclasses.replace(weights, tokenizer=None), tmp_path / "out", sentence_transformers=True)
    model = dataclasses.replace(weights.model, pair_classes=0)
    with pytest.raises(UserError, match="a head of kind classify"):
        to_hf(dataclasses.replace(weights, model=model, head=Head()), tmp_path / "out", sentence_transformers=True)
    assert not (tmp_path / "out").exists()


# --- Settings of the source, in and out ------------------------------------------------------------------------------


def rewrite(path: pathlib.Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def source(tokenizer, folder: pathlib.Path, pooling: str, normalize: bool, longest: int, newer: bool) -> pathlib.Path:
    """A folder as others write it: another pooling, no unit length, few tokens."""
    to_hf(random_weights(BERT, tokenizer), folder, sentence_transformers=True)
    modules = json.loads((folder / "modules.json").read_text())
    if not normalize:
        (folder / "modules.json").write_text(json.dumps(modules[:2]))
    stated: dict[str, Any] = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    if newer:
        stated = {"embedding_dimension": 16, "pooling_mode": pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16} | stated))
    rewrite(folder / "sentence_bert_config.json", max_seq_length=longest)
    return folder


CASES: dict[str, Any] = {
    "cls": ("cls", True, 9, False),
    "mean": ("mean", False, 9, True),
    "cls_unscaled": ("cls", False, 64, True),
}


@pytest.mark.parametrize("case", CASES)
def test_pooling_unit_length_and_longest_text_survive_import_and_export(case, tokenizer, tmp_path):
    pooling, normalize, longest, newer = CASES[case]
    folder = source(tokenizer, tmp_path / "theirs", pooling, normalize, longest, newer)
    adoption.import_hf(folder, tmp_path / "ours")
    loaded = load_weights(tmp_path / "ours")
    assert loaded.sentence == Sentence(pooling, normalize, longest)
    to_hf(loaded, tmp_path / "again", sentence_transformers=True)
    assert read_sentence(tmp_path / "again") == loaded.sentence
    assert (tmp_path / "again" / "2_Normalize").exists() == (folder / "2_Normalize").exists()
    modules = json.loads((tmp_path / "again" / "modules.json").read_text())
    assert len(modules) == (3 if normalize else 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_vectors_are_those_of_the_source_in_both_exports(case, tokenizer, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    folder = source(tokenizer, tmp_path / "theirs", *CASES[case])
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    adoption.import_hf(folder, tmp_path / "ours")
    loaded = load_weights(tmp_path / "ours")
    to_hf(loaded, tmp_path / "again", sentence_transformers=True)
    again = library.SentenceTransformer(str(tmp_path / "again"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=1e-5, rtol=0)
    write(loaded, tmp_path / "onnx", output="sentence")
    session = open_session(tmp_path / "onnx" / MODEL)
    transformers = pytest.importorskip("transformers")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "onnx")
    for text, vector in zip(TEXTS, expected, strict=True):
        batch = {k: np.asarray(v, np.int64) for k, v in reader([text], truncation=True).items()}
        found = run_session(session, batch)["sentence_embedding"][0]
        np.testing.assert_allclose(found, vector, atol=1e-5, rtol=0)


def test_vectors_that_no_export_can_hold_are_refused_with_the_reason(tokenizer, tmp_path):
    folder = source(tokenizer, tmp_path / "theirs", "max", True, 9, newer=True)
    notes = adoption.import_hf(folder, tmp_path / "ours").notes
    assert any("pooling max" in note for note in notes)
    loaded = load_weights(tmp_path / "ours")
    with pytest.raises(UserError, match=r"pooling max.*to-hf without the option"):
        to_hf(loaded, tmp_path / "again", sentence_transformers=True)
    assert not (tmp_path / "again").exists()
    to_hf(loaded, tmp_path / "again")


def test_a_further_layer_of_the_source_is_named(tokenizer, tmp_path):
    folder = source(tokenizer, tmp_path / "theirs", "mean", True, 9, newer=False)
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    found = read_sentence(folder)
    assert found is not None
    assert "Transformer, Pooling, Dense, Normalize" in found.unheld


def test_prompts_are_left_out_and_named(tokenizer, tmp_path):
    folder = source(tokenizer, tmp_path / "theirs", "mean", True, 9, newer=False)
    rewrite(folder / "config_sentence_transformers.json", prompts={"query": "query: "})
    assert any("query" in note for note in adoption.import_hf(folder, tmp_path / "ours").notes)


@pytest.mark.parametrize("value", [0, -3, "many", True])
def test_a_longest_text_that_is_no_number_of_tokens_is_refused(value, tokenizer, tmp_path):
    folder = source(tokenizer, tmp_path / "theirs", "mean", True, 9, newer=False)
    rewrite(folder / "sentence_bert_config.json", max_seq_length=value)
    with pytest.raises(UserError, match="max_seq_length"):
        from_hf(folder)


@pytest.mark.parametrize("lower", [True, False])
def test_texts_that_are_lower_cased_before_a_cased_tokenizer_give_no_vectors(lower, tokenizer, tmp_path):
    """vllm-project/vllm #11815: the setting lower-cases texts, whatever the tokenizer's own setting is."""
    cased = train_tokenizer(TEXTS, tmp_path / "cased", 43, lower=False)
    folder = source(cased, tmp_path / "theirs", "mean", True, 9, newer=False)
    rewrite(folder / "sentence_bert_config.json", do_lower_case=lower)
    rewrite(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", do_lower_case=None)
    notes = adoption.import_hf(folder, tmp_path / "ours").notes
    assert any("lower-cases the texts of a cased tokenizer" in note for note in notes) == lower
    with adoption.open_weights(folder) as weights:
        assert weights.sentence
        assert bool(weights.sentence.unheld) == lower


@pytest.mark.parametrize("kind", ["Transformer", "BERT"])
def test_the_model_may_lie_in_a_folder_of_its_own(kind, tokenizer, tmp_path):
    """Old versions wrote 0_Transformer, and a config.json above it: huggingface/sentence-transformers #364."""
    folder = source(tokenizer, tmp_path / "theirs", "cls", False, 9, newer=False)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"path": f"0_{kind}", "type": f"sentence_transformers.models.{kind}"}
    (folder / f"0_{kind}").mkdir()
    for path in list(folder.iterdir()):
        if path.is_file():
            path.rename(folder / f"0_{kind}" / path.name)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config.json").write_text('{"__version__": "0.2.0"}')
    adoption.import_hf(folder, tmp_path / "ours")
    loaded = load_weights(tmp_path / "ours")
    assert loaded.sentence == Sentence("cls", False, 9)
    assert loaded.tokenizer
    with adoption.open_weights(folder) as weights:
        assert weights.tokenizer
        assert weights.sentence == loaded.sentence
