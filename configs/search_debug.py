"""The smallest search that exercises everything: four shapes, a maximum point, two seeds, three methods.

    bertlite tokenizer TEXT --out tok --vocab-size 500
    bertlite corpus TEXT --tokenizer tok --out corpus --length 64
    bertlite search search_debug --workdir runs/search --data.corpus corpus --data.tokenizer tok
    bertlite pretrain runs/search/winner.json --workdir runs/winner

A minute and forty seconds on one core, most of it for compiling. Eight steps say nothing about the shapes.
"""

from bertlite_jax.config import (
    CostModel,
    Data,
    Mask,
    Method,
    Model,
    Optim,
    Run,
    Search,
    Shape,
    Space,
    Surrogate,
)

config = Search(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        max_positions=0,  # As many as a row has tokens.
        pooler=False,
        pair_classes=0,
    ),
    data=Data(length=64, batch_rows=8, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=5, bias_correction=True),
    run=Run(steps=40, log_every=5, eval_every=20, eval_rows=16, checkpoint_every=10),
    space=Space(num_layers=(1, 2), num_heads=(2,), hidden_size=(16, 32), ffn_size=(32,), share=("none",)),
    maximum=Shape(num_layers=3, num_heads=4, hidden_size=48, ffn_size=96),
    surrogate=Surrogate(steps=8, learning_rates=(2e-3,), seeds=(0, 1)),
    cost=CostModel(length=64),
    method=Method(stride=2, others=("random", "ranking")),
)
