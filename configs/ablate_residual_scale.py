"""Twelve shared layers as published and with the residual scale 1/12, beside two layers, with three seeds each.

    make quickstart
    bertlite ablate configs/ablate_residual_scale.py --workdir runs/residual --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

The recipe is that of the quickstart, cut short after 1,500 steps: long enough to see which members leave the plateau,
and when. Each run has 365,418 parameters; add `--dry-run` to see what all of them cost on your machine. The table is
explained in docs/learning.md, "Ablations".
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Optim, Pretrain, Run

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=128,
        num_layers=12,
        num_heads=4,
        ffn_size=512,
        max_positions=0,  # As many as a row has tokens.
        init_std=0.088,
        position_init="sinusoidal",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", rate=0.3),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.1, bias_correction=True),
    run=Run(steps=1500, log_every=50, eval_every=50, eval_rows=256, checkpoint_every=500, spike_factor=0),
)
config = Grid(
    base=base,
    variants={
        "divided_by_depth": {"model.residual_scale": "depth"},
        "two_layers": {"model.num_layers": 2},
    },
    seeds=(0, 1, 2),
)
