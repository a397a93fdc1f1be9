"""Weights to and from other formats.

python tools/convert.py to-hf RUN OUT        a run's newest checkpoint as a folder of transformers
python tools/convert.py from-hf FOLDER OUT   a folder of transformers as one that `--init` starts from
python tools/convert.py from-tf CKPT OUT     a checkpoint of google-research's ALBERT or BERT, likewise
python tools/convert.py onnx RUN OUT         ONNX in float32, for ONNX Runtime and its kin
python tools/convert.py int8 RUN OUT         ONNX in 8-bit integers, measured before it is written
python tools/convert.py ort RUN OUT.ort      the same for phones and ARM servers, under a size budget
python tools/convert.py bundle RUN OUT       one folder that answers offline, with a script and a check of itself
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Annotated, Literal

import tyro

from bertlite_jax.cli.recipe import check_places
from bertlite_jax.convert import adoption, sources, tensorflow
from bertlite_jax.convert.huggingface.folder import WEIGHTS
from bertlite_jax.convert.huggingface.folder import to_hf as write_hf
from bertlite_jax.convert.weights.folder import FILE
from bertlite_jax.errors import UserError


def to_hf(
    run: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    family: Annotated[
        Literal["auto", "albert", "bert", "distilbert"],
        tyro.conf.arg(help="Whose classes hold the model; auto chooses."),
    ] = "auto",
    sentence_transformers: bool = False,
    overwrite: bool = False,
) -> None:
    """Write weights as a folder that transformers' from_pretrained loads.

    Args:
        run: Work directory of a run (its newest checkpoint), or a folder that from-hf, from-tf or int8 wrote.
        out: Folder to write.
        sentence_transformers: Write the encoder alone, as a folder that SentenceTransformer loads.
        overwrite: Replace an earlier export.
    """
    loaded = sources.load(run)
    written = write_hf(
        loaded,
        out,
        family=None if family == "auto" else family,
        sentence_transformers=sentence_transformers,
        overwrite=overwrite,
    )
    print(f"{out}: {written}, {_megabytes(pathlib.Path(out) / WEIGHTS)} of weights")


def from_hf(
    folder: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    tokenizer: str = "auto",
    overwrite: bool = False,
) -> None:
    """Read ALBERT, BERT or DistilBERT weights of transformers and write them as a folder that `--init` takes.

    Args:
        folder: Holds config.json, the weights (safetensors or pytorch_model.bin, whole or in shards) and a tokenizer.
        out: Folder to write.
        tokenizer: A vocabulary file or folder to take instead of the folder's own; none leaves it out.
        overwrite: Replace an earlier result.
    """
    _print_import(out, adoption.import_hf(folder, out, tokenizer=tokenizer, overwrite=overwrite))


def from_tf(
    checkpoint: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    config: str | None = None,
    activation: tensorflow.Activation = "auto",
    tokenizer: str = "auto",
    overwrite: bool = False,
) -> None:
    """Read a checkpoint of google-research's ALBERT or BERT and write it as a folder that `--init` takes.

    Args:
        checkpoint: Its prefix, such as albert_base/model.ckpt-best, one of its files, or their folder.
        out: Folder to write.
        config: albert_config.json or bert_config.json, where it is not beside the checkpoint.
        activation: Form of GELU; auto takes tanh for ALBERT and erf for BERT, as their released weights want it.
        tokenizer: A vocabulary file or folder to take instead of the one beside the checkpoint; none leaves it out.
        overwrite: Replace an earlier result.
    """
    imported = adoption.import_tf(
        checkpoint, out, config, activation=activation, tokenizer=tokenizer, overwrite=overwrite
    )
    _print_import(out, imported)


def _print_import(out: str, imported: adoption.Imported) -> None:
    tokenizer = imported.weights.tokenizer
    pieces = f", a tokenizer of {tokenizer.vocab_size:,} pieces" if tokenizer else ""
    print(f"{out}: {_megabytes(pathlib.Path(out) / FILE)} of weights{pieces}")
    for note in imported.notes:
        print(note)


def onnx(
    run: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    output: Literal["auto", "states", "fill-mask", "sentence"] = "auto",
    overwrite: bool = False,
) -> None:
    """Write weights as an ONNX model in float32, with the tokenizer files and config.json that go with it.

    Args:
        run: Work directory of a run, or a folder that from-hf or from-tf wrote.
        out: Folder to write; the model is its onnx/model.onnx.
        output: What the model gives. auto: the answers of the head, of a pretrained model the pieces behind masks.
        overwrite: Replace an earlier export.
    """
    from bertlite_jax.convert.onnx.folder import MODEL, write

    size = write(sources.load(run), out, overwrite=overwrite, output=output)
    print(f"{out}/{MODEL}: {size / 1e6:.2f} MB")


def ort(
    run: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    text: tuple[str, ...],
    max_mb: float = 15.0,
    min_agreement: float = 0.95,
    bits: Literal[7, 8] = 7,
    leave_out: tuple[str, ...] = (),
    output: Literal["auto", "states", "fill-mask", "sentence"] = "auto",
    overwrite: bool = False,
) -> None:
    """Write an 8-bit file for phones and ARM servers, in ONNX Runtime's own format.

    Args:
        run: Work directory of a run, or a folder that from-hf or from-tf wrote.
        out: File to write, such as model.ort.
        text: Text files or folders, on which its answers are compared with those of float32.
        max_mb: Largest size; what is larger is refused with what would fit.
        min_agreement: Share of the answers that must be those of float32; of vectors, their mean cosine with it.
        bits: As for int8.
        leave_out: As for int8.
        output: As for onnx, and what is compared.
        overwrite: Replace an earlier file.
    """
    from bertlite_jax.convert.int8 import ort_format

    figures = ort_format.write(
        sources.load(run),
        out,
        text,
        max_mb=max_mb,
        min_agreement=min_agreement,
        bits=bits,
        leave_out=leave_out,
        output=output,
        overwrite=overwrite,
    )
    print(ort_format.report(figures))


def bundle(
    run: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    bits: Literal[7, 8] = 7,
    leave_out: tuple[str, ...] = (),
    examples: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write one folder that answers offline with onnxruntime and tokenizers alone: python predict.py "a text".

    Args:
        run: Work directory of a run, or a folder that from-hf or from-tf wrote.
        out: Folder to write. It can be moved anywhere.
        bits: Of the integer weights, as for int8.
        leave_out: Parts that stay float, as for int8.
        examples: JSONL file of inputs whose answers `predict.py --check` compares; some English sentences without it.
        overwrite: Replace an earlier bundle.
    """
    from bertlite_jax.convert.bundle import read_examples, write_bundle

    asked = read_examples(examples) if examples else ()
    made = write_bundle(sources.load(run), out, bits=bits, leave_out=leave_out, examples=asked, overwrite=overwrite)
    for name, size in made["bytes"].items():
        print(f"{out}/{name}: {size / 1e6:.2f} MB")
    print(
        f"both models answer alike on {made['agreement']:.0%} of the stored examples; python {out}/predict.py --check"
    )


def int8(
    run: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    calibrate: tuple[str, ...],
    activations: Literal["token", "tensor", "static"] = "token",
    max_drop: float = 0.005,
    data: str | None = None,
    bits: Literal[7, 8] = 7,
    leave_out: tuple[str, ...] = (),
    auto: int = 0,
    fit: bool = False,
    method: Literal["minmax", "percentile", "entropy"] = "minmax",
    rows: int = 256,
    length: int = 128,
    output: Literal["auto", "states", "fill-mask", "sentence"] = "auto",
    overwrite: bool = False,
) -> None:
    """Write ONNX in float32 and in 8-bit integers, if the 8-bit model is as good on text.

    Args:
        run: Work directory of a run, or a folder that from-hf or from-tf wrote.
        out: Folder to write: onnx/model.onnx, onnx/model_quantized.onnx, their figures, tokenizer, config.json.
        calibrate: Text files or folders, of the kind that the model will meet; half of it calibrates, half measures.
        activations: A scale for each token, which no neighbour or padding changes; for each tensor; or fixed ones.
        max_drop: How far the metric may fall, as a share: 0.005 is half a point. Further, and nothing is written.
        data: Labelled examples of a classifier, for accuracy: lines of {"text", "pair", "label", "id"}, or a .tsv with
            these columns; pair and id may be missing. Without, agreement with float32.
        bits: 7 is right on every CPU, 8 only where products of u8 and s8 do not saturate (VNNI, AMX, ARM).
        leave_out: Parts that stay float, such as pooler layers.ffn.down layers.11
        auto: So many more parts (0 to all but one) stay float, those that lose most when they are measured alone.
        fit: Round weights so that what they give on the text stays the same; takes minutes on a large model.
        method: How static ranges are found.
        rows: Windows of text, 2 at least.
        length: Tokens of a window, 6 at least.
        output: As for onnx, and what is measured. states, sentence: mean cosine with float32, of tokens or of texts.
        overwrite: Replace an earlier export.
    """
    from bertlite_jax.convert.int8 import convert

    figures = convert.int8(
        sources.load(run),
        out,
        calibrate,
        activations=activations,
        max_drop=max_drop,
        bits=bits,
        leave_out=leave_out,
        auto=auto,
        fit=fit,
        data=data,
        method=method,
        rows=rows,
        length=length,
        output=output,
        overwrite=overwrite,
    )
    print(convert.report(figures))


def _megabytes(path: pathlib.Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 0 done, 2 a mistake of the user, 130 Ctrl-C."""
    try:
        check_places("convert", sys.argv[1:] if arguments is None else arguments)
        tyro.extras.subcommand_cli_from_dict(
            {
                "to-hf": to_hf,
                "from-hf": from_hf,
                "from-tf": from_tf,
                "onnx": onnx,
                "int8": int8,
                "ort": ort,
                "bundle": bundle,
            },
            prog="convert.py",
            description=(__doc__ or "").splitlines()[0],
            args=arguments,
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    code = main()
    if code == 130:  # Threads of the runtimes are still at work, and taking the interpreter down under them can crash.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
