"""The options of a job, as tyro parses them. What it would refuse in a box of several lines becomes one line."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from bertlite_jax.errors import UserError, fields_close_to

T = TypeVar("T")


def parse(kind: Callable[..., T], args: Sequence[str], prog: str, **more: Any) -> T:
    """What `tyro.cli` makes of the arguments.

    Args:
      kind: a dataclass, or a function; a function is called.
      args: of the command line, without the job.
      prog: the command as the user typed it: `bertlite JOB ...`.
      **more: as for `tyro.cli`.

    Raises:
      UserError: there is no such option, one is missing, or one has a value that it cannot have.
      SystemExit: `--help` was printed.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=args, prog=prog, **more)
    except SystemExit as left:
        if not left.code:
            raise
    line = _in_a_line(said.getvalue(), prog, lambda: _known_options(kind, **more))
    raise UserError(f"{prog.split()[1]}: {line}")


def _known_options(kind: Callable[..., Any], **more: Any) -> list[str]:
    """All options, by what `--help` says of them."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # With frames, which part the columns of a wide terminal.
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **more)
    said.seek(0)
    cells = re.split("[│\n]", said.read())
    return re.findall(r"--[\w.-]+", " ".join(cell.strip().split("  ")[0] for cell in cells if cell.startswith(" -")))


def call(function: Callable[..., Any], args: Sequence[str], prog: str) -> Any:
    """Calls a function with parameters as `parse` reads them. What it prints and raises itself is not touched."""

    @functools.wraps(function)
    def later(*positional: Any, **named: Any) -> Callable[[], Any]:
        return functools.partial(function, *positional, **named)

    return parse(later, args, prog)()


# --- What a box says -------------------------------------------------------------------------------------------------

_USUAL_NAMES = {
    "lr": ("learning-rate",),
    "bs": ("batch-examples", "batch-rows", "batch"),
    "batch-size": ("batch-examples", "batch-rows", "batch"),
    "per-device-train-batch-size": ("batch-examples", "batch-rows", "batch"),
    "num-train-epochs": ("epochs",),
    "num-epochs": ("epochs",),
    "max-steps": ("steps",),
    "num-steps": ("steps",),
    "warmup-ratio": ("warmup-fraction",),
    "max-length": ("length",),
    "max-seq-length": ("length",),
    "max-len": ("length",),
    "output-dir": ("workdir", "out"),
    "output": ("out", "workdir"),
    "model": ("init",),
    "model-name-or-path": ("init",),
    "train-file": ("data",),
    "wd": ("weight-decay",),
}
"""What other programs call an option, and the last words of ours that mean it, the likeliest first."""
_INDENTED = re.compile(r" {4}(?=[-A-Z])(\S+)(?: \S+)*")
"""A row with an option, or the placeholder of an argument; explanations are indented further."""


def _in_a_line(box: str, prog: str, known: Callable[[], Sequence[str]]) -> str:
    """What a box says without its explanations, and of the known options the nearest."""
    rows, explains = _rows(box), f"{prog} --help explains the options"
    text = " ".join(row.strip() for row in rows if row)
    if unknown := re.search(r"Unrecognized options: ([^\s,=]+)", text):
        return _of_unknown(unknown[1], prog, known)
    if text.startswith("Missing from "):
        names = [match[1].rstrip(",") for row in rows if (match := _INDENTED.fullmatch(row))]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing; {explains}"
    said = " ".join(row.strip() for row in rows[: rows.index("")])
    if lacking := re.match("Missing value for argument '(.*?)'", said):
        name = lacking[1]
        is_option = name.startswith("-")
        return f"{name if is_option else name.upper()} {'needs a value' if is_option else 'is missing'}; {explains}"
    if choice := re.fullmatch(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.", said):
        words = [word.strip(" '\"") for word in choice[3].split(",") if word]
        return f"{choice[2]} {choice[1]} is unknown; {fields_close_to(choice[1], words)}"
    return re.sub("^Error parsing (.*?): ", r"\1: ", said)


def _of_unknown(name: str, prog: str, known: Callable[[], Sequence[str]]) -> str:
    if not name.startswith("-"):
        return f"{name} is an argument too many; {prog} --help lists those that there are"
    options = known()
    bare = name.lstrip("-").replace("_", "-")
    words = (bare, *_USUAL_NAMES.get(bare, ()))
    within = [option for word in words for option in options if option.lstrip("-").split(".")[-1] == word]
    nearest = within or difflib.get_close_matches(name, options, n=1) or _by_last_word(bare, options)
    advice = f"did you mean {nearest[0]}?" if nearest else f"{prog} --help lists those that there are"
    return f"unknown option {name}; {advice}"


def _by_last_word(name: str, options: Sequence[str]) -> list[str]:
    """The option whose last part is nearest, whatever stands before it."""
    last = {option.lstrip("-").split(".")[-1]: option for option in reversed(options)}
    return [last[word] for word in difflib.get_close_matches(name.split(".")[-1], list(last), n=1)]


def _rows(box: str) -> list[str]:
    """The rows of a box without its frame and its last part; rules between its parts, and its end, are empty rows."""
    rows = []
    for line in re.sub(r"\x1b\[[\d;]*m", "", box).splitlines()[1:]:
        inside = line[2:-2] if line.startswith("│") else line[2:]
        if inside.startswith("For full helptext"):
            break
        rows.append(inside.rstrip() if inside.strip("─╯- ") else "")
    while rows and not rows[0]:  # Where the terminal has no frames, a rule follows the title.
        del rows[0]
    return [*rows, ""]
