"""Pages of the site that lie outside docs/, or are made: a hook of MkDocs, for `make docs`.

README.md is the first page, RESULTS.md, CONTRIBUTING.md and CHANGELOG.md have theirs, and the reference lists public
functions, whose docstrings mkdocstrings reads.
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
            "bertlite_jax.jobs.text.tokenizer.make_tokenizer",
            "bertlite_jax.jobs.text.corpus.build_corpus",
            "bertlite_jax.jobs.pretraining.pretrain.pretrain",
            "bertlite_jax.jobs.distilling.distill.distill",
            "bertlite_jax.jobs.searching.search.search",
            "bertlite_jax.jobs.ablation.ablate.ablate",
            "bertlite_jax.jobs.finetuning.finetune.finetune",
            "bertlite_jax.jobs.pretraining.evaluate.evaluate",
            "bertlite_jax.jobs.pretraining.fill_mask.fill_mask",
            "bertlite_jax.convert.sources.load",
            "bertlite_jax.convert.huggingface.folder.to_hf",
            "bertlite_jax.convert.int8.convert.int8",
        ),
    ),
    "reference_parts.md": (
        "Model and training",
        "The parts that jobs are made of, for code of your own.",
        (
            "bertlite_jax.model.encoder",
            "bertlite_jax.model.heads",
            "bertlite_jax.train.losses",
            "bertlite_jax.train.optim",
            "bertlite_jax.train.schedules",
            "bertlite_jax.data.rows.batches",
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
