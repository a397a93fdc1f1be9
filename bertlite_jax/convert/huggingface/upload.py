"""A repository of the hub: whether a model may be sent to it, and the commit that does so."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from bertlite_jax.errors import UserError
from bertlite_jax.host.hub_calls import LOG_IN, library, reaching

_MADE_BY_THE_HUB = (".gitattributes",)
"""Files of a new repository."""


class Target(NamedTuple):
    """A repository that may be written, as it is before."""

    name: str
    public: bool
    exists: bool
    files: frozenset[str] = frozenset()
    """Names of what a user has put there."""


def check(name: str, public: bool, overwrite: bool) -> Target:
    """Looks a repository up before anything is made or sent.

    Args:
      name: OWNER/NAME.
      public: whether everybody is to see it.
      overwrite: whether files that it has may be replaced.

    Raises:
      UserError: there is no token, the hub cannot be reached, the repository has files already, or it exists with the
        other visibility, which is never changed.
    """
    hub = library()
    with reaching(name, "write"):
        if hub.get_token() is None:
            raise UserError(f"convert: push needs a token that may write: {LOG_IN}; --dry-run needs none")
        try:
            found = hub.HfApi().model_info(name)
        except hub.errors.GatedRepoError:
            raise
        except hub.errors.RepositoryNotFoundError:  # Or a private one of others, which making it will tell.
            return Target(name, public, exists=False)
    files = frozenset(file.rfilename for file in found.siblings or ()) - {*_MADE_BY_THE_HUB}
    if found.private is not None and found.private == public:
        seen, wanted = ("private", "leave out --public") if public else ("public", "pass --public")
        raise UserError(f"convert: {name} is {seen}; {wanted}, change that in its settings, or name another")
    if files and not overwrite:
        raise UserError(
            f"convert: {name} exists and has {len(files)} files; pass --overwrite to commit on top of them, or name "
            "another"
        )
    return Target(name, public, exists=True, files=files)


def commit(target: Target, files: Mapping[str, pathlib.Path], message: str) -> str:
    """Makes the repository if need be, and sends all files in one commit.

    Args:
      target: as `check` found it.
      files: names in the repository, and where they lie.
      message: of the commit.

    Returns:
      The address of the commit.

    Raises:
      UserError: the hub refuses it, or the network fails. Then nothing of the commit is there; a repository that was
        made for it is, and is empty.
    """
    hub = library()
    api = hub.HfApi()
    if not target.exists:
        with reaching(target.name, "write"):
            try:
                api.create_repo(target.name, private=not target.public)
            except hub.errors.HfHubHTTPError as error:
                if error.response.status_code != 409:
                    raise
                raise UserError(
                    f"convert: {target.name} exists already, and this token may not read it; name another, or use a "
                    "token of its owner"
                ) from error
    operations = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()]
    try:
        with reaching(target.name, "write"):
            return api.create_commit(target.name, operations, commit_message=message).commit_url
    except UserError as error:
        if target.exists:
            raise
        raise UserError(f"{error}; {target.name} was made, and is empty: the same command fills it") from error
