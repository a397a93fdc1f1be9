"""`bertlite tokenizer`: trains a vocabulary on text, or takes over a released one."""

from __future__ import annotations

import collections
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bertlite_jax.config.text import TokenizerOptions
from bertlite_jax.data.text import documents
from bertlite_jax.data.vocabulary import word_starts
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import refuse_to_replace


def make_tokenizer(
    text: Sequence[str], out: str, options: TokenizerOptions = TokenizerOptions(), overwrite: bool = False
) -> Tokenizer:
    """Writes a tokenizer folder and prints what is in it.

    Args:
      text: files or folders to train on; or a single released vocabulary.
      out: folder to write.
      options: what the vocabulary becomes. A released one has its own size and kind, and decides about case and accents
        unless the options keep them.
      overwrite: replace the folder if it holds a tokenizer.

    Raises:
      UserError: no text, text that cannot be read, a vocabulary that cannot be adopted, or a folder in the way.
    """
    if not text:
        raise UserError("tokenizer: no text; name files, folders of them, or one released vocabulary")
    for source in text:
        refuse_to_replace("tokenizer", source, out)
    keep_accents = options.keep_accents or options.cased
    if len(text) == 1 and is_vocabulary(text[0]):
        tokenizer = adopt_vocabulary(
            text[0],
            out,
            lower=False if options.cased else None,
            keep_accents=keep_accents or None,
            word_segmenter=options.word_segmenter,
            overwrite=overwrite,
        )
        notes = []
    else:
        sentences = documents.read_sentences(
            text, language=options.language, text_field=options.text_field, on_bad_text=options.on_bad_text
        )
        seen: collections.Counter[str] = collections.Counter()
        tokenizer = train_tokenizer(
            _counted(sentences, seen),
            out,
            options.vocab_size,
            options.kind,
            not options.cased,
            keep_accents,
            options.word_segmenter,
            overwrite=overwrite,
        )
        notes = _losses(seen, tokenizer)
    cases = "lower-cased" if tokenizer.settings["lower"] else "cased"
    accents = "kept" if tokenizer.settings["keep_accents"] else "stripped"
    kind = "the folder's own pipeline" if tokenizer.kind == "pipeline" else tokenizer.kind
    print(f"tokenizer: {kind}, {tokenizer.vocab_size:,} pieces, {cases}, accents {accents}, in {out}")
    for note in notes:
        print(f"tokenizer: note: {note}")
    _note_chinese_words(tokenizer)
    return tokenizer


# --- What a vocabulary does to other languages -----------------------------------------------------------------------

# One sentence in so many is counted.
_SAMPLED = 16
_NOTED_SHARE = 0.01
_NOTED_JOINERS = 0.001
# Scripts for which the loss of accents is what the option is for; and marks that are named after no script.
_EXPECTED = ("LATIN", "GREEK", "COMBINING", "CJK", "")
_JOINERS = "\u200c\u200d"


def _counted(sentences: Iterable[str], seen: collections.Counter[str]) -> Iterator[str]:
    """The sentences; the characters of a sample of them are counted."""
    for number, sentence in enumerate(sentences):
        if number % _SAMPLED == 0:
            seen.update(sentence)
        yield sentence


def _losses(seen: collections.Counter[str], tokenizer: Tokenizer) -> list[str]:
    """What the normalisation takes from this text that its language needs.

    Args:
      seen: counts of the characters of a sample.
      tokenizer: the one that was trained.
    """
    notes = []
    letters = sum(count for c, count in seen.items() if unicodedata.category(c)[0] in "LM")
    if not tokenizer.settings["keep_accents"]:
        scripts: collections.Counter[str] = collections.Counter()
        for c, count in seen.items():
            if _without_marks(c) != c:
                scripts[unicodedata.name(c, "").split(" ")[0]] += count
        often = [script for script, count in scripts.most_common() if count > _NOTED_SHARE * letters]
        changed = [script.capitalize() for script in often if script not in _EXPECTED]
        if changed:
            notes.append(
                f"stripping accents takes letters apart, or marks off them, in the {', '.join(changed)} of this text; "
                "--keep-accents keeps them whole"
            )
    joiners = sum(seen[c] for c in _JOINERS)
    if tokenizer.kind == "sentencepiece" and joiners > _NOTED_JOINERS * letters:
        notes.append(
            "words are split at zero-width joiners, which this text has; --kind wordpiece drops them, --kind bpe keeps "
            "them"
        )
    return notes


def _without_marks(character: str) -> str:
    apart = unicodedata.normalize("NFD", character)
    return "".join(c for c in apart if unicodedata.category(c) != "Mn")


def _note_chinese_words(tokenizer: Tokenizer) -> None:
    """Says where whole-word masks would cover one Chinese character at a time."""
    single = tokenizer.kind in ("wordpiece", "pipeline") and tokenizer.settings["word_segmenter"] == "pieces"
    if single and word_starts.has_chinese(tokenizer.pieces(np.arange(tokenizer.vocab_size))):
        print(
            "tokenizer: each Chinese character counts as a word, so whole-word masks cover one character; "
            "--word-segmenter jieba makes them cover words"
        )


def is_vocabulary(path: str) -> bool:
    """Whether a path names a released vocabulary rather than text: by its name, or by how it begins."""
    place = pathlib.Path(path)
    if place.is_dir():
        return any((place / name).is_file() for name in ("tokenizer.json", "vocab.txt", "spiece.model"))
    if place.suffix == ".model" or place.name.endswith("vocab.txt") or place.name == "tokenizer.json":
        return True
    return place.suffix in (".txt", ".json") and place.is_file() and _begins_like_one(place)


def _begins_like_one(place: pathlib.Path) -> bool:
    """A list of pieces with the special ones among the first, or a file that the tokenizers library saved."""
    with place.open("rb") as file:
        beginning = file.read(1 << 16)
    if place.suffix == ".json":
        return re.match(rb'\s*\{\s*"version"\s*:\s*"[^"]*"\s*,\s*"truncation"', beginning) is not None
    return {b"[UNK]", b"[CLS]", b"[SEP]"} <= set(beginning.splitlines())
