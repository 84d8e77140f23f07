"""The store on object storage: S3, Google Cloud Storage, Azure, and what speaks their protocols, by obstore.

A record is made with "create only if absent" (S3: If-None-Match), so that many runners share a store without a lock.
Blobs pass through a local cache, which is a folder store: whoever wants a file gets it from there, verified.
Credentials come from the environment alone (AWS_…, GOOGLE_…, AZURE_…). A service that is restarted, busy or cut off
for a minute is waited for. Knows no record's content.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from klingflow.core.errors import StoreError, StoreSilent, UsageError
from klingflow.core.model import Digest
from klingflow.core.redact import redact
from klingflow.io.publish import TYPES, checked
from klingflow.io.store import (
    MARKER,
    TEMP,
    FolderStore,
    blob_name,
    check_format,
    damaged,
    folder_name,
    marker,
    missing,
    proves_create_only,
    record_name,
    valid,
)

_TRIES = 5
RETRIES = 10
"""Of one request, by obstore itself: some seconds."""
PATIENCE_S = 100.0
"""How long a service that has answered before, or says that it is busy, is waited for until it answers again."""
PAUSE_S = 3.0
"""The longest pause before it is asked again."""
_BUSY = re.compile(r"status code: (429|5\d\d)")
_PART = 1 << 20
SCHEMES = ("s3://", "gs://", "az://")
T = TypeVar("T")


def connect(place: str, *, retries: int | None = None) -> Any:
    """obstore's handle for s3://…, gs://… or az://…; nothing is sent yet."""
    if not place.startswith(SCHEMES):
        raise UsageError(
            f"{redact(place)} is no place that klingflow can write to",
            f"give a folder, or a URL that begins with {', '.join(SCHEMES)}",
        )
    try:
        return obstore.store.from_url(
            place,
            # The time limit is for a whole transfer, and a clip may have 500 MB.
            client_options={
                "timeout": timedelta(minutes=10),
                "connect_timeout": timedelta(seconds=10),
                "allow_http": any(value.startswith("http://") for value in _endpoints().values()),
            },
            retry_config={"max_retries": RETRIES if retries is None else retries},
        )
    except (BaseError, ValueError, TypeError) as exc:
        raise UsageError(
            f"cannot use {redact(place)}: {reason(exc)}",
            "look at the bucket's name, and at the AWS_…, GOOGLE_… or AZURE_… variables of the environment",
        ) from exc


def _endpoints() -> dict[str, str]:
    """AWS_ENDPOINT_URL and its like: which server a bucket's name is asked of. The environment is the user's own."""
    return {name: value for name, value in sorted(os.environ.items()) if "ENDPOINT" in name}


def reason(exc: Exception) -> str:
    """What obstore says, without its debugging part; no secret in it."""
    return redact(str(exc).split("\n\nDebug source", 1)[0].strip())


def open_objects(place: str, cache: FolderStore, limit: int | None = None) -> ObjectStore:
    identity = hashlib.sha256("\n".join([place, *_endpoints().values()]).encode()).hexdigest()
    return ObjectStore(connect(place), connect(place, retries=0), redact(place.rstrip("/")), identity, cache, limit)


class ObjectStore:
    """A store behind obstore. `once` is the same place without retries: a create that is retried underneath would
    find its own first try and take it for somebody else's. `identity` names the place for the cache, which holds at
    most `limit` bytes, but for what this process has used."""

    def __init__(
        self, objects: Any, once: Any, where: str, identity: str, cache: FolderStore, limit: int | None = None
    ) -> None:
        self.where = where
        self.folder: Path | None = None
        self.sets_aside = True
        self._objects = objects
        self._once = once
        self._cache = cache
        self._limit = limit
        self._used: set[Digest] = set()
        self._proof = f"proved/{identity}.json"
        self._answered = False
        self._format_known = False
        self._marked = False
        self._marking = threading.RLock()

    def read(self, name: str) -> bytes | None:
        self._check_format()
        return self._read(valid(name))

    def list(self, prefix: str, most: int | None = None) -> Iterator[str]:
        folder = folder_name(prefix)
        self._check_format()
        return self._list(folder)

    def _list(self, folder: str) -> Iterator[str]:
        last: str | None = None
        chunks: Iterator[Any] | None = None

        def more() -> Any:
            """The next names; where the service was silent in between, from the last one on."""
            nonlocal chunks
            if chunks is None:
                chunks = iter(obstore.list(self._objects, prefix=folder or None, offset=last))
            try:
                return next(chunks, None)
            except BaseError:
                chunks = None
                raise

        with self._talking(f"list {folder or 'everything'}"):
            while (chunk := self._patiently(more)) is not None:
                for found in chunk:
                    last = str(found["path"])
                    if not last.rsplit("/", 1)[-1].startswith("."):
                        yield last

    def ready(self) -> None:
        self._mark()

    def create(self, name: str, data: bytes) -> bool:
        record_name(name)
        self._mark()
        return self._create(name, data)

    def put(self, file: Path, *, move: bool = False) -> Digest:
        self._mark()
        # The cache's copy is what is sent: verified, and nobody writes into it while it is on its way.
        digest = self._cache.put(file, move=move)
        local = self._cache.blob(digest)
        name = blob_name(digest)
        size = local.stat().st_size
        if self._size(name) != size:
            with self._talking(f"write {name}"):
                self._patiently(lambda: obstore.put(self._objects, name, local))
            if self._size(name) != size:
                raise StoreError(
                    f"{name} in {self.where} has not the size that was sent",
                    "look at the storage service; the good file is in the local cache, run again",
                )
        return digest

    def blob(self, digest: Digest) -> Path:
        name = blob_name(digest)
        self._check_format()
        self._used.add(digest)
        with suppress(StoreError):  # missing, or damaged and set aside: either way the origin has it
            local = self._cache.blob(digest)
            with suppress(OSError):
                os.utime(local)
            return local
        for _ in range(2):  # the wire may be at fault once
            part = self._cache.root / f"{TEMP}{os.getpid()}-{os.urandom(8).hex()}"
            try:
                found = self._fetch(name, part)
                if found is None:
                    raise missing(digest, self)
                if found == digest:
                    self._cache.put(part, move=True)
                    self._make_room()
                    return self._cache.blob(digest)
            finally:
                part.unlink(missing_ok=True)
        self._set_aside(digest, name)
        raise damaged(digest, self)

    def _make_room(self) -> None:
        """Removes from the cache what was not used for longest, where it is larger than its limit. Only what the origin
        has: a copy may be all there is of a clip whose upload failed."""
        if self._limit is None:
            return
        files = [
            (found.st_mtime_ns, found.st_size, path)
            for path in (self._cache.root / "blobs").glob("??/*")
            if not path.name.startswith(TEMP)
            for found in [path.stat()]
        ]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._limit:
                return
            digest = Digest(path.parent.name + path.name)
            if digest not in self._used and self._size(blob_name(digest)) == size:
                path.unlink(missing_ok=True)
                total -= size

    def holds(self, digest: Digest) -> bool:
        return self._size(blob_name(digest)) is not None

    def verify(self, digest: Digest) -> int:
        name = blob_name(digest)
        for _ in range(2):
            part = self._cache.root / f"{TEMP}{os.getpid()}-{os.urandom(8).hex()}"
            try:
                found = self._fetch(name, part)
                if found is None:
                    raise missing(digest, self)
                if found == digest:
                    return part.stat().st_size
            finally:
                part.unlink(missing_ok=True)
        self._set_aside(digest, name)
        raise damaged(digest, self)

    def written_s(self, digest: Digest) -> float | None:
        with self._talking(f"look for {blob_name(digest)}"):
            try:
                found = self._patiently(lambda: obstore.head(self._objects, blob_name(digest)))
                return float(found["last_modified"].timestamp())
            except FileNotFoundError:
                return None

    def delete(self, name: str) -> None:
        with self._talking(f"delete {valid(name)}"), suppress(FileNotFoundError):
            self._patiently(lambda: obstore.delete(self._objects, name))

    # Reading

    def _read(self, name: str) -> bytes | None:
        with self._talking(f"read {name}"):
            try:
                return self._patiently(lambda: bytes(obstore.get(self._objects, name).bytes()))
            except FileNotFoundError as exc:
                self._there_at_all(exc)
                return None

    def _size(self, name: str) -> int | None:
        with self._talking(f"look for {name}"):
            try:
                return int(self._patiently(lambda: obstore.head(self._objects, name))["size"])
            except FileNotFoundError:
                return None

    def _fetch(self, name: str, part: Path) -> Digest | None:
        """Streams the object into a new local file; the digest of what came, None where there is none."""
        part.parent.mkdir(parents=True, exist_ok=True)

        def fetch() -> Digest:
            total = hashlib.sha256()
            stream = obstore.get(self._objects, name).stream(_PART)
            with part.open("wb") as file:
                for piece in stream:
                    data = bytes(piece)
                    total.update(data)
                    file.write(data)
            return Digest(total.hexdigest())

        with self._talking(f"fetch {name}"):
            try:
                return self._patiently(fetch)
            except FileNotFoundError as exc:
                self._there_at_all(exc)
                return None

    def _there_at_all(self, exc: FileNotFoundError) -> None:
        """A bucket that does not exist must not look like an empty store: everything would be bought again."""
        if any(word in str(exc) for word in ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")):
            raise StoreError(f"{self.where} does not exist", "make the bucket, or look at `store:`") from exc

    def _check_format(self) -> None:
        if not self._format_known:
            data = self._read(MARKER)
            if data is not None:
                check_format(data, self.where)
            self._format_known = True

    # Writing

    def _mark(self) -> None:
        """Before the first write: the marker, and once for each place and cache the proof that it can create only."""
        with self._marking:
            if self._marked:
                return
            self._check_format()
            self._create(MARKER, marker())
            if self._cache.read(self._proof) is None:
                self._marked = True  # the proof goes through the front door
                try:
                    proved = proves_create_only(self)
                finally:
                    self._marked = False
                if not proved:
                    raise StoreError(
                        f"{self.where} overwrites silently: it ignores \"create only if absent\" (If-None-Match), "
                        "so two runners could both buy the same clip",
                        "use a storage service that honours it (AWS S3, Google, Azure, R2, Ceph, MinIO), or a folder",
                    )
                self._cache.create(self._proof, b"{}\n")
            self._marked = True

    def _create(self, name: str, data: bytes) -> bool:
        """The answer may be lost on its way: then what is there tells. Our own bytes: it was us."""
        lost: Exception | None = None
        tried, until = 0, time.monotonic() + PATIENCE_S
        while tried < _TRIES or (lost is not None and time.monotonic() < until):
            if tried:
                time.sleep(random.uniform(0.5, 1) * min(PAUSE_S, 0.1 * 2**tried))
            tried += 1
            with self._talking(f"write {name}"):
                try:
                    obstore.put(self._once, name, data, mode="create")
                    return True
                except (AlreadyExistsError, PreconditionError):
                    pass  # or S3's 409: two at once, and neither is there yet
                except FileNotFoundError:
                    raise  # the bucket
                except (GenericError, OSError) as exc:
                    lost = exc
            try:
                there = self._read(name)
            except StoreError:
                if lost is None:
                    raise
                continue
            if there is not None:
                return lost is not None and there == data
        raise (StoreError if lost is None else StoreSilent)(
            f"cannot tell whether {name} was written to {self.where}: "
            + (reason(lost) if lost else "it says both that the object exists and that it does not"),
            "run again when the storage service answers; what was saved before is safe",
        ) from lost

    def _set_aside(self, digest: Digest, name: str) -> None:
        if not self.sets_aside:
            return
        with self._talking(f"set aside {name}"), suppress(FileNotFoundError):
            obstore.rename(self._objects, name, f"quarantine/{digest}.{os.urandom(4).hex()}")

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What the service answers, however often it must be asked. One that has never answered and does not say that
        it is busy is not waited for: its address may be wrong."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = ask()
            except FileNotFoundError:
                self._answered = True
                raise
            except GenericError as exc:
                if time.monotonic() >= until or not (self._answered or _BUSY.search(str(exc))):
                    raise
            else:
                self._answered = True
                return answer
            time.sleep(random.uniform(0.3, 1) * PAUSE_S)

    @contextmanager
    def _talking(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as exc:
            kind = StoreSilent if isinstance(exc, GenericError) and not _NO_KEY.search(str(exc)) else StoreError
            raise kind(f"cannot {doing} in {self.where}: {reason(exc)}", _mend(exc)) from exc


_NO_KEY = re.compile(r"credential|169\.254\.169\.254|/latest/(api/token|meta-data)", re.I)
"""Where nobody gives a key, the library asks the machine's host for one at the address of the clouds' metadata."""


def _mend(exc: Exception) -> str:
    if "RequestTimeTooSkewed" in str(exc):  # S3 wants a signature of the last 15 minutes
        return "set the clock of this machine right (timedatectl set-ntp true), and run again"
    if isinstance(exc, PermissionDeniedError | UnauthenticatedError) or _NO_KEY.search(str(exc)):
        return (
            "set the credentials of an account that may read and write there in the environment: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or those of GOOGLE_… or AZURE_…"
        )
    return "look at the network, the bucket and its credentials; what was saved before is safe, run again"


class ObjectPublisher:
    """Frames on object storage (io.publish): read under `prefix`, or by URLs that are signed for `life`."""

    def __init__(self, objects: Any, where: str, prefix: str | None, life: timedelta) -> None:
        self.where = where
        self._objects = objects
        self._prefix = prefix
        self._life = life

    def put(self, digest: Digest, data: bytes, suffix: str) -> str:
        name = checked(digest, data, suffix)
        try:
            there = None
            with suppress(FileNotFoundError):
                there = obstore.head(self._objects, name)["size"]
            if there != len(data):
                obstore.put(self._objects, name, data, attributes={"Content-Type": TYPES[suffix]})
            if self._prefix is not None:
                return f"{self._prefix}/{name}"
            return str(obstore.sign(self._objects, "GET", name, self._life))
        except (BaseError, OSError, ValueError) as exc:
            raise StoreError(
                f"cannot publish a frame to {self.where}: {reason(exc)}",
                "look at the bucket of `publish.to` and its credentials; nothing was ordered for this shot",
            ) from exc
