"""Answers with the model in this folder, offline. Needs only onnxruntime and tokenizers.

python predict.py "a text" ["its pair"]      python predict.py --file inputs.jsonl      python predict.py --check
README.md shows inputs and answers. --float32 uses the weights before rounding to 8 bits.
"""

import hashlib
import json
import os
import pathlib
import sys

import numpy as np
import onnxruntime
import tokenizers

from bertlite_jax.convert.bundled.classify import answer
from bertlite_jax.convert.bundled.texts import read

HERE = pathlib.Path(__file__).resolve().parent
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
STATED = {"kind": str, "labels": list, "max_length": int, "pad_id": int, "pad_token": str, "mask_id": int}
STATED |= {"mask_token": str, "splits": list, "models": dict, "sha256": dict, "check": list}


def about():
    """What bundle.json states. ValueError if the file is missing or damaged."""
    try:
        stated = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"bundle.json cannot be read: {str(error)[:200]}") from error
    known = stated if isinstance(stated, dict) else {}
    if wrong := [name for name, kind in STATED.items() if not isinstance(known.get(name), kind)]:
        raise ValueError(f"bundle.json is damaged: {', '.join(wrong)} missing or of another type")
    return stated


def load(weights="int8"):
    """The tokenizer, a session with the weights `int8` or `float32`, and what bundle.json states."""
    stated = about()
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))
        place = HERE / stated["models"][weights]
        session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
        tokenizer.enable_truncation(stated["max_length"])
        tokenizer.enable_padding(pad_id=stated["pad_id"], pad_token=stated["pad_token"])
    except Exception as error:  # Both libraries raise errors of their own for files that are missing or damaged.
        raise ValueError(f"the model cannot be loaded, see predict.py --check: {str(error)[:200]}") from error
    # A "[SEP]" in a text is text, as in training. Only a masked language model has to find its mask.
    tokenizer.encode_special_tokens = stated["kind"] != "fill_mask"
    return tokenizer, session, stated


def predict(model, item):
    """The answer to {"text": ...}, {"text": ..., "pair": ...}, {"text": ..., "choices": [...]} or {"words": [...]}.

    If the input has more pieces than the model reads, the answer has "cut": true. ValueError if the input is of another
    form. Half of a surrogate pair, which is no character, is replaced by U+FFFD.
    """
    tokenizer, session, stated = model
    if not isinstance(item, dict):
        raise ValueError('an input is an object such as {"text": "..."}')
    item = whole_characters(item)
    rows = tokenizer.encode_batch(read(item, stated), is_pretokenized=stated["kind"] == "tag")
    feed = {i.name: np.array([getattr(row, FIELDS[i.name]) for row in rows]) for i in session.get_inputs()}
    if stated["kind"] == "choose":  # [choices, length] becomes [1, choices, length].
        feed = {name: ids[None] for name, ids in feed.items()}
    outputs = {o.name: value[0] for o, value in zip(session.get_outputs(), session.run(None, feed), strict=True)}
    cut = {"cut": True} if any(row.overflowing for row in rows) else {}
    return answer(item, rows[0], outputs, tokenizer, stated) | cut


def whole_characters(value):
    """The same JSON value with U+FFFD in place of every half of a surrogate pair."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {name: whole_characters(each) for name, each in value.items()}
    return [whole_characters(each) for each in value] if isinstance(value, list) else value


def alike(now, then):
    """Whether an answer is that of another time, numbers to a fiftieth: CPUs round differently."""
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(alike, now, then))
    if isinstance(now, float) and isinstance(then, (int, float)):
        return abs(now - then) <= 0.02 * max(1, abs(then))
    return now == then


def check():
    """A line for each file that is missing or damaged, and for each stored answer that has changed."""
    stated = about()
    sums = stated["sha256"]
    wrong = [f"{name} is missing" for name in sums if not (HERE / name).is_file()]
    found = {} if wrong else {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in sums}
    wrong += [f"{name} is damaged" for name in found if found[name] != sums[name]]
    for weights in stated["models"] if not wrong else ():
        model = load(weights)
        for number, case in enumerate(stated["check"], 1):
            if not isinstance(case, dict) or not all(isinstance(case.get(name), dict) for name in ("input", weights)):
                wrong.append(f"bundle.json is damaged: example {number} of its check")
                continue
            now, then = predict(model, case["input"]), case[weights]
            if not all(alike(now[name], then.get(name)) for name in ("answer", "score")):
                wrong.append(f"{weights} weights: {case['input']} gives {now} and gave {then} before")
    return wrong


def inputs_in(path):
    """(place, input) of each line of a JSONL file. ValueError names the line that cannot be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; only opening it is the user's mistake.
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            place = f"{path}:{number}: "
            if line.strip():
                try:
                    yield place, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"{place}not JSON: {str(error)[:200]}; one object a line is expected") from error


def misused(words):
    """What is wrong with words that are to be a text, or a text and its pair; empty if nothing is."""
    option = next((word for word in words if word.startswith("--") and len(word.split()) == 1), "")
    if option in ("--file", "--check", "--help"):
        return "--file takes the name of one file" if option == "--file" else f"{option} stands alone"
    if option:
        return f"unknown option {option}"
    return "" if len(words) in (1, 2) else f"{len(words)} texts; one is expected, or two that are a pair"


def main(words):
    """Runs the command line; ValueError for what the user can mend."""
    weights = "float32" if "--float32" in words else "int8"
    words = [word for word in words if word != "--float32"]
    if words in (["--help"], ["-h"]):
        print(__doc__)
        return
    if words == ["--check"]:
        sys.exit("\n".join(check()) or print("All files and answers are unchanged."))
    from_file = words[:1] == ["--file"] and len(words) == 2
    if problem := "" if from_file else misused(words):
        sys.exit(f"predict.py: {problem}\n{__doc__}")
    for name in words if not from_file else ():
        if os.path.isfile(name):
            print(f"predict.py: {name} is answered as a text; --file reads the file of this name", file=sys.stderr)
    # Bytes that the locale cannot decode are text in UTF-8 all the same.
    texts = [os.fsencode(word).decode("utf-8", "replace") for word in words]
    model, count, cut, broken = load(weights), 0, 0, 0
    inputs = inputs_in(words[1]) if from_file else [("", dict(zip(("text", "pair"), texts, strict=False)))]
    for place, item in inputs:
        try:
            found = predict(model, item)
        except ValueError as error:
            raise ValueError(f"{place}{error}") from error
        print(json.dumps(found, ensure_ascii=(sys.stdout.encoding or "").lower() != "utf-8"))
        count, cut, broken = count + 1, cut + ("cut" in found), broken + (whole_characters(item) != item)
    if cut:
        print(f"predict.py: {cut} of {count} inputs cut to {model[2]['max_length']} pieces", file=sys.stderr)
    if broken:
        print(f"predict.py: {broken} inputs with half of a surrogate pair, now U+FFFD", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as problem:
        sys.exit(f"predict.py: {problem}")
    except BrokenPipeError:  # The reader of our output, `head` for one, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
