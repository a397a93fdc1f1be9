"""The smallest run that exercises everything: packed rows, SOP, n-gram masking, LAMB, micro-batches, evaluation.

    bertlite tokenizer TEXT --out tok --vocab-size 500
    bertlite corpus TEXT --tokenizer tok --out corpus --length 64
    bertlite pretrain debug_cpu --workdir runs/debug --data.corpus corpus --data.tokenizer tok

60,694 parameters with the tokenizer's 500 pieces, 2.2e+10 FLOP in all: seconds on two cores.
It learns next to nothing: the loss comes down to the unigram entropy of the text.
"""

from bertlite_jax.config import Data, Model, Optim, Pretrain, Run

config = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=32,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        ffn_size=128,
        max_positions=0,  # As many as a row has tokens.
        hidden_dropout=0.1,
        attention_dropout=0.1,
    ),
    data=Data(length=64, batch_rows=16),
    optim=Optim(learning_rate=2e-3, warmup_steps=5, micro_batches=2),
    run=Run(steps=40, log_every=5, eval_every=20, eval_rows=16, checkpoint_every=10),
)
