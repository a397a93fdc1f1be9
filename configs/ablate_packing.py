"""Windows that share a row: kept apart, read as one text, or each in a row of its own.

    bertlite quickstart
    bertlite ablate ablate_packing --workdir runs/packing --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

The quickstart's windows of up to 32 tokens, in rows of 128 tokens. `joined` lets the tokens of a row see all its
windows, as plain concatenation does. All are evaluated on single windows, as a model is used later; a step has 1,024
slots in each.

Each run has 377,706 parameters; the 9 runs take 2.1e+14 FLOP in all, about 60 minutes
on two cores that reach 30 GFLOP/s each.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Optim, Pretrain, Run

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=128,
        num_layers=6,
        num_heads=4,
        ffn_size=512,
        max_positions=128,
        init_std=0.088,
        position_init="sinusoidal",
        residual_scale="depth",
    ),
    data=Data(length=128, batch_rows=8),
    mask=Mask(scheme="token", rate=0.3),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(steps=2800, log_every=50, eval_every=250, eval_rows=0, checkpoint_every=1000, spike_factor=0),
)
config = Grid(
    base=base,
    variants={
        "joined": {"data.isolate": False},
        "one_window_a_row": {"data.pack": False, "data.length": 32, "data.batch_rows": 32},
    },
    seeds=(0, 1, 2),
)
