"""BERT base, uncased.

    bertlite tokenizer TEXT --out tok --vocab-size 30522 --kind wordpiece
    bertlite corpus TEXT --tokenizer tok --out corpus --length 128
    bertlite pretrain bert_base --workdir runs/bert_base --data.corpus corpus --data.tokenizer tok

110,106,428 parameters, 71 GFLOP a row of 128 in training, 1.8e+19 FLOP in all.
The BERT release's optimiser: AdamW without bias correction, 1e-4, 10,000 steps of warm-up. It trains 90 % of the
steps at length 128 and goes on at 512 with --init. Not measured here.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Mask, Optim, Pretrain, Run, presets

config = Pretrain(
    model=replace(presets.BERT_BASE, vocab_size=0),  # As many pieces as the tokenizer has.
    data=Data(length=128, batch_rows=256, pair_task="nsp"),
    mask=Mask(scheme="word"),
    optim=Optim(name="adamw", learning_rate=1e-4, warmup_steps=10_000, micro_batches=1),
    run=Run(steps=1_000_000, checkpoint_every=5000, keep_every=100_000),
)
