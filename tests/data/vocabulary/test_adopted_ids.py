"""A folder of transformers, in whatever form, is adopted with the ids that AutoTokenizer gives, or refused."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest
from tokenizer_folders import (
    ALBERT_STEPS,
    ALBERT_WORDS,
    CASED,
    NAMES,
    UNCASED,
    byte_level,
    older,
    sentencepiece_model,
    unigram,
    vocab_txt,
    wordpiece,
    write_folder,
    xlm_roberta,
)
from tokenizer_texts import MODEL_SCHEMA, ours, real_lines, theirs, transformers_albert
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Pipeline

from bertlite_jax.convert.huggingface.tokenizer import write_tokenizer
from bertlite_jax.data.vocabulary import check_texts
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, load_tokenizer

transformers = pytest.importorskip("transformers")

CHAIN = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)])
ADDED = ("covid-19", "[ENT]", "@user", "été")
FLAGGED = (
    AddedToken("alone", single_word=True),
    AddedToken("<left>", lstrip=True, normalized=False),
    AddedToken("<RIGHT>", rstrip=True, normalized=False),
    AddedToken("Ab", normalized=True),
    AddedToken("Cd", normalized=False),
)
SPACES = pre_tokenizers.WhitespaceSplit()
WORDS = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
MARKS = pre_tokenizers.Metaspace()
PUNCTUATED = pre_tokenizers.Sequence([SPACES, pre_tokenizers.Punctuation(), MARKS])
KEEPS_CASE = normalizers.BertNormalizer(lowercase=False)
BERT: dict[str, Any] = {"tokenizer_class": "BertTokenizer"}

# --- Forms that are adopted, and the kind that they become ------------------------------------------------------------

FORMS = {
    # A vocab.txt with this or that beside it
    "vocab": ("wordpiece", vocab_txt),
    "vocab cased": ("wordpiece", lambda f: vocab_txt(f, CASED, do_lower_case=False)),
    "vocab cased, nothing stated": ("wordpiece", lambda f: vocab_txt(f, CASED)),
    "vocab without capitals, cased": ("wordpiece", lambda f: vocab_txt(f, do_lower_case=False)),
    "vocab, accents kept": ("wordpiece", lambda f: vocab_txt(f, strip_accents=False)),
    "vocab, cased without accents": ("wordpiece", lambda f: vocab_txt(f, do_lower_case=False, strip_accents=True)),
    "vocab, Chinese not apart": ("wordpiece", lambda f: vocab_txt(f, tokenize_chinese_chars=False)),
    "vocab of DistilBERT": (
        "wordpiece",
        lambda f: vocab_txt(f, model_type="distilbert", tokenizer_class="DistilBertTokenizer"),
    ),
    "vocab of ALBERT": ("wordpiece", lambda f: vocab_txt(f, model_type="albert", **BERT)),
    "vocab without [MASK]": ("wordpiece", lambda f: vocab_txt(f, [piece for piece in UNCASED if piece != "[MASK]"])),
    "vocab and a [MASK] of another name": (
        "wordpiece",
        lambda f: vocab_txt(f, files={"special_tokens_map.json": NAMES | {"mask_token": "<m>"}}),
    ),
    "vocab and added_tokens.json": (
        "pipeline",
        lambda f: vocab_txt(f, files={"added_tokens.json": {"covid-19": len(UNCASED) + 1, "[ENT]": len(UNCASED)}}),
    ),
    "vocab and additional special tokens": (
        "pipeline",
        lambda f: vocab_txt(
            f, files={"special_tokens_map.json": NAMES | {"additional_special_tokens": ["[E1]", "[/E1]"]}}
        ),
    ),
    "vocab and added_tokens_decoder": (
        "pipeline",
        lambda f: vocab_txt(
            f, added_tokens_decoder={str(len(UNCASED)): {"content": "[ENT]", "lstrip": True, "normalized": False}}
        ),
    ),
    # tokenizer.json, run as it is
    "file": ("wordpiece", wordpiece),
    "file cased": ("wordpiece", lambda f: wordpiece(f, CASED, KEEPS_CASE)),
    "file, digits apart": ("pipeline", lambda f: wordpiece(f, pre_tokenizer=DIGITS)),
    "file, split at spaces": ("pipeline", lambda f: wordpiece(f, pre_tokenizer=SPACES)),
    "file, Whitespace": ("pipeline", lambda f: wordpiece(f, pre_tokenizer=pre_tokenizers.Whitespace())),
    "file, Punctuation": ("pipeline", lambda f: wordpiece(f, pre_tokenizer=pre_tokenizers.Punctuation())),
    "file, Split": (
        "pipeline",
        lambda f: wordpiece(f, pre_tokenizer=WORDS),
    ),
    "file, the course's chain": ("pipeline", lambda f: wordpiece(f, normalizer=CHAIN)),
    "file, the course's chain and Whitespace": (
        "pipeline",
        lambda f: wordpiece(f, normalizer=CHAIN, pre_tokenizer=pre_tokenizers.Whitespace()),
    ),
    "file, NFC": ("pipeline", lambda f: wordpiece(f, CASED, normalizer=normalizers.NFC())),
    "file, long words": ("pipeline", lambda f: wordpiece(f, longest=200)),
    "file, added tokens": ("pipeline", lambda f: wordpiece(f, added=ADDED)),
    "file cased, added tokens": (
        "pipeline",
        lambda f: wordpiece(f, CASED, KEEPS_CASE, added=ADDED),
    ),
    "file, added tokens with flags": ("pipeline", lambda f: wordpiece(f, added=FLAGGED)),
    "file, additional special tokens": (
        "pipeline",
        lambda f: wordpiece(f, additional_special_tokens=["[E1]", "[/E1]"]),
    ),
    "file, truncation and padding": ("wordpiece", lambda f: wordpiece(f, change=cut_and_pad)),
    "file, added tokens, truncation and padding": (
        "pipeline",
        lambda f: wordpiece(f, added=ADDED, change=cut_and_pad),
    ),
    # tokenizer.json, of which the class takes the pieces
    "class over file": ("wordpiece", lambda f: wordpiece(f, **BERT)),
    "class over file, cased": ("wordpiece", lambda f: wordpiece(f, CASED, do_lower_case=False, **BERT)),
    "class over file, lower": (
        "wordpiece",
        lambda f: wordpiece(f, CASED, KEEPS_CASE, **BERT),
    ),
    "class over file, accents kept": ("wordpiece", lambda f: wordpiece(f, strip_accents=False, **BERT)),
    "class over file, added tokens": ("pipeline", lambda f: wordpiece(f, added=ADDED, **BERT)),
    # Unigram
    "ALBERT": ("sentencepiece", lambda f: unigram(f, ALBERT_STEPS, ALBERT_WORDS, tokenizer_class="AlbertTokenizer")),
    "ALBERT as a file": ("sentencepiece", lambda f: unigram(f, ALBERT_STEPS, ALBERT_WORDS)),
    "Unigram cased": ("pipeline", lambda f: unigram(f, (normalizers.NFKC(),), ALBERT_WORDS)),
    "Unigram over punctuation": (
        "pipeline",
        lambda f: unigram(
            f,
            ALBERT_STEPS,
            PUNCTUATED,
        ),
    ),
    "Unigram, Metaspace alone": ("pipeline", lambda f: unigram(f, ALBERT_STEPS, MARKS)),
    "file of an older version": ("wordpiece", lambda f: older(wordpiece(f))),
    "ALBERT of an older version": ("sentencepiece", lambda f: older(unigram(f, ALBERT_STEPS, ALBERT_WORDS))),
    "BERT with XLM-R's vocabulary": ("pipeline", xlm_roberta),
    # Byte-level BPE
    "RoBERTa": ("bpe", byte_level),
    "RoBERTa with a space before": ("bpe", lambda f: byte_level(f, prefix_space=True)),
    "byte-level file": ("bpe", lambda f: byte_level(f, tokenizer_class="PreTrainedTokenizerFast")),
    "RoBERTa, added tokens": ("pipeline", lambda f: byte_level(f, added=ADDED)),
}  # fmt: skip


def cut_and_pad(tokenizer) -> None:
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)


def lines_for(tokenizer: Tokenizer) -> list[str]:
    """The built-in texts and more, with the tokenizer's own words and added tokens."""
    return check_texts.lines(
        tokenizer.pieces(range(tokenizer.vocab_size)), [*ADDED, "[E1]", "<left>", "alone", "Ab", "Cd"]
    )


def without_specials(tokenizer: Tokenizer, lines: list[str]) -> list[str]:
    special = re.compile("|".join(map(re.escape, tokenizer.pieces(tokenizer.special_ids))))
    return [line for line in lines if not special.search(line)]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """Adopts a form once: (folder, our tokenizer)."""
    made: dict[str, tuple[pathlib.Path, Tokenizer]] = {}

    def adopt(name: str) -> tuple[pathlib.Path, Tokenizer]:
        if name not in made:
            place = tmp_path_factory.mktemp("form")
            folder = FORMS[name][1](place / "hf")
            made[name] = folder, adopt_vocabulary(folder, place / "ours")
        return made[name]

    return adopt


@pytest.mark.parametrize("name", FORMS)
def test_an_adopted_folder_gives_the_ids_of_auto_tokenizer(name, adopted):
    folder, tokenizer = adopted(name)
    assert tokenizer.kind == FORMS[name][0]
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(reference) == tokenizer.vocab_size
    lines = lines_for(tokenizer)
    plain = without_specials(tokenizer, lines)
    assert ours(tokenizer, plain) == theirs(reference, plain)
    asked = [tokenizer.encode(line, allow_special=True).tolist() for line in lines]
    assert asked == theirs(reference, lines)


@pytest.mark.parametrize("name", FORMS)
def test_saved_and_written_back_it_gives_the_same_ids(name, adopted, tmp_path):
    _, tokenizer = adopted(name)
    lines = lines_for(tokenizer)
    assert ours(load_tokenizer(tokenizer.folder), lines) == ours(tokenizer, lines)
    write_folder(tmp_path / "back")
    write_tokenizer(tokenizer, tmp_path / "back", 48, 2)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert (len(reference), reference.model_max_length) == (tokenizer.vocab_size, 48)
    plain = without_specials(tokenizer, lines)
    assert theirs(reference, plain) == ours(tokenizer, plain)
    around = [tokenizer.cls_id, *tokenizer.encode(plain[0]), tokenizer.sep_id]
    assert reference(plain[0])["input_ids"] == around
    again = adopt_vocabulary(tmp_path / "back", tmp_path / "again")
    assert again.kind == tokenizer.kind
    assert ours(again, lines) == ours(tokenizer, lines)


@pytest.mark.parametrize("name", FORMS)
def test_offsets_and_word_starts_come_with_the_same_ids(name, adopted):
    _, tokenizer = adopted(name)
    lines = lines_for(tokenizer)[:120]
    for line, (expected, starts_word) in zip(lines, tokenizer.encode_lines(lines), strict=True):
        ids, starts, ends = tokenizer.encode_with_offsets(line)
        assert ids.tolist() == expected.tolist()
        assert (starts <= ends).all()
        assert ends.max(initial=0) <= len(line)
        assert starts_word[:1].all()


# --- What the forms mean ----------------------------------------------------------------------------------------------


def test_added_tokens_stay_whole_and_start_words(adopted):
    """huggingface/tokenizers #672, #786."""
    _, tokenizer = adopted("file, added tokens")
    ids, starts, ends = tokenizer.encode_with_offsets("COVID-19 is [ENT] @user2")
    assert tokenizer.pieces(ids) == ["covid-19", "i", "##s", "[ENT]", "@user", "2"]
    assert (starts[3], ends[3]) == (12, 17)
    assert tokenizer.word_starts(ids).tolist() == [True, True, False, True, True, True]


def test_a_special_piece_in_a_text_is_text_although_added_tokens_are_not(adopted):
    _, tokenizer = adopted("file, additional special tokens")
    assert tokenizer.pieces(tokenizer.encode("[E1] [SEP] [/E1]")) == ["[E1]", "[", "s", "##e", "##p", "]", "[/E1]"]
    assert tokenizer.sep_id in tokenizer.encode("[E1] [SEP] [/E1]", allow_special=True)


def test_case_is_as_the_folder_states_it_for_every_way_in(tmp_path):
    """allenai/scibert #79 and others: tokenizer_config.json decides, also over tokenizer.json."""
    folder = wordpiece(tmp_path / "hf", do_lower_case=False, **BERT)
    for place in (folder, folder / "tokenizer.json"):
        tokenizer = adopt_vocabulary(place, tmp_path / "ours", overwrite=True)
        assert (tokenizer.settings["lower"], tokenizer.settings["keep_accents"]) == (False, True)
    lower = adopt_vocabulary(folder, tmp_path / "lower", lower=True, keep_accents=False)
    assert lower.pieces(lower.encode("AÉ")) == ["a", "##e"]


def test_a_cased_vocabulary_of_which_nothing_is_said_is_lower_cased_with_a_warning(tmp_path, caplog):
    """EmilyAlsentzer/clinicalBERT #26: the folder says nothing, so AutoTokenizer lower-cases."""
    adopt_vocabulary(vocab_txt(tmp_path / "hf", CASED), tmp_path / "ours")
    assert '{"do_lower_case": false}' in caplog.text
    bare = vocab_txt(tmp_path / "bare", CASED, model_type=None)
    assert adopt_vocabulary(bare, tmp_path / "cased").settings["lower"] is False


def test_a_chinese_vocabulary_without_capitals_lower_cases_unless_the_folder_says_otherwise(tmp_path):
    """google-research/bert #1188."""
    bare = vocab_txt(tmp_path / "bare", model_type=None)
    tokenizer = adopt_vocabulary(bare, tmp_path / "ours")
    assert tokenizer.pieces(tokenizer.encode("Apple是苹果")) == ["apple", "是", "苹", "果"]
    stated = adopt_vocabulary(vocab_txt(tmp_path / "hf", do_lower_case=False), tmp_path / "stated")
    assert stated.pieces(stated.encode("Apple是苹果")) == ["[UNK]", "是", "苹", "果"]


@pytest.mark.parametrize("name", ["file, truncation and padding", "file, added tokens, truncation and padding"])
def test_truncation_and_padding_of_the_file_are_neither_obeyed_nor_passed_on(name, adopted, tmp_path):
    """huggingface/tokenizers in other languages obey what tokenizer.json has saved: daulet/tokenizers #30."""
    _, tokenizer = adopted(name)
    assert len(tokenizer.encode("a " * 40)) == 40
    write_tokenizer(tokenizer, tmp_path, 48, 2)
    written: Any = Pipeline.from_file(str(tmp_path / "tokenizer.json"))
    assert len(written.encode("a " * 40).ids) == 42
    assert len(written.encode("a").ids) == 3


ROBERTA_FILE: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}


@pytest.mark.parametrize("form", [byte_level, lambda f: byte_level(f, **ROBERTA_FILE), xlm_roberta])
def test_pairs_with_two_pieces_between_them_are_warned_of(form, tmp_path, caplog):
    """RoBERTa reads <s> a </s></s> b </s>."""
    adopt_vocabulary(wordpiece(tmp_path / "bert"), tmp_path / "plain")
    assert caplog.text == ""
    adopt_vocabulary(form(tmp_path / "hf"), tmp_path / "ours")
    assert "special pieces into a pair" in caplog.text


# --- SentencePiece models ---------------------------------------------------------------------------------------------


def test_a_sentencepiece_model_without_a_normaliser_is_adopted(tmp_path):
    """google/sentencepiece #520: the remedy there is the identity rule."""
    model = sentencepiece_model(tmp_path / "identity.model", normalization_rule_name="identity")
    tokenizer = adopt_vocabulary(model, tmp_path / "ours")
    assert "".join(tokenizer.pieces(tokenizer.encode("The cat sat"))) == "▁the▁cat▁sat"


def test_a_model_without_a_mask_has_it_behind_its_pieces(tmp_path):
    """A vocabulary that was trained for another purpose: AutoTokenizer adds the piece, and the model has its row."""
    folder = write_folder(tmp_path / "hf", model_type="albert")
    proto = MODEL_SCHEMA.ModelProto.FromString(sentencepiece_model(folder / "spiece.model").read_bytes())
    del proto.pieces[[piece.piece for piece in proto.pieces].index("[MASK]")]
    (folder / "spiece.model").write_bytes(proto.SerializeToString())
    tokenizer = adopt_vocabulary(folder, tmp_path / "ours")
    assert tokenizer.mask_id == tokenizer.vocab_size - 1 == len(proto.pieces)
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    lines = without_specials(tokenizer, lines_for(tokenizer))
    assert ours(tokenizer, lines) == theirs(reference, lines)


def test_user_defined_symbols_are_found_before_normalisation(tmp_path):
    """google/sentencepiece #101."""
    symbols = ["<user>", "[ENT]", "."]
    model = sentencepiece_model(tmp_path / "uds.model", user_defined_symbols=symbols)
    tokenizer = adopt_vocabulary(model, tmp_path / "ours")
    pieces = tokenizer.pieces(tokenizer.encode("the [ENT] sat 3.5 <user>"))
    assert {"[ENT]", "<user>", "."} <= set(pieces)
    assert "<unk>" not in pieces
    assert "".join(pieces).endswith("3.5▁<user>")


# --- Ten thousand lines -----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_real_lines_get_the_ids_of_auto_tokenizer(shared, tmp_path):
    """A few hundred lines through an uncased BERT with added tokens; the slow test has all forms."""
    compare(*real_forms(shared, tmp_path)["bert uncased, added tokens"], real_text(shared, 150), tmp_path)


@pytest.mark.slow
def test_ten_thousand_real_lines_get_the_ids_of_auto_tokenizer_in_every_form(shared, tmp_path):
    lines = real_text(shared, 1800)
    assert len(lines) >= 10_000
    for name, (kind, folder) in real_forms(shared, tmp_path).items():
        print(f"{name}: {compare(kind, folder, lines, tmp_path / name)} lines")


def real_text(shared: pathlib.Path, most: int) -> list[str]:
    """English and Chinese: encyclopedias, books, reviews."""
    names = ("enwiki_train.txt", "enwiki_valid.txt", "books_train.txt", "zhwiki_train.txt", "zhwiki_valid.txt")
    lines = real_lines(*(shared / "pretrain" / name for name in names), most=most)
    reviews = real_lines(shared / "chnsenticorp" / "train.jsonl", most=most)
    return lines + [json.loads(line)["text1"] for line in reviews]


def real_forms(shared: pathlib.Path, place: pathlib.Path) -> dict[str, tuple[str, pathlib.Path]]:
    """Folders with released vocabularies."""
    uncased, cased, chinese = (
        (shared / "vocab" / f"bert_{name}_vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for name in ("uncased", "cased", "chinese")
    )
    added = ("covid-19", "[ENT]", "New York", "北京大学", "the first")
    return {
        "bert uncased, added tokens": ("pipeline", wordpiece(place / "a", uncased, added=added)),
        "bert uncased": ("wordpiece", vocab_txt(place / "b", uncased)),
        "bert cased, nothing stated": ("wordpiece", vocab_txt(place / "c", cased)),
        "bert cased": ("wordpiece", vocab_txt(place / "d", cased, do_lower_case=False)),
        "bert cased, file": ("wordpiece", wordpiece(place / "e", cased, KEEPS_CASE)),
        "chinese": ("wordpiece", vocab_txt(place / "f", chinese)),
        "chinese cased": ("wordpiece", vocab_txt(place / "g", chinese, do_lower_case=False)),
        "digits apart": ("pipeline", wordpiece(place / "h", uncased, pre_tokenizer=DIGITS)),
        "at spaces": ("pipeline", wordpiece(place / "i", uncased, pre_tokenizer=SPACES)),
        "the course's": ("pipeline", wordpiece(place / "j", uncased, CHAIN, pre_tokenizers.Whitespace())),
        "albert": ("sentencepiece", released_albert(shared, place / "l")),
        "distilbert": ("wordpiece", wordpiece(place / "k", uncased, tokenizer_class="DistilBertTokenizer")),
    }  # fmt: skip


def released_albert(shared: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """ALBERT's vocabulary in a tokenizer.json, as transformers writes it."""
    transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes()).save_pretrained(folder)
    return write_folder(folder, model_type="albert")


def compare(kind: str, folder: pathlib.Path, lines: list[str], place: pathlib.Path) -> int:
    tokenizer = adopt_vocabulary(folder, place / "ours")
    assert tokenizer.kind == kind
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    lines = without_specials(tokenizer, lines)
    for line, mine, other in zip(lines, ours(tokenizer, lines), theirs(reference, lines), strict=True):
        assert mine == other, line
    return len(lines)
