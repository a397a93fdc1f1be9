"""Pages of the site that lie outside docs/, or are made: a hook of MkDocs, for `make docs`.

README.md is the first page, RESULTS.md, CONTRIBUTING.md, CHANGELOG.md and the card of reference-en have theirs, and the
reference lists public functions, whose docstrings mkdocstrings reads.
"""

from __future__ import annotations

import importlib
import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
COPIED = {
    "index.md": "README.md",
    "results.md": "RESULTS.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "reference_en.md": "bertlite_jax/reference_models/reference-en/README.md",
}
"""Page to file of the repository."""
REFERENCE = {
    "reference_config.md": (
        "Settings",
        "All settings are frozen dataclasses. A recipe is a Python file with one of them, named `config`.",
        (
            "bertlite_jax.config.model",
            "bertlite_jax.config.pretrain",
            "bertlite_jax.config.distillation.settings",
            "bertlite_jax.config.finetune",
            "bertlite_jax.config.few_labels",
            "bertlite_jax.config.search.settings",
            "bertlite_jax.config.ablation.grid",
        ),
    ),
    "reference_jobs.md": (
        "Jobs",
        "What the commands call. Each takes settings and folders, and returns what it writes to `summary.json`.",
        (
            "bertlite_jax.config.files.load_file",
            "bertlite_jax.jobs.text.tokenizer.make_tokenizer",
            "bertlite_jax.jobs.text.corpus.build_corpus",
            "bertlite_jax.jobs.pretraining.pretrain.pretrain",
            "bertlite_jax.jobs.distilling.distill.distill",
            "bertlite_jax.jobs.searching.search.search",
            "bertlite_jax.jobs.ablation.ablate.ablate",
            "bertlite_jax.jobs.finetuning.finetune.finetune",
            "bertlite_jax.jobs.pretraining.evaluate.evaluate",
            "bertlite_jax.jobs.pretraining.fill_mask.fill_mask",
            "bertlite_jax.jobs.answering.predict.predict",
            "bertlite_jax.jobs.answering.embed.embed",
            "bertlite_jax.convert.sources.load",
            "bertlite_jax.convert.trim.trim",
            "bertlite_jax.convert.huggingface.folder.to_hf",
            "bertlite_jax.convert.int8.convert.int8",
        ),
    ),
    "reference_text.md": (
        "Text and rows",
        "From text to the arrays of a step. `runs/quickstart` in an example is what `bertlite quickstart` leaves.",
        (
            "bertlite_jax.data.text.documents.read_documents",
            "bertlite_jax.data.text.sentences.split_paragraph",
            "bertlite_jax.data.vocabulary.tokenizer",
            "bertlite_jax.data.rows.packing.plan_rows",
            "bertlite_jax.data.rows.batches",
            "bertlite_jax.train.pretraining.masking",
        ),
    ),
    "reference_parts.md": (
        "Model and training",
        "The parts that jobs are made of, for code of your own.",
        (
            "bertlite_jax.model.encoder",
            "bertlite_jax.model.heads",
            "bertlite_jax.model.pooling",
            "bertlite_jax.model.residual_scale",
            "bertlite_jax.model.ops.integer_grid.quantize_weights",
            "bertlite_jax.train.losses",
            "bertlite_jax.train.schedules",
            "bertlite_jax.train.optim",
            "bertlite_jax.train.optimizers.muon.orthogonalize",
        ),
    ),
    "reference_figures.md": (
        "Costs, scores and search",
        "What a model costs by formula, what a search makes of it, and the figures of a run.",
        (
            "bertlite_jax.report.cost.flops.parameters",
            "bertlite_jax.report.cost.flops.forward_flops_per_row",
            "bertlite_jax.report.cost.flops.train_flops_per_step",
            "bertlite_jax.report.cost.flops.step_memory_bytes",
            "bertlite_jax.report.run.metrics.read_lines",
            "bertlite_jax.data.scores.task_metrics.score",
            "bertlite_jax.data.scores.squad_metrics",
            "bertlite_jax.search.space",
            "bertlite_jax.search.costs",
            "bertlite_jax.search.surrogate",
            "bertlite_jax.search.score",
            "bertlite_jax.search.front",
        ),
    ),
}
"""Page to title, introduction, and the modules or functions on it."""


def on_config(config: Any) -> Any:
    """Names headings as GitHub does, where these pages are read too, so that links into a page lead there in both."""
    slugs = importlib.import_module("pymdownx.slugs")
    config["mdx_configs"]["toc"]["slugify"] = slugs.slugify(case="lower")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages; called by MkDocs once it knows those in docs/."""
    of_mkdocs = importlib.import_module("mkdocs.structure.files")
    for page, text in pages().items():
        files.append(of_mkdocs.File.generated(config, page, content=text))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Marks names, paths and options in running text, which docs/style.css keeps from being broken in two."""
    # Code blocks have an empty <span> before their <code>.
    return re.sub(r"(?<!</span>)<code>([^<]+)</code>", _with_whole_words, html)


def _with_whole_words(code: re.Match[str]) -> str:
    words = re.sub(r"(?<!\S)\S{2,30}(?!\S)", r'<span class="whole">\g<0></span>', code[1])
    return f"<code>{words}</code>"


def pages() -> dict[str, str]:
    """Name to Markdown of every page that is not in docs/."""
    copied = {page: in_docs((ROOT / file).read_text(encoding="utf-8")) for page, file in COPIED.items()}
    return copied | {page: _reference(*parts) for page, parts in REFERENCE.items()}


def in_docs(text: str) -> str:
    """Markdown of the repository's root as it would be in docs/: links lead to pages of the site."""
    for page, file in COPIED.items():
        text = re.sub(rf"\]\({re.escape(file)}(#[^)]*)?\)", rf"]({page}\1)", text)
    return re.sub(r"\]\(docs/", "](", text)


def _reference(title: str, introduction: str, names: tuple[str, ...]) -> str:
    return f"# {title}\n\n{introduction}\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"
