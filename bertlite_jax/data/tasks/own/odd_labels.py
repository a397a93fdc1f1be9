"""Labels and tags that are read in one way and most likely meant in another: refused, or told in a line."""

from __future__ import annotations

import decimal
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.errors import UserError

_BITS = re.compile(r"[01](?:\.0*)?([ ;|/]|, ?)[01](?:\.0*)?(\1[01](?:\.0*)?)*")
_LIST = re.compile(r"\[.*[,\s].*\]|\{.*[:,].*\}|\(.*,.*\)|(?:tensor|array)\(.*\)", re.DOTALL)
_OTHER_TAGS = (re.compile(r"[BIESLUM][_:.][^\W\d_].*"), re.compile(r"[^\W\d_].*[-_:.][BIESLUM]"))
"""BIO tags as other programs write them: `B_PER`, and `PER-B`."""
_SPAN = re.compile(r"[BIESLUM]-.+")
_TWICE_ENCODED = re.compile("\u00c3[\u0080-\u00bf]|\u00c2[\u00a0-\u00bf]|\u00e2\u20ac.")
"""UTF-8 that was read as windows-1252 and saved as UTF-8 once more."""
_MANY = 0.01
"""Share of texts."""
_LONG_SENTENCE = 1_000
_MOST_WORDS_SHOWN = 3


# --- Labels ----------------------------------------------------------------------------------------------------------


def refuse_lists(names: Sequence[str], path: str) -> None:
    """Raises UserError if a label is a list in a cell: rows of 0 and 1, or one that nobody can read again.

    `[a, b]` without quotes and `[1 2 ... 9]` with its middle left out are of the latter kind.
    """
    bits = [name for name in names if _BITS.fullmatch(name)]
    if len(bits) == len(names) and (found := _BITS.fullmatch(bits[0])):
        raise UserError(
            f"task: {path}: labels are rows of 0 and 1 ({bits[0]}); one for each of several labels? --data.kind "
            f"multi_label --data.separator '{found[1].strip() or ' '}' (one label: --data.kind classify)"
        )
    if unread := next(filter(_LIST.fullmatch, names), ""):
        raise UserError(
            f"task: {path}: the label {labels.shown(unread)!r} looks like a list and cannot be read as one; write it "
            'as JSON, such as ["a", "b"] (as a name: --data.kind classify)'
        )


def refuse_scores_in_lists(names: Sequence[str], path: str) -> None:
    """Raises UserError if several labels are numbers with fractions: probabilities for each label."""
    try:
        labels.refuse_scores(names, path)
    except UserError as error:
        shown = " ".join(map(labels.shown, sorted(names, key=labels.order)[:3]))
        raise UserError(
            f"task: {path}: several labels are numbers with fractions ({shown} ..); they can be names, or 0 and 1 for "
            "each label"
        ) from error


def refuse_joined_lines(places: Mapping[str, str], delimiter: str) -> None:
    """Raises UserError if a label has a whole row of the table in it, since a quote takes it in.

    Args:
      places: label -> file and line of its first example.
      delimiter: of the table; empty for other files.
    """
    for name, where in places.items() if delimiter else ():
        if any(delimiter in line for line in name.split("\n")[1:]):
            raise UserError(
                f"task: {where}: the label {labels.shown(name)!r} goes over several lines; is a quote missing, or one "
                "too many?"
            )


class Texts:
    """Finds texts that are none, and those that may have taken in other rows of a table between two odd quotes."""

    def __init__(self, delimiter: str):
        self._delimiter = delimiter
        self._seen = self._missing = self._twice_encoded = 0
        self._edges: dict[str, str] = {}
        """What stands at the inner edge of a line of a text -> file and line of the text."""

    def add(self, text: object, where: str) -> None:
        """Looks at a text."""
        self._seen += 1
        self._missing += fields.is_missing(text) and not fields.is_blank(text)
        self._twice_encoded += isinstance(text, str) and _TWICE_ENCODED.search(text) is not None
        if not self._delimiter or not isinstance(text, str) or "\n" not in text:
            return
        lines = text.split("\n")
        edges = [line.rpartition(self._delimiter) for line in lines[:-1]]
        edges += [line.partition(self._delimiter)[::-1] for line in lines[1:]]
        for _, between, edge in edges:
            if between and len(self._edges) < 10_000:
                self._edges.setdefault(edge.strip('"'), where)

    def notes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Lines for texts that are `nan`, in a wrong encoding, or of which a line ends, or begins, with a label."""
        found = []
        if self._missing:
            found.append(f"{self._missing:,} texts are 'nan', which pandas writes where there is none; leave them out")
        if self._twice_encoded > _MANY * self._seen:
            found.append(
                f"{self._twice_encoded:,} texts look like UTF-8 that was read in another encoding and saved again "
                "(\u00c3\u00a9 for \u00e9); read the source of the file as UTF-8"
            )
        return (*found, *self._joined(names))

    def _joined(self, names: Sequence[str]) -> tuple[str, ...]:
        name = next((name for name in names if name in self._edges), None)
        if name is None:
            return ()
        place = f"line {self._edges[name].rpartition(':')[2]}"
        return (
            f"the text of {place} goes over several lines, of which one has the label {labels.shown(name)} at its end "
            "as a row of its own would: is a quote missing?",
        )


def refuse_ignored(names: Sequence[str], counts: Counter[str], path: str, what: str = "label") -> None:
    """Raises UserError if a label is -100, which losses of PyTorch leave out, unless there are others below -1."""
    numbers = [labels.same(name) for name in names]
    below = [number for number in numbers if isinstance(number, decimal.Decimal) and number < -1]
    if below != [labels.IGNORED]:
        return
    count = sum(number for name, number in counts.items() if labels.same(name) == labels.IGNORED)
    others = [name for name in names if labels.same(name) != labels.IGNORED]
    listed = " ".join(map(labels.typed, sorted(others, key=labels.order)[:12]))
    advice = "give each whole word one tag" if what == "tag" else f"--data.label-names {listed} leaves it out"
    raise UserError(f"task: {path}: the {what} -100 ({count:,}) says that there is none, as losses ignore it; {advice}")


# --- Tags ------------------------------------------------------------------------------------------------------------


def refuse_other_spans(counts: Counter[str], path: str) -> None:
    """Raises UserError for tags from which a scorer would make other spans than are meant.

    These are BIO tags such as `B_PER` and `PER-B`, and `0`, `OUT` or `_` in place of O, each of which would be a span.
    """
    outside = _without_place(counts)
    if outside and "O" not in counts:
        often = max(outside, key=lambda tag: counts[tag])
        raise UserError(
            f"task: {path}: words outside of spans have the letter O for a tag, and here they seem to have {often!r} "
            f"({counts[often]:,}), which would make each a span: write O, or name all tags with --data.label-names"
        )
    kinds = sorted(tag for tag in counts if tag.upper() != "O")
    if len(kinds) == len(counts) or not kinds:
        return
    begun = any("B" in (tag[0], tag[-1]) for tag in kinds)
    if begun and not all(map(_SPAN.fullmatch, kinds)) and any(all(map(form.fullmatch, kinds)) for form in _OTHER_TAGS):
        raise UserError(
            f"task: {path}: the tags {', '.join(kinds[:_MOST_WORDS_SHOWN])} look like spans in another spelling; only "
            "B- and I- before a name are read as spans: write them so, or name all tags with --data.label-names"
        )


def _without_place(counts: Counter[str]) -> list[str]:
    """The tags other than O without B- or I- and such before them, where others have these."""
    without = [tag for tag in counts if tag != "O" and not _SPAN.fullmatch(tag)]
    return without if len(without) + ("O" in counts) < len(counts) else []


def tag_notes(counts: Counter[str], longest: int) -> tuple[str, ...]:
    """Lines on tags without a type, tags that are numbers, and a sentence without an end.

    Args:
      counts: of the tags.
      longest: words of the longest sentence; 0 where sentences are lists.
    """
    notes = []
    if set(counts) <= {"B", "I", "E", "S", "L", "U", "M", "O"} and {"B", "O"} <= set(counts):
        notes.append("the tags have no type, so that words are scored; B-X and I-X instead of B and I make spans")
    if without := sorted(_without_place(counts)):
        shown = ", ".join(map(labels.shown, without[:_MOST_WORDS_SHOWN]))
        notes.append(f"the tags {shown} have no B- or I- before them, so each word that has one is a span")
    if counts and all(tag.isdecimal() for tag in counts):
        notes.append("tags are numbers; --data.label-names names them, in the order of 0, 1, ..")
    if longest > _LONG_SENTENCE:
        notes.append(f"the longest sentence has {longest:,} words; a blank line ends a sentence")
    return tuple(notes)
