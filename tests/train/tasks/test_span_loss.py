"""The loss of span heads against the formulas of google-research/albert's squad_utils, window by window in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.model import Head
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.data.examples import batches
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import optim, schedules, sharding, state
from bertlite_jax.train.step import make_step
from bertlite_jax.train.tasks import span_loss, task_loss

MODEL = tiny.model(vocab_size=60, num_layers=1, init_std=0.3, pooler=False, pair_classes=0)
HEADS = {name: Head(kind="span", labels=(), span=name, dropout=0.0) for name in ("independent", "conditioned")}
WINDOWS = 12


def split() -> Encoded:
    """Windows of 9 to 14 tokens, of which the first 4 are [CLS], two of the question and [SEP].

    Some have no answer, and two have nothing to learn.
    """
    rng = np.random.default_rng(0)
    sizes = rng.integers(9, 15, WINDOWS)
    starts = rng.integers(4, 7, WINDOWS)
    labels = np.stack([starts, starts + rng.integers(0, 2, WINDOWS)], 1).astype(np.int32)
    labels[::4], labels[[3, 7]] = 0, -1
    types = np.concatenate([np.arange(size) >= 4 for size in sizes]).astype(np.int8)
    return Encoded(
        tokens=rng.integers(5, 60, sizes.sum()).astype(np.int32),
        types=types,
        words=np.zeros(0, np.int32),
        offsets=np.r_[0, np.cumsum(sizes)],
        firsts=np.arange(WINDOWS + 1),
        labels=labels,
        counts={},
    )


def batch_of(head: Head, pack: bool) -> dict[str, np.ndarray]:
    encoded = split()
    shape = batches.plan(encoded, WINDOWS, pack, 0, 1, seed=0)
    shape = shape._replace(rows=-(-shape.rows // 8) * 8)
    dealt = batches.deal(encoded.sizes, WINDOWS, 0, 0)
    return batches.batch_at(encoded, dealt, 0, shape, head, pack, 0).batch


def made(head: Head):
    model = TaskModel(MODEL, head)
    ids = np.zeros((1, 8), np.int32)
    return model, jax.jit(lambda key: model.init(key, ids, ids, ids, ids, ids[:, :1])["params"])(jax.random.key(1))


def cross_entropy(logits, label, p_mask):
    """`log_softmax(logits * (1 - p_mask) - 1e30 * p_mask)` at the label; compute_loss of squad_utils."""
    masked = np.asarray(logits, np.float64) * (1 - p_mask) - 1e30 * p_mask
    return float(np.log(np.sum(np.exp(masked - masked.max()))) + masked.max() - masked[label])


def slow_loss(head: Head, model, params) -> list[float]:
    """Each window alone in a row without padding."""
    encoded, losses = split(), []
    apply = jax.jit(lambda rows, starts: model.apply({"params": params}, *rows, starts=starts))
    for window, (start, end) in enumerate(encoded.labels.tolist()):
        if start < 0:
            continue
        here = slice(encoded.offsets[window], encoded.offsets[window + 1])
        tokens, types = encoded.tokens[here][None], encoded.types[here][None].astype(np.int32)
        places = np.arange(tokens.shape[1])[None]
        rows = (tokens, np.ones_like(tokens), places, types, np.zeros((1, 1), np.int32))
        found = apply(rows, np.array([[start]], np.int32))
        if not head.conditioned:  # BERT's: no mask.
            none = np.zeros(tokens.shape[1])
            pair = [cross_entropy(found[0, :, i], label, none) for i, label in enumerate((start, end))]
            losses.append(sum(pair) / 2)
            continue
        p_mask = 1.0 - types[0]
        p_mask[0], p_mask[-1] = 0, 1  # [CLS] may be chosen, the last [SEP] not.
        total = 0.5 * (cross_entropy(found.start[0], start, p_mask) + cross_entropy(found.end[0], end, p_mask))
        x, z = float(found.null[0, 0]), float(start == 0)
        losses.append(total + 0.5 * (max(x, 0) - x * z + np.log1p(np.exp(-abs(x)))))
    return losses


@pytest.mark.parametrize("name", thorough.but(["conditioned"], HEADS))
def test_the_loss_is_the_mean_over_windows_with_a_target(name):
    head = HEADS[name]
    model, params = made(head)
    wanted = slow_loss(head, model, params)
    batch = {name: jnp.asarray(array) for name, array in batch_of(head, pack=True).items()}
    _, weights = task_loss.make_prepare()(jax.random.key(0), batch, jnp.int32(0))
    assert float(weights["weight"]) == len(wanted) == WINDOWS - 2
    loss = span_loss.make_loss(model.apply, head, MODEL)
    (value, _), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch, weights, jax.random.key(0))
    assert float(value) == pytest.approx(np.mean(wanted), rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_a_window_is_right_where_start_and_end_are():
    """Three windows of four tokens: both right; the end wrong; a tie at the start, which is wrong."""
    start = np.array([[0, 0, 5, 0, 9, 0, 0, 0, 3, 3, 0, 0.0]])
    end = np.array([[0, 0, 0, 5, 0, 0, 7, 0, 0, 0, 0, 6.0]])
    rows = {
        "segments": jnp.repeat(jnp.array([[1, 2, 3]]), 4, axis=1),
        "cls": jnp.array([[0, 4, 8, 0]]),
        "labels": jnp.array([[[2, 3], [0, 1], [1, 3], [0, 0]]]),
        "weights": jnp.array([[1, 1, 1, 0.0]]),
    }
    logits = np.stack([start, end], -1)
    total, right = jax.jit(lambda logits: span_loss.sum_of(HEADS["independent"], logits, rows))(logits)
    assert float(right) == 1.0
    parts = [(start[0, 0:4], 2), (end[0, 0:4], 3), (start[0, 4:8], 0), (end[0, 4:8], 1)]
    parts += [(start[0, 8:], 1), (end[0, 8:], 3)]
    wanted = sum(np.log(np.exp(logits).sum()) - logits[label] for logits, label in parts) / 2
    assert float(total) == pytest.approx(wanted, rel=1e-6)


def trained(head: Head, devices: int, pack: bool, micro_batches: int):
    model, params = made(head)
    mesh = sharding.make_mesh(devices)
    layout = sharding.layout(params, mesh)
    settings = Optim(name="adamw", learning_rate=1e-3, warmup_steps=0, micro_batches=micro_batches)
    optimizer = optim.make_optimizer(settings, 10, 8, params)
    held = state.init_state(lambda key: params, optimizer, 0, layout)
    step = make_step(
        prepare=task_loss.make_prepare(),
        loss=span_loss.make_loss(model.apply, head, MODEL),
        optimizer=optimizer,
        learning_rate=schedules.schedule(settings, 10, 8),
        layout=layout,
        micro_batches=micro_batches,
        seed=0,
    )
    losses = []
    for _ in range(3):
        held, found = step(held, sharding.put_batch(batch_of(head, pack), mesh))
        losses.append(float(found["loss"]))
    return losses


@pytest.mark.thorough
def test_packing_devices_and_micro_batches_do_not_change_the_loss():
    head = HEADS["conditioned"]
    plain = trained(head, 1, False, 1)
    assert plain[2] < plain[0]
    np.testing.assert_allclose(trained(head, 4, True, 2), plain, rtol=1e-4)
