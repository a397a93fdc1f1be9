"""Text as the tokenizers see it: ALBERT's and BERT's normalisation, one character at a time.

Both normalisations map every character on its own (decompose, drop accents, lower-case, put spaces around
punctuation), so a table from character to string says everything: `str.translate` applies it at full speed, and
character offsets into the original text follow from the lengths of the entries. The entries themselves come from the
same Rust functions that Hugging Face's tokenizers run, one character at a time, so they agree by construction.

Source: transformers, models/albert/tokenization_albert.py and models/bert/tokenization_bert.py; google-research/albert,
tokenization.py (`preprocess_text`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from tokenizers import normalizers, pre_tokenizers

_QUOTE_PAIRS = re.compile("``|''")


class LazyTable(dict):
    """A dict that makes the entries it lacks, and starts anew when it has grown to `limit` of them.

    A subclass of dict, because a look-up that succeeds then never leaves C: it is what `str.translate` and the loop
    over words spend their time on. Strings longer than `longest` are not kept.
    """

    def __init__(self, make: Callable[[Any], Any], limit: int, longest: int = 0):
        super().__init__()
        self.make = make
        self.limit = limit
        self.longest = longest

    def __missing__(self, key: Any) -> Any:
        value = self.make(key)
        if len(self) >= self.limit:
            self.clear()
        if isinstance(key, int) or len(key) <= self.longest:
            self[key] = value
        return value


def albert_table(lower: bool, keep_accents: bool, charsmap: Callable[[str], str]) -> LazyTable:
    """Table from code point to text for ALBERT: NFKD without accents (or nothing), then lower case.

    Args:
      lower: lower-case every character (one at a time: a final sigma stays an ordinary one, as in Hugging Face).
      keep_accents: leave out the decomposition and the stripping.
      charsmap: what the SentencePiece model's own character map makes of a string. Applied here to white space and to
        ASCII controls, which it may drop; the rest of it works across characters, on whole words.
    """
    steps: list[Any] = [] if keep_accents else [normalizers.NFKD(), normalizers.StripAccents()]
    steps += [normalizers.Lowercase()] if lower else []
    fold = normalizers.Sequence(steps)

    def make(code: int) -> str:
        folded = fold.normalize_str(chr(code))
        return "".join(charsmap(c) if c.isspace() or c < " " or c == "\x7f" else c for c in folded)

    return LazyTable(make, limit=0x110000)


def bert_table(lower: bool, keep_accents: bool, split_chinese: bool) -> LazyTable:
    """Table from code point to text for BERT: cleaned, and with spaces around what is a word of its own.

    Args:
      lower: lower-case every character.
      keep_accents: leave out the stripping of accents.
      split_chinese: Chinese characters are words of their own.
    """
    clean = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_chinese, strip_accents=not keep_accents, lowercase=lower
    )
    split = pre_tokenizers.BertPreTokenizer()

    def make(code: int) -> str:
        return "".join(spaced(c) for c in clean.normalize_str(chr(code)))

    def spaced(character: str) -> str:
        # Between two letters, punctuation makes three words, white space two, anything else stays inside one.
        words = len(split.pre_tokenize_str(f"a{character}a"))
        return {1: character, 2: " ", 3: f" {character} "}[words]

    return LazyTable(make, limit=0x110000)


def fold(text: str, table: LazyTable, join_quotes: bool) -> str:
    """`text` normalised; `str.split` of the result gives the words that are tokenized one by one.

    Args:
      text: any text.
      table: from `albert_table` or `bert_table`.
      join_quotes: write the pairs `` and '' as one double quote first, as ALBERT does.
    """
    if join_quotes:
        text = text.replace("``", '"').replace("''", '"')
    return text.translate(table)


def fold_with_offsets(text: str, table: LazyTable, join_quotes: bool) -> tuple[str, list[int], list[int]]:
    """The same text as `fold`, and for each of its characters where it stands in `text`.

    A combining mark that is dropped belongs to the character before it, so that a span that ends there covers it.

    Returns:
      The folded text of n characters; n starts and n ends, character offsets into `text`.
    """
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    while position < len(text):
        width = 2 if join_quotes and _QUOTE_PAIRS.match(text, position) else 1
        source = '"' if width == 2 else text[position]
        folded = table[ord(source)]
        if not folded and ends and unicodedata.category(source).startswith("M"):
            ends[-1] = position + width
        characters.append(folded)
        starts += [position] * len(folded)
        ends += [position + width] * len(folded)
        position += width
    return "".join(characters), starts, ends
