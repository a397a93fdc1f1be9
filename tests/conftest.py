"""What all tests share: where optional data lies, checked annotations, and JAX on eight pretended CPU devices."""

import dataclasses
import importlib.metadata
import os
import pathlib

import pytest
import type_checks

# Before the first import of jax: tests of data parallelism need several devices.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile hundreds of small programs and run each a few times: compile faster, run slower. Also in the processes
# that tests start. A pretraining step takes 2.4 s to compile with all of these, 6.5 without the latter two, 9.8 with
# none; `make quickstart` and the benchmarks run as users do, with none.
FAST_TO_COMPILE = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# XLA does not start with a flag that it does not know, and jaxlib 0.11.1 dropped this one.
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    FAST_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
# Flags given from outside come last and win: `make test-hosts` caps the instruction sets so.
os.environ["XLA_FLAGS"] = " ".join([*FAST_TO_COMPILE, os.environ.get("XLA_FLAGS", "")])
# What one run of the tests compiles is not for the next one, nor for the home of whoever runs them.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
# An array of another dtype or rank than its neighbours is a mistake until someone converts it in so many words. Also in
# the processes that tests start.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
type_checks.install()

ROOT = pathlib.Path(__file__).resolve().parent.parent

LONGEST = ("test_several_processes.py", "test_pretrain.py", "test_step.py", "test_readme.py", "test_few_labels.py")
"""Files that take minutes. They come first, so that the processes of `pytest -n` finish at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder with real text and vocabularies that may not be redistributed; tests that need it skip without it."""
    folder = ROOT / os.environ.get("BERTLITE_SHARED", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no benchmark data at {folder}; set BERTLITE_SHARED to its folder")
    return folder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A tokenizer of 300 pieces and a corpus of windows for rows of 64, made of a bundled novel."""

    tokenizer: str
    corpus: str
    text: str


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    from bertlite_jax.config.text import CorpusOptions
    from bertlite_jax.data.text import documents
    from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
    from bertlite_jax.jobs.text.corpus import build_corpus

    folder = tmp_path_factory.mktemp("prepared")
    novel = str(ROOT / "bertlite_jax/quickstart_text/alice_in_wonderland.txt.zst")
    made = train_tokenizer(documents.read_sentences([novel]), str(folder / "tokenizer"), 300)
    build_corpus(
        [novel], made.folder, str(folder / "corpus"), CorpusOptions(length=64, validation_fraction=0.1), workers=1
    )
    return Prepared(made.folder, str(folder / "corpus"), novel)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> pathlib.Path:
    """Where compiled programs are kept, for the other process of `pytest -n 2` too."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if base.name.startswith("popen-") else base) / "compiled"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="module")
def compiled_once(compiled):
    """Programs that this module compiles are kept, and those of other such modules are found."""
    from compiling import compile_once

    with compile_once(compiled):
        yield


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """A hub of models on this machine in the place of the real one, empty, for alice; the cache is the test's own."""
    import hub_stand_in

    from bertlite_jax.convert.huggingface.hub import snapshot

    huggingface_hub = pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    bars = pytest.importorskip("huggingface_hub.utils")
    bars.disable_progress_bars()
    with hub_stand_in.running() as made:
        settings = {
            "ENDPOINT": made.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": made.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub_cache"),
            "HF_TOKEN_PATH": str(tmp_path / "no_token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_alice")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        snapshot.cache_clear()
        yield made
        snapshot.cache_clear()
        huggingface_hub.close_session()
    bars.enable_progress_bars()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """Object storage in this process, in the place of gcsfs: empty, with a cache folder of the test's own.

    `upload(folder, "bucket/place")` copies a flat folder there and returns its gs://.
    """
    from etils.epath import backend
    from fsspec.implementations.memory import MemoryFileSystem

    from bertlite_jax.data.text import object_storage
    from bertlite_jax.host import retry

    class Bucket(MemoryFileSystem):
        protocol = ("gcs", "gs")

        def upload(self, folder: str, to: str) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]  # A shorthand.
            for path in pathlib.Path(folder).iterdir():
                self.pipe_file(f"gs://{to}/{path.name}", path.read_bytes())
            return f"gs://{to}"

    made = Bucket()
    made.store, made.pseudo_dirs = {}, [""]  # Its class would share them with all such file systems.
    object_storage.copied_folder.cache_clear()
    monkeypatch.setattr(type(backend.fsspec_backend), "_get_filesystem", lambda self, name: made)
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return made
