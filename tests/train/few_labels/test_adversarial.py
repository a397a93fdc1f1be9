"""The fast gradient method against a gradient taken by finite differences, window by window."""

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.train.few_labels import adversarial

RNG = np.random.default_rng(0)
SEGMENTS = np.array([[1, 1, 2, 2, 2, 0], [1, 0, 0, 0, 0, 0]], np.int32)
COEFFICIENTS = RNG.normal(size=(2, 6, 3))


def loss(shift):
    """Something bent, whose slope at 0 differs from place to place."""
    return jnp.sum(jnp.sin(shift * COEFFICIENTS + 0.3) * (SEGMENTS > 0)[..., None].astype(np.float32))


def test_each_text_moves_by_the_same_length_along_its_own_gradient():
    found = np.asarray(jax.jit(lambda: adversarial.worst_shift(loss, jnp.array(SEGMENTS), 3, 2, 0.7))())
    slope = np.zeros((2, 6, 3))
    for place in np.ndindex(slope.shape):
        step = np.zeros_like(slope)
        step[place] = 1e-2
        slope[place] = (loss(step) - loss(-step)) / 2e-2
    for row, window in ((0, 1), (0, 2), (1, 1)):
        here = SEGMENTS[row] == window
        wanted = 0.7 * slope[row, here] / np.linalg.norm(slope[row, here])
        np.testing.assert_allclose(found[row, here], wanted, atol=2e-3)
    assert not found[SEGMENTS == 0].any()


def test_a_loss_that_does_not_depend_on_the_text_moves_nothing():
    flat = jax.jit(
        lambda: adversarial.worst_shift(lambda shift: jnp.sum(shift * 0.0), jnp.array(SEGMENTS), 3, 2, 0.7)
    )()
    assert not np.asarray(flat).any()


def test_the_loss_grows_along_the_shift():
    shift = adversarial.worst_shift(loss, jnp.array(SEGMENTS), 3, 2, 0.05)
    assert loss(shift) > loss(jnp.zeros_like(shift)) > loss(-shift)
