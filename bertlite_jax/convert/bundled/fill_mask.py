"""What a masked language model reads and answers."""

import numpy as np


def read(item, about):
    """[text]; ValueError if there is no mask in it."""
    text, mask = item.get("text"), about["mask_token"]
    if not isinstance(text, str) or item.get("pair") is not None:
        raise ValueError(f'an input of this model is {{"text": "... {mask} ..."}}')
    if mask not in text:
        raise ValueError(f"there is no {mask} in the text; write it where a word is missing")
    return [text]


def answer(item, row, outputs, tokenizer, about):
    """{"answer": [the likeliest piece of each mask], "score": the first one's probability, "top": [five of each]}."""
    masks = np.array(row.ids) == about["mask_id"]
    if behind := item["text"].count(about["mask_token"]) - int(masks.sum()):
        raise ValueError(f"{behind} {about['mask_token']} behind the {about['max_length']} pieces that the model reads")
    top = []
    for logits in outputs["logits"][masks].astype(np.float64):
        odds = np.exp(logits - logits.max())
        top.append([[tokenizer.id_to_token(int(k)), float(odds[k] / odds.sum())] for k in np.argsort(-odds)[:5]])
    return {"answer": [best[0][0] for best in top], "score": top[0][0][1], "top": top}
