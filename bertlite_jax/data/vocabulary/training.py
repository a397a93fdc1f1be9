"""Learning a vocabulary from text: SentencePiece unigram, WordPiece, byte-level BPE.

Each function returns the bytes of a model file, and the same bytes for the same lines: nothing depends on the number of
cores, on hash seeds or on the clock.
"""

from __future__ import annotations

import collections
import io
import itertools
import os
import pathlib
import random
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import decoders, normalizers, pre_tokenizers, trainers

from bertlite_jax.data.vocabulary import codecs, normalize
from bertlite_jax.errors import UserError

SENTENCEPIECE_SPECIALS = {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
WORDPIECE_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
# The order of RoBERTa: <s>, <pad>, </s>, <unk> are its ids 0 to 3; its <mask> is the last id, ours is 4.
BPE_SPECIALS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}

# Always pieces of their own in ALBERT's vocabulary; the comma cannot be named there, hence the digit-comma rule.
_ALBERT_SYMBOLS = ["(", ")", '"', "-", ".", "–", "£", "€"]
# Share of the characters of the text that become pieces; rarer ones are unknown. As in the ALBERT release.
_COVERAGE = 0.99995
# These become pieces wherever they occur: a few novels hold so few digits that some would be unknown.
_ALWAYS = "".join(chr(code) for code in range(ord("!"), ord("~") + 1))
# SentencePiece leaves out longer lines without a word (max_sentence_length, in bytes); four bytes a character at most.
_LONGEST_LINE = 1000


def train_sentencepiece(
    lines: Iterable[str], vocab_size: int, lower: bool, keep_accents: bool, input_sentences: int
) -> bytes:
    """A unigram model with ALBERT's layout and flags; <pad>, <unk>, [CLS], [SEP], [MASK] are 0 to 4.

    Args:
      lines: the text.
      vocab_size: V, all pieces included.
      lower: learn from lower-cased text.
      keep_accents: learn from text with its accents.
      input_sentences: size of the random sample of lines to learn from (always the same one); memory grows with it.

    Raises:
      UserError: there is no text, or it gives no vocabulary of this size.

    Source: google-research/albert, README.md (training command).
    """
    table = normalize.albert_table(lower, keep_accents, lambda space: space)
    folded = (normalize.fold(line, table, join_quotes=True) for line in lines)
    sample = _sample((part for line in folded for part in _short_lines(line)), input_sentences)
    if not sample:
        raise UserError("tokenizer: there is no text to learn a vocabulary from")
    # The trainer counts those that do not occur as well, and stumbles over those that are symbols already.
    required = [c for c in _ALWAYS if c not in _ALBERT_SYMBOLS and any(c in line for line in sample)]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            control_symbols=["[CLS]", "[SEP]", "[MASK]"],
            user_defined_symbols=_ALBERT_SYMBOLS,
            character_coverage=_COVERAGE,
            required_chars="".join(required),
            # Sums are taken thread by thread: another number of threads gives another vocabulary.
            num_threads=16,
            minloglevel=4,
        )
    except RuntimeError as error:
        raise _explained(error, vocab_size) from error
    return model.getvalue()


def _explained(error: RuntimeError, vocab_size: int) -> Exception:
    """The UserError that says which size would work, or the error itself where the size is not the reason."""
    too_large = re.search(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)", str(error))
    if too_large:
        return too_large_for_text(vocab_size, int(too_large[1]))
    too_small = re.search(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)", str(error))
    if too_small:
        return _too_small_for_text(vocab_size, int(too_small[1]))
    if "!sentences_.empty()" in str(error):
        return UserError("tokenizer: there is no text to learn a vocabulary from")
    return error


def too_large_for_text(vocab_size: int, largest: int) -> UserError:
    """The error for a text that gives fewer pieces."""
    return UserError(
        f"tokenizer: vocab_size = {vocab_size} is too large for this text; the largest that works is {largest}"
    )


def _too_small_for_text(vocab_size: int, smallest: int) -> UserError:
    return UserError(
        f"tokenizer: vocab_size = {vocab_size} has no room for the characters of this text; "
        f"the smallest that works is {smallest}"
    )


def _short_lines(line: str) -> Iterator[str]:
    """A line in parts of at most `_LONGEST_LINE` characters, cut at spaces where there are any."""
    words = line.split()
    part: list[str] = []
    size = 0
    for word in words:
        for start in range(0, len(word), _LONGEST_LINE):
            chunk = word[start : start + _LONGEST_LINE]
            if part and size + len(chunk) > _LONGEST_LINE:
                yield " ".join(part)
                part, size = [], 0
            part.append(chunk)
            size += len(chunk) + 1
    if part:
        yield " ".join(part)


def _sample(lines: Iterable[str], count: int) -> list[str]:
    """`count` lines drawn without replacement in one pass (reservoir sampling), or all if there are fewer."""
    generator = random.Random(0)
    stream = iter(lines)
    sample = list(itertools.islice(stream, count))
    for seen, line in enumerate(stream, start=count):
        place = generator.randrange(seen + 1)
        if place < count:
            sample[place] = line
    return sample


def train_wordpiece(lines: Iterable[str], vocab_size: int, lower: bool, keep_accents: bool) -> bytes:
    """A vocab.txt for BERT's normalisation; [PAD], [UNK], [CLS], [SEP], [MASK] are 0 to 4, then the characters.

    The trainer numbers the pieces of one character in the order of a hash table, which changes from run to run. So the
    characters are counted first, and handed over in a fixed order.

    Raises:
      UserError: there is no text, or it gives no vocabulary of this size.
    """
    table = normalize.bert_table(lower, keep_accents, split_chinese=True)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "words.txt"
        first, later = _spool_words(lines, table, path)
        if not first:
            raise UserError("tokenizer: there is no text to learn a vocabulary from")
        alphabet = _covering(first + later)
        continuing = ["##" + c for c in sorted(alphabet & set(later))]
        reserved = [*WORDPIECE_SPECIALS.values(), *sorted(alphabet), *continuing]
        if len(reserved) > vocab_size:
            raise _too_small_for_text(vocab_size, len(reserved))
        model: Any = tokenizers.models.WordPiece(unk_token=WORDPIECE_SPECIALS["unk"])
        tokenizer: Any = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=reserved,
            limit_alphabet=len(alphabet),
            initial_alphabet=sorted(alphabet),
            show_progress=False,
        )
        tokenizer.train([os.fspath(path)], trainer)
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) < vocab_size:
        raise too_large_for_text(vocab_size, len(vocabulary))
    return "".join(piece + "\n" for piece in sorted(vocabulary, key=vocabulary.get)).encode("utf-8")


def _spool_words(
    lines: Iterable[str], table: normalize.LazyTable, path: pathlib.Path
) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """Writes the words of every line; counts the characters that begin a word and those that continue one."""
    first: collections.Counter[str] = collections.Counter()
    later: collections.Counter[str] = collections.Counter()
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            words = normalize.fold(line, table, join_quotes=False).split()
            first.update(word[0] for word in words)
            later.update("".join(word[1:] for word in words))
            file.write(" ".join(words) + "\n")
    return first, later


def _covering(counts: collections.Counter[str]) -> set[str]:
    """The most frequent characters, which make up `_COVERAGE` of the text, and those of `_ALWAYS` that occur."""
    wanted = _COVERAGE * counts.total()
    covered = 0
    covering = set(_ALWAYS) & set(counts)
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            break
        covering.add(character)
        covered += count
    return covering


def train_bpe(lines: Iterable[str], vocab_size: int, lower: bool, keep_accents: bool) -> bytes:
    """Byte-level BPE as a `tokenizers` file; <s>, <pad>, </s>, <unk>, <mask> are 0 to 4, then the 256 bytes.

    Raises:
      UserError: there is no text, or it gives no vocabulary of this size.
    """
    model: Any = tokenizers.models.BPE()
    tokenizer: Any = tokenizers.Tokenizer(model)
    steps: list[Any] = [] if keep_accents else [normalizers.NFKD(), normalizers.StripAccents()]
    steps += [normalizers.Lowercase()] if lower else []
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    # A space before every line: the first word of a sentence is then the same piece as inside one.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    smallest = len(BPE_SPECIALS) + 256
    if vocab_size < smallest:
        raise _too_small_for_text(vocab_size, smallest)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(BPE_SPECIALS.values()),
        initial_alphabet=codecs.byte_symbols(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    size = tokenizer.get_vocab_size()
    if size == smallest:
        raise UserError("tokenizer: there is no text to learn a vocabulary from")
    if size < vocab_size:
        raise too_large_for_text(vocab_size, size)
    return codecs.plain_bpe(codecs.bpe_json(tokenizer.to_str().encode("utf-8")))
