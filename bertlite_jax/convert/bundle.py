"""One folder that answers on any machine: tokenizer, float32 and 8-bit ONNX, labels, a script and its self-check."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import bertlite_jax
from bertlite_jax.config.int8 import Bits
from bertlite_jax.convert import bundled
from bertlite_jax.convert.bundled import ABOUT
from bertlite_jax.convert.huggingface.tokenizer import build_fast_tokenizer, special_pieces, special_token_ids
from bertlite_jax.convert.int8 import checks
from bertlite_jax.convert.onnx import integer
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import save_onnx
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights, answer_length, sentence_length
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.host.whole_files import new_folder, sha256_of, write_json

MODELS = {"float32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}
_CODE = pathlib.Path(__file__).parent / "bundled"
_READ_THEIR_OWN = {"tag": ("words", "tag"), "choose": ("choose",), "span": ("span",), "fill_mask": ("fill_mask",)}
"""Files of `bundled/` for the kinds of model that do not read `texts`."""
_IMPORTS_OF_WORDS = {
    "import hashlib\n": "import functools\nimport hashlib\n",
    "import sys\n": "import re\nimport sys\nimport unicodedata\n",
}
"""What splitting a text into words needs beside the imports of predict.py."""
_PACKAGES = ("onnx", "onnxruntime", "tokenizers", "numpy")

_SENTENCES = (
    "The lamp on the desk had been lit since five o'clock.",
    "It was the worst dinner that I have ever been asked to pay for.",
    "Nobody in the village could remember such a warm and generous summer.",
    "The committee meets on Monday, 3 March, in the old town hall of Geneva.",
    "He read the letter twice, put it away, and said nothing at all.",
    "What a wonderful story, and how well she told it!",
)
_NOTES = {
    "tag": "Plain text is split into words as the training data were (`split_words`); `words` are taken as they are.",
    "fill_mask": "A mask behind the cut is refused.",
    "other": "A special piece written in a text, such as `[SEP]`, is text like any other.",
}
_CHOICES = ("It was dark outside.", "Somebody had paid for it.", "The hall was empty.")


def write_bundle(
    weights: Weights,
    out: os.PathLike[str] | str,
    *,
    bits: Bits = 7,
    leave_out: tuple[str, ...] = (),
    examples: Sequence[dict[str, Any]] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the bundle and runs its own check once.

    Args:
      weights: with a tokenizer. A task model gives its task's answers, a pretrained model fills masks, an encoder
        without a head gives sentence vectors.
      out: folder. It can be moved anywhere and needs no network.
      bits: as for `quantized.quantize`.
      leave_out: as for `quantized.quantize`.
      examples: inputs, as `predict.py --file` reads them, whose answers are stored for `predict.py --check`; if empty,
        some English sentences.
      overwrite: replace an earlier bundle.

    Returns:
      {"kind", "bytes": {file: size}, "agreement": share of the examples that get the same answer from both models}.

    Raises:
      UserError: no tokenizer, or `out` is in the way.
    """
    if weights.tokenizer is None:
        raise UserError("convert: bundle: these weights have no tokenizer; a bundle reads text, so it needs one")
    output = "sentence" if weights.head is None and "mlm" not in weights.params else "auto"
    kind = _kind(weights, output)
    checks.warn_of_bits(bits)
    checks.warn_of_training(weights, bits, as_in_training=not leave_out)
    about = _about(weights, kind)
    _check_examples(examples, kind, about)
    container, exact = quantized.quantize(weights, bits=bits, leave_out=leave_out), quantized.as_trained(weights)
    with new_folder(out, overwrite, ABOUT) as folder:
        (folder / "onnx").mkdir()
        save_onnx(build_onnx(exact, float32(exact), output), folder / MODELS["float32"])
        save_onnx(build_onnx(exact, integer.per_token(container), output), folder / MODELS["int8"])
        build_fast_tokenizer(weights.tokenizer).save(str(folder / "tokenizer.json"))
        (folder / "predict.py").write_text(script(kind), encoding="utf-8")
        about["sha256"] = {
            name: sha256_of(folder / name) for name in ("tokenizer.json", "predict.py", *MODELS.values())
        }
        about["check"] = []
        write_json(folder / ABOUT, about)
        about["check"] = _answers(_script_of(folder), list(examples) or _examples(weights, kind))
        write_json(folder / ABOUT, about)
        wrong = _script_of(folder)["check"]()
        if wrong:
            raise RuntimeError(f"bundle: its own check failed: {wrong}")
        agreement = _agreement(about["check"], _script_of(folder)["alike"])
        (folder / "README.md").write_text(_readme(about, agreement, folder), encoding="utf-8")
        sizes = {name: (folder / name).stat().st_size for name in (*about["sha256"], ABOUT, "README.md")}
    return {"kind": kind, "bytes": sizes, "agreement": agreement}


def read_examples(path: os.PathLike[str] | str) -> list[dict[str, Any]]:
    """Inputs from a JSONL file. Raises UserError, with the line, for one that predict.py could not read."""
    examples = []
    try:
        lines = pathlib.Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"convert: bundle: {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        item = json_files.parse_object(line, f"{path}:{number}", "convert: bundle")
        if not isinstance(item.get("text", item.get("words")), str | list):
            raise UserError(f'convert: bundle: {path}:{number}: an example is an object such as {{"text": "..."}}')
        examples.append(item)
    if not examples:
        raise UserError(f"convert: bundle: {path} has no example")
    return examples


def _check_examples(examples: Sequence[dict[str, Any]], kind: str, about: dict[str, Any]) -> None:
    """Raises UserError for an example that a model of this kind cannot answer."""
    for number, item in enumerate(examples, 1):
        if kind != "choose" and "choices" in item:
            raise UserError(f'convert: bundle: example {number}: cannot have "choices" with a {kind} model')
        try:
            _reader(kind)(item, about)
        except ValueError as error:
            raise UserError(f"convert: bundle: example {number}: {error}") from error


def _reader(kind: str) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    """The function of predict.py that reads an input of one kind of model, and raises ValueError for all others."""
    return importlib.import_module(f"{bundled.__name__}.{_READ_THEIR_OWN.get(kind, ('texts',))[-1]}").read


def script(kind: str) -> str:
    """predict.py for one kind of answer: the common part, with the functions of that kind instead of their imports."""
    files = _READ_THEIR_OWN.get(kind, ("texts", kind))
    parts = "\n\n\n".join(map(_without_imports, files))
    common = (_CODE / "predict.py").read_text(encoding="utf-8")
    for plain, more in _IMPORTS_OF_WORDS.items() if kind == "tag" else ():
        common = common.replace(plain, more, 1)
    before, _, after = re.split(r"((?:from bertlite_jax\..*\n)+\n)", common, maxsplit=1)
    settings, mark, functions = after.partition("\n\ndef about(")
    return f"{before.rstrip()}\n\n{settings.rstrip()}\n\n\n{parts}\n{mark}{functions}"


def _without_imports(name: str) -> str:
    """A file of `bundled/` without its imports and its docstring, which is for readers of our source."""
    text = re.sub(r"^import .*\n|^from .*\n", "", (_CODE / f"{name}.py").read_text(encoding="utf-8"), flags=re.M)
    return text.partition('"""\n')[2].strip()


def _kind(weights: Weights, output: str) -> str:
    """Name of the file in `bundled/` with the function `answer`."""
    if weights.head is None:
        return "embed" if output == "sentence" else "fill_mask"
    if weights.head.kind != "classify":
        return weights.head.kind
    return {"single_label": "classify", "multi_label": "labels", "regression": "regress"}[weights.head.problem]


def _about(weights: Weights, kind: str) -> dict[str, Any]:
    assert weights.tokenizer is not None
    ids, pieces = special_token_ids(weights.tokenizer), special_pieces(weights.tokenizer)
    return {
        "kind": kind,
        "labels": list(weights.head.labels) if weights.head else [],
        "splits": list(weights.head.splits) if weights.head else [],
        "max_length": _most_pieces(weights, kind),
        "pad_id": ids["pad"],
        "pad_token": pieces["pad"],
        "mask_id": ids["mask"],
        "mask_token": pieces["mask"],
        "models": MODELS,
        "made": datetime.date.today().isoformat(),
        "versions": {"bertlite_jax": bertlite_jax.__version__, "python": sys.version.split()[0]}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "model": dataclasses.asdict(weights.model.exported),
    }


def _most_pieces(weights: Weights, kind: str) -> int:
    """How many pieces of an input are read: as many as `bertlite predict` and `bertlite embed` read."""
    if kind == "embed":
        return sentence_length(weights)
    # Of questions, `predict` reads any length in windows, and this a single one: as much of it as the model can.
    return weights.model.max_positions if kind in ("span", "fill_mask") else answer_length(weights)


def _examples(weights: Weights, kind: str) -> list[dict[str, Any]]:
    if kind == "choose":
        return [{"text": text, "choices": list(_CHOICES)} for text in _SENTENCES]
    if kind == "span":
        context = " ".join(_SENTENCES)
        return [
            {"text": text, "pair": context} for text in ("When was the lamp lit?", "Where does the committee meet?")
        ]
    if kind == "fill_mask":
        assert weights.tokenizer is not None
        mask = special_pieces(weights.tokenizer)["mask"]
        return [{"text": re.sub(r"(\S+)([.!])$", rf"{mask}\2", text)} for text in _SENTENCES]
    pairs = [{"text": a, "pair": b} for a, b in itertools.pairwise(_SENTENCES)]
    return [{"text": text} for text in _SENTENCES] + (pairs if weights.model.token_types > 1 and kind != "tag" else [])


def _script_of(folder: pathlib.Path) -> dict[str, Any]:
    """Runs the folder's predict.py as a module, without writing bytecode, and returns its names."""
    return runpy.run_path(str(folder / "predict.py"), run_name="predict")


def _answers(predict: dict[str, Any], inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    models = {name: predict["load"](name) for name in MODELS}
    return [{"input": one} | {name: predict["predict"](model, one) for name, model in models.items()} for one in inputs]


def _agreement(cases: list[dict[str, Any]], alike: Callable[[Any, Any], bool]) -> float:
    return sum(alike(case["int8"]["answer"], case["float32"]["answer"]) for case in cases) / len(cases)


def _readme(about: dict[str, Any], agreement: float, folder: pathlib.Path) -> str:
    samples = [{"input": case["input"], "answer": case["int8"]} for case in about["check"][:2]]
    lines = "\n".join(_short(json.dumps(one, ensure_ascii=False)) for one in samples)
    files = "\n".join(
        f"| `{name}` | {(folder / name).stat().st_size / 1e6:.2f} | `{sha}` |" for name, sha in about["sha256"].items()
    )
    labels = f"; labels: {', '.join(about['labels'])}" if about["labels"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"""# A text encoder that answers offline

```
pip install onnxruntime tokenizers
python predict.py "a text"                 one answer; a second text is the pair of the first
python predict.py --file inputs.jsonl      one answer for each line
python predict.py --check                  checks that all files and answers are unchanged
```

From Python: `import predict; model = predict.load(); predict.predict(model, {{"text": "a text"}})`. Two bundles in one
program need two names for that module. `load("float32")` uses the weights before rounding to 8 bits. On the stored
examples both models give the same answer in {agreement:.0%} of the cases. Inputs and answers, one for each line:

```
{lines}
```

At most {about["max_length"]} pieces are read. Longer input is cut: its answer has `"cut": true`, and a line on standard
error counts such inputs. {_NOTES.get(about["kind"], _NOTES["other"])} In pieces, `▁` marks the start of a word.
Kind of answer: {about["kind"]}{labels}.

| file | MB | SHA-256 |
|---|---|---|
{files}

Made on {about["made"]} with {versions}.
"""


def _short(line: str) -> str:
    return line if len(line) < 400 else f"{line[:400]} ..."
