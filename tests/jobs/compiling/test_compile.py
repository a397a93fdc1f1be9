"""A training step for TPU slices, compiled without one. What needs the compiler skips where it is not installed."""

import dataclasses
import json
import pathlib
import subprocess

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.config.schedule import stages
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.compiling import batch_search, compile, compile_step, compile_table
from bertlite_jax.report.cost import flops, hlo_cost, topology

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONFIG = Pretrain(
    model=Model(
        vocab_size=512, embed_size=128, hidden_size=256, num_layers=4, num_heads=4, ffn_size=512, max_positions=128
    ),
    data=Data(length=128, batch_rows=512),
    optim=Optim(warmup_steps=2, micro_batches=2),
    run=Run(steps=20),
)
RESULT = {
    "fits": True,
    "compile_seconds": 60.0,
    "argument_bytes": 2**30,
    "output_bytes": 0,
    "temporary_bytes": 8 * 2**30,
    "code_bytes": 0,
    "flops": 10**12,
    "hbm_bytes": 819 * 10**6,
    "collectives": [{"kind": "all-reduce", "group": 16, "count": 2, "bytes": 4 * 10**6}],
    "unknown_loops": 1,
    "unknown_kernels": 0,
    "heaviest": [],
    "operations": [[197 * 10**9, 0, 1], [0, 819 * 10**6, 1]],
}


@pytest.fixture(scope="session")
def library() -> str:
    """The TPU compiler's file."""
    try:
        return compile.find_library()
    except UserError as missing:
        pytest.skip(str(missing))


# --- With the compiler -----------------------------------------------------------------------------------------------


def compiled_for(name: str, slices: int, library: str, keep_hlo: str = "") -> dict:
    place = topology.parse(name, slices)
    config = compile.check(CONFIG, place, round_batch=True)
    result = compile.attempt(config, place, library, 2, keep_hlo)
    assert result["fits"]
    return result | {"config": compile.with_rows(config, place, 2), "place": place}


def flops_a_device(result: dict) -> float:
    """By the formula, and what the attention kernel computes again: one product of [L, L] by [L, D] a layer and row."""
    config, devices = result["config"], result["place"].devices
    again = config.data.batch_rows * config.model.num_layers * 2 * config.data.length**2 * config.model.hidden_size
    return (flops.train_flops_per_step(config) + again) / devices


def test_a_step_for_v5e_has_the_flops_of_the_formula_and_reduces_its_gradient_once(library, tmp_path):
    result = compiled_for("v5e-16", 1, library, str(tmp_path / "step.hlo"))
    assert result["flops"] == pytest.approx(flops_a_device(result), rel=0.01)
    kernels = (tmp_path / "step.hlo").read_text().count('custom_call_target="tpu_custom_call"')
    assert (kernels, result["unknown_kernels"]) == (2, 0)  # attention, forwards and backwards, in the loop over layers
    gradient = 4 * flops.parameters(CONFIG.model)["total"]
    (reduced,) = result["collectives"]
    assert (reduced["kind"], reduced["group"]) == ("all-reduce", 16)
    assert gradient <= reduced["bytes"] < gradient + 200  # and the sums to report
    state = 3 * gradient
    assert state <= result["argument_bytes"] < 1.2 * state


@pytest.mark.slow
def test_muon_adds_its_products_and_remembers_less(library):
    """5 (4 n^2 m + 2 n^3) FLOPs a kernel on every device, whatever the rows; one moment of each kernel is not there."""
    sides = [(256, 256)] * 4 + [(256, 512)] * 2 + [(128, 256)]
    products = sum(5 * (4 * n**2 * m + 2 * n**3) for n, m in sides)
    place = topology.parse("v5e-4")
    results = []
    for name in ("lamb", "muon"):
        config = dataclasses.replace(CONFIG, optim=dataclasses.replace(CONFIG.optim, name=name))
        results.append(compile.attempt(compile.check(config, place, round_batch=True), place, library, 2))
    lamb, muon = results
    assert muon["flops"] - lamb["flops"] == pytest.approx(products, rel=0.02)
    saved = 4 * sum(n * m for n, m in sides)
    assert lamb["argument_bytes"] - muon["argument_bytes"] == pytest.approx(saved, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v4-8", "v5p-8", "v6e-4", "tpu7x:2x2x1"])
def test_a_step_compiles_for_every_generation(name, library):
    result = compiled_for(name, 1, library)
    assert result["flops"] == pytest.approx(flops_a_device(result), rel=0.01)
    assert result["unknown_kernels"] == 0


@pytest.mark.slow
def test_two_slices_send_each_other_a_part_of_the_gradient(library):
    result = compiled_for("v5e-4", 2, library)
    sizes = {part["kind"]: part["bytes"] for part in result["collectives"]}
    gradient = 4 * flops.parameters(CONFIG.model)["total"]
    assert (
        gradient / 4 <= sizes["send between slices"] < gradient / 2
    )  # each of the 4 devices of a slice sends its share


@pytest.mark.slow
def test_two_slices_gather_what_fsdp_has_split_within_each(library, tmp_path):
    """The links between slices carry gradients alone; and as many operations are listed as were asked for."""
    config = dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, fsdp=4))
    result = compile.attempt(config, topology.parse("v5e-4", 2), library, 16, heaviest=30)
    assert result["fits"]
    assert len(result["heaviest"]) == 30
    gathered = [part for part in result["collectives"] if part["kind"] == "all-gather"]
    assert gathered
    assert all(part["group"] == 4 for part in gathered)


@pytest.mark.slow
def test_a_group_along_tensor_lies_in_one_host(library):
    split = dataclasses.replace(CONFIG.run, tensor=8)
    with pytest.raises(UserError, match=r"run.tensor = 8 must divide the 4 devices of a process"):
        compile.attempt(dataclasses.replace(CONFIG, run=split), topology.parse("v5e-16"), library, 16)


@pytest.mark.slow
def test_the_compiler_says_what_a_batch_needs_that_does_not_fit(library):
    result = compile.attempt(CONFIG, topology.parse("v5e-4"), library, 4096)
    assert not result["fits"]
    assert result["available_bytes"] == compile.available_bytes(topology.parse("v5e-4"))
    assert result["used_bytes"] > result["available_bytes"]


# --- Without ---------------------------------------------------------------------------------------------------------


def test_a_missing_compiler_is_one_line_with_the_command(monkeypatch, capsys):
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(compile.importlib.util, "find_spec", lambda name: None)
    assert main(["compile", str(ROOT / "configs/albert_base.py"), "--topology", "v5e-16"]) == 2
    said = capsys.readouterr().err
    assert said == 'compile: the TPU compiler is not installed; pip install "bertlite_jax[tpu]"\n'


def test_a_named_compiler_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "libtpu.so"))
    with pytest.raises(UserError, match=r"TPU_LIBRARY_PATH = .* does not exist"):
        compile.find_library()


def test_a_batch_that_does_not_divide_is_refused_before_compiling():
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, batch_rows=500))
    with pytest.raises(UserError, match="not divisible by 16 devices x 2 micro-batches; nearest that is: 512"):
        compile.check(config, topology.parse("v5e-16"))


def test_micro_batches_that_were_meant_for_fewer_devices_become_fewer(capsys):
    """4096 rows on 256 devices are 16 rows each, which cannot be cut into 64."""
    data, optim = dataclasses.replace(CONFIG.data, batch_rows=4096), dataclasses.replace(CONFIG.optim, micro_batches=64)
    checked = compile.check(dataclasses.replace(CONFIG, data=data, optim=optim), topology.parse("v5e-256"))
    assert (checked.optim.micro_batches, checked.data.batch_rows) == (16, 4096)
    assert "cannot be divided into 64 micro-batches; using 16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("group", "field"), [("run", "tensor"), ("run", "fsdp"), ("optim", "micro_batches"), ("data", "batch_rows")]
)
def test_nothing_is_divided_by_a_zero_of_the_config(group, field):
    changed = dataclasses.replace(getattr(CONFIG, group), **{field: 0})
    with pytest.raises(UserError, match=f"config: {group}.{field} = 0"):
        compile.check(dataclasses.replace(CONFIG, **{group: changed}), topology.parse("v5e-16"))


def test_sizes_are_filled_in_before():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, vocab_size=0))
    with pytest.raises(UserError, match=r"model.vocab_size = 0 must be positive"):
        compile.check(config, topology.parse("v5e-16"))


def test_gpu_attention_is_refused_for_a_tpu():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, attention="cudnn"))
    with pytest.raises(UserError, match="needs a GPU"):
        compile.check(config, topology.parse("v5e-16"))


@pytest.mark.parametrize(
    ("message", "memory"),
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
            "Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.",
            (int(20.5 * 2**30), int(15.75 * 2**30)),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (128.00G) "
            "exceeds available HBM (30.75G).",
            (128 * 2**30, int(30.75 * 2**30)),
        ),
        ("INTERNAL: Mosaic failed to compile a kernel", None),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem while allocating on stack", None),
    ],
)
def test_the_compilers_refusals_are_read(message, memory):
    assert compile_step.memory_of_refusal(message) == memory


def test_figures_are_those_of_one_device():
    place = topology.parse("v5e-16")
    shown = compile.figures(CONFIG, place, RESULT)
    assert shown["rows a device and micro-batch"] == 16  # 512 rows over 16 devices in 2 parts
    assert shown["headroom (GiB a device)"] == pytest.approx(15.75 - 9)
    assert shown["step at least (ms)"] == pytest.approx(1.0)  # 819 MB at 819 GB/s
    assert shown["one operation after the other, at least (ms)"] == pytest.approx(2.0)  # and 197 GFLOP at 197 TFLOP/s
    assert shown["bound by"] == "memory"
    model_flops = flops.train_flops_per_step(CONFIG) / 16
    assert shown["MFU at most"] == pytest.approx(model_flops / (1e-3 * 197e12))
    assert shown["all-reduce over 16 devices"] == "2 x, 4.00 MB"
    assert shown["their least time within a slice (ms)"] == pytest.approx(2 * 4e6 * 15 / 16 / 200e9 * 1e3)
    assert shown["tokens a second at most"] == 512 * 128 * 1000


def test_a_collective_over_all_devices_takes_the_links_and_one_between_slices_does_not():
    place = topology.parse("v5e-16", 2)
    kinds = ("all-reduce", hlo_cost.BETWEEN_SLICES)
    parts = [{"kind": kind, "group": 0, "count": 1, "bytes": 4_000_000} for kind in kinds]
    shown = compile.figures(CONFIG, place, RESULT | {"collectives": parts})
    assert shown["their least time within a slice (ms)"] == pytest.approx(2 * 4e6 * 31 / 32 / 200e9 * 1e3)


def test_devices_that_cannot_be_split_so_are_one_line(monkeypatch):
    """`run.tensor` over more devices than a process has: only the compiler's process knows which are whose."""

    def refuses(command, **_):
        pathlib.Path(command[-1]).write_text(json.dumps({"refused": "config: run.tensor = 8 must divide the 4"}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(compile.subprocess, "run", refuses)
    with pytest.raises(UserError, match=r"config: run.tensor = 8 must divide the 4"):
        compile.attempt(CONFIG, topology.parse("v5e-16"), "libtpu.so", 16)


def test_a_program_that_takes_more_than_there_is_does_not_fit(monkeypatch):
    """Whatever the compiler says: those for v4 and TPU7x let some programs pass."""

    def accepts(command, **_):
        made = RESULT | {"temporary_bytes": 15 * 2**30}
        pathlib.Path(command[-1]).write_text(json.dumps(made), encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(compile.subprocess, "run", accepts)
    result = compile.attempt(CONFIG, topology.parse("v5e-16"), "libtpu.so", 16)
    assert not result["fits"]
    assert result["used_bytes"] == batch_search.used_bytes(RESULT | {"temporary_bytes": 15 * 2**30})
    assert result["available_bytes"] == int(15.75 * 2**30) < result["used_bytes"]


# --- With a pretended compiler ---------------------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch, tmp_path) -> list[tuple[str, int]]:
    """A compiler for which 20 rows a device fit; returns what it was asked."""
    asked: list[tuple[str, int]] = []

    def attempt(config, place, library, rows, keep_hlo="", heaviest=0):
        asked.append((place.user_name, rows))
        used = int(rows / 20 * compile.available_bytes(place))
        found = {"fits": rows <= 20, "used_bytes": used, "temporary_bytes": used - 2**30}
        return RESULT | found | {"available_bytes": compile.available_bytes(place)}

    monkeypatch.setattr(compile, "attempt", attempt)
    monkeypatch.setattr(compile, "find_library", lambda: "libtpu.so")
    monkeypatch.chdir(ROOT)
    return asked


def test_a_batch_that_does_not_fit_is_refused_with_the_largest_that_does(pretended):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, batch_rows=2048))
    with pytest.raises(UserError) as refused:
        compile.compile_for(config, "v5e-16")  # 64 rows a device and micro-batch, where 20 fit
    assert str(refused.value) == (
        "compile: 64 rows per device do not fit: 50.40 of 15.75 GiB; at most 20 do: pass "
        "--data.batch-rows 640, or keep the batch with --optim.micro-batches 8"
    )  # 128 rows a device in 8 parts of 16; 640 = 20 x 16 devices x 2 micro-batches


def test_the_largest_batch_is_found_on_request(pretended):
    shown = compile.compile_for(CONFIG, "v5e-16", find_batch=True)
    assert (shown["rows a device and micro-batch"], shown["batch_rows"]) == (20, 640)


def test_a_negative_number_of_operations_is_refused(pretended):
    with pytest.raises(UserError, match="--heaviest -1 must not be negative"):
        compile.compile_for(CONFIG, "v5e-16", heaviest=-1)


def test_a_searched_batch_keeps_no_program(pretended):
    with pytest.raises(UserError, match="--keep-hlo goes with a given batch"):
        compile.compile_for(CONFIG, "v5e-16", find_batch=True, keep_hlo="step.hlo")


SCHEDULED = dataclasses.replace(CONFIG, run=Run(steps=20, batches=((128, 5), (256, 10)), lengths=((64, 5),)))


def test_every_stage_of_a_run_is_compiled(pretended):
    """128, 256 and 512 rows on 16 devices in two parts; each with its own FLOPs."""
    shown = compile.compile_run(SCHEDULED, "v5e-16")
    assert list(shown) == ["steps 1 to 5", "steps 6 to 10", "steps 11 to 20"]
    assert [rows for _, rows in pretended] == [4, 8, 16]
    of_stages = [flops.train_flops_per_step(stage.config) / 16e12 for stage in stages(SCHEDULED)]
    assert [figures["model TFLOP a device"] for figures in shown.values()] == pytest.approx(of_stages)
    assert list(compile.compile_run(CONFIG, "v5e-16")) == [""]


def test_micro_batches_divide_every_batch_of_a_run(pretended, capsys):
    """The smallest batch has four rows a device, which eight micro-batches do not divide."""
    optim = dataclasses.replace(CONFIG.optim, micro_batches=8)
    config = dataclasses.replace(SCHEDULED, run=dataclasses.replace(SCHEDULED.run, batches=((64, 5),)), optim=optim)
    shown = compile.compile_run(config, "v5e-16")
    assert [figures["micro-batches"] for figures in shown.values()] == [4, 4]
    assert "64 and 512 rows on 16 devices cannot be divided into 8 micro-batches; using 4" in capsys.readouterr().out


def test_what_is_of_one_program_needs_a_run_of_one(pretended):
    with pytest.raises(UserError, match=r"--find-batch is .*; pass --run.lengths and --run.batches without values"):
        compile.compile_run(SCHEDULED, "v5e-16", find_batch=True)
    with pytest.raises(UserError, match="--keep-hlo is for one program"):
        compile.compile_run(SCHEDULED, "v5e-16", keep_hlo="step.hlo")


# --- The table -------------------------------------------------------------------------------------------------------


def make_table(folder: pathlib.Path, *slices: str) -> list[str]:
    table = folder / "scale.md"
    compile_table.compile_table(str(table), ("configs/albert_base.py",), slices, results=str(folder / "r.jsonl"))
    return [line for line in table.read_text().splitlines() if line.startswith("| albert_base")]


def test_the_table_has_a_line_a_slice_and_keeps_the_text_around_it(pretended, tmp_path):
    marks = f"{compile_table.BEGIN}\nold\n{compile_table.END}"
    (tmp_path / "scale.md").write_text(f"# Before\n\n{marks}\n\nAfter.\n")
    lines = make_table(tmp_path, "v5e-16", "v4-512", "2 x v5e-16")
    text = (tmp_path / "scale.md").read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert [line.split(" | ")[1] for line in lines] == [
        "v5e-16 = `v5e:4x4`",
        "v4-512 = `v4:4x8x8`",
        "2 x v5e-16 = 2 x `v5e:4x4`",
    ]
    assert [line.split(" | ")[2:5] for line in lines] == [
        ["16", "20", "320"],
        ["256", "20", "5,120"],
        ["32", "20", "640"],
    ]


def test_an_interrupted_table_goes_on_where_it_stopped(pretended, tmp_path):
    first = make_table(tmp_path, "v5e-16")
    compiled = len(pretended)
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    assert make_table(tmp_path, "v5e-16") == first
    assert len(pretended) == compiled
    assert len(make_table(tmp_path, "v5e-16", "v5e-256")) == 2
    compiled = len(pretended)
    assert len(make_table(tmp_path, "v5e-16", "v5e-256")) == 2
    assert len(pretended) == compiled


def test_the_search_is_made_once_a_generation(pretended, tmp_path):
    make_table(tmp_path, "v5e-16", "v5e-256")
    assert [rows for name, rows in pretended if name == "v5e-256"] == [20]


def test_what_gives_another_program_has_another_line(pretended, tmp_path):
    """A config that splits parameters, or has no pairs, does not get the figures of one that does not."""
    place = topology.parse("v5e-16")
    others = [
        dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, zero1=True)),
        dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, fsdp=4)),
        dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, pair_task="none")),
    ]
    keys = {compile_table.result_key(config, place) for config in (CONFIG, *others)}
    assert len(keys) == 4
