"""The loss of a recipe with `learn` against the parts that it is made of, example by example, and over devices."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.model import Head
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.model.domain_encoder import PrivateEncoder, narrowed
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import optim, schedules, sharding, state
from bertlite_jax.train.few_labels import domains
from bertlite_jax.train.few_labels.loss import (
    GUESSES_KEY,
    MIXTURE_KEY,
    UNLABELLED,
    Private,
    logits_of,
    make_loss,
    make_prepare,
)
from bertlite_jax.train.step import make_step
from bertlite_jax.train.tasks import task_loss

MODEL = tiny.model(vocab_size=40, share="none", init_std=0.3, pair_classes=0)
HEAD = Head(labels=("a", "b", "c"), dropout=0.0)
TASK = TaskModel(MODEL, HEAD)
ROWS, LENGTH = 8, 12
RNG = np.random.default_rng(0)


def rows_of(sizes: tuple[int, ...], rows: int = ROWS) -> dict[str, np.ndarray]:
    """Rows that all hold windows of these sizes."""
    shape = (rows, LENGTH)
    batch: dict[str, np.ndarray] = {
        name: np.zeros(shape, np.int32) for name in ("segments", "positions", "token_types")
    }
    batch["tokens"] = RNG.integers(5, 40, shape).astype(np.int32)
    batch["rows"] = np.arange(rows, dtype=np.int32)
    starts = np.cumsum([0, *sizes])
    for number, (start, stop) in enumerate(itertools.pairwise(starts)):
        batch["segments"][:, start:stop] = number + 1
        batch["positions"][:, start:stop] = np.arange(stop - start)
    batch["cls"] = np.tile(starts[:-1], (rows, 1)).astype(np.int32)
    batch["labels"] = RNG.integers(0, 3, (rows, len(sizes))).astype(np.int32)
    batch["weights"] = np.ones((rows, len(sizes)), np.float32)
    return batch


PACKED, SINGLE = rows_of((5, 4)), rows_of((7,))
PACKED["weights"][-1, 1] = 0
SINGLE["segments"][1, 4:] = 0


@pytest.fixture(scope="module")
def params():
    ids = np.zeros((1, 8), np.int32)
    return jax.jit(lambda key: TASK.init(key, ids, ids, ids, ids, ids[:, :1])["params"])(jax.random.key(1))


def on_device(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array) for name, array in batch.items()}


def value(params, batch: dict, learn: Learn, slots=(0, 0), private=None, key: int = 0):
    """The loss on one device, and its parts."""
    loss = make_loss(TASK.apply, HEAD, MODEL, learn, slots, private)
    _, weights = make_prepare()(jax.random.key(0), on_device(batch), jnp.int32(0))
    found, sums = jax.jit(loss)(params, batch, weights, jax.random.key(key))
    return float(found), jax.device_get(sums)


def wide_logits(params, batch: dict) -> np.ndarray:
    return np.asarray(jax.jit(lambda rows: task_loss.logits_of(TASK.apply, params, rows))(batch), np.float64)


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def at(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(p, labels[..., None], -1)[..., 0]


def test_nothing_switched_on_is_the_plain_loss_to_the_last_bit(params):
    plain = task_loss.make_loss(TASK.apply, HEAD, MODEL)
    made = make_loss(TASK.apply, HEAD, MODEL, Learn())
    weights = {"weight": np.float32(15)}
    both = [jax.jit(jax.grad(f, has_aux=True))(params, PACKED, weights, jax.random.key(0))[0] for f in (plain, made)]
    jax.tree.map(np.testing.assert_array_equal, *both)


@pytest.mark.parametrize(
    "name", thorough.but(["gce", "focal"], ["gce", "sce", "bootstrap_soft", "bootstrap_hard", "focal"])
)
def test_losses_of_labels_are_means_over_examples(params, name: str):
    from bertlite_jax.train.few_labels import label_noise

    learn = dataclasses.replace(Learn(), loss=name)
    logits, labels = jnp.asarray(wide_logits(params, PACKED)), jnp.asarray(PACKED["labels"])
    wanted = (np.asarray(label_noise.each(learn, logits, labels)) * PACKED["weights"]).sum() / 15
    assert value(params, PACKED, learn)[0] == pytest.approx(wanted, rel=1e-4)


def test_the_peer_loss_takes_away_the_mean_over_shuffled_labels(params):
    """Whatever the draw, sums over all labels differ by which text meets which label: seen through equal texts."""
    same = {**PACKED, "tokens": np.full_like(PACKED["tokens"], 7), "weights": np.ones_like(PACKED["weights"])}
    same["segments"] = np.where(same["segments"] == 1, 1, 0).astype(np.int32)
    same = {name: array[:, :1] if name in ("cls", "labels", "weights") else array for name, array in same.items()}
    plain, _ = value(params, same, Learn(loss="focal", focal_gamma=0.0))
    assert value(params, same, Learn(loss="peer", peer_alpha=0.25))[0] == pytest.approx(0.75 * plain, rel=1e-4)


def test_distillation_shares_the_loss_with_the_labels(params):
    logits = wide_logits(params, PACKED)
    teacher = RNG.normal(size=logits.shape).astype(np.float32)
    t, p = softmax(teacher / 3.0), softmax(logits / 3.0)
    taught = 9 * (t * np.log(t / p)).sum(-1)
    each = 0.6 * -np.log(at(softmax(logits), PACKED["labels"])) + 0.4 * taught
    learn = Learn(teacher="x", teacher_weight=0.4, temperature=3.0)
    wanted = (each * PACKED["weights"]).sum() / 15
    assert value(params, {**PACKED, "teacher": teacher}, learn)[0] == pytest.approx(wanted, rel=1e-4)


def test_fgm_adds_the_loss_at_words_moved_along_their_gradient(params):
    """The gradient by finite differences of one window's embeddings; the whole by its formula."""
    one = {name: jnp.asarray(array[:1]) for name, array in SINGLE.items()}

    def shifted(shift):
        logits, _ = logits_of(TASK.apply, HEAD, params, one, None, shift)
        return -jax.nn.log_softmax(logits)[0, 0, one["labels"][0, 0]]

    loss = jax.jit(shifted)
    slope = np.zeros((1, LENGTH, 8), np.float32)
    for place in np.ndindex(1, 7, 8):
        step = np.zeros_like(slope)
        step[place] = 1e-2
        slope[place] = (loss(step) - loss(-step)) / 2e-2
    wanted = loss(0 * slope) + loss(0.5 * slope / np.linalg.norm(slope))
    assert value(params, one, Learn(fgm=0.5))[0] == pytest.approx(float(wanted), rel=1e-3)


@pytest.mark.parametrize(
    "learn",
    thorough.but([Learn(mix="pooled")], [Learn(mix="pooled"), Learn(mix="hidden"), Learn(mix="hidden", mix_layer=1)]),
)
def test_mixtures_of_equal_texts_are_those_texts(params, learn: Learn):
    """All rows alike in text and label: whoever is mixed with whom, the loss is the plain one."""
    same = {name: np.repeat(array[:1], ROWS, axis=0) for name, array in SINGLE.items()}
    same["rows"] = SINGLE["rows"]
    wanted = -np.log(at(softmax(wide_logits(params, same)), same["labels"])).mean()
    assert value(params, same, learn)[0] == pytest.approx(wanted, rel=1e-4)


def test_pooled_mixtures_by_hand(params):
    """A linear head: the logits of a mixture are the mixture of the logits, so two texts suffice to find the shares."""
    two = {name: array[:2] for name, array in SINGLE.items()}
    two["labels"] = np.array([[0], [1]], np.int32)
    z = wide_logits(params, two)[:, 0]
    found, _ = value(params, two, Learn(mix="pooled", mix_alpha=1.0))
    from bertlite_jax.train.few_labels import mixing

    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), MIXTURE_KEY)
    share = np.asarray(mixing.shares(jax.random.split(key)[1], 1.0, 2))
    wanted = 0
    for i, j in ((0, 1), (1, 0)):
        p = softmax(share[i] * z[i] + (1 - share[i]) * z[j])
        wanted += (-share[i] * np.log(p[i]) - (1 - share[i]) * np.log(p[j])) / 2
    assert found == pytest.approx(wanted, rel=1e-4)


def unlabelled() -> dict[str, np.ndarray]:
    """Each row: a text and its augmentation; the last row holds nothing."""
    more = rows_of((5, 6))
    more["changed"] = np.tile([0, 1], (ROWS, 1)).astype(np.int32)
    more["weights"] = np.tile([1.0, 0.0], (ROWS, 1)).astype(np.float32)
    for name in ("changed", "weights", "segments"):
        more[name][-1] = 0
    return more


def joined(batch: dict, more: dict) -> dict:
    return batch | {UNLABELLED + name: array for name, array in more.items() if name != "labels"}


def test_uda_is_the_divergence_of_each_augmentation_from_its_original(params):
    more = unlabelled()
    z = wide_logits(params, more)[:-1]
    bound = float(np.median(softmax(z[:, 0]).max(-1))) + 1e-4
    learn = Learn(unlabelled="x", consistency=2.0, sharpen=0.5, confidence=bound)
    p, q = softmax(z[:, 1]), softmax(z[:, 0] / 0.5)
    each = (q * np.log(q / p)).sum(-1) * (softmax(z[:, 0]).max(-1) >= bound)
    assert 0 < (each > 0).sum() < 7
    _, sums = value(params, joined(PACKED, more), learn)
    assert float(sums["consistency_loss"]) == pytest.approx(2.0 * each.sum() / 7, rel=1e-4)


@pytest.mark.thorough
def test_mixtext_mixes_any_two_texts_and_their_guessed_labels(params):
    """With a linear head logits of a mixture are mixtures of logits; every text one after the other, in numpy."""
    from bertlite_jax.train.few_labels import mixing

    more = unlabelled()
    learn = Learn(mix="pooled", mix_guessed=3.0, unlabelled="x", sharpen=0.5, mix_alpha=1.0)
    _, sums = value(params, joined(PACKED, more), learn)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), GUESSES_KEY)
    who, much = jax.random.split(key)
    z = np.concatenate([wide_logits(params, PACKED).reshape(-1, 3), wide_logits(params, more).reshape(-1, 3)])
    real = np.array([True] * 15 + [False] + [True] * 14 + [False] * 2)
    partner, share = (
        np.asarray(mixing.partners(who, jnp.asarray(real))),
        np.asarray(mixing.shares(much, 1.0, 32), np.float64),
    )
    labels = [np.eye(3)[label] for label in PACKED["labels"].ravel()]
    for text in range(16, 32, 2):
        q = (softmax(z[text]) + softmax(z[text + 1])) ** 2
        labels += [q / q.sum()] * 2
    total = 0.0
    for text in range(16, 30):
        p = softmax(share[text] * z[text] + (1 - share[text]) * z[partner[text]])
        q = share[text] * labels[text] + (1 - share[text]) * labels[partner[text]]
        total += sum(b * np.log(b / a) for a, b in zip(p, q, strict=True) if b > 0)
    assert float(sums["mixture_loss"]) == pytest.approx(3.0 * total / 14, rel=1e-4)


def test_annealing_withholds_what_is_known(params):
    p = at(softmax(wide_logits(params, PACKED)), PACKED["labels"])
    bound = 1 / 3 + 0.2 * 2 / 3
    wanted = (-np.log(p) * (p <= bound) * PACKED["weights"]).sum() / 15
    learn = Learn(unlabelled="x", consistency=1.0, annealing="linear")
    batch = joined(PACKED, unlabelled()) | {"progress": np.full(ROWS, 0.2, np.float32)}
    assert float(value(params, batch, learn)[1]["label_loss"]) == pytest.approx(wanted, rel=1e-4)


def test_temporal_ensembling_compares_with_the_average_and_reports_predictions(params):
    z = wide_logits(params, PACKED)
    target = RNG.dirichlet(np.ones(3), z.shape[:2]).astype(np.float32)
    slot = np.arange(2 * ROWS, dtype=np.int32).reshape(ROWS, 2)
    batch = PACKED | {"ensemble": target, "ensemble_weight": 0.3 * PACKED["weights"], "slot": slot}
    _, sums = value(params, batch, Learn(temporal=0.3), slots=(15, 0))
    each = ((softmax(z) - target) ** 2).mean(-1)
    assert float(sums["ensemble_loss"]) == pytest.approx(0.3 * (each * PACKED["weights"]).sum() / 15, rel=1e-4)
    np.testing.assert_allclose(sums["predictions"], softmax(z).reshape(-1, 3)[:15], atol=1e-5)  # slot 15 is none


# --- Domains ---------------------------------------------------------------------------------------------------------


def with_domains(params, private_layers: int = 0) -> tuple[dict[str, Any], Private | None]:
    """The parameters with those of two domains, and a domain's encoder where it has layers."""
    added: dict[str, Any] = domains.init(jax.random.key(2), 16, 2, 3)
    apply: Any = None
    if private_layers:
        encoder = PrivateEncoder(narrowed(MODEL, private_layers))
        x, ids = jnp.zeros((1, 8, 16)), np.zeros((1, 8), np.int32)
        draw = jax.vmap(lambda key: encoder.init(key, x, ids, ids[:, :1], None)["params"])
        added["private"] = jax.jit(draw)(jax.random.split(jax.random.key(3), 2))
        added["private_output"] = {"kernel": jax.random.normal(jax.random.key(4), (16, 3))}
        apply = lambda one, *inputs: encoder.apply({"params": one}, *inputs)  # noqa: E731
    return {**params, "domains": added}, apply


DOMAINS = {"domain": np.tile([0, 1], (ROWS, 1)).astype(np.int32), "progress": np.full(ROWS, 0.3, np.float32)}


def test_the_reversal_turns_the_shared_encoders_gradient_and_not_the_classifiers(params):
    """Without labels (weights 0) what remains is the domains' loss: with strength s against a plain gradient."""
    full, _ = with_domains(params)
    batch = {**PACKED, **DOMAINS, "weights": np.zeros_like(PACKED["weights"])}
    loss = make_loss(TASK.apply, HEAD, MODEL, Learn(domains=("x",), domain_weight=0.1))
    batch = on_device(batch)
    _, weights = make_prepare()(jax.random.key(0), batch, jnp.int32(0))
    found = jax.jit(jax.grad(lambda p: loss(p, batch, weights, jax.random.key(0))[0]))(full)

    def plain(p):
        _, pooled = logits_of(TASK.apply, HEAD, p, batch, None)
        assert pooled is not None
        logits = domains.tell_apart(p["domains"], pooled)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["domain"][..., None], -1).mean()

    wanted = jax.jit(jax.grad(plain))(full)
    strength = 0.1 * (2 / (1 + np.exp(-3.0)) - 1)
    np.testing.assert_allclose(found["pooler"]["kernel"], -strength * wanted["pooler"]["kernel"], atol=1e-6)
    np.testing.assert_allclose(found["domains"]["hidden"]["kernel"], wanted["domains"]["hidden"]["kernel"], atol=1e-6)


@pytest.mark.thorough
def test_each_window_reads_its_own_domains_encoder(params):
    """Against each encoder alone on each window alone."""
    full, apply = with_domains(params, private_layers=1)
    assert apply is not None
    batch = on_device({**PACKED, **DOMAINS})
    found, _ = jax.jit(lambda: logits_of(TASK.apply, HEAD, full, batch, None, private=apply))()
    shared = wide_logits(params, PACKED)
    embedded: Any = TASK.apply(
        {"params": params}, *(PACKED[n] for n in ("tokens", "positions", "token_types")), None, method="embed"
    )
    for window, (start, stop) in enumerate(((0, 5), (5, 9))):
        one = jax.tree.map(lambda leaf: leaf[window], full["domains"]["private"])  # noqa: B023
        ids = np.ones((ROWS, stop - start), np.int32)
        own = apply(one, embedded[:, start:stop], ids, 0 * ids[:, :1], None)[:, 0]
        wanted = shared[:, window] + np.asarray(own @ full["domains"]["private_output"]["kernel"])
        np.testing.assert_allclose(found[:, window], wanted, atol=1e-4)


# --- Steps -----------------------------------------------------------------------------------------------------------


def stepped(params, batch: dict, learn: Learn, devices: int, micro_batches: int = 1, slots=(0, 0), private=None):
    mesh = sharding.make_mesh(devices)
    layout = sharding.layout(params, mesh)
    settings = Optim(name="adamw", learning_rate=1e-3, warmup_steps=0, micro_batches=micro_batches)
    optimizer = optim.make_optimizer(settings, 10, 16, params)
    held = state.init_state(lambda key: params, optimizer, 0, layout)
    loss = make_loss(TASK.apply, HEAD, MODEL, learn, slots, private)
    rate = schedules.schedule(settings, 10, 16)
    step = make_step(make_prepare(), loss, optimizer, rate, layout, micro_batches, seed=0)
    found = []
    for _ in range(2):
        held, metrics = step(held, sharding.put_batch(batch, mesh))
        found.append(jax.device_get(metrics))
    return found


@pytest.mark.slow
def test_all_parts_at_once_do_not_depend_on_devices_or_micro_batches(params):
    """All that draws no partners: FGM, teacher, UDA with annealing, ensembles, domains with private encoders."""
    full, private = with_domains(params, private_layers=1)
    learn = dataclasses.replace(
        Learn(loss="gce", fgm=0.5, teacher="x", unlabelled="x", consistency=1.0, confidence=0.3, annealing="log"),
        temporal=0.5,
        domains=("x",),
        private_layers=1,
    )
    teacher, target = RNG.normal(size=(2, ROWS, 2, 3)).astype(np.float32)
    extra = {"teacher": teacher, "ensemble": np.abs(target), "ensemble_weight": PACKED["weights"]}
    slot = {"slot": np.arange(2 * ROWS, dtype=np.int32).reshape(ROWS, 2)}
    batch = joined({**PACKED, **DOMAINS, **extra, **slot}, {**unlabelled(), **extra, **slot})
    arguments = {"slots": (16, 16), "private": private}
    wanted = stepped(full, batch, learn, 1, **arguments)
    found = stepped(full, batch, learn, 4, 2, **arguments)
    for one, other in zip(found, wanted, strict=True):
        for name in ("loss", "grad_norm", "consistency_loss", "domain_loss", "predictions", "teacher_loss"):
            np.testing.assert_allclose(one[name], other[name], rtol=2e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_what_draws_partners_runs_on_devices_too(params):
    for found in stepped(params, SINGLE, Learn(mix="hidden", mix_layer=1), 4, 2):
        assert np.isfinite(found["loss"])
        assert found["grad_norm"] > 0
    guessing = Learn(mix="pooled", mix_guessed=1.0, unlabelled="x")
    for found in stepped(params, joined(PACKED, unlabelled()), guessing, 4, 2):
        assert np.isfinite(found["loss"])
        assert found["mixture_loss"] > 0
