"""Weights of other programs, together with their vocabulary, as a folder of ours."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from bertlite_jax.config import checks
from bertlite_jax.config.model import ResidualScale
from bertlite_jax.convert import sources, tensorflow
from bertlite_jax.convert.huggingface import hub
from bertlite_jax.convert.huggingface.folder import from_hf
from bertlite_jax.convert.huggingface.sentence_transformers import model_folder, sentence_notes, with_case
from bertlite_jax.convert.import_options import ImportOptions
from bertlite_jax.convert.weights import label_order, parameters
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import SETTINGS_FILE, Tokenizer, adopt_vocabulary, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import output_errors

Path = os.PathLike[str] | str
_LOG = logging.getLogger(__name__)

_HF_FILES = ("tokenizer.json", "spiece.model", "vocab.txt")
_TF_FILES = ("30k-clean.model", "spiece.model", "vocab.txt")
# Tables are padded so that their rows fill the tiles of a TPU or of tensor cores, or divide among devices.
_MULTIPLES = (8, 16, 32, 64, 128, 256, 512, 1024)


class Imported(NamedTuple):
    """The weights that were written, and notes for the user about what is missing or was changed."""

    weights: Weights
    notes: list[str]


def import_hf(folder: Path, out: Path, options: ImportOptions = ImportOptions()) -> Imported:
    """Writes a folder of `transformers` as one of ours, with its tokenizer where it has one.

    The tokenizer's size decides `model.vocab_size` (`fit_vocabulary`). Without a tokenizer only the weights are
    imported, and a note says what needs one.

    Args:
      folder: as `save_pretrained` writes it, or a model of the hub (`hub.local_folder`).
      out: folder that `save_weights` writes; complete or absent.
      options: what is read. A tokenizer that is named may also be a tokenizer folder of ours.

    Raises:
      UserError: as for `from_hf`; a vocabulary of another size or of a kind that cannot be adopted; `out` is in the way
        or cannot be written.
    """
    checks.check_residual_scale(options.residual_scale, "convert: --residual-scale")
    folder = hub.local_folder(folder)
    inner = model_folder(folder)
    vocabulary = inner if any((inner / name).is_file() for name in _HF_FILES) else None
    missing = f"{inner} has no tokenizer that can be read ({', '.join(_HF_FILES)})"
    loaded = _with_scale(from_hf(folder, head=options.head, labels=options.labels), options.residual_scale)
    imported = _import(loaded, vocabulary, missing, str(folder), out, options)
    return Imported(imported.weights, imported.notes + sentence_notes(folder, imported.weights.sentence))


def import_tf(
    checkpoint: Path,
    out: Path,
    options: ImportOptions = ImportOptions(),
    *,
    config: Path | None = None,
    activation: tensorflow.Activation = "auto",
) -> Imported:
    """Writes a checkpoint of google-research's or brightmart's as a folder of ours, with the vocabulary beside it.

    Args:
      checkpoint: as for `tensorflow.from_tf`.
      out: as for `import_hf`.
      options: as for `import_hf`. The tokenizer `auto` is 30k-clean.model, spiece.model or vocab.txt beside the
        checkpoint, else the only file *.model or vocab*.txt.
      config: as for `tensorflow.from_tf`.
      activation: as for `tensorflow.from_tf`.

    Raises:
      UserError: as for `tensorflow.from_tf` and `import_hf`.
    """
    checks.check_residual_scale(options.residual_scale, "convert: --residual-scale")
    prefix = tensorflow.checkpoint_prefix(checkpoint)
    loaded = tensorflow.from_tf(prefix, config, activation=activation, head=options.head, labels=options.labels)
    loaded = _with_scale(loaded, options.residual_scale)
    beside = [prefix.parent / name for name in _TF_FILES if (prefix.parent / name).is_file()]
    beside = beside or sorted([*prefix.parent.glob("*.model"), *prefix.parent.glob("vocab*.txt")])
    vocabulary = beside[0] if beside and (len(beside) == 1 or beside[0].name in _TF_FILES) else None
    several = f"several vocabularies ({', '.join(path.name for path in beside)})"
    missing = f"{prefix.parent} has {several if beside else 'no vocabulary'}"
    return _import(loaded, vocabulary, missing, str(prefix), out, options)


def _with_scale(loaded: Weights, scale: ResidualScale) -> Weights:
    """The same function as a model of this `residual_scale`."""
    model = dataclasses.replace(loaded.model, residual_scale=scale)
    return dataclasses.replace(loaded, params=parameters.rescaled(loaded.params, loaded.model, model), model=model)


@contextlib.contextmanager
def open_weights(path: Path, job: str = "convert") -> Iterator[Weights]:
    """Like `sources.load`, but a folder of `transformers` comes with its vocabulary, which lasts as long as the block.

    Args:
      path: as for `sources.load`.
      job: that the user started; begins messages.

    Raises:
      UserError: as for `sources.load` and `import_hf`.
    """
    folder = sources.folder_of(path, job)
    loaded, inner = sources.load(folder, job), model_folder(folder)
    if loaded.tokenizer is not None or not any((inner / name).is_file() for name in _HF_FILES):
        yield loaded
        return
    with contextlib.ExitStack() as stack:
        with sources.naming(job):
            adopted = stack.enter_context(_adopted("auto", inner))
            if adopted:
                loaded, notes = fit_vocabulary(loaded, adopted, str(path), own=True)
                sentence = with_case(loaded.sentence, folder, adopted.settings["lower"])
                loaded = dataclasses.replace(loaded, sentence=sentence)
                for note in notes:
                    _LOG.warning("%s: %s: %s", job, path, note)
        yield loaded


def _import(
    loaded: Weights,
    vocabulary: pathlib.Path | None,
    missing: str,
    where: str,
    out: Path,
    options: ImportOptions,
) -> Imported:
    """Writes the folder. `vocabulary`: what `auto` takes; `missing`: the note if that is None."""
    notes = _absent_heads(loaded) + _unnamed_outputs(loaded)
    with _adopted(options.tokenizer, vocabulary) as adopted:
        if adopted is None:
            reason = "the tokenizer was left out" if options.tokenizer == "none" else missing
            notes.append(f"{reason}: exports that read text (ONNX folders, bundles, sentence embeddings) need one")
        else:
            own = options.tokenizer == "auto"
            loaded, changed = fit_vocabulary(loaded, adopted, where, own=own, drop_rows=options.drop_rows)
            notes += changed
            sentence = with_case(loaded.sentence, pathlib.Path(where), adopted.settings["lower"])
            loaded = dataclasses.replace(loaded, sentence=sentence)
        save_weights(loaded, out, overwrite=options.overwrite)
    if loaded.tokenizer is not None:
        loaded = dataclasses.replace(loaded, tokenizer=load_tokenizer(pathlib.Path(out) / "tokenizer"))
    return Imported(loaded, notes)


def _absent_heads(loaded: Weights) -> list[str]:
    absent = [part for part in parameters.OPTIONAL_PARTS if part not in loaded.params]
    if loaded.head or not absent:
        return []
    return [f"not in the checkpoint: {', '.join(absent)}; a run that starts from here initialises those it needs"]


def _unnamed_outputs(loaded: Weights) -> list[str]:
    if loaded.head is None or not label_order.is_unnamed(loaded.head):
        return []
    return [f"the outputs of the head are called {', '.join(loaded.head.labels)}; --labels names them, in this order"]


# --- The vocabulary --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _adopted(wanted: str, vocabulary: pathlib.Path | None) -> Iterator[Tokenizer | None]:
    """The tokenizer `wanted`, or of the vocabulary for `auto`, in a folder that lasts as long as the block."""
    source = {"auto": vocabulary, "none": None}.get(wanted, pathlib.Path(wanted))
    if source is None:
        yield None
    elif (source / SETTINGS_FILE).is_file():
        yield load_tokenizer(source)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield adopt(source, pathlib.Path(scratch) / "tokenizer")


def adopt(source: pathlib.Path, out: pathlib.Path) -> Tokenizer:
    """Adopts a vocabulary with the ids that `AutoTokenizer` gives, as `bertlite tokenizer` does.

    Args:
      source: a `.model`, a vocab.txt, or a folder of `transformers`.
      out: tokenizer folder to write.

    Raises:
      UserError: the vocabulary cannot be adopted, or `out` cannot be written.
    """
    try:
        with output_errors(out, out):
            return adopt_vocabulary(source, out)
    except UserError as error:
        raise UserError(f"{error}; convert from-hf --tokenizer none imports the weights alone") from error


def fit_vocabulary(
    loaded: Weights, tokenizer: Tokenizer, where: str, *, own: bool = False, drop_rows: bool = False
) -> tuple[Weights, list[str]]:
    """The weights with as many rows as the tokenizer has pieces, and with that tokenizer.

    Published tables are often padded: some have 30,528 rows for BERT's 30,522 pieces. No text reaches such rows, and
    ours are never predicted, so they are dropped if they are zeros, or if the table's length is the number of pieces
    rounded up to a multiple of 8, 16, ... or 1024. The logits of all pieces stay the same; a softmax no longer counts
    the dropped rows. Others have spare rows of some other number (dbmdz's have 32,102 for 31,102 pieces); those are
    dropped if the tokenizer is the model's own. A single row too many, though, is more likely a piece that the
    vocabulary has lost: every id behind it would be that of another piece. Any other difference means that the
    tokenizer is not the model's.

    Args:
      loaded: with tables of `model.vocab_size` rows.
      tokenizer: the model's new tokenizer.
      where: named in errors.
      own: whether the tokenizer lay beside the weights.
      drop_rows: drop surplus rows whatever their number.

    Returns:
      The weights, with `model.vocab_size` and `tokenizer` set; a note if rows were dropped.

    Raises:
      UserError: the sizes do not agree; the error names both.
    """
    rows, pieces = loaded.model.vocab_size, tokenizer.vocab_size
    if rows == pieces:
        return dataclasses.replace(loaded, tokenizer=tokenizer), []
    flat = parameters.flatten(loaded.params)
    padded = pieces < rows and any(-(-pieces // multiple) * multiple == rows for multiple in _MULTIPLES)
    tables = [flat[path] for path in parameters.OF_PIECES if path in flat]
    empty = pieces < rows and not any(table[pieces:].any() for table in tables)
    spare = pieces < rows and (drop_rows or (own and rows > pieces + 1))
    if not (padded or empty or spare):
        raise UserError(
            f"convert: {where}: the tokenizer has {pieces:,} pieces and the model's table {rows:,} rows, "
            f"{_cause(tokenizer, rows)}"
        )
    model = dataclasses.replace(loaded.model, vocab_size=pieces, vocab_multiple=1)
    params = parameters.nest(parameters.trim_vocabulary(flat, model))
    kind = "all zero" if empty else "not zero, but never reached by text"
    note = f"the table had {rows:,} rows for {pieces:,} pieces; the {rows - pieces:,} beyond them ({kind}) were dropped"
    return dataclasses.replace(loaded, params=params, model=model, tokenizer=tokenizer), [note]


def _cause(tokenizer: Tokenizer, rows: int) -> str:
    """Why a table and a tokenizer do not agree, most likely, and what to do."""
    pieces = tokenizer.vocab_size
    other = "bertlite convert from-hf --tokenizer takes another, or none"
    if pieces == rows + 1 and not tokenizer.pieces([rows])[0].strip():
        return f"because the vocabulary ends in a blank line, which counts as a piece; remove line {pieces:,}"
    if pieces > rows:
        return (
            f"so {pieces - rows:,} pieces have none. Most likely tokens were added without "
            f"model.resize_token_embeddings(len(tokenizer)): call it and save the model again; or is it the tokenizer "
            f"of another model? {other}"
        )
    reason = "as if the vocabulary had lost a piece" if pieces + 1 == rows else "which is more than padding"
    return f"{reason}; is it the tokenizer of this model? {other}, and --drop-rows leaves the surplus out"
