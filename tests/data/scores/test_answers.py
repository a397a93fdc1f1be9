"""Scores of tokens become pieces of the original text."""

import math

import numpy as np
import pytest

from bertlite_jax.data.examples import passages
from bertlite_jax.data.examples.passages import Passage, Window
from bertlite_jax.data.scores import answers, squad_metrics
from bertlite_jax.data.scores.answers import Beam, Span
from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example

CONTEXT = "Beyoncé, the Ｑueen,  sang the song."
#          0        9   13      22   27  31
WORDS = [(0, 7), (7, 8), (9, 12), (13, 18), (18, 19), (21, 25), (26, 29), (30, 34), (34, 35)]


def made(context: str = CONTEXT, words=None) -> Passage:
    """A passage whose tokens are given: no vocabulary needed."""
    words = WORDS if words is None else words
    starts, ends = (np.array([word[side] for word in words], np.int32) for side in (0, 1))
    ids = np.arange(len(words), dtype=np.int32)
    return Passage("q", np.array([7, 8], np.int32), 0, context, ids, starts, ends)


def one_window(passage: Passage) -> Window:
    return Window(0, len(passage.ids), 4, np.ones(len(passage.ids), bool))


def logits(length: int, **at: float) -> np.ndarray:
    """-10 everywhere but where said: i5=3.0."""
    values = np.full(length, -10.0, np.float32)
    for place, value in at.items():
        values[int(place[1:])] = value
    return values


# --- Independent ends --------------------------------------------------------------------------------------------


def test_the_best_sum_of_ends_is_the_answer_in_the_letters_of_the_text():
    passage = made()
    # Row: [CLS] q q [SEP] Beyoncé , the Ｑueen , sang the song . [SEP]
    start, end = logits(14, i0=0.5, i7=3.0, i4=2.0), logits(14, i0=0.25, i7=2.0, i4=1.5)
    found = answers.from_sums(passage, [one_window(passage)], [start], [end])
    assert [(a.text, a.start, a.end, a.score) for a in found.answers[:3]] == [
        ("Ｑueen", 13, 18, 5.0),
        ("Beyoncé, the Ｑueen", 0, 18, 4.0),
        ("Beyoncé", 0, 7, 3.5),
    ]
    assert all(CONTEXT[a.start : a.end] == a.text for a in found.answers)
    assert found.null == 0.75 - 5.0


def test_probabilities_are_the_softmax_over_the_listed_answers():
    passage = made()
    start, end = logits(14, i7=3.0, i4=2.0), logits(14, i7=2.0)
    found = answers.from_sums(passage, [one_window(passage)], [start], [end], count=2)
    assert [a.score for a in found.answers] == [5.0, 4.0]
    assert [a.probability for a in found.answers] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])


def test_question_and_specials_are_never_the_answer():
    passage = made()
    start, end = logits(14, i0=50, i1=40, i3=30, i5=1), logits(14, i0=50, i2=40, i13=30, i5=1)
    found = answers.from_sums(passage, [one_window(passage)], [start], [end])
    assert found.answers[0].text == ","
    assert found.null == 100.0 - 2.0


def test_an_end_before_its_start_and_a_span_too_long_are_not_allowed():
    passage = made()
    start, end = logits(14, i8=9), logits(14, i5=9, i12=5, i9=1)
    window = one_window(passage)
    texts = [answers.from_sums(passage, [window], [start], [end], longest=n).answers[0].text for n in (30, 5, 4)]
    assert texts == [",  sang the song.", ",  sang the song.", ",  sang"]


def slowly(window: Window, start, end, longest: int, count: int) -> list[tuple[float, int, int]]:
    """All pairs of tokens, tried one by one."""
    spans = []
    for i in range(window.stop - window.first):
        for j in range(i, min(i + longest, window.stop - window.first)):
            score = float(start[window.offset + i]) + float(end[window.offset + j])
            if window.best[i] and score > -math.inf:
                spans.append((score, window.first + i, window.first + j))
    return sorted(spans, key=lambda span: -span[0])[:count]


@pytest.mark.parametrize(("n", "longest", "count"), [(1, 30, 20), (5, 30, 20), (40, 7, 20), (60, 1, 5), (30, 30, 1000)])
def test_spans_are_the_best_of_all_pairs(n, longest, count):
    rng = np.random.default_rng(n)
    window = Window(100, 100 + n, 3, rng.random(n) < 0.7)
    # Whole numbers make ties, which go to the first start and then to the shorter span.
    start, end = (rng.integers(-3, 4, n + 5).astype(np.float32) for _ in range(2))
    start[rng.random(n + 5) < 0.1] = -np.inf
    found = answers.sum_spans(window, start, end, longest, count)
    assert [tuple(span) for span in found] == slowly(window, start, end, longest, count)


def test_logits_that_are_not_numbers_or_too_few_are_errors_of_ours():
    window = one_window(made())
    good = logits(14)
    with pytest.raises(ValueError, match="not numbers"):
        answers.sum_spans(window, good, logits(14, i5=math.nan), 30, 20)
    with pytest.raises(ValueError, match="10 start and 14 end logits for a row of 13"):
        answers.sum_spans(window, good[:10], good, 30, 20)


# --- Several windows ---------------------------------------------------------------------------------------------


def two_windows() -> list[Window]:
    """Tokens 0 to 5 and 3 to 8; tokens 3 and 4 are judged in the first, 5 in the second."""
    first = Window(0, 6, 4, np.array([True] * 5 + [False]))
    return [first, Window(3, 9, 4, np.array([False] * 2 + [True] * 4))]


def test_a_start_counts_only_in_the_window_that_shows_it_best():
    # "sang" is token 5: index 9 in the first row, 6 in the second.
    starts, ends = [logits(11, i9=50.0), logits(11, i6=2.0)], [logits(11, i9=2.0), logits(11, i6=2.0)]
    found = answers.from_sums(made(), two_windows(), starts, ends)
    assert (found.answers[0].text, found.answers[0].score) == ("sang", 4.0)


def test_the_null_score_is_that_of_the_window_which_says_it_least():
    starts, ends = [logits(11, i0=6.0), logits(11, i0=1.0, i6=2.0)], [logits(11, i0=5.0), logits(11, i0=-1.0, i6=2.0)]
    found = answers.from_sums(made(), two_windows(), starts, ends)
    assert found.null == 0.0 - 4.0


def test_windows_and_logits_must_be_as_many():
    with pytest.raises(ValueError, match="shorter"):
        answers.from_sums(made(), two_windows(), [logits(11)], [logits(11)])


# --- Conditioned ends --------------------------------------------------------------------------------------------


def test_a_beam_gives_start_and_end_given_start():
    beam = Beam(
        np.array([0, 7, 4]),  # [CLS], Ｑueen, Beyoncé
        np.array([-0.1, -1.0, -2.0]),
        np.array([[0, 7], [6, 8], [4, 6]]),
        np.array([[-0.1, -0.2], [-0.1, -0.5], [-0.25, -3.0]]),
    )
    passage = made()
    found = answers.from_beams(passage, [one_window(passage)], [beam], [1.25])
    # A start at [CLS] is none, and neither is an end before the start.
    assert [(a.text, a.score) for a in found.answers] == [
        ("Ｑueen,", -1.5),
        ("Beyoncé", -2.25),
        ("Beyoncé, the", -5.0),
    ]
    assert found.null == 1.25


def test_a_beam_obeys_window_and_length():
    first, second = two_windows()
    # "sang" belongs to the second window; behind the context stands [SEP].
    beam = Beam(np.array([9, 4]), np.zeros(2), np.array([[9, 9], [10, 8]]), np.zeros((2, 2)))
    assert answers.beam_spans(first, beam, 30) == [Span(0.0, 0, 4)]
    assert answers.beam_spans(first, beam, 4) == []
    other = Beam(np.array([6]), np.zeros(1), np.array([[6]]), np.array([[-np.inf]]))
    assert answers.beam_spans(second, other, 30) == []
    with pytest.raises(ValueError, match="not numbers"):
        answers.beam_spans(first, beam._replace(start_scores=np.full(2, np.nan)), 30)


def test_the_null_of_beams_is_the_lowest_logit_of_all_windows():
    beam = Beam(np.array([6]), np.zeros(1), np.array([[6]]), np.zeros((1, 1)))
    found = answers.from_beams(made(), two_windows(), [beam, beam], [3.0, -2.0])
    assert found.null == -2.0
    # Row index 6 is token 2 in the first window; in the second it is 5.
    assert sorted(a.text for a in found.answers) == ["sang", "the"]


def test_a_beam_as_wide_as_the_row_gives_what_independent_ends_give():
    """With log-probabilities of ends that do not depend on the start, both heads are one."""
    rng = np.random.default_rng(0)
    passage = made()
    start, end = rng.normal(size=14), rng.normal(size=14)
    everywhere = np.arange(14)
    beam = Beam(everywhere, start, np.tile(everywhere, (14, 1)), np.tile(end, (14, 1)))
    window = one_window(passage)
    by_sums = answers.from_sums(passage, [window], [start], [end], longest=6)
    by_beams = answers.from_beams(passage, [window], [beam], [0.0], longest=6)
    assert [a.text for a in by_sums.answers] == [a.text for a in by_beams.answers]
    assert [a.score for a in by_sums.answers] == pytest.approx([a.score for a in by_beams.answers])


# --- The list of answers -----------------------------------------------------------------------------------------


def test_a_text_is_listed_once_with_its_best_score():
    """The word "the" occurs twice."""
    spans = [Span(1.0, 2, 2), Span(2.0, 6, 6), Span(0.5, 0, 0)]
    listed = answers.best_answers(made(), spans, 20)
    assert [(a.text, a.start, a.score) for a in listed] == [("the", 26, 2.0), ("Beyoncé", 0, 0.5)]


def test_no_more_are_listed_than_asked_for():
    passage = made()
    found = answers.from_sums(passage, [one_window(passage)], [np.zeros(14)], [np.zeros(14)], count=3)
    assert len(found.answers) == 3


def test_tokens_of_white_space_alone_are_no_answer_and_spaces_around_one_fall_off():
    passage = made("ab \n cd", [(0, 2), (2, 5), (5, 7)])
    spans = [Span(3.0, 1, 1), Span(2.0, 1, 2), Span(1.0, 0, 1)]
    listed = answers.best_answers(passage, spans, 20)
    assert [(a.text, a.start, a.end) for a in listed] == [("cd", 5, 7), ("ab", 0, 2)]


def test_pieces_of_one_character_give_that_character():
    """The ligature ﬁ split into f and i: both pieces have its span."""
    passage = made("ﬁx", [(0, 1), (0, 1), (1, 2)])
    assert [a.text for a in answers.best_answers(passage, [Span(1.0, 1, 1), Span(0.0, 1, 2)], 9)] == ["ﬁ", "ﬁx"]


def test_a_context_without_text_is_answered_by_nothing():
    passage = made("", [])
    found = answers.from_sums(passage, [one_window(passage)], [np.zeros(5)], [np.zeros(5)])
    assert found.answers == ()
    assert found.null == math.inf
    assert answers.chosen(found) == ""
    assert answers.chosen(found, 0.0) == ""
    assert [(a.text, a.probability) for a in answers.with_null(found)] == [("", 1.0)]


def test_above_the_threshold_there_is_no_answer():
    passage = made()
    start, end = logits(14, i0=1.0, i7=3.0), logits(14, i0=1.0, i7=2.0)
    found = answers.from_sums(passage, [one_window(passage)], [start], [end])
    assert found.null == -3.0
    assert [answers.chosen(found, t) for t in (None, 0.0, -3.0, -3.5)] == ["Ｑueen"] * 3 + [""]


def test_no_answer_is_listed_among_the_answers_with_its_score():
    passage = made()
    start, end = logits(14, i0=2.0, i7=3.0), logits(14, i0=2.0, i7=2.0)
    found = answers.from_sums(passage, [one_window(passage)], [start], [end], count=1)
    listed = answers.with_null(found)
    assert [(a.text, a.score) for a in listed] == [("Ｑueen", 5.0), ("", 4.0)]
    assert [a.probability for a in listed] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])


# --- All of it, on a real file -----------------------------------------------------------------------------------


def test_logits_that_point_at_the_gold_spans_give_the_gold_answers(shared, uncased):
    """Through short windows that overlap, each with what training would have it say."""
    examples = list(questions.read([str(shared / "squad" / "dev-v2.0.json")]))[::3]
    given = {}
    for example, passage in zip(examples, passages.passages(examples, uncased), strict=True):
        cut = passages.windows(passage, 128, 48)
        rows = [len(passages.row(passage, window, uncased)[0]) for window in cut]
        targets = [passages.target(passage, window, example.answers) for window in cut]
        pairs = [(n, target) for n, target in zip(rows, targets, strict=True) if target is not None]
        starts = [logits(n, **{f"i{target[0]}": 10.0}) for n, target in pairs]
        ends = [logits(n, **{f"i{target[1]}": 10.0}) for n, target in pairs]
        given[example.id] = answers.chosen(answers.from_sums(passage, cut, starts, ends, longest=60), 0.0)
    golds = [Example(e.id, e.text, e.pair, label=e.label, answers=e.answers[:1]) for e in examples]
    scores = squad_metrics.score(golds, given)
    assert scores["NoAns_exact"] == 100.0
    assert scores["HasAns_exact"] > 99.0
