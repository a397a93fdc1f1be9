"""The plan of the package as rules: which imports are allowed, no circles, folders of few files."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

from bertlite_jax.cli import bench, main

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bertlite_jax"

# Rooms by floor, lowest first. A file may import from its own room and from lower floors; rooms of one floor do not
# know each other. A room is a folder or a file, and each is listed; only where a floor is called "" do files that are
# not listed stand on it. Rooms that are planned are listed before they exist.
FLOORS = (
    ("errors",),
    ("host", "reference_models"),
    ("config",),
    ("data", "model", "train", "report", "search"),
    ("convert",),
    ("jobs",),
    ("cli",),
    ("__main__",),
)
INSIDE = {
    "model": (("ops",), ("",)),
    "convert": (("weights", "bundled"), ("huggingface",), ("onnx",), ("int8",), ("",)),
    "data": (("text",), ("vocabulary",), ("corpus", "tasks"), ("rows", "teaching"), ("examples",), ("scores",)),
    "train": (("optimizers",), ("",), ("pretraining", "tasks"), ("few_labels", "distillation", "compression")),
    "jobs": (
        ("runs", "text", "recipes"),
        ("answering", "pretraining"),
        ("finetuning", "distilling", "searching", "compiling", "ablation"),
        ("benchmarks", "agora", "winner"),
        ("compressing",),
        ("reports",),
        ("quickstart",),
    ),
}
WITHOUT_A_SCRIPT = ("convert", "bench")
"""Commands that only choose among words of their own."""
MOST_FILES = 15
"""In a folder, `__init__.py` not counted."""
MOST_LINES = 400
TOPS = ("bertlite_jax", "configs", "tests", "tools")
"""Folders of the repository that hold Python files."""

# Heavy packages, and those that belong to one place.
ONLY_IN = {
    "flax": ("model/", "train/sharding.py", "convert/huggingface/flax_file.py"),
    "orbax": ("train/checkpoint_arrays.py",),
    "torch": ("convert/huggingface/parity.py", "convert/huggingface/weight_files.py", "jobs/"),
    "transformers": ("convert/huggingface/parity.py", "jobs/"),
    "apache_beam": ("data/corpus/beam.py",),
    "huggingface_hub": ("host/hub_calls.py",),
    "datasets": ("data/text/hub_datasets.py",),
    "tensorflow": ("convert/tensorflow.py",),
    "onnx": ("convert/",),
    "sklearn": ("data/scores/task_metrics.py",),
    "scipy": ("data/scores/task_metrics.py", "search/"),
    "trackio": ("report/trackers/trackio_record.py",),
    "wandb": ("report/trackers/wandb_record.py",),
    "mlflow": ("report/trackers/mlflow_record.py",),
    "onnxruntime": ("convert/onnx/session.py", "convert/int8/ort_format.py", "convert/bundled/", "jobs/"),
}


def python_files(top: str) -> list[pathlib.Path]:
    """Those below a folder of the repository, in a fixed order."""
    return sorted((ROOT / top).rglob("*.py"))


def name_of(path: pathlib.Path) -> str:
    """`model.ops.attention`, and `model` for its `__init__.py`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: pathlib.Path) -> set[str]:
    """Full names of everything that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(path: pathlib.Path) -> set[str]:
    """The package's files that a file imports, by name."""
    found = set()
    for name in imported(path):
        if name.startswith("bertlite_jax."):
            inside = name.removeprefix("bertlite_jax.")
            # What is imported is a file, or something in one.
            found.add(inside if inside in FILES else inside.rpartition(".")[0])
    return found - {""}


IMPORTS = {name: own_imports(path) for name, path in FILES.items() if name}


def broken(floors: tuple[tuple[str, ...], ...], inside: str) -> list[str]:
    """Imports between the rooms of a folder that do not point down."""
    at = {room: number for number, rooms in enumerate(floors) for room in rooms}

    def room_of(name: str) -> str | None:
        """None for what is not in this folder."""
        if inside and not name.startswith(f"{inside}."):
            return None
        first = name.removeprefix(f"{inside}." if inside else "").split(".")[0]
        return first if first in at else "" if "" in at else None

    wrong = []
    for name, targets in IMPORTS.items():
        for target in targets:
            here, there = room_of(name), room_of(target)
            if here is not None and there is not None and here != there and at[there] >= at[here]:
                wrong.append(f"{name} imports {target}")
    return sorted(wrong)


def unlisted(floors: tuple[tuple[str, ...], ...], inside: str) -> set[str]:
    """Rooms of a folder that the table forgets; nothing would be asked of their imports."""
    listed = {room for rooms in floors for room in rooms}
    folder = PACKAGE / inside
    rooms = {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    if "" not in listed:
        rooms |= {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return rooms - listed


def test_every_room_is_listed():
    assert unlisted(FLOORS, "") == set()


@pytest.mark.parametrize("folder", INSIDE)
def test_every_room_inside_is_listed(folder: str):
    assert unlisted(INSIDE[folder], folder) == set()


def test_the_main_script_of_a_folder_of_jobs_bears_the_name_of_its_command():
    """Each command has its script, and each folder has one of them, but for what all jobs share."""
    commands = {job.name.replace("-", "_") for job in (*main.JOBS, *bench.BENCHMARKS)} - set(WITHOUT_A_SCRIPT)
    scripts = [path.relative_to(PACKAGE / "jobs") for path in (PACKAGE / "jobs").rglob("*.py")]
    assert commands - {script.stem for script in scripts} == set()
    folders = {script.parts[0] for script in scripts if len(script.parts) > 1} - {"runs"}
    assert folders - {script.parts[0] for script in scripts if script.stem in commands} == set()


def test_imports_point_down():
    assert broken(FLOORS, "") == []


@pytest.mark.parametrize("folder", INSIDE)
def test_imports_point_down_inside(folder: str):
    assert broken(INSIDE[folder], folder) == []


def test_no_files_import_each_other_in_a_circle():
    try:
        list(graphlib.TopologicalSorter(IMPORTS).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_our_own_modules_keep_their_names():
    """Where two names clash, one of them is wrong."""
    renamed = []
    for top in TOPS:
        for path in python_files(top):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bertlite_jax"):
                    base = f"{node.module}.".removeprefix("bertlite_jax").removeprefix(".")
                    found = [alias for alias in node.names if alias.asname and base + alias.name in FILES]
                    renamed += [f"{path.name}: {alias.name} as {alias.asname}" for alias in found]
    assert renamed == []


def test_a_folder_can_be_overlooked():
    """Recipes are the exception: each is given to a command by its path."""
    folders = {path.parent for top in TOPS if top != "configs" for path in python_files(top)}
    counts = {
        str(folder.relative_to(ROOT)): sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for folder in folders
    }
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_a_file_can_be_read_in_one_sitting():
    paths = [path for top in TOPS for path in python_files(top)]
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_stay_in_their_place(name: str):
    here = FILES[name].relative_to(PACKAGE).as_posix()
    for target in imported(FILES[name]):
        places = ONLY_IN.get(target.split(".")[0])
        assert places is None or here.startswith(places), f"{here} imports {target}"


def test_of_the_host_only_the_cache_of_programs_knows_jax():
    """A corpus is built by dozens of workers, and none of them may wait for JAX."""
    using = [name for name, path in FILES.items() if name.startswith("host.") and "jax" in imported(path)]
    assert using == ["host.program_cache"]


def test_corpus_workers_need_no_jax():
    """Neither directly nor through another import: grain, which feeds batches, would import it."""
    code = (
        "import sys, bertlite_jax.jobs.text.corpus; "
        "from bertlite_jax.data.corpus import chunks, shards, windows; "
        "from bertlite_jax.data.vocabulary import tokenizer; "
        "print('jax' in sys.modules, 'tensorflow' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]


def test_a_start_of_pretraining_imports_grain_orbax_and_pallas_later():
    """They take half a second, which a start spends beside the compiler, or not at all."""
    code = (
        "import sys, bertlite_jax.jobs.pretraining.pretrain; "
        "print([name for name in ('grain', 'orbax.checkpoint', 'jax.experimental.pallas') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
