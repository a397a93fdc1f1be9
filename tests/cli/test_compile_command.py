"""`bertlite compile` on recipes that leave the vocabulary open."""

import pathlib

import pytest

from bertlite_jax.cli.main import main

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def compiled(monkeypatch):
    """Takes the place of the compiler: gives the config that it would get."""
    seen = []

    def compile_run(config, *rest):
        seen.append(config)
        return {"": {}}

    monkeypatch.setattr("bertlite_jax.jobs.compiling.compile.compile_run", compile_run)
    return seen


def test_a_published_shape_is_compiled_with_its_published_vocabulary(compiled, capsys):
    assert main(["compile", str(ROOT / "configs/bert_base.py"), "--topology", "v5e-16"]) == 0
    assert compiled[0].model.vocab_size == 30_522
    assert "with the published vocabulary of 30,522 pieces" in capsys.readouterr().out


def test_the_tokenizer_counts_if_it_is_given(compiled, prepared, capsys):
    recipe = str(ROOT / "configs/debug_cpu.py")
    assert main(["compile", recipe, "--topology", "v5e-16", "--data.tokenizer", prepared.tokenizer]) == 0
    assert (compiled[0].model.vocab_size, compiled[0].model.max_positions) == (300, 64)
    assert "published" not in capsys.readouterr().out


def test_another_shape_needs_a_number(compiled, capsys):
    assert main(["compile", str(ROOT / "configs/debug_cpu.py"), "--topology", "v5e-16"]) == 2
    shown = capsys.readouterr().err
    assert "model.vocab_size = 0 means as many as the tokenizer has" in shown
    assert "pass one with --data.tokenizer DIR, or a number with --model.vocab-size 30000" in shown
    assert compiled == []
