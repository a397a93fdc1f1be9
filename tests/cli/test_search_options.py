"""The options of `bertlite search` that say a limit, and what happens to the winner."""

import pathlib

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.distillation.settings import OF_WINNER
from bertlite_jax.config.search.settings import Search
from bertlite_jax.jobs import winner
from bertlite_jax.jobs.searching import search

SEARCH = ["search", "search_debug", "--workdir", "out", "--data.corpus", "c", "--data.tokenizer", "t"]
THEN = ["--then", "distill", "--teacher", "large", "--calibrate", "text.txt"]


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[tuple]:
    """What the two jobs are called with."""
    found: list[tuple] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "search", lambda *arguments: found.append(arguments))
    monkeypatch.setattr(winner, "find_and_distill", lambda *arguments: found.append(arguments))
    return found


def test_a_limit_and_a_machine_become_fields(asked):
    assert main([*SEARCH, "--latency", "5ms", "--host", "v5e-16"]) == 0
    config, where, folder, dry_run, overwrite = asked[0]
    assert isinstance(config, Search)
    assert (config.method.most_seconds, config.cost.host, config.cost.latency) == (0.005, "v5e-16", "roofline")
    assert (where, folder, dry_run, overwrite) == ("search_debug", "out", False, False)


def test_what_follows_gets_its_teachers_and_losses(asked):
    assert main([*SEARCH, *THEN, "--teacher", "other", "--distill.soft-weight", "1", "--dry-run"]) == 0
    config, then, where, folder, dry_run, overwrite = asked[0]
    assert config.data.corpus == ("c",)
    assert then.distill.teachers == ("large", "other")
    assert (then.distill.soft_weight, then.distill.mlm_weight) == (1.0, OF_WINNER.mlm_weight)
    assert then.calibrate == ("text.txt",)
    assert (where, folder, dry_run, overwrite) == ("search_debug", "out", True, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--latency", "soon"], "search: --latency soon is no time above 0; write 5ms, 250us or 0.5s"),
        (["--latency", "5ms", "--method.most-seconds", "1"], "search: --latency sets method.most_seconds; pass one"),
        (["--host", "this", "--cost.host", "v5e-16"], "search: --host sets cost.host; pass one of them"),
        (["--teacher", "large"], "search: --teacher has no effect without --then distill"),
        (["--calibrate", "text.txt"], "search: --calibrate has no effect without --then distill"),
        (["--distill.soft-weight", "1"], "search: --distill.soft-weight has no effect without --then distill"),
        (
            ["--then", "distill", "--calibrate", "t"],
            "search: --then distill needs --teacher RUN, which the winner",
        ),
        (
            ["--then", "distill", "--teacher", "r"],
            "search: --then distill needs --calibrate TEXT, to measure",
        ),
        ([*THEN, "--distill.fit-widths"], "config: --distill.fit-widths has no effect with distill.start = random"),
        (
            [*THEN, "--distill.pair-weight", "2"],
            "config: --distill.pair-weight has no effect with data.pair_task",
        ),
        (["--then", "nap"], "search: "),
    ],
)
def test_options_that_say_nothing_or_too_little(asked, options, said, capsys):
    assert main([*SEARCH, *options]) == 2
    line = capsys.readouterr().err
    assert line.startswith(said)
    assert line.count("\n") == 1
    assert not asked
    assert not pathlib.Path("out").exists()
