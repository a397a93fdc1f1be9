"""What the jobs that take a config file read from the command line before the parser does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertlite_jax.config import files
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import check_on_disk

MAY_BE_REMOTE = ("--data.corpus", "--data.tokenizer", "--corpus", "--tokenizer")
"""Options whose folder may lie in object storage: it is copied to the disk."""
READ_TEXT = ("tokenizer", "corpus")
"""Jobs whose text may lie there."""


def check_places(job: str, args: Sequence[str]) -> None:
    """Raises UserError for a `gs://...` where a path has to stand."""
    option = MAY_BE_REMOTE[0] if job in READ_TEXT else ""
    for text in args:
        if text.startswith("--"):
            option, _, text = text.partition("=")
        if option not in MAY_BE_REMOTE:
            check_on_disk(option.lstrip("-") or "argument", text)


def value_of(option: str, args: Sequence[str]) -> str:
    """Of an option that decides what the others' defaults are; the parser checks it later."""
    for place, text in enumerate(args):
        if text == option:
            return args[place + 1] if place + 1 < len(args) else ""
        if text.startswith(f"{option}="):
            return text.removeprefix(f"{option}=")
    return ""


def config_file(job: str, args: Sequence[str], kind: type, task: str = "") -> tuple[Any, list[str], str]:
    """The config that the first argument names, the remaining arguments, and what `--help` calls the command."""
    if not args or args[0].startswith("-"):
        if "-h" in args or "--help" in args:
            return kind(), ["--help"], f"bertlite {job} CONFIG.py"
        raise UserError(f"{job}: the first argument is a config file, for example configs/albert_base.py")
    config = files.load_file(args[0], task)
    if not isinstance(config, kind):
        raise UserError(f"config: {args[0]}: config is a {type(config).__name__}, {job} wants a {kind.__name__}")
    return config, list(args[1:]), f"bertlite {job} {args[0]}"
