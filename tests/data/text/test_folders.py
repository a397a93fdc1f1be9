"""Folders of text: links are followed once, and what cannot be read is named."""

import logging
import os
import threading

import pytest

from bertlite_jax.data.text import pipes
from bertlite_jax.data.text.documents import list_files, read_documents, read_sentences
from bertlite_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("The text of a.\n")
    return tmp_path / "text"


def test_folders_that_contain_themselves_are_read_once(folder):
    """Two such links are 2^40 paths of forty parts."""
    for name in ("l", "m"):
        (folder / name).symlink_to(".")
    (folder / "up").symlink_to("..")
    assert list_files([str(folder)]) == [str(folder / "a.txt")]
    assert len(list(read_sentences([str(folder)]))) == 1


def test_a_link_to_another_disk_is_followed_and_one_within_adds_nothing(folder, tmp_path):
    (tmp_path / "disk" / "sub").mkdir(parents=True)
    (tmp_path / "disk" / "sub" / "z.txt").write_text("z")
    (folder / "0-link").symlink_to(tmp_path / "disk")
    (folder / "again.txt").symlink_to("a.txt")
    (folder / "same").symlink_to(tmp_path / "disk" / "sub")
    assert list_files([str(folder)]) == [str(folder / "a.txt"), str(folder / "same/z.txt")]


def test_links_that_lead_nowhere_are_named_and_counted(folder, caplog):
    (folder / "b.txt").symlink_to("/unmounted/b.txt")
    (folder / "c.txt").symlink_to("c.txt")
    os.mkfifo(folder / "pipe")
    with caplog.at_level(logging.WARNING, "bertlite_jax"):
        assert list_files([str(folder)]) == [str(folder / "a.txt")]
    (line,) = caplog.messages
    assert line.startswith(f"corpus: {folder}: 3 left out: ")
    assert f"{folder}/b.txt -> /unmounted/b.txt (No such file or directory)" in line
    assert "c.txt -> c.txt (Too many levels of symbolic links)" in line
    assert "pipe (neither file nor folder)" in line


def test_a_folder_of_nothing_but_dead_links_is_refused(folder):
    (folder / "a.txt").unlink()
    (folder / "b.txt").symlink_to("/unmounted/b.txt")
    with pytest.raises(UserError, match=r"the folder holds no file to read; 1 left out: .*b\.txt -> /unmounted"):
        list_files([str(folder)])


def test_folders_hundreds_of_levels_deep_are_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.remove("a.txt")
    for _ in range(300):
        os.mkdir("d")
        os.chdir("d")
    with open("b.txt", "w", encoding="utf-8") as file:
        file.write("deep")
    (found,) = list_files([str(folder)])
    assert found.endswith("/d/d/b.txt")


def test_a_pipe_is_read_as_a_shell_gives_it(tmp_path):
    """`bertlite corpus <(command)` is /dev/fd/63, which has no position."""
    read, write = os.pipe()
    os.write(write, b"First.\n\nSecond.\n")
    os.close(write)
    assert list(read_documents([f"/dev/fd/{read}"])) == [["First."], ["Second."]]
    os.close(read)


def test_a_named_pipe_is_read_once_somebody_writes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("Late.\n",))
    writer.start()
    assert list(read_documents([str(tmp_path / "pipe")])) == [["Late."]]
    writer.join()


def test_a_named_pipe_that_nobody_writes_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "PATIENCE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    before = threading.active_count()
    with pytest.raises(UserError, match=r"pipe: a pipe that no program has written to for 0 s"):
        list(read_documents([str(tmp_path / "pipe")]))
    assert threading.active_count() == before


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_other_encodings_are_named_so_that_iconv_takes_them(encoding, name, tmp_path):
    (tmp_path / name).write_bytes('{"text": "A line of Western text, é and so on"}\n'.encode(encoding))
    with pytest.raises(UserError) as refused:
        list(read_documents([str(tmp_path / name)]))
    named = encoding[:6] if encoding.count("-") == 1 else encoding.replace("-le", "le").replace("-be", "be")
    assert f"iconv -f {named} -t utf-8" in str(refused.value)


@pytest.mark.parametrize("language", ["xx", "../../etc", "", "english", "en/../x", "EN"])
def test_what_is_no_language_is_refused(language, folder):
    with pytest.raises(UserError, match="is no code of a language"):
        list(read_sentences([str(folder)], language=language))


@pytest.mark.parametrize("language", ["auto", "en", "zh", "zh-hant", "nds", "sr-Latn"])
def test_codes_of_languages_are_taken(language, folder):
    assert len(list(read_sentences([str(folder)], language=language))) == 1
