"""Questions as windows of tokens, and answers as pieces of the original text."""

import itertools

import numpy as np
import pytest
import thorough

from bertlite_jax.data.examples import passages
from bertlite_jax.data.scores import squad_metrics
from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError

# --- Answers and tokens ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chinese(shared, tmp_path_factory) -> Tokenizer:
    vocab = shared / "vocab" / "bert_chinese_vocab.txt"
    return adopt_vocabulary(vocab, tmp_path_factory.mktemp("chinese") / "t", lower=True)


def passage_of(tokenizer, context: str, text: str = "who?", max_question: int = 64) -> passages.Passage:
    (made,) = passages.passages([Example("q", text, context)], tokenizer, max_question)
    return made


TRAPS = [
    ("In 2013, Beyoncé released it.", "Beyoncé"),
    ("In 2013, Beyonce\u0301 released it.", "Beyonce\u0301"),
    ("The ﬁrst oﬃcer left.", "ﬁrst oﬃcer"),
    ("the winner (in 2010), of 50,000", "2010"),
    ("it was １２，０００ yen", "１２，０００"),
    ("a\u00a0b  Saint\t\nPeter c", "Saint\t\nPeter"),
    ("zero\u200bwidth Łódź and \U0001d400\U0001d401 end", "Łódź"),
    ("emoji 👩‍👩‍👧 and Ⅻ ½ cups", "Ⅻ ½"),
    ("He said ``yes, sir'' twice.", "yes, sir"),
    ("STRASSE, Straße, İstanbul ok", "Straße"),
    ("STRASSE, Straße, İstanbul ok", "İstanbul"),
]


@pytest.mark.parametrize("kind", ["albert", "uncased"])
@pytest.mark.parametrize(("context", "answer"), TRAPS)
def test_answers_come_back_with_the_characters_of_the_original(kind, context, answer, request):
    made = passage_of(request.getfixturevalue(kind), context)
    span = passages.token_span(made, answer, context.index(answer))
    assert span is not None
    assert made.text(*span) == answer


def test_chinese_answers_come_back(chinese):
    context = "該塔於１８８９年開放，高324米，ＡＢＣ公司。"
    made = passage_of(chinese, context, "何時？")
    for answer in ("１８８９", "開放", "324", "ＡＢＣ公司"):
        span = passages.token_span(made, answer, context.index(answer))
        assert span is not None
        assert made.text(*span) == answer


def test_byte_level_tokens_give_answers_back(tmp_path):
    lines = ["the first officer left the town", "Beyoncé released it in 2013"] * 20
    bpe = train_tokenizer(lines, tmp_path / "bpe", 300, kind="bpe", lower=False, keep_accents=True)
    for context, answer in TRAPS:
        made = passage_of(bpe, context)
        span = passages.token_span(made, answer, context.index(answer))
        assert span is not None
        assert made.text(*span) == answer


def test_an_answer_inside_a_token_gives_the_whole_token(uncased):
    made = passage_of(uncased, "rising seas")
    span = passages.token_span(made, "ris", 0)
    assert span is not None
    assert made.text(*span) == "rising"


@pytest.mark.parametrize(("text", "start"), [("1889", -1), ("  ", 2), ("\x00", 4)])
def test_an_answer_without_a_token_has_no_span(text, start, uncased):
    context = "in   1889" if text != "\x00" else "in a\x00 1889"
    assert passages.token_span(passage_of(uncased, context), text, start) is None


def test_spaces_around_an_answer_belong_to_no_token(uncased):
    made = passage_of(uncased, "in 1889 the")
    span = passages.token_span(made, " 1889 ", 2)
    assert span is not None
    assert made.text(*span) == "1889"


@pytest.mark.parametrize("kind", thorough.but(["uncased"], ["albert", "uncased"]))
@pytest.mark.parametrize("name", thorough.but(["dev-v2.0"], ["dev-v1.1", "dev-v2.0"]))
def test_gold_answers_survive_the_tokens_on_real_files(kind, name, request, shared):
    """All but those that begin or end inside a token; those come back longer, never shorter."""
    examples = list(questions.read([str(shared / "squad" / f"{name}.json")]))
    same = total = 0
    for example, made in zip(examples, passages.passages(examples, request.getfixturevalue(kind)), strict=True):
        for text, start in example.answers:
            span = passages.token_span(made, text, start)
            back = made.text(*span) if span else ""
            assert text.strip() in back
            same += back == text.strip()
            total += 1
    assert total > 5000
    assert same / total > (0.991 if kind == "albert" else 0.996)


# --- Windows -----------------------------------------------------------------------------------------------------


def slowly_owned(bounds: list[tuple[int, int]], token: int) -> int:
    """BERT's rule, one token at a time: most of min(left, right) + 0.01 * length; the first of equal windows."""
    scores = [
        min(token - first, stop - 1 - token) + 0.01 * (stop - first) if first <= token < stop else -1.0
        for first, stop in bounds
    ]
    return scores.index(max(scores))


@pytest.mark.parametrize(("length", "step"), [(16, 4), (16, 1), (16, 5), (16, 100), (11, 3), (64, 16), (500, 128)])
def test_each_token_is_judged_in_the_window_with_most_context(length, step, uncased):
    made = passage_of(uncased, "one two three four five six seven eight nine ten " * 8, "who was it?")
    cut = passages.windows(made, length, step)
    total = len(made.ids)
    assert cut[0].first == 0
    assert cut[-1].stop == total == 80
    assert all(after.first <= before.stop for before, after in itertools.pairwise(cut))
    bounds = [(window.first, window.stop) for window in cut]
    owners = np.zeros((len(cut), total), int)
    for number, window in enumerate(cut):
        owners[number, window.first : window.stop] = window.best
    assert owners.sum(axis=0).tolist() == [1] * total
    assert owners.argmax(axis=0).tolist() == [slowly_owned(bounds, token) for token in range(total)]


def test_windows_of_the_paper_step_by_their_stride(uncased):
    """[CLS], 4 tokens of question, [SEP], 10 - 7 = 3 of context, [SEP]; a step of 2."""
    made = passage_of(uncased, "one two three four five six", "who was it?")
    cut = passages.windows(made, 10, 2)
    assert [(window.first, window.stop, window.offset) for window in cut] == [(0, 3, 6), (2, 5, 6), (4, 6, 6)]
    tokens, types = passages.row(made, cut[1], uncased)
    pieces = ["[CLS]", "who", "was", "it", "?", "[SEP]", "three", "four", "five", "[SEP]"]
    assert uncased.pieces(tokens) == pieces
    assert types.tolist() == [0] * 6 + [1] * 4
    assert tokens.dtype == types.dtype == np.int32


def test_a_long_question_keeps_its_first_tokens_and_says_how_many_went(uncased):
    made = passage_of(uncased, "one", "who " * 100, max_question=10)
    assert len(made.question) == 10
    assert made.dropped == 90


def test_a_question_that_leaves_no_room_is_refused(uncased):
    made = passage_of(uncased, "one", "who " * 20)
    with pytest.raises(UserError, match="question q: its 20 tokens and 3 special tokens leave no room"):
        passages.windows(made, 23, 4)
    assert len(passages.windows(made, 24, 4)) == 1
    with pytest.raises(UserError, match="step = 0 must be at least 1"):
        passages.windows(made, 24, 0)


@pytest.mark.parametrize(("text", "context"), [("", "one two"), ("who", ""), ("", ""), ("who", " \x00 ")])
def test_nothing_in_it_still_makes_one_window(text, context, uncased):
    made = passage_of(uncased, context, text)
    (window,) = passages.windows(made, 8, 4)
    tokens, types = passages.row(made, window, uncased)
    assert len(tokens) == len(made.question) + len(made.ids) + 3
    assert types.sum() == len(made.ids) + 1


def test_a_context_of_100_000_characters_is_all_in_its_windows(uncased):
    made = passage_of(uncased, "abc def, " * 11_200)
    cut = passages.windows(made, 384, 128)
    assert len(made.context) > 100_000
    assert sum(int(window.best.sum()) for window in cut) == len(made.ids)


def test_an_example_without_a_context_is_refused(uncased):
    with pytest.raises(UserError, match="question q has no context"):
        list(passages.passages([Example("q", "who?")], uncased))


def test_the_target_is_the_answer_in_the_row_or_cls(uncased):
    context = "one two three four five six"
    made = passage_of(uncased, context, "who was it?")
    first, second, third = passages.windows(made, 10, 2)
    answers = (("three", 8), ("six", 24))
    # [CLS] who was it ? [SEP] one two three [SEP]
    assert passages.target(made, first, answers) == (8, 8)
    assert passages.target(made, second, answers) == (6, 6)
    assert passages.target(made, third, answers) == (0, 0)
    assert passages.target(made, first, (("two three four", 4),)) == (0, 0)
    assert passages.target(made, first, ()) == (0, 0)
    assert passages.target(made, first, (("seven", -1),)) is None
    assert passages.target(made, first, (("seven", -1), ("three", 8))) == (8, 8)


def test_official_exact_match_of_gold_spans_is_above_99_4(albert, shared):
    """What a perfect model can reach: the best over the gold answers of each question, through tokens and back."""
    examples = list(questions.read([str(shared / "squad" / "dev-v1.1.json")]))
    found = {}
    for example, made in zip(examples, passages.passages(examples, albert), strict=True):
        spans = [passages.token_span(made, text, start) for text, start in example.answers]
        texts = [made.text(*span) for span in spans if span]
        found[example.id] = max(texts, key=lambda text: squad_metrics.score_one(example, text))
    scores = squad_metrics.score(examples, found)
    assert scores["exact"] > 99.4
    assert scores["f1"] > 99.7
