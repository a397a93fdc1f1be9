"""Vocabularies of other programs keep their ids, or are refused."""

from __future__ import annotations

import json
import pathlib

import pytest
from tokenizer_texts import ours, theirs, transformers_albert

from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
from bertlite_jax.errors import UserError

transformers = pytest.importorskip("transformers")


def test_an_albert_folder_of_transformers_keeps_its_ids(shared, english, tmp_path):
    reference = transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes())
    reference.save_pretrained(tmp_path / "hf")
    assert not (tmp_path / "hf" / "spiece.model").exists()
    tokenizer = adopt_vocabulary(tmp_path / "hf", tmp_path / "t")
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocab_size == 30_000
    assert tokenizer.settings["lower"]
    assert not tokenizer.settings["keep_accents"]
    assert ours(tokenizer, english[::4]) == theirs(reference, english[::4])


def test_a_bert_folder_of_transformers_keeps_its_ids(shared, english, tmp_path):
    vocab = shared / "vocab" / "bert_cased_vocab.txt"
    reference = transformers.BertTokenizerFast(vocab=str(vocab), do_lower_case=False)
    reference.save_pretrained(tmp_path / "hf")
    tokenizer = adopt_vocabulary(tmp_path / "hf", tmp_path / "t")
    assert tokenizer.settings["lower"] is False
    assert tokenizer.settings["keep_accents"] is True
    assert ours(tokenizer, english[::4]) == theirs(reference, english[::4])


def test_a_roberta_folder_of_transformers_keeps_its_ids(trained, english, tmp_path):
    file = json.loads((pathlib.Path(trained["bpe"].folder) / "tokenizer.json").read_text(encoding="utf-8"))
    merges = [tuple(merge) for merge in file["model"]["merges"]]
    mask = transformers.AddedToken("<mask>", lstrip=True)  # as in the published folders
    reference = transformers.RobertaTokenizer(vocab=file["model"]["vocab"], merges=merges, mask_token=mask)
    reference.save_pretrained(tmp_path / "hf")
    tokenizer = adopt_vocabulary(tmp_path / "hf", tmp_path / "t")
    assert tokenizer.kind == "bpe"
    assert tokenizer.pieces(tokenizer.special_ids) == ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    assert ours(tokenizer, english[::4]) == theirs(reference, english[::4])
    text = "the <mask> of"
    assert tokenizer.encode(text, allow_special=True).tolist() == theirs(reference, [text])[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.model", b"no model at all", "not a SentencePiece model"),
        ("vocab.txt", b"the\nof\n", "no piece for pad"),
        (
            "vocab.txt",
            b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\n",
            "vocab.txt:7: the piece 'the' stands in line 6 already",
        ),
        ("vocab.txt", b"\xff\xfe", "not UTF-8"),
        ("tokenizer.json", b"{}", "not a file of the tokenizers library"),
        ("tokenizer.json", b'{"model": {"type": "WordLevel", "vocab": {}}}', "WordLevel"),
    ],
)
def test_a_foreign_file_that_cannot_be_taken_over_is_refused_in_one_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        adopt_vocabulary(tmp_path / name, tmp_path / "t")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t").exists()


def test_a_vocabulary_with_a_byte_order_mark_or_spaces_behind_pieces_is_the_same_vocabulary(tmp_path):
    """huggingface/datasets #8241: Windows tools save the mark. The tokenizers library strips the spaces."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##re"]
    contents = {
        "plain": "\n".join(pieces) + "\n",
        "marked": "\ufeff" + "\r\n".join(pieces),
        "spaced": " \n".join(pieces),
    }
    hashes = set()
    for name, content in contents.items():
        (tmp_path / f"{name}.vocab.txt").write_bytes(content.encode("utf-8"))
        tokenizer = adopt_vocabulary(tmp_path / f"{name}.vocab.txt", tmp_path / name)
        assert tokenizer.pieces(tokenizer.encode("There the")) == ["the", "##re", "the"]
        hashes.add(tokenizer.hash)
    assert len(hashes) == 1


def test_letters_with_marks_are_not_composed_in_a_cased_vocabulary(tmp_path):
    """huggingface/transformers #5738: a\u0301 stays two characters, as there."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "\u00e1", "a", "##\u0301"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "t")
    assert tokenizer.pieces(tokenizer.encode("\u00e1 a\u0301")) == ["\u00e1", "a", "##\u0301"]
    reference = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False)
    assert ours(tokenizer, ["\u00e1 a\u0301"]) == theirs(reference, ["\u00e1 a\u0301"])


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        adopt_vocabulary(tmp_path / "none.model", tmp_path / "t")
    with pytest.raises(UserError, match=r"holds no tokenizer.json"):
        adopt_vocabulary(tmp_path, tmp_path / "t")
