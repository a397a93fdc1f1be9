"""Costs follow from the compile table by arithmetic that is shown here."""

import pathlib
import runpy

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = """# A page

| a | table |
|---|---|
| of | others |

| model | slice | chips | batch | tokens a second at most | compiled in s |
|---|---|---|--:|--:|--:|
| albert_base | v5e-16 = `v5e:4x4` | 16 | 512 | 1,000,000 | 185 |
| albert_base | 2 x v4-32 = 2 x `v4:2x2x4` | 32 | 512 | 2,000,000 | 200 |

More text.
"""


@pytest.fixture
def run(tmp_path, capsys):
    """`run(*options)` gives the exit code, the table's lines and the message."""
    module = runpy.run_path(str(ROOT / "tools/slice_costs.py"))
    (tmp_path / "page.md").write_text(PAGE)

    def call(*options: str) -> tuple[int, list[str], str]:
        code = module["main"](["--table", str(tmp_path / "page.md"), *options])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return call


def test_hours_and_money_follow_from_the_table(run):
    _, lines, _ = run("--tokens", "3.6e9", "--price", "v5e=1.5", "--price", "v4=2")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    # 3.6e9 slots at 1e6 a second are one hour of 16 chips at 1.5; at 2e6 half an hour of 32 chips at 2.
    assert rows[2] == ["albert_base", "v5e-16 = `v5e:4x4`", "16", "3.6e+09", "1.0", "16", "24"]
    assert rows[3] == ["albert_base", "2 x v4-32 = 2 x `v4:2x2x4`", "32", "3.6e+09", "0.5", "16", "32"]


def test_without_tokens_it_is_the_models_own_recipe(run):
    """ALBERT's paper: 125,000 steps of 4,096 rows of 512."""
    slots = 125_000 * 4096 * 512
    assert f"| {slots:.3g} | {slots / 1e6 / 3600:,.1f} | {slots / 1e6 / 3600 * 16:,.0f} |" in run()[1][2]


def test_shorter_rows_than_the_tables_take_less(run, tmp_path):
    """BERT base's recipe has rows of 128, whose tokens take 555.5 MFLOP and not the 590.2 of rows of 512."""
    page = tmp_path / "bert.md"
    page.write_text(PAGE.replace("albert_base", "bert_base"))
    slots = 1_000_000 * 256 * 128
    assert f"| {slots / 1e6 / 3600 * 16 * 555.5 / 590.2:,.0f} |" in run("--table", str(page))[1][2]


def test_a_slice_without_a_price_has_no_cost(run):
    assert run("--price", "v4=2")[1][2].endswith("|  |")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--price", "v5e"], "should look like v5e=1.2"),
        (["--price", "v5litepod=1"], "slice_costs: --price v5litepod=1: the table has v4, v5e"),
        (["--tokens", "-5"], "--tokens -5 must not be negative"),
        (["--table", str(ROOT / "LICENSE")], "no table of `bertlite compile --table`"),
    ],
)
def test_a_mistake_is_one_line(run, options, says):
    code, _, error = run(*options)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_the_projects_own_table_can_be_read(run):
    assert any("v5e-16" in line for line in run("--table", str(ROOT / "docs/scale.md"))[1])
