"""The answer of a masked language model."""

import numpy as np


def answer(item, row, outputs, tokenizer, about):
    """{"answer": [the likeliest piece of each mask], "score": the first one's probability, "top": [five of each]}."""
    top = []
    for logits in outputs["logits"][np.array(row.ids) == about["mask_id"]].astype(np.float64):
        odds = np.exp(logits - logits.max())
        top.append([[tokenizer.id_to_token(int(k)), float(odds[k] / odds.sum())] for k in np.argsort(-odds)[:5]])
    return {"answer": [best[0][0] for best in top], "score": top[0][0][1] if top else 0.0, "top": top}
