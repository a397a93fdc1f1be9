"""Bort's space of 300 shapes at an eighth of its widths: which shape is best in parameters, latency and error?

    bertlite tokenizer TEXT --out tok --vocab-size 2000
    bertlite corpus TEXT --tokenizer tok --out corpus --length 32
    bertlite search search_bort --workdir runs/search --data.corpus corpus --data.tokenizer tok --dry-run
    bertlite search search_bort --workdir runs/search --data.corpus corpus --data.tokenizer tok
    bertlite pretrain runs/search/winner.json --workdir runs/winner

Of the 300 shapes, 90 differ in more than their heads, and these are trained. `--dry-run` says how long that takes on
your machine; docs/search.md has what it took on ours, how to search for a latency, and what is claimed.
"""

from bertlite_jax.config import CostModel, Data, Mask, Method, Model, Optim, Run, Search, Shape, Space, Surrogate

config = Search(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        max_positions=0,  # As many as a row has tokens.
        token_types=0,  # As in Bort: no segments, no pairs, no pooler.
        pooler=False,
        pair_classes=0,
        activation="gelu_erf",
        norm_epsilon=1e-5,
        init_std=0.088,  # The published 0.02 belongs to eight times the width.
        position_init="sinusoidal",
    ),
    data=Data(length=32, batch_rows=16, pair_task="none"),
    mask=Mask(scheme="token", rate=0.3),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=400, end_fraction=0.1, bias_correction=True),
    run=Run(steps=4000, log_every=50, eval_every=500, eval_rows=256, checkpoint_every=500),
    space=Space(
        num_layers=(2, 4, 6, 8, 10, 12),
        num_heads=(4, 8, 12, 16),
        hidden_size=(64, 96, 128),
        ffn_size=(32, 64, 96, 128, 384),
    ),
    maximum=Shape(num_layers=24, num_heads=16, hidden_size=128, ffn_size=512),
    surrogate=Surrogate(steps=200, learning_rates=(2e-3,), seeds=(0, 1)),
    cost=CostModel(length=32, published_divisor=8),
    # All 90 shapes are tried; random search and halving may spend the compute of 30.
    method=Method(head_size=16, others=("random", "halving", "ranking"), trials=30),
)
