"""Models of the hub: what `hf:OWNER/NAME` stands for, its files on this disk, and what can go wrong on the way.

huggingface_hub does the talking: it finds the token (HF_TOKEN, or what `hf auth login` stored), keeps the files in its
cache (HF_HOME), and reads HF_ENDPOINT and HF_HUB_OFFLINE. It is imported when a model of the hub is named.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from types import ModuleType

from bertlite_jax.convert.huggingface.sentence_transformers import model_folder
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import HUB, on_hub
from bertlite_jax.host.retry import first_line

_LOG = logging.getLogger(__name__)
_SMALL = ("*.json", "*.txt", "*.model", "tokenizer/*")
_WEIGHTS = ("*.safetensors", "*pytorch_model*.bin", "*flax_model*.msgpack")
"""In the order in which `weight_files.read_tensors` looks for them: only the first kind that is there is downloaded."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_CLIENTS = ("huggingface_hub", "hf_xet", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""Packages whose errors are about the hub or the way to it."""
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def local_folder(place: str | os.PathLike[str]) -> pathlib.Path:
    """The folder itself; of `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION` a copy in the cache, made on first use.

    A process looks a name up once, so that everything it reads is of one commit. Without a network, or with
    HF_HUB_OFFLINE, the newest copy in the cache is taken.

    Args:
      place: a folder, or a model of the hub.

    Raises:
      UserError: there is no such model or revision, it may not be read, or the hub cannot be reached and the cache does
        not have it.
    """
    return pathlib.Path(snapshot(os.fspath(place))) if on_hub(place) else pathlib.Path(place)


@functools.cache
def snapshot(place: str) -> str:
    """The folder of a model of the hub (`local_folder`), named by its commit; looked up once a process."""
    name, _, revision = place.removeprefix(HUB).partition("@")
    check_name(name, place)
    download = library().snapshot_download
    with reaching(place, "read"):
        folder = pathlib.Path(download(name, revision=revision or None, allow_patterns=[*_SMALL, _WEIGHTS[0]]))
        for before, pattern in itertools.pairwise(_WEIGHTS):
            if not any(model_folder(folder).glob(before)):
                download(name, revision=folder.name, allow_patterns=[pattern])
    if not folder.is_dir():
        raise UserError(f"convert: {place} has no file of a model of transformers; is it another kind of repository?")
    _LOG.info("%s is commit %s, in %s", place, folder.name, folder)
    return str(folder)


def commits(places: Iterable[str]) -> dict[str, dict[str, str]]:
    """`{"hub": {PLACE: COMMIT}}` of those that are models of the hub, for a run's environment.json; else empty."""
    found = {place: local_folder(place).name for place in places if on_hub(place)}
    return {"hub": found} if found else {}


def check_name(name: str, where: str) -> None:
    """Raises UserError for what is no name of a repository, such as one without its owner.

    Args:
      name: of a repository.
      where: as the user wrote it.
    """
    if not _NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith((".git", "-", ".")):
        raise UserError(
            f"convert: {where}: a repository is named OWNER/NAME, of letters, digits, -, _ and . "
            "(hf:OWNER/NAME@REVISION for a branch, a tag or a commit)"
        )


def library() -> ModuleType:
    """huggingface_hub. Raises UserError where it is missing."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError("convert: models of the hub need huggingface_hub; pip install 'bertlite_jax[hub]'") from error
    return huggingface_hub


# --- What goes wrong -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reaching(place: str, right: str) -> Iterator[None]:
    """Around calls of huggingface_hub: what the hub refuses, and a network that fails, become an error of one line.

    Args:
      place: the repository, as the user wrote it.
      right: what the token must allow: read or write.
    """
    try:
        yield
    except Exception as error:
        causes = [*_causes(error)]
        # What its threads and its library in Rust say arrives as one of these; a full disk has a number.
        plain = isinstance(error, RuntimeError | ConnectionError | TimeoutError)
        plain |= isinstance(error, OSError) and error.errno is None
        if not (plain or any(type(each).__module__.partition(".")[0] in _CLIENTS for each in causes)):
            raise
        raise UserError(f"convert: {_line_of(causes, place, right)}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _line_of(causes: list[BaseException], place: str, right: str) -> str:
    kinds = {kind.__name__ for each in causes for kind in type(each).__mro__}
    refusals = [each for each in causes if getattr(each, "response", None) is not None]
    status = refusals[0].response.status_code if refusals else 0  # pyright: ignore[reportAttributeAccessIssue]
    if "GatedRepoError" in kinds:
        return f"{place} is gated: accept its terms on its page, then {_LOG_IN}"
    if "RevisionNotFoundError" in kinds:
        return f"{place}: there is no such revision; name a branch, a tag or a commit"
    if "RepositoryNotFoundError" in kinds or status == 404:
        return f"{place}: no such repository that this token may {right}; check the name, or {_LOG_IN}"
    if "OfflineModeIsEnabled" in kinds:
        return f"{place}: HF_HUB_OFFLINE is set, and the cache does not have all of it; unset it"
    if status == 401 or "XetAuthenticationError" in kinds:
        return f"{place}: the hub does not accept this token; {_LOG_IN}"
    said = first_line(next((ValueError(text) for each in refusals if (text := _server_message(each))), causes[-1]))
    if status == 403:
        return f"{place}: the hub refuses it ({said}); use a token that may {right} there, or another owner"
    if status == 429 or status >= 500:
        return f"{place}: the hub answers {status} ({said}); try again later"
    if status:
        return f"{place}: the hub answers {status} ({said})"
    return f"{place}: the hub cannot be reached ({said}); check the network"


def _server_message(error: BaseException) -> str:
    return getattr(error, "server_message", None) or ""
