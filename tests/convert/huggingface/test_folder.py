"""Exported folders give in transformers what our model gives, and come back with the same bits."""

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

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.config import check_family, choose_family, to_config
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.task_heads import TaskModel

# Lewis Carroll, Alice's Adventures in Wonderland, 1865.
PAIRS = [
    ("Alice was beginning to get very tired of sitting by her sister on the bank.", "Once or twice she had peeped in."),
    ("The rabbit-hole went straight on like a tunnel for some way.", "Then it dipped suddenly down, so suddenly."),
    ("Down, down, down.", "Would the fall never come to an end?"),
    ("There were doors all round the hall, but they were all locked.", None),
    ("'Curiouser and curiouser!' cried Alice.", "Now I'm opening out like the largest telescope that ever was!"),
]

SHARED = Model(
    vocab_size=211,
    embed_size=16,
    hidden_size=32,
    num_layers=4,
    num_heads=4,
    ffn_size=48,
    max_positions=96,
    norm_epsilon=1e-12,
)
UNSHARED = dataclasses.replace(SHARED, embed_size=32, share="none", activation="gelu_erf")
HEADLESS = dataclasses.replace(UNSHARED, token_types=0, pooler=False, pair_classes=0)
CASES = {
    "albert": (SHARED, "AlbertForPreTraining"),
    "albert_padded_vocabulary": (dataclasses.replace(SHARED, vocab_multiple=64), "AlbertForPreTraining"),
    "albert_two_groups": (dataclasses.replace(SHARED, share_groups=2), "AlbertForPreTraining"),
    "albert_relu_equal_widths": (dataclasses.replace(SHARED, embed_size=32, activation="relu"), "AlbertForPreTraining"),
    "albert_projected_equal_widths": (
        dataclasses.replace(SHARED, embed_size=32, projection="always"),
        "AlbertForPreTraining",
    ),
    "albert_without_token_types": (dataclasses.replace(SHARED, token_types=0), "AlbertForPreTraining"),
    "albert_three_classes": (dataclasses.replace(SHARED, pair_classes=3), "AlbertForPreTraining"),
    "albert_without_pooler": (dataclasses.replace(SHARED, pooler=False, pair_classes=0), "AlbertForMaskedLM"),
    "bert": (UNSHARED, "BertForPreTraining"),
    "bert_tanh": (dataclasses.replace(UNSHARED, activation="gelu_tanh"), "BertForPreTraining"),
    "distilbert": (HEADLESS, "DistilBertForMaskedLM"),
    "bort": (dataclasses.replace(HEADLESS, norm_epsilon=1e-5), "BertForMaskedLM"),
}


def random_params(model: Model, seed: int = 0, head: Head | None = None) -> dict:
    """Far from the initialisation, so that every bias, norm and activation matters. Padded rows are zero."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        flat[path] = (rng.normal(size=shape) * 0.15 + path.endswith("scale")).astype(np.float32)
    for path in flat.keys() & {"embeddings/word/embedding", "mlm/bias"}:
        flat[path][model.vocab_size :] = 0
    return parameters.nest(flat)


def padded_batch(model: Model, encode) -> dict[str, np.ndarray]:
    """[CLS] a [SEP] b [SEP], padded with 0 to the longest: int32 [B, L] each."""
    rows = []
    for a, b in PAIRS:
        first = [2, *encode(a), 3]
        second = [*encode(b), 3] if b else []
        rows.append((first + second, [0] * len(first) + [1] * len(second)))
    length = max(len(ids) for ids, _ in rows)
    batch = {name: np.zeros((len(rows), length), np.int32) for name in ("tokens", "segments", "token_types")}
    for i, (ids, types) in enumerate(rows):
        batch["tokens"][i, : len(ids)] = ids
        batch["segments"][i, : len(ids)] = 1
        batch["token_types"][i, : len(ids)] = types if model.token_types else 0
    batch["positions"] = np.broadcast_to(np.arange(length, dtype=np.int32), (len(rows), length)).copy()
    return batch


def our_outputs(params: dict, model: Model, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """MLM logits at every position [B, L, V], pair logits [B, C], pooled [B, D], N + 1 hidden states [B, L, D]."""
    flax = PretrainingModel(model, "float32")

    def outputs(params, tokens, segments, positions, token_types):
        tree, inputs = {"params": params}, (tokens, segments, positions, token_types)
        cls = jnp.zeros((len(tokens), 1), jnp.int32)
        logits, pair = flax.apply(tree, *inputs, cls, positions)
        hidden = flax.apply(tree, *inputs, method="hidden_states")
        pooled = flax.apply(tree, hidden[-1], cls, method="pooled") if model.pooler else None
        return logits, pair, hidden, pooled

    names = ("tokens", "segments", "positions", "token_types")
    # Each program runs once: its operations, which all of them share, compile faster than the whole.
    with jax.disable_jit():
        logits, pair, hidden, pooled = outputs(params, *(batch[name] for name in names))
    found = {"mlm": np.asarray(logits)[..., : model.vocab_size]}
    found |= {f"hidden_{i}": np.asarray(state) for i, state in enumerate(hidden)}
    found |= {} if pair is None else {"pair": np.asarray(pair)[:, 0]}
    return found | ({} if pooled is None else {"pooled": np.asarray(pooled)[:, 0]})


def their_outputs(folder: pathlib.Path, architecture: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same from transformers in PyTorch; the checkpoint must fit its class to the last tensor."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    loader = getattr(transformers, architecture)
    model, info = loader.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not any(info.values()), info
    model.eval()
    inputs = {"input_ids": batch["tokens"], "attention_mask": batch["segments"], "token_type_ids": batch["token_types"]}
    if architecture.startswith("Distil"):
        del inputs["token_type_ids"]
    with torch.no_grad():
        tensors = {name: torch.tensor(value, dtype=torch.long) for name, value in inputs.items()}
        outputs = model(**tensors, output_hidden_states=True)
        base = getattr(model, model.base_model_prefix)(**tensors)
    found = {f"hidden_{i}": state.numpy() for i, state in enumerate(outputs.hidden_states)}
    found["mlm"] = outputs[0].numpy()
    for name in ("sop_logits", "seq_relationship_logits"):
        if name in outputs:
            found["pair"] = outputs[name].numpy()
    if getattr(base, "pooler_output", None) is not None:
        found["pooled"] = base.pooler_output.numpy()
    return found


@pytest.fixture(scope="module")
def encode(tmp_path_factory):
    """Ids of a text from a vocabulary that was learnt from the sentences above."""
    text = [part for pair in PAIRS for part in pair if part]
    out = tmp_path_factory.mktemp("tokenizer") / "small"
    small = train_tokenizer(text, out, 80)
    return lambda text: small.encode(text).tolist()


# --- Parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_transformers_computes_what_our_model_computes(case, tmp_path, encode):
    """MLM and pair logits, pooled output and every hidden state, in f32, at every real position of a padded batch."""
    model, architecture = CASES[case]
    params = random_params(model)
    batch = padded_batch(model, encode)
    to_hf(Weights(params, model, pair_task="sop"), tmp_path / "out")
    ours = our_outputs(params, model, batch)
    theirs = their_outputs(tmp_path / "out", architecture, batch)
    assert ours.keys() == theirs.keys()
    real = batch["segments"] == 1
    assert 0 < real.mean() < 1
    for name, value in ours.items():
        assert value.shape == theirs[name].shape, name
        at = real if value.shape[:2] == real.shape else ...
        np.testing.assert_allclose(value[at], theirs[name][at], atol=1e-4, rtol=0, err_msg=name)
        assert np.abs(value[at]).max() > 0.05, name


@pytest.mark.parametrize("case", CASES)
def test_the_way_back_gives_the_same_bits_and_the_same_shape(case, tmp_path):
    model, _ = CASES[case]
    params = random_params(model)
    to_hf(Weights(params, model, pair_task="sop"), tmp_path / "out")
    loaded = from_hf(tmp_path / "out")
    back, found = loaded.params, loaded.model
    assert found == dataclasses.replace(model, vocab_multiple=1)
    wanted = parameters.flatten(params)
    read = parameters.flatten(parameters.pad_vocabulary(back, model))
    assert read.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(read[path], value)
        assert read[path].dtype == np.float32


@pytest.mark.parametrize(
    "name", ["AlbertModel", "BertModel", "DistilBertModel", "BertForMaskedLM", "BertForPreTraining"]
)
def test_what_transformers_saves_gives_its_hidden_states_in_our_model(name, tmp_path, encode):
    """The other direction: a model that transformers initialised and saved."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 211, "max_position_embeddings": 96}
    if name.startswith("Distil"):
        config = transformers.DistilBertConfig(**sizes, dim=32, n_layers=2, n_heads=4, hidden_dim=48)
    else:
        kind = transformers.AlbertConfig if name.startswith("Albert") else transformers.BertConfig
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        config = kind(**sizes)
    theirs = getattr(transformers, name)(config)
    theirs.save_pretrained(tmp_path)
    loaded = from_hf(tmp_path)
    params, model = loaded.params, loaded.model
    parts = {"Model": {"mlm", "pair"}, "ForMaskedLM": {"pooler", "pair"}, "ForPreTraining": set()}
    suffix = next(part for part in parts if name.endswith(part))
    assert set(parameters.OPTIONAL_PARTS) - params.keys() - {"pooler"} == parts[suffix] - {"pooler"}
    assert model.pooler == (name in ("AlbertModel", "BertModel", "BertForPreTraining"))
    batch = padded_batch(model, encode)
    inputs = [batch[key] for key in ("tokens", "segments", "positions", "token_types")]
    flax = PretrainingModel(model, "float32")
    with jax.disable_jit():
        ours = flax.apply({"params": params}, *inputs, method="hidden_states")
    theirs.eval().set_attn_implementation("eager")
    feed = {"input_ids": batch["tokens"], "attention_mask": batch["segments"], "token_type_ids": batch["token_types"]}
    if name.startswith("Distil"):
        del feed["token_type_ids"]
    with torch.no_grad():
        outputs = theirs(
            **{key: torch.tensor(v, dtype=torch.long) for key, v in feed.items()}, output_hidden_states=True
        )
    real = batch["segments"] == 1
    assert len(ours) == len(outputs.hidden_states) == 3
    for mine, state in zip(ours, outputs.hidden_states, strict=True):
        np.testing.assert_allclose(np.asarray(mine)[real], state.numpy()[real], atol=1e-4, rtol=0)


# --- The folder ------------------------------------------------------------------------------------------------------


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


def test_the_config_uses_their_names():
    """Google's tanh form is `gelu_new` there; plain `gelu` is the erf form."""
    written = to_config(SHARED, "albert", {"pad": 0, "cls": 2, "sep": 3}, "sop")
    wanted = {
        "model_type": "albert",
        "hidden_act": "gelu_new",
        "embedding_size": 16,
        "num_hidden_groups": 1,
        "layer_norm_eps": 1e-12,
        "architectures": ["AlbertForPreTraining"],
    }
    assert {key: written[key] for key in wanted} == wanted
    assert to_config(UNSHARED, "bert", {"pad": 0, "cls": 2, "sep": 3}, "nsp")["hidden_act"] == "gelu"


def test_the_weights_say_that_they_are_pytorchs_and_leave_tied_tensors_out(tmp_path):
    to_hf(Weights(random_params(SHARED), SHARED, pair_task="sop"), tmp_path / "out")
    with safetensors.safe_open(tmp_path / "out" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert not any("decoder" in name for name in file.keys())  # noqa: SIM118


def test_what_no_class_holds_is_refused_in_one_line():
    refused = {
        "attention": dataclasses.replace(SHARED, share="attention"),
        "ffn": dataclasses.replace(SHARED, share="ffn"),
        "unshared layers with a projection": dataclasses.replace(SHARED, share="none"),
        "norm": dataclasses.replace(SHARED, norm="pre"),
        "pair head of 2 classes": dataclasses.replace(UNSHARED, pair_classes=3),
    }
    for part, model in refused.items():
        with pytest.raises(UserError, match=part) as caught:
            choose_family(model)
        assert "\n" not in str(caught.value)


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
        ("refuses one label", UNSHARED, Head(labels=("one",)), None),
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


@pytest.mark.parametrize("share", ["attention", "ffn"])
@pytest.mark.parametrize("head", [None, Head("tag", ("O", "B-PER", "I-PER"))])
def test_layers_that_share_a_part_are_written_unshared_and_it_is_said(share, head, tmp_path, caplog):
    """BERT's classes share nothing: each layer gets its copy, the outputs stay, the card and the log tell."""
    model = dataclasses.replace(UNSHARED, share=share, share_groups=2)
    model = dataclasses.replace(model, pooler=False, pair_classes=0) if head else model
    params = random_params(model, head=head)
    with caplog.at_level(logging.WARNING):
        assert to_hf(Weights(params, model, head, pair_task="nsp"), tmp_path / "out") == "bert"
    assert f"the layers share their {share}" in caplog.text
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"The layers share their {share}" in card
    assert "| layer sharing | none |" in card
    back = from_hf(tmp_path / "out")
    assert (back.model, back.head) == (dataclasses.replace(model, share="none", share_groups=1), head)
    batch = padded_batch(model, lambda text: [5 + ord(letter) % 200 for letter in text[:20]])
    inputs = [batch[name] for name in ("tokens", "segments", "positions", "token_types")]
    last = []
    for one, tree in ((model, params), (back.model, back.params)):
        flax = TaskModel(one, head) if head else PretrainingModel(one)
        with jax.disable_jit():
            last.append(flax.apply({"params": tree}, *inputs, method="hidden_states")[-1])
    np.testing.assert_allclose(last[0], last[1], atol=1e-6)


def test_a_family_that_cannot_hold_the_model_is_refused():
    with pytest.raises(UserError, match="epsilon"):
        check_family(dataclasses.replace(HEADLESS, norm_epsilon=1e-5), "distilbert")
    with pytest.raises(UserError, match="cannot be exported as bert"):
        check_family(SHARED, "bert")
    check_family(HEADLESS, "bert")


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    params = random_params(SHARED)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="exists; pass --overwrite"):
        to_hf(Weights(params, SHARED, pair_task="sop"), tmp_path / "notes")
    with pytest.raises(UserError, match="no earlier output"):
        to_hf(Weights(params, SHARED, pair_task="sop"), tmp_path / "notes", overwrite=True)
    broken = json.loads(json.dumps({}))
    with pytest.raises(UserError, match="missing"):
        to_hf(Weights(broken, SHARED, pair_task="sop"), tmp_path / "broken")
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
        ({"id2label": {"0": "O", "1": "B-PER"}}, r"classifier.weight is \(3, 32\), wanted \(2, 32\)"),
        ({"id2label": {"1": "O", "2": "B-PER", "3": "I"}}, "id2label in config.json does not count from 0"),
        ({"id2label": {"0": "O", "1": "O", "2": "I"}}, "has a name twice"),
        ({"id2label": ["O", "B-PER", "I"]}, "is not a table from numbers to names"),
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
    with pytest.raises(UserError, match=r"config.json:1: not JSON"):
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
