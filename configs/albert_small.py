"""ALBERT small (6 layers of 384), for one GPU.

    bertlite tokenizer TEXT --out tok --vocab-size 30000
    bertlite corpus TEXT --tokenizer tok --out corpus --length 128
    bertlite pretrain albert_small --workdir runs/albert_small --data.corpus corpus --data.tokenizer tok

5,958,194 parameters, 9 GFLOP a row of 128 in training, 4.8e+17 FLOP in all.
What attention and feed-forward add is multiplied by 1/6, so that the shared layer learns from the first steps
(docs/learning.md, "Deep shared encoders"); --model.residual-scale published takes the branches of the paper.
Not measured.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Optim, Pretrain, Run, presets

config = Pretrain(
    # vocab_size: as many pieces as the tokenizer has.
    model=replace(presets.ALBERT_SMALL, vocab_size=0, residual_scale="depth"),
    data=Data(length=128, batch_rows=256),
    optim=Optim(name="lamb", learning_rate=1.76e-3, reference_batch=4096, warmup_steps=2000),
    run=Run(steps=200000, checkpoint_every=1000, eval_every=5000),
)
