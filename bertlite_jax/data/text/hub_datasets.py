"""Datasets, on the hub or on this disk, by the library `datasets`: `hf://datasets/NAME?split=train&field=text`.

NAME is OWNER/NAME of a dataset on the hub; or, if it begins with `/`, `./` or `../`, a folder on this disk with
Parquet, JSON or CSV files, or one that `save_to_disk` wrote. Both are read by the same calls, example by example in the
dataset's order. A process looks the commit of a dataset on the hub up once and reads all splits of that one, so
`revision=COMMIT` repeats what it read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import pathlib
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import platformdirs

from bertlite_jax.errors import UserError
from bertlite_jax.host import hub_calls, whole_files
from bertlite_jax.host.places import DATASETS, in_datasets
from bertlite_jax.host.retry import first_line

_LOG = logging.getLogger(__name__)
_SAVED = (("state.json", "dataset_info.json"), ("dataset_dict.json",))
"""Files by which a folder that `save_to_disk` wrote is known: of one split, of several."""
_BATCH = 1000


class Source(NamedTuple):
    """One split of a dataset, and which field of it holds the text."""

    place: str
    """As the user wrote it."""
    name: str
    """On the hub, or the path of a folder."""
    split: str = ""
    field: str = ""
    config: str = ""
    revision: str = ""

    @property
    def on_disk(self) -> bool:
        """Whether it is a folder on this disk."""
        return self.name.startswith(("/", "./", "../"))


def place_of_saved(folder: str | os.PathLike[str]) -> str:
    """The `hf://datasets/...` of a folder that `save_to_disk` wrote; empty for any other."""
    folder = pathlib.Path(folder)
    if not any(all((folder / name).is_file() for name in names) for names in _SAVED):
        return ""
    return f"{DATASETS}{urllib.parse.quote(os.fsencode(folder.absolute()))}"


def parse(place: str, job: str) -> Source:
    """What `hf://datasets/NAME?split=..&field=..&config=..&revision=..` asks for.

    Raises:
      UserError: it has no name, asks for something else or for one thing twice, or names a folder that does not exist.
    """
    name, _, query = place.removeprefix(DATASETS).partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    asked, known = dict(pairs), Source._fields[2:]
    if unknown := next((each for each in asked if each not in known), ""):
        raise UserError(f"{job}: {place}: {unknown} is none of what can be asked for: {', '.join(known)}")
    if len(asked) < len(pairs):
        raise UserError(f"{job}: {place} asks for one thing twice; name each split by itself")
    source = Source(place, urllib.parse.unquote(name, errors="surrogateescape"), **asked)
    if not source.name:
        raise UserError(f"{job}: {place} names no dataset; write {DATASETS}NAME?split=train&field=text")
    if source.on_disk and not pathlib.Path(source.name).is_dir():
        raise UserError(f"{job}: {place}: {source.name} is no folder on this disk")
    if not (source.on_disk or hub_calls.is_name(source.name)):
        raise UserError(
            f"{job}: {place}: a dataset of the hub is named OWNER/NAME, without a file behind it (revision= names a "
            "branch, a tag or a commit), and a folder on this disk begins with /, ./ or ../"
        )
    return source


def texts(place: str, text_field: str, counts: Counter[str], job: str = "corpus") -> Iterator[str]:
    """The texts of a split in their order; an example without one has the empty text.

    Args:
      place: the dataset.
      text_field: field of the text, if the place does not name it.
      counts: `bytes` is added to.
      job: begins messages.

    Raises:
      UserError: there is no such dataset, config, split or field, the field is not text, or the dataset cannot be read.
    """
    source = parse(place, job)
    field = source.field or text_field
    examples = _open(source, job)
    with _reading(source, job):
        names = examples.column_names or [*next(iter(examples.take(1)), {field: ""})]
    if field not in names:
        raise UserError(f"{job}: {place}: no field {field!r}; it has: {', '.join(names[:10])}; name one with field=")
    with _reading(source, job):
        for number, example in enumerate(examples.select_columns([field]), 1):
            text = example[field]
            if not isinstance(text, str | None):
                kind = type(text).__name__
                raise UserError(f"{job}: {place}: example {number}: the field {field!r} holds {kind}, not a string")
            counts["bytes"] += len((text or "").encode("utf-8", "surrogatepass"))
            yield text or ""


@functools.cache
def copied_split(place: str, job: str) -> str:
    """A Parquet file with all fields of a split, with the names of its classes; made on first use in a process.

    It lies in the user's cache folder (XDG_CACHE_HOME moves it). Nothing removes it; deleting it is safe. That of a
    commit on the hub is found again; a folder on this disk may have changed, so its copy is made anew.

    Raises:
      UserError: as for `texts`, or the place names a field.
    """
    source = parse(place, job)
    if source.field:
        raise UserError(f"{job}: {place}: field= is for text; --data.text-column names the column of the examples")
    commit = "" if source.on_disk else _commit(source, job)
    # Of a folder the whole path: other processes may read another one of the same name.
    whole = source._replace(name=os.path.abspath(source.name)) if source.on_disk else source
    key = hashlib.sha256(f"{whole[1:]} {commit}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    stem = "-".join(filter(None, (pathlib.Path(source.name).name, source.config, source.split)))
    cache = pathlib.Path(platformdirs.user_cache_dir("bertlite_jax", appauthor=False)) / "datasets" / key
    file = cache / f"{stem}.parquet"
    if commit and file.is_file():
        return str(file)
    examples = _open(source, job)
    cache.mkdir(parents=True, exist_ok=True)
    with whole_files.replacing(file) as temporary, _reading(source, job):
        _write_parquet(examples, temporary)
        if not temporary.is_file():
            raise UserError(f"{job}: {place}: the split has no example")
    return str(file)


def _write_parquet(examples: Any, file: pathlib.Path) -> None:
    """Writes all examples in batches, since a split may be larger than memory; nothing where there is none."""
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        writer = None
        for table in examples.with_format("arrow").iter(_BATCH):
            # The schema of the features has the names of classes, which `tasks` reads.
            schema = examples.features.arrow_schema if examples.features else table.schema
            writer = writer or stack.enter_context(pyarrow.parquet.ParquetWriter(str(file), schema))
            writer.write_table(table.cast(schema))


def commits(places: Iterable[str], job: str) -> dict[str, str]:
    """Place to commit, of those that are datasets on the hub."""
    found = [parse(place, job) for place in places if in_datasets(place)]
    return {each.place: _commit(each, job) for each in found if not each.on_disk}


# --- Opening ---------------------------------------------------------------------------------------------------------


def _library(job: str) -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{job}: {DATASETS} needs datasets; pip install 'bertlite_jax[datasets]'") from error
    return datasets


def _open(source: Source, job: str) -> Any:
    """The split as an iterable dataset."""
    library = _library(job)
    folder = pathlib.Path(source.name)
    if source.on_disk and place_of_saved(folder):
        with _reading(source, job):
            found = library.load_from_disk(str(folder))
        splits = found if isinstance(found, dict) else {str(found.split or "train"): found}
        return _chosen(splits, source, job).to_iterable_dataset()
    commit = None if source.on_disk else _commit(source, job)
    # The whole name: a folder that happens to be called so is not meant.
    path = source.name if source.on_disk else f"{DATASETS}{source.name}"
    with _reading(source, job):
        try:
            splits = library.load_dataset(path, source.config or None, revision=commit, streaming=True)
        except ValueError as error:
            if "onfig" not in first_line(error):
                raise
            known = ", ".join(library.get_dataset_config_names(path, revision=commit))
            wrong = f"no config {source.config!r}" if source.config else "it has several configs"
            raise UserError(f"{job}: {source.place}: {wrong}; name one with config=: {known}") from error
    return _chosen(splits, source, job)


def _chosen(splits: Mapping[str, Any], source: Source, job: str) -> Any:
    """The split that was asked for; without that, the only one or `train`."""
    wanted = source.split or (next(iter(splits)) if len(splits) == 1 else "train")
    if wanted not in splits:
        known = ", ".join(map(str, splits))
        raise UserError(f"{job}: {source.place}: no split {wanted!r}; name one with split=: {known}")
    if not source.split:
        _LOG.info("%s: %s: the split is %s", job, source.place, wanted)
    return splits[wanted]


def _commit(source: Source, job: str) -> str:
    """The commit of a dataset on the hub that this process reads, the same for all of its splits."""
    if re.fullmatch("[0-9a-f]{40}", source.revision):
        return source.revision  # It needs no network, where the split has been copied before.
    with hub_calls.reaching(source.place, "read", job):
        return _looked_up(source.name, source.revision, job)


@functools.cache
def _looked_up(name: str, revision: str, job: str) -> str:
    commit = hub_calls.library(job).HfApi().dataset_info(name, revision=revision or None).sha
    _LOG.info("%s: %s%s is commit %s", job, DATASETS, name, commit)
    return commit


@contextlib.contextmanager
def _reading(source: Source, job: str) -> Iterator[None]:
    """Around calls of `datasets`: what is wrong with a dataset, or on the way to it, becomes an error of one line."""
    with hub_calls.reaching(source.place, "read", job):
        try:
            yield
        except Exception as error:
            of_data = type(error).__module__.partition(".")[0] in ("datasets", "pyarrow", "fsspec")
            of_data |= isinstance(error, ValueError | RuntimeError | FileNotFoundError)
            # So pyarrow says that a file is damaged; what the system refuses has a number.
            of_data |= type(error) is OSError and error.errno is None
            if not of_data:
                raise
            # `datasets` says so in words alone: it raises its error without the one of the hub.
            why = hub_calls.GATED if "is a gated dataset" in str(error) else f"cannot be read: {first_line(error)}"
            raise UserError(f"{job}: {source.place} {why}") from error
