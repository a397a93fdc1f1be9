"""ALBERT tiny (4 layers of 312), for a laptop or one GPU.

    bertlite tokenizer TEXT --out tok --vocab-size 30000
    bertlite corpus TEXT --tokenizer tok --out corpus --length 128
    bertlite pretrain albert_tiny --workdir runs/albert_tiny --data.corpus corpus --data.tokenizer tok

5,287,082 parameters, 5 GFLOP a row of 128 in training, 2.9e+16 FLOP in all.
What attention and feed-forward add is multiplied by 1/4, so that the shared layer learns from the first steps
(docs/learning.md, "Deep shared encoders"); --model.residual-scale published takes the branches of the paper.
Two CPU cores with AMX train on about 5,400 real tokens a second, 16 rows a step (docs/scale.md, "Measuring scaling").
No run of full length has been made with this code; the plateau of docs/quickstart.md comes first.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Optim, Pretrain, Run, presets

config = Pretrain(
    # vocab_size: as many pieces as the tokenizer has.
    model=replace(presets.ALBERT_TINY, vocab_size=0, residual_scale="depth"),
    data=Data(length=128, batch_rows=64),
    optim=Optim(name="adamw", learning_rate=1e-3, warmup_steps=1000, bias_correction=True),
    run=Run(steps=100000, checkpoint_every=1000, eval_every=2000),
)
