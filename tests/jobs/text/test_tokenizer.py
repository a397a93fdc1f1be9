"""`bertlite tokenizer` says what a vocabulary does to the language of the text."""

import pytest
from tokenizer_folders import UNCASED, wordpiece

from bertlite_jax.config.text import TokenizerOptions
from bertlite_jax.jobs.text.tokenizer import make_tokenizer

KOREAN = "한국어 문장입니다. 안녕하세요, 오늘은 날씨가 좋습니다.\n"
SINHALA = "ක්\u200dරි ශ්\u200dරී ලංකා සිංහල\n"
ENGLISH = "A café is not naïve; the cat sat on the mat in Zürich, they say.\n"


@pytest.mark.parametrize(
    ("text", "kind", "size", "keeps", "note"),
    [
        (KOREAN, "wordpiece", 70, False, "marks off them, in the Hangul of this text; --keep-accents"),
        (KOREAN, "sentencepiece", 36, False, "Hangul"),
        (KOREAN, "wordpiece", 59, True, ""),
        (SINHALA, "sentencepiece", 27, True, "split at zero-width joiners"),
        (SINHALA, "wordpiece", 30, True, ""),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467 family\n", "sentencepiece", 23, True, "joiners"),
        ("ひらがな が ぎ ぐ ガギグ です\n", "wordpiece", 28, False, "Hiragana, Katakana"),
        (ENGLISH, "wordpiece", 60, False, ""),
    ],
)
def test_training_notes_what_the_normalisation_takes_from_the_language(text, kind, size, keeps, note, tmp_path, capsys):
    """google-research/bert #135 (Hangul), google/sentencepiece #629 (joiners)."""
    (tmp_path / "text.txt").write_text(text * 40, encoding="utf-8")
    options = TokenizerOptions(vocab_size=size, kind=kind, keep_accents=keeps)
    tokenizer = make_tokenizer([str(tmp_path / "text.txt")], str(tmp_path / "made"), options)
    assert tokenizer.vocab_size == size
    printed = capsys.readouterr().out
    assert note in printed
    assert ("note:" in printed) == bool(note)


def test_a_vocabulary_by_another_name_is_adopted_and_not_trained_on(tmp_path):
    """brightmart/albert_zh calls it vocab_chinese.txt; `Tokenizer.save` of the tokenizers library takes any name."""
    (tmp_path / "vocab_chinese.txt").write_text("".join(piece + "\n" for piece in UNCASED), encoding="utf-8")
    (wordpiece(tmp_path / "hf") / "tokenizer.json").rename(tmp_path / "mine.json")
    for name in ("vocab_chinese.txt", "mine.json"):
        made = make_tokenizer([str(tmp_path / name)], str(tmp_path / f"made_{name}"))
        assert (made.kind, made.vocab_size) == ("wordpiece", len(UNCASED))
