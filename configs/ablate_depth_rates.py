"""Whether the best learning rate depends on the depth of a shared encoder whose additions are multiplied by 1/N.

    bertlite quickstart
    bertlite ablate ablate_depth_rates --workdir runs/rates --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

Two to twenty-four layers at rates a factor of √2 apart, 800 steps each. One step in four is causal, with which runs
leave the plateau early enough for that. The table is in docs/learning.md, "Deep shared encoders".

Each run has 365,418 parameters; the twenty runs take 2.1e+14 FLOP in all.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Objective, Optim, Pretrain, Run

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
        residual_scale="depth",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", rate=0.3),
    objective=Objective(causal_every=4),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(steps=800, log_every=50, eval_every=100, eval_rows=256, checkpoint_every=400, spike_factor=0),
)
config = Grid(
    base=base,
    axes={"optim.learning_rate": (2e-3, 1.4e-3, 2.8e-3, 4e-3), "model.num_layers": (2, 4, 8, 12, 24)},
    seeds=(0,),
)
