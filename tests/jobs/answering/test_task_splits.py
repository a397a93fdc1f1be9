"""What is said of irregular examples."""

import pytest

from bertlite_jax.jobs.answering import task_splits


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("blank_lines", "1 blank line", "2 blank lines"),
        ("document_marks", "1 document mark", "2 document marks"),
        ("texts_with_zero_bytes", "1 text with zero bytes", "2 texts with zero bytes"),
        ("passages_without_questions", "1 passage without questions", "2 passages without questions"),
        ("no_label", "1 no label", "2 no label"),
    ],
)
def test_one_is_singular(name, one, two):
    assert task_splits.in_words({name: 1}) == f"{one} (see docs/tasks.md)"
    assert task_splits.in_words({name: 2, "examples": 9}) == f"{two} (see docs/tasks.md)"
    assert task_splits.in_words({name: 0}) == ""
