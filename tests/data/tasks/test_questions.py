"""Files of questions, and questions as windows of tokens."""

import itertools
import json
import pathlib

import numpy as np
import pytest

from bertlite_jax.data.examples import passages
from bertlite_jax.data.scores import squad_metrics
from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError

CONTEXT = "In 1889 the tower opened. In 1890 it closed."


def squad(folder: pathlib.Path, *qas: dict, context: str = CONTEXT, name: str = "dev.json") -> str:
    content = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(qas)}]}]}
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def question(identity="q1", text="When?", answers=(("1889", 3),), **more) -> dict:
    given = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": identity, "question": text, "answers": given, **more}


def refusal(path: str) -> str:
    with pytest.raises(UserError) as caught:
        list(questions.read([path]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Layouts -----------------------------------------------------------------------------------------------------


def test_the_layout_of_squad_is_read(tmp_path):
    path = squad(tmp_path, question(), question("q2", "Who?", (), is_impossible=True))
    assert list(questions.read([path])) == [
        Example("q1", "When?", CONTEXT, label=1, answers=(("1889", 3),)),
        Example("q2", "Who?", CONTEXT, label=0),
    ]


def test_a_test_set_without_answers_is_unlabelled(tmp_path):
    notes = questions.Notes()
    path = squad(tmp_path, {"id": "q", "question": "When?"}, {"id": "r", "question": "Who?", "is_impossible": True})
    assert [example.label for example in questions.read([path], notes)] == [None, 0]
    assert notes.counts == {"questions": 2, "unlabelled": 1, "without_answer": 1}


def test_the_first_layout_of_cmrc_2018_is_read(tmp_path):
    """Its answers have no offsets: the first place counts."""
    path = tmp_path / "cmrc2018_dev.json"
    qas = [{"query_id": "DEV_0_QUERY_0", "query_text": "何时？", "answers": ["1889年", "1889年开放"]}]
    content = [{"context_id": "DEV_0", "context_text": "铁塔于1889年开放。", "title": "铁塔", "qas": qas}]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    notes = questions.Notes()
    (example,) = questions.read([str(path)], notes)
    assert example.answers == (("1889年", 3), ("1889年开放", 3))
    assert notes.counts["placed_answers"] == 2
    assert not notes.lines


def test_a_question_a_line_is_read_in_both_forms_of_answers(tmp_path):
    path = tmp_path / "own.jsonl"
    columns = {"text": ["1889", "1890"], "answer_start": [3, 29]}
    listed = [{"text": "1890", "answer_start": 29}]
    lines = [
        json.dumps({"id": 7, "question": "When?", "context": CONTEXT, "answers": columns}),
        "",
        json.dumps({"id": "8", "question": "And then?", "context": CONTEXT, "answers": listed}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    examples = list(questions.read([str(path)]))
    assert [(e.id, e.answers) for e in examples] == [("7", (("1889", 3), ("1890", 29))), ("8", (("1890", 29),))]


def test_the_shared_squad_files_have_the_stated_counts(shared):
    """Figures of the data's README; no answer of theirs stands elsewhere than they say."""
    for name, total, without in (("dev-v1.1", 1490, 0), ("dev-v2.0", 2842, 1367), ("train-v2.0", 6307, 3288)):
        notes = questions.Notes()
        assert len(list(questions.read([str(shared / "squad" / f"{name}.json")], notes))) == total
        assert notes.counts["without_answer"] == without
        assert notes.lines == []


# --- What is wrong in them ---------------------------------------------------------------------------------------


def test_a_wrong_offset_is_moved_to_the_nearest_place_and_told(tmp_path):
    notes = questions.Notes()
    wrong = [("In", 20), ("In", 2), ("In", -5), ("In", 1000), ("In", 13)]
    path = squad(tmp_path, *[question(f"q{n}", answers=[answer]) for n, answer in enumerate(wrong)])
    examples = list(questions.read([path], notes))
    # "In" stands at 0 and 26; 13 is in the middle, where the first one is taken.
    assert [example.answers[0][1] for example in examples] == [26, 0, 0, 26, 0]
    assert notes.counts["moved_answers"] == 5
    assert path in notes.lines[0]
    assert "(q0)" in notes.lines[0]
    assert "at 26 and not at 20" in notes.lines[0]


def test_an_answer_that_its_context_lacks_is_kept_without_a_place_and_told(tmp_path):
    notes = questions.Notes()
    path = squad(tmp_path, question("lost", answers=[("1999", 3), ("", 0), ("1889", 3)]))
    (example,) = questions.read([path], notes)
    assert example.answers == (("1999", -1), ("", -1), ("1889", 3))
    assert notes.counts["missing_answers"] == 2
    assert notes.counts["answers"] == 3
    assert all(path in line and "(lost)" in line for line in notes.lines)


def test_empty_questions_and_contexts_are_kept_and_told(tmp_path):
    notes = questions.Notes()
    first = squad(tmp_path, question("a", "  "), name="1.json")
    second = squad(tmp_path, question("b", answers=()), context="", name="2.json")
    assert len(list(questions.read([first, second], notes))) == 2
    assert notes.counts["empty_questions"] == 1
    assert notes.counts["empty_contexts"] == 1
    assert "(a)" in notes.lines[0]
    assert "(b)" in notes.lines[1]


def test_only_the_first_hundred_things_are_told_and_all_counted(tmp_path):
    notes = questions.Notes()
    path = squad(tmp_path, *[question(str(n), answers=[("no", 0)]) for n in range(150)])
    assert len(list(questions.read([path], notes))) == 150
    assert notes.counts["missing_answers"] == 150
    assert len(notes.lines) == 100


def test_an_id_may_stand_once_in_all_files_of_a_split(tmp_path):
    first, second = squad(tmp_path, question("a"), name="1.json"), squad(tmp_path, question("a"), name="2.json")
    with pytest.raises(UserError, match=r"2\.json.*the id a occurs twice, first in .*1\.json"):
        list(questions.read([first, second]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [\n{]}', r":2: broken JSON: .* \(column 2\)"),
        (b'{"data": "\xff"}', r":1: invalid UTF-8 \(byte 0xff\)"),
        (b"[" * 100_000, "broken JSON"),
        (b"{}", "no field 'data'; it has none"),
        (b'{"data": {}}', "data is dict and must be a list"),
        (b'{"data": [3]}', r"data\[0\]: int instead of an object with the field 'paragraphs'"),
        (b'{"data": [{"paragraphs": [{"qas": []}]}]}', "no field 'context'; it has 'qas'"),
        (b'"text"', "str instead of an object"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_the_place(content, message, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(questions.read([str(path)]))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": None}, "the question is NoneType and must be a string"),
        ({"question": "a\ud800"}, "half of a surrogate pair"),
        ({"answers": "1889"}, "answers is str and must be a list"),
        ({"answers": [{"answer_start": 3}]}, "no field 'text'"),
        ({"answers": [{"text": "1889", "answer_start": "3"}]}, "answer_start is '3'"),
        ({"answers": {"text": ["a", "b"], "answer_start": [1]}}, "2 answer texts and 1 offsets"),
        ({"is_impossible": True}, "it has answers and is_impossible is true"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_id(changes, message, tmp_path):
    shown = refusal(squad(tmp_path, question("q77") | changes))
    assert message in shown
    assert "(q77)" in shown
    assert "dev.json" in shown


def test_a_broken_line_is_refused_with_its_number(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "1", "question": "a", "context": "b"}\n{"id": \n', encoding="utf-8")
    assert f"{path}:2: broken JSON" in refusal(str(path))


def test_a_file_that_is_not_there_is_refused():
    assert "nowhere.json: cannot be read" in refusal("nowhere.json")


# --- Answers and tokens ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def albert(shared, tmp_path_factory) -> Tokenizer:
    vocab = shared / "vocab" / "albert_spiece.model"
    return adopt_vocabulary(vocab, tmp_path_factory.mktemp("albert") / "t")


@pytest.fixture(scope="module")
def uncased(shared, tmp_path_factory) -> Tokenizer:
    vocab = shared / "vocab" / "bert_uncased_vocab.txt"
    return adopt_vocabulary(vocab, tmp_path_factory.mktemp("uncased") / "t")


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


@pytest.mark.parametrize("kind", ["albert", "uncased"])
@pytest.mark.parametrize("name", ["dev-v1.1", "dev-v2.0"])
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
    with pytest.raises(UserError, match="question q: its 20 tokens and 3 specials leave no room"):
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
