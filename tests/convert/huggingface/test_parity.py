"""Exported folders give the same outputs in transformers as in our model, and imported ones too."""

import dataclasses
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from huggingface_examples import HEADLESS, SHARED, UNSHARED, random_params

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
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
    "albert_deep": (dataclasses.replace(SHARED, num_layers=12, residual_scale="depth"), "AlbertForPreTraining"),
    "albert_three_classes": (dataclasses.replace(SHARED, pair_classes=3), "AlbertForPreTraining"),
    "albert_without_pooler": (dataclasses.replace(SHARED, pooler=False, pair_classes=0), "AlbertForMaskedLM"),
    "bert": (UNSHARED, "BertForPreTraining"),
    "bert_tanh": (dataclasses.replace(UNSHARED, activation="gelu_tanh"), "BertForPreTraining"),
    "bert_scaled": (dataclasses.replace(UNSHARED, residual_scale=0.3), "BertForPreTraining"),
    "distilbert": (HEADLESS, "DistilBertForMaskedLM"),
    "bort": (dataclasses.replace(HEADLESS, norm_epsilon=1e-5), "BertForMaskedLM"),
}

FREED = {
    "albert_own_norms": (dataclasses.replace(SHARED, own_norms=True), "AlbertForPreTraining"),
    "albert_low_rank": (dataclasses.replace(SHARED, low_rank=3, residual_scale="depth"), "AlbertForPreTraining"),
    "albert_own_ends": (
        dataclasses.replace(SHARED, num_layers=6, share_groups=2, own_first=1, own_last=1, low_rank=2),
        "AlbertForPreTraining",
    ),
}
"""Layers that share all but something of their own: they come back written out."""


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
    # Each program runs once. Single operations, which all of them share, compile faster than whole programs.
    with jax.disable_jit():
        logits, pair, hidden, pooled = outputs(params, *(batch[name] for name in names))
    named = {"mlm": np.asarray(logits)[..., : model.vocab_size]}
    named |= {f"hidden_{i}": np.asarray(state) for i, state in enumerate(hidden)}
    named |= {} if pair is None else {"pair": np.asarray(pair)[:, 0]}
    return named | ({} if pooled is None else {"pooled": np.asarray(pooled)[:, 0]})


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


@pytest.mark.parametrize("case", thorough.but(["albert", "albert_low_rank", "bert", "distilbert"], CASES | FREED))
def test_transformers_computes_what_our_model_computes(case, tmp_path, encode):
    """MLM and pair logits, pooled output and every hidden state, in f32, at every real position of a padded batch."""
    model, architecture = (CASES | FREED)[case]
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
    """Of a model with a residual factor, those of the published form that has the factor in its kernels."""
    model, _ = CASES[case]
    params = random_params(model)
    to_hf(Weights(params, model, pair_task="sop"), tmp_path / "out")
    loaded = from_hf(tmp_path / "out")
    back, found = loaded.params, loaded.model
    assert found == model.exported
    wanted = parameters.flatten(parameters.pad_vocabulary(parameters.nest(parameters.exported(params, model)), model))
    read = parameters.flatten(parameters.pad_vocabulary(back, model))
    assert read.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(read[path], value)
        assert read[path].dtype == np.float32


@pytest.mark.parametrize(
    "name",
    thorough.but(
        ["AlbertModel", "DistilBertModel"],
        ["AlbertModel", "BertModel", "DistilBertModel", "BertForMaskedLM", "BertForPreTraining"],
    ),
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


@pytest.mark.parametrize("case", thorough.but(["albert_low_rank"], FREED))
def test_layers_with_something_of_their_own_are_written_as_groups_of_one_with_a_note(case, tmp_path, caplog):
    model, _ = FREED[case]
    params = random_params(model)
    with caplog.at_level(logging.WARNING):
        to_hf(Weights(params, model, pair_task="sop"), tmp_path / "out")
    assert f"num_hidden_groups = {model.num_layers}" in caplog.text
    assert f"but for {model.freed[0]}" in (tmp_path / "out" / "README.md").read_text()
    back = from_hf(tmp_path / "out")
    size = {"own_norms": False, "low_rank": 0, "own_first": 0, "own_last": 0, "share_groups": model.num_layers}
    assert back.model == dataclasses.replace(model.exported, **size)
    batch = padded_batch(model, lambda text: [5 + ord(letter) % 200 for letter in text[:20]])
    found = our_outputs(back.params, back.model, batch)
    for name, value in our_outputs(params, model, batch).items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_a_vector_before_each_layer_has_no_place_in_transformers(tmp_path):
    """Added before attention it is in the residual sum as well, so that no bias can stand for it."""
    model = dataclasses.replace(SHARED, depth_vector=True)
    with pytest.raises(UserError, match=r"model.depth_vector does; ONNX and INT8 files have it$"):
        to_hf(Weights(random_params(model), model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", thorough.but(["ffn"], ["attention", "ffn"]))
@pytest.mark.parametrize("head", [None, Head("tag", ("O", "B-PER", "I-PER"))])
def test_layers_that_share_a_part_are_written_unshared_with_a_note(share, head, tmp_path, caplog):
    """BERT's classes share nothing: each layer gets a copy, the outputs stay, card and log say so."""
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
