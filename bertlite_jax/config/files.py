"""Configs in files: a recipe in Python, `config.json` in a work directory, and how two of them differ.

A file under `configs/` is plain Python that assigns a config to the name `config`; the command line overrides single
fields (`--optim.learning-rate 1e-3`); `config.json` in a work directory holds the result, so that the run can be made
again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import runpy
import traceback
import typing
from typing import Any

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.schedule import read_strings, refuse_strings
from bertlite_jax.errors import UserError, fields_close_to


def load_file(path: str, task: str = "") -> Any:
    """The object named `config` of a Python config file, or what its dict `tasks` has for the task."""
    if not pathlib.Path(path).is_file():
        near = sorted(str(p) for p in pathlib.Path("configs").glob("*.py"))
        raise UserError(f"config: {path} does not exist; {fields_close_to(path, near)}")
    try:
        names = runpy.run_path(path)
    except SyntaxError as error:
        raise UserError(f"config: {error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:  # Whatever a misspelt name or a missing import leads to: the file is the user's.
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f"{path}:{lines[-1]}" if lines else path
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"config: {where}: {reason}") from error
    if "config" not in names:
        raise UserError(f"config: {path} does not assign the name `config`")
    config = names.get("tasks", {}).get(task, names["config"])
    if isinstance(config, Pretrain):
        refuse_strings(config, path)
    return config


def to_json(config: Any) -> str:
    """All fields, nested, in the order of declaration."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(kind: type, values: dict[str, Any], where: str) -> Any:
    """Builds dataclass `kind` from nested dictionaries, as `to_json` writes them.

    Raises:
      UserError: names the unknown or missing field and the nearest that exists.
    """
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
        if value not in typing.get_args(hint):
            raise UserError(
                f"config: {where} = {value!r} is unknown; {fields_close_to(str(value), [*typing.get_args(hint)])}"
            )
        return
    if typing.get_origin(hint) is tuple:
        _check_list(value, typing.get_args(hint), where)
        return
    wanted = {bool: bool, int: int, float: (int, float), str: str}.get(hint, object)
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint in (int, float)):
        name = getattr(hint, "__name__", str(hint))
        raise UserError(f"config: {where} = {value!r} should be of the kind {name}")


def _check_list(value: Any, hints: tuple[Any, ...], where: str) -> None:
    """Raises UserError unless the value is a list whose elements are as the arguments of the hint `tuple[...]` say."""
    if not isinstance(value, list | tuple):
        raise UserError(f"config: {where} = {value!r} should be a list")
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        raise UserError(f"config: {where} = {value!r} should be a list of {len(hints)}")
    for number, (element, hint) in enumerate(zip(value, hints, strict=True)):
        _check_kind(element, hint, f"{where}[{number}]")


def read_json(path: os.PathLike[str] | str, kind: type = Pretrain) -> Any:
    """The config that a job stored in its work directory."""
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"config: {path} does not exist; is its folder the work directory of a run?") from error
    except json.JSONDecodeError as error:
        raise UserError(f"config: {path}:{error.lineno}: not JSON: {error.msg}") from error
    return from_dict(kind, read_strings(values), str(path))


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
