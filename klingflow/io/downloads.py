"""Downloads from addresses that somebody else chose: results, stills, published frames. No key or cookie is sent.

https on port 443 and public addresses only. Each name is resolved once, every address is checked, and the connection
goes to a checked address, so that a name which changes its mind in between gains nothing; each redirect is checked
anew. A base or publish URL that the environment sets widens this to its own host (loopback: to loopback), so that a
stand-in on this machine works. Behind a proxy a name that this machine cannot resolve is the proxy's to judge.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from klingflow.core.address import INSIDE, is_loopback, is_public
from klingflow.core.errors import StoreError
from klingflow.core.model import Digest
from klingflow.core.redact import redact
from klingflow.io import boxes, durable, http
from klingflow.io.coding import Unpacker, Unreadable
from klingflow.io.service import Broken, Gone

DOWNLOAD_BYTES = 512 * 1024 * 1024
"""15 s of 4K at 100 Mbit/s are 190 MB: a body larger than this is no clip."""
DOWNLOAD_S = 900.0
"""One try's time; the next one resumes."""
DOWNLOADS = 16
TRIES = 5
REDIRECTS = 3
PROGRESS_BYTES = 1024 * 1024
"""How often progress is reported."""

_LOST = (http.Lost, OSError, UnicodeError)  # the lookup of a name raises the last two


class _Refused(Exception):
    """This URL may not be read at all."""


class _Cut(Exception):
    """This try ended early; the next one may do better. `wait` in seconds where the server names it."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class _FileTooLarge(Exception):
    pass


class _Sink(Protocol):
    """Where a download's bytes go; can be emptied and begun again."""

    def write(self, chunk: bytes) -> None: ...
    def restart(self) -> None: ...


@dataclass(slots=True)
class _Progress:
    """What is known of one download across its tries."""

    received: int = 0
    expected: int | None = None
    etag: str = ""
    unpacked: int = 0
    unpacker: Unpacker = field(default_factory=Unpacker)

    def forget(self, coding: str = "") -> None:
        self.received, self.expected, self.etag = 0, None, ""
        self.unpacked, self.unpacker = 0, Unpacker(coding)


class Downloads:
    """Reads from addresses that others chose, without any secret. Needs no provider: stills at URLs come here too.

    `trusted` are URLs from the environment whose hosts may be private or plain http.
    """

    def __init__(
        self,
        trusted: Sequence[str] = (),
        *,
        proxy: str | None = None,
        limit: int = DOWNLOAD_BYTES,
        idle_s: float = http.READ_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._trusted = {(parts.hostname or "").lower(): parts.scheme for parts in map(urlsplit, trusted)}
        self._loopback = any(is_loopback(host) for host in self._trusted)
        self._proxy = proxy
        self._limit = limit
        self._idle_s = idle_s
        self._sleep = sleep
        # No connection is kept: the pool knows them by address, and two names may share one.
        self._direct = http.Connections(None, keep=0)
        self._proxied = http.Connections(proxy, keep=0) if proxy else self._direct
        self._turn = asyncio.Semaphore(DOWNLOADS)

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        """Streams a clip into the new file `to`; the digest of its bytes is taken on the way.

        A cut download resumes where the server can (Range and If-Range), else begins again, five tries in all. Raises
        Gone for a dead URL (4xx, or an error page in place of a clip), Broken for everything else; then `to` is gone.
        """
        try:
            sink = _File(to)
        except OSError as exc:
            raise _disk(to, exc) from exc
        try:
            await self._tries(url, sink, self._limit, progress, whole=sink.whole, text=False)
            await asyncio.to_thread(sink.sync)
        except OSError as exc:
            sink.drop()
            raise _disk(to, exc) from exc
        except BaseException:
            sink.drop()
            raise
        return Digest(sink.digest.hexdigest())

    async def get(self, url: str, limit: int) -> bytes:
        """The bytes at a URL, at most `limit`: a still. Raises Gone or Broken."""
        sink = _Memory()
        await self._tries(url, sink, limit, lambda received, expected: None, whole=lambda: True, text=True)
        return bytes(sink.data)

    async def reachable(self, url: str) -> str | None:
        """None when anybody can read the URL, else why not. Asks for one byte: a signed URL allows no HEAD."""
        try:
            first = self._follow(url, {"Range": "bytes=0-0"})
            async with self._turn, asyncio.timeout(2 * http.READ_S), first as response:
                if response.status in (200, 206):
                    return None
                return f"{redact(url)} answers {response.status}"
        except _Refused as exc:
            return str(exc)
        except _LOST as exc:
            return f"{redact(url)} cannot be read: {http.why(exc)}"

    async def close(self) -> None:
        await self._direct.close()
        if self._proxied is not self._direct:
            await self._proxied.close()

    async def _tries(
        self,
        url: str,
        sink: _Sink,
        limit: int,
        progress: Callable[[int, int | None], None],
        whole: Callable[[], bool],
        text: bool,
    ) -> None:
        so_far = _Progress()
        for tried in range(1, TRIES + 1):
            try:
                async with self._turn, asyncio.timeout(DOWNLOAD_S):
                    await self._try(url, sink, limit, so_far, progress, text)
                if whole():
                    return
                so_far.forget()
                raise _Cut("the file ends in the middle of a box")
            except _Refused as exc:
                raise Broken(str(exc)) from exc
            except _FileTooLarge as exc:
                raise Broken(str(exc)) from exc
            except _Disk as exc:
                raise exc.error from exc
            except (*_LOST, _Cut) as exc:
                if tried == TRIES:
                    raise Broken(f"{redact(url)} did not arrive whole in {TRIES} tries: {http.why(exc)}") from exc
                wait = exc.wait if isinstance(exc, _Cut) else 0.0
                await self._sleep(max(wait, random.uniform(0.0, min(30.0, 0.5 * 2**tried))))

    async def _try(
        self,
        url: str,
        sink: _Sink,
        limit: int,
        so_far: _Progress,
        progress: Callable[[int, int | None], None],
        text: bool,
    ) -> None:
        asked = {}
        if so_far.received and so_far.etag:
            asked = {"Range": f"bytes={so_far.received}-", "If-Range": so_far.etag}
        async with self._follow(url, asked) as response:
            status = response.status
            if status in (408, 416, 425, 429) or status >= 500:
                if status == 416:
                    so_far.forget()
                raise _Cut(f"status {status}", _retry_after(response.headers.get("retry-after", "")))
            if status not in (200, 206):
                raise Gone(f"{redact(url)} answers {status}")
            if status == 206:
                if _range_start(response.headers.get("content-range", "")) != so_far.received or not asked:
                    so_far.forget()
                    raise _Cut("the server sent another range than was asked for")
            else:
                so_far.forget(response.headers.get("content-encoding", ""))
                sink.restart()
                so_far.etag = _strong(response.headers.get("etag", ""))
            length = _length(response.headers.get("content-length"))
            so_far.expected = so_far.received + length if length is not None else None
            if (so_far.expected or 0) > limit:
                raise _FileTooLarge(f"{redact(url)} is larger than {limit} bytes")
            await self._stream(response, url, sink, limit, so_far, progress, text)
        if so_far.expected is not None and so_far.received != so_far.expected:
            raise _Cut(f"{so_far.received} of {so_far.expected} bytes came")
        if so_far.received == 0:
            raise _Cut("the body is empty")
        self._take(so_far.unpacker.end(), url, sink, limit, so_far, text)
        progress(so_far.received, so_far.expected)

    async def _stream(
        self,
        response: http.Response,
        url: str,
        sink: _Sink,
        limit: int,
        so_far: _Progress,
        progress: Callable[[int, int | None], None],
        text: bool,
    ) -> None:
        told = 0
        async for chunk in response.chunks():
            if so_far.received + len(chunk) > limit:
                raise _FileTooLarge(f"{redact(url)} is larger than {limit} bytes")
            self._take(so_far.unpacker.feed(chunk), url, sink, limit, so_far, text)
            so_far.received += len(chunk)
            if so_far.received - told >= PROGRESS_BYTES:
                told = so_far.received
                progress(so_far.received, so_far.expected)

    def _take(
        self, pieces: Iterator[bytes], url: str, sink: _Sink, limit: int, so_far: _Progress, text: bool
    ) -> None:
        try:
            for piece in pieces:
                if so_far.unpacked == 0 and not text and piece.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"["):
                    # Object storage tells of a dead URL in XML, some gateways with status 200.
                    raise Gone(f"{redact(url)} holds an error page, not a clip")
                so_far.unpacked += len(piece)
                if so_far.unpacked > limit:
                    raise _FileTooLarge(f"{redact(url)} is larger than {limit} bytes")
                sink.write(piece)
        except Unreadable as exc:
            so_far.forget()
            raise _Cut(str(exc)) from exc
        except OSError as exc:
            raise _Disk(exc) from exc

    @asynccontextmanager
    async def _follow(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[http.Response]:
        """The answer behind at most three redirects, each address checked before it is connected to."""
        for _ in range(REDIRECTS + 1):
            parsed = self._allowed(url)
            async with self._get(parsed, headers) as response:
                where = response.headers.get("location")
                if response.status not in (301, 302, 303, 307, 308) or where is None:
                    yield response
                    return
            try:
                url = str(http.join(parsed, where))
            except ValueError as exc:
                raise _Refused(f"{redact(url)} leads to an address that is no URL") from exc
        raise _Refused(f"{redact(url)} is behind more than {REDIRECTS} redirects")

    def _allowed(self, url: str) -> http.URL:
        shown = redact(url)
        try:
            parsed = http.parse(url)
        except ValueError as exc:
            raise _Refused(f"{shown!r} is no URL") from exc
        if parsed.userinfo:
            raise _Refused(f"{shown} names a user: not read")
        trust = self._trust(parsed.host)
        if parsed.scheme != "https" and not (parsed.scheme == "http" and trust == "http"):
            raise _Refused(f"{shown} is not https: not read")
        if parsed.port not in (None, 443) and not trust:
            raise _Refused(f"{shown} is on an unusual port: not read")
        if not parsed.host or (parsed.host.lower().rstrip(".").endswith(INSIDE) and not trust):
            raise _Refused(f"{shown} names a host inside a private network: not read")
        return parsed

    def _trust(self, host: str) -> str:
        """The scheme of the environment's URL that vouches for a host; empty: none does."""
        if self._loopback and is_loopback(host):
            return "http"
        return self._trusted.get(host.lower(), "")

    @asynccontextmanager
    async def _get(self, url: http.URL, headers: Mapping[str, str]) -> AsyncIterator[http.Response]:
        proxied = self._proxy is not None and not self._trust(url.host)
        addresses = await self._resolve(url, proxied)
        connections = self._proxied if proxied else self._direct
        headers = {"Accept": "*/*", "Connection": "close", **headers}
        checked = () if proxied else addresses
        async with connections.open("GET", url, headers, read_s=self._idle_s, addresses=checked) as response:
            yield response

    async def _resolve(self, url: http.URL, proxied: bool) -> tuple[str, ...]:
        port = url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(http.CONNECT_S):
                found = await loop.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
        except OSError:
            if proxied:
                return ()
            raise
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._trust(url.host) and not all(map(is_public, addresses)):
            raise _Refused(f"{redact(str(url))} lies at a private address: not read")
        return addresses[:4]


class _Disk(Exception):
    """Wraps an OSError of our own disk, so that it is not taken for one of the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _File:
    """A new file and the digest of what is in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._fd, view) :]
        self.digest.update(chunk)

    def restart(self) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.ftruncate(self._fd, 0)
        self.digest = hashlib.sha256()

    def whole(self) -> bool:
        """False when the file ends inside one of its boxes. A server that names no length, or a wrong one, cannot hide
        a cut from this. A file that is no MP4 at all is somebody else's to refuse."""
        return os.pread(self._fd, 8, 0)[4:8] not in boxes.STARTS or boxes.walk(self._fd).whole

    def sync(self) -> None:
        durable.sync(self._fd)
        os.close(self._fd)
        self._fd = -1

    def drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.unlink(missing_ok=True)


class _Memory:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, chunk: bytes) -> None:
        self.data += chunk

    def restart(self) -> None:
        self.data.clear()


def _disk(path: Path, exc: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {exc.strerror or exc}", "free some space there, then run again")


def _length(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _retry_after(text: str) -> float:
    """Seconds, from a number or an HTTP date; 0 for anything else, a minute at most."""
    seconds = float(_length(text[:9]) or 0)
    if not seconds:
        with suppress(ValueError, TypeError):
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
    return min(max(seconds, 0.0), 60.0)


def _range_start(text: str) -> int | None:
    unit, _, rest = text.partition(" ")
    return _length(rest.partition("-")[0]) if unit == "bytes" else None


def _strong(etag: str) -> str:
    """A weak tag says that two bodies mean the same, not that their bytes are equal."""
    return etag if etag.startswith('"') else ""
