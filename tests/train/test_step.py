"""One update is the same on any number of devices and micro-batches, and reduces its gradient once."""

import dataclasses
import functools
import math
import re

import jax
import numpy as np
import pytest
import thorough

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run, predictions_per_row
from bertlite_jax.data.rows.batches import empty_batch
from bertlite_jax.errors import UserError
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.report.cost import hlo_cost
from bertlite_jax.train import optim, sharding, state
from bertlite_jax.train.optimizers.muon import is_muon
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.step import make_step

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
ROWS, LENGTH, WINDOWS = 32, 24, 3
CONFIG = Pretrain(
    model=Model(
        vocab_size=97,
        embed_size=16,
        hidden_size=32,
        num_layers=3,
        num_heads=2,
        ffn_size=64,
        max_positions=LENGTH,
        hidden_dropout=0.1,
        attention_dropout=0.1,
        init_std=0.1,
    ),
    data=Data(length=LENGTH, batch_rows=ROWS, windows_per_row=WINDOWS),
    optim=Optim(learning_rate=0.01, warmup_steps=2),
    run=Run(steps=20),
)


def batch_at(step: int) -> dict[str, np.ndarray]:
    """Rows with one to three windows of random lengths, so that mask counts and pairs differ from row to row."""
    rng = np.random.default_rng(step)
    batch = empty_batch(ROWS, LENGTH, WINDOWS)
    batch["rows"][:] = np.arange(ROWS)
    batch["word_starts"][:] = 1
    for row in range(ROWS):
        start = 0
        for window in range(rng.integers(1, WINDOWS + 1)):
            n = int(rng.integers(6, 9))
            here = slice(start, start + n)
            batch["tokens"][row, here] = [2, *rng.integers(5, 97, n - 4), 3, *rng.integers(5, 97, 1), 3]
            batch["segments"][row, here] = window + 1
            batch["positions"][row, here] = np.arange(n)
            batch["token_types"][row, here] = [*[0] * (n - 2), 1, 1]
            batch["cls"][row, window] = start
            batch["pair_labels"][row, window] = rng.integers(2)
            batch["pair_weights"][row, window] = rng.random() < 0.7
            start += n
    return batch


@functools.cache
def compiled(config: Pretrain, devices: int):
    """The step, and what makes the state that it begins with."""
    mesh = sharding.make_mesh(devices, config.run.fsdp, config.run.tensor)
    model = PretrainingModel(config.model)
    ids = np.zeros((1, 8), np.int32)

    def init(key):
        return model.init(key, ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]

    shapes = jax.eval_shape(init, jax.random.key(0))
    whole = functools.partial(jax.lax.with_sharding_constraint, shardings=sharding.replicated(mesh))
    optimizer = optim.make_optimizer(config.optim, config.run.steps, ROWS, shapes, whole)
    layout = sharding.layout(shapes, mesh, config.run.zero1)
    fresh = functools.partial(state.init_state, init, optimizer, 0, layout)
    step = make_step(
        objective.make_prepare(config, SPECIAL),
        objective.make_loss(model.apply, config),
        optimizer,
        optim.schedule(config.optim, config.run.steps, ROWS),
        layout,
        config.optim.micro_batches,
        seed=3,
        unroll=config.model.unroll,
    )
    return step.lower(state.shapes_of(layout, optimizer), sharding.put_batch(batch_at(0), mesh)).compile(), fresh, mesh


def make(config: Pretrain, devices: int):
    """The compiled step, a state of its own, and the mesh."""
    step, fresh, mesh = compiled(config, devices)
    return step, fresh(), mesh


def with_micro_batches(count: int, **model) -> Pretrain:
    return dataclasses.replace(
        CONFIG,
        optim=dataclasses.replace(CONFIG.optim, micro_batches=count),
        model=dataclasses.replace(CONFIG.model, **model),
    )


def losses(config: Pretrain, devices: int) -> list[float]:
    step, held, mesh = make(config, devices)
    found = []
    for number in range(20):
        held, metrics = step(held, sharding.put_batch(batch_at(number), mesh))
        found.append(float(metrics["loss"]))
    return found


@pytest.fixture(scope="module")
def on_one_device() -> list[float]:
    return losses(CONFIG, 1)


@pytest.mark.thorough
def test_devices_do_not_matter_to_layers_with_a_residual_factor(on_one_device):
    scaled = with_micro_batches(1, residual_scale="depth")
    found = losses(scaled, 1)
    np.testing.assert_allclose(losses(scaled, 8), found, atol=1e-5)
    assert np.abs(np.array(found) - on_one_device).max() > 1e-3, "the factor changes the model"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "split", [pytest.param({}, marks=pytest.mark.slow), {"fsdp": 4, "tensor": 2}], ids=["whole", "split"]
)
def test_devices_do_not_matter_to_layers_with_something_of_their_own(split: dict):
    """LAMB with dropout: the vectors and the additions start at zero and learn."""
    free = {"own_norms": True, "depth_vector": True, "low_rank": 4, "own_last": 1}
    config = with_micro_batches(1, vocab_multiple=8, **free)
    found = losses(config, 1)
    there = dataclasses.replace(config, run=dataclasses.replace(config.run, **split))
    np.testing.assert_allclose(losses(there, 8), found, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("devices", "micro_batches"), [pytest.param(2, 1, marks=pytest.mark.slow), (8, 1), (1, 4), (2, 4)]
)
def test_devices_and_micro_batches_do_not_matter(on_one_device, devices: int, micro_batches: int):
    """Twenty steps with dropout and unequal mask counts: the same losses."""
    np.testing.assert_allclose(losses(with_micro_batches(micro_batches), devices), on_one_device, atol=1e-5)


def test_it_learns():
    """The same batch twenty times: the loss falls, so the losses above agree on something."""
    step, held, mesh = make(CONFIG, 1)
    found = []
    for _ in range(20):
        held, metrics = step(held, sharding.put_batch(batch_at(0), mesh))
        found.append(float(metrics["loss"]))
    assert found[-1] < found[0] - 0.3


def test_loss_divides_by_the_global_weights():
    """The reported loss is the sum of the two means over the whole batch, not a mean of per-device means."""
    step, held, mesh = make(CONFIG, 8)
    _, metrics = step(held, sharding.put_batch(batch_at(0), mesh))
    m = {name: float(value) for name, value in metrics.items()}
    assert m["loss"] == pytest.approx(m["mlm_sum"] / m["mlm_weight"] + m["pair_sum"] / m["pair_weight"], rel=1e-5)
    assert m["pair_weight"] == batch_at(0)["pair_weights"].sum()
    assert m["real_tokens"] == (batch_at(0)["segments"] > 0).sum()


def all_reduces(hlo: str) -> list[tuple[str, int]]:
    """(computation it stands in, bytes reduced) of every all-reduce in a compiled module."""
    found, computation = [], ""
    for line in hlo.splitlines():
        if line and not line[0].isspace() and line.rstrip().endswith("{"):
            computation = line.split()[1 if line.startswith("ENTRY") else 0]
            computation = "ENTRY" if line.startswith("ENTRY") else computation
        match = re.search(r"= (.*?) all-reduce(?:-start)?\(", line)
        if match:
            sizes = [
                np.prod([int(n) for n in shape.split(",") if n] or [1])
                for shape in re.findall(r"f32\[([\d,]*)\]", match[1])
            ]
            found.append((computation, 4 * int(sum(sizes))))
    return found


@pytest.mark.parametrize("micro_batches", thorough.but([1], [1, 4]))
@pytest.mark.parametrize("unroll", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_cross_devices_once_a_step(micro_batches: int, unroll: bool):
    """All all-reduces stand at the top of the step, in no loop, and carry each parameter once, beside a few scalars."""
    step, held, _ = make(with_micro_batches(micro_batches, unroll=unroll), 8)
    found = all_reduces(step.as_text() or "")
    parameters = 4 * state.count_parameters(held.params)
    assert {computation for computation, _ in found} == {"ENTRY"}
    assert parameters <= sum(size for _, size in found) <= parameters + 4 * 32


# --- What lies where -------------------------------------------------------------------------------------------------

MODES = {
    "zero1": {"zero1": True},
    "fsdp": {"fsdp": 8},
    "tensor": {"tensor": 2},
    "fsdp and zero1": {"fsdp": 2, "zero1": True},
    "tensor and zero1": {"tensor": 2, "zero1": True},
    "fsdp and tensor": {"fsdp": 4, "tensor": 2},
    "all three": {"fsdp": 2, "tensor": 2, "zero1": True},
}
FURTHER = ("fsdp and zero1", "tensor and zero1", "fsdp and tensor")
"""Pairs, of which the other modes notice most faults."""


def in_mode(mode: str, micro_batches: int = 1, **model) -> Pretrain:
    """Of a model whose vocabulary is padded from 97 pieces to 104 rows, so that it divides."""
    config = with_micro_batches(micro_batches, vocab_multiple=8, **model)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **MODES[mode]))


@pytest.mark.parametrize(
    ("fsdp", "tensor", "axes", "parts"),
    [(1, 1, "data 8", 8), (8, 1, "fsdp 8", 8), (2, 2, "data 2, fsdp 2, model 2", 4), (1, 8, "data 1, model 8", 1)],
)
def test_the_mesh_has_the_axes_that_are_used_and_one_for_rows(fsdp: int, tensor: int, axes: str, parts: int):
    """Devices stay in order, so that a group along `model` lies in one process."""
    mesh = sharding.make_mesh(0, fsdp, tensor)
    assert (sharding.describe(mesh), sharding.row_parts(mesh)) == (axes, parts)
    assert [device.id for device in mesh.devices.flat] == list(range(8))


def test_a_mesh_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"config: run.fsdp = 3 times run.tensor = 1 must divide 8 devices"):
        sharding.make_mesh(0, 3, 1)
    with pytest.raises(UserError, match=r"config: run.tensor = 3 must divide the 8 devices of a process"):
        sharding.make_mesh(0, 1, 3)


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """A device of a slice that is not here."""

    id: int
    process_index: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"


@pytest.mark.parametrize(("fsdp", "tensor"), [(1, 1), (2, 1), (8, 1), (1, 2), (2, 2), (1, 4)])
def test_slices_lie_one_after_the_other_along_data(fsdp: int, tensor: int):
    """Only `data` spans both slices, and a group along `model` lies in one process.

    There are two slices of two processes with four devices each, given in another order.
    """
    devices = [Elsewhere(number, number // 4, number // 8) for number in range(16)]
    mesh = sharding.mesh_over(devices[::2] + devices[1::2], fsdp, tensor)
    placed = mesh.devices.reshape(-1, fsdp, tensor)
    assert len(placed) == 16 // (fsdp * tensor)
    assert sorted(device.id for device in placed.flat) == list(range(16))
    assert [group[0, 0].slice_index for group in placed] == sorted(group[0, 0].slice_index for group in placed)
    assert all(len({device.slice_index for device in group.flat}) == 1 for group in placed)
    assert all(len({device.process_index for device in along}) == 1 for group in placed for along in group)
    with pytest.raises(UserError, match=r"config: run.tensor = 8 must divide the 4 devices of a process"):
        sharding.mesh_over(devices, 1, 8)


@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=pytest.mark.slow) for mode in FURTHER]
    + thorough.but(["all three"], [mode for mode in MODES if mode not in FURTHER]),
)
def test_the_losses_of_every_mode_are_those_of_one_device(on_one_device, mode: str):
    """Twenty steps of LAMB with dropout, whose trust ratios and global norm need sums over all parts."""
    np.testing.assert_allclose(losses(in_mode(mode), 8), on_one_device, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "share"), [("fsdp", "none"), ("tensor", "none"), ("all three", "ffn")])
def test_modes_agree_with_layers_of_their_own_and_micro_batches(mode: str, share: str):
    whole = losses(with_micro_batches(2, vocab_multiple=8, share=share), 1)
    np.testing.assert_allclose(losses(in_mode(mode, 2, share=share), 8), whole, atol=1e-5)


NORMUON = Optim(name="normuon", learning_rate=0.01, warmup_steps=2, bias_correction=True, update_clip=1.0)


def with_normuon(config: Pretrain) -> Pretrain:
    """NorMuon, and StableAdamW beside it."""
    return dataclasses.replace(config, optim=dataclasses.replace(NORMUON, micro_batches=config.optim.micro_batches))


@pytest.fixture(scope="module")
def of_normuon() -> list[float]:
    return losses(with_normuon(CONFIG), 1)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["zero1", "fsdp", "all three"])
def test_split_matrices_are_orthogonalised_as_whole_ones(of_normuon, mode: str):
    """Twenty steps of NorMuon, whose products need whole kernels, and of clipped updates: the losses of one device."""
    np.testing.assert_allclose(losses(with_normuon(in_mode(mode)), 8), of_normuon, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["zero1", "fsdp"])
def test_the_iteration_of_muon_adds_one_gathering_of_each_kernel(mode: str):
    """Its fifteen products of a kernel move nothing; the parameters come back as with LAMB."""
    step, held, _ = make(with_normuon(in_mode(mode)), 8)
    gathered = [c for c in hlo_cost.cost(step.as_text() or "").collectives if c.kind == "all-gather"]
    large = [(path, leaf.size) for path, leaf in jax.tree_util.tree_leaves_with_path(held.params) if leaf.size >= 1024]
    kernels = [size for path, size in large if is_muon(path)]
    assert sum(collective.bytes for collective in gathered) == 4 * (sum(size for _, size in large) + sum(kernels))


def bytes_held(mode: str) -> tuple[int, int]:
    """By one device: of parameters, and of what the optimiser remembers but for its count of updates."""
    held = make(in_mode(mode), 8)[1]
    counts = [leaf for leaf in jax.tree.leaves(held.opt) if leaf.ndim == 0]
    return sharding.bytes_a_device(held.params), sharding.bytes_a_device(held.opt) - 4 * len(counts)


@pytest.mark.thorough
def test_what_a_device_holds_falls_as_the_layout_says():
    """With 8 devices an eighth of every array of at least 1,024 numbers; the others are whole."""
    leaves = jax.tree.leaves(make(in_mode("zero1"), 8)[1].params)
    whole = 4 * sum(leaf.size for leaf in leaves)
    eighth = 4 * sum(leaf.size // 8 if leaf.size >= 1024 else leaf.size for leaf in leaves)
    assert eighth < 0.35 * whole
    assert bytes_held("zero1") == (whole, 2 * eighth)
    assert bytes_held("fsdp") == (eighth, 2 * eighth)


def test_tensor_splits_low_rank_pairs_like_the_kernels_that_they_are_added_to():
    """The rank is never split, so that a device has its part of A B without hearing from others."""
    shapes = {
        "up_in": {"kernel": (3, 32, 4)},
        "up_out": {"addition": (3, 4, 64)},
        "down_in": {"kernel": (3, 64, 4)},
        "down_out": {"addition": (3, 4, 32)},
    }
    leaves = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, np.float32), shapes, is_leaf=lambda s: isinstance(s, tuple))
    specs = sharding.layout({"layers": {"low_rank": leaves}}, sharding.make_mesh(0, 1, 2)).params["layers"]["low_rank"]
    found = {name: tuple(spec) for part in specs for name, spec in [(part, *specs[part].values())]}
    split = {"up_out": (None, None, "model"), "down_in": (None, "model", None)}
    assert found == split | dict.fromkeys(("up_in", "down_out"), (None, None, None))


def test_tensor_splits_heads_feed_forward_layer_and_vocabulary():
    leaves = jax.tree_util.tree_leaves_with_path(make(in_mode("tensor"), 8)[1].params)
    halves = {"embeddings/word/embedding", "mlm/bias"}
    outputs = ("ffn/up", "attention/query", "attention/key", "attention/value")
    halves |= {f"layers/{layer}/{leaf}" for layer in outputs for leaf in ("kernel", "bias")}
    halves |= {"layers/ffn/down/kernel", "layers/attention/output/kernel"}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        part = math.prod(leaf.sharding.shard_shape(leaf.shape))
        assert part * (2 if name in halves else 1) == leaf.size, name


@pytest.mark.thorough
def test_of_tensor_only_sums_cross_devices():
    """Nothing that is split is ever put together: no head, no table, no kernel."""
    step, _, _ = make(in_mode("tensor"), 8)
    found = hlo_cost.cost(step.as_text() or "").collectives
    assert {collective.kind for collective in found} == {"all-reduce"}
    # Two sums of [rows, L, D] a layer forward; backward one of the feed-forward layer and three of q, k and v.
    of_layers = CONFIG.model.num_layers * 6 * (ROWS // 4) * LENGTH * CONFIG.model.hidden_size * 4
    assert sum(collective.bytes for collective in found if collective.group == 2) >= of_layers


@pytest.mark.thorough
@pytest.mark.parametrize("micro_batches", [1, 4])
@pytest.mark.parametrize("mode", ["zero1", "fsdp"])
def test_split_gradients_and_parameters_cross_devices_once(mode: str, micro_batches: int):
    """Every large gradient is added and split in one go, and comes back once as parameters; nothing is in a loop."""
    step, held, _ = make(in_mode(mode, micro_batches), 8)
    large = 4 * sum(leaf.size for leaf in jax.tree.leaves(held.params) if leaf.size >= 1024)
    small = 4 * state.count_parameters(held.params) - large
    moved = {kind: 0 for kind in ("all-gather", "reduce-scatter", "all-reduce")}
    for collective in hlo_cost.cost(step.as_text() or "").collectives:
        moved[collective.kind] += collective.bytes
    assert moved["all-gather"] == large
    assert moved["reduce-scatter"] == large // 8
    assert small <= moved["all-reduce"] <= small + 4 * 64


@pytest.mark.thorough
def test_state_is_made_alike_on_any_mesh():
    one, eight = make(CONFIG, 1)[1], make(CONFIG, 8)[1]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one.params), jax.device_get(eight.params))


def test_slots_for_predictions_follow_the_config():
    """K = ceil(0.15 x 24) + 3."""
    assert predictions_per_row(CONFIG) == 4 + 3
