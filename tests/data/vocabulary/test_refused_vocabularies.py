"""A vocabulary that cannot be adopted is refused in one line that says why."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from tokenizer_folders import UNCASED, sentencepiece_model, vocab_txt, wordpiece, write_folder
from tokenizers import pre_tokenizers

from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
from bertlite_jax.errors import UserError

BERT: dict[str, Any] = {"tokenizer_class": "BertTokenizer"}
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)])
INVALID = {"type": "Split", "pattern": {"Regex": "(["}, "behavior": "Isolated", "invert": False}
DAMAGED = {"type": "Precompiled", "precompiled_charsmap": "A==="}
NO_PIECES = {"type": "WordPiece", "vocab": 5}
REFUSED = {
    r"'.*' becomes \[.*transformers 5.*\[.*transformers 4": lambda f: wordpiece(f, pre_tokenizer=DIGITS, **BERT),
    r"BertJapaneseTokenizer reads text is not known": lambda f: wordpiece(
        f, tokenizer_class="BertJapaneseTokenizer"
    ),
    r"vocab.txt of a BertJapaneseTokenizer": lambda f: vocab_txt(f, tokenizer_class="BertJapaneseTokenizer"),
    r"do_lower_case = 'yes' should be true or false": lambda f: vocab_txt(f, do_lower_case="yes"),
    r"post_processor 'a' becomes \['a'\]": lambda f: wordpiece(f, change=bare),
    r"tokenizer_class = 5 should be a name": lambda f: vocab_txt(f, tokenizer_class=5),
    r"added_tokens_decoder should hold tokens by their ids": lambda f: vocab_txt(f, added_tokens_decoder=[1]),
    r"additional_special_tokens should be a list": lambda f: vocab_txt(f, additional_special_tokens="[E1]"),
    r"no piece '<unk>', which is the unk_token stated": lambda f: vocab_txt(f, unk_token="<unk>"),
    r"unk_token: 7 is no token": lambda f: vocab_txt(f, unk_token=7),
    r"it has no model": lambda f: changed(f, model=5),
    r"not a file of the tokenizers library.*expected a map": lambda f: changed(f, model=NO_PIECES),
    r"not a file of the tokenizers library.*NormalizerUntagged": lambda f: changed(f, normalizer=5),
    r"not a file of the tokenizers library.*premature end of char-class": lambda f: changed(f, pre_tokenizer=INVALID),
    r"not a file of the tokenizers library.*AddedTokenWithId": lambda f: changed(f, added_tokens=[1]),
    r"tokenizer.json: Is a directory": lambda f: folder_of_name(f, "tokenizer.json"),
    r"tokenizer_config.json cannot be read": lambda f: folder_of_name(vocab_txt(f), "tokenizer_config.json"),
    r"precompiled_charsmap is damaged": lambda f: changed(f, normalizer=DAMAGED),
    r"precompiled_charsmap is damaged: .*parse": lambda f: changed(
        f, normalizer={"type": "Sequence", "normalizers": [DAMAGED | {"precompiled_charsmap": "AAAA"}]}
    ),
    r"nested too deeply": lambda f: replaced(f, '{"model": ' + "[" * 100_000),
    r"thousands of digits": lambda f: replaced(f, '{"model": ' + "9" * 5000 + "}"),
    r"a JSON object is expected": lambda f: replaced(f, "[1]"),
    r"'Covid' and 'covid' both normalise to 'covid'": lambda f: wordpiece(f, added=("Covid", "covid")),
    r"'cafe' and 'café' both normalise to 'cafe'": lambda f: wordpiece(f, added=("cafe", "café"), **BERT),
    r"'\\n' and '\\t' both normalise to ' '": lambda f: wordpiece(f, added=("\n", "\t")),
    r"'New' and 'new' both": lambda f: vocab_txt(
        f, files={"added_tokens.json": {"New": len(UNCASED), "new": len(UNCASED) + 1}}
    ),
    r"'\\u200b' normalises to nothing": lambda f: wordpiece(f, added=("\u200b",)),
}  # fmt: skip


def bare(tokenizer) -> None:
    """Takes the [CLS] and [SEP] away."""
    tokenizer.post_processor = type(tokenizer.post_processor)(single="$A", pair="$A $B", special_tokens=[])


def replaced(folder: pathlib.Path, content: str) -> pathlib.Path:
    write_folder(folder)
    (folder / "tokenizer.json").write_text(content)
    return folder


def folder_of_name(folder: pathlib.Path, name: str) -> pathlib.Path:
    (folder / name).mkdir(parents=True)
    return folder


def changed(folder: pathlib.Path, **parts) -> pathlib.Path:
    file = json.loads((wordpiece(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    return replaced(folder, json.dumps(file | parts))


def test_a_tokenizer_of_our_own_is_not_adopted_a_second_time(trained, tmp_path):
    """Its settings are not those that its vocabulary alone suggests."""
    with pytest.raises(UserError, match="is a tokenizer of bertlite already"):
        adopt_vocabulary(trained["wordpiece"].folder, tmp_path / "ours")


def test_a_sentencepiece_model_that_transformers_5_converts_otherwise_is_refused_in_a_folder(tmp_path):
    """Its converter finds symbols such as `.` in the raw text, and starts a word behind each; ALBERT does not."""
    folder = write_folder(tmp_path / "hf", model_type="albert")
    sentencepiece_model(folder / "spiece.model", user_defined_symbols=["."])
    with pytest.raises(UserError, match=r"'a.b' becomes .*transformers 5 converts.*Name the file itself"):
        adopt_vocabulary(folder, tmp_path / "ours")
    named = adopt_vocabulary(folder / "spiece.model", tmp_path / "named")
    assert "".join(named.pieces(named.encode("3.5"))) == "▁3.5"
    sentencepiece_model(folder / "spiece.model")
    assert adopt_vocabulary(folder, tmp_path / "plain").kind == "sentencepiece"


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_adopted_is_refused_in_one_line_with_the_reason(message, tmp_path):
    folder = REFUSED[message](tmp_path / "hf")
    with pytest.raises(UserError, match=message) as caught:
        adopt_vocabulary(folder, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "ours").exists()
