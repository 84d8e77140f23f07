"""Files that survive a power cut: written beside their place, synced, then given their name, and the folder synced.

Knows no content. A name holds the old bytes or the new ones, never a part of them; a symbolic link under the name is
replaced, not followed. Everything here blocks and raises OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODE = 0o644
"""Of every file that is replaced here, whatever the umask: a web server or another user of the machine reads them."""

_NO_SYNC = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)
"""What a file system without fsync answers (ENOTTY: exFAT on macOS). Nothing can be done, so the work goes on, as in
restic (internal/backend/local, read 2026-11). Any other failure is one: bytes may have been lost."""
_NO_FOLDER_SYNC = (*_NO_SYNC, errno.EINVAL, errno.ENOENT)
"""The same for a folder: SMB and some FUSE file systems answer EINVAL or ENOENT."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system without hard links answers."""


def sync(fd: int) -> None:
    """Brings an open file, or the names in an open folder, to the disk, where its file system can."""
    # On macOS fsync hands the bytes to the drive, which may keep them in its cache; F_FULLFSYNC empties that too.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    try:
        if full is not None:
            try:
                fcntl.fcntl(fd, full)
                return
            except OSError as exc:
                if exc.errno not in _NO_FOLDER_SYNC:
                    raise  # fsync might succeed now and lie
        os.fsync(fd)
    except OSError as exc:
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        if exc.errno not in (_NO_FOLDER_SYNC if folder else _NO_SYNC):
            raise


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, where its file system can."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def read(path: Path, most: int) -> bytes:
    """What is in a file that was replaced here, at most so many bytes. It may have come with a pull request: a symbolic
    link in its place is refused (OSError), and a pipe is not waited for."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(most)


def replace(path: Path, data: bytes, *, mode: int = MODE) -> None:
    """The file holds `data`, or what it held before. Makes no folder. `mode` is what it may be read and written by."""
    with replacing(path, mode) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path, mode: int = MODE) -> Iterator[Path]:
    """An empty file beside `path` to be written by its name: it takes the place of `path` when the block ends well, and
    is gone when it does not."""
    # A name that nobody can predict: a link that a pull request brought under it would be followed.
    part = path.with_name(f".{path.name[:100]}.{os.urandom(8).hex()}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        yield part
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, mode)
            sync(fd)
        finally:
            os.close(fd)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def place_new(source: Path, target: Path) -> bool:
    """Gives a synced file the name `target` unless something has that name; then False, and nothing is replaced.

    Atomic. `source` may keep its own name beside the new one. The caller syncs the folder. Raises OSError with EXDEV
    where the two lie on different file systems.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # Over NFS the answer to a link that worked can be lost, and its repetition says "exists".
        found = target.lstat()
        return os.path.samestat(found, source.lstat()) and stat.S_ISREG(found.st_mode)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        return _rename_new(source, target)
    return True


def _rename_new(source: Path, target: Path) -> bool:
    """As `place_new`, on a file system without links (FAT, some network shares)."""
    import ctypes  # 4 ms, for those file systems alone

    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        done = libc.renamex_np(os.fsencode(source), os.fsencode(target), 0x4)  # RENAME_EXCL
    else:
        done = libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), 1)  # AT_FDCWD, RENAME_NOREPLACE
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, "this file system can neither link a file nor rename it without replacing; use another one")
    raise OSError(code, os.strerror(code))
