"""A corpus that cannot be built is not there: bad input and options, folders in the way, builds that are killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from corpus_text import build_text, digests, some_text

from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus.folder import check_out, read_meta, scratch_folder
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import temporary_beside
from bertlite_jax.jobs.text.corpus import build_corpus


def refusal(
    folder: pathlib.Path, inputs: list[str], tokenizer: str, out: str, workers=1, overwrite=False, **options
) -> str:
    """The one line; and nothing is left in the folder but what was there."""
    before = sorted(folder.iterdir())
    with pytest.raises(UserError) as caught:
        build_corpus(inputs, tokenizer, out, CorpusOptions(**options), workers=workers, overwrite=overwrite)
    assert sorted(folder.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_input_is_refused_and_leaves_nothing(tmp_path, vocabulary):
    path, out = tmp_path / "notes.txt", str(tmp_path / "out")
    path.write_bytes(b"one\n\ntwo\n\n" + b"three \xff\n")
    message = refusal(tmp_path, [str(path)], vocabulary.folder, out)
    assert message.startswith(f"corpus: {path}:5: invalid UTF-8 (byte 0xff)")
    path.write_bytes(b" \n\n\x00\n")
    expected = f"corpus: {path}: no document in it; nothing was written"
    assert refusal(tmp_path, [str(path)], vocabulary.folder, out) == expected
    missing = str(tmp_path / "missing")
    assert "does not exist" in refusal(tmp_path, [missing], vocabulary.folder, out)
    assert "tokenizer" in refusal(tmp_path, [str(path)], missing, out)


@pytest.mark.parametrize(
    "option",
    [{"length": 7}, {"validation_fraction": 1}, {"short_fraction": -0.1}, {"workers": -1}, {"on_bad_text": "x"}],
)
def test_impossible_options_are_refused(tmp_path, text_file, vocabulary, option):
    assert next(iter(option)) in refusal(tmp_path, [text_file], vocabulary.folder, str(tmp_path / "out"), **option)


def test_only_a_corpus_is_overwritten_and_only_when_asked(tmp_path, text_file, vocabulary):
    out, _ = build_text(tmp_path, vocabulary, some_text(5))
    before = digests(out)
    message = refusal(tmp_path, [text_file], vocabulary.folder, out)
    assert message == f"corpus: {out}: exists; give another folder, or pass --overwrite to replace it"
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff")
    refusal(tmp_path, [str(bad)], vocabulary.folder, out, overwrite=True)
    assert digests(out) == before  # a failed build leaves the old one
    build_corpus([text_file], vocabulary.folder, out, workers=1, overwrite=True)
    assert digests(out) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "out", "out.txt"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    assert "is not a corpus" in refusal(tmp_path, [text_file], vocabulary.folder, str(precious), overwrite=True)


def test_a_corpus_behind_a_link_is_built_where_the_link_leads(tmp_path, vocabulary):
    """The link stays a link; one that leads nowhere, or in a circle, is refused before anything is read."""
    (tmp_path / "disk").mkdir()
    build_text(tmp_path / "disk", vocabulary, some_text(3))
    link, text = tmp_path / "link", tmp_path / "text.txt"
    link.symlink_to(tmp_path / "disk" / "out")
    text.write_text("\n\n".join(some_text(4, seed=1)))
    build_corpus([str(text)], vocabulary.folder, str(link), CorpusOptions(length=64), workers=1, overwrite=True)
    assert link.is_symlink()
    assert read_meta(str(tmp_path / "disk" / "out"))["statistics"]["documents"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link", "text.txt"]
    for name in ("absent", "circle"):
        (tmp_path / name).symlink_to(tmp_path / ("circle" if name == "circle" else "nowhere"))
        with pytest.raises(UserError, match=f"{name} is a link to .*, which does not exist"):
            build_corpus([str(text)], vocabulary.folder, str(tmp_path / name), workers=1)


def test_a_corpus_that_a_killed_build_was_replacing_comes_back(tmp_path):
    """Killed between two renames: the earlier corpus is the only one."""
    out = tmp_path / "out"
    former = temporary_beside(out, ".former")
    former.mkdir()
    (former / "corpus.json").touch()
    with pytest.raises(UserError, match=r"out: exists; give another folder"):
        check_out(out, overwrite=False)
    assert list(tmp_path.iterdir()) == [out]


def test_an_incomplete_folder_is_no_corpus(tmp_path, vocabulary):
    out, meta = build_text(tmp_path, vocabulary, some_text(5))
    read_meta(out)
    for name in meta["sizes"]:
        path = pathlib.Path(out, name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=f"{name}: {len(whole) - 1} bytes instead of {len(whole)}"):
            read_meta(out)
        path.unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            read_meta(out)
        path.write_bytes(whole)
    path = pathlib.Path(out, "corpus.json")
    for content, reason in (
        ("{", "damaged"),
        ('{"format": 2}', "format 2, but this version reads 1"),
        ("[]", "format"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=reason):
            read_meta(out)
    path.unlink()
    with pytest.raises(UserError, match="not a finished corpus"):
        read_meta(out)


# --- Killed builds ------------------------------------------------------------------------------------------

BUILD = """
import sys
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.jobs.text import corpus
if __name__ == "__main__":
    corpus.CHUNK_LIMIT = 10_000
    corpus.build_corpus([sys.argv[1]], sys.argv[2], sys.argv[3], CorpusOptions(length=64), workers=2)
"""


def children(process: int) -> list[int]:
    listed = pathlib.Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def alive(process: int) -> bool:
    status = pathlib.Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.thorough
def test_a_killed_build_leaves_no_corpus_and_can_be_run_again(tmp_path, text_file, vocabulary, built):
    """Kill -9 while records are being written: the workers end too, and the next build sweeps up."""
    (tmp_path / "build.py").write_text(BUILD)
    large, out = tmp_path / "large.txt", tmp_path / "out"
    large.write_text("\n\n".join(f"x{n} {d}" for n in range(200) for d in some_text(50)))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "build.py"), str(large), vocabulary.folder, str(out)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: any(path.stat().st_size > 10_000 for path in tmp_path.glob("out.tmp-*/train.lengths.raw")))
        workers = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(workers) >= 2
    wait_for(lambda: not any(map(alive, workers)), 20)
    assert not out.exists()
    (left,) = tmp_path.glob("out.tmp-*")
    with pytest.raises(UserError, match="not a finished corpus"):
        read_meta(str(left))
    build_corpus([text_file], vocabulary.folder, str(out), CorpusOptions(length=64), workers=1)
    assert digests(str(out)) == digests(built[0])
    assert not left.exists()


@pytest.mark.thorough
def test_ctrl_c_while_the_workers_start_ends_in_one_line_and_leaves_nothing(tmp_path, text_file, vocabulary):
    """It goes to all processes of a terminal: the workers' imports are no place for a KeyboardInterrupt."""
    # A process that a script started in the background has SIGINT ignored; a terminal's has not.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from bertlite_jax.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "corpus", text_file, "--tokenizer", vocabulary.folder]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--length", "64", "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(children(process.pid)) >= 2)  # the first of them shares the semaphores out
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "o" * 255])
def test_a_build_leaves_a_live_one_alone(name, tmp_path):
    place = tmp_path / name
    with scratch_folder(place) as first, scratch_folder(place) as second:
        assert first.exists()
        assert second.exists()
        assert first != second
    assert not first.exists()
    assert not second.exists()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(text_file, vocabulary, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"corpus: .*file/out cannot be written: File exists; name another place$"):
        build_corpus(
            [text_file], vocabulary.folder, str(tmp_path / "file" / "out"), CorpusOptions(length=64), workers=1
        )
