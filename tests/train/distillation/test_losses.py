"""What is learnt from a teacher: values and gradients of slow loops in float64, and the traps of released code."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough

from bertlite_jax.train.distillation import losses

RNG = np.random.default_rng(19)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]], np.int32)
REAL = (SEGMENTS > 0).astype(np.float32)
B, L = SEGMENTS.shape


def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * RNG.normal(size=shape)).astype(np.float32)


def on_device(loss):
    """The loss for arrays of numpy too."""
    return lambda *args: loss(*jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, args))


def soft_of_logits(z, teacher, weights, temperature):
    """Of one teacher, whose logits are given."""
    return losses.soft_cross_entropy(z, losses.log_probs([teacher], temperature), weights, temperature)


NAMES = (
    "log_probs",
    "top_of",
    "top_cross_entropy",
    "cosine",
    "squared_states",
    "squared_attention",
    "head_scores",
    "pairs_seen",
    "relations",
)
ours = types.SimpleNamespace(
    soft_cross_entropy=on_device(soft_of_logits), **{name: on_device(getattr(losses, name)) for name in NAMES}
)


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max())
    return powers / powers.sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def slope_of(function, x: np.ndarray) -> np.ndarray:
    """Central differences in float64, one number at a time."""
    slope, step = np.zeros(x.shape), 1e-5
    for place in np.ndindex(x.shape):
        up, down = x.astype(np.float64), x.astype(np.float64)
        up[place] += step
        down[place] -= step
        slope[place] = (function(up) - function(down)) / (2 * step)
    return slope


def check(loss, by_hand, student: np.ndarray, weight: float | np.floating) -> None:
    """`loss(student)` is (sum, weight), `by_hand(student)` the sum in float64."""
    total, found_weight = jax.jit(loss)(student)
    assert total.dtype == found_weight.dtype == jnp.float32
    np.testing.assert_allclose(total, by_hand(student.astype(np.float64)), rtol=2e-5)
    assert float(found_weight) == weight
    slope = jax.jit(jax.grad(lambda x: loss(x)[0]))(student)
    np.testing.assert_allclose(slope, slope_of(by_hand, student), atol=2e-5)


# --- Predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_cross_entropy_is_the_divergence_at_each_weighted_place(temperature):
    teacher, weights = draw(2, 3, 6, scale=2), np.array([[1, 1, 0], [1, 0, 0]], np.float32)

    def by_hand(z: np.ndarray) -> float:
        each = {place: (teacher[place] / temperature, z[place] / temperature) for place in np.ndindex(2, 3)}
        return sum(weights[at] * temperature**2 * kl(softmax(t), softmax(s)) for at, (t, s) in each.items())

    check(lambda z: ours.soft_cross_entropy(z, teacher, weights, temperature), by_hand, draw(2, 3, 6, scale=2), 3.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_gradient_is_the_temperature_times_the_difference_of_probabilities(temperature):
    """T^2 KL has the gradient T (softmax(z / T) - softmax(t / T)): reference of Bort, section 2."""
    z, teacher, weights = draw(4, 50, scale=3), draw(4, 50, scale=3), np.ones(4, np.float32)
    slope = jax.grad(lambda z: ours.soft_cross_entropy(z, teacher, weights, temperature)[0])(z)
    wanted = [
        temperature * (softmax(s / temperature) - softmax(t / temperature)) for s, t in zip(z, teacher, strict=True)
    ]
    np.testing.assert_allclose(slope, wanted, atol=2e-6)


def test_logits_in_bfloat16_give_the_float32_loss_of_their_values():
    """And a finite gradient; logits of hundreds, as of a teacher without doubt, too."""
    z, teacher = (jnp.asarray(draw(4, 50, scale=scale), jnp.bfloat16) for scale in (3, 100))
    of = jax.value_and_grad(lambda z: ours.soft_cross_entropy(z, teacher, np.ones(4, np.float32), 2.0)[0])
    value, slope = of(z)
    wanted = ours.soft_cross_entropy(z.astype(jnp.float32), teacher.astype(jnp.float32), np.ones(4, np.float32), 2.0)
    assert (value.dtype, slope.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(value, wanted[0], rtol=1e-6)
    assert np.isfinite(np.asarray(slope, np.float32)).all()


def test_at_a_high_temperature_logits_are_matched():
    """T (softmax(z / T) - softmax(t / T)) goes to (z - t) / V for logits without a mean: Hinton et al. 2015, 2.1."""
    z, teacher = (x - x.mean() for x in (draw(1, 20), draw(1, 20)))
    slope = jax.grad(lambda z: ours.soft_cross_entropy(z, teacher, np.ones(1, np.float32), 1000.0)[0])(z)
    np.testing.assert_allclose(slope, (z - teacher) / 20, atol=3e-4)


def released_bort(z, teacher, temperature):
    """alexa/bort's KLDivLoss: it gets softmax(z / T) where it takes logits, and means over the vocabulary."""
    p = jax.nn.softmax(teacher / temperature)
    twice = jax.nn.log_softmax(jax.nn.softmax(z / temperature))
    return temperature**2 * jnp.sum(jnp.mean(p * (jnp.log(p) - twice), axis=-1))


def test_the_teacher_is_heard_as_it_is_not_where_softmax_is_applied_twice():
    """At random weights the released loss has a billionth of the labels' gradient (0.5 and 0.1 as in its script)."""
    pieces = 50_265
    z, teacher = draw(2, pieces, scale=0.1), draw(2, pieces, scale=3)
    labels = jnp.array([7, 70])
    of_labels = 0.1 * jnp.linalg.norm(jax.grad(lambda z: -jnp.sum(jax.nn.log_softmax(z)[jnp.arange(2), labels]))(z))
    dead = 0.5 * jnp.linalg.norm(jax.grad(lambda z: released_bort(z, teacher, 2.0))(z))
    ones = np.ones(2, np.float32)
    alive = 0.5 * jnp.linalg.norm(jax.grad(lambda z: ours.soft_cross_entropy(z, teacher, ones, 2.0)[0])(z))
    assert dead < 1e-7 * of_labels
    assert alive > 0.05 * of_labels


def test_teachers_are_averaged_in_probability():
    first, second, temperature = draw(3, 7, scale=3), draw(3, 7, scale=3), 2.0
    found = jnp.exp(ours.log_probs([first, second], temperature))
    wanted = [(softmax(a / 2) + softmax(b / 2)) / 2 for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_array_equal(ours.log_probs([first], temperature), jax.nn.log_softmax(first / temperature))


def test_padded_pieces_change_neither_value_nor_gradient():
    z, teacher, weights = draw(2, 5), draw(2, 5), np.ones(2, np.float32)
    wider = [np.pad(x, ((0, 0), (0, 3)), constant_values=-1e9) for x in (z, teacher)]

    def loss(z, t):
        return losses.soft_cross_entropy(z, losses.log_probs([t, t], 2.0), jnp.asarray(weights), 2.0)[0]

    of = jax.value_and_grad(loss)
    (value, slope), (wanted, wanted_slope) = of(*map(jnp.asarray, wider)), of(jnp.asarray(z), jnp.asarray(teacher))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(slope[:, :5], wanted_slope, atol=1e-6)
    assert np.all(np.asarray(slope)[:, 5:] == 0)


# --- The likeliest pieces --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_of_the_likeliest_pieces_takes_all_others_for_one(temperature):
    teacher, weights = draw(2, 3, 9, scale=2), np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    top = ours.top_of(ours.log_probs([teacher], temperature), 4)

    def grouped(logits: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
        p = softmax(logits / temperature)
        named = np.argsort(-teacher[at])[:4]
        return np.append(p[named], 1 - p[named].sum())

    def by_hand(z: np.ndarray) -> float:
        each = {at: kl(grouped(teacher[at].astype(np.float64), at), grouped(z[at], at)) for at in np.ndindex(2, 3)}
        return sum(float(weights[at]) * temperature**2 * each[at] for at in each)

    check(lambda z: ours.top_cross_entropy(z, top, weights, temperature), by_hand, draw(2, 3, 9, scale=2), 3.0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("k", [1, 8, 64])
def test_what_the_likeliest_pieces_leave_out_is_within_its_bound(k, scale):
    """T^2 r (log(n p_k / r) + R / T) for the loss, 2 T r for the sum of the gradient's differences; none at the k."""
    pieces, temperature, one = 400, 2.0, np.ones(1, np.float32)
    z, teacher = draw(1, pieces, scale=scale), draw(1, pieces, scale=scale)
    log_t = ours.log_probs([teacher], temperature)
    top = ours.top_of(log_t, k)
    whole, whole_slope = jax.value_and_grad(lambda z: ours.soft_cross_entropy(z, teacher, one, temperature)[0])(z)
    found, slope = jax.value_and_grad(lambda z: ours.top_cross_entropy(z, top, one, temperature)[0])(z)
    named = np.asarray(top.ids)[0]
    others = np.setdiff1d(np.arange(pieces), named)
    r, p_k = np.exp(np.asarray(log_t)[0, others]).sum(), np.exp(float(top.log_probs[0, -1]))
    np.testing.assert_allclose(np.exp(top.tail), r, rtol=1e-4)
    most = temperature**2 * r * (np.log(len(others) * p_k / r) + np.ptp(z[0, others]) / temperature)
    assert -1e-5 <= whole - found <= most + 1e-5
    differences = np.abs(np.asarray(slope - whole_slope))[0]
    np.testing.assert_allclose(differences[named], 0.0, atol=2e-6)
    assert differences.sum() <= 2 * temperature * r + 1e-5


def test_a_student_that_has_no_doubt_learns_from_the_likeliest_pieces_without_overflow():
    """All others together have a probability that float32 rounds to 0, for the teacher or for the student."""
    sure, unsure = np.zeros((1, 50), np.float32), draw(1, 50)
    sure[0, 3] = 500.0
    for z, teacher in ((sure, unsure), (unsure, sure)):
        top = ours.top_of(ours.log_probs([teacher], 1.0), 4)
        loss = jax.value_and_grad(lambda z, top=top: ours.top_cross_entropy(z, top, np.ones(1, np.float32), 1.0)[0])
        assert all(np.all(np.isfinite(leaf)) for leaf in loss(z))


# --- Hidden states ---------------------------------------------------------------------------------------------------


def test_cosine_is_one_less_the_cosine_at_each_real_token():
    teacher = draw(B, L, 4)

    def by_hand(h: np.ndarray) -> float:
        pairs = {at: (h[at], teacher[at].astype(np.float64)) for at in np.ndindex(B, L) if REAL[at]}
        return sum(float(1 - a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)) for a, b in pairs.values())

    check(lambda h: ours.cosine(h, teacher, REAL), by_hand, draw(B, L, 4), REAL.sum())


def test_a_state_of_length_zero_counts_one_and_has_no_gradient():
    teacher = draw(B, L, 4)
    value, slope = jax.value_and_grad(lambda h: ours.cosine(h, teacher, REAL)[0])(np.zeros((B, L, 4), np.float32))
    assert float(value) == REAL.sum()
    assert not np.any(np.asarray(slope))


def test_squared_states_are_means_over_the_width():
    teacher = draw(B, L, 4)

    def by_hand(h: np.ndarray) -> float:
        return sum(float(np.mean((h[at] - teacher[at]) ** 2)) for at in np.ndindex(B, L) if REAL[at])

    check(lambda h: ours.squared_states(h, teacher, REAL), by_hand, draw(B, L, 4), REAL.sum())


# --- Attention -------------------------------------------------------------------------------------------------------


def in_a_window() -> list[tuple[int, int, int]]:
    places = [(b, i, j) for b in range(B) for i in range(L) for j in range(L)]
    return [(b, i, j) for b, i, j in places if SEGMENTS[b, i] == SEGMENTS[b, j] > 0]


def scores_by_hand(left: np.ndarray, right: np.ndarray, heads: int) -> np.ndarray:
    width = left.shape[-1] // heads
    found = np.zeros((B, heads, L, L))
    for b, h, i, j in np.ndindex(found.shape):
        part = slice(h * width, (h + 1) * width)
        found[b, h, i, j] = left[b, i, part].astype(np.float64) @ right[b, j, part] / np.sqrt(width)
    return found


def test_squared_attention_counts_pairs_of_one_window():
    """3 x 3 + 2 x 2 pairs in the first row, 7 x 7 in the second; the student has another width of head."""
    heads, key = 2, draw(B, L, 6)
    teacher = scores_by_hand(draw(B, L, 4), draw(B, L, 4), heads).astype(np.float32)
    seen = ours.pairs_seen(SEGMENTS)

    def loss(query):
        return ours.squared_attention(ours.head_scores(query, key, heads), teacher, seen)

    def by_hand(query: np.ndarray) -> float:
        found = scores_by_hand(query, key, heads)
        return sum(float(np.mean((found[b, :, i, j] - teacher[b, :, i, j]) ** 2)) for b, i, j in in_a_window())

    check(loss, by_hand, draw(B, L, 6), 9 + 4 + 49)


@pytest.mark.parametrize("heads", thorough.but([2], [1, 2, 4]))
def test_relations_are_the_divergence_of_softmaxes_inside_each_window(heads):
    """Widths 4 and 8 and any number of relation heads."""
    teachers = [draw(B, L, 8), draw(B, L, 4)]

    def rows_of(x: np.ndarray) -> dict[tuple[int, int, int], np.ndarray]:
        scores = scores_by_hand(x, x, heads)
        found = {}
        for b, i, _ in in_a_window():
            others = [j for j in range(L) if SEGMENTS[b, i] == SEGMENTS[b, j]]
            found |= {(b, h, i): softmax(scores[b, h, i, others]) for h in range(heads)}
        return found

    def by_hand(x: np.ndarray) -> float:
        learnt, taught = rows_of(x), [rows_of(teacher) for teacher in teachers]
        return sum(kl((taught[0][at] + taught[1][at]) / 2, learnt[at]) / heads for at in learnt)

    check(lambda x: ours.relations(x, teachers, heads, SEGMENTS), by_hand, draw(B, L, 4), REAL.sum())


def test_equal_teachers_and_students_have_no_loss():
    x, y = draw(B, L, 8), draw(B, L, 8)
    seen, scores = ours.pairs_seen(SEGMENTS), ours.head_scores(x, y, 2)
    found = {
        "soft": ours.soft_cross_entropy(x, x, REAL, 2.0),
        "cosine": ours.cosine(x, x, REAL),
        "states": ours.squared_states(x, x, REAL),
        "attention": ours.squared_attention(scores, scores, seen),
        "relations": ours.relations(x, [x], 2, SEGMENTS),
    }
    for name, (total, _) in found.items():
        np.testing.assert_allclose(total, 0.0, atol=1e-5, err_msg=name)


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def test_pytorch_gives_the_same_values_and_gradients():
    """As DistilBERT's and TinyBERT's code calls them: KLDivLoss, CosineEmbeddingLoss, mse_loss."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    z, teacher, ones = draw(6, 9, scale=2), draw(6, 9, scale=2), np.ones((1, 6), np.float32)

    def value_and_slope(loss):
        return jax.value_and_grad(loss)(z[None])

    def theirs(loss):
        x = torch.tensor(z, requires_grad=True)
        value = loss(x, torch.tensor(teacher))
        value.backward()
        return value.item(), x.grad.numpy()

    cases = {
        "soft": (
            lambda x: ours.soft_cross_entropy(x, teacher[None], ones, 2.0)[0] / 6,
            lambda x, t: F.kl_div(F.log_softmax(x / 2, -1), F.softmax(t / 2, -1), reduction="batchmean") * 4,
        ),
        "cosine": (
            lambda x: ours.cosine(x, teacher[None], ones)[0] / 6,
            lambda x, t: F.cosine_embedding_loss(x, t, torch.ones(6)),
        ),
        "states": (lambda x: ours.squared_states(x, teacher[None], ones)[0] / 6, F.mse_loss),
    }
    for name, (one, other) in cases.items():
        (value, slope), (wanted, wanted_slope) = value_and_slope(one), theirs(other)
        np.testing.assert_allclose(value, wanted, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(slope[0], wanted_slope, atol=1e-6, err_msg=name)
