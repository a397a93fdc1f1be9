"""The guard stops a run whose loss jumps, and not one whose task has changed."""

import pathlib

import pytest

from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.data.rows import stages
from bertlite_jax.errors import Diverged
from bertlite_jax.jobs.pretraining import loss_guard

CONFIG = Pretrain(run=Run(spike_factor=2.0))


@pytest.fixture
def guard(monkeypatch, tmp_path: pathlib.Path):
    """`guard(changes)`: of a run without rows, whose loss may double."""
    monkeypatch.setattr(stages, "rows_of", lambda rows, number: (_OfNoRows, [0]))
    monkeypatch.setattr(loss_guard, "_describe_windows", lambda source, rows: "none")
    return lambda changes=(), **means: loss_guard.LossGuard(CONFIG, (), tmp_path, means, changes)


class _OfNoRows:
    class data:
        length = 64


def check(guard: loss_guard.LossGuard, number: int, loss: float, causal: bool = False) -> None:
    guard.check(number, {"loss": loss, "grad_norm": 1.0}, causal)


def test_a_jump_ends_the_run_and_names_step_and_mean(guard):
    watching = guard()
    check(watching, 1, 2.0)
    with pytest.raises(Diverged, match=r"step 2: loss 4.1, .* more than 2 times the running mean 2.000"):
        check(watching, 2, 4.1)


def test_where_rows_or_layers_change_the_mean_begins_anew(guard):
    """The jump at step 3 is expected; the next one is measured by what came after it."""
    watching = guard(changes=[3, 9])
    for number, loss in ((1, 2.0), (2, 2.0), (3, 6.0), (4, 11.0)):
        check(watching, number, loss)
    with pytest.raises(Diverged, match="step 5: loss 15"):
        check(watching, 5, 15.0)


def test_a_run_that_resumes_at_a_change_begins_anew_too(guard):
    """The checkpoint before holds the old mean."""
    check(guard(changes=[3], loss_mean=2.0), 3, 6.0)
    with pytest.raises(Diverged):
        check(guard(changes=[3], loss_mean=2.0), 4, 6.0)


def test_what_is_not_finite_ends_the_run_at_a_change_too(guard):
    with pytest.raises(Diverged, match="step 3: loss nan"):
        check(guard(changes=[3]), 3, float("nan"))


def test_causal_steps_have_a_mean_of_their_own(guard):
    """Their first loss may be any, and the others' mean does not notice it."""
    watching = guard()
    for number, loss, causal in ((1, 2.0, False), (2, 9.0, True), (3, 2.0, False), (4, 17.0, True)):
        check(watching, number, loss, causal)
    assert watching.means == {"loss_mean": 2.0, "causal_loss_mean": 0.98 * 9.0 + 0.02 * 17.0}
    with pytest.raises(Diverged, match=r"step 5: loss 5, .* the running mean 2.000;"):
        check(watching, 5, 5.0)
    with pytest.raises(Diverged, match=r"step 6: loss 19, .* the running mean 9.160 of causal steps;"):
        check(watching, 6, 19.0, causal=True)


def test_both_means_go_on_after_a_restart_and_begin_anew_where_rows_change(guard):
    watching = guard(changes=[7], loss_mean=2.0, causal_loss_mean=9.0)
    with pytest.raises(Diverged, match="step 6"):
        check(watching, 6, 19.0, causal=True)
    check(watching, 7, 30.0, causal=True)
    check(watching, 8, 30.0)
