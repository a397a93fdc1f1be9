"""Apache Beam's route to a corpus gives the bytes of the local one.

Beam and PyTorch's neighbours want different versions of protobuf, so Beam is not among what tests need. Where it is not
installed, the last test runs the others in an environment of its own.
"""

import gzip
import hashlib
import importlib
import importlib.util
import pathlib
import random
import subprocess
import sys
import tomllib
import types
import venv
from typing import Any

import pytest

from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus import shards
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.text.corpus import build_corpus

QUICK = "--runner=BundleBasedDirectRunner"


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return adopt_vocabulary(folder / "vocab.txt", folder / "made")


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Texts in four files, one of them packed and one empty, with copies within and across them."""
    draw, made = random.Random(5), []
    for _ in range(300):
        words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(draw.randint(1, 90))]
        made.append(". ".join(" ".join(words[start : start + 9]) for start in range(0, len(words), 9)) + ".")
    place = tmp_path / "text"
    place.mkdir()
    (place / "a.txt").write_text("\n\n".join(made[:140] + made[:10]))
    (place / "b.txt.gz").write_bytes(gzip.compress("\n\n".join(made[120:250]).encode()))
    (place / "c.txt").write_text("\n\n")
    (place / "d.txt").write_text("\n\n".join([*made[240:], "a\x00b", *made[299:]]))
    return place


def beam_route() -> types.ModuleType:
    try:
        return importlib.import_module("bertlite_jax.data.corpus.beam")
    except UserError:
        pytest.skip("apache-beam is not installed")


def digests(built: str) -> dict[str, str]:
    paths = [path for path in pathlib.Path(built).iterdir() if path.name != "build.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize(("fraction", "seed"), [(0.02, 0), (0.3, 1), (0.0, 0)])
def test_the_bytes_are_those_of_the_local_route(folder, vocabulary, tmp_path, monkeypatch, fraction, seed):
    beam = beam_route()
    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)
    monkeypatch.setattr(shards, "BLOCK_DOCUMENTS", 16)
    monkeypatch.setattr(beam, "CHUNK_DOCUMENTS", 7)
    made = {}
    routes: dict[str, dict[str, Any]] = {"local": {"workers": 1}, "beam": {"beam": True, "beam_options": QUICK}}
    for name, options in routes.items():
        made[name] = build_corpus(
            [str(folder)],
            vocabulary.folder,
            str(tmp_path / name),
            CorpusOptions(length=64, validation_fraction=fraction, seed=seed),
            **options,
        )
    assert made["local"]["statistics"] == made["beam"]["statistics"]
    assert made["beam"]["statistics"]["duplicate_documents"] == 41
    assert digests(str(tmp_path / "local")) == digests(str(tmp_path / "beam"))
    assert sum("train.array_record" in name for name in digests(str(tmp_path / "beam"))) > 3


def test_bad_text_is_one_line_and_leaves_nothing(folder, vocabulary, tmp_path):
    beam_route()
    (folder / "bad.txt").write_bytes(b"one\n\ntwo \xff\n")
    with pytest.raises(UserError) as caught:
        build_corpus([str(folder)], vocabulary.folder, str(tmp_path / "out"), beam=True, beam_options=QUICK)
    assert str(caught.value).startswith(f"corpus: {folder}/bad.txt:3: invalid UTF-8 (byte 0xff)")
    assert "\n" not in str(caught.value)
    assert "while running" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"]


def test_without_beam_the_install_line_is_given(folder, vocabulary, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "bertlite_jax.data.corpus.beam", raising=False)
    monkeypatch.delattr("bertlite_jax.data.corpus.beam", raising=False)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r'needs Apache Beam; pip install "bertlite_jax\[beam\]"'):
        build_corpus([str(folder)], vocabulary.folder, str(tmp_path / "out"), beam=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"]


def test_options_that_do_not_go_together_are_refused(folder, vocabulary, tmp_path):
    with pytest.raises(UserError, match="--beam-options needs --beam"):
        build_corpus([str(folder)], vocabulary.folder, str(tmp_path / "out"), beam_options=QUICK)
    with pytest.raises(UserError, match="--workers cannot be combined with --beam"):
        build_corpus([str(folder)], vocabulary.folder, str(tmp_path / "out"), beam=True, workers=2)


@pytest.mark.slow
@pytest.mark.network
def test_all_of_this_beside_beam(tmp_path):
    """Installs the extra on top of what is installed here."""
    if importlib.util.find_spec("apache_beam"):
        pytest.skip("apache-beam is installed, so the tests above have run")
    root = pathlib.Path(__file__).resolve().parents[3]
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["beam"]
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
    command = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if installed.returncode:
        pytest.skip(f"Beam cannot be installed: {installed.stderr.strip().splitlines()[-1:]}")
    (packages / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-m", "not slow"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout, done.stdout[-3000:]
