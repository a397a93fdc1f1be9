"""Every family with every head, both ways: transformers computes what our model computes, forwards and backwards."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import thorough
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.huggingface import names
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.task_heads import TaskModel

ALBERT = tiny.model(vocab_size=61, ffn_size=24, max_positions=20)
BERT = dataclasses.replace(ALBERT, embed_size=16, share="none", activation="gelu_erf")
DISTILBERT = dataclasses.replace(BERT, token_types=0, pooler=False, pair_classes=0)
BORT = dataclasses.replace(DISTILBERT, norm_epsilon=1e-5, activation="gelu_tanh")
MODELS = {"albert": ALBERT, "bert": BERT, "distilbert": DISTILBERT, "bort": BORT}
STEMS = {"albert": "Albert", "bert": "Bert", "distilbert": "DistilBert", "bort": "Bert"}

HEADS: dict[str, Head | None] = {
    "pretraining": None,
    "classify": Head("classify", ("bad", "so so", "good")),
    "multi_label": Head("classify", ("rain", "wind", "sun"), "multi_label"),
    "regression": Head("classify", ("score",), "regression"),
    "choose": Head("choose", ()),
    "tag": Head("tag", ("O", "B-PER", "I-PER", "B-LOC")),
    "span": Head("span", ()),
}
CLASSES = {
    "classify": "ForSequenceClassification",
    "multi_label": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "choose": "ForMultipleChoice",
    "tag": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
PROBLEMS = {
    "classify": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
MATRIX = [(family, head) for family in MODELS for head in HEADS]
# Each head once, and each family.
USUAL = list(zip([*MODELS] * 2, HEADS, strict=False))
# The problems of a classifier differ only in the loss, so two families are enough for them.
STEPS = [(family, head) for family, head in MATRIX if family in ("albert", "distilbert") or head not in PROBLEMS]
STEPS += [("bert", "classify"), ("bort", "classify")]

B, L, CHOICES = 4, 12, 2


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def case(family: str, head_name: str) -> tuple[Model, Head | None]:
    """The model and head as the family's class has them: DistilBERT pools with a ReLU, tags and spans do not pool."""
    model, head = MODELS[family], HEADS[head_name]
    if head is None:
        return model, None
    relu = family == "distilbert" and head.pooled
    head = dataclasses.replace(head, activation="relu" if relu else "tanh", dropout=0.25)
    return dataclasses.replace(model, pooler=head.pooled, pair_classes=0), head


def class_name(family: str, head_name: str) -> str:
    pretraining = "ForPreTraining" if MODELS[family].pair_classes else "ForMaskedLM"
    return STEMS[family] + CLASSES.get(head_name, pretraining)


def random_params(model: Model, head: Head | None, seed: int) -> dict[str, Any]:
    """Parameters far from the initialisation, so that every bias, norm and activation matters."""
    rng = np.random.default_rng(seed)
    flat = {
        path: (rng.normal(size=shape) * 0.2 + path.endswith("scale")).astype(np.float32)
        for path, shape in parameters.shapes(model, head).items()
    }
    return parameters.nest(flat)


def padded_batch(model: Model, lengths: tuple[int, ...] = (12, 9, 7, 10)) -> dict[str, np.ndarray]:
    """Pairs of random ids that are not the padding's, in rows of `lengths` real tokens: int32 [B, L] each."""
    rng = np.random.default_rng(1)
    places = np.arange(L)[None].repeat(B, 0).astype(np.int32)
    real = (places < np.array(lengths)[:, None]).astype(np.int32)
    second = (places >= 5) * real if model.token_types > 1 else 0 * real
    tokens = rng.integers(5, model.vocab_size, (B, L)).astype(np.int32) * real
    return {"tokens": tokens, "segments": real, "positions": places, "token_types": second}


def targets(model: Model, head_name: str, real: np.ndarray) -> dict[str, np.ndarray]:
    """The targets of the loss, by the names of the class's arguments. -100 does not count."""
    rng = np.random.default_rng(2)
    head = HEADS[head_name]
    if head is None:
        chosen = (rng.random((B, L)) < 0.4) & (real == 1)
        labels = np.where(chosen, rng.integers(0, model.vocab_size, (B, L)), -100)
        pair = {"pair": rng.integers(0, 2, B)} if model.pair_classes else {}
        return {"labels": labels} | pair
    if head_name == "tag":
        return {"labels": np.where(real == 1, rng.integers(0, head.outputs, (B, L)), -100)}
    if head_name == "span":
        return {"start_positions": rng.integers(0, L, B), "end_positions": rng.integers(0, L, B)}
    made = {
        "classify": rng.integers(0, head.outputs, B),
        "multi_label": rng.integers(0, 2, (B, head.outputs)).astype(np.float32),
        "regression": rng.normal(size=(B, head.outputs)).astype(np.float32),
        "choose": rng.integers(0, CHOICES, B // CHOICES),
    }
    return {"labels": made[head_name]}


# --- Ours ------------------------------------------------------------------------------------------------------------


def applied(weights: Weights, batch: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
    """The model, its inputs without `cls`, and the further inputs of a pretraining model."""
    flax: Any = TaskModel(weights.model, weights.head) if weights.head else PretrainingModel(weights.model)
    inputs = [batch[name] for name in ("tokens", "segments", "positions", "token_types")]
    return flax, inputs, () if weights.head else (batch["positions"],)


CLS = np.zeros((B, 1), np.int32)


def forward(params: Any, weights: Weights, batch: dict[str, np.ndarray]) -> tuple:
    """Logits of all heads."""
    flax, inputs, extra = applied(weights, batch)
    logits = flax.apply({"params": params}, *inputs, CLS, *extra)
    return tuple(part for part in logits if part is not None) if isinstance(logits, tuple) else (logits,)


def cross_entropy(logits, labels):
    """Mean over the labels that count."""
    counted = (labels >= 0).astype(np.float32)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return -(chosen * counted).sum() / counted.sum()


def loss(logits: tuple, wanted: dict[str, np.ndarray], head_name: str):
    """The loss of the class, from the definitions of cross-entropy, binary cross-entropy and squared error."""
    first = logits[0]
    if head_name == "pretraining":
        pair = cross_entropy(logits[1][:, 0], wanted["pair"]) if "pair" in wanted else 0.0
        return cross_entropy(first, wanted["labels"]) + pair
    if head_name == "tag":
        return cross_entropy(first, wanted["labels"])
    if head_name == "span":
        ends = [cross_entropy(first[..., i], wanted[f"{end}_positions"]) for i, end in enumerate(("start", "end"))]
        return sum(ends) / 2
    if head_name == "choose":
        return cross_entropy(first.reshape(-1, CHOICES), wanted["labels"])
    first, labels = first[:, 0], wanted["labels"]
    if head_name == "multi_label":
        return -(labels * jax.nn.log_sigmoid(first) + (1 - labels) * jax.nn.log_sigmoid(-first)).mean()
    return ((first - labels) ** 2).mean() if head_name == "regression" else cross_entropy(first, labels)


def our_outputs(weights: Weights, head_name: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flax, inputs, _ = applied(weights, batch)
    # Each program runs once. Single operations, which all of them share, compile faster than whole programs.
    with jax.disable_jit():
        logits = forward(weights.params, weights, batch)
        tree = {"params": weights.params}
        hidden = flax.apply(tree, *inputs, method="hidden_states")
        pooled = flax.apply(tree, hidden[-1], CLS, method="pooled") if weights.model.pooler else None
    found = {f"hidden_{i}": np.asarray(state) for i, state in enumerate(hidden)}
    found["logits"] = np.asarray(logits[0])
    if head_name in ("classify", "multi_label", "regression", "choose"):
        found["logits"] = found["logits"][:, 0]
    if len(logits) > 1:
        found["pair"] = np.asarray(logits[1])[:, 0]
    if pooled is not None:
        found["pooled"] = np.asarray(pooled)[:, 0]
    return found


# --- Theirs ----------------------------------------------------------------------------------------------------------


def load_theirs(folder: pathlib.Path, name: str) -> Any:
    """The class with the checkpoint, which must fit it to the last tensor."""
    transformers = pytest.importorskip("transformers", reason="parity needs torch and transformers")
    loader = getattr(transformers, name)
    theirs, info = loader.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not any(info.values()), info
    return theirs.eval()


def feed(theirs: Any, batch: dict[str, np.ndarray], head_name: str) -> dict[str, Any]:
    import torch

    fed = {"input_ids": batch["tokens"], "attention_mask": batch["segments"], "token_type_ids": batch["token_types"]}
    if theirs.config.model_type == "distilbert":
        del fed["token_type_ids"]
    shape = (B // CHOICES, CHOICES, L) if head_name == "choose" else (B, L)
    return {name: torch.tensor(value.reshape(shape), dtype=torch.long) for name, value in fed.items()}


def their_outputs(theirs: Any, head_name: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    with torch.no_grad():
        outputs = theirs(**feed(theirs, batch, head_name), output_hidden_states=True)
        flat = feed(theirs, batch, "one text a row")
        base = getattr(theirs, theirs.base_model_prefix)(**flat)
        found = {f"hidden_{i}": state.numpy() for i, state in enumerate(outputs.hidden_states)}
        if head_name == "span":
            found["logits"] = torch.stack([outputs.start_logits, outputs.end_logits], -1).numpy()
        else:
            found["logits"] = outputs["prediction_logits" if "prediction_logits" in outputs else "logits"].numpy()
        if head_name == "choose":
            found["logits"] = found["logits"].reshape(B, 1)
        for name in ("sop_logits", "seq_relationship_logits"):
            if name in outputs:
                found["pair"] = outputs[name].numpy()
        if getattr(base, "pooler_output", None) is not None:
            found["pooled"] = base.pooler_output.numpy()
        if hasattr(theirs, "pre_classifier"):
            found["pooled"] = theirs.pre_classifier(base.last_hidden_state[:, 0]).relu().numpy()
    return found


def their_model(family: str, head_name: str) -> Any:
    """A model that transformers initialised, moved far from there."""
    torch = pytest.importorskip("torch", reason="parity needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="parity needs torch and transformers")
    head, model = HEADS[head_name], MODELS[family]
    sizes: dict[str, Any] = {"vocab_size": 61, "max_position_embeddings": 20}
    if head is not None and head.kind in ("classify", "tag"):
        sizes["id2label"] = dict(enumerate(head.labels))
        sizes["label2id"] = {label: i for i, label in enumerate(head.labels)}
    if head_name in PROBLEMS:
        sizes["problem_type"] = PROBLEMS[head_name]
    if family == "distilbert":
        sizes |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "dropout": 0.0, "attention_dropout": 0.0}
        config = transformers.DistilBertConfig(**sizes, seq_classif_dropout=0.25, qa_dropout=0.25)
    else:
        sizes |= {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        sizes |= {"type_vocab_size": max(1, model.token_types), "layer_norm_eps": model.norm_epsilon}
        if family == "albert":
            config = transformers.AlbertConfig(**sizes, embedding_size=8, classifier_dropout_prob=0.25)
        else:
            activation = {"gelu_erf": "gelu", "gelu_tanh": "gelu_new"}[model.activation]
            config = transformers.BertConfig(**sizes, hidden_act=activation, classifier_dropout=0.25)
    torch.manual_seed(0)
    theirs = getattr(transformers, class_name(family, head_name))._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            value.copy_(torch.randn_like(value) * 0.2 + ("norm" in name.lower() and name.endswith("weight")))
            if "token_type" in name and model.token_types == 0:
                # Ours has no table and theirs always has one; a row of zeros has no effect.
                value.zero_()
    return theirs.eval()


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], real: np.ndarray) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.shape == theirs[name].shape, name
        at = real == 1 if value.shape[:2] == real.shape else ...
        np.testing.assert_allclose(value[at], theirs[name][at], atol=1e-4, rtol=0, err_msg=name)
        assert np.abs(value[at]).max() > 0.01, name


# --- The matrix ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "head_name"), thorough.but(USUAL, MATRIX))
def test_transformers_computes_what_we_exported(family, head_name, tmp_path):
    """Logits, pooled and all hidden states on a padded batch of pairs; the same head and bits come back."""
    model, head = case(family, head_name)
    weights = Weights(random_params(model, head, seed=3), model, head)
    to_hf(weights, tmp_path / "out")
    theirs = load_theirs(tmp_path / "out", class_name(family, head_name))
    if head and head.kind in ("classify", "tag"):
        assert tuple(theirs.config.id2label[i] for i in range(theirs.config.num_labels)) == head.labels
    assert theirs.config.problem_type == PROBLEMS.get(head_name)
    batch = padded_batch(model)
    assert_same(our_outputs(weights, head_name, batch), their_outputs(theirs, head_name, batch), batch["segments"])
    loaded = from_hf(tmp_path / "out")
    assert (loaded.model, loaded.head, loaded.tokenizer) == (model, head, None)
    wanted, read = parameters.flatten(weights.params), parameters.flatten(loaded.params)
    assert read.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(read[path], value)


@pytest.mark.parametrize(("family", "head_name"), thorough.but(USUAL, MATRIX))
def test_we_compute_what_transformers_saved(family, head_name, tmp_path):
    """The other direction; and exported again, every tensor has the bytes that it had."""
    theirs = their_model(family, head_name)
    theirs.save_pretrained(tmp_path / "theirs")
    weights = from_hf(tmp_path / "theirs")
    model, head = case(family, head_name)
    untold = (family != "distilbert" and head_name == "span") or (family, head_name) == ("distilbert", "tag")
    if head and untold:
        head = dataclasses.replace(head, dropout=0.0)  # What the class does, or its `dropout`, which is 0 here.
    assert (weights.model, weights.head) == (model, head)
    batch = padded_batch(model)
    assert_same(our_outputs(weights, head_name, batch), their_outputs(theirs, head_name, batch), batch["segments"])
    to_hf(weights, tmp_path / "again")
    before = safetensors.numpy.load_file(tmp_path / "theirs" / "model.safetensors")
    after = safetensors.numpy.load_file(tmp_path / "again" / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[name].tobytes() == value.tobytes() for name, value in before.items())


@pytest.mark.parametrize(
    ("family", "head_name"),
    thorough.but([("albert", "classify")], [step for step in STEPS if step[0] == "albert"])
    + [slow(*step) for step in STEPS if step[0] != "albert"],
)
def test_one_step_has_the_gradients_that_transformers_has(family, head_name, tmp_path):
    """The gradients of the class's own loss for every parameter, by the name table, without dropout."""
    model, head = case(family, head_name)
    weights = Weights(random_params(model, head, seed=4), model, head)
    to_hf(weights, tmp_path / "out")
    theirs = load_theirs(tmp_path / "out", class_name(family, head_name))
    # The class's loss of spans reads logits at padding, where the two may differ, so its rows have no padding.
    batch = padded_batch(model, (L,) * B) if head_name == "span" else padded_batch(model)
    wanted = targets(model, head_name, batch["segments"])
    their_loss = backward(theirs, head_name, batch, wanted)
    with jax.disable_jit():
        logits, pull_back = jax.vjp(lambda params: forward(params, weights, batch), weights.params)
        value, cotangents = jax.value_and_grad(loss)(logits, wanted, head_name)
        ours = parameters.flatten(pull_back(cotangents)[0])
    assert float(value) == pytest.approx(their_loss, rel=1e-5)
    assert compared_gradients(ours, theirs, family, model, head) == set(ours)


def backward(theirs: Any, head_name: str, batch: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Fills the gradients; returns the loss."""
    import torch

    pair = "sentence_order_label" if theirs.config.model_type == "albert" else "next_sentence_label"
    labels = {pair if name == "pair" else name: torch.tensor(value) for name, value in wanted.items()}
    found = theirs(**feed(theirs, batch, head_name), **labels).loss
    found.backward()
    return found.item()


def compared_gradients(ours: parameters.Flat, theirs: Any, family: str, model: Model, head: Head | None) -> set[str]:
    """Asserts that they agree and returns the names of ours that were compared."""
    kind: Any = "bert" if family == "bort" else family
    modules = dict(theirs.named_parameters(remove_duplicate=False))
    largest = max(float(np.linalg.norm(value)) for value in ours.values())
    seen = set()
    for entry in names.entries(kind, model, head):
        if entry.ours not in ours:
            assert entry.ours == "embeddings/token_type/embedding"
            assert model.token_types == 0
            continue
        seen.add(entry.ours)
        mine = ours[entry.ours] if entry.index is None else ours[entry.ours][entry.index]
        other = modules[entry.theirs].grad.numpy()
        other = other.T if entry.transposed else other
        # A key's bias shifts all scores of a query alike: its gradient is zero but for rounding.
        allowed = 1e-3 * np.linalg.norm(other) + 1e-6 * largest
        assert np.linalg.norm(mine - other) <= allowed, entry.theirs
    return seen
