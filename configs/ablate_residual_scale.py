"""Two layers beside twelve and twenty-four shared ones with the residual scale 1/N, and twelve as published.

    bertlite quickstart
    bertlite ablate ablate_residual_scale --workdir runs/residual --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

The recipe is that of the quickstart, with three seeds each; the curves of two and of twelve layers are in
docs/learning.md, "Deep shared encoders". Each run has 365,418 parameters; 24 layers take nine times as long as two. The
twelve runs take 7.8e+14 FLOP in all.
`--dry-run` shows what they cost on your machine; `--run.steps 1500` is enough to see when each leaves the plateau.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Optim, Pretrain, Run

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=128,
        num_layers=2,
        num_heads=4,
        ffn_size=512,
        max_positions=0,  # As many as a row has tokens.
        init_std=0.088,
        position_init="sinusoidal",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", rate=0.3),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.1, bias_correction=True),
    run=Run(steps=4000, log_every=50, eval_every=50, eval_rows=256, checkpoint_every=500, spike_factor=0),
)
config = Grid(
    base=base,
    variants={
        "twelve": {"model.num_layers": 12, "model.residual_scale": "depth"},
        "twenty_four": {"model.num_layers": 24, "model.residual_scale": "depth"},
        "twelve_published": {"model.num_layers": 12},
    },
    seeds=(0, 1, 2),
)
