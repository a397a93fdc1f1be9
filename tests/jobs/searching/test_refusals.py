"""What cannot be searched is refused in one line, before anything is written."""

import dataclasses
import pathlib

import pytest
import tiny

from bertlite_jax.cli.main import main
from bertlite_jax.config.pretrain import Data
from bertlite_jax.config.search.settings import CostModel, Method, Shape, Space
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.searching.search import search

DEBUG = pathlib.Path(__file__).resolve().parents[3] / "configs/search_debug.py"

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"space": Space(num_layers=())}, "config: space.num_layers is empty; name at least one value"),
        (
            {"space": Space(num_layers=(1,), num_heads=(5,), hidden_size=(16,), ffn_size=(32,))},
            "config: space.num_heads = 5 divides none of space.hidden_size = (16,)",
        ),
        ({"maximum": Shape(1, 2, 16, 32)}, "config: maximum = <1,2,16,32> has 8,684 parameters, and"),
        ({"maximum": Shape(3, 5, 48, 96)}, "config: maximum.num_heads = 5 does not divide maximum.hidden_size"),
        ({"method": Method(most_seconds=1e-12)}, "config: method.most_seconds = 1e-12 is met by no shape; the fastest"),
        ({"method": Method(stride=5)}, "config: method.stride = 5 exceeds the 4 shapes of the space"),
        ({"data": Data(length=64, pair_task="none")}, "config: data.tokenizer is empty; pass --data.tokenizer DIR"),
        ({"cost": CostModel(host="v5e-17", length=64)}, "config: cost.host = v5e-17: no such slice"),
        (
            {"cost": CostModel(compared_hosts=("v5e-4", "abacus"), length=64)},
            "config: cost.compared_hosts = abacus: unknown chip; known: v4, v5e",
        ),
        (
            {"cost": CostModel(latency="int8", host="v5e-16", length=64)},
            "config: cost.latency = int8 is timed on this machine, and cost.host = v5e-16",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_and_leaves_nothing(of_text, groups, said, tmp_path):
    with pytest.raises(UserError) as error:
        search(of_text(**groups), "s.py", str(tmp_path / "out"))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_without_a_corpus_the_line_says_how_to_name_one(of_text, prepared, tmp_path):
    data = dataclasses.replace(tiny.search(prepared).data, corpus=())
    with pytest.raises(UserError, match=r"^config: data.corpus is empty; pass --data.corpus DIR"):
        search(of_text(data=data), "s.py", str(tmp_path / "out"))
    missing = dataclasses.replace(data, corpus=(str(tmp_path / "nowhere"),))
    with pytest.raises(UserError, match="nowhere"):
        search(of_text(data=missing), "s.py", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("thesis.tex", "is not empty (thesis.tex) and holds no search"), ("config.json", "a single run")]
)
def test_a_folder_of_something_else_is_refused(of_text, name, said, tmp_path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError) as error:
        search(of_text(), "s.py", str(tmp_path), overwrite=True)
    assert said in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.num-layers", "3"], "--model.num-layers has no effect: the search chooses it; --space.num-layers"),
        (["--optim.learning-rate", "1e-3"], "--optim.learning-rate has no effect: the search chooses it; --surrogate."),
        (["--surrogate.extrapolate-to", "90"], "--surrogate.extrapolate-to has no effect with surrogate.kind = "),
        (
            ["--surrogate.kind", "mlm", "--surrogate.teacher-steps", "9"],
            "--surrogate.teacher-steps has no effect with ",
        ),
        (
            ["--method.rounds", "2"],
            "--method.rounds has no effect: neither method.name nor method.others is halving",
        ),
        (
            ["--method.name", "halving", "--method.others", "ranking", "--method.no-refine"],
            "--method.refine has no effect: neither method.name nor method.others is published",
        ),
        (["--method.name", "evolution"], "search: --method.name evolution is unknown; known: published"),
    ],
)
def test_an_option_without_an_effect_is_refused(options, said, capsys, tmp_path):
    assert main(["search", str(DEBUG), "--workdir", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
