"""A corpus is built in memory that does not grow with the text.

Users report that the making of pretraining data needs many times the size of the text: google-research/bert #612, #117.
"""

import pathlib
import subprocess
import sys

import pytest
from corpus_text import some_text

MEASURE = """
import logging, resource, sys
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.jobs.text.corpus import build_corpus
for number, path in enumerate(sys.argv[2:]):
    build_corpus([path], sys.argv[1], f"{path}.corpus", CorpusOptions(length=128), workers=1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.thorough
def test_six_times_the_text_needs_no_more_memory(prepared, tmp_path: pathlib.Path):
    """0.6 MB, then 4 MB in the same process: what Python's allocator keeps anyway is in the first figure."""
    for name, documents in (("small", 1_000), ("large", 6_000)):
        (tmp_path / name).write_text("\n\n".join(some_text(documents, seed=documents)), encoding="utf-8")
    command = [sys.executable, "-c", MEASURE, prepared.tokenizer, str(tmp_path / "small"), str(tmp_path / "large")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    small, large = map(int, said.split())
    assert (tmp_path / "large").stat().st_size > 3_500_000
    assert large - small < 32
