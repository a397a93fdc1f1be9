"""What is read from the command line before tyro parses it: the recipe, which gives the defaults of its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertlite_jax.config import files
from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.search.settings import Search
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import check_on_disk, check_utf8

MAY_BE_REMOTE = ("--data.corpus", "--data.tokenizer", "--corpus", "--tokenizer")
"""Options whose folder may lie in object storage: it is copied to the disk."""
_PLACES = (
    "--out", "--workdir", "--metrics", "--predictions", "--submission", "--keep-hlo", "--input", "--init", "--teacher",
    "--distill.store", "--minimal-pairs", "--learn.teacher", "--learn.unlabelled", "--learn.augment-model",
)  # fmt: skip
"""Options that name a file or folder. Some may be left out, which an empty name does not say."""


def check_places(args: Sequence[str], text_anywhere: bool = False) -> None:
    """Refuses a name of a file or folder that cannot be one.

    Refused: a `gs://...` where only a path on the disk can be used, what is not UTF-8, and an empty name, as a variable
    of the shell has that was not set.

    Args:
      args: what follows the name of the job.
      text_anywhere: positional arguments are text, which may lie in object storage.

    Raises:
      UserError: names the option.
    """
    option, value_follows = MAY_BE_REMOTE[0] if text_anywhere else "", False
    for text in args:
        is_option = text.startswith("--")
        if is_option:
            option, has_value, text = text.partition("=")
            value_follows = not has_value
        if not text and option in _PLACES and not (is_option and value_follows):
            raise UserError(f"{option.lstrip('-')}: {option} is followed by an empty name; name a file or folder")
        if option not in MAY_BE_REMOTE:
            check_on_disk(option.lstrip("-") or "argument", text)
        if not text_anywhere or option != MAY_BE_REMOTE[0]:  # Text may have any name.
            check_utf8(option.lstrip("-") or "argument", text)


def value_of(option: str, args: Sequence[str]) -> str:
    """The value of an option that decides the defaults of others; empty where it is not given. tyro checks it later."""
    for place, text in enumerate(args):
        if text == option:
            return args[place + 1] if place + 1 < len(args) else ""
        if text.startswith(f"{option}="):
            return text.removeprefix(f"{option}=")
    return ""


def fields_given(args: Sequence[str], config: Any) -> set[str]:
    """The fields of a config that are among the options, such as `run.epochs`; `--data.no-pack` is `data.pack`."""
    known = set(files.flat(config))
    names = {text[2:].partition("=")[0].replace("-", "_") for text in args if text.startswith("--")}
    return known & (names | {name.replace(".no_", ".", 1) for name in names})


def config_file(job: str, args: Sequence[str], kind: type, task: str = "") -> tuple[Any, list[str], str]:
    """Reads the recipe that the first argument names.

    Args:
      job: what follows `bertlite`.
      args: what follows the job.
      kind: dataclass that the recipe has to be.
      task: a recipe may have other settings for each task.

    Returns:
      The config, the other arguments, and the name of the command in `--help`.

    Raises:
      UserError: no recipe is named, or it cannot be used.
    """
    if not args or args[0].startswith("-"):
        if "-h" in args or "--help" in args:
            return kind(), ["--help"], f"bertlite {job} CONFIG.py"
        raise UserError(f"{job}: the first argument is a config file, for example {example_of(kind)}")
    config = files.load_file(args[0], task, example_of(kind))
    # Not isinstance: a `Distill` is a `Pretrain` too, and `bertlite pretrain` would forget its teachers.
    if type(config) is not kind:
        raise UserError(
            f"config: {args[0]}: config is a {type(config).__name__}, {job} needs a {kind.__name__}, for example "
            f"{example_of(kind)}"
        )
    return config, list(args[1:]), f"bertlite {job} {args[0]}"


def example_of(kind: type) -> str:
    """A recipe that is of a kind."""
    examples = {
        Finetune: "configs/finetune_glue.py",
        Grid: "configs/ablate_residual_scale.py",
        Distill: "configs/distil_distilbert.py",
        Search: "configs/search_bort.py",
    }
    return examples.get(kind, "configs/albert_base.py")
