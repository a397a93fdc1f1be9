"""What a run would have to plan before its first step has an end."""

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.examples import check_planned


@pytest.mark.parametrize(
    ("steps", "batch", "examples", "said"),
    [
        (2**31 - 1, 32, 3_500_000, "2,147,483,647 steps of 32 examples are 68,719,476,704; at most 1,000,000,000"),
        (
            2**31 - 1,
            2**24,
            2**24,
            "2,147,483,647 steps are 2,147,483,647 epochs of 16,777,216 examples; at most 20,000",
        ),
        (20_001, 8, 5, "20,001 steps are 20,001 epochs of 5 examples; at most 20,000 epochs are possible"),
        (10**5, 2**24, 10**8, "100,000 steps of 16,777,216 examples are 1,677,721,600,000; at most 1,000,000,000"),
    ],
)
def test_runs_without_an_end_are_refused(steps, batch, examples, said):
    with pytest.raises(UserError) as refused:
        check_planned(steps, batch, examples)
    assert said in str(refused.value)
    assert str(refused.value).endswith("lower run.steps or run.epochs")


def test_long_runs_pass_and_say_how_long_their_plan_takes(capsys):
    check_planned(20_000, 8, 5)
    assert capsys.readouterr().out == ""
    check_planned(10**9 // 32, 32, 4_000_000)
    assert capsys.readouterr().out == (
        "finetune: planning the rows of 1,000,000,000 examples first, some 125 minutes\n"
    )
