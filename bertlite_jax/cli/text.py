"""The jobs that prepare data: tokenizer, corpus."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from bertlite_jax.config.text import CorpusOptions, TokenizerOptions

Text = Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT [TEXT ...]", help_behavior_hint="(required)")]


def tokenizer(
    text: Text,
    /,
    out: str,
    options: Annotated[TokenizerOptions, arg(name="")] = TokenizerOptions(),
    overwrite: bool = False,
) -> None:
    """Trains a tokenizer on text, or takes over a released vocabulary.

    Args:
      text: Files (plain, .gz, .zst, .jsonl, .parquet) or folders, on disk or gs://, or datasets, as for `bertlite
        corpus`. Or one released vocabulary: an ALBERT .model, a BERT vocab.txt, a folder of transformers.
      out: Folder to write.
      options: What the vocabulary becomes.
      overwrite: Replace the folder if it holds a tokenizer.
    """
    from bertlite_jax.jobs.text.tokenizer import make_tokenizer

    make_tokenizer(text, out, options, overwrite)


def corpus(
    text: Text,
    /,
    tokenizer: str,
    out: str,
    options: Annotated[CorpusOptions, arg(name="")] = CorpusOptions(),
    workers: int = 0,
    beam: bool = False,
    beam_options: str = "",
    overwrite: bool = False,
) -> None:
    """Builds a corpus from text: documents cut into windows of tokens.

    Args:
      text: Files (plain, .gz, .zst, .jsonl, .parquet) or folders, on disk or gs://. Plain text has one paragraph or
        sentence on a line and a blank line between documents. Or datasets:
        "hf://datasets/NAME?split=train&field=text", also config= and revision=.
      tokenizer: Folder that `bertlite tokenizer` wrote, or of a run or model that has one, such as reference-en.
      out: Folder to write.
      options: What decides the bytes of the corpus.
      workers: Processes; 0: one for each core. The result is the same.
      beam: Let Apache Beam do the work, on many machines. The result is the same.
      beam_options: Options of Beam's runner, written with "=": --beam-options="--runner=DirectRunner
        --direct_num_workers=4".
      overwrite: Replace the folder if it holds a corpus.
    """
    from bertlite_jax.jobs.text.corpus import build_corpus

    build_corpus(
        text,
        tokenizer,
        out,
        options,
        workers=workers,
        beam=beam,
        beam_options=beam_options,
        overwrite=overwrite,
    )
