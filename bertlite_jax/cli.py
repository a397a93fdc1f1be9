"""The `bertlite` command: reads a config and overrides, calls one job.

Exit codes: 0 done (a preempted job too: it has saved), 2 bad input or config, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from bertlite_jax import config as settings
from bertlite_jax import config_files
from bertlite_jax.config import UserError
from bertlite_jax.model import memory

PairTask = Literal["sop", "nsp", "three_way", "none"]
_Text = Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT [TEXT ...]")]
_Run = Annotated[Positional[str], arg(metavar="RUN")]


# --- Jobs that prepare data ------------------------------------------------------------------------------------------


def tokenizer(
    text: _Text,
    /,
    out: str,
    vocab_size: int = 30_000,
    kind: Literal["sentencepiece", "wordpiece", "bpe"] = "sentencepiece",
    cased: bool = False,
    keep_accents: bool = False,
    word_segmenter: Literal["pieces", "jieba"] = "pieces",
    text_field: str = "text",
    language: str = "auto",
    on_bad_text: Literal["refuse", "replace"] = "refuse",
    overwrite: bool = False,
) -> None:
    """Trains a tokenizer on text files, or adopts a released vocabulary.

    Args:
      text: Files (plain, .gz, .zst, .jsonl, .parquet) or folders. Or one released vocabulary to adopt: an ALBERT
        .model, a BERT vocab.txt, a Hugging Face folder with tokenizer.json.
      out: Folder to write.
      vocab_size: Pieces, the special ones included.
      kind: Unigram with ALBERT's id layout, WordPiece with BERT's, or byte-level BPE.
      cased: Keep capitals.
      keep_accents: Keep accents.
      word_segmenter: What says where words start: the pieces (spaced languages) or jieba (Chinese).
      text_field: Field of JSONL objects, column of Parquet files.
      language: Language code for splitting sentences; auto: by script.
      on_bad_text: What to do with invalid UTF-8.
      overwrite: Replace a tokenizer that is there.
    """
    from bertlite_jax.jobs.tokenizer import make_tokenizer

    make_tokenizer(
        text,
        out,
        vocab_size=vocab_size,
        kind=kind,
        lower=not cased,
        keep_accents=keep_accents or cased,
        word_segmenter=word_segmenter,
        text_field=text_field,
        language=language,
        on_bad_text=on_bad_text,
        overwrite=overwrite,
    )


def corpus(
    text: _Text,
    /,
    tokenizer: str,
    out: str,
    length: int = 512,
    validation_fraction: float = 0.02,
    short_fraction: float = 0.1,
    whole_sentences: bool = False,
    language: str = "auto",
    one_sentence_per_line: bool = False,
    text_field: str = "text",
    on_bad_text: Literal["refuse", "replace"] = "refuse",
    workers: int = 0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Builds a corpus of windows from text files.

    Args:
      text: Files (plain, .gz, .zst, .jsonl, .parquet) or folders. Plain text has a paragraph or a sentence a line and
        a blank line between documents.
      tokenizer: Folder that `bertlite tokenizer` made.
      out: Folder to write.
      length: Tokens in a row that the windows must fit into, specials included.
      validation_fraction: Share of the documents that is held out.
      short_fraction: Share of the windows that aim at a random shorter length.
      whole_sentences: Never cut a sentence that fits a window of its own; costs slots.
      language: Language code for splitting sentences; auto: by script.
      one_sentence_per_line: Lines are sentences already.
      text_field: Field of JSONL objects, column of Parquet files.
      on_bad_text: What to do with invalid UTF-8.
      workers: Processes; 0: one a core. The result is the same.
      seed: Of the split and the short windows.
      overwrite: Replace an existing corpus.
    """
    from bertlite_jax.data.corpus import build

    build(
        text,
        tokenizer,
        out,
        length=length,
        validation_fraction=validation_fraction,
        short_fraction=short_fraction,
        whole_sentences=whole_sentences,
        language=language,
        one_sentence_per_line=one_sentence_per_line,
        text_field=text_field,
        on_bad_text=on_bad_text,
        workers=workers,
        seed=seed,
        overwrite=overwrite,
    )


# --- Jobs on runs ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _PretrainOptions:
    """Trains an encoder on a corpus, or goes on with the run in the work directory."""

    config: Annotated[settings.Pretrain, arg(name="")]
    workdir: str
    """Folder of the run. One that holds the same run already is gone on with."""
    init: str = ""
    """A run's work directory, or a Hugging Face folder, whose weights to start from."""
    overwrite: bool = False
    """Start anew where the work directory holds a run."""


def _pretrain(args: Sequence[str]) -> None:
    memory.keep_freed_memory()
    config, rest, prog = _config_file("pretrain", args, settings.Pretrain)
    options = tyro.cli(
        _PretrainOptions,
        args=rest,
        prog=prog,
        default=_PretrainOptions(config=config, workdir=tyro.MISSING),
    )
    from bertlite_jax.jobs.pretrain import pretrain

    summary = pretrain(options.config, options.workdir, options.init, options.overwrite)
    if summary:  # Of several processes the first one's.
        _print_figures("summary", summary)


@dataclasses.dataclass(frozen=True)
class _FinetuneOptions:
    """Trains a task model on a pretrained encoder, or goes on with the run in the work directory."""

    config: Annotated[settings.Finetune, arg(name="")]
    workdir: str
    """Folder of the run. One that holds the same run already is gone on with."""
    init: str
    """The encoder: a run's work directory, a folder of transformers, or one that convert.py wrote."""
    task: str = ""
    """Name of the task, such as sst2; by default the recipe's data.task. A recipe may have other settings for it."""
    data: str = ""
    """Folder with the task's files, or without a task a CSV, TSV or JSONL file; by default the recipe's data.folder."""
    seeds: int = 1
    """Train so many times, with run.seed and those that follow it; reports median, least and greatest."""
    sweep: bool = False
    """Train at each of --sweep-rates and --sweep-batches, and report all and the best; goes on where it stopped."""
    sweep_rates: tuple[float, ...] = (5e-5, 4e-5, 3e-5, 2e-5)
    """Learning rates of the sweep."""
    sweep_batches: tuple[int, ...] = (16, 32)
    """Examples in a batch of the sweep."""
    probe: Literal["none", "layers"] = "none"
    """layers: leave the encoder as it is, and train a head on the states of each of its layers, to see what it knows
    where."""
    overwrite: bool = False
    """Start anew where the work directory holds a run."""


def _finetune(args: Sequence[str]) -> None:
    memory.keep_freed_memory()
    config, rest, prog = _config_file("finetune", args, settings.Finetune, _value_of("--task", args))
    missing = tyro.MISSING
    options = tyro.cli(
        _FinetuneOptions,
        args=rest,
        prog=prog,
        default=_FinetuneOptions(config=config, workdir=missing, init=missing),
    )
    from bertlite_jax.jobs import finetune_many
    from bertlite_jax.jobs.finetune import finetune

    named = {"task": options.task, "folder": options.data}
    data = dataclasses.replace(options.config.data, **{name: value for name, value in named.items() if value})
    config = dataclasses.replace(options.config, data=data)
    if options.seeds < 1:
        raise UserError(f"finetune: --seeds {options.seeds} must be at least 1")
    where = options.workdir, options.init
    if options.probe == "layers":
        from bertlite_jax.jobs import probe

        if options.sweep or options.seeds > 1:
            raise UserError("finetune: --probe goes without --seeds and --sweep")
        summary = probe.probe_layers(config, *where, options.overwrite)
        _print_rows("layers", summary["layers"])
    elif options.sweep:
        rates, batches = options.sweep_rates, options.sweep_batches
        summary = finetune_many.finetune_sweep(config, *where, rates, batches, options.seeds, options.overwrite)
        _print_rows("points of the sweep", summary.get("points", ()))
    elif options.seeds > 1:
        summary = finetune_many.finetune_seeds(config, *where, options.seeds, options.overwrite)
    else:
        summary = finetune(config, *where, options.overwrite)
    _print_figures("summary", summary)


def predict(
    run: _Run,
    /,
    input: str = "-",
    batch: int = 512,
    task: str = "",
    data: str = "",
    split: str = "test",
    submission: str = "",
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
) -> None:
    """Answers texts with a fine-tuned model, as JSON lines on standard output.

    Args:
      run: Work directory of a fine-tuning run, or any folder with a task model.
      input: File with a text a line, or JSON objects {"text", "pair"}, {"text", "choices"}, {"words"} or {"question",
        "context"}; a .json file in the layout of SQuAD; - reads standard input.
      batch: Lines that are read and answered together.
      task: Answer a split of this task instead, and score it where it has labels.
      data: Folder with the task's files.
      split: Of the task.
      submission: Folder for the file that the task's server takes, instead of JSON lines.
      n_best: So many answers to a question, best first.
      null_threshold: A question has no answer where its score for that is above this.
      predictions: Also write the answers to this file, as SQuAD's scorers read them.
    """
    if task:
        from bertlite_jax.jobs.predict_split import predict_split

        predict_split(run, task, data, split, sys.stdout, submission, n_best, null_threshold, predictions)
        return
    if data or submission:
        raise UserError("predict: --data and --submission want --task")
    from bertlite_jax.jobs.predict import predict as job

    job(run, input, sys.stdout, batch, n_best, null_threshold, predictions)


def embed(
    run: _Run,
    /,
    input: str = "-",
    out: str = "-",
    pool: Literal["auto", "mean", "cls", "tokens"] = "auto",
    layers: str = "last",
    normalize: bool = False,
    length: int = 0,
    batch: int = 512,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
    overwrite: bool = False,
) -> None:
    """Turns texts into vectors, one a text or one a token.

    Args:
      run: Work directory of a run, a folder of transformers or sentence-transformers, or one that convert.py wrote.
      input: File with a text a line, or JSON objects {"text", "pair"}; - reads standard input.
      out: File vectors.npy or vectors.jsonl; - writes JSON lines to standard output.
      pool: The mean over a text's tokens, the state of its [CLS], or each token's state; auto: what a folder of
        sentence-transformers states, unit length too, else the mean.
      layers: last; numbers such as 0,6 (0 is the embeddings; --layers=-2,-1 counts from the end), one behind the other;
        mean, of all layers; mean:5,6.
      normalize: Divide each vector by its length.
      length: Tokens of a text at most; 0: what a folder of sentence-transformers states, else all positions.
      batch: Lines that are read and encoded together.
      compute: Precision of the products; auto takes what is fast on this machine.
      overwrite: Replace the file.
    """
    from bertlite_jax.jobs.embed import embed as job

    job(run, input, out, pool, layers, normalize, length, batch, compute, overwrite)


def evaluate(
    run: _Run,
    /,
    corpus: UseAppendAction[tuple[str, ...]] = (),
    pair_task: PairTask | None = None,
    rows: int = 0,
) -> None:
    """Scores a run on the validation split of a corpus.

    Args:
      run: Work directory of a pretraining run.
      corpus: Corpus folder; may be given several times. By default the run's own.
      pair_task: Task to score with the pair head, whatever it was trained on. By default the run's own.
      rows: Rows of the validation split to read; 0: all.
    """
    from bertlite_jax.jobs.evaluate import evaluate as job

    _print_figures(f"evaluation of {run}", job(run, tuple(corpus), pair_task, rows))


def fill_mask(run: _Run, text: Annotated[Positional[str], arg(metavar="TEXT")], /, top: int = 5) -> None:
    """Shows what a trained model would put in place of [MASK].

    Args:
      run: Work directory of a pretraining run.
      text: A text with [MASK] in it.
      top: Guesses to show for each [MASK].
    """
    from bertlite_jax.jobs import fill_mask as job

    for number, guesses in enumerate(job.fill_mask(run, text, top), 1):
        shown = "  ".join(f"{job.bare(piece)} {share:.3f}" for piece, share in guesses)
        print(f"[MASK] {number}: {shown}")


def report(run: _Run, /) -> None:
    """Writes report.html, one self-contained file, into a work directory.

    Args:
      run: Work directory of a run.
    """
    from bertlite_jax.jobs.report import report as job

    print(f"report: wrote {job(run)}")


def quickstart(workdir: str = "runs/quickstart", seed: int = 0, overwrite: bool = False) -> None:
    """From bundled text to an evaluated, exported ALBERT in minutes.

    Args:
      workdir: Folder for the tokenizer, the corpus, the run and its exports.
      seed: Of the weights, the data order and the masks.
      overwrite: Start anew where the folder holds an earlier quickstart.
    """
    memory.keep_freed_memory()
    from bertlite_jax.jobs.quickstart import quickstart as job

    job(workdir, seed, overwrite)


# --- Benchmarks ------------------------------------------------------------------------------------------------------


_BENCH_HELP = """usage: bertlite bench {data,train,infer,family,finetune,predictions} ...

  data         how fast batches are made of a corpus
  train        how fast a model trains, beside PyTorch with --peer
  infer        how fast a model answers, in every runtime and arithmetic that is installed
  family       what each published shape costs to store, to train and to ask, beside BERT-base
  finetune     how fast and how well a task is learnt, beside transformers in PyTorch
  predictions  whether transformers gives a task model's answers from what to-hf writes of it

bertlite bench infer --help, and so on, explains the options.
"""


_BENCHMARKS = ("data", "train", "infer", "family", "finetune", "predictions")


def _bench(args: Sequence[str]) -> None:
    if args and args[0] in ("-h", "--help"):
        print(_BENCH_HELP)
        return
    name, rest = _choose("bench", args, dict.fromkeys(_BENCHMARKS))
    job = getattr(importlib.import_module(f"bertlite_jax.jobs.bench_{name}"), f"bench_{name}")
    tyro.cli(job, args=rest, prog=f"bertlite bench {name}")


# --- The command -----------------------------------------------------------------------------------------------------

_SIMPLE: dict[str, Callable[..., None]] = {
    "tokenizer": tokenizer,
    "corpus": corpus,
    "evaluate": evaluate,
    "fill-mask": fill_mask,
    "predict": predict,
    "embed": embed,
    "report": report,
    "quickstart": quickstart,
}
_OWN_PARSER: dict[str, Callable[[Sequence[str]], None]] = {
    "pretrain": _pretrain,
    "finetune": _finetune,
    "bench": _bench,
}
_HELP = """usage: bertlite JOB ...

  tokenizer   train a tokenizer, or adopt a released vocabulary
  corpus      text files become a corpus of windows
  pretrain    a corpus becomes a pretrained encoder (CONFIG.py --workdir RUN [--optim.learning-rate 1e-3 ...])
  finetune    a pretrained encoder becomes a task model (CONFIG.py --task sst2 --data DIR --init RUN --workdir RUN)
  predict     labels, numbers, choices or tags for texts, as JSON lines
  embed       vectors of texts or of their tokens, as .npy or JSON lines
  evaluate    score a run on held-out text
  fill-mask   what a trained model puts in place of [MASK]
  report      curves, figures and samples of a run in one HTML file
  bench       measure: bertlite bench data | train | infer | family | ...
  quickstart  all of it on bundled text, in minutes

bertlite JOB --help explains the job's options.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one job; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bertlite_jax").setLevel(logging.INFO)
    if not args or args[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    try:
        name, rest = _choose("bertlite", args, _SIMPLE | _OWN_PARSER)
        if name in _SIMPLE:
            tyro.cli(_SIMPLE[name], args=rest, prog=f"bertlite {name}")
        else:
            _OWN_PARSER[name](rest)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except settings.Diverged as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # The reader of our output, `head` for one, has seen enough.
        return 0
    return 0


def _choose(what: str, args: Sequence[str], known: dict[str, Any]) -> tuple[str, list[str]]:
    if not args or args[0] not in known:
        name = args[0] if args else "nothing"
        raise UserError(f"{what}: unknown job {name}; {settings.fields_close_to(name, list(known))}")
    return args[0], list(args[1:])


def _value_of(option: str, args: Sequence[str]) -> str:
    """Of an option that decides what the others' defaults are; the parser checks it later."""
    for place, text in enumerate(args):
        if text == option:
            return args[place + 1] if place + 1 < len(args) else ""
        if text.startswith(f"{option}="):
            return text.removeprefix(f"{option}=")
    return ""


def _config_file(job: str, args: Sequence[str], kind: type, task: str = "") -> tuple[Any, list[str], str]:
    """The config that the first argument names, the remaining arguments, and what `--help` calls the command."""
    if not args or args[0].startswith("-"):
        if "-h" in args or "--help" in args:
            return kind(), ["--help"], f"bertlite {job} CONFIG.py"
        raise UserError(f"{job}: the first argument is a config file, for example configs/albert_base.py")
    config = config_files.load_file(args[0], task)
    if not isinstance(config, kind):
        raise UserError(f"config: {args[0]}: config is a {type(config).__name__}, {job} wants a {kind.__name__}")
    return config, list(args[1:]), f"bertlite {job} {args[0]}"


def _print_figures(title: str, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        if not isinstance(value, dict) and not (isinstance(value, list) and value and isinstance(value[0], dict)):
            table.add_row(name, _shown(value))
    Console().print(table)


def _print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row if name != "folder"))
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*(_shown(row[name], "g") if name in row else "" for name in names))
    Console().print(table)


def _shown(value: object, number: str = ",.4f") -> str:
    if isinstance(value, float):
        return f"{value:{number}}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
