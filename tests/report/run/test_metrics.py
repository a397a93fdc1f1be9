"""What a run writes and shows: lines that any JSON reader takes, one line a step, time that adds up."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from bertlite_jax.errors import UserError
from bertlite_jax.report.run import metrics

VALUES = {
    "loss": 5.1234,
    "mlm_accuracy": 0.1234,
    "pair_accuracy": 0.531,
    "learning_rate": 8.1e-4,
    "tokens_per_second": 3213.7,
    "mfu": 0.4321,
    "data_wait": 0.0042,
}
LINE = "loss 5.123  mlm 0.12  pair 0.53  lr 8.1e-04  3,214 real tok/s  MFU 0.43  data wait 0.4 %"


class Time:
    """A clock that the test moves."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


# --- Files -------------------------------------------------------------------------------------------------------


def test_each_step_is_on_disk_before_the_next_one(tmp_path):
    """A killed run loses nothing that was logged."""
    with metrics.open_writer(tmp_path, tensorboard=False) as writer:
        metrics.write(writer, 10, {"loss": 5.0, "real_tokens": 3})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 10, "loss": 5.0, "real_tokens": 3}
        metrics.write(writer, 20, {"loss": 4.5})
    assert [line["step"] for line in metrics.read_lines(tmp_path / "metrics.jsonl")] == [10, 20]


def test_opening_again_appends(tmp_path):
    for step in (1, 2):
        with metrics.open_writer(tmp_path, tensorboard=False, from_step=step) as writer:
            metrics.write(writer, step, {"loss": 1.0})
    assert [line["step"] for line in metrics.read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_numbers_that_are_not_finite_become_null_and_are_named():
    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    line = metrics.json_line({"step": 3, "loss": float("nan"), "grad_norm": float("inf"), "mfu": None})
    assert json.loads(line, parse_constant=refuse) == {
        "step": 3, "loss": None, "grad_norm": None, "mfu": None, "not_finite": {"loss": "nan", "grad_norm": "inf"},
    }  # fmt: skip


def test_without_tensorboard_there_are_no_event_files(tmp_path):
    with metrics.open_writer(tmp_path, tensorboard=False):
        pass
    assert not (tmp_path / "tensorboard").exists()


def test_lines_are_made_sure_of_once_a_minute(tmp_path, monkeypatch):
    clock, synced = [0.0], []
    monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(metrics.os, "fsync", lambda descriptor: synced.append(clock[0]))
    with metrics.open_writer(tmp_path, tensorboard=False) as writer:
        for clock[0] in (1.0, 59.0, 61.0, 62.0, 120.0, 122.0):
            metrics.write(writer, int(clock[0]), {"loss": 1.0})
    assert synced == [61.0, 122.0]


def test_event_files_hold_the_same_numbers(tmp_path):
    """Read back by the record format itself: length, its checksum, the event, its checksum."""
    from tensorboardX.proto import event_pb2

    messages: Any = event_pb2  # Generated code; its names appear at run time only.

    values = {"loss": 2.5, "valid_mlm_loss": 1.25, "note": "text", "mfu": None, "bad": float("nan")}
    with metrics.open_writer(tmp_path, tensorboard=True) as writer:
        metrics.write(writer, 7, values)
    found = {}
    for path in (tmp_path / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = messages.Event.FromString(data[12 : 12 + size])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            data = data[16 + size :]
    assert found == {("train/loss", 7): 2.5, ("valid/mlm_loss", 7): 1.25}


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step"')
    assert metrics.read_lines(path) == [{"step": 1}, {"step": 2}]


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not JSON"):
        metrics.read_lines(path)
    path.write_text("[1]\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:1: a JSON object is expected, not a list"):
        metrics.read_lines(path)


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        metrics.read_lines(tmp_path / "metrics.jsonl")


def test_importing_it_does_not_import_jax():
    code = "import sys, bertlite_jax.report.run.metrics; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Progress ----------------------------------------------------------------------------------------------------


def test_the_progress_line_shows_what_a_user_watches():
    line = metrics.progress_line(120, 1000, VALUES, 723)
    assert line == f"step 120/1000 (12 %)  {LINE}  left 12:03"


def test_what_is_not_known_is_left_out():
    assert metrics.progress_line(1, 8, {"loss": 2.0, "mfu": None}) == "step 1/8 (12 %)  loss 2.000"


def test_the_last_step_alone_is_hundred_percent():
    assert "(99 %)" in metrics.progress_line(999, 1000, {})
    assert "(100 %)" in metrics.progress_line(1000, 1000, {})


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0:00"), (59.6, "1:00"), (723, "12:03"), (4323, "1:12:03"), (2 * 86_400 + 4323, "2 d 01:12:03"),
])  # fmt: skip
def test_times_read_like_a_clock(seconds, text):
    assert metrics.clock_time(seconds) == text


def test_off_a_terminal_every_step_is_one_plain_line():
    out, now = io.StringIO(), Time()
    console = Console(file=out, width=40)
    with metrics.progress(100, console=console, now=now) as display:
        display.show(10, VALUES)
        now.seconds = 30.0
        display.show(20, VALUES)
        display.print_line("valid_mlm_loss 4.1 [nats]")
    # 30 s for 10 steps leave 240 s for 80; the first line has nothing to reckon from.
    assert out.getvalue() == (
        f"step 10/100 (10 %)  {LINE}\nstep 20/100 (20 %)  {LINE}  left 4:00\nvalid_mlm_loss 4.1 [nats]\n"
    )


def test_on_a_terminal_there_is_a_bar_with_the_same_line_and_notes_stay():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system=None)
    with metrics.progress(100, start=50, console=console) as display:
        display.show(60, VALUES)
        display.print_line("saved step 60")
    assert f"step 60/100 (60 %)  {LINE}" in out.getvalue()
    assert "saved step 60" in out.getvalue()


# --- Time --------------------------------------------------------------------------------------------------------


def test_the_buckets_add_up_to_the_wall_time():
    now = Time()
    clock = metrics.Clock(now)
    now.seconds += 1  # other
    with clock.measure("compile"):
        now.seconds += 2
    for _ in range(3):
        with clock.measure("data"):
            now.seconds += 0.5
        with clock.measure("step"):
            now.seconds += 5
    now.seconds += 0.5
    assert clock.seconds() == {
        "step": 15.0, "data": 1.5, "compile": 2.0, "evaluation": 0.0, "checkpoint": 0.0, "other": 1.5,
    }  # fmt: skip
    assert clock.shares()["step"] == 0.75
    assert sum(clock.shares().values()) == pytest.approx(1)


def test_the_way_to_the_first_step_is_told_apart():
    now = Time()
    clock = metrics.Clock(now)
    now.seconds += 3.5
    with clock.measure("compile"):
        now.seconds += 2.25
    assert clock.first_step() == "first step after 5.8 s: 2.2 s compiling, the rest starting up"
    assert clock.first_step(4.0) == "first step after 5.8 s: 4.0 s compiling, all but 2.2 s in parallel"


def test_an_inner_bucket_interrupts_the_outer_one():
    now = Time()
    clock = metrics.Clock(now)
    with clock.measure("evaluation"):
        now.seconds += 1
        with clock.measure("data"):
            now.seconds += 2
        now.seconds += 4
    assert clock.seconds()["evaluation"] == 5
    assert clock.seconds()["data"] == 2


def test_time_before_an_exception_counts():
    now = Time()
    clock = metrics.Clock(now)

    def fail_after_three_seconds() -> None:
        with clock.measure("checkpoint"):
            now.seconds += 3
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_three_seconds()
    now.seconds += 1
    assert clock.seconds()["checkpoint"] == 3
    assert clock.seconds()["other"] == 1


def test_an_unknown_bucket_is_refused():
    with pytest.raises(ValueError, match="checkpoint"), metrics.Clock().measure("chekpoint"):
        pass


def test_before_any_time_has_passed_all_shares_are_zero():
    assert set(metrics.Clock(Time()).shares().values()) == {0.0}
