"""Answers with the model in this folder, offline. Needs only onnxruntime and tokenizers.

python predict.py "a text" ["its pair"]      python predict.py --file inputs.jsonl      python predict.py --check
README.md shows inputs and answers. --float32 uses the weights before rounding to 8 bits.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
import onnxruntime
import tokenizers

from bertlite_jax.convert.bundled.classify import answer

HERE = pathlib.Path(__file__).resolve().parent
ABOUT = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


def load(weights="int8"):
    """The tokenizer, and a session with the weights `int8` or `float32`."""
    tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))
    tokenizer.enable_truncation(ABOUT["max_length"])
    tokenizer.enable_padding(pad_id=ABOUT["pad_id"], pad_token=ABOUT["pad_token"])
    return tokenizer, onnxruntime.InferenceSession(HERE / ABOUT["models"][weights], providers=["CPUExecutionProvider"])


def predict(model, item):
    """The answer to {"text": ...}, {"text": ..., "pair": ...} or {"text": ..., "choices": [...]}."""
    tokenizer, session = model
    pairs = [(item["text"], other) for other in item.get("choices", [item.get("pair")])]
    rows = tokenizer.encode_batch([pair if pair[1] is not None else pair[0] for pair in pairs])
    feed = {i.name: np.array([getattr(row, FIELDS[i.name]) for row in rows]) for i in session.get_inputs()}
    if "choices" in item:  # [choices, length] becomes [1, choices, length].
        feed = {name: ids[None] for name, ids in feed.items()}
    outputs = {o.name: value[0] for o, value in zip(session.get_outputs(), session.run(None, feed), strict=True)}
    return answer(item, rows[0], outputs, tokenizer, ABOUT)


def check():
    """A line for each file that is missing or damaged, and for each stored answer that has changed."""
    wrong = [f"{name} is missing" for name in ABOUT["sha256"] if not (HERE / name).is_file()]
    sums = {} if wrong else {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in ABOUT["sha256"]}
    wrong += [f"{name} is damaged" for name in sums if sums[name] != ABOUT["sha256"][name]]
    for weights in ABOUT["models"] if not wrong else ():
        model = load(weights)
        for case in ABOUT["check"]:
            now, then = predict(model, case["input"]), case[weights]
            if now["answer"] != then["answer"] or abs(now["score"] - then["score"]) > 0.02 * max(1, abs(then["score"])):
                wrong.append(f"{weights} weights: {case['input']} gives {now} and gave {then} before")
    return wrong


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--float32"]
    if words == ["--check"]:
        sys.exit("\n".join(check()) or print("All files and answers are unchanged."))
    inputs = [dict(zip(("text", "pair"), words, strict=False))]
    if words[:1] == ["--file"] and len(words) == 2:
        lines = pathlib.Path(words[1]).read_text(encoding="utf-8-sig").split("\n")
        inputs = [json.loads(line) for line in lines if line.strip()]
    elif len(words) not in (1, 2) or words[0].startswith("--"):
        sys.exit(__doc__)
    loaded = load("float32" if "--float32" in sys.argv else "int8")
    for one in inputs:
        print(json.dumps(predict(loaded, one), ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
