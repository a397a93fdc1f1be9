"""Models of the hub: what `hf:OWNER/NAME` stands for, and its files on this disk (`host/hub_calls`)."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import pathlib
from collections.abc import Iterable

from bertlite_jax.convert.huggingface.sentence_transformers import model_folder
from bertlite_jax.errors import UserError
from bertlite_jax.host.hub_calls import is_name, library, reaching
from bertlite_jax.host.places import HUB, on_hub

_LOG = logging.getLogger(__name__)
_SMALL = ("README.md", "*.json", "*.txt", "*.model", "tokenizer/*")
_WEIGHTS = ("*.safetensors", "*pytorch_model*.bin", "*flax_model*.msgpack")
"""In the order in which `weight_files.read_tensors` looks for them: only the first kind that is there is downloaded."""


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
    if not is_name(name):
        raise UserError(
            f"convert: {place}: a repository is named OWNER/NAME, of letters, digits, -, _ and .; in place of a folder "
            "write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION for a branch, a tag or a commit"
        )
    download = library().snapshot_download
    with reaching(place, "read"):
        folder = pathlib.Path(download(name, revision=revision or None, allow_patterns=[*_SMALL, _WEIGHTS[0]]))
        for before, pattern in itertools.pairwise(_WEIGHTS):
            if any(model_folder(folder).glob(before)):
                break
            download(name, revision=folder.name, allow_patterns=[_SMALL[0], pattern])
    if not any(folder.glob("*.json")):
        raise UserError(f"convert: {place} has no config.json, so it holds no model that can be read")
    _LOG.info("hub: %s is commit %s, in %s", place, folder.name, folder)
    return str(folder)


def commits(places: Iterable[str]) -> dict[str, str]:
    """Place to commit, of those that are models of the hub."""
    return {place: local_folder(place).name for place in places if on_hub(place)}
