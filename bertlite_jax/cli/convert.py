"""Weights to and from other formats: bertlite convert to-hf | from-hf | push | from-tf | trim | onnx | int8 | ...

What each format needs is imported when it is asked for, so that `--help` needs none of it.
"""

from __future__ import annotations

import contextlib
import pathlib
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from bertlite_jax.cli.job import choose, job_of, usage, wants_help
from bertlite_jax.config.int8 import Bits, Int8Options, Output, WholeBits
from bertlite_jax.convert.import_options import ImportOptions
from bertlite_jax.host.places import refuse_to_replace

if TYPE_CHECKING:
    from bertlite_jax.convert.adoption import Imported
    from bertlite_jax.convert.weights.folder import Weights

Run = Annotated[Positional[str], arg(metavar="RUN")]
Out = Annotated[Positional[str], arg(metavar="OUT")]


def to_hf(
    run: Run,
    out: Out,
    /,
    family: Literal["auto", "albert", "bert", "distilbert"] = "auto",
    sentence_transformers: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes weights as a folder that from_pretrained of transformers loads.

    Args:
      run: Work directory of a run (its newest checkpoint), a folder that from-hf, from-tf or int8 wrote, a folder of
        transformers, a model of the hub (hf:OWNER/NAME), or reference-en, which comes with the package.
      out: Folder to write.
      family: Model classes of transformers to use; auto: the first that can hold the model.
      sentence_transformers: Write only the encoder, as a folder that SentenceTransformer loads.
      overwrite: Replace the folder if it is an earlier export.
    """
    from bertlite_jax.convert.huggingface import folder

    with _opened(run, out) as weights:
        written = folder.to_hf(
            weights,
            out,
            family=None if family == "auto" else family,
            sentence_transformers=sentence_transformers,
            overwrite=overwrite,
        )
    print(f"{out}: {written}, {_megabytes(out, folder.WEIGHTS)} of weights")


def from_hf(
    folder: Annotated[Positional[str], arg(metavar="FOLDER")],
    out: Out,
    /,
    options: Annotated[ImportOptions, arg(name="")] = ImportOptions(),
) -> None:
    """Reads ALBERT, BERT or DistilBERT weights of transformers; writes a folder for `--init`.

    Args:
      folder: Has config.json, the weights (safetensors, pytorch_model.bin or flax_model.msgpack, whole or in shards)
        and a tokenizer; or a model of the hub (hf:OWNER/NAME) that has them.
      out: Folder to write.
      options: What is read of them, and where the result may stand.
    """
    from bertlite_jax.convert import adoption

    refuse_to_replace("convert", folder, out)
    _print_import(out, adoption.import_hf(folder, out, options))


def push(
    run: Run,
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")],
    /,
    family: Literal["auto", "albert", "bert", "distilbert"] = "auto",
    sentence_transformers: bool = False,
    public: bool = False,
    message: str = "",
    dry_run: bool = False,
    overwrite: bool = False,
) -> None:
    """Sends what to-hf writes to a repository of the hub, in one commit.

    The token is HF_TOKEN, or that of `hf auth login`; it must be allowed to write.

    Args:
      run: As for to-hf.
      repository: Where to; it is made if it does not exist. The model is hf:OWNER/NAME from then on.
      family: As for to-hf.
      sentence_transformers: As for to-hf.
      public: Make a repository that everybody sees. Without it, a new one is private, and a public one is refused.
      message: Of the commit. Without it, the version of bertlite_jax.
      dry_run: Only show what would be sent; needs neither a token nor a network.
      overwrite: Replace files of a repository that has some already. Its history keeps the old ones, and files of other
        names stay.
    """
    from bertlite_jax.convert.push import Push
    from bertlite_jax.convert.push import push as send

    options = Push(None if family == "auto" else family, sentence_transformers, public, message, overwrite)
    for line in send(run, repository, options, dry_run):
        print(line)


def from_tf(
    checkpoint: Annotated[Positional[str], arg(metavar="CHECKPOINT")],
    out: Out,
    /,
    config: str | None = None,
    activation: Literal["auto", "gelu_tanh", "gelu_erf", "relu"] = "auto",
    options: Annotated[ImportOptions, arg(name="")] = ImportOptions(),
) -> None:
    """Reads a checkpoint of google-research's ALBERT or BERT or of brightmart's ALBERT; writes a folder for `--init`.

    Args:
      checkpoint: Prefix of the checkpoint, such as albert_base/model.ckpt-best, one of its files, or its folder.
      out: Folder to write.
      config: albert_config.json or bert_config.json, if it is not beside the checkpoint.
      activation: Activation function. auto: GELU by tanh for ALBERT and by erf for BERT, as the released weights need.
      options: What is read of it, and where the result may stand.
    """
    from bertlite_jax.convert import adoption

    refuse_to_replace("convert", checkpoint, out)
    _print_import(out, adoption.import_tf(checkpoint, out, options, config=config, activation=activation))


def trim(run: Run, out: Out, /, text: tuple[str, ...], pieces: int = 0, overwrite: bool = False) -> None:
    """Writes a model without the pieces that a text does not use: a folder for `--init` and for exports.

    Text made of the pieces that stay is cut as before. Other words are cut into other pieces, or become unknown if the
    text lacks one of their characters.

    Args:
      run: Work directory of a run, a folder that from-hf or from-tf wrote, a folder of transformers, or reference-en.
      out: Folder to write.
      text: Text files or folders, or files of examples, of the kind that the model will read.
      pieces: Number of pieces to keep, special ones included: all characters of the text, then its most frequent
        pieces. 0: all that the text has.
      overwrite: Replace the folder if it is an earlier result.
    """
    from bertlite_jax.convert import sources
    from bertlite_jax.convert.trim import trim
    from bertlite_jax.convert.weights.folder import FILE
    from bertlite_jax.jobs.answering.inputs import options_of_run

    run = str(sources.folder_of(run, "convert"))
    with _opened(run, out, *text) as weights:
        done = trim(weights, out, text, pieces, options_of_run(run), overwrite)
    print(
        f"{out}: {_megabytes(out, FILE)} of weights; kept {done.after:,} of {done.before:,} pieces, "
        f"{done.share:.2%} of the text's tokens"
    )


def onnx(run: Run, out: Out, /, output: Output = "auto", overwrite: bool = False) -> None:
    """Writes weights as an ONNX model in float32, with tokenizer files and config.json.

    Args:
      run: Work directory of a run, or a folder that from-hf or from-tf wrote.
      out: Folder to write; the model is onnx/model.onnx in it.
      output: What the model returns. auto: the answers of its head, or for a pretrained model the pieces behind [MASK].
        states: one vector for each token. sentence: one vector for a text.
      overwrite: Replace the folder if it is an earlier export.
    """
    from bertlite_jax.convert.onnx.folder import MODEL, write

    with _opened(run, out) as weights:
        size = write(weights, out, overwrite=overwrite, output=output)
    print(f"{out}/{MODEL}: {size / 1e6:.2f} MB")


def int8(
    run: Run,
    out: Out,
    /,
    calibrate: tuple[str, ...],
    options: Annotated[Int8Options, arg(name="")] = Int8Options(),
    overwrite: bool = False,
) -> None:
    """Writes ONNX models in float32 and in 8-bit integers, if the 8-bit model is nearly as good on text.

    Args:
      run: Work directory of a run, or a folder that from-hf or from-tf wrote.
      out: Folder to write: onnx/model.onnx, onnx/model_quantized.onnx, what was measured, tokenizer, config.json.
      calibrate: Text files or folders, or files of examples, of the kind that the model will read. Half of it
        calibrates, half measures.
      options: How the model is quantised.
      overwrite: Replace the folder if it is an earlier export.
    """
    from bertlite_jax.convert import sources
    from bertlite_jax.convert.int8 import convert
    from bertlite_jax.jobs.answering.inputs import options_of_run
    from bertlite_jax.jobs.answering.scoring import scorer_of

    run = str(sources.folder_of(run, "convert"))
    with _opened(run, out, *calibrate) as weights:
        head = weights.head
        scorer = scorer_of(run, head) if options.data and head and head.kind != "span" else None
        figures = convert.int8(weights, out, calibrate, options, overwrite, options_of_run(run), scorer)
    print(convert.report(figures))


def ort(
    run: Run,
    out: Out,
    /,
    text: tuple[str, ...],
    max_mb: float = 15.0,
    min_agreement: float = 0.95,
    bits: WholeBits = 7,
    leave_out: tuple[str, ...] = (),
    output: Output = "auto",
    overwrite: bool = False,
) -> None:
    """Writes an 8-bit file for phones and ARM servers, in ONNX Runtime's own format.

    Args:
      run: Work directory of a run, or a folder that from-hf or from-tf wrote.
      out: File to write, such as model.ort.
      text: Text files or folders, or files of examples, on which its answers are compared with those of float32.
      max_mb: Largest allowed size in megabytes. A larger file is not written, and a message says what would fit.
      min_agreement: Smallest allowed share of answers that equal those of float32; for vectors, of their mean cosine.
      bits: Bits of the integer weights. 7 is correct on every CPU; 8 only where u8 x s8 products do not saturate (VNNI,
        AMX, ARM).
      leave_out: Parts that stay in float, such as pooler layers.ffn.down layers.11
      output: What the model returns, and what is compared. auto: the answers of its head, or for a pretrained model the
        pieces behind [MASK]. states: one vector for each token. sentence: one vector for a text.
      overwrite: Replace the file if it exists.
    """
    from bertlite_jax.convert import sources
    from bertlite_jax.convert.int8 import ort_format
    from bertlite_jax.jobs.answering.inputs import options_of_run

    run = str(sources.folder_of(run, "convert"))
    with _opened(run, out, *text) as weights:
        figures = ort_format.write(
            weights,
            out,
            text,
            max_mb=max_mb,
            min_agreement=min_agreement,
            bits=bits,
            leave_out=leave_out,
            output=output,
            overwrite=overwrite,
            columns=options_of_run(run),
        )
    print(ort_format.report(figures))


def bundle(
    run: Run,
    out: Out,
    /,
    bits: Bits = 7,
    leave_out: tuple[str, ...] = (),
    examples: str | None = None,
    overwrite: bool = False,
) -> None:
    """Writes one folder that answers offline: python predict.py "a text", with onnxruntime and tokenizers alone.

    Args:
      run: Work directory of a run, or a folder that from-hf or from-tf wrote.
      out: Folder to write. It can be moved anywhere.
      bits: Bits of the integer weights. 7 is correct on every CPU; 8 only where u8 x s8 products do not saturate (VNNI,
        AMX, ARM). 4: for a model that was trained for it with finetune --quantise.bits 4.
      leave_out: Parts that stay in float, such as pooler layers.ffn.down layers.11
      examples: JSONL file of inputs whose answers `predict.py --check` compares. Without it, some English sentences.
      overwrite: Replace the folder if it is an earlier bundle.
    """
    from bertlite_jax.convert.bundle import read_examples, write_bundle

    asked = read_examples(examples) if examples else ()
    with _opened(run, out, *([examples] if examples else [])) as weights:
        written = write_bundle(weights, out, bits=bits, leave_out=leave_out, examples=asked, overwrite=overwrite)
    for name, size in written["bytes"].items():
        print(f"{out}/{name}: {size / 1e6:.2f} MB")
    print(
        f"both models give the same answer to {written['agreement']:.0%} of the stored examples; "
        f"python {shlex.quote(out)}/predict.py --check"
    )


@contextlib.contextmanager
def _opened(run: str, out: str, *read: str) -> Iterator[Weights]:
    """The weights at `run` with their tokenizer.

    Raises:
      UserError: writing `out` would replace them, or one of the files and folders that are `read` too.
    """
    from bertlite_jax.convert import adoption

    for place in (run, *read):
        refuse_to_replace("convert", place, out)
    with adoption.open_weights(run) as weights:
        yield weights


def _print_import(out: str, imported: Imported) -> None:
    from bertlite_jax.convert.weights.folder import FILE

    tokenizer = imported.weights.tokenizer
    pieces = f", a tokenizer of {tokenizer.vocab_size:,} pieces" if tokenizer else ""
    print(f"{out}: {_megabytes(out, FILE)} of weights{pieces}")
    for note in imported.notes:
        print(note)


def _megabytes(folder: str, name: str) -> str:
    return f"{(pathlib.Path(folder) / name).stat().st_size / 1e6:.2f} MB"


FORMATS = (
    job_of("convert to-hf", "a run's newest checkpoint becomes a folder of transformers", to_hf),
    job_of("convert from-hf", "a folder of transformers becomes one that --init starts from", from_hf),
    job_of("convert push", "what to-hf writes goes to the hub", push),
    job_of("convert from-tf", "a checkpoint of google-research or brightmart, likewise", from_tf),
    job_of("convert trim", "a model without the pieces that a text does not need", trim),
    job_of("convert onnx", "ONNX in float32, for ONNX Runtime and others", onnx),
    job_of("convert int8", "ONNX in 8-bit integers, measured before it is written", int8),
    job_of("convert ort", "the same for phones and ARM servers, within a size limit", ort),
    job_of("convert bundle", "one folder that answers offline, with a script and a check of itself", bundle),
)


def convert(args: Sequence[str]) -> None:
    """Writes or reads one format, or lists them."""
    if args and wants_help(args[:1]):
        print(usage("bertlite convert", "FORMAT", FORMATS))
        return
    job, rest = choose("convert", "format", args, FORMATS)
    job.run(rest)
