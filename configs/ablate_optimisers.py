"""AdamW, LAMB and Muon for shared layers and for layers of their own, before and after INT8.

    bertlite quickstart
    bertlite ablate ablate_optimisers --workdir runs/optimisers --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer
    python tools/score_grid.py runs/optimisers --bits 8

The second command scores each run in the integers of its 8-bit file too. The rate of AdamW is the quickstart's, that of
Muon the one of deep_shared_fast; that of LAMB moves kernels by about as much a step, and nobody has tuned it.

Each run has 365,418 to 1,356,778 parameters; the 18 runs take 2.1e+14 FLOP in all, about 57 minutes
on two cores that reach 30 GFLOP/s each.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Objective, Optim, Pretrain, Run

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=128,
        num_layers=6,
        num_heads=4,
        ffn_size=512,
        max_positions=0,  # As many as a row has tokens.
        init_std=0.088,
        position_init="sinusoidal",
        residual_scale="depth",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", rate=0.3),
    objective=Objective(causal_every=4),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(steps=1400, log_every=50, eval_every=250, eval_rows=0, checkpoint_every=1000, spike_factor=0),
)
config = Grid(
    base=base,
    variants={
        "lamb": {"optim.name": "lamb", "optim.learning_rate": 1e-2},
        "muon": {"optim.name": "muon", "optim.learning_rate": 4e-3},
    },
    axes={"model.share": ("all", "none")},
    seeds=(0, 1, 2),
)
