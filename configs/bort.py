"""Bort's shape, trained with masked LM alone (distil_bort has a teacher; the search is a job of its own).

    bertlite tokenizer TEXT --out tok --vocab-size 50265 --kind bpe --cased
    bertlite corpus TEXT --tokenizer tok --out corpus --length 512
    bertlite pretrain bort --workdir runs/bort --data.corpus corpus --data.tokenizer tok

76,208,217 parameters, 111 GFLOP a row of 512 in training, 1.1e+19 FLOP in all.
Not measured here.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Mask, Optim, Pretrain, Run, presets

config = Pretrain(
    model=replace(presets.BORT, vocab_size=0),  # As many pieces as the tokenizer has.
    data=Data(length=512, batch_rows=1024, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(name="adamw", learning_rate=1e-4, warmup_steps=4000, micro_batches=8, bias_correction=True),
    run=Run(steps=100000, checkpoint_every=1000, keep_every=10_000),
)
