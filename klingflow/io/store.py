"""The store: everything that was paid for, on a folder or on object storage (io.objects), written once.

    format.json                          {"format": 1}
    blobs/ab/cdef…                       clips and frames by SHA-256
    clips/KEY.json                       what a key bought            (io.ledger)
    orders/HASH/KEY.json                 which keys were ordered for a storyboard (io.ledger)
    ledger/KEY/ATTEMPT.N-KIND.json       a paid task's life           (io.ledger)
    films/SOURCE.json                    films that a farm has joined (io.films)
    leases/ACCOUNT/PERIOD-RUNNER.json    which runners use an account now (execution.sharing)
    quarantine/DIGEST.RANDOM             blobs that were found damaged, set aside
    removed/DIGEST.json                  blobs that garbage collection removed, and when

Five verbs: read, list, create, put, delete; and `blob`, the way back from a digest to a file. There is no update, hence
no lock. All of them block: the engine calls them in threads. Knows no record's content.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

from klingflow.core.errors import StoreError
from klingflow.core.model import Digest
from klingflow.core.redact import redact
from klingflow.io import durable

FORMAT = 1
MARKER = "format.json"
TEMP = ".tmp-"
SWEPT = 1000
"""Files of a folder that are looked at for those that a dead process left: a folder of records may have a million."""
STALE_S = 24 * 3600
"""Age at which a temp file can only be what a dead process left behind."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class Store(Protocol):
    where: str
    """The place as shown to people; no secret in it."""
    folder: Path | None
    """Its folder on this machine, which may not be there yet; None for object storage."""
    sets_aside: bool
    """Whether a blob that is found damaged is moved to quarantine/: not where the place may only be read."""

    def read(self, name: str) -> bytes | None:
        """A record's bytes; None where there is none."""
        ...

    def list(self, prefix: str, most: int | None = None) -> Iterator[str]:
        """The names under a folder ("ledger/", "ledger/KEY/"), folder by folder, read as they are asked for.

        `most`: no more than so many of the folders and records right below are wanted, whichever they are. Not all of
        them are read then; more may come where that costs nothing.
        """
        ...

    def ready(self) -> None:
        """Makes the place one that is written to. Raises StoreError where that cannot be: no place, no right to write
        there, or one that overwrites silently."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Writes a record unless one is there; False where one is. Either way it is durable when this returns."""
        ...

    def put(self, file: Path, *, move: bool = False) -> Digest:
        """Keeps a file's bytes under their SHA-256, durably; the same bytes twice are one blob.

        `move`: the caller gives the file up; on one file system nothing is copied then.
        """
        ...

    def blob(self, digest: Digest) -> Path:
        """A local read-only file with these bytes, verified at the first use by this process.

        Raises BlobMissing, and StoreError for damage, which is set aside and never served.
        """
        ...

    def holds(self, digest: Digest) -> bool:
        """Whether there is such a blob; it is not read for that."""
        ...

    def verify(self, digest: Digest) -> int:
        """Reads the blob where it is kept, and not a copy of it; its size in bytes. Raises as `blob`."""
        ...

    def written_s(self, digest: Digest) -> float | None:
        """When the blob was written, in seconds since 1970 by the clock of its place; None where there is none."""
        ...

    def delete(self, name: str) -> None:
        """For upkeep alone. Nothing happens where there is nothing."""
        ...


class BlobMissing(StoreError):
    """No blob with this digest is in the store."""


def blob_name(digest: Digest) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"not a SHA-256 digest: {digest!r}")
    return f"blobs/{digest[:2]}/{digest[2:]}"


def removed_name(digest: Digest) -> str:
    """The note that a blob was removed on purpose."""
    return f"removed/{digest}.json"


def valid(name: str) -> str:
    """The name of an object, or ValueError: letters, digits, dot, dash, underscore; no part begins with a dot."""
    if not is_valid(name):
        raise ValueError(f"not a name in a store: {name!r}")
    return name


def is_valid(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def record_name(name: str) -> str:
    """As `valid`, for a record. Blobs come by `put` alone, which knows their digest."""
    if name.startswith("blobs/"):
        raise ValueError(f"{name!r} is a blob's name")
    return valid(name)


def folder_name(prefix: str) -> str:
    """`prefix` without its last slash, "" for everything; ValueError where it is not a folder's name."""
    if prefix and not prefix.endswith("/"):
        raise ValueError(f"not a folder of a store: {prefix!r}")
    return valid(prefix[:-1]) if prefix else ""


def check_format(data: bytes, where: str) -> None:
    """Raises StoreError where the marker is of another format than this klingflow writes."""
    try:
        found = json.loads(data)["format"]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{where}/{MARKER} is damaged", f'put {{"format": {FORMAT}}} into it') from None
    if not isinstance(found, int) or found > FORMAT:
        raise StoreError(
            f"the store {where} has format {found}, written by a newer klingflow (this one knows {FORMAT})",
            "upgrade klingflow; nothing was touched",
        )


def marker() -> bytes:
    return json.dumps({"format": FORMAT}).encode() + b"\n"


def proves_create_only(store: Store) -> bool:
    """True where a second `create` of one name is refused and changes nothing.

    Some look-alikes of S3 overwrite silently: on those, two runners would both believe they are the one that buys.
    """
    name = f"probe/{os.urandom(12).hex()}.json"
    try:
        return store.create(name, b"1") and not store.create(name, b"2") and store.read(name) == b"1"
    finally:
        with suppress(StoreError):  # a runner may be forbidden to delete
            store.delete(name)


def missing(digest: Digest, store: Store) -> BlobMissing:
    where = store.where
    if any(name.startswith(f"quarantine/{digest}.") for name in store.list("quarantine/")):
        return BlobMissing(
            f"the clip or frame {digest[:12]} was damaged and has been set aside in {where}/quarantine",
            "bring the good file back from a backup or another store; `klingflow run` never buys it again by itself",
        )
    if store.read(removed_name(digest)) is not None:
        return BlobMissing(
            f"the clip or frame {digest[:12]} was removed from {where} by `klingflow store gc`",
            "bring it back from a backup or another store: klingflow store pull PLACE",
        )
    return BlobMissing(
        f"the clip or frame {digest[:12]} is not in the store {where}",
        "use the store that it was made in (`store:` in klingflow.yaml, or KLINGFLOW_STORE)",
    )


def damaged(digest: Digest, store: Store) -> StoreError:
    where = store.where
    aside = f"; it has been set aside in {where}/quarantine" if store.sets_aside else ""
    return StoreError(
        f"the clip or frame {digest[:12]} in the store {where} is damaged: its bytes are not those that were written"
        f"{aside}",
        "bring the good file back from a backup or another store; look after the disk, other files may follow",
    )


class FolderStore:
    """A store in a folder of one file system, shared by any number of processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder: Path | None = root
        self.sets_aside = True
        self.where = redact(str(root))
        self._verified: dict[Digest, tuple[int, ...]] = {}
        self._durable: set[Path] = set()
        self._swept: set[Path] = set()
        self._format_known = False
        self._marked = False
        self._broken: StoreError | None = None

    def read(self, name: str) -> bytes | None:
        path = self.root / valid(name)
        self._check_format()
        return self._read(path)

    def list(self, prefix: str, most: int | None = None) -> Iterator[str]:
        folder = self.root / folder_name(prefix)
        self._check_format()
        return self._walk(folder, prefix, most)

    def ready(self) -> None:
        self._mark()

    def create(self, name: str, data: bytes) -> bool:
        target = self.root / record_name(name)
        self._mark()
        return self._create(target, data)

    def put(self, file: Path, *, move: bool = False) -> Digest:
        self._mark()
        with _opened(file) as source:
            if move and not file.is_symlink():  # a link would be kept as a link
                digest = _hash(file, source)
                with self._writing(file):
                    os.fchmod(source, 0o444)
                self._sync(file, source)
                if self._settle(digest, file):
                    with self._writing(file):
                        file.unlink(missing_ok=True)
                    return digest
            with self._temp(self._folder(self.root / "blobs")) as (temp, fd):
                total = hashlib.sha256()
                for chunk in _chunks(file, source):
                    total.update(chunk)
                    self._write(temp, fd, chunk)
                digest = Digest(total.hexdigest())
                self._sync(temp, fd)
                with _opened(temp) as written:
                    if _hash(temp, written) != digest:
                        raise StoreError(
                            f"what was written to the store {self.where} for {file.name} reads back differently",
                            "look after the disk; nothing was kept, and nothing that was kept before is lost",
                        )
                self._settle(digest, temp)
        if move:
            file.unlink(missing_ok=True)
        return digest

    def blob(self, digest: Digest) -> Path:
        path = self.root / blob_name(digest)
        self._check_format()
        match self._intact(digest, path):
            case None:
                raise missing(digest, self)
            case False:
                raise damaged(digest, self)
        return path

    def holds(self, digest: Digest) -> bool:
        return (self.root / blob_name(digest)).is_file()

    def verify(self, digest: Digest) -> int:
        self._verified.pop(digest, None)
        return self.blob(digest).stat().st_size

    def written_s(self, digest: Digest) -> float | None:
        try:
            return (self.root / blob_name(digest)).stat().st_mtime
        except OSError:
            return None

    def delete(self, name: str) -> None:
        path = self.root / valid(name)
        with self._writing(path), suppress(FileNotFoundError):
            path.unlink()
            self._sync_folder(path.parent)

    # Reading

    def _walk(self, folder: Path, prefix: str, most: int | None = None) -> Iterator[str]:
        try:
            with os.scandir(folder) as found:
                named = (entry for entry in found if entry.name[0] != ".")
                entries = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in islice(named, most))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise self._unreadable(folder, exc) from exc
        for name, is_folder in entries:
            # A folder in a record's place is listed as that record: whoever reads it finds out what it is.
            if is_folder and not name.endswith(".json"):
                yield from self._walk(folder / name, f"{prefix}{name}/")
            else:
                yield prefix + name

    def _read(self, path: Path) -> bytes | None:
        try:
            fd = os.open(path, _PLAIN)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._unreadable(path, exc) from exc
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self._not_plain(path)
            return b"".join(_chunks(path, fd))
        finally:
            os.close(fd)

    def _intact(self, digest: Digest, path: Path) -> bool | None:
        """None where there is no blob; False where its bytes were wrong: then it has been set aside."""
        try:
            fd = os.open(path, _PLAIN)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._unreadable(path, exc) from exc
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise self._not_plain(path)
            if self._verified.get(digest) == _stamp(found):
                return True
            if _hash(path, fd) == digest:
                self._verified[digest] = _stamp(found)
                return True
            try:
                if self.sets_aside:
                    self._set_aside(digest, path, found)
            except StoreError as exc:
                what = f"the clip or frame {digest[:12]} in the store {self.where} is damaged, and cannot be set aside"
                raise StoreError(f"{what}: {exc.what}", exc.mend) from exc
            return False
        finally:
            os.close(fd)

    def _set_aside(self, digest: Digest, path: Path, found: os.stat_result) -> None:
        folder = self._folder(self.root / "quarantine")
        with self._writing(path), suppress(FileNotFoundError):
            # Another process may have set it aside and put the good bytes in its place since.
            if os.path.samestat(found, path.lstat()):
                os.rename(path, folder / f"{digest}.{os.urandom(4).hex()}")
                self._sync_folder(folder)
                self._sync_folder(path.parent)

    def _check_format(self) -> None:
        if not self._format_known:
            data = self._read(self.root / MARKER)
            if data is not None:
                check_format(data, self.where)
            self._format_known = True

    # Writing

    def _mark(self) -> None:
        if self._broken:
            raise self._broken
        if not self._marked:
            self._check_format()
            self._create(self.root / MARKER, marker())
            self._marked = True

    def _create(self, target: Path, data: bytes) -> bool:
        folder = self._folder(target.parent)
        with self._temp(folder) as (temp, fd):
            self._write(temp, fd, data)
            self._sync(temp, fd)
            with self._writing(target):
                made = durable.place_new(temp, target)
                if not made and not stat.S_ISREG(target.lstat().st_mode):
                    raise self._not_plain(target)
        # Also when another process made it: whoever acts on a record must find it again after a power cut.
        self._sync_folder(folder)
        return made

    def _settle(self, digest: Digest, source: Path) -> bool:
        """Gives a finished file its place as a blob; False where it lies on another file system."""
        target = self.root / blob_name(digest)
        folder = self._folder(target.parent)
        with self._writing(target):
            try:
                # A blob that is there and damaged is set aside by `_intact`, and these good bytes take its place.
                while not durable.place_new(source, target) and not self._intact(digest, target):
                    pass
            except OSError as exc:
                if exc.errno == errno.EXDEV:
                    return False
                raise
            self._verified[digest] = _stamp(target.lstat())
        self._sync_folder(folder)
        return True

    @contextmanager
    def _temp(self, folder: Path) -> Iterator[tuple[Path, int]]:
        """A new file beside its later place; gone when this ends, whatever happens (its other name stays). Before the
        first one of a folder, those that dead processes left there are removed."""
        if folder not in self._swept:
            self._swept.add(folder)
            _sweep(folder)
        path = folder / f"{TEMP}{os.getpid()}-{os.urandom(8).hex()}"
        with self._writing(path):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            yield path, fd
        finally:
            os.close(fd)
            with suppress(OSError):
                path.unlink()

    def _write(self, path: Path, fd: int, data: bytes) -> None:
        left = memoryview(data)
        with self._writing(path):
            while left:
                left = left[os.write(fd, left) :]

    def _sync(self, path: Path, fd: int) -> None:
        try:
            durable.sync(fd)
        except OSError as exc:
            # A second fsync would succeed and lie: the kernel may have dropped the pages. So this process writes
            # no more here, and the next one finds out what really is on the disk.
            self._broken = self._unwritable(path, exc)
            raise self._broken from exc

    def _sync_folder(self, folder: Path) -> None:
        with self._writing(folder):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync(folder, fd)
        finally:
            os.close(fd)

    def _folder(self, folder: Path) -> Path:
        """Makes a folder and its parents durable, once a process."""
        if folder in self._durable:
            return folder
        with self._writing(folder):
            if folder == self.root or self.root not in folder.parents:
                if not folder.is_dir():
                    self._folder(folder.parent)
                    folder.mkdir(exist_ok=True)
                    self._sync_folder(folder.parent)
            else:
                self._folder(folder.parent)
                folder.mkdir(exist_ok=True)
                if folder.is_symlink():  # a pull request can hold one, into any folder of this machine
                    raise self._not_plain(folder)
                # Also where it was there: the process that made it may not have come to this line yet.
                self._sync_folder(folder.parent)
        self._durable.add(folder)
        return folder

    # Complaints

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._unwritable(path, exc) from exc

    def _unwritable(self, path: Path, exc: OSError) -> StoreError:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return StoreError(
            f"cannot write {redact(str(path.parent))} in the store {self.where}: {_why(exc)}",
            ("make room" if full else "mend the disk or its permissions")
            + "; what was saved before is safe, and the next run collects what was ordered without buying it again",
        )

    def _unreadable(self, path: Path, exc: OSError) -> StoreError:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            return self._not_plain(path)
        return StoreError(f"cannot read {redact(str(path))}: {_why(exc)}", "mend the disk or its permissions")

    def _not_plain(self, path: Path) -> StoreError:
        return StoreError(
            f"{redact(str(path))} in the store is not a plain file or folder: somebody put something else in its place",
            "look at what it is and remove it; klingflow follows no link there and replaces nothing",
        )


_PLAIN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK | os.O_CLOEXEC
"""No link is followed, and a pipe in a file's place does not hang the reader."""


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise StoreError(f"cannot read {redact(str(file))}: {_why(exc)}") from exc
    try:
        yield fd
    finally:
        os.close(fd)


def _chunks(file: Path, fd: int) -> Iterator[bytes]:
    """The file from its beginning, in pieces."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while chunk := os.read(fd, _CHUNK):
            yield chunk
    except OSError as exc:
        raise StoreError(f"cannot read {redact(str(file))}: {_why(exc)}") from exc


def _hash(file: Path, fd: int) -> Digest:
    total = hashlib.sha256()
    for chunk in _chunks(file, fd):
        total.update(chunk)
    return Digest(total.hexdigest())


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _why(exc: OSError) -> str:
    return (exc.strerror or type(exc).__name__).lower()


def _sweep(folder: Path) -> None:
    """Removes temp files that a process left behind when it died. They are harmless, and this is no duty: of a large
    folder only a part is looked at."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in islice(found, SWEPT):
            if entry.name.startswith(TEMP) and entry.stat(follow_symlinks=False).st_mtime < time.time() - STALE_S:
                os.unlink(entry.path)
