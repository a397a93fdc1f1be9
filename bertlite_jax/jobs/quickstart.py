"""`bertlite quickstart`: trains, evaluates and exports an ALBERT on bundled text, in minutes on two cores.

It calls the same jobs as a real run, and prints the command of each. docs/quickstart.md explains where the recipe is
small, and why its loss is on a plateau before it falls.
"""

from __future__ import annotations

import json
import pathlib
import shlex
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bertlite_jax.config import checks
from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Mask, Optim, Pretrain, Run
from bertlite_jax.config.text import CorpusOptions, TokenizerOptions
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface import parity
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.int8 import convert
from bertlite_jax.data.rows import source
from bertlite_jax.data.rows.batches import evaluation_rows
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.benchmarks.infer import bench_infer
from bertlite_jax.jobs.benchmarks.sample_rows import TEXT
from bertlite_jax.jobs.pretraining.fill_mask import bare
from bertlite_jax.jobs.pretraining.pretrain import pretrain
from bertlite_jax.jobs.reports import report
from bertlite_jax.jobs.runs import one_job, workdir
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.jobs.text.tokenizer import make_tokenizer
from bertlite_jax.train.pretraining import objective

VOCAB_SIZE, LENGTH = 1000, 32
INT8_ROWS = 1024
"""Windows of text; half of them measure the 8-bit model, enough to see a drop of half a point."""
RUNTIMES = ("torch-f32", "onnx-f32", "onnx-int8-token", "jax-f32", "jax-int8")
"""Runtimes to time. Missing packages are skipped."""


def recipe(data: pathlib.Path, seed: int) -> Pretrain:
    """The config: two shared layers of width 128 on windows of 32 tokens, which leave the plateau within minutes."""
    model = Model(
        vocab_size=VOCAB_SIZE,
        embed_size=128,
        hidden_size=128,
        num_layers=2,
        num_heads=4,
        ffn_size=512,
        max_positions=LENGTH,
        init_std=0.088,
        position_init="sinusoidal",
        unroll=True,
    )
    return Pretrain(
        model=model,
        data=Data(
            corpus=(str(data / "corpus"),),
            tokenizer=str(data / "tokenizer"),
            length=LENGTH,
            batch_rows=32,
        ),
        mask=Mask(scheme="token", rate=0.3),
        optim=Optim(
            name="adamw",
            learning_rate=2e-3,
            warmup_steps=100,
            end_fraction=0.1,
            bias_correction=True,
        ),
        run=Run(
            steps=4000, seed=seed, log_every=100, eval_every=500, eval_rows=1024, checkpoint_every=1000, spike_factor=0
        ),
    )


def quickstart(folder: str, seed: int = 0, overwrite: bool = False) -> dict[str, Any]:
    """Runs all steps. Started again, it resumes where it stopped.

    Args:
      folder: work directory of the run; tokenizer and corpus are in `FOLDER-data`.
      seed: of the run. Tokenizer and corpus do not depend on it.
      overwrite: delete an earlier run in the folder, and start from step 0.

    Returns:
      The content of `summary.json` in the folder.
    """
    with one_job.alone_in(folder):
        return _quickstart(folder, seed, overwrite)


def _quickstart(folder: str, seed: int, overwrite: bool) -> dict[str, Any]:
    run, data = pathlib.Path(folder), pathlib.Path(f"{folder}-data")
    config = recipe(data, seed)
    # Before the minute that text and tokenizer take: the seed, and what is in the folder.
    checks.check_pretrain(config)
    if not overwrite:
        workdir.refuse_other_run(run, config)
    console = Console(highlight=False)
    made, text, shown = shlex.quote(str(data)), shlex.quote(str(TEXT)), shlex.quote(str(run))

    # --- Text to corpus ---------------------------------------------------------------------------------------------
    _head(console, "1/6", "tokenizer", f"bertlite tokenizer {text} --out {made}/tokenizer --vocab-size {VOCAB_SIZE}")
    if not (data / "tokenizer").is_dir():
        data.mkdir(parents=True, exist_ok=True)
        make_tokenizer([str(TEXT)], str(data / "tokenizer"), TokenizerOptions(vocab_size=VOCAB_SIZE, language="en"))
    _head(
        console, "2/6", "corpus", f"bertlite corpus {text} --tokenizer {made}/tokenizer --out {made}/corpus --length 32"
    )
    if not (data / "corpus").is_dir():
        build_corpus(
            [str(TEXT)], str(data / "tokenizer"), str(data / "corpus"), CorpusOptions(length=LENGTH, language="en")
        )

    # --- Corpus to model --------------------------------------------------------------------------------------------
    _head(
        console,
        "3/6",
        "pretraining and evaluation",
        f"bertlite pretrain ... --workdir {shown}  (recipe: quickstart.py)",
    )
    console.print(
        "At first the loss stays at the unigram entropy: the model knows only how often pieces occur. Then attention "
        "finds the neighbouring pieces, and the loss falls. docs/quickstart.md explains the plateau.",
        soft_wrap=True,
    )
    summary = pretrain(config, folder, overwrite=overwrite)
    if summary.get("stopped"):
        return summary

    # --- Model to files ---------------------------------------------------------------------------------------------
    _head(console, "4/6", "export to Hugging Face / PyTorch", f"bertlite convert to-hf {shown} {shown}/hf")
    to_hf(sources.load(run, "quickstart"), run / "hf", overwrite=True)
    summary["hf_max_abs_diff"] = _parity(run, config)
    command = f"bertlite convert int8 {shown} {shown}/onnx --calibrate {text}"
    _head(console, "5/6", "ONNX in float32 and INT8, timed", command)
    summary |= _deploy(run)
    whole_files.write_json(run / "summary.json", summary)

    # --- For people -------------------------------------------------------------------------------------------------
    _head(console, "6/6", "report", f"bertlite report {shown}")
    page = report.report(run)
    console.print(_table(summary))
    _show_samples(console, run)
    console.print(_next_commands(run, data, page), soft_wrap=True)
    return summary


def _head(console: Console, number: str, what: str, command: str) -> None:
    console.print(f"\n[bold]{number} {what}[/bold]   [dim]{command}[/dim]", soft_wrap=True)


def _parity(run: pathlib.Path, config: Pretrain) -> float | None:
    if not parity.available():
        print(f"PyTorch is not installed, so the export was not compared with it. To compare: {parity.INSTALL}")
        return None
    validation = source.open_source(config.data, "validation", objective.EVALUATION_SEED)
    ids = _first_windows(validation, 4)
    trained = sources.load(run, "quickstart")
    difference = parity.max_abs_diff(trained.params, trained.model, run / "hf", ids)
    print(f"largest difference from transformers in PyTorch, over logits and hidden states: {difference:.1e}")
    if difference > 1e-4:
        raise RuntimeError(f"quickstart: the export differs from PyTorch by {difference}, more than 1e-4")
    return difference


def _first_windows(validation: source.Source, rows: int) -> np.ndarray:
    """The first window of some validation rows, cut to the shortest of them: [rows, L] without padding."""
    batch = next(evaluation_rows(validation, rows, rows))
    shortest = (batch["segments"] == 1).sum(axis=1).min()
    return batch["tokens"][:, :shortest]


def _deploy(run: pathlib.Path) -> dict[str, Any]:
    """Writes ONNX in float32 and INT8, unless INT8 loses too much accuracy, and times them beside other runtimes."""
    figures = convert.int8(
        sources.load(run, "quickstart"),
        run / "onnx",
        [str(TEXT)],
        Int8Options(rows=INT8_ROWS, length=LENGTH),
        overwrite=True,
    )
    print(convert.report(figures))
    runtimes = bench_infer(str(run), batch=(1,), threads=(1,), rounds=2, only=RUNTIMES)
    (shape,) = runtimes["shapes"]
    return {
        "int8_mlm_accuracy": figures["after"],
        "float32_mlm_accuracy": figures["before"],
        "onnx_bytes": figures["float32_bytes"],
        "int8_bytes": figures["int8_bytes"],
        "int8_top1_agreement": figures["top1_agreement"],
        "latency_ms": {figure["name"]: 1000 * figure["seconds_min"] for figure in shape["figures"]},
    }


# --- Shown at the end ----------------------------------------------------------------------------------------


def _table(summary: dict[str, Any]) -> Table:
    below = summary["unigram_entropy"] - summary["valid_mlm_loss"]
    table = Table("what", "value", "beside", title="held-out chapters, [MASK] positions only")
    rows = [
        ("MLM loss, nats", f"{summary['valid_mlm_loss']:.3f}", f"unigram entropy {summary['unigram_entropy']:.3f}"),
        ("below the unigram entropy, nats", f"{below:.3f}", "0 for a model that only counts pieces"),
        (
            "MLM accuracy",
            f"{summary['valid_mlm_accuracy']:.3f}",
            f"always the most frequent piece {summary['majority_accuracy']:.3f}",
        ),
        (
            "sentence-order accuracy",
            f"{summary['valid_pair_accuracy']:.3f}",
            f"label prior {summary['pair_label_prior']:.3f}",
        ),
        (
            "INT8: same answer as float32",
            f"{summary['int8_top1_agreement']:.3f}",
            "ONNX Runtime, a scale for each token",
        ),
        ("ONNX, MB", f"{summary['int8_bytes'] / 1e6:.2f} INT8", f"{summary['onnx_bytes'] / 1e6:.2f} float32"),
        *(
            (f"a row of {LENGTH} tokens, ms", f"{milliseconds:.2f}", name)
            for name, milliseconds in summary["latency_ms"].items()
        ),
        ("parameters", f"{summary['parameters']:,}", ""),
        ("real tokens", f"{summary['real_tokens']:,}", f"{summary['steps']:,} steps"),
        ("training, seconds", f"{summary['wall_seconds']:.0f}", f"products in {summary['compute']}"),
        ("largest difference to PyTorch", _shown(summary["hf_max_abs_diff"]), "1e-4 at most"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _shown(difference: float | None) -> str:
    return "not installed" if difference is None else f"{difference:.1e}"


def _show_samples(console: Console, run: pathlib.Path) -> None:
    for sample in json.loads((run / "samples.json").read_text(encoding="utf-8"))[:4]:
        guesses = ", ".join(f"{bare(piece)} {share:.2f}" for piece, share in sample["predictions"][:3])
        truth = bare(sample["truth"])
        console.print(f"  {sample['text']}\n    guesses: {guesses}   (it was: {truth})", markup=False, soft_wrap=True)


def _next_commands(run: pathlib.Path, data: pathlib.Path, page: pathlib.Path) -> str:
    shown, made = shlex.quote(str(run)), shlex.quote(str(data))
    return (
        f"\nOpen {page} in a browser for curves, figures and samples. Then try:\n"
        f'  bertlite fill-mask {shown} "she looked at the [MASK] ."\n'
        f"  bertlite evaluate {shown} --pair-task nsp\n"
        f"  bertlite convert bundle {shown} my-bundle\n"
        f"  bertlite corpus YOUR_TEXT --tokenizer {made}/tokenizer --out my-corpus --length 128\n"
        f"  bertlite pretrain albert_tiny --help"
    )
