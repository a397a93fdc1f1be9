"""Configs in files: a recipe in Python, `config.json` in a work directory, and how two of them differ.

A recipe is plain Python that assigns a config to the name `config`; it is given by its path, or by its name where it
comes with the package. The command line overrides single fields (`--optim.learning-rate 1e-3`); `config.json` in a work
directory holds the result, so that the run can be made again.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import pathlib
import runpy
import shlex
import traceback
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bertlite_jax.config.bounds import shown
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.config.schedule import read_strings, refuse_strings
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host import json_files

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_PURPOSES = ("finetune_", "distil_", "search_", "ablate_")
"""How the names of recipes begin; those of pretraining have no such word."""


def shipped(package: pathlib.Path = PACKAGE) -> dict[str, pathlib.Path]:
    """The recipes that come with the package, by name.

    They are the files of `configs/` in the repository. A wheel has them inside the package, since nothing beside it is
    its own; a clone and an editable install read `configs/` itself.
    """
    inside = package / "recipes"
    folder = inside if inside.is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def find(recipe: str, example: str = "") -> str:
    """The path of a recipe's file.

    Args:
      recipe: a path, or the name of a recipe that comes with the package; a file of that name goes first.
      example: name of a recipe of the kind that is needed, whose kind is then suggested for one that is not there.

    Raises:
      UserError: there is no such file, and the nearest recipes are named; or it is a folder, such as that of a run.
    """
    if pathlib.Path(recipe).is_file():
        return recipe
    known = shipped()
    if recipe in known:
        return str(known[recipe])
    if recipe and pathlib.Path(recipe).is_dir():
        raise UserError(f"config: {recipe} is a folder; name a file, or one that `bertlite recipes` lists")
    beside = [str(path) for path in pathlib.Path(recipe).parent.glob("*.py") if path.is_file()]
    names = [name for name in known if not example or _purpose(name) == _purpose(example)]
    near = difflib.get_close_matches(recipe, beside, n=1) or close_names(pathlib.Path(recipe).stem, names)
    advice = f"did you mean {', '.join(near)}?" if near else "`bertlite recipes` lists those of the package"
    raise UserError(f"config: {recipe} does not exist; {advice}")


def close_names(name: str, known: Sequence[str]) -> list[str]:
    """The names that have a word in them, such as `glue`, or else those that differ from it by little."""
    word = name.lower()
    return [each for each in known if len(word) > 2 and word in each] or difflib.get_close_matches(word, known)


def _purpose(name: str) -> str:
    """What a recipe that comes with the package is for, by its name; empty for pretraining."""
    return next((word for word in _PURPOSES if name.startswith(word)), "")


def load_file(path: str, task: str = "", example: str = "") -> Any:
    """The object named `config` of a Python config file, or what its dict `tasks` has for the task.

    Args:
      path: of the file, or the name of a recipe, as for `find`; a file that ends in .json holds a config as `to_json`
        writes it, such as a search's winner.json.
      task: whose settings are looked for.
      example: as for `find`.

    Raises:
      UserError: the file does not exist, fails, or assigns no config.

    Examples:
      >>> from bertlite_jax.config.files import load_file
      >>> recipe = load_file("albert_base")
      >>> recipe.model.hidden_size, recipe.data.length, recipe.optim.name
      (768, 512, 'lamb')
    """
    path = find(path, example)
    if path.endswith(".json"):
        return read_json(path)
    try:
        names = runpy.run_path(path)
    except SyntaxError as error:
        where = ":".join(str(part) for part in (error.filename or path, error.lineno) if part is not None)
        raise UserError(f"config: {where}: {error.msg}") from error
    except (Exception, SystemExit) as error:  # Whatever the user's file leads to: a misspelt name, a missing import.
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f"{path}:{lines[-1]}" if lines else path
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, SystemExit):
            reason = f"a recipe assigns the name `config` and does not end the program (sys.exit {reason})"
        raise UserError(f"config: {where}: {reason}") from error
    if "config" not in names:
        raise UserError(f"config: {path} does not assign the name `config`")
    of_tasks = names.get("tasks", {})
    if not isinstance(of_tasks, dict):
        raise UserError(f"config: {path}: `tasks` is a {type(of_tasks).__name__}; a dict of configs by task is needed")
    config = of_tasks.get(task, names["config"])
    if isinstance(config, Pretrain) and isinstance(config.run, Run):
        refuse_strings(config, path)
    is_config = dataclasses.is_dataclass(config) and not isinstance(config, type)
    return checked_kinds(config, path) if is_config else config


def checked_kinds(config: Any, where: str) -> Any:
    """The config with tuples in place of lists, where each value is of the kind of its field.

    Python itself does not look: `Run(steps="many")` is made, and fails only where the number is needed.

    Args:
      config: a dataclass; groups of settings in it are dataclasses too.
      where: its file, for the message.

    Raises:
      UserError: names the first field that has a value of another kind.
    """
    hints = typing.get_type_hints(type(config))
    checked = {}
    for field in dataclasses.fields(config):
        value, hint, place = getattr(config, field.name), hints[field.name], f"{where}: {field.name}"
        if not dataclasses.is_dataclass(hint):
            _check_kind(value, hint, place)
            checked[field.name] = _as_tuples(value)
        elif isinstance(value, typing.cast(type, hint)):
            checked[field.name] = checked_kinds(value, place)
        else:
            name = getattr(hint, "__name__", str(hint))
            raise UserError(f"config: {place} = {shown(value)} should be of the kind {name}")
    return dataclasses.replace(config, **checked)


def to_json(config: Any) -> str:
    """All fields, nested, in the order of declaration."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(kind: type, values: Any, where: str) -> Any:
    """Builds dataclass `kind` from nested dictionaries, as `to_json` writes them.

    Raises:
      UserError: names the unknown field and the nearest that exists, or the field whose value is of another kind.
    """
    if not isinstance(values, dict):
        raise UserError(f"config: {where} = {shown(values)} should be an object with the fields of {kind.__name__}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            raise UserError(f"config: {where} has the unknown field {name}; {fields_close_to(name, known)}")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        _check_kind(value, hint, f"{where}: {name}")
        if dataclasses.is_dataclass(hint):
            value = from_dict(typing.cast(type, hint), value, f"{where}: {name}")
        elif typing.get_origin(hint) is tuple:
            value = _as_tuples(value)
        built[name] = value
    return kind(**built)


def _as_tuples(value: Any) -> Any:
    """Lists in lists, as JSON has them, as tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _check_kind(value: Any, hint: Any, where: str) -> None:
    """Raises UserError where JSON has a value of another kind than the field, or a word that it does not know."""
    if typing.get_origin(hint) is typing.Literal:
        if not isinstance(value, str | int) or value not in typing.get_args(hint):
            known = [str(word) for word in typing.get_args(hint)]
            raise UserError(f"config: {where} = {shown(value)} is unknown; {fields_close_to(str(value)[:80], known)}")
        return
    if typing.get_origin(hint) is tuple:
        _check_list(value, typing.get_args(hint), where)
        return
    hints = [hint]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # Of a Literal and a float it is the latter.
        hints = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if value is None and len(hints) < len(typing.get_args(hint)):
            return
    words = [kind for kind in hints if typing.get_origin(kind) is typing.Literal]
    if words and isinstance(value, str):
        _check_kind(value, words[0], where)
        return
    hints = [kind for kind in hints if kind not in words]
    wanted = {bool: bool, int: int, float: (int, float), str: str}.get(hints[0], object)
    if not isinstance(value, wanted) or (isinstance(value, bool) and hints[0] in (int, float)):
        name = getattr(hint, "__name__", str(hint))
        if words:
            name = f"{hints[0].__name__}, or one of {', '.join(typing.get_args(words[0]))}"
        raise UserError(f"config: {where} = {shown(value)} should be of the kind {name}")
    if isinstance(value, int) and value.bit_length() > 63:
        raise UserError(f"config: {where} = {shown(value)} is too large; no number here has more than 19 digits")
    if isinstance(value, str) and not value.isprintable():
        _check_text(value, where)


def _check_text(value: str, where: str) -> None:
    """Raises UserError for text that no file name and no JSON file can hold."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"config: {where} = {ascii(value)[:80]} has a null byte or half of a surrogate pair")


def _check_list(value: Any, hints: tuple[Any, ...], where: str) -> None:
    """Raises UserError unless the value is a list whose elements are as the arguments of the hint `tuple[...]` say."""
    if not isinstance(value, list | tuple):
        raise UserError(f"config: {where} = {shown(value)} should be a list")
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        raise UserError(f"config: {where} = {shown(value)} should be a list of {len(hints)}")
    for number, (element, hint) in enumerate(zip(value, hints, strict=True)):
        _check_kind(element, hint, f"{where}[{number}]")


def read_json(path: os.PathLike[str] | str, kind: type = Pretrain, job: str = "config") -> Any:
    """The config that a job stored in its work directory.

    Args:
      path: of the file.
      kind: `Pretrain`, which a run of distillation is too (its config is a `Distill`), or `Finetuned`.
      job: begins the message where the run is of the other kind.

    Raises:
      UserError: there is no such file, it is damaged, it describes weights, or the run is of the other kind.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"config: {path} does not exist; is its folder the work directory of a run?") from error
    values = json_files.read_object(path, "config")
    held, run = kind_of_run(values), pathlib.Path(path).parent
    typed = shlex.quote(str(run))
    if {"format", "model_type"} & values.keys():  # Of our folders of weights, and of those of transformers.
        its_run = f": {run.parent}" if (run.parent / "config.json").is_file() else ""
        raise UserError(
            f"{job}: {run} has the weights of a model without its recipe; name the work directory of its run{its_run}"
        )
    if kind is Pretrain and held == "distillation":
        kind = Distill
    if issubclass(kind, Pretrain) and held == "fine-tuning":
        raise UserError(
            f"{job}: {run} is a fine-tuned run, and one of pretraining is needed; bertlite predict {typed} --input FILE"
            " answers the texts of a file, and scores the answers where it has labels"
        )
    if not issubclass(kind, Pretrain) and held in ("pretraining", "distillation"):
        raise UserError(
            f"{job}: {run} is a run of {held}, and a fine-tuned one is needed; bertlite finetune RECIPE --init "
            f"{typed} makes one"
        )
    return from_dict(kind, read_strings(values), str(path))


def kind_of_run(values: Mapping[str, Any]) -> Literal["fine-tuning", "pretraining", "distillation", ""]:
    """Which job stored a config in its work directory, by the fields that only one of them has; empty: neither."""
    if "adapt" in values or "head" in values:
        return "fine-tuning"
    if "distill" in values:
        return "distillation"
    return "pretraining" if "model" in values and not {"init", "learn"} & values.keys() else ""


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"optim.learning_rate": 1e-3, ...}`, for comparing two configs field by field."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        values |= flat(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return values


def differences(old: Any, new: Any) -> list[str]:
    """`optim.learning_rate: 0.001 -> 0.002`, one string for each field that differs."""
    before, after = flat(old), flat(new)
    return [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
