"""What a folder of transformers holds when we write it, and what is refused when we read one."""

import dataclasses
import json
import logging
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from huggingface_examples import HEADLESS, SHARED, UNSHARED, random_params

from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.errors import UserError

# --- Writing -----------------------------------------------------------------------------------------------------


def test_an_export_imports_neither_torch_nor_transformers(tmp_path):
    """In a fresh interpreter: what the tests of this file have imported must not count."""
    program = (
        "import sys, numpy as np\n"
        "from bertlite_jax.config import Model\n"
        "from bertlite_jax.convert.huggingface.folder import to_hf\n"
        "from bertlite_jax.convert.weights import parameters\n"
        "from bertlite_jax.convert.weights.folder import Weights\n"
        "model = Model(vocab_size=20, embed_size=4, hidden_size=8, num_layers=1, num_heads=2, ffn_size=8)\n"
        "flat = {path: np.zeros(shape, np.float32) for path, shape in parameters.shapes(model).items()}\n"
        f"to_hf(Weights(parameters.nest(flat), model, pair_task='sop'), {str(tmp_path / 'out')!r})\n"
        "print([name for name in ('torch', 'transformers', 'jax', 'flax') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_weights_say_that_they_are_pytorchs_and_leave_tied_tensors_out(tmp_path):
    to_hf(Weights(random_params(SHARED), SHARED, pair_task="sop"), tmp_path / "out")
    with safetensors.safe_open(tmp_path / "out" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        names = file.keys()
        assert not any("decoder" in name for name in names)


RELU = Head("classify", ("a", "b"), activation="relu")


@pytest.mark.parametrize(
    ("message", "model", "head", "family"),
    [
        (r"head.hidden = \(8,\): BertForSequenceClassification", UNSHARED, Head(hidden=(8,)), None),
        ("BertForSequenceClassification pools with tanh and this head with relu", UNSHARED, RELU, None),
        ("AlbertForMultipleChoice pools with tanh", SHARED, Head("choose", (), activation="relu"), None),
        ("DistilBertForSequenceClassification pools with relu", UNSHARED, Head(), "distilbert"),
        ("BertForSequenceClassification pools with tanh", HEADLESS, RELU, "bert"),
        ('norm = "pre"', dataclasses.replace(UNSHARED, norm="pre"), Head(), None),
        ("refuses a single label", UNSHARED, Head(labels=("one",)), None),
        ("unshared layers", dataclasses.replace(SHARED, share="none"), Head("span", ()), None),
    ],
)
def test_a_head_that_no_class_holds_is_refused_by_name(message, model, head, family, tmp_path):
    model = dataclasses.replace(model, pooler=head.pooled, pair_classes=0)
    weights = Weights(random_params(model, head=head), model, head)
    with pytest.raises(UserError, match=message) as caught:
        to_hf(weights, tmp_path / "out", family=family)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    params = random_params(SHARED)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="exists; pass --overwrite"):
        to_hf(Weights(params, SHARED, pair_task="sop"), tmp_path / "notes")
    with pytest.raises(UserError, match="no earlier output"):
        to_hf(Weights(params, SHARED, pair_task="sop"), tmp_path / "notes", overwrite=True)
    with pytest.raises(UserError, match="missing"):
        to_hf(Weights({}, SHARED, pair_task="sop"), tmp_path / "broken")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    to_hf(Weights(params, SHARED, pair_task="sop"), tmp_path / "out")
    other = random_params(SHARED, seed=1)
    to_hf(Weights(other, SHARED, pair_task="sop"), tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(from_hf(tmp_path / "out").params["pair"]["kernel"], other["pair"]["kernel"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "out"]


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(UserError, match="No space left"):
        to_hf(Weights(random_params(SHARED), SHARED, pair_task="sop"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# --- Reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path) -> pathlib.Path:
    to_hf(Weights(random_params(SHARED), SHARED, pair_task="sop"), tmp_path / "exported")
    return tmp_path / "exported"


def test_shards_are_read_like_one_file(exported):
    wanted = from_hf(exported).params
    tensors = safetensors.numpy.load_file(exported / "model.safetensors")
    names = sorted(tensors)
    index = {}
    for i, part in enumerate((names[:10], names[10:])):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        safetensors.numpy.save_file({name: tensors[name] for name in part}, exported / file)
        index |= dict.fromkeys(part, file)
    (exported / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (exported / "model.safetensors").unlink()
    jax.tree.map(np.testing.assert_array_equal, from_hf(exported).params, wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(exported, dtype):
    tensors = safetensors.numpy.load_file(exported / "model.safetensors")
    half = {name: value.astype(jnp.dtype(dtype)) for name, value in tensors.items()}
    safetensors.numpy.save_file(half, exported / "model.safetensors")
    params = from_hf(exported).params
    assert params["pair"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(
        params["pair"]["kernel"], half["sop_classifier.classifier.weight"].T.astype(np.float32)
    )


def test_a_config_that_disagrees_with_the_weights_is_refused(exported):
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | {"vocab_size": 212, "num_hidden_groups": 2}))
    with pytest.raises(UserError) as caught:
        from_hf(exported)
    assert "albert.embeddings.word_embeddings.weight is (211, 16), wanted (212, 16)" in str(caught.value)
    assert "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.weight" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "model_type is roberta"),
        ({"hidden_act": "swish"}, "activation swish"),
        ({"inner_group_num": 2}, "inner_group_num is 2"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
    ],
)
def test_models_that_ours_cannot_be_are_refused(exported, change, message):
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message):
        from_hf(exported)


# --- Reading fine-tuned checkpoints --------------------------------------------------------------------------------


TAGS = Head("tag", ("O", "B-PER", "I-PER"))


@pytest.fixture
def tagger(tmp_path) -> pathlib.Path:
    model = dataclasses.replace(UNSHARED, pooler=False, pair_classes=0)
    to_hf(Weights(random_params(model, head=TAGS), model, TAGS), tmp_path / "tagger")
    return tmp_path / "tagger"


def test_a_pooler_and_pretraining_heads_that_the_class_does_not_read_are_left_out_aloud(tagger, caplog):
    """As transformers does: unexpected tensors are ignored with a warning."""
    clean = from_hf(tagger)
    pretrained = Weights(random_params(UNSHARED, seed=1), UNSHARED)
    to_hf(pretrained, tagger.parent / "pretrained")
    more = safetensors.numpy.load_file(tagger.parent / "pretrained" / "model.safetensors")
    tensors = more | safetensors.numpy.load_file(tagger / "model.safetensors")
    safetensors.numpy.save_file(tensors, tagger / "model.safetensors", metadata={"format": "pt"})
    with caplog.at_level(logging.WARNING):
        loaded = from_hf(tagger)
    for name in ("bert.pooler.dense.weight", "cls.seq_relationship.bias", "cls.predictions.transform.dense.weight"):
        assert name in caplog.text
    assert (loaded.model, loaded.head) == (clean.model, clean.head)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, clean.params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": None}, "architectures in config.json is missing; it should be one of BertForSequence"),
        ({"architectures": ["BertForMaskedLM"]}, "have a task head .classifier.weight. and architectures"),
        ({"architectures": ["AlbertForTokenClassification"]}, "is AlbertForTokenClassification; it should be one of"),
        ({"architectures": ["BertForQuestionAnswering"]}, "have no qa_outputs.weight"),
        ({"architectures": ["BertForSequenceClassification"]}, "missing: bert.pooler.dense.weight"),
        ({"id2label": {"0": "O", "1": "B-PER"}}, r"head has 3 rows \(classifier.weight\), and config.json names 2"),
        ({"id2label": {"1": "O", "2": "B-PER", "3": "I"}}, "id2label in config.json does not count from 0"),
        ({"id2label": {"0": "O", "1": "O", "2": "I"}}, "has a name twice"),
        ({"id2label": ["O", "B-PER", "I"]}, "it should be a table"),
    ],
)
def test_a_config_that_disagrees_with_the_head_is_one_clear_line(tagger, change, message):
    config = json.loads((tagger / "config.json").read_text())
    (tagger / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message) as caught:
        from_hf(tagger)
    assert "\n" not in str(caught.value)


def test_a_truncated_or_missing_file_is_one_clear_line(exported):
    whole = (exported / "model.safetensors").read_bytes()
    (exported / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model.safetensors is damaged"):
        from_hf(exported)
    (exported / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has neither model.safetensors nor"):
        from_hf(exported)
    (exported / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json: not JSON"):
        from_hf(exported)


def test_weights_are_loaded_from_every_kind_of_folder(exported, tmp_path):
    loaded = sources.load(exported)
    save_weights(loaded, tmp_path / "ours")
    again = sources.load(tmp_path / "ours")
    assert again.model == loaded.model == SHARED
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is neither a run's work directory"):
        sources.load(tmp_path / "empty")
