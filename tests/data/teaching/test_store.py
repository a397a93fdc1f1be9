"""A store on the disk: rows come back as they were written, from any file; what is damaged or in the way is told."""

import concurrent.futures
import pathlib

import damage
import numpy as np
import pytest
from ml_dtypes import bfloat16

from bertlite_jax.data.teaching import index, records, store, writing
from bertlite_jax.errors import UserError

RNG = np.random.default_rng(4)
ROWS = (2, 3, 2, 3, 2)
"""Of each step; steps with three rows have shorter ones."""
LENGTHS = (8, 4, 8, 4, 8)
OF = {"run.seed": 0, "tokenizer": "a" * 64, "corpora": ["b" * 64], "data.buckets": (4,)}
OF |= {index.STEPS: 5, index.TOP: 3, index.COMPUTE: "bfloat16"}


def said(rows: int, length: int) -> dict[str, np.ndarray]:
    """What teachers might say of rows."""
    return {
        "soft/log_probs": -RNG.random((rows, length // 4, 3)).astype(np.float32),
        "soft/ids": RNG.integers(0, 1 << 16, (rows, length // 4, 3)).astype(np.uint16),
        "soft/tail": -RNG.random((rows, length // 4)).astype(np.float32),
        "0/states/2": RNG.normal(size=(rows, length, 5)).astype(bfloat16),
    }


STEPS = [said(rows, length) for rows, length in zip(ROWS, LENGTHS, strict=True)]
LAYOUTS = {length: records.layout_of(step) for length, step in zip(LENGTHS, STEPS, strict=True)}
MADE = index.Index(index.plain(OF), LAYOUTS)
SIZES = [(rows, rows * records.record_bytes(LAYOUTS[length])) for rows, length in zip(ROWS, LENGTHS, strict=True)]


@pytest.fixture
def written(tmp_path, monkeypatch) -> pathlib.Path:
    """Two steps a file."""
    monkeypatch.setattr(writing, "FILE_BYTES", SIZES[0][1] + 1)
    parts, out = writing.parts_of(SIZES), tmp_path / "store"
    assert [(part.first, part.last, part.rows) for part in parts] == [(1, 2, 5), (3, 4, 5), (5, 5, 2)]
    with writing.opened(str(out), MADE, overwrite=False) as folder:
        for part in parts:
            with writing.file_of(folder, part) as file:
                for step in range(part.first, part.last + 1):
                    writing.append(file, LAYOUTS[LENGTHS[step - 1]], STEPS[step - 1])
        writing.finish(folder, MADE, parts)
    return out


def read(opened: store.Store, step: int, rows: list[int], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return store.read(opened, step, np.array(rows), LENGTHS[step - 1], names, lambda step: ROWS[step - 1])


def test_rows_come_back_from_any_step_in_any_order(written):
    """Bit for bit, in their dtypes; in several threads, of which each reads its part of a batch."""
    opened = store.open_store(str(written), "distill")
    assert opened.index == index.read_index(str(written), "distill")
    assert opened.index.complete

    def check(step: int) -> None:
        wanted = STEPS[step - 1]
        for rows in ([0, 1], [1]):
            found = read(opened, step, rows, tuple(wanted))
            assert found.keys() == wanted.keys()
            for name, array in found.items():
                assert array.dtype == wanted[name].dtype
                np.testing.assert_array_equal(array, wanted[name][rows])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(check, [4, 1, 5, 3, 2] * 4))


def test_only_what_is_asked_for_is_read(written):
    opened = store.open_store(str(written), "distill")
    assert list(read(opened, 2, [2], ("soft/tail",))) == ["soft/tail"]


def test_files_end_with_steps_and_depend_on_sizes_alone():
    sizes = [(4, 10 << 20)] * 10
    parts = writing.parts_of(sizes)
    assert [(part.first, part.last, part.rows) for part in parts] == [(1, 4, 16), (5, 8, 16), (9, 10, 8)]
    assert len(writing.parts_of([(4000, 6 << 30)] * 3)) == 3, "a step larger than a file has one of its own"


# --- Damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", damage.JSON)
def test_a_damaged_index_is_told(written, name):
    damage.apply(written / index.INDEX, damage.JSON[name])
    with pytest.raises(UserError, match=r"store\.json.*; write the store again"):
        store.open_store(str(written), "distill")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (damage.edit_json("format", to=2), "format 2, but this version reads 1"),
        (damage.edit_json("of", to=...), "of is missing"),
        (damage.edit_json("of", "top_k", to="all"), "of.top_k should be a whole number"),
        (damage.edit_json("layouts", "8", 0, 1, to="complex128"), "layouts.8 is damaged"),
        (damage.edit_json("layouts", "8", 0, 2, 0, to=-1), "layouts.8 is damaged"),
        (damage.edit_json("layouts", "8", 0, to=["soft/ids"]), "layouts.8 is damaged"),
        (damage.edit_json("files", 0, "bytes", to="many"), "bytes should be a whole number"),
        (damage.edit_json("files", 0, "first_step", to=2), "files is damaged"),
        (damage.edit_json("files", to=[]), "is not complete"),
    ],
)
def test_an_index_with_a_wrong_value_is_told(written, edit, message):
    damage.apply(written / index.INDEX, edit)
    with pytest.raises(UserError, match=message):
        store.open_store(str(written), "distill")


def test_files_that_are_missing_or_cut_off_are_told(written):
    file = written / "teacher-00001.array_record"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"teacher-00001\.array_record: \d+ bytes instead of \d+; remove the file, and"):
        store.open_store(str(written), "distill")
    file.unlink()
    with pytest.raises(UserError, match=r"teacher-00001\.array_record is missing"):
        store.open_store(str(written), "distill")


@pytest.mark.parametrize(
    "change", [lambda right: bytes(len(right)), lambda right: right[:70] + bytes(30) + right[100:]]
)
def test_records_of_other_bytes_are_told_when_they_are_read(written, change):
    damage.apply(written / "teacher-00000.array_record", change)
    opened = store.open_store(str(written), "distill")
    with pytest.raises(UserError, match=r"teacher-00000\.array_record: cannot be read"):
        read(opened, 1, [0, 1], ("soft/tail",))


# --- What is in the way of a new one ---------------------------------------------------------------------------------


def opened_for(out: pathlib.Path, made: index.Index = MADE, overwrite: bool = False) -> None:
    with writing.opened(str(out), made, overwrite):
        pass


def test_a_store_of_other_things_is_told_by_the_first_of_them(written):
    before = (written / index.INDEX).read_bytes()
    for other, message in (
        ({"run.seed": 1}, r"was written with run.seed = 0, not 1; name another --out, or pass --overwrite"),
        ({"tokenizer": "c" * 64}, r"with another tokenizer \(SHA-256 a{12}, not c{12}\)"),
        ({"corpora": []}, r"with other corpora \(SHA-256 b{12}, not none\)"),
        ({"top_k": 4}, r"with top_k = 3, not 4"),
    ):
        with pytest.raises(UserError, match=message):
            opened_for(written, MADE._replace(of=index.plain(OF | other)))
    with pytest.raises(UserError, match="for other losses"):
        opened_for(written, MADE._replace(layouts={8: LAYOUTS[8]}))
    assert (written / index.INDEX).read_bytes() == before


def test_overwriting_begins_anew(written):
    opened_for(written, MADE._replace(of=index.plain(OF | {"run.seed": 1})), overwrite=True)
    assert [path.name for path in written.iterdir()] == [index.INDEX]
    assert index.read_index(str(written), "teach").of["run.seed"] == 1


def test_what_is_no_store_stays(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is not empty and is no store"):
            opened_for(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_job_waits_for_nothing(written):
    with (
        writing.opened(str(written), MADE, overwrite=False),
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        pytest.raises(UserError, match="is in use by another job of this process"),
    ):
        pool.submit(opened_for, written).result()


def test_files_of_another_number_of_rows_are_told(written):
    parts = writing.parts_of(SIZES)
    assert writing.missing(written, parts) == []
    other = [parts[0], parts[1]._replace(rows=6), parts[2]]
    with pytest.raises(UserError, match=r"teacher-00001\.array_record is damaged; remove it"):
        writing.missing(written, other)
    (written / "teacher-00001.array_record").unlink()
    assert writing.missing(written, other) == [[other[1]]]


def test_parts_without_files_come_in_stretches(tmp_path, written):
    parts = writing.parts_of(SIZES)
    assert writing.missing(tmp_path, parts) == [parts]
    for number in (0, 2):
        (written / f"teacher-0000{number}.array_record").unlink()
    assert writing.missing(written, parts) == [[parts[0]], [parts[2]]]


def test_a_cut_off_file_is_not_taken_for_whole(written):
    file = written / "teacher-00001.array_record"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"teacher-00001\.array_record is damaged; remove it"):
        writing.missing(written, writing.parts_of(SIZES))
