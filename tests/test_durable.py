"""Writing so that a power cut loses nothing: what is synced, and in which order, is recorded where `os` is called."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from klingflow.io import durable

Log = list[tuple[str, int]]
"""What was asked of the system, and of which file or folder (its inode)."""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Records every sync, and every name that is given, in order."""
    log: Log = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def synced(fd: int) -> None:
        fsync(fd)
        log.append(("sync", os.fstat(fd).st_ino))

    def replaced(source: Path, target: Path) -> None:
        log.append(("name", os.stat(source).st_ino))
        replace(source, target)

    def linked(source: Path, target: Path) -> None:
        log.append(("name", os.stat(source).st_ino))
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "link", linked)
    return log


def failing(monkeypatch: pytest.MonkeyPatch, *, file: int = 0, folder: int = 0) -> None:
    """A file system whose fsync answers so for files, for folders; 0: it works."""
    fsync = os.fsync

    def answer(fd: int) -> None:
        code = folder if stat.S_ISDIR(os.fstat(fd).st_mode) else file
        if code:
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", answer)


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "film.lock.yaml"
    durable.replace(path, b"one")
    written = path.stat().st_ino
    assert log == [("sync", written), ("name", written), ("sync", tmp_path.stat().st_ino)]


def test_a_file_that_another_writer_fills_is_synced_too(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "film.mp4"
    with durable.replacing(path) as part:
        part.write_bytes(b"frames")
        assert (log, path.exists(), part.parent) == ([], False, tmp_path)
    written = path.stat().st_ino
    assert log == [("sync", written), ("name", written), ("sync", tmp_path.stat().st_ino)]
    assert path.read_bytes() == b"frames"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    durable.replace(path, b"old")
    with pytest.raises(ZeroDivisionError), durable.replacing(path) as part:
        part.write_bytes(b"half" * (1 // 0))
    (tmp_path / "shots").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        durable.replace(tmp_path / "shots", b"x")
    assert (path.read_bytes(), sorted(os.listdir(tmp_path))) == (b"old", ["film.mp4", "shots"])


def test_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        durable.replace(tmp_path / "no" / "p.json", b"{}")
    assert os.listdir(tmp_path) == []


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"secret")
    path = tmp_path / "film.lock.yaml"
    path.symlink_to(outside)
    durable.replace(path, b"one")
    assert (path.read_bytes(), path.is_symlink(), outside.read_bytes()) == (b"one", False, b"secret")


def test_what_was_laid_in_the_place_of_a_file_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    durable.replace(tmp_path / "file", b"whole")
    assert (durable.read(tmp_path / "file", 100), durable.read(tmp_path / "file", 3)) == (b"whole", b"who")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="link"):
        durable.read(tmp_path / "link", 100)
    os.mkfifo(tmp_path / "pipe")
    assert durable.read(tmp_path / "pipe", 100) == b""


def test_the_name_of_the_unfinished_file_is_another_each_time(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with durable.replacing(tmp_path / "film.mp4") as part:
            names.add(part.name)
    assert len(names) == 3


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_everybody_may_read_what_is_written_and_the_owner_alone_may_write(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        durable.replace(tmp_path / "dawn.png", b"png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "dawn.png").stat().st_mode) == 0o644


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOENT, errno.ENOTTY])
def test_a_folder_that_cannot_be_synced_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing(monkeypatch, folder=code)
    durable.replace(tmp_path / "film.lock.yaml", b"one")
    assert (tmp_path / "film.lock.yaml").read_bytes() == b"one"


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOTTY])
def test_a_file_system_without_sync_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing(monkeypatch, file=code, folder=code)
    durable.replace(tmp_path / "film.lock.yaml", b"one")
    assert (tmp_path / "film.lock.yaml").read_bytes() == b"one"


@pytest.mark.parametrize(("file", "folder"), [(errno.EIO, 0), (errno.EINVAL, 0), (0, errno.EIO), (0, errno.ENOSPC)])
def test_a_sync_that_lost_something_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int, folder: int
) -> None:
    failing(monkeypatch, file=file, folder=folder)
    with pytest.raises(OSError, match=os.strerror(file or folder)):
        durable.replace(tmp_path / "film.lock.yaml", b"one")
    assert (tmp_path / "film.lock.yaml").exists() == (folder != 0)


def full_sync(monkeypatch: pytest.MonkeyPatch, code: int = 0) -> list[int]:
    """macOS: fcntl knows F_FULLFSYNC, which answers with an error where `code` says so. Returns the inodes it saw."""
    number, seen = 51, []

    def call(fd: int, command: int, argument: int = 0) -> int:
        assert command == number
        if code:
            raise OSError(code, os.strerror(code))
        seen.append(os.fstat(fd).st_ino)
        return 0

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", number, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", call)
    return seen


def test_on_macos_the_drives_own_cache_is_emptied_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    seen = full_sync(monkeypatch)
    durable.replace(tmp_path / "film.lock.yaml", b"one")
    assert seen == [(tmp_path / "film.lock.yaml").stat().st_ino, tmp_path.stat().st_ino]
    assert [what for what, _ in log] == ["name"]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOTTY, errno.EINVAL])
def test_on_macos_a_share_without_full_sync_gets_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, code: int
) -> None:
    full_sync(monkeypatch, code)
    durable.replace(tmp_path / "film.lock.yaml", b"one")
    assert [what for what, _ in log] == ["sync", "name", "sync"]


def test_on_macos_a_full_sync_that_lost_something_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    full_sync(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        durable.replace(tmp_path / "film.lock.yaml", b"one")
    assert (log, os.listdir(tmp_path)) == ([], [])


def test_a_new_name_never_takes_the_place_of_another(tmp_path: Path) -> None:
    first, second, target = tmp_path / "first", tmp_path / "second", tmp_path / "target"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    assert durable.place_new(first, target)
    assert not durable.place_new(second, target)
    assert durable.place_new(first, target)  # over NFS, the repetition of what worked
    assert target.read_bytes() == b"first"
