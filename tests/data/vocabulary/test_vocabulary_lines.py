"""A vocab.txt as editors and scripts leave it: other line ends, blank lines, spaces, pieces that occur twice.

It gives the ids of AutoTokenizer, whose library cuts white space behind a piece, or is refused with the line.
"""

from __future__ import annotations

import pathlib

import pytest
from tokenizer_folders import SPECIALS, UNCASED, write_folder
from tokenizer_texts import ours, theirs

from bertlite_jax.data.vocabulary import check_texts
from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
from bertlite_jax.errors import UserError

transformers = pytest.importorskip("transformers")

LINES = "\n".join(UNCASED)
EQUAL = {
    "line feeds": LINES + "\n",
    "no line feed at the end": LINES,
    "Windows' line ends": LINES.replace("\n", "\r\n") + "\r\n",
    "Windows' line ends, none at the end": LINES.replace("\n", "\r\n"),
    "a blank line at the end": LINES + "\n\n",
    "a blank line with a space": LINES + "\n \n",
    "a blank line of Windows": LINES.replace("\n", "\r\n") + "\r\n\r\n",
    "a blank line between pieces": LINES.replace("the\n", "\nthe\n"),
    "spaces and tabs behind pieces": LINES.replace("\nthe\n", "\nthe \t\n").replace("\napple", "\napple\u3000\u00a0"),
    "a space before a piece": LINES.replace("\nthe\n", "\n the\n"),
}
LAST = len(UNCASED)
THE = UNCASED.index("the") + 1
REFUSED = {
    "two blank lines": (LINES + "\n\n\n", f":{LAST + 2}: there is a line without a piece in line {LAST + 1} already"),
    "a piece twice": (LINES + "\nthe\n", f":{LAST + 1}: the piece 'the' stands in line {THE} already"),
    "a piece twice, once with a space": (LINES + "\nthe \n", f":{LAST + 1}: the piece 'the' stands in line {THE} "),
}  # fmt: skip


def written(folder: pathlib.Path, text: str) -> pathlib.Path:
    write_folder(folder, tokenizer_class="BertTokenizer")
    (folder / "vocab.txt").write_bytes(text.encode("utf-8"))
    return folder


def without_specials(lines: list[str]) -> list[str]:
    return [line for line in lines if not any(piece in line for piece in SPECIALS)]


@pytest.mark.parametrize("name", EQUAL)
def test_the_lines_give_the_ids_of_auto_tokenizer(name, tmp_path):
    folder = written(tmp_path / "hf", EQUAL[name])
    tokenizer = adopt_vocabulary(folder, tmp_path / "ours")
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.vocab_size == len(reference)
    lines = without_specials(check_texts.lines(list(UNCASED), []))
    assert ours(tokenizer, lines) == theirs(reference, lines)


@pytest.mark.parametrize("name", REFUSED)
def test_lines_of_which_one_id_is_never_reached_are_refused_with_both_lines(name, tmp_path):
    text, message = REFUSED[name]
    with pytest.raises(UserError) as caught:
        adopt_vocabulary(written(tmp_path / "hf", text), tmp_path / "ours")
    assert f"vocab.txt{message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_piece(tmp_path):
    """AutoTokenizer keeps it, and adds a second [PAD] at the end; all other ids are the same."""
    folder = written(tmp_path / "hf", "\ufeff" + LINES + "\n")
    tokenizer = adopt_vocabulary(folder, tmp_path / "ours")
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (len(UNCASED), 0)
    lines = without_specials(check_texts.lines(list(UNCASED), []))
    assert ours(tokenizer, lines) == theirs(transformers.AutoTokenizer.from_pretrained(folder), lines)
