"""A few updates by an optimiser, of parameters named as the model names them."""

import jax
import numpy as np
import optax

from bertlite_jax.config.pretrain import Optim
from bertlite_jax.train.optim import make_optimizer


def constant(rate, **fields) -> Optim:
    return Optim(learning_rate=rate, schedule="linear", warmup_steps=0, end_fraction=1.0, **fields)


def one_step(optim, params, gradients):
    return run_steps(make_optimizer(optim, 100, 32, params), params, [gradients])


def run_steps(optimiser, params, gradients):
    @jax.jit
    def step(params, state, gradient):
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(optimiser.init)(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params


def several_steps(optimiser, params, seed=1, steps=5):
    rng = np.random.default_rng(seed)
    gradients = [jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params) for _ in range(steps)]
    return run_steps(optimiser, params, gradients)


def contract_parameters(layers=3, vocab=11, embed=4, hidden=6, ffn=8):
    """Every parameter of the pretraining model by its name, layers stacked on axis 0."""
    rng = np.random.default_rng(0)

    def array(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def dense(*shape):
        return {"kernel": array(*shape), "bias": array(*shape[:-2], shape[-1])}

    def norm(*shape):
        return {"scale": array(*shape), "bias": array(*shape)}

    names = ("query", "key", "value", "output")
    return {
        "embeddings": {
            "word": {"embedding": array(vocab, embed)},
            "position": {"embedding": array(16, embed)},
            "token_type": {"embedding": array(2, embed)},
            "norm": norm(embed),
        },
        "projection": dense(embed, hidden),
        "layers": {
            "attention": {name: dense(layers, hidden, hidden) for name in names},
            "ffn": {"up": dense(layers, hidden, ffn), "down": dense(layers, ffn, hidden)},
            "norms": {"attention": norm(layers, hidden), "ffn": norm(layers, hidden)},
        },
        "final_norm": norm(hidden),
        "pooler": dense(hidden, hidden),
        "mlm": {"dense": dense(hidden, embed), "norm": norm(embed), "bias": array(vocab)},
        "pair": dense(hidden, 2),
    }
