"""Recipes on the command line: the one that a job starts from, read before tyro parses its options; a list of all."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

from tyro.conf import Positional, arg

from bertlite_jax.cli.job import choose, job_of, usage, wants_help
from bertlite_jax.config import files
from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.search.settings import Search
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import check_on_disk, check_utf8, in_datasets

MAY_BE_REMOTE = ("--data.corpus", "--data.tokenizer", "--corpus", "--tokenizer")
"""Options whose folder may lie in object storage: it is copied to the disk."""
_MAY_BE_A_DATASET = ("--data", "--data.folder", "--data.validation-file")
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
        if option not in MAY_BE_REMOTE and not (option in _MAY_BE_A_DATASET and in_datasets(text)):
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
            return kind(), ["--help"], f"bertlite {job} RECIPE"
        raise UserError(f"{job}: the first argument is a recipe, by its name or path, for example {example_of(kind)}")
    config = files.load_file(args[0], task, example_of(kind))
    # Not isinstance: a `Distill` is a `Pretrain` too, and `bertlite pretrain` would forget its teachers.
    if type(config) is not kind:
        raise UserError(
            f"config: {args[0]}: config is a {type(config).__name__}, {job} needs a {kind.__name__}, for example "
            f"{example_of(kind)}"
        )
    return config, list(args[1:]), f"bertlite {job} {args[0]}"


def example_of(kind: type) -> str:
    """The name of a recipe that is of a kind."""
    examples = {
        Finetune: "finetune_glue",
        Grid: "ablate_residual_scale",
        Distill: "distil_distilbert",
        Search: "search_bort",
    }
    return examples.get(kind, "albert_base")


# --- bertlite recipes ------------------------------------------------------------------------------------------------

Name = Annotated[Positional[str], arg(metavar="NAME")]


def list_recipes() -> None:
    """Lists the recipes that come with the package: command, parameters, FLOP of the whole run, what it is."""
    from bertlite_jax.jobs.recipes import described

    columns = max(40, shutil.get_terminal_size((200, 24)).columns)
    for each in described():
        costs = f"{each.parameters:>11} parameters  {each.flop} FLOP" if each.flop else ""
        print(f"{each.command:37}  {costs}".rstrip())
        print(textwrap.shorten(each.about, columns, initial_indent="    ", placeholder=" ..."))
    print("\nWhere figures are missing, they depend on your encoder and your examples, or `--dry-run` measures them.")
    print("bertlite recipes show NAME          its commands, what comes out, its settings, its source")
    print("bertlite recipes copy NAME FILE.py  start one of your own")


def show_recipe(name: Name, /) -> None:
    """Prints the file of a recipe: its commands, what comes out, its settings and their source.

    Args:
      name: Name of a recipe, as `bertlite recipes` lists it.
    """
    from bertlite_jax.jobs.recipes import text_of

    print(text_of(name), end="")


def copy_recipe(
    name: Name, file: Annotated[Positional[str], arg(metavar="FILE.py")], /, overwrite: bool = False
) -> None:
    """Copies a recipe into a file of your own, which every job takes in its place.

    Args:
      name: Name of a recipe, as `bertlite recipes` lists it.
      file: File to write.
      overwrite: Replace the file if it exists.
    """
    from bertlite_jax.jobs.recipes import copy

    copy(name, file, overwrite)
    print(f"{file}: a copy of {name}; change it, and give it to the job by its path")


ACTIONS = (
    job_of("recipes list", "name, parameters, cost and command of each", list_recipes),
    job_of("recipes show", "the file of one: all its commands and settings", show_recipe),
    job_of("recipes copy", "a copy of one, to change", copy_recipe),
)


def recipes(args: Sequence[str]) -> None:
    """Lists, shows or copies the recipes that come with the package; without an action, lists them."""
    if args and wants_help(args[:1]):
        print(usage("bertlite recipes", "ACTION", ACTIONS))
        return
    named = args and not args[0].startswith("-")
    job, rest = choose("recipes", "action", args if named else ["list", *args], ACTIONS)
    job.run(rest)
