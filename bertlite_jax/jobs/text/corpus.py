"""`bertlite corpus`: text files become a corpus, the same bytes for any number of workers.

A build writes into a folder `OUT.tmp-...` beside `OUT` and renames it when all is done, so a killed one leaves nothing
that passes for a corpus. The documents are read, cleaned, freed of duplicates and given to a split in this process;
the workers split them into sentences, tokenise them and cut them into windows (data/corpus/chunks.py).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bertlite_jax.data.corpus import chunks, shards, windows
from bertlite_jax.data.corpus.chunks import Chunk, Document
from bertlite_jax.data.corpus.folder import FORMAT, check_out, move_into_place, scratch_folder
from bertlite_jax.data.corpus.splits import SPLITS, assign_splits, distinct, open_seen
from bertlite_jax.data.corpus.statistics import COUNTED, READ, statistics_of
from bertlite_jax.data.text import object_storage
from bertlite_jax.data.text.documents import OnBadText, list_files, read_documents
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.host.places import check_on_disk

CHUNK_LIMIT = 1 << 18
"""Characters of text that a worker gets at a time."""


def build_corpus(
    inputs: Sequence[str],
    tokenizer_folder: str,
    out: str,
    *,
    length: int = 512,
    validation_fraction: float = 0.02,
    short_fraction: float = 0.1,
    whole_sentences: bool = False,
    language: str = "auto",
    one_sentence_per_line: bool = False,
    text_field: str = "text",
    on_bad_text: OnBadText = "refuse",
    workers: int = 0,
    beam: bool = False,
    beam_options: str = "",
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Builds the corpus folder `out`.

    With more than one worker, call it from under `if __name__ == "__main__":`.

    Args:
      inputs: text files and folders (`read_documents` says which formats).
      tokenizer_folder: as `bertlite tokenizer` writes it.
      out: folder to make.
      length: tokens in a row, L, specials included; a window holds at most L - 3.
      validation_fraction: share of the documents in the validation split; at least one where there are two.
      short_fraction: share of the windows that aim at a random shorter length.
      whole_sentences: never cut a sentence that fits into a window.
      language: of the sentence splitter, `en`, `zh`, ...; `auto`: by script, document by document.
      one_sentence_per_line: the input's lines are sentences, so do not split them.
      text_field: field of JSON lines and column of Parquet files that holds the text.
      on_bad_text: `refuse` or `replace` bytes that are not UTF-8.
      workers: processes; 0: as many as there are cores. It does not change the result.
      beam: let Apache Beam do the work (data/corpus/beam.py); the bytes are the same.
      beam_options: for Beam's runner, as on a command line.
      seed: of the split and of the short windows.
      overwrite: replace a corpus that is there.

    Returns:
      What `folder.read_meta` returns.

    Raises:
      UserError: bad input or options, one line; `out` is then as it was before.
    """
    cutting = windows.Cutting(length, short_fraction, whole_sentences, seed)
    _check(cutting, validation_fraction, workers, on_bad_text)
    if beam and workers:
        raise UserError("corpus: --workers is not for --beam, whose runner is told by --beam-options")
    if beam:
        from bertlite_jax.data.corpus.beam import (
            Plan,
            write,  # Before anything is read: it may not be installed.
        )
    elif beam_options:
        raise UserError("corpus: --beam-options are for --beam")
    console = Console(stderr=True)
    check_on_disk("corpus", out)
    place = pathlib.Path(os.path.abspath(out))
    check_out(place, overwrite)
    files = list_files(inputs)
    vocabulary = load_tokenizer(tokenizer_folder)
    recipe = chunks.Recipe(cutting, language, one_sentence_per_line)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with scratch_folder(place) as folder:
        if beam:
            plan = Plan(
                files, vocabulary.folder, recipe, validation_fraction, text_field, on_bad_text, os.fspath(folder)
            )
            written = write(plan, vocabulary.vocab_size, beam_options, counts)
        else:
            documents = read_documents(files, text_field=text_field, on_bad_text=on_bad_text, counts=counts)
            with contextlib.closing(open_seen(folder)) as seen:
                kept = assign_splits(distinct(documents, seen, counts), validation_fraction, seed)
                work = chunks.encode_chunks(vocabulary, recipe, _chunks(kept, counts), workers or cpu.cores())
                written = _write(folder, vocabulary, work, files, console)
            os.unlink(folder / "seen.sqlite")
        splits = _finish(folder, written)
        if not splits["train"]["windows"]:
            raise UserError(f"corpus: {', '.join(inputs)}: no document in it; nothing was written")
        meta = {
            "format": FORMAT,
            "tokenizer_hash": vocabulary.hash,
            "vocab_size": vocabulary.vocab_size,
            "length": length,
            "seed": seed,
            "special_ids": dict(zip(("pad", "unk", "cls", "sep", "mask"), vocabulary.special_ids, strict=True)),
            "settings": {
                "validation_fraction": validation_fraction,
                "short_fraction": short_fraction,
                "whole_sentences": whole_sentences,
                "language": language,
                "one_sentence_per_line": one_sentence_per_line,
                "text_field": text_field,
                "on_bad_text": on_bad_text,
            },
            "splits": splits,
            "statistics": statistics_of(counts, splits, length),
            "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        }
        seconds = time.monotonic() - began
        speed = {
            "seconds": round(seconds, 3),
            "megabytes_per_second": round(counts["bytes"] / 1e6 / seconds, 3),
            "workers": "beam" if beam else workers or cpu.cores(),
        }
        # Apart from the rest, which is the same bytes every time.
        whole_files.write_json(folder / "build.json", speed)
        whole_files.write_json(folder / "corpus.json", meta)
        move_into_place(folder, place)
    print_statistics(meta | {"build": speed}, console)
    if validation_fraction and not splits["validation"]["windows"]:
        hint = "a blank line separates documents of plain text"
        print(f"corpus: one document only, so the validation split is empty; {hint}", file=sys.stderr)
    return meta | {"build": speed}


def _check(cutting: windows.Cutting, validation_fraction: float, workers: int, on_bad_text: str) -> None:
    if not 8 <= cutting.length <= 65_535:
        raise UserError(f"corpus: length = {cutting.length} must lie between 8 and 65535")
    for name, share in (("validation_fraction", validation_fraction), ("short_fraction", cutting.short_fraction)):
        if not 0 <= share < 1:
            raise UserError(f"corpus: {name} = {share} must be at least 0 and less than 1")
    if workers < 0:
        raise UserError(f"corpus: workers = {workers} must be positive, or 0 for all cores")
    if on_bad_text not in ("refuse", "replace"):
        raise UserError(f"corpus: on_bad_text = {on_bad_text!r} must be refuse or replace")


# --- Writing ---------------------------------------------------------------------------------------------------------


def _chunks(documents: Iterator[Document], counts: Counter[str]) -> Iterator[Chunk]:
    gathered, size = [], 0
    for document in documents:
        gathered.append(document)
        size += sum(map(len, document.paragraphs))
        if size >= CHUNK_LIMIT or (document.number + 1) % shards.BLOCK_DOCUMENTS == 0:
            yield Chunk(gathered, counts["position"], counts["bytes"], size)
            gathered, size = [], 0
    if gathered:
        yield Chunk(gathered, counts["position"], counts["bytes"], size)


def _write(
    folder: pathlib.Path,
    vocabulary: Tokenizer,
    encoded: Generator[tuple[Chunk, dict[str, chunks.Windowed]]],
    files: list[str],
    console: Console,
) -> list[shards.SplitFiles]:
    """Writes all windows."""
    splits = {name: shards.open_split(os.fspath(folder), name, vocabulary.vocab_size) for name in SPLITS}
    with contextlib.ExitStack() as stack:
        for split in splits.values():
            stack.callback(shards.close_split, split)
        stack.enter_context(contextlib.closing(encoded))
        show = stack.enter_context(_progress(sum(map(object_storage.size_of, files)), console))
        for chunk, parts in encoded:
            for name, part in parts.items():
                shards.append(splits[name], part, chunk.documents[0].number // shards.BLOCK_DOCUMENTS)
            show(chunk.position, chunk.text_bytes)
        for split in splits.values():
            shards.finish_split(split)
    return list(splits.values())


def _finish(folder: pathlib.Path, written: list[shards.SplitFiles]) -> dict[str, dict[str, Any]]:
    """Writes the TFDS metadata; returns the counts of each split."""
    shards.write_metadata(os.fspath(folder), written)
    return {split.name: dict.fromkeys(COUNTED, 0) | dict(split.counts) for split in written}


# --- What is printed -------------------------------------------------------------------------------------------------


def print_statistics(meta: dict[str, Any], console: Console) -> None:
    """A table of what the corpus holds and of what was dropped on the way."""
    statistics, speed = meta["statistics"], meta["build"]
    table = Table(title=f"windows for rows of {meta['length']} tokens", title_justify="left")
    for column in ("", *SPLITS, "all"):
        table.add_column(column, justify="right" if column else "left")
    for name in COUNTED:
        values = (*(meta["splits"][split][name] for split in SPLITS), statistics[name])
        table.add_row(name.replace("_", " "), *(f"{value:,}" for value in values))
    table.add_section()
    for name in READ:
        table.add_row(name.replace("_", " "), "", "", f"{statistics[name]:,}")
    for kind, number in statistics["cleaned"].items():
        table.add_row(f"cleaned: {kind.replace('_', ' ')}", "", "", f"{number:,}")
    table.add_section()
    for name in ("unknown_rate", "pair_share", "mean_length", "fill_one_a_row"):
        table.add_row(name.replace("_", " "), "", "", f"{statistics[name]:.4g}")
    table.add_row("seconds", "", "", f"{speed['seconds']:,.1f}")
    table.add_row("MB of text a second", "", "", f"{speed['megabytes_per_second']:.2f}")
    console.print(table)


@contextlib.contextmanager
def _progress(total: int, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Shows how far the files have been read: a bar, or a line every ten seconds where nobody watches.

    Args:
      total: bytes of all files as they are stored.
      console: where to show it.

    Yields:
      show(bytes of the files, bytes of text).
    """
    began = time.monotonic()
    if console.is_terminal:
        columns = (TextColumn("corpus"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        with Progress(
            *columns, TextColumn("{task.fields[rate]:.1f} MB/s"), TimeRemainingColumn(), console=console
        ) as bar:
            task = bar.add_task("", total=total, rate=0.0)

            def show(position: int, text_bytes: int) -> None:
                rate = text_bytes / 1e6 / max(1e-9, time.monotonic() - began)
                bar.update(task, completed=position, rate=rate)

            yield show
        return
    said = began

    def say(position: int, text_bytes: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= 10:
            said, seconds = now, now - began
            left = seconds * (total - position) / max(1, position)
            rate, share = text_bytes / 1e6 / seconds, 100 * position / max(1, total)
            print(f"corpus: {share:.0f} %, {rate:.1f} MB/s, {left:.0f} s left", file=sys.stderr, flush=True)

    yield say
