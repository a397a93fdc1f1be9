"""The English encoder that comes with the package as `reference-en`: five layers of their own, narrow embeddings.

    bertlite tokenizer enwiki_train.txt books_train.txt --out tok --vocab-size 8000
    bertlite corpus enwiki_train.txt books_train.txt --tokenizer tok --out corpus --length 128 \
      --validation-fraction 0.005
    bertlite pretrain reference_en --workdir runs/reference --data.corpus corpus --data.tokenizer tok
    bertlite convert int8 runs/reference reference-en --bits 8 --calibrate enwiki_valid.txt

The text is 7 million words of Wikipedia and 1.4 million of novels; any English text of this size will do. What makes a
short training count is explained in docs/learning.md: Muon, one causal step in three, masks that grow rarer. Layers do
not share, since a file of 6 MB has room for five and a step costs the same.

5,129,664 parameters, 3.6 GFLOP a row of 128 in training, 6.3e+14 FLOP in all.
Validation loss 3.777 (unigram 6.801) after 2 hours and 4 minutes on one core with AMX; BLiMP 59 % and SST-2 83 % with
the 8-bit weights (RESULTS.md).
"""

from bertlite_jax.config import Data, Mask, Model, Objective, Optim, Pretrain, Run

config = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=256,
        num_layers=5,
        num_heads=4,
        ffn_size=1024,
        max_positions=0,  # As many as a row has tokens.
        share="none",
        init_std=0.0625,
        position_init="sinusoidal",
        residual_scale="depth",
        pair_classes=0,
    ),
    data=Data(length=128, batch_rows=32, pair_task="none"),
    mask=Mask(scheme="token", first_rate=0.3, rate=0.15),
    objective=Objective(causal_every=3),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(
        steps=5200, log_every=50, eval_every=650, eval_rows=512, checkpoint_every=650, keep_every=1300, spike_factor=0
    ),
)
