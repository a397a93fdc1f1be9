"""ALBERT xlarge, version 2 (no dropout), by the paper's recipe. Version 1: presets.ALBERT_XLARGE_V1.

    bertlite tokenizer TEXT --out tok --vocab-size 30000
    bertlite corpus TEXT --tokenizer tok --out corpus --length 512
    bertlite pretrain albert_xlarge --workdir runs/albert_xlarge --data.corpus corpus --data.tokenizer tok

59,021,490 parameters, 3869 GFLOP a row of 512 in training, 2.0e+21 FLOP in all.
Paper, 125,000 steps on 16 GB of text: Table 2 has what fine-tuning makes of it; Table 5's 0.54 masked-LM accuracy and
0.865 SOP accuracy are of base.
No run of this length has been made with this code; on a smaller batch set --data.batch-rows, and the rate follows:
add --optim.reference-batch 4096.
The residual branches are the paper's, too; add --model.residual-scale depth where the loss stays on the plateau
(docs/learning.md, "Deep shared encoders").
"""

from dataclasses import replace

from bertlite_jax.config import Data, Optim, Pretrain, Run, presets

config = Pretrain(
    model=replace(presets.ALBERT_XLARGE, vocab_size=0),  # As many pieces as the tokenizer has.
    data=Data(length=512, batch_rows=4096),
    optim=Optim(name="lamb", learning_rate=1.76e-3, schedule="reference", warmup_steps=3125, micro_batches=32),
    run=Run(steps=125_000, checkpoint_every=1000, keep_every=25_000),
)
