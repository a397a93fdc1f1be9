"""The tokenizer gives the ids of Hugging Face on real text, and knows the special pieces."""

from __future__ import annotations

import pytest
import thorough
from tokenizer_texts import ENGLISH, ours, theirs, transformers_albert

from bertlite_jax.data.vocabulary.scored_pieces import sentencepiece_charsmap, sentencepiece_pieces
from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary, train_tokenizer

transformers = pytest.importorskip("transformers")

# --- The same ids as Hugging Face --------------------------------------------------------------------------------


def test_albert_gives_the_ids_of_transformers_on_real_text(albert, shared, english):
    reference = transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes())
    assert len(english) > 3000
    assert ours(albert, english) == theirs(reference, english)


@pytest.mark.parametrize("name", thorough.but(["uncased"], ["uncased", "cased"]))
def test_wordpiece_gives_the_ids_of_transformers_on_real_text(name, shared, english, tmp_path):
    vocab = shared / "vocab" / f"bert_{name}_vocab.txt"
    reference = transformers.BertTokenizerFast(vocab=str(vocab), do_lower_case=name == "uncased")
    assert ours(adopt_vocabulary(vocab, tmp_path / name), english) == theirs(reference, english)


@pytest.mark.parametrize("lower", thorough.but([True], [True, False]))
def test_chinese_wordpiece_gives_the_ids_of_transformers_on_real_text(lower, shared, chinese, tmp_path):
    vocab = shared / "vocab" / "bert_chinese_vocab.txt"
    reference = transformers.BertTokenizerFast(vocab=str(vocab), do_lower_case=lower)
    assert len(chinese) > 1000
    assert ours(adopt_vocabulary(vocab, tmp_path / "zh", lower=lower), chinese) == theirs(reference, chinese)


@pytest.mark.parametrize("kind", thorough.but(["albert"], ["albert", "uncased"]))
def test_every_character_below_3000_hex_is_treated_as_in_transformers(kind, request, shared):
    """Controls, odd spaces, accents, quotes, ligatures, fractions, Greek, Hebrew, Arabic, Indic, Thai, symbols."""
    model = shared / "vocab" / "albert_spiece.model"
    vocab = shared / "vocab" / "bert_uncased_vocab.txt"
    reference = (
        transformers_albert(model.read_bytes()) if kind == "albert" else transformers.BertTokenizerFast(str(vocab))
    )
    lines = [f"x{chr(code)}yes {chr(code)}" for code in range(1, 0x3000)]
    mine, other = ours(request.getfixturevalue(kind), lines), theirs(reference, lines)
    assert [hex(code) for code, (a, b) in enumerate(zip(mine, other, strict=True), start=1) if a != b] == []


@pytest.mark.parametrize("settings", [{"keep_accents": True}, {"lower": False, "keep_accents": True}, {}])
def test_a_trained_model_gives_the_ids_of_transformers_under_every_setting(settings, tmp_path):
    text = [*ENGLISH, "Größe und Übermaß, Straße; ÉTÉ, ΣΟΦΟΣ ``so''.", "Во 2010, году", "한국어 문장"] * 2
    mine = train_tokenizer(text, tmp_path / "t", 130, **settings)
    names = {"lower": "do_lower_case", "keep_accents": "keep_accents"}
    reference = transformers.AlbertTokenizer(
        vocab=sentencepiece_pieces(mine.folder),
        _spm_precompiled_charsmap=sentencepiece_charsmap(mine.folder),
        **{names[key]: value for key, value in settings.items()},
    )
    lines = text if settings else text[:-1]  # Without accents Hangul falls apart, into other parts there than here.
    lines = [line for line in lines if settings or "한" not in line]
    assert ours(mine, lines) == theirs(reference, lines)


def test_a_number_and_the_comma_behind_it_are_two_pieces(albert):
    """The vocabulary has ▁2010, as one piece; no other digit-comma ending survives either."""
    assert albert.pieces(albert.encode("in 2010, he")) == ["▁in", "▁2010", ",", "▁he"]
    assert albert.pieces(albert.encode("3.0,")) == ["▁3", ".", "0", ","]
    scores = dict(sentencepiece_pieces(albert.folder))
    assert scores["▁2010,"] == pytest.approx(-109.6236, abs=1e-3)  # -9.6236 in the file
    assert scores[","] == pytest.approx(-3.1902, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # google-research/bert, tokenization_test.py
        ("UNwant\u00e9d,running", ["un", "##want", "##ed", ",", "runn", "##ing"]),
        ("ah\u535a\u63a8zz", ["ah", "\u535a", "\u63a8", "zz"]),
        (" \tHeLLo!how  \n Are yoU?  ", ["hello", "!", "how", "are", "you", "?"]),
        ("H\u00e9llo", ["hello"]),
        ("unwantedX running", ["[UNK]", "runn", "##ing"]),
    ],
)
def test_wordpiece_passes_the_unit_tests_of_the_bert_release(text, words, tmp_path):
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]
    vocab += ["ah", "\u535a", "\u63a8", "zz", "hello", "!", "how", "are", "you", "?"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "t")
    assert tokenizer.pieces(tokenizer.encode(text)) == words


# --- Special pieces --------------------------------------------------------------------------------------------------


def test_albert_layout_of_the_special_ids(albert, trained):
    assert albert.special_ids == trained["sentencepiece"].special_ids == (0, 1, 2, 3, 4)
    assert trained["sentencepiece"].pieces(range(5)) == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]


def test_bert_vocabularies_keep_their_own_special_ids(uncased):
    assert uncased.special_ids == (0, 100, 101, 102, 103)  # lines of the published vocab.txt


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_a_mask_written_in_the_text_is_text_unless_it_is_asked_for(kind, trained):
    tokenizer = trained[kind]
    mask = tokenizer.pieces([tokenizer.mask_id])[0]
    text = f"a single {mask} in want"
    plain = tokenizer.encode(text)
    assert not set(plain.tolist()) & (set(tokenizer.special_ids) - {tokenizer.unk_id})
    asked = tokenizer.encode(text, allow_special=True).tolist()
    before, after = tokenizer.encode("a single"), tokenizer.encode(" in want")
    assert asked == [*before, tokenizer.mask_id, *after]


def test_mask_ids_are_those_of_transformers(albert, uncased, shared):
    text = "the [MASK] of france is paris, [MASK] say"
    reference = transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes())
    assert albert.encode(text, allow_special=True).tolist() == theirs(reference, [text])[0]
    reference = transformers.BertTokenizerFast(str(shared / "vocab" / "bert_uncased_vocab.txt"))
    assert uncased.encode(text, allow_special=True).tolist() == theirs(reference, [text])[0]
