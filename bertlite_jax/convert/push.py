"""`bertlite convert push`: the folder that `convert to-hf` writes, as one commit in a repository of the hub."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile

import bertlite_jax
from bertlite_jax.convert import adoption
from bertlite_jax.convert.huggingface import folder, upload
from bertlite_jax.convert.huggingface.names import Family
from bertlite_jax.errors import UserError
from bertlite_jax.host.hub_calls import is_name


@dataclasses.dataclass(frozen=True)
class Push:
    """What is sent, and into what kind of repository."""

    family: Family | None = None
    """Whose classes, as for `folder.to_hf`."""
    sentence_transformers: bool = False
    """As for `folder.to_hf`."""
    public: bool = False
    """Whether everybody sees the repository."""
    message: str = ""
    """Of the commit; empty: the version that made it."""
    overwrite: bool = False
    """Whether files that the repository has may be replaced."""


def push(run: str, repository: str, options: Push, dry_run: bool = False) -> list[str]:
    """Sends a model to the hub.

    Token, name and visibility are checked before the weights are read, and the commit has all files or does not exist.

    Args:
      run: anything that `sources.load` reads.
      repository: OWNER/NAME.
      options: what is sent.
      dry_run: send nothing, and ask the hub nothing.

    Returns:
      Lines for the user: each file with its size, and where they are now.

    Raises:
      UserError: as `folder.to_hf`, `upload.check` and `upload.commit`.
    """
    if not is_name(repository):
        raise UserError(
            f"convert: {repository}: a repository is named OWNER/NAME, of letters, digits, -, _ and ., without hf: "
            "before it or a revision behind it"
        )
    target = None if dry_run else upload.check(repository, options.public, options.overwrite)
    with adoption.open_weights(run) as weights, tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch) / "exported"
        folder.to_hf(
            weights,
            made,
            family=options.family,
            sentence_transformers=options.sentence_transformers,
            repository=repository,
        )
        files = {path.relative_to(made).as_posix(): path for path in sorted(made.rglob("*")) if path.is_file()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        whole = f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.2f} MB"
        lines = [f"{size:>15,}  {name}" for name, size in sizes.items()]
        visible = "public" if options.public else "private"
        if target is None:
            return [*lines, f"{repository}, {visible}: {whole} would be sent; this was a dry run"]
        message = options.message or f"Model of bertlite_jax {bertlite_jax.__version__}"
        address = upload.commit(target, files, message)
    stay = sorted(target.files - files.keys())
    lines += [f"{len(stay)} other files of the repository stay: {', '.join(stay)}"] if stay else []
    return [*lines, f"{repository}, {visible}: {whole} sent; {address}"]
