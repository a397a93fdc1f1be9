"""What a loop refuses: teachers, folders, other settings and data, in one line and before anything is written."""

import dataclasses

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import agora, ground, history


def test_a_teacher_that_is_right_on_two_thirds_or_less_is_refused_before_anything_is_written(loops, pretended):
    pretended.teacher_wrong = 1
    with pytest.raises(UserError, match=r"--teacher .*teacher answers 0 of 12 validation examples rightly \(0\.0%\)"):
        loops.run("out")
    assert not (loops.place / "out").exists()


def test_other_settings_need_another_folder(loops):
    loops.run("out")
    before = loops.content("out")
    with pytest.raises(UserError, match=r"holds a loop with another config \(agora\.points: 5 -> 4\)"):
        loops.run("out", dataclasses.replace(loops.settings, points=4))
    with pytest.raises(UserError, match=r"recipe\.run\.steps: 4 -> 5"):
        loops.run("out", config=dataclasses.replace(loops.config, run=dataclasses.replace(loops.config.run, steps=5)))
    assert loops.content("out") == before
    loops.run("out", dataclasses.replace(loops.settings, points=4), overwrite=True)
    assert loops.content("out") != before


def test_other_data_and_another_teacher_are_told(loops, monkeypatch: pytest.MonkeyPatch):
    loops.run("out")
    with monkeypatch.context() as patch:
        patch.setattr(ground.teacher, "check", lambda config, tokenizer, pairs: {config.learn.teacher: "other"})
        with pytest.raises(UserError, match=r"was started with other weights than .*teacher now holds"):
            loops.run("out")
    path = loops.place / "data/RTE/train.tsv"
    path.write_text(path.read_text() + "99\tone more\tof them\tentailment\n")
    with pytest.raises(UserError, match="was started with other data than"):
        loops.run("out")


def test_what_a_loop_reads_is_not_overwritten(loops):
    loops.run("out")
    before = loops.content("out")
    inside = dataclasses.replace(loops.settings, keep_out=(str(loops.place / "out/points/round-002.jsonl"),))
    with pytest.raises(UserError, match=r"--overwrite would delete .*round-002\.jsonl, which this loop reads"):
        loops.run("out", inside, overwrite=True)
    assert loops.content("out") == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thesis.tex", r"is not empty \(thesis\.tex\) and holds no agora\.json of Agora"),
        ("config.json", "a single run"),
    ],
)
def test_a_folder_of_something_else_is_refused(name: str, said: str, loops):
    (loops.place / "out").mkdir()
    (loops.place / "out" / name).write_text("{}")
    with pytest.raises(UserError, match=said):
        loops.run("out", overwrite=True)
    assert [path.name for path in (loops.place / "out").iterdir()] == [name]


def test_a_damaged_line_is_named(loops):
    loops.run("out")
    config = loops.place / "out" / agora.CONFIG
    before = config.read_text()
    config.write_text(before[:-9])
    with pytest.raises(UserError, match=r"out/agora\.json"):
        loops.run("out")
    config.write_text(before)
    for file in (history.HISTORY, history.RESULTS):
        path = loops.place / "out" / file
        before = path.read_text()
        path.write_text(before.replace('"round": 1', '"round": "one"', 1))
        with pytest.raises(UserError, match=rf"agora: .*{file}:1: round should be a whole number"):
            loops.run("out")
        path.write_text(before)


def test_an_encoder_without_a_head_for_masked_words_is_told_what_to_do(loops):
    with pytest.raises(UserError) as refused:
        loops.run("out", dataclasses.replace(loops.settings, transforms=("masked_lm", "swap")))
    assert str(refused.value) == (
        f"agora: masked_lm: {loops.encoder} has no masked-LM head; name a pretrained model that has one with "
        "--agora.masked-lm, or leave masked_lm out of --agora.transforms"
    )


def test_numbers_have_no_confidence(loops_on):
    loops = loops_on("stsb")
    with pytest.raises(UserError, match=r"agora\.confidence is for tasks with one label or choice"):
        loops.run("out", dataclasses.replace(loops.settings, confidence=0.5))
