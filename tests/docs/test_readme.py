"""Every command in the README runs, in the order of the page, on a small text; training and timing are cut short."""

import pathlib
import re

import pytest
from page_commands import like_a_clone, run_in

from bertlite_jax.config import files, sizes
from bertlite_jax.report.cost import flops

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
SHORT = "--run.steps 2 --run.eval-rows 8 --data.batch-rows 4 --optim.warmup-steps 1 --model.num-layers 2"


def shortened(command: str) -> str:
    """Two steps instead of thousands. `bench train --peer` is run by test_bench_train.py, on a small model."""
    if "bench infer" in command:
        return f"{command} --length 16 --only onnx-f32 jax-f32"
    if " finetune " in command:
        return f"{command} --run.steps 2"
    return f"{command} {SHORT}" if " pretrain " in command and "--help" not in command else command


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A folder like a clone, with a text file and a table of the user's."""
    place = like_a_clone(tmp_path_factory.mktemp("readme"), "tools")
    rows = [f'"It was {word}, all of it.",{label}\n' for word, label in (("fine", "good"), ("dull", "bad"))]
    (place / "reviews.csv").write_text("text,label\n" + "".join(f'"{i}: {row[1:]}' for i in range(20) for row in rows))
    return place


@pytest.mark.thorough
def test_readme_commands_run_in_order(folder: pathlib.Path):
    """A user who types them one after the other gets no error."""
    assert len(COMMANDS) > 12
    for command in COMMANDS:
        if "bench train" in command:
            continue
        run_in(folder, shortened(command))
    assert (folder / "runs/mine/report.html").stat().st_size > 50_000
    assert (folder / "exported/model.safetensors").is_file()


def test_links_in_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_table_of_recipes_is_true():
    """Parameters and FLOPs in the README are those of the recipes."""
    rows = re.findall(r"^\| `(\w+)` \| .*? \| .*? \| ([\d,]+) \| ([\d,.]+) \| (\d+) \|$", README, re.M)
    assert len(rows) == 11
    for name, parameters, gigaflops, length in rows:
        config = sizes.published_sizes(files.load_file(name))
        assert f"{flops.parameters(config.model)['total']:,}" == parameters
        assert f"{flops.train_flops_per_step(config) / config.data.batch_rows / 1e9:,.1f}" == gigaflops
        assert config.data.length == int(length)
