"""What each part of deep_shared_fast gives: the recipe without one part at a time, in equal time.

    bertlite quickstart
    bertlite ablate ablate_fast --workdir runs/parts --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

Each member trains for five minutes, on whatever machine it is; the pace of each is measured first. The table is in
docs/learning.md, "Time to a loss". Each run has 365,418 parameters.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Objective, Optim, Pretrain, Run

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
        residual_scale="depth",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", first_rate=0.3, rate=0.15),
    objective=Objective(causal_every=4),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(
        steps=2000,
        depths=((3, 400), (6, 800)),
        log_every=50,
        eval_every=50,
        eval_rows=256,
        checkpoint_every=1000,
        spike_factor=0,
    ),
)
config = Grid(
    base=base,
    variants={
        "published_branches": {"model.residual_scale": "published"},
        "adamw": {"optim.name": "adamw", "optim.learning_rate": 2e-3},
        "one_depth": {"run.depths": ()},
        "no_causal_steps": {"objective.causal_every": 0},
        "mask_15": {"mask.first_rate": 0.0},
        "batch_ramp": {"run.batches": ((8, 300), (16, 800))},
        "one_window_a_row": {"data.pack": False},
    },
    seeds=(0,),
    seconds=300.0,
)
