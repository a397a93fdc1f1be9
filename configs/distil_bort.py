"""Bort, trained with the predictions of a larger encoder, with the loss that its paper means.

    bertlite tokenizer TEXT --out tok --vocab-size 50265 --kind bpe --cased
    bertlite corpus TEXT --tokenizer tok --out corpus --length 512
    bertlite distill distil_bort --teacher RUN --workdir runs/bort --data.corpus corpus --data.tokenizer tok

76,208,217 parameters, 454 GFLOP a row of 512 in training with a teacher like BERT large, 4.7e+19 FLOP in all.
RUN is a larger run with the same tokenizer: the paper's teacher is RoBERTa-large, which `bertlite` does not read.
Weights 0.5 and 0.1 at T = 2, optimiser and rate are those of the released script. Its loss applies the softmax twice
and means over the vocabulary, so that next to nothing came from its teacher. Its batch is 1,024 tokens; batch and
steps here are those of the recipe bort. Not measured here.
Source: de Wynter and Perry 2020 (arXiv 2010.10499); alexa/bort:run_pretraining_distillation.sh.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Distill, Distillation, Mask, Optim, Run, presets

config = Distill(
    model=replace(presets.BORT, vocab_size=0),  # As many pieces as the tokenizer has.
    data=Data(length=512, batch_rows=1024, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(name="adamw", learning_rate=1e-4, warmup_steps=4000, micro_batches=64, bias_correction=True),
    run=Run(steps=100_000, checkpoint_every=1000, keep_every=10_000),
    distill=Distillation(soft_weight=0.5, mlm_weight=0.1, cosine_weight=0.0, temperature=2.0, start="random"),
)
