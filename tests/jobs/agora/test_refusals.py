"""What a loop refuses: teachers, folders, other settings and data, in one line and before anything is written."""

import dataclasses

import pytest

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import agora, ground, history


def test_a_teacher_that_is_right_on_two_thirds_or_less_is_refused_before_anything_is_written(loops, pretended):
    pretended.teacher_wrong = 1
    with pytest.raises(UserError, match=r"--teacher .*teacher answers 0 of 12 validation examples rightly, 0\.0%"):
        loops.run("out")
    assert not (loops.place / "out").exists()


def test_a_file_to_keep_out_is_read_before_the_teacher_is_asked(loops, capsys: pytest.CaptureFixture[str]):
    broken = loops.place / "broken.jsonl"
    broken.write_text("{")
    for path, said in ((str(broken), r"broken\.jsonl"), ("nowhere.csv", "agora: --agora.keep-out nowhere.csv is no")):
        with pytest.raises(UserError, match=said):
            loops.run("out", dataclasses.replace(loops.settings, keep_out=(path,)))
    assert "the teacher" not in capsys.readouterr().out
    assert not (loops.place / "out").exists()


def test_a_teacher_no_better_than_one_label_for_all_is_told(loops, capsys: pytest.CaptureFixture[str]):
    """All twelve validation examples have the same label."""
    path = loops.place / "data/RTE/dev.tsv"
    path.write_text(path.read_text().replace("\tnot_entailment", "\tentailment"))
    loops.run("out", dataclasses.replace(loops.settings, rounds=1))
    assert "answers 12 rightly, and one label for all would answer 12" in capsys.readouterr().out


def with_run(config: Finetune, **values: int) -> Finetune:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **values))


def test_other_settings_need_another_folder(loops):
    loops.run("out")
    before = loops.content("out")
    with pytest.raises(UserError, match=r"holds a loop with another config \(agora\.points: 5 -> 4\)"):
        loops.run("out", dataclasses.replace(loops.settings, points=4))
    with pytest.raises(UserError, match=r"recipe\.run\.steps: 4 -> 5"):
        loops.run("out", config=with_run(loops.config, steps=5))
    with pytest.raises(UserError, match=r"recipe\.run\.eval_every: 0 -> 2"):  # Other models would be the best ones.
        loops.run("out", config=with_run(loops.config, eval_every=2))
    loops.run("out", config=with_run(loops.config, log_every=2))
    assert loops.content("out") == before
    loops.run("out", dataclasses.replace(loops.settings, points=4), overwrite=True)
    assert loops.content("out") != before


def test_other_data_and_another_teacher_are_told(loops, monkeypatch: pytest.MonkeyPatch):
    loops.run("out")
    with monkeypatch.context() as patch:
        patch.setattr(ground.teacher, "check", lambda config, tokenizer, pairs: {config.learn.teacher: "other"})
        with pytest.raises(UserError, match=r"was started with other weights than .*teacher now holds"):
            loops.run("out")
    kept = loops.place / "kept.jsonl"
    kept.write_text('{"text": "one", "pair": "two"}\n')
    with_more = dataclasses.replace(loops.settings, keep_out=(str(kept),), rounds=1)
    loops.run("more", with_more)
    kept.write_text('{"text": "another one", "pair": "two"}\n')
    with pytest.raises(UserError, match=r"was started with other data than .*kept\.jsonl now holds"):
        loops.run("more", with_more)
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


def test_labels_have_no_tolerance(loops):
    with pytest.raises(UserError, match=r"agora\.tolerance is for tasks with numbers; leave it out"):
        loops.run("out", dataclasses.replace(loops.settings, tolerance=0.3))
