"""Text to ids: one interface to SentencePiece, WordPiece and byte-level BPE vocabularies, and to any other pipeline.

A tokenizer is a folder: the model file (`spiece.model`, `vocab.txt` or `tokenizer.json`) and `bertlite_tokenizer.json`,
which says how the text is normalised first, what the special pieces are called and where words start. Lower-casing and
accents are not part of a SentencePiece model, and the model file alone would give other ids; so they are saved with
it, and the tokenizer's hash covers both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from bertlite_jax import reference_models
from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.data.text import object_storage
from bertlite_jax.data.vocabulary import adoption, codecs, saved_settings, training, word_starts
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, whole_files
from bertlite_jax.host.places import final_place, writing

SETTINGS_FILE = "bertlite_tokenizer.json"
MODEL_FILES = {
    "sentencepiece": "spiece.model",
    "wordpiece": "vocab.txt",
    "bpe": "tokenizer.json",
    "pipeline": "tokenizer.json",
}
_MOST_PIECES = 10_000_000

Kind = Literal["sentencepiece", "wordpiece", "bpe"]
"""Kinds that can be trained. An adopted vocabulary may also be a `pipeline`, run by the tokenizers library."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A loaded vocabulary. It pickles as the path of its folder, so another process loads its own."""

    folder: str
    kind: str
    """A `Kind`, or `pipeline`."""
    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    hash: str
    """SHA-256, in hex, of everything that decides ids and word starts: the model file and the settings."""
    settings: dict[str, Any]
    """lower, keep_accents, word_segmenter (`pieces` or `jieba`), and what belongs to one kind: word_letters and
    digit_comma (SentencePiece), split_chinese (WordPiece)."""
    _codec: codecs.Codec = dataclasses.field(repr=False, compare=False)
    _starts: np.ndarray = dataclasses.field(repr=False, compare=False)

    def __reduce__(self):
        return load_tokenizer, (self.folder,)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the padding, unknown, [CLS], [SEP] and [MASK] pieces, in this order."""
        return tuple(getattr(self, f"{role}_id") for role in SPECIAL_IDS)

    def encode(self, text: str, allow_special: bool = False) -> np.ndarray:
        """Ids of `text`, int32 [n], without [CLS] and [SEP].

        Args:
          text: any text.
          allow_special: the literal text of a special piece, as in `paris is [MASK]`, becomes its id. By default it
            is text like any other. Only a unigram vocabulary finds its special pieces all the same, if normalisation
            leaves them as they are (`<pad>`; `[MASK]` in a cased one), as `AutoTokenizer` does.
        """
        if not allow_special:
            return np.array(self._codec.encode_lines([text])[0], np.int32)
        if self._codec.encode_marked:
            return np.array(self._codec.encode_marked(text), np.int32)
        special = {self._codec.pieces[i]: i for i in self.special_ids}
        ids: list[int] = []
        parts = re.split("(" + "|".join(map(re.escape, special)) + ")", text)
        for part, behind in itertools.zip_longest(parts, parts[1:]):
            # RoBERTa's <mask> takes the space before it.
            absorbed = self.kind == "bpe" and behind is not None and special.get(behind) == self.mask_id
            plain = part.rstrip() if absorbed else part
            ids += [special[part]] if part in special else self._codec.encode_lines([plain])[0]
        return np.array(ids, np.int32)

    def encode_lines(self, lines: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and word starts of many lines at once: the fast path.

        The first token of a line starts a word, whatever piece it is.

        Returns:
          For each line its ids, int32 [n], and whether a word starts at each of them, bool [n].
        """
        if self.settings["word_segmenter"] == "jieba":
            return [self._segmented(line) for line in lines]
        ids = self._codec.encode_lines(lines)
        stops = list(itertools.accumulate(map(len, ids)))
        total = stops[-1] if stops else 0
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int32, total)
        starts = self._starts[flat]
        bounds = list(itertools.pairwise([0, *stops]))
        starts[[first for first, stop in bounds if stop > first]] = True
        return [(flat[first:stop], starts[first:stop]) for first, stop in bounds]

    def _segmented(self, line: str) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets, _ = self._codec.encode_spans(line)
        array = np.array(ids, np.int32)
        starts = word_starts.segmented_starts(line, offsets, self._starts[array])
        starts[:1] = True
        return array, starts

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids of `text`, and which of its characters each id stands for.

        `text[starts[i]:ends[i]]` is what piece i was made of before lower-casing, decomposition, dropped accents and
        collapsed spaces. Pieces that share one character of the text (the ligature ﬁ, split) have the same span, and
        a SentencePiece ▁ alone has that of the character behind it.

        Returns:
          ids, starts and ends, each int32 [n]; the last two count characters.
        """
        ids, starts, ends = self._codec.encode_spans(text)
        return np.array(ids, np.int32), np.array(starts, np.int32), np.array(ends, np.int32)

    def word_starts(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        """Whether a word starts at each id, bool [n], by the spelling of the pieces alone."""
        return self._starts[np.asarray(ids, np.int64)]

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """Readable text; not always the text that was encoded, since normalisation loses case and accents."""
        return self._codec.decode([int(i) for i in ids])

    def pieces(self, ids: np.ndarray | Sequence[int]) -> list[str]:
        """The pieces, as the vocabulary spells them."""
        return [self._codec.pieces[int(i)] for i in ids]


# --- A folder --------------------------------------------------------------------------------------------------------


def on_disk(folder: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of a tokenizer, or its copy where it lies in object storage (`object_storage.local_folder`).

    A run or a model has its tokenizer in `tokenizer/`; so has `reference-en`, by its name.
    """
    place = reference_models.packaged(folder) or object_storage.local_folder(folder, SETTINGS_FILE)
    inner = place / "tokenizer"
    return inner if not (place / SETTINGS_FILE).exists() and (inner / SETTINGS_FILE).exists() else place


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a folder that `train_tokenizer` or `adopt_vocabulary` wrote, or of a run or model that has one.

    Raises:
      UserError: the folder is missing, incomplete or damaged.

    Examples:
      >>> from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
      >>> tokenizer = load_tokenizer("runs/quickstart/tokenizer")
      >>> tokenizer.decode(tokenizer.encode("She looked at the Rabbit"))
      'she looked at the rabbit'
    """
    place = on_disk(folder)
    if not place.is_dir():
        quoted = shlex.quote(str(place))
        raise UserError(f"tokenizer: {place} does not exist; make one with `bertlite tokenizer TEXT --out {quoted}`")
    saved = read_settings(place)
    model = read_model(place, saved)
    codec = _build(place, saved, model)
    index = {piece: i for i, piece in enumerate(codec.pieces)}
    missing = [name for name in saved["specials"].values() if name not in index]
    if missing:
        raise UserError(f"tokenizer: {place} has no piece {missing[0]}, which its settings name as a special one")
    ids = {f"{role}_id": index[saved["specials"][role]] for role in SPECIAL_IDS}
    return Tokenizer(
        folder=os.fspath(place),
        kind=saved["kind"],
        vocab_size=len(codec.pieces),
        hash=_content_hash(saved, model),
        settings=saved["settings"],
        _codec=codec,
        _starts=np.array(codec.starts, bool),
        **ids,
    )


def read_settings(place: pathlib.Path) -> dict[str, Any]:
    """What a tokenizer folder says of itself. Raises UserError where it is missing or damaged."""
    path = place / SETTINGS_FILE
    if not path.exists():
        raise UserError(
            f"tokenizer: {place} is not a tokenizer folder (no {SETTINGS_FILE}); "
            f"adopt a vocabulary of another program with `bertlite tokenizer {shlex.quote(str(place))} --out DIR`"
        )
    saved = json_files.read(path, "tokenizer")
    expected = {"format", "kind", "model_sha256", "settings", "specials"}
    if not isinstance(saved, dict) or not expected <= saved.keys() or saved["kind"] not in list(MODEL_FILES):
        raise UserError(f"tokenizer: {path} is damaged: it should have the keys {', '.join(sorted(expected))}")
    if saved["format"] != 1:
        raise UserError(f"tokenizer: {path} has format {saved['format']}; this version reads format 1")
    saved_settings.check(saved["settings"], saved["specials"], path)
    return saved


def read_model(place: pathlib.Path, saved: dict[str, Any]) -> bytes:
    """The model file of a tokenizer folder. Raises UserError where it is not the one that the settings belong to."""
    path = place / MODEL_FILES[saved["kind"]]
    if not path.is_file():
        raise UserError(f"tokenizer: {path} is missing; a {saved['kind']} tokenizer needs it")
    model = path.read_bytes()
    if hashlib.sha256(model).hexdigest() != saved["model_sha256"]:
        raise UserError(f"tokenizer: {path} is not the file that the tokenizer was made with (its SHA-256 differs)")
    return model


def _build(place: pathlib.Path, saved: dict[str, Any], model: bytes) -> codecs.Codec:
    try:
        return codecs.build(saved["kind"], model, saved["settings"], saved["specials"])
    except KeyError as error:
        raise UserError(f"tokenizer: {place / SETTINGS_FILE} is damaged: it lacks {error}") from error


def _content_hash(saved: dict[str, Any], model: bytes) -> str:
    decisive = {key: saved[key] for key in ("kind", "settings", "specials")}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode() + b"\0" + model).hexdigest()


def write_tokenizer(out: pathlib.Path, vocabulary: adoption.Vocabulary, overwrite: bool) -> Tokenizer:
    """Writes a complete folder under another name, loads it once to be sure, and renames it."""
    saved = {
        "format": 1,
        "kind": vocabulary.kind,
        "model_sha256": hashlib.sha256(vocabulary.model).hexdigest(),
        "settings": vocabulary.settings,
        "specials": vocabulary.specials,
    }
    with whole_files.folder_beside(out) as folder, whole_files.output_errors(out, folder, "tokenizer"):
        (folder / MODEL_FILES[vocabulary.kind]).write_bytes(vocabulary.model)
        whole_files.write_json(folder / SETTINGS_FILE, saved)
        load_tokenizer(folder)
        whole_files.put_folder(folder, out, replace=overwrite)
    return load_tokenizer(out)


def _check_out(out: str | os.PathLike[str], word_segmenter: str, overwrite: bool) -> pathlib.Path:
    """Checks all that can be checked before the text is read."""
    place = final_place("tokenizer", out)
    if word_segmenter not in saved_settings.SEGMENTERS:
        raise UserError(
            f"tokenizer: word_segmenter = {word_segmenter!r} is unknown; known: {', '.join(saved_settings.SEGMENTERS)}"
        )
    if word_segmenter == "jieba":
        word_starts.load_jieba()
    with writing("tokenizer", place):
        whole_files.put_back_former(place)
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        if not overwrite:
            raise UserError(f"tokenizer: {place} exists; give another folder, or pass --overwrite")
        if not (place / SETTINGS_FILE).is_file():
            raise UserError(f"tokenizer: {place} is not a tokenizer folder and will not be overwritten")
    with writing("tokenizer", place):
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.parent).close()
    return place


# --- Making one ------------------------------------------------------------------------------------------------------


def train_tokenizer(
    sentences: Iterable[str],
    out: str | os.PathLike[str],
    vocab_size: int,
    kind: Kind = "sentencepiece",
    lower: bool = True,
    keep_accents: bool = False,
    word_segmenter: str = "pieces",
    input_sentences: int = 1_000_000,
    overwrite: bool = False,
) -> Tokenizer:
    """Learns a vocabulary from text and writes the folder `out`. The same text gives the same bytes.

    Args:
      sentences: the text, a line or paragraph at a time; read once. SentencePiece holds `input_sentences` lines in
        memory, the others the distinct words.
      out: folder to write; must not exist, unless `overwrite`.
      vocab_size: V, special pieces included.
      kind: `sentencepiece` (ALBERT), `wordpiece` (BERT) or `bpe` (RoBERTa, Bort).
      lower: lower-case the text.
      keep_accents: keep accents and umlauts. Without, the text is decomposed (NFKD), which also takes Hangul apart:
        keep them for any language but English.
      word_segmenter: where words start: `pieces`, or `jieba` for Chinese.
      input_sentences: size of the random sample of lines that SentencePiece learns from.
      overwrite: replace an earlier tokenizer.

    Raises:
      UserError: there is no text, the text cannot fill this size (the error names one that works), or the folder
        exists; and whatever reading `sentences` raises.

    Examples:
      The words of Sennrich et al. 2016 (arXiv 1508.07909). BPE learns `est` first, and finds the stems of words that
      it has not seen. Ġ is the space before a word.

      >>> from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
      >>> text = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
      >>> tokenizer = train_tokenizer(text, "low-newest", vocab_size=268, kind="bpe")
      >>> tokenizer.pieces(tokenizer.encode("lowest"))
      ['Ġlow', 'est']
    """
    if vocab_size < 1:
        raise UserError(f"tokenizer: vocab_size = {vocab_size} must be positive")
    if vocab_size > _MOST_PIECES:
        raise UserError(f"tokenizer: vocab_size = {vocab_size} is too large; at most {_MOST_PIECES:,}")
    place = _check_out(out, word_segmenter, overwrite)
    if kind not in get_args(Kind):
        raise UserError(f"tokenizer: kind = {kind!r} is unknown; known: {', '.join(get_args(Kind))}")
    settings = {"lower": lower, "keep_accents": keep_accents, "word_segmenter": word_segmenter}
    lines = _without_blank(sentences)
    if kind == "sentencepiece":
        model = training.train_sentencepiece(lines, vocab_size, lower, keep_accents, input_sentences)
        settings |= {"word_letters": "unicode", "digit_comma": True}
        specials = training.SENTENCEPIECE_SPECIALS
    elif kind == "wordpiece":
        model = training.train_wordpiece(lines, vocab_size, lower, keep_accents)
        settings |= {"split_chinese": True}
        specials = training.WORDPIECE_SPECIALS
    else:
        model = training.train_bpe(lines, vocab_size, lower, keep_accents)
        specials = training.BPE_SPECIALS
    return write_tokenizer(place, adoption.Vocabulary(kind, model, settings, specials), overwrite)


def _without_blank(sentences: Iterable[str]) -> Iterator[str]:
    return (line for sentence in sentences if (line := sentence.strip()))


def adopt_vocabulary(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    lower: bool | None = None,
    keep_accents: bool | None = None,
    word_segmenter: str = "pieces",
    overwrite: bool = False,
) -> Tokenizer:
    r"""Makes a tokenizer folder from an existing vocabulary.

    Args:
      path: ALBERT's `.model`, a WordPiece `vocab.txt`, or a folder with one of them or a Hugging Face `tokenizer.json`.
      out: folder to write; must not exist, unless `overwrite`.
      lower: lower-case text; None: as `adoption.read` finds it.
      keep_accents: likewise.
      word_segmenter: where words start: `pieces`, or `jieba` for Chinese.
      overwrite: replace an earlier tokenizer.

    Raises:
      UserError: the vocabulary cannot be read or adopted.

    Examples:
      BERT's own example, which tests its tokenizer in google-research/bert.

      >>> import pathlib
      >>> from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
      >>> pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] want ##want ##ed wa un runn ##ing ,".split()
      >>> pathlib.Path("vocab.txt").write_text("\n".join(pieces))
      66
      >>> tokenizer = adopt_vocabulary("vocab.txt", "my-tokenizer")
      >>> tokenizer.pieces(tokenizer.encode("UNwantéd,running"))
      ['un', '##want', '##ed', ',', 'runn', '##ing']
      >>> ids, starts, ends = tokenizer.encode_with_offsets("UNwantéd,running")
      >>> ["UNwantéd,running"[start:end] for start, end in zip(starts, ends)]
      ['UN', 'want', 'éd', ',', 'runn', 'ing']
    """
    if (pathlib.Path(path) / SETTINGS_FILE).is_file():
        raise UserError(f"tokenizer: {path} is a tokenizer of bertlite already; name it where a tokenizer is asked for")
    place = _check_out(out, word_segmenter, overwrite)
    vocabulary = adoption.read(os.fspath(path), lower, keep_accents)
    settings = vocabulary.settings | {"word_segmenter": word_segmenter}
    return write_tokenizer(place, vocabulary._replace(settings=settings), overwrite)
