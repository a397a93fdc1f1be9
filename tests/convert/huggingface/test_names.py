"""The name tables are bijective, and what does not fit them is listed completely."""

import dataclasses

import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.huggingface import foreign_names, names
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError

ALBERT = tiny.model(vocab_multiple=16, hidden_size=12, num_layers=4, ffn_size=20, max_positions=10, share_groups=2)
BERT = dataclasses.replace(ALBERT, embed_size=12, share="none", share_groups=1)
DISTILBERT = dataclasses.replace(BERT, token_types=0, pooler=False, pair_classes=0)
CASES: dict[str, tuple[names.Family, Model]] = {
    "albert": ("albert", ALBERT),
    "albert_equal_widths": ("albert", dataclasses.replace(ALBERT, embed_size=12)),
    "bert": ("bert", BERT),
    "bert_without_token_types": ("bert", DISTILBERT),
    "distilbert": ("distilbert", DISTILBERT),
}


def random_flat(model: Model, seed: int = 0) -> parameters.Flat:
    """Random parameters by flat name; the vocabulary's padded rows are zero."""
    rng = np.random.default_rng(seed)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    for path in ("embeddings/word/embedding", "mlm/bias"):
        flat[path][model.vocab_size :] = 0
    return flat


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_has_one_name_and_every_name_one_parameter(case):
    family, model = CASES[case]
    entries = names.entries(family, model)
    theirs = [entry.theirs for entry in entries]
    ours = [(entry.ours, entry.index) for entry in entries]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    assert {path for path, _ in ours} == set(names.family_shapes(family, model))
    assert {entry.ours.rsplit("/", 1)[0] for entry in entries} <= {row[0] for row in names.TABLES[family]}


@pytest.mark.parametrize(
    ("family", "model", "count"),
    [
        ("distilbert", DISTILBERT, 10 + 16 * 4 - 1),
        ("bert", dataclasses.replace(BERT, pooler=False, pair_classes=0), 12 + 16 * 4 - 2),
        ("albert", dataclasses.replace(ALBERT, share_groups=1, pooler=False, pair_classes=0), 30 - 2),
    ],
)
def test_as_many_tensors_as_the_state_dictionary_of_a_masked_lm_less_the_tied_ones(family, model, count):
    """DistilBertForMaskedLM has 10 + 16 N tensors, BertForMaskedLM 12 + 16 N, AlbertForMaskedLM 30 (transformers 5.23).

    That counts copies of tied tensors: the decoder's weight, and in the latter two also its bias.
    """
    assert len(names.entries(family, model)) == count


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    ("family", "stem", "count"),
    [
        ("distilbert", "DistilBert", lambda n: 10 + 16 * n),
        ("bert", "Bert", lambda n: 12 + 16 * n),
        ("albert", "Albert", lambda n: 30),
    ],
)
def test_a_masked_lm_has_as_many_tensors_as_its_state_dictionary(family, stem, count, layers):
    """The same counts from the classes themselves, and the same names."""
    transformers = pytest.importorskip("transformers", reason="needs torch and transformers")
    kind = {"distilbert": transformers.DistilBertConfig, "bert": transformers.BertConfig}.get(
        family, transformers.AlbertConfig
    )
    sizes = {"vocab_size": 61, "max_position_embeddings": 20}
    if family == "distilbert":
        config = kind(**sizes, dim=16, n_layers=layers, n_heads=2, hidden_dim=24)
    else:
        sizes |= {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 24}
        config = kind(**sizes)
    theirs = getattr(transformers, f"{stem}ForMaskedLM")(config)
    listed = set(theirs.state_dict())
    assert len(listed) == count(layers)
    model = dataclasses.replace(CASES[family][1], num_layers=layers, share_groups=1, pooler=False, pair_classes=0)
    ours = {entry.theirs for entry in names.entries(family, model)}
    tied = {copy for copy, _ in foreign_names.TIED[family]}
    assert not ours & tied
    assert ours | tied == listed


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_gives_the_same_bits(case):
    family, model = CASES[case]
    flat = random_flat(model)
    tensors = names.to_theirs(flat, family, model)
    wide = dataclasses.replace(model, token_types=max(1, model.token_types) if family != "distilbert" else 0)
    wide = dataclasses.replace(wide, vocab_multiple=1)
    back, reduced = names.reduce(names.to_ours(tensors, family, wide, "test"), family, wide)
    assert reduced == dataclasses.replace(model, vocab_multiple=1)
    wanted = parameters.trim_vocabulary(flat, model)
    assert back.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(back[path], value)


HEADS = {
    "classify": Head("classify", ("a", "b", "c")),
    "choose": Head("choose", ()),
    "tag": Head("tag", ("O", "B")),
    "span": Head("span", ()),
}


def task_case(family: str, kind: str) -> tuple[Model, Head]:
    model = {"albert": ALBERT, "bert": BERT, "distilbert": DISTILBERT}[family]
    return dataclasses.replace(model, pooler=HEADS[kind].pooled, pair_classes=0), HEADS[kind]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("family", ["albert", "bert", "distilbert"])
def test_task_heads_have_one_name_for_every_parameter_and_come_back(family, kind):
    model, head = task_case(family, kind)
    shapes = parameters.shapes(model, head)
    entries = names.entries(family, model, head)
    theirs = [entry.theirs for entry in entries]
    assert len(set(theirs)) == len(theirs)
    assert {entry.ours for entry in entries} == set(names.family_shapes(family, model, head)) >= set(shapes)
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
    tensors = names.to_theirs(flat, family, model, head)
    trimmed = dataclasses.replace(model, vocab_multiple=1)
    back, _ = names.reduce(names.to_ours(tensors, family, trimmed, "test", head), family, trimmed)
    for path, value in parameters.trim_vocabulary(flat, model).items():
        np.testing.assert_array_equal(back[path], value)


def test_the_poolers_of_the_task_classes_have_their_names():
    """Only DistilBERT's base model has no pooler; its task classes call theirs `pre_classifier`."""
    found = {}
    for family in ("albert", "bert", "distilbert"):
        for kind in HEADS:
            model, head = task_case(family, kind)
            theirs = {entry.theirs for entry in names.entries(family, model, head) if "{" not in entry.theirs}
            found[family, kind] = {name for name in theirs if "pooler" in name or "pre_classifier" in name}
    for kind in ("tag", "span"):
        assert not any(found[family, kind] for family in ("albert", "bert", "distilbert"))
    for kind in ("classify", "choose"):
        assert found["albert", kind] == {"albert.pooler.weight", "albert.pooler.bias"}
        assert found["bert", kind] == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
        assert found["distilbert", kind] == {"pre_classifier.weight", "pre_classifier.bias"}


def test_a_task_head_is_never_missing_as_a_whole():
    model, head = task_case("bert", "classify")
    model = dataclasses.replace(model, vocab_multiple=1)
    flat = {path: np.zeros(shape, np.float32) for path, shape in parameters.shapes(model, head).items()}
    tensors = names.to_theirs(flat, "bert", model, head)
    for part in ("classifier", "bert.pooler.dense"):
        less = {name: value for name, value in tensors.items() if not name.startswith(part)}
        with pytest.raises(UserError, match=rf"missing: {part}\.weight, {part}\.bias$"):
            names.to_ours(less, "bert", model, "test", head)


@pytest.mark.parametrize("share", ["attention", "ffn"])
def test_a_shared_part_is_written_once_a_layer(share):
    """Four layers in two groups: layers 0 and 1 have the tensors of group 0, layers 2 and 3 those of group 1."""
    model = dataclasses.replace(BERT, share=share, share_groups=2)
    flat = random_flat(model)
    spread, unshared = names.unshare(flat, model)
    assert (unshared.share, unshared.share_groups) == ("none", 1)
    assert {path: value.shape for path, value in spread.items()} == parameters.shapes(unshared)
    at = {"attention": "layers/attention/key/kernel", "ffn": "layers/ffn/up/kernel"}[share]
    np.testing.assert_array_equal(spread[at], flat[at][[0, 0, 1, 1]])
    np.testing.assert_array_equal(spread["layers/norms/ffn/scale"], flat["layers/norms/ffn/scale"])


def test_kernels_are_transposed_and_layers_unstacked():
    flat = random_flat(BERT)
    tensors = names.to_theirs(flat, "bert", BERT)
    np.testing.assert_array_equal(
        tensors["bert.encoder.layer.3.intermediate.dense.weight"], flat["layers/ffn/up/kernel"][3].T
    )
    np.testing.assert_array_equal(
        tensors["bert.embeddings.word_embeddings.weight"], flat["embeddings/word/embedding"][:50]
    )
    assert all(value.flags["C_CONTIGUOUS"] for value in tensors.values())


def test_albert_of_equal_widths_gets_an_identity():
    model = dataclasses.replace(ALBERT, embed_size=12)
    tensors = names.to_theirs(random_flat(model), "albert", model)
    np.testing.assert_array_equal(tensors["albert.encoder.embedding_hidden_mapping_in.weight"], np.eye(12))


def test_a_projection_between_equal_widths_that_was_trained_stays():
    model = dataclasses.replace(ALBERT, embed_size=12, vocab_multiple=1)
    flat = random_flat(model)
    flat["projection/kernel"] = np.ones((12, 12), np.float32)
    flat["projection/bias"] = np.zeros(12, np.float32)
    kept, found = names.reduce(flat, "albert", model)
    assert found == dataclasses.replace(model, projection="always")
    assert kept.keys() == parameters.shapes(found).keys()


def test_all_that_does_not_fit_is_listed_in_one_line():
    model = dataclasses.replace(BERT, vocab_multiple=1)
    tensors = names.to_theirs(random_flat(model), "bert", model)
    del tensors["bert.embeddings.LayerNorm.weight"]
    del tensors["cls.predictions.transform.dense.bias"]
    tensors["bert.extra.weight"] = np.zeros(3, np.float32)
    tensors["bert.pooler.dense.weight"] = np.zeros((12, 13), np.float32)
    with pytest.raises(UserError) as caught:
        names.to_ours(tensors, "bert", model, "FOLDER")
    text = str(caught.value)
    assert text.startswith("convert: FOLDER:")
    assert "\n" not in text
    for name in ("bert.embeddings.LayerNorm.weight", "cls.predictions.transform.dense.bias", "bert.extra.weight"):
        assert name in text
    assert "bert.pooler.dense.weight is (12, 13), wanted (12, 12)" in text


def test_our_own_parameters_are_checked_before_an_export():
    flat = random_flat(ALBERT)
    del flat["layers/norms/ffn/bias"]
    flat["layers/ffn/up/kernel"] = flat["layers/ffn/up/kernel"][:1]
    flat["surplus"] = np.zeros(1)
    with pytest.raises(UserError) as caught:
        names.to_theirs(flat, "albert", ALBERT)
    for part in ("missing: layers/norms/ffn/bias", "unknown: surplus", "layers/ffn/up/kernel is (1, 12, 20)"):
        assert part in str(caught.value)


def test_a_head_may_be_missing_as_a_whole_but_not_in_part():
    model = dataclasses.replace(BERT, vocab_multiple=1)
    tensors = names.to_theirs(random_flat(model), "bert", model)
    encoder = {name: value for name, value in tensors.items() if not name.startswith("cls.predictions")}
    flat = names.to_ours(encoder, "bert", model, "test")
    assert parameters.missing_parts(parameters.nest(flat), model) == ["mlm"]
    del tensors["cls.predictions.bias"]
    with pytest.raises(UserError, match=r"missing: cls\.predictions\.bias$"):
        names.to_ours(tensors, "bert", model, "test")


def test_padding_undoes_trimming():
    flat = random_flat(ALBERT)
    trimmed = parameters.trim_vocabulary(flat, ALBERT)
    assert trimmed["mlm/bias"].shape == (50,)
    padded = parameters.flatten(parameters.pad_vocabulary(parameters.nest(trimmed), ALBERT))
    for path, value in flat.items():
        np.testing.assert_array_equal(padded[path], value)


def test_weights_padded_for_other_hardware_lose_their_surplus_rows_of_zeros():
    wide = parameters.nest(random_flat(dataclasses.replace(ALBERT, vocab_multiple=64)))
    fitted = parameters.flatten(parameters.pad_vocabulary(wide, dataclasses.replace(ALBERT, vocab_multiple=1)))
    np.testing.assert_array_equal(fitted["embeddings/word/embedding"], wide["embeddings"]["word"]["embedding"][:50])


@pytest.mark.parametrize("rows", [40, 80])
def test_another_vocabulary_is_neither_padded_nor_cut_into_place(rows):
    flat = random_flat(dataclasses.replace(ALBERT, vocab_size=rows, vocab_multiple=1))
    with pytest.raises(UserError, match=f"has {rows} rows and model.vocab_size is 50"):
        parameters.pad_vocabulary(parameters.nest(flat), ALBERT)


def test_parts_that_are_missing_are_named():
    small = dataclasses.replace(ALBERT, token_types=0, pooler=False, pair_classes=0)
    params = parameters.nest(random_flat(small))
    assert parameters.missing_parts(params, ALBERT) == ["embeddings/token_type", "pooler", "pair"]
    assert parameters.missing_parts(params, small) == []
