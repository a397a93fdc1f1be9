"""Tables and CoNLL columns that come through a pipe, where each line would be taken for a text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from bertlite_jax.data.tasks import layouts
from bertlite_jax.data.tasks.own import conll, labels
from bertlite_jax.data.tasks.own.formats import header_name
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

_LINES_RUNNING = 3
"""So many lines of words with tags are no chance."""
_LOOKED_AT = 100
"""Lines. Texts beyond them are passed on without a look, as a file's format is decided by as many."""


def plain_lines(
    lines: Iterator[tuple[int, str]], options: OwnOptions, tags: Sequence[str], where: str
) -> Iterator[tuple[int, str]]:
    """Passes on the lines of a stream, and refuses those of a table or of CoNLL columns.

    Nothing in a stream can be read twice, so it is read as one text or one JSON object on each line. Each line is
    passed on before the next one is read: whoever types texts gets each answer at once.

    A table is told by its first line that is not blank: a header as `formats.header_name` finds it in files, or
    `sep=;` as Excel writes it. CoNLL columns are told by `-DOCSTART-`, by the columns of CoNLL-U, or by three lines
    running, between which may be blank lines and comments: they have the same number of columns, two at least, and each
    ends in one of `tags` or in a tag of spans such as O and B-LOC. Signs alone are not enough, since a sentence ends in
    a full stop. A text with commas, or one that happens to end in a tag, passes.

    Args:
      lines: (number from 1, text).
      options: names of columns that were said, or that the model was trained on.
      tags: of a tagger; empty for other models.
      where: the stream, for messages.

    Raises:
      UserError: it is one of them; says what it looks like and what to type.
    """
    running: deque[list[str]] = deque(maxlen=_LINES_RUNNING)
    first = True
    for number, line in lines:
        if line.strip() and number <= _LOOKED_AT:
            if first:
                if line.lstrip().startswith("{"):  # JSON objects, which is decided by the first of them.
                    yield number, line
                    break
                _refuse_table(line, options, f"{where}:{number}")
            first = False
            if not layouts.is_comment(line):
                running.append(layouts.columns_of_line(line))
            if _are_columns(line, running, tags):
                raise UserError(
                    f"task: {where}:{number}: this looks like CoNLL columns, a word and its tag on each line, but what "
                    "comes through a pipe is read as one text on each line; name the file itself with --input FILE"
                )
        yield number, line
    yield from lines


def _refuse_table(line: str, options: OwnOptions, at: str) -> None:
    name = header_name(line, options)
    excel = line.startswith("sep=") and len(line) == len("sep=;")
    if name or excel:
        sign = f"it names the column {labels.shown(name)!r}" if name else "it says what divides the columns"
        raise UserError(
            f"task: {at}: this looks like the first line of a table ({sign}), but what comes through a pipe is read as "
            "one text on each line; name the file itself with --input FILE"
        )


def _are_columns(line: str, running: Sequence[Sequence[str]], tags: Sequence[str]) -> bool:
    """Whether `line`, with the rows of the last lines that hold something, shows that they are CoNLL columns."""
    if line.split()[0] == layouts.DOCUMENT_MARK or conll.is_universal(line):
        return True
    ends = [row[-1] for row in running]
    return (
        len(running) == _LINES_RUNNING
        and len({len(row) for row in running}) == 1
        and len(running[0]) > 1
        and all(end in tags or layouts.TAG.fullmatch(end) for end in ends)
        and any(each.isalnum() for end in ends for each in end)
    )
