"""The official scores of answers. Expected values are those of the official scripts, or counted by hand."""

import json
import math

import pytest

from bertlite_jax.data.scores import squad_metrics
from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError

SYSTEMS = [
    "dev-v1.1.bert_ensemble",
    "dev-v1.1.match_lstm_ensemble",
    "dev-v1.1.rnet_plus_ensemble",
    "dev-v1.1.slqa_plus_ensemble",
    "dev-v2.0.bert_single",
    "dev-v2.0.bidaf_selfatt_elmo",
    "dev-v2.0.nlnet_single",
]


def gold(identity: str, *texts: str) -> Example:
    return Example(identity, "?", "", label=int(bool(texts)), answers=tuple((text, -1) for text in texts))


# --- SQuAD -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_systems_of_the_leaderboard_get_what_the_official_script_gives_them(system, shared):
    """To the last digit."""
    folder = shared / "squad" / "predictions"
    expected = json.loads((folder / "expected_scores.json").read_text())[system]
    examples = list(questions.read([str(shared / "squad" / f"{system[:8]}.json")]))
    predictions = json.loads((folder / f"{system}.json").read_text())
    assert squad_metrics.score(examples, predictions) == expected


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat's  a pajamas!", "cats pajamas"),
        ("an-other", "another"),
        ("A.I. the\tend", "ai end"),
        ("Beyoncé", "beyoncé"),
        ("“the” 3–4", "“ ” 3–4"),  # only ASCII punctuation goes
        ("the", ""),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(text, normal):
    assert squad_metrics.normalize_answer(text) == normal


def test_f1_is_counted_in_words_that_both_have():
    # 2 of 3 words right, 2 of 4 found: 2 * (2/3) * (2/4) / (2/3 + 2/4) = 4/7.
    assert squad_metrics.f1("big red dog house", "red dog barks") == pytest.approx(4 / 7)
    # A word counts as often as both have it.
    assert squad_metrics.f1("no no no", "no") == pytest.approx(0.5)
    assert squad_metrics.f1("cat", "dog") == 0.0


def test_the_best_gold_answer_counts():
    scores = squad_metrics.score([gold("a", "red house", "the house")], {"a": "house"})
    assert scores == {"f1": 100, "exact": 100, "total": 1, "HasAns_f1": 100, "HasAns_exact": 100, "HasAns_total": 1}


def test_questions_without_an_answer_want_silence():
    examples = [gold("a", "cat"), gold("b"), gold("c")]
    scores = squad_metrics.score(examples, {"a": "cat", "b": "", "c": "dog"})
    assert scores["exact"] == scores["f1"] == pytest.approx(200 / 3)
    assert (scores["HasAns_exact"], scores["HasAns_total"]) == (100.0, 1)
    assert (scores["NoAns_exact"], scores["NoAns_f1"], scores["NoAns_total"]) == (50.0, 50.0, 2)


def test_answers_of_articles_alone_are_no_answers():
    """As the script of SQuAD 2.0 has it; that of 1.1 gives them no F1. The values are worked out from its text."""
    examples = [gold("a", "The"), gold("b", "cat")]
    predictions = {"a": "the", "b": "a"}
    new = squad_metrics.score(examples, predictions)
    assert (new["exact"], new["f1"]) == (50.0, 50.0)


def test_what_was_not_answered_counts_as_wrong_and_is_told():
    examples = [gold("a", "cat"), gold("b")]
    scores = squad_metrics.score(examples, {"a": "cat", "z": "dog"})
    assert (scores["exact"], scores["missing"], scores["unknown"]) == (50.0, 1, 1)
    assert scores["NoAns_exact"] == 0.0


def test_no_questions_and_questions_without_labels_have_no_score():
    with pytest.raises(UserError, match="no questions to score"):
        squad_metrics.score([], {})
    with pytest.raises(UserError, match="question a has no gold answers"):
        squad_metrics.score([Example("a", "?", "")], {"a": ""})


# --- Thresholds --------------------------------------------------------------------------------------------------


def scored_at(examples, answers, nulls, threshold: float) -> dict[str, float]:
    chosen = {i: "" if nulls[i] > threshold else answers[i] for i in answers}
    return squad_metrics.score(examples, chosen)


def test_the_best_threshold_of_a_small_case():
    """Sorted by null: right, wrong, no answer to give, right. The first alone: 1 + 1 of 4; all four: 2 + 0."""
    examples = [gold("a", "cat"), gold("b", "dog"), gold("c"), gold("d", "cow")]
    answers = {"a": "cat", "b": "pig", "c": "owl", "d": "cow"}
    nulls = {"a": -2.0, "b": -1.0, "c": 0.5, "d": 3.0}
    found = squad_metrics.best_thresholds(examples, answers, nulls)
    assert found == {"best_f1": 50.0, "best_f1_threshold": -2.0, "best_exact": 50.0, "best_exact_threshold": -2.0}


def test_equal_null_scores_stand_or_fall_together():
    """The official search would stop between them and promise 100."""
    examples = [gold("a", "cat"), gold("b")]
    answers, nulls = {"a": "cat", "b": "owl"}, {"a": 1.0, "b": 1.0}
    found = squad_metrics.best_thresholds(examples, answers, nulls)
    assert found["best_exact"] == 50.0
    assert scored_at(examples, answers, nulls, found["best_exact_threshold"])["exact"] == 50.0


def test_answering_nothing_can_be_best():
    examples = [gold("a"), gold("b"), gold("c", "cat")]
    answers, nulls = {"a": "x", "b": "y", "c": "z"}, {"a": -5.0, "b": 0.0, "c": 5.0}
    found = squad_metrics.best_thresholds(examples, answers, nulls)
    assert found["best_exact"] == pytest.approx(200 / 3)
    assert found["best_exact_threshold"] < -5.0


def test_no_threshold_beats_the_best_one_on_real_predictions(shared):
    """Null scores made of the answers' lengths: ties by the hundred."""
    folder = shared / "squad"
    examples = list(questions.read([str(folder / "dev-v2.0.json")]))[::7]
    given = json.loads((folder / "predictions" / "dev-v2.0.bidaf_selfatt_elmo.json").read_text())
    ids = [example.id for example in examples]
    answers = {i: given[i] or "the cat" for i in ids}
    nulls = {i: float(len(answers[i]) % 17) - 20 * (given[i] != "") for i in ids}
    found = squad_metrics.best_thresholds(examples, answers, nulls)
    tried = [scored_at(examples, answers, nulls, t) for t in [-math.inf, *sorted(set(nulls.values()))]]
    assert len(tried) > 15
    for name in ("f1", "exact"):
        assert found[f"best_{name}"] == pytest.approx(max(scores[name] for scores in tried), rel=1e-12)
        again = scored_at(examples, answers, nulls, found[f"best_{name}_threshold"])
        assert again[name] == pytest.approx(found[f"best_{name}"], rel=1e-12)


@pytest.mark.parametrize(("answers", "nulls"), [({}, {"a": 1.0}), ({"a": ""}, {}), ({"a": ""}, {"a": math.nan})])
def test_a_search_needs_answers_and_null_scores_of_all(answers, nulls):
    with pytest.raises(UserError, match="question a has no answer or no null score"):
        squad_metrics.best_thresholds([gold("a")], answers, nulls)


# --- CMRC 2018 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("光荣和ω-force", ["光", "荣", "和", "ωforce"]),
        ("《三国》，１９９５年", ["三", "国", "１９９５", "年"]),
        ("Windows XP（2003）版", ["windows", "xp2003", "版"]),
        # Split as nltk 3.10's word_tokenize does.
        ("windows xp (2003), 3.5.", ["windows", "xp", "(", "2003", ")", ",", "3.5", "."]),
        ("1,000 o'clock isn't john's ft. 2006—2010 movin' on", ["1,000", "o'clock", "is", "n't", "john", "'s", "ft.",
                                                                "2006", "—", "2010", "movin", "'", "on"]),
        ("", []),
    ],
)  # fmt: skip
def test_chinese_is_counted_in_characters_and_the_rest_in_words(text, units):
    assert squad_metrics.chinese_units(text) == units


def test_chinese_f1_is_that_of_the_longest_common_run():
    # 村雨城 of 10 characters: precision 3/10, recall 1; not the scattered characters.
    assert squad_metrics.chinese_f1("村雨城", "任天堂游戏谜之村雨城") == pytest.approx(2 * 0.3 / 1.3)
    # Both have 甲, 乙, 丙; the longest run is one.
    assert squad_metrics.chinese_f1("甲乙丙", "丙乙甲") == pytest.approx(1 / 3)
    assert squad_metrics.chinese_f1("甲", "乙") == 0.0


def test_chinese_exact_match_ignores_the_punctuation_of_the_script():
    assert squad_metrics.chinese_exact("《三国·志》", "三国志") == 1.0
    assert squad_metrics.chinese_exact("NBA", "nba。") == 1.0
    assert squad_metrics.chinese_exact("三国,志", "三国志") == 0.0


def test_the_scores_of_cmrc_2018():
    examples = [gold("DEV_0_QUERY_0", "村雨城", "任天堂"), gold("DEV_0_QUERY_1", "1889年")]
    predictions = {"DEV_0_QUERY_0": "任天堂。", "DEV_0_QUERY_1": "年"}
    scores = squad_metrics.score_chinese(examples, predictions)
    # The second: one unit of two, and nothing too much: 2 * 1 * 0.5 / 1.5.
    assert scores["exact"] == 50.0
    assert scores["f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert scores["average"] == pytest.approx((50.0 + scores["f1"]) / 2)
    assert squad_metrics.score_chinese(examples, {"DEV_0_QUERY_0": "村雨城"})["missing"] == 1
    with pytest.raises(UserError, match="question x has no answer"):
        squad_metrics.score_chinese([gold("x")], {"x": ""})
