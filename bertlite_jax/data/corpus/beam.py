"""The corpus by Apache Beam, for text that outgrows a machine: the same bytes as jobs/text/corpus.py writes.

What the local route gets from reading in order, Beam gets from counting. A document's place is (file, number in the
file). Of equal texts the one with the lowest place stays. Its number in the corpus is how many stay before it: those of
earlier files, of earlier chunks of its file, of its chunk. From the number follow its windows and its block, from the
sizes of the blocks the record file that each is written to.

All workers must see the output folder under the same path: a network disk where they are on several machines. Text and
tokenizer may lie in object storage. Text goes over the network three times (for duplicates, for numbers, for
blocks), its windows twice (for files). A record file, and the sizes of all blocks, are held by one worker at a time.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from bertlite_jax.data.corpus import chunks, shards, splits
from bertlite_jax.data.text.documents import OnBadText, read_documents
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files

try:
    import apache_beam as beam  # pyright: ignore[reportMissingImports]
    from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise UserError('corpus: --beam needs Apache Beam; pip install "bertlite_jax[beam]"') from error

# An error of a worker comes back as an exception; Beam would log it before, with two tracebacks.
logging.getLogger("apache_beam").setLevel(logging.CRITICAL)

CHUNK_DOCUMENTS = 256
"""Documents of a file that are numbered together."""

Place = tuple[int, int]
"""Number of the file, number of the document in it."""


class Plan(NamedTuple):
    """All that the windows depend on. Every worker gets it pickled."""

    files: list[str]
    tokenizer_folder: str
    recipe: chunks.Recipe
    validation_fraction: float
    text_field: str
    on_bad_text: OnBadText
    folder: str
    """Where record files and results are written."""

    @property
    def seed(self) -> int:
        """Of all draws."""
        return self.recipe.cutting.seed


def write(plan: Plan, vocab_size: int, options: str, counts: Counter[str]) -> list[shards.SplitFiles]:
    """Runs the pipeline and puts the parts of each split together.

    Args:
      plan: what is done.
      vocab_size: V.
      options: of Beam's runner.
      counts: is added to (see `documents.read_documents`).

    Raises:
      UserError: text cannot be read.
    """
    try:
        with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
            _build(pipeline, plan, vocab_size)
    except Exception as error:
        if text := _text_of_user_error(error):
            raise UserError(text) from error
        raise
    counts.update(_load(plan, "counts"))
    written, of_splits = _load(plan, "files"), dict(_load(plan, "split_counts"))
    return [_gather(plan, name, vocab_size, written, of_splits) for name in splits.SPLITS]


def _text_of_user_error(error: BaseException) -> str:
    """The text of a worker's UserError, or "". Beam appends its step, or passes on the text of a traceback."""
    whole = f"{type(error).__name__}: {error}"
    texts = re.findall(r"UserError: (.*?)(?: \[while running|\n|$)", whole)
    return texts[-1] if texts else ""


# --- The pipeline ----------------------------------------------------------------------------------------------------


def _build(pipeline: Any, plan: Plan, vocab_size: int) -> None:
    numbered = _numbered(_documents(pipeline, plan))
    encoded = (
        numbered
        | "split" >> beam.FlatMap(_with_split, beam.pvalue.AsSingleton(_head(numbered, plan)), plan)
        | "by block" >> beam.GroupByKey()
        | "encode" >> beam.ParDo(_Encode(plan, vocab_size)).with_outputs("sizes", "counts", "unigram", main="windows")
    )
    _ = (
        encoded.counts
        | "counts of splits" >> beam.CombinePerKey(_sum)
        | "list counts" >> beam.combiners.ToList()
        | "save counts of splits" >> beam.Map(_save, plan, "split_counts")
    )
    _ = encoded.unigram | "unigram" >> beam.CombinePerKey(_sum_arrays) | "save unigram" >> beam.Map(_save_unigram, plan)
    files = encoded.sizes | "sizes" >> beam.GroupByKey() | "files of blocks" >> beam.FlatMap(_files_of_blocks)
    _ = (
        {"windows": encoded.windows, "file": files}
        | "find files" >> beam.CoGroupByKey()
        | "name files" >> beam.FlatMap(_with_file)
        | "by file" >> beam.GroupByKey()
        | "write" >> beam.Map(_write_file, plan)
        | "all files" >> beam.combiners.ToList()
        | "save files" >> beam.Map(_save, plan, "files")
    )


def _documents(pipeline: Any, plan: Plan) -> Any:
    """Each text once: (place, digest, paragraphs). Saves the counts."""
    read = (
        pipeline
        | "files" >> beam.Create(list(enumerate(plan.files)))
        | "spread" >> beam.Reshuffle()
        | "read" >> beam.FlatMap(_read, plan).with_outputs("counts", main="documents")
    )
    distinct = (
        read.documents
        | "by text" >> beam.GroupByKey()
        | "distinct" >> beam.FlatMap(_first).with_outputs("counts", main="documents")
    )
    counts = (read.counts, distinct.counts) | "both counts" >> beam.Flatten()
    _ = counts | "all counts" >> beam.CombineGlobally(_sum) | "save counts" >> beam.Map(_save, plan, "counts")
    return distinct.documents


def _head(numbered: Any, plan: Plan) -> Any:
    """One dict: the splits of the first documents."""
    count = splits.head_count(plan.validation_fraction)
    return (
        numbered
        | "head" >> beam.Filter(lambda document: document[0] < count)
        | "sizes of the head" >> beam.Map(lambda document: (document[0], document[1], sum(map(len, document[2]))))
        | "whole head" >> beam.combiners.ToList()
        | "splits of the head" >> beam.Map(_head_splits, plan)
    )


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _sum_arrays(arrays: Iterable[np.ndarray | int]) -> np.ndarray | int:
    return sum(arrays)


# --- Documents -------------------------------------------------------------------------------------------------------


def _read(file: tuple[int, str], plan: Plan) -> Iterator[Any]:
    number, path = file
    counts: Counter[str] = Counter()
    documents = read_documents([path], text_field=plan.text_field, on_bad_text=plan.on_bad_text, counts=counts)
    for place, paragraphs in enumerate(documents):
        yield splits.digest_of(paragraphs), ((number, place), paragraphs)
    yield beam.pvalue.TaggedOutput("counts", counts)


def _first(equal: tuple[bytes, Iterable[tuple[Place, list[str]]]]) -> Iterator[Any]:
    digest, documents = equal
    count, first = 0, None
    for document in documents:
        count += 1
        first = document if first is None or document[0] < first[0] else first
    assert first is not None
    yield first[0], digest, first[1]
    yield beam.pvalue.TaggedOutput("counts", Counter(documents=count, duplicate_documents=count - 1))


def _numbered(documents: Any) -> Any:
    """(place, digest, paragraphs) to (number, digest, paragraphs), where the number counts the places before it."""
    by_chunk = documents | "by chunk" >> beam.Map(
        lambda document: ((document[0][0], document[0][1] // CHUNK_DOCUMENTS), document)
    )
    sizes = by_chunk | "sizes of chunks" >> beam.combiners.Count.PerKey()
    by_file = sizes | "by file of the text" >> beam.Map(lambda chunk: (chunk[0][0], (chunk[0][1], chunk[1])))
    before = by_file | "chunks of a file" >> beam.GroupByKey() | "before a chunk" >> beam.FlatMap(_before_chunks)
    of_files = (
        by_file
        | "drop chunks" >> beam.MapTuple(lambda file, chunk: (file, chunk[1]))
        | "in files" >> (beam.CombinePerKey(sum))
    )
    return (
        {"documents": by_chunk, "before": before}
        | "meet" >> beam.CoGroupByKey()
        | "number" >> beam.FlatMap(_number, beam.pvalue.AsDict(of_files))
    )


def _before_chunks(file: tuple[int, Iterable[tuple[int, int]]]) -> Iterator[tuple[Place, int]]:
    before = 0
    for chunk, size in sorted(file[1]):
        yield (file[0], chunk), before
        before += size


def _number(chunk: tuple[Place, dict[str, Iterable[Any]]], of_files: dict[int, int]) -> Iterator[Any]:
    (file, _), met = chunk
    (before,) = met["before"]
    before += sum(size for other, size in of_files.items() if other < file)
    for number, (_, digest, paragraphs) in enumerate(sorted(met["documents"], key=lambda each: each[0]), before):
        yield number, digest, paragraphs


def _head_splits(head: list[tuple[int, bytes, int]], plan: Plan) -> dict[int, str]:
    """The splits of the first documents, by number (`splits.assign_splits`)."""
    digests, characters = [], 0
    for _, digest, size in sorted(head):
        if characters >= splits.HEAD_LIMIT and len(digests) >= 2:
            break
        digests.append(digest)
        characters += size
    return dict(enumerate(splits.split_head(digests, plan.validation_fraction, plan.seed)))


def _with_split(
    document: tuple[int, bytes, list[str]], head: dict[int, str], plan: Plan
) -> Iterator[tuple[int, chunks.Document]]:
    number, digest, paragraphs = document
    if plan.validation_fraction and len(head) == 1:
        parts = splits.divide(paragraphs, plan.validation_fraction)
    else:
        split = head.get(number) or splits.split_of(digest, plan.validation_fraction, plan.seed)
        parts = [chunks.Document(number, split, paragraphs)]
    for part in parts:
        yield part.number // shards.BLOCK_DOCUMENTS, part


# --- Windows ---------------------------------------------------------------------------------------------------------


class _Encode(beam.DoFn):
    """(block, documents) to ((split, block), (records, lengths)), with the sizes and the counts of the block."""

    def __init__(self, plan: Plan, vocab_size: int):
        self.plan, self.vocab_size = plan, vocab_size

    def setup(self) -> None:
        self.tokenizer = load_tokenizer(self.plan.tokenizer_folder)

    def process(self, element: tuple[int, Iterable[chunks.Document]]) -> Iterator[Any]:
        block, documents = element
        in_order = sorted(documents, key=lambda document: document.number)
        for split, part in chunks.encode_documents(self.tokenizer, self.plan.recipe, in_order).items():
            unigram = np.zeros(self.vocab_size, np.int64)
            shards.count_tokens(unigram, part.tokens)
            yield beam.pvalue.TaggedOutput("counts", (split, part.counts))
            yield beam.pvalue.TaggedOutput("unigram", (split, unigram))
            if part.records:
                yield beam.pvalue.TaggedOutput("sizes", (split, (block, sum(map(len, part.records)))))
                yield (split, block), (part.records, part.lengths)


def _files_of_blocks(split: tuple[str, Iterable[tuple[int, int]]]) -> Iterator[tuple[tuple[str, int], int]]:
    name, sizes = split
    for block, file in shards.shards_of(sorted(sizes)).items():
        yield (name, block), file


def _with_file(met: tuple[tuple[str, int], dict[str, Iterable[Any]]]) -> Iterator[Any]:
    (split, block), parts = met
    (file,), ((records, lengths),) = parts["file"], parts["windows"]
    yield (split, file), (block, records, lengths)


# --- Files -----------------------------------------------------------------------------------------------------------
# Beam may run a step again, or twice at the same time, so every file is written whole.


def _write_file(element: tuple[tuple[str, int], Iterable[Any]], plan: Plan) -> tuple[str, int, int, int]:
    """A record file and the lengths of its windows. Returns (split, number of the file, windows, bytes)."""
    (split, file), blocks = element
    final = pathlib.Path(shards.record_files(plan.folder, split).sharded_filepath(shard_index=file, num_shards=None))
    all_lengths, size = [], 0
    with whole_files.replacing(final) as unfinished:
        writer = ArrayRecordWriter(os.fspath(unfinished), shards.WRITER_OPTIONS)
        for _, records, lengths in sorted(blocks, key=lambda block: block[0]):
            for record in records:
                writer.write(record)
                size += len(record)
            all_lengths += lengths
        writer.close()
    whole_files.write_bytes(_lengths_of(plan, split, file), np.array(all_lengths, "<u2").tobytes())
    return split, file, len(all_lengths), size


def _lengths_of(plan: Plan, split: str, file: int) -> pathlib.Path:
    return pathlib.Path(plan.folder) / f"{split}.lengths-{file:05d}"


def _save(value: Any, plan: Plan, name: str) -> None:
    whole_files.write_bytes(pathlib.Path(plan.folder) / f"{name}.result", json.dumps(value).encode())


def _save_unigram(split: tuple[str, np.ndarray], plan: Plan) -> None:
    whole_files.write_bytes(pathlib.Path(plan.folder) / f"{split[0]}.unigram", split[1].tobytes())


def _load(plan: Plan, name: str) -> Any:
    path = pathlib.Path(plan.folder) / f"{name}.result"
    value = json.loads(path.read_bytes())
    path.unlink()
    return value


def _gather(
    plan: Plan, name: str, vocab_size: int, written: list[tuple[str, int, int, int]], counts: dict[str, dict[str, int]]
) -> shards.SplitFiles:
    """Puts the parts of a split together."""
    files = shards.open_split(plan.folder, name, vocab_size)
    try:
        for _, file, windows, size in sorted(entry for entry in written if entry[0] == name):
            part = _lengths_of(plan, name, file)
            with open(part, "rb") as lengths:
                shutil.copyfileobj(lengths, files.lengths)
            part.unlink()
            files.shard_windows.append(windows)
            files.num_bytes += size
        files.counts.update(counts.get(name, {}))
        unigram = pathlib.Path(plan.folder) / f"{name}.unigram"
        if unigram.exists():
            files.unigram[:] = np.frombuffer(unigram.read_bytes(), np.int64)
            unigram.unlink()
        shards.finish_split(files)
    finally:
        shards.close_split(files)
    return files
