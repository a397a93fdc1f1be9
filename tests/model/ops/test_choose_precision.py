"""The arithmetic of a machine follows from the setting, the platform, the CPU and the outcome of a trial."""

import logging
import os

import jax
import numpy as np
import pytest

from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.ops.choose_precision import Trial

PAIR = np.ones(2)


@pytest.fixture
def tried(monkeypatch):
    """`tried(outcome)` makes every trial end in this way; returns the list of those that ran.

    No outcome is stored, unless the test says where: whoever runs the tests may have a cache of programs.
    """
    caching = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_compilation_cache", False)

    def pretend(outcome: Trial) -> list[Trial]:
        ran = []
        monkeypatch.setattr(choose_precision, "trial", lambda: ran.append(outcome) or outcome)
        choose_precision.load_or_run_trial.cache_clear()
        return ran

    yield pretend
    choose_precision.load_or_run_trial.cache_clear()
    jax.config.update("jax_enable_compilation_cache", caching)


@pytest.fixture
def stored_programs(tmp_path):
    """A folder for compiled programs, as jobs have one."""
    settings = {"jax_enable_compilation_cache": True, "jax_compilation_cache_dir": str(tmp_path)}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_float32_is_float32_and_accelerators_multiply_bfloat16(tried):
    ran = tried(Trial(speed_up=9))
    assert choose_precision.resolve("auto", "tpu") == choose_precision.resolve("auto", "gpu") == "bfloat16"
    assert choose_precision.resolve("float32", "tpu") == choose_precision.resolve("float32", "cpu") == "float32"
    assert not ran


@pytest.mark.parametrize(
    ("flags", "speed_up", "auto", "asked"),
    [
        ("avx2 avx512f", 9.0, "float32", "float32"),  # No instructions for it: no trial.
        ("avx512_bf16", 2.0, "cpu_bfloat16", "cpu_bfloat16"),
        ("avx512_bf16 amx_bf16", 3.0, "cpu_bfloat16", "cpu_bfloat16"),
        ("avx512_bf16", 1.0, "float32", "cpu_bfloat16"),  # Whoever asks for bfloat16 gets it where it is right.
    ],
)
def test_on_a_cpu_its_flags_and_a_trial_decide(flags, speed_up, auto, asked, tried, monkeypatch):
    monkeypatch.setenv("BERTLITE_CPU_FLAGS", flags)
    tried(Trial(speed_up=speed_up))
    assert choose_precision.resolve("auto", "cpu") == auto
    assert choose_precision.resolve("bfloat16", "cpu") == asked


@pytest.mark.parametrize(
    ("flags", "outcome", "level", "says"),
    [
        ("avx2", Trial(), logging.INFO, "float32; this CPU has none of amx_bf16, avx512_bf16"),
        ("avx512_bf16", Trial(speed_up=1.96), logging.INFO, r"bfloat16 (avx512_bf16), 1.96 times as fast as float32"),
        ("amx_bf16", Trial(speed_up=0.5), logging.INFO, "float32; in a trial bfloat16 (amx_bf16) ran 0.50 times"),
        ("amx_bf16", Trial(failure="Unsupported element type"), logging.WARNING, "failed: Unsupported element type"),
    ],
)
def test_it_says_what_was_chosen_and_why(flags, outcome, level, says, tried, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("BERTLITE_CPU_FLAGS", flags)
    tried(outcome)
    choose_precision.resolve("auto", "cpu")
    assert [(record.levelno, says in record.message) for record in caplog.records] == [(level, True)]


def test_a_trial_on_this_cpu_gives_right_results():
    """Also where the operands have to be widened: only the time tells the machines apart."""
    outcome = choose_precision.trial()
    assert outcome.failure == ""
    assert outcome.speed_up > 0


def test_wrong_results_are_refused(monkeypatch):
    monkeypatch.setattr(choose_precision, "_small_layer", lambda compute: {"float32": 1.0}.get(compute, 1.1) + 0 * PAIR)
    assert choose_precision.trial().failure == "its results are off by 10.0%"


def test_a_trial_is_stored_with_the_programs(tried, stored_programs):
    first = tried(Trial(speed_up=2.5))
    assert choose_precision.load_or_run_trial() == Trial(speed_up=2.5)
    assert len(first) == 1
    (path,) = stored_programs.iterdir()
    assert path.name == f"precision_trial_jax{jax.__version__}.json"
    second = tried(Trial(speed_up=0.1))
    assert choose_precision.load_or_run_trial() == Trial(speed_up=2.5)
    assert not second


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"failure": "", "speed_up": null}', "\0\0"])
def test_a_damaged_trial_is_measured_again(content, tried, stored_programs, caplog):
    path = stored_programs / f"precision_trial_jax{jax.__version__}.json"
    path.write_text(content)
    ran = tried(Trial(speed_up=2.5))
    assert choose_precision.load_or_run_trial() == Trial(speed_up=2.5)
    assert len(ran) == 1
    assert f"{path} is damaged" in caplog.text
    tried(Trial(speed_up=0.1))
    assert choose_precision.load_or_run_trial() == Trial(speed_up=2.5)
    assert list(stored_programs.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_can_be_stored_the_trial_runs_again(tried, stored_programs):
    stored_programs.chmod(0o500)
    assert tried(Trial(speed_up=2.5)) == []
    assert choose_precision.load_or_run_trial() == Trial(speed_up=2.5)
    assert not list(stored_programs.iterdir())
