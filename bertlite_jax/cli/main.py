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

from bertlite_jax.cli import compile, tasks
from bertlite_jax.cli.recipe import check_places, config_file
from bertlite_jax.cli.tables import print_figures
from bertlite_jax.config.pair_tasks import PairTask
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import Diverged, UserError, fields_close_to
from bertlite_jax.host import memory

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
    from bertlite_jax.jobs.text.tokenizer import make_tokenizer

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
    beam: bool = False,
    beam_options: str = "",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Builds a corpus of windows from text files.

    Args:
      text: Files (plain, .gz, .zst, .jsonl, .parquet) or folders, on the disk or gs://. Plain text has a paragraph or
        a sentence a line and a blank line between documents.
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
      beam: Let Apache Beam do the work, on many machines. The result is the same.
      beam_options: For Beam's runner, written with "=": --beam-options="--runner=DirectRunner --direct_num_workers=4".
      seed: Of the split and the short windows.
      overwrite: Replace an existing corpus.
    """
    from bertlite_jax.jobs.text.corpus import build_corpus

    build_corpus(
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
        beam=beam,
        beam_options=beam_options,
        seed=seed,
        overwrite=overwrite,
    )


# --- Jobs on runs ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _PretrainOptions:
    """Trains an encoder on a corpus, or goes on with the run in the work directory."""

    config: Annotated[Pretrain, arg(name="")]
    workdir: str
    """Folder of the run. One that holds the same run already is gone on with."""
    init: str = ""
    """A run's work directory, or a Hugging Face folder, whose weights to start from."""
    overwrite: bool = False
    """Start anew where the work directory holds a run."""


def _pretrain(args: Sequence[str]) -> None:
    config, rest, prog = config_file("pretrain", args, Pretrain)
    options = tyro.cli(
        _PretrainOptions,
        args=rest,
        prog=prog,
        default=_PretrainOptions(config=config, workdir=tyro.MISSING),
    )
    from bertlite_jax.jobs.pretraining.pretrain import pretrain

    summary = pretrain(options.config, options.workdir, options.init, options.overwrite)
    if summary:  # Of several processes the first one's.
        print_figures("summary", summary)


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
    from bertlite_jax.jobs.pretraining.evaluate import evaluate as score

    print_figures(f"evaluation of {run}", score(run, tuple(corpus), pair_task, rows))


def fill_mask(run: _Run, text: Annotated[Positional[str], arg(metavar="TEXT")], /, top: int = 5) -> None:
    """Shows what a trained model would put in place of [MASK].

    Args:
      run: Work directory of a pretraining run.
      text: A text with [MASK] in it.
      top: Guesses to show for each [MASK].
    """
    from bertlite_jax.jobs.pretraining.fill_mask import bare
    from bertlite_jax.jobs.pretraining.fill_mask import fill_mask as guesses_for

    for number, guesses in enumerate(guesses_for(run, text, top), 1):
        shown = "  ".join(f"{bare(piece)} {share:.3f}" for piece, share in guesses)
        print(f"[MASK] {number}: {shown}")


def report(run: _Run, /) -> None:
    """Writes report.html, one self-contained file, into a work directory.

    Args:
      run: Work directory of a run.
    """
    from bertlite_jax.jobs.reports.report import report as write_report

    print(f"report: wrote {write_report(run)}")


def quickstart(workdir: str = "runs/quickstart", seed: int = 0, overwrite: bool = False) -> None:
    """From bundled text to an evaluated, exported ALBERT in minutes.

    Args:
      workdir: Folder for the tokenizer, the corpus, the run and its exports.
      seed: Of the weights, the data order and the masks.
      overwrite: Start anew where the folder holds an earlier quickstart.
    """
    from bertlite_jax.jobs.quickstart import quickstart as job

    job(workdir, seed, overwrite)


# --- Benchmarks ------------------------------------------------------------------------------------------------------


_BENCH_HELP = """usage: bertlite bench {data,train,scale,infer,family,finetune,predictions} ...

  data         how fast batches are made of a corpus
  train        how fast a model trains, beside PyTorch with --peer
  scale        how training speed changes with the number of devices, and what they send each other
  infer        how fast a model answers, in every runtime and arithmetic that is installed
  family       what each published shape costs to store, to train and to ask, beside BERT-base
  finetune     how fast and how well a task is learnt, beside transformers in PyTorch
  predictions  whether transformers gives a task model's answers from what to-hf writes of it

bertlite bench infer --help, and so on, explains the options.
"""


_BENCHMARKS = ("data", "train", "scale", "infer", "family", "finetune", "predictions")


def _bench(args: Sequence[str]) -> None:
    if args and args[0] in ("-h", "--help"):
        print(_BENCH_HELP)
        return
    name, rest = _choose("bench", args, dict.fromkeys(_BENCHMARKS))
    job = getattr(importlib.import_module(f"bertlite_jax.jobs.benchmarks.{name}"), f"bench_{name}")
    tyro.cli(job, args=rest, prog=f"bertlite bench {name}")


# --- The command -----------------------------------------------------------------------------------------------------

_SIMPLE: dict[str, Callable[..., None]] = {
    "tokenizer": tokenizer,
    "corpus": corpus,
    "evaluate": evaluate,
    "fill-mask": fill_mask,
    "predict": tasks.predict,
    "embed": tasks.embed,
    "report": report,
    "quickstart": quickstart,
}
_OWN_PARSER: dict[str, Callable[[Sequence[str]], None]] = {
    "pretrain": _pretrain,
    "finetune": tasks.finetune,
    "compile": compile.compile_step,
    "bench": _bench,
}
_TRAINS = ("pretrain", "finetune", "quickstart")
_COMPILES = (*_TRAINS, "evaluate", "fill-mask", "predict", "embed")
"""Jobs whose programs are kept for the next start; benchmarks measure compiling too."""
_HELP = """usage: bertlite JOB ...

  tokenizer   train a tokenizer, or adopt a released vocabulary
  corpus      text files become a corpus of windows
  pretrain    a corpus becomes a pretrained encoder (CONFIG.py --workdir RUN [--optim.learning-rate 1e-3 ...])
  finetune    a pretrained encoder becomes a task model (CONFIG.py --task sst2 --data DIR --init RUN --workdir RUN)
  predict     labels, numbers, choices or tags for texts, as JSON lines
  embed       vectors of texts or of their tokens, as .npy or JSON lines
  compile     a pretraining step for a TPU slice, without one: memory, traffic, least time (CONFIG.py --topology v5e-16)
  evaluate    score a run on held-out text
  fill-mask   what a trained model puts in place of [MASK]
  report      curves, figures and samples of a run in one HTML file
  bench       measure: bertlite bench data | train | scale | infer | family | ...
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
        check_places(name, rest)
        if name in _TRAINS:
            memory.keep_freed_memory()  # Before JAX is imported, which the next lines do.
        if name in _COMPILES and not {"-h", "--help"} & set(rest):
            from bertlite_jax.host import program_cache

            program_cache.keep_programs()
        if name in _SIMPLE:
            tyro.cli(_SIMPLE[name], args=rest, prog=f"bertlite {name}")
        else:
            _OWN_PARSER[name](rest)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Diverged as error:
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
        raise UserError(f"{what}: unknown job {name}; {fields_close_to(name, list(known))}")
    return args[0], list(args[1:])
