"""`bertlite corpus`: text files become a corpus, the same bytes for any number of workers.

A build writes into a folder `OUT.tmp-...` beside `OUT` and renames it at the end, so a build that was killed leaves
nothing that looks like a corpus. This process reads and cleans the documents, drops duplicates and assigns each to a
split; the workers divide documents into sentences, tokenise them and cut them into windows (data/corpus/chunks.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
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

from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus import chunks, shards, windows
from bertlite_jax.data.corpus.chunks import Chunk, Document
from bertlite_jax.data.corpus.folder import FORMAT, check_out, move_into_place, scratch_folder
from bertlite_jax.data.corpus.splits import SPLITS, assign_splits, distinct, open_seen
from bertlite_jax.data.corpus.statistics import COUNTED, READ, statistics_of
from bertlite_jax.data.text import hub_datasets, object_storage
from bertlite_jax.data.text.documents import list_files, read_documents
from bertlite_jax.data.text.sentences import check_language
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.host.places import final_place, in_datasets, refuse_to_replace

CHUNK_LIMIT = 1 << 18
"""Characters of text that a worker gets at a time."""
MOST_WORKERS = 1024


def build_corpus(
    inputs: Sequence[str],
    tokenizer_folder: str,
    out: str,
    options: CorpusOptions = CorpusOptions(),
    *,
    workers: int = 0,
    beam: bool = False,
    beam_options: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Builds the corpus folder `out`.

    With more than one worker, call it from under `if __name__ == "__main__":`.

    Args:
      inputs: text files and folders, and datasets (`read_documents` says which formats).
      tokenizer_folder: as `bertlite tokenizer` writes it.
      out: folder to make.
      options: what decides the bytes of the corpus. A window holds at most `length` - 3 tokens of text.
      workers: processes; 0: one for each core. The result is the same.
      beam: let Apache Beam do the work (data/corpus/beam.py). The result is the same.
      beam_options: of Beam's runner, as on a command line.
      overwrite: replace a corpus that is there.

    Returns:
      What `folder.read_meta` returns.

    Raises:
      UserError: bad input or options, one line; `out` is then as it was before.
    """
    _check(options, workers, beam, beam_options)
    if beam and any(in_datasets(place) or hub_datasets.place_of_saved(place) for place in inputs):
        raise UserError("corpus: a dataset is read by one process; leave --beam out, or download its files")
    if beam:
        importlib.import_module("bertlite_jax.data.corpus.beam")  # Before anything is read: it may not be installed.
    console = Console(stderr=True)
    place = final_place("corpus", out)
    check_out(place, overwrite)
    for source in (*inputs, tokenizer_folder):
        refuse_to_replace("corpus", source, place)
    files = list_files(inputs)
    vocabulary = load_tokenizer(tokenizer_folder)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with scratch_folder(place) as folder, whole_files.output_errors(place, folder, "corpus"):
        if beam:
            written = _write_by_beam(folder, vocabulary, files, options, beam_options, counts)
        else:
            written = _write(folder, vocabulary, files, options, workers or cpu.cores(), counts, console)
        splits = _finish(folder, written)
        if not splits["train"]["windows"]:
            raise UserError(f"corpus: {', '.join(inputs)}: no document in it; nothing was written")
        meta = _meta(folder, vocabulary, options, splits, counts)
        seconds = time.monotonic() - began
        speed = {
            "seconds": round(seconds, 3),
            "megabytes_per_second": round(counts["bytes"] / 1e6 / seconds, 3),
            "workers": "beam" if beam else workers or cpu.cores(),
        }
        if read := hub_datasets.commits(inputs, "corpus"):
            speed["commits"] = read
        # Apart from the rest, which is the same bytes every time, wherever the text came from.
        whole_files.write_json(folder / "build.json", speed)
        whole_files.write_json(folder / "corpus.json", meta)
        move_into_place(folder, place)
    print_statistics(meta | {"build": speed}, console)
    if options.validation_fraction and counts["documents"] - counts["duplicate_documents"] == 1:
        _describe_only_document(splits["validation"]["windows"])
    return meta | {"build": speed}


def _describe_only_document(windows: int) -> None:
    """Says where the validation split of a single document comes from."""
    what = f"its end is the validation split ({windows:,} windows)" if windows else "the validation split is empty"
    hint = "a blank line separates documents of plain text"
    print(f"corpus: there is only one document, so {what}; {hint}", file=sys.stderr)


def _check(options: CorpusOptions, workers: int, beam: bool, beam_options: str) -> None:
    if not 8 <= options.length <= 65_535:
        raise UserError(f"corpus: length = {options.length} must lie between 8 and 65535")
    for name in ("validation_fraction", "short_fraction"):
        share = getattr(options, name)
        if not 0 <= share < 1:
            raise UserError(f"corpus: {name} = {share} must be at least 0 and less than 1")
    if not 0 <= workers <= MOST_WORKERS:
        raise UserError(f"corpus: workers = {workers} must lie between 1 and {MOST_WORKERS:,}, or be 0 for all cores")
    check_language("corpus", options.language)
    if options.on_bad_text not in ("refuse", "replace"):
        raise UserError(f"corpus: on_bad_text = {options.on_bad_text!r} must be refuse or replace")
    if beam and workers:
        raise UserError(
            "corpus: --workers cannot be combined with --beam; pass --beam-options to Beam's runner instead"
        )
    if beam_options and not beam:
        raise UserError("corpus: --beam-options needs --beam")


def _meta(
    folder: pathlib.Path,
    vocabulary: Tokenizer,
    options: CorpusOptions,
    splits: dict[str, dict[str, Any]],
    counts: Counter[str],
) -> dict[str, Any]:
    """What `corpus.json` holds."""
    settings = dataclasses.asdict(options)
    length, seed = settings.pop("length"), settings.pop("seed")
    return {
        "format": FORMAT,
        "tokenizer_hash": vocabulary.hash,
        "vocab_size": vocabulary.vocab_size,
        "length": length,
        "seed": seed,
        "special_ids": dict(zip(SPECIAL_IDS, vocabulary.special_ids, strict=True)),
        "settings": settings,
        "splits": splits,
        "statistics": statistics_of(counts, splits, length),
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }


# --- Writing ---------------------------------------------------------------------------------------------------------


def _recipe(options: CorpusOptions) -> chunks.Recipe:
    cutting = windows.Cutting(options.length, options.short_fraction, options.whole_sentences, options.seed)
    return chunks.Recipe(cutting, options.language, options.one_sentence_per_line)


def _write_by_beam(
    folder: pathlib.Path,
    vocabulary: Tokenizer,
    files: list[str],
    options: CorpusOptions,
    beam_options: str,
    counts: Counter[str],
) -> list[shards.SplitFiles]:
    """Writes all windows by Apache Beam; adds to the counts."""
    from bertlite_jax.data.corpus.beam import Plan, write

    plan = Plan(
        files,
        vocabulary.folder,
        _recipe(options),
        options.validation_fraction,
        options.text_field,
        options.on_bad_text,
        os.fspath(folder),
    )
    return write(plan, vocabulary.vocab_size, beam_options, counts)


def _write(
    folder: pathlib.Path,
    vocabulary: Tokenizer,
    files: list[str],
    options: CorpusOptions,
    workers: int,
    counts: Counter[str],
    console: Console,
) -> list[shards.SplitFiles]:
    """Writes all windows by processes of this machine; adds to the counts."""
    documents = read_documents(files, text_field=options.text_field, on_bad_text=options.on_bad_text, counts=counts)
    with contextlib.closing(open_seen(folder)) as seen:
        with_splits = assign_splits(distinct(documents, seen, counts), options.validation_fraction, options.seed)
        encoded = chunks.encode_chunks(vocabulary, _recipe(options), _chunks(with_splits, counts), workers)
        written = _write_splits(folder, vocabulary, encoded, files, console)
    os.unlink(folder / "seen.sqlite")
    return written


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


def _write_splits(
    folder: pathlib.Path,
    vocabulary: Tokenizer,
    encoded: Generator[tuple[Chunk, dict[str, chunks.Windowed]]],
    files: list[str],
    console: Console,
) -> list[shards.SplitFiles]:
    """Writes windows as they come from the workers, and shows how far the files have been read."""
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
    """Prints a table of what the corpus holds and what was dropped."""
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
    """Shows how far the files have been read: a bar on a terminal, elsewhere a line every ten seconds.

    Args:
      total: bytes of all files as they are stored; 0 where nobody knows them, as of a pipe or a dataset.
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
            task = bar.add_task("", total=total or None, rate=0.0)

            def show(position: int, text_bytes: int) -> None:
                rate = text_bytes / 1e6 / max(1e-9, time.monotonic() - began)
                bar.update(task, completed=position, rate=rate)

            yield show
        return
    last = began

    def print_line(position: int, text_bytes: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 10:
            last, seconds = now, now - began
            rate, left = text_bytes / 1e6 / seconds, seconds * max(0, total - position) / max(1, position)
            far = f"{min(100, 100 * position / total):.0f} %" if total else f"{text_bytes / 1e6:,.0f} MB of text"
            until = f", {left:.0f} s left" if total else ""
            print(f"corpus: {far}, {rate:.1f} MB/s{until}", file=sys.stderr, flush=True)

    yield print_line
