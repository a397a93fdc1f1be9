"""AutoTokenizer on an exported folder gives the ids that the model was trained on."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError

TEXT = [
    "Alice was beginning to get very tired of sitting by her sister on the bank, in 1865, on the 4th of July.",
    "Once or twice she had peeped into the book her sister was reading (without pictures)!",
    "``Curiouser and curiouser!'' cried Alice; she'd 1,000 things - or 2,500, or 3.0, who knows? - to say.",
    "Ein kleines M\u00e4dchen a\u00df \u20ac 5,00 Caf\u00e9-Cr\u00e8me in \u00c5rhus \u2026 \ufb01ne.",
    "  Spaces\t everywhere\u00a0here\u3000too ",
    "\u535a\u63a8zz \u7ea2\u697c\u68a6\u3002 \u0391\u03a3 \U0001f600 e\u0301",
]
ODD = [*TEXT, "", " ", "unseen \u4e00 symbols \u2603\ufe0f", "2011, 2012,2013 , 9,", "[ MASK ] <unk", "a" * 150]


def export(tokenizer: Tokenizer, out: pathlib.Path, **changes) -> pathlib.Path:
    """A folder of a tiny model with this tokenizer; the weights are zero."""
    model = Model(
        vocab_size=tokenizer.vocab_size,
        embed_size=4,
        hidden_size=4,
        num_layers=1,
        num_heads=1,
        ffn_size=4,
        max_positions=48,
    )
    model = dataclasses.replace(model, **changes)
    flat = {path: np.zeros(shape, np.float32) for path, shape in parameters.shapes(model).items()}
    to_hf(Weights(parameters.nest(flat), model, tokenizer=tokenizer, pair_task="sop"), out)
    return out


UNSHARED = {"share": "none", "embed_size": 4}
HEADLESS = UNSHARED | {"token_types": 0, "pooler": False, "pair_classes": 0}
KINDS = {
    "albert": ({"kind": "sentencepiece", "vocab_size": 100}, {}),
    "albert_cased": ({"kind": "sentencepiece", "vocab_size": 100, "lower": False, "keep_accents": True}, {}),
    "albert_of_wordpieces": ({"kind": "wordpiece", "vocab_size": 200}, {}),
    "bert": ({"kind": "wordpiece", "vocab_size": 200}, UNSHARED),
    "bert_cased": ({"kind": "wordpiece", "vocab_size": 200, "lower": False, "keep_accents": True}, UNSHARED),
    "bert_of_sentencepieces": ({"kind": "sentencepiece", "vocab_size": 100}, UNSHARED),
    "distilbert": ({"kind": "wordpiece", "vocab_size": 200}, HEADLESS),
    "bort": ({"kind": "bpe", "vocab_size": 300, "lower": False, "keep_accents": True}, HEADLESS),
}


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    """(our tokenizer, transformers' on the export, settings of the model)."""
    transformers = pytest.importorskip("transformers")
    how, model = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    ours = train_tokenizer(TEXT * 3, folder / "tokenizer", **how)
    out = export(ours, folder / "out", **model)
    return ours, transformers.AutoTokenizer.from_pretrained(out), model


def test_single_texts_get_our_ids_between_cls_and_sep(exported):
    ours, theirs, _ = exported
    for text in ODD:
        wanted = [ours.cls_id, *ours.encode(text).tolist(), ours.sep_id]
        assert theirs(text)["input_ids"] == wanted, text


def test_pairs_get_our_ids_and_their_segments(exported):
    """[CLS] a [SEP] b [SEP] with 0 up to the first [SEP] and 1 after it, where the model has token types."""
    ours, theirs, model = exported
    a, b = (ours.encode(text).tolist() for text in TEXT[:2])
    found = theirs(TEXT[0], TEXT[1])
    assert found["input_ids"] == [ours.cls_id, *a, ours.sep_id, *b, ours.sep_id]
    if model.get("token_types", 2):
        assert found["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    else:
        assert "token_type_ids" not in found


def test_a_mask_in_a_text_is_the_mask(exported):
    ours, theirs, _ = exported
    text = f"the book her {theirs.mask_token} was reading"
    wanted = ours.encode(text, allow_special=True).tolist()
    assert wanted.count(ours.mask_id) == 1
    assert theirs(text)["input_ids"][1:-1] == wanted


def test_special_ids_lengths_and_padding_are_the_models(exported):
    ours, theirs, _ = exported
    found = [getattr(theirs, f"{role}_token_id") for role in ("pad", "unk", "cls", "sep", "mask")]
    assert found == list(ours.special_ids)
    assert theirs.model_max_length == 48
    assert len(theirs) == ours.vocab_size
    batch = theirs([TEXT[0], TEXT[4]], padding=True)
    assert batch["input_ids"][1][-1] == ours.pad_id
    assert batch["attention_mask"][1][-1] == 0


def test_the_config_has_the_special_ids_of_the_tokenizer(tmp_path):
    """A byte-level vocabulary has <pad> at 1."""
    ours = train_tokenizer(TEXT * 3, tmp_path / "tokenizer", 300, kind="bpe")
    out = export(ours, tmp_path / "out", **HEADLESS)
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("bert", ["BertForMaskedLM"])
    assert config["pad_token_id"] == ours.pad_id == 1


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path):
    ours = train_tokenizer(TEXT * 3, tmp_path / "tokenizer", 100)
    with pytest.raises(UserError, match=r"has 100 pieces and model.vocab_size is 101"):
        export(ours, tmp_path / "out", vocab_size=101)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("vocabulary", "texts", "model"),
    [
        ("albert_spiece.model", "pretrain/enwiki_valid.txt", {}),
        pytest.param("albert_spiece.model", "pretrain/zhwiki_valid.txt", {}, marks=pytest.mark.thorough),
        ("bert_uncased_vocab.txt", "pretrain/enwiki_valid.txt", UNSHARED),
        pytest.param("bert_cased_vocab.txt", "pretrain/enwiki_valid.txt", UNSHARED, marks=pytest.mark.thorough),
        pytest.param("bert_chinese_vocab.txt", "pretrain/zhwiki_valid.txt", {}, marks=pytest.mark.thorough),
    ],
)
def test_released_vocabularies_agree_on_real_lines(vocabulary, texts, model, shared, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = adopt_vocabulary(shared / "vocab" / vocabulary, tmp_path / "tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(export(ours, tmp_path / "out", **model))
    lines = [line for line in (shared / texts).read_text(encoding="utf-8").split("\n") if line.strip()][:1500]
    found = theirs(lines, add_special_tokens=False, truncation=False)["input_ids"]
    for line, ids, (wanted, _) in zip(lines, found, ours.encode_lines(lines), strict=True):
        assert ids == wanted.tolist(), line
