"""What r applications of a shared block are worth: r to the power of phi blocks of their own, or how many?

    bertlite quickstart
    bertlite ablate ablate_sharing_exponent --workdir runs/exponent --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer
    python tools/sharing_exponent.py runs/exponent

Twelve layers in all members, so that all of one width cost the same. They are 12, 6, 4, 3, 2 or 1 blocks, each applied
1, 2, 3, 4, 6 or 12 times in succession, in three widths. Members called `free` let each layer have its own norms, a
vector and a pair of rank 1. The second command fits the exponent, with an interval, by the law of the loss that
`search/sharing_exponent.py` explains. One seed each: the fit averages over the runs.

Each run has 83,898 to 1,461,546 parameters; the 33 runs take 2.1e+14 FLOP in all, about 58 minutes
on two cores that reach 30 GFLOP/s each.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Objective, Optim, Pretrain, Run

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=64,
        hidden_size=64,
        num_layers=12,
        num_heads=4,
        ffn_size=256,
        max_positions=0,  # As many as a row has tokens.
        share_groups=12,  # Twelve blocks that are applied once: width_64_r_1.
        init_std=0.088,
        position_init="sinusoidal",
        residual_scale="depth",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", rate=0.3),
    objective=Objective(causal_every=4),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(steps=1200, log_every=50, eval_every=250, eval_rows=0, checkpoint_every=1000, spike_factor=0),
)
HEAD_SIZE = 16
FREE = {"model.own_norms": True, "model.depth_vector": True, "model.low_rank": 1}


def member(width: int, applications: int) -> dict[str, int]:
    """What makes twelve layers of a width blocks that are applied so many times."""
    sizes = {"embed_size": width, "hidden_size": width, "num_heads": width // HEAD_SIZE, "ffn_size": 4 * width}
    return {f"model.{name}": size for name, size in sizes.items()} | {"model.share_groups": 12 // applications}


config = Grid(
    base=base,
    variants={
        f"width_{width}_r_{r}{'_free' if free else ''}": member(width, r) | free
        for width in (48, 64, 96)
        for r in (1, 2, 3, 4, 6, 12)
        for free in ({}, FREE)
        if (width, r) != (64, 1) and not (r == 1 and free)
    },
    seeds=(0,),
)
