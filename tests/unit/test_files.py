"""Files written whole or not at all, by however many at once."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from latentbook import files


def test_text_is_utf8_and_bytes_are_bytes(tmp_path):
    files.write_whole(tmp_path / "new" / "a.txt", "ä\n")
    files.write_whole(str(tmp_path / "b"), b"\xff\x00")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xc3\xa4\n"
    assert (tmp_path / "b").read_bytes() == b"\xff\x00"


def test_many_threads_write_one_file_and_it_is_one_of_theirs(tmp_path):
    path, contents = tmp_path / "x", [bytes([i]) * 200_000 for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: files.write_whole(path, content), contents * 3))
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["x"]


def test_a_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    files.write_whole(tmp_path / "x", "old")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        files.write_whole(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old" and os.listdir(tmp_path) == ["x"]


def test_what_cannot_be_written_is_named_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left on device: '.*/results.json'$"):
        files.write_whole(tmp_path / "results.json", "")


def test_a_new_file_has_the_rights_of_every_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_whole(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_place_is_tried_before_the_work(tmp_path):
    files.check_writable(tmp_path / "new" / "x")
    assert os.listdir(tmp_path / "new") == []
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match=r"weights cannot be written to .*x.*name another place"):
        files.check_writable(tmp_path / "file" / "x", "weights")
    with pytest.raises(NotADirectoryError, match=r"/file is a file\)"):  # for a folder that is none, too
        files.check_writable(tmp_path / "file" / "x")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        files.check_writable(tmp_path / "new")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_locked_folder_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="make this one writable"):
        files.check_writable(tmp_path / "x")
