"""HTTP: the door to a provider's API, and downloads from addresses that somebody else chose. The only user of httpx.

Two doors that never share a connection or a header:

`HttpService.send` speaks to the provider's API alone. It attaches the key, follows no redirect and repeats nothing. A
paid request goes out once on a fresh connection; the only failure called `NotSent` is one before its first byte
could leave.

`Downloads` reads URLs that came from outside (results, stills, published frames) without key or cookie: https on port
443 and public addresses only. Each name is resolved once, every address is checked, and the connection goes to a
checked address, so that a name which changes its mind in between gains nothing; each redirect is checked anew. A
base or publish URL that the environment sets widens this to its own host (loopback: to loopback), so that a stand-in
on this machine works.

A proxy (HTTPS_PROXY) is used for https alone. There it only passes bytes of a TLS tunnel, so it cannot send a POST
twice; over plain http it could. Behind a proxy a name that this machine cannot resolve is the proxy's to judge.

httpx slows down with the square of the requests that wait for its pool, and then fails: semaphores no larger than
the pool stand before it. Its transport is used without its client, which would keep cookies and log URLs.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import random
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # in no stub

import httpx

from klingflow import __version__
from klingflow.core.errors import StoreError, UsageError
from klingflow.core.model import Digest
from klingflow.core.redact import redact, register
from klingflow.io import durable
from klingflow.io.address import INSIDE, is_loopback, is_public
from klingflow.io.service import Broken, Gone, NotSent, Unanswered
from klingflow.providers.base import Answer, Request

POOL = 64
"""Connections at once. 2,000 requests on httpx's own 100 never finish; behind 64 they take 4 s (measured 2026-11)."""
CONNECT_S = 10.0
READ_S = 30.0
PAID_READ_S = 60.0
"""Longer than for a poll: an answer that is given up may cost a person's time (HiAPI's own client waits 60 s)."""
PAID_S = 120.0
"""A paid request is over after this, however slowly its bytes go out and come back: other runners wait longer."""
ANSWER_BYTES = 1024 * 1024
WINDOW_S = 61.0
"""A provider's minute, and a second for what the network moves between us."""

DOWNLOAD_BYTES = 512 * 1024 * 1024
"""15 s of 4K at 100 Mbit/s are 190 MB: a body larger than this is no clip."""
DOWNLOAD_S = 900.0
"""One try's time; the next one resumes."""
DOWNLOADS = 16
TRIES = 5
REDIRECTS = 3

_WITH_SLEEP: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that counts the time in which the machine sleeps: clock_gettime(2) of Linux has one of that name; on macOS
CLOCK_MONOTONIC does (its manual, read 2026-11), and Python's own monotonic clock does not."""

_AGENT = f"klingflow/{__version__}"
_LOST = (httpx.HTTPError, httpx.StreamError, OSError, TimeoutError, UnicodeError)


class HttpService:
    """One provider's API. Meets `io.service.Service`; made inside the event loop that uses it.

    `trusted_base`: the base URL comes from the environment, so plain http and a private address are welcome, and
    results may lie on its host. `trusted`: more such URLs (a publish URL of the environment).
    Raises UsageError for a base URL or key that can never work.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        trusted_base: bool = False,
        trusted: Sequence[str] = (),
        requests_per_minute: int | None = None,
        concurrent: int = POOL,
        proxy: str | None = None,
        download_bytes: int = DOWNLOAD_BYTES,
        paid_read_s: float = PAID_READ_S,
    ) -> None:
        register(key)
        self._base = _base(base_url, trusted_base)
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(
                f"the API key for {redact(base_url)} is empty or holds a character that no key has",
                "copy it again, without quotes, spaces or line ends",
            )
        self._key = key
        self._paid_read_s = paid_read_s
        # One pool keeps its connections for polls; the other never uses one twice: a request on a kept connection
        # that the server closes at that moment may or may not have been read.
        self._polls = _transport(proxy, keep=concurrent)
        self._orders = _transport(proxy, keep=0)
        self._turns = {False: asyncio.Semaphore(min(concurrent, POOL)), True: asyncio.Semaphore(POOL)}
        self._pace = _Pace(requests_per_minute)
        vouched = (base_url, *trusted) if trusted_base else trusted
        self._downloads = Downloads(vouched, proxy=proxy, limit=download_bytes)

    async def send(self, request: Request, *, paid: bool = False, before: float = math.inf) -> Answer:
        """One exchange with the API: one try, whatever the status of the answer.

        Raises NotSent while nothing of the request can have left, or at `before`; Unanswered for everything later: cut,
        silent for too long, larger than 1 MiB.
        """
        deadline = _Deadline(before)
        async with self._turns[paid]:
            await self._pace.turn(paid)
            return await self._exchange(request, paid, deadline)

    async def _exchange(self, request: Request, paid: bool, deadline: _Deadline) -> Answer:
        left = False

        async def trace(event: str, info: Mapping[str, object]) -> None:
            # The proxy's CONNECT raises this event too, and holds nothing of the request.
            nonlocal left
            if event.endswith("send_request_headers.started"):
                if getattr(info["request"], "method", b"") == b"CONNECT":
                    return
                if deadline.passed():
                    raise _TooLate
                left = True

        # httpx's own headers are not wanted, and what a provider says beside the key never overrides it.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": _AGENT}
        headers |= {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = f"Bearer {self._key}"
        if paid:
            headers["Connection"] = "close"
        read = self._paid_read_s if paid else READ_S
        built = httpx.Request(
            request.method,
            self._url(request.path),
            headers=headers,
            content=request.body,
            extensions={"timeout": _timeout(read), "trace": trace},
        )
        try:
            async with asyncio.timeout(PAID_S if paid else 2 * READ_S), _open(self._transport(paid), built) as response:
                body = await _capped(response, ANSWER_BYTES)
                return Answer(status=response.status_code, headers=_headers(response), body=body)
        except _LOST as exc:
            raise (Unanswered if left else NotSent)(_why(exc)) from exc
        except _TooLarge as exc:
            raise Unanswered(str(exc)) from exc
        except _TooLate as exc:
            raise NotSent("it was too late to send it: this machine was paused, or the connection was slow") from exc

    def _transport(self, paid: bool) -> httpx.AsyncHTTPTransport:
        return self._orders if paid else self._polls

    def _url(self, path: str) -> httpx.URL:
        base = str(self._base).rstrip("/")
        # HiAPI's own clients take the base with or without /v1 (HiAPI docs, read 2026-11).
        last = "/" + base.rpartition("/")[2]
        if self._base.path.strip("/") and path.startswith(last + "/"):
            base = base.removesuffix(last)
        if not path.startswith("/") or _origin(url := httpx.URL(base + path)) != _origin(self._base):
            raise ValueError("a request's path led away from the API's host")  # BUG: the key would follow
        return url

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        return await self._downloads.fetch(url, to, progress)

    async def close(self) -> None:
        await self._polls.aclose()
        await self._orders.aclose()
        await self._downloads.close()


class _Pace:
    """At most `limit` requests in any minute, all calls of a service together.

    Polls leave a sixth free for orders. An order waits only when even that is used up: its intent is on disk
    already, and other runners count their patience from there (a replay of theirs is safe where there is a limit).
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._sent: deque[float] = deque()

    async def turn(self, paid: bool) -> None:
        if self._limit is None:
            return
        clock = asyncio.get_running_loop().time
        limit = self._limit if paid else self._limit - self._limit // 6
        while True:
            now = clock()
            while self._sent and self._sent[0] <= now - WINDOW_S:
                self._sent.popleft()
            if len(self._sent) < limit:
                self._sent.append(now)
                return
            # When the one leaves the window after which there is room for one more.
            await asyncio.sleep(max(self._sent[len(self._sent) - limit] + WINDOW_S - now, 0.001))


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for an https URL (HTTPS_PROXY, ALL_PROXY; NO_PROXY is respected)."""
    parts = urlsplit(url)
    names = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy") and value}
    proxy = names.get("https_proxy") or names.get("all_proxy")
    bypass = proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": names.get("no_proxy", "")})
    if parts.scheme != "https" or not proxy or bypass:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise UsageError(f"{redact(proxy)} is no proxy that klingflow can use", "set HTTPS_PROXY to an http:// proxy")
    return proxy


def _base(text: str, trusted: bool) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise UsageError(f"{redact(text)!r} is no URL", "a base URL looks like https://api.example.com") from exc
    if not url.host or url.scheme not in ("https", "http") or url.userinfo or url.query or url.fragment:
        raise UsageError(f"{redact(text)!r} cannot be an API's base URL", "write https://HOST, without user or query")
    if url.scheme == "http" and not trusted:
        raise UsageError(f"{redact(text)!r} would send the API key unencrypted", "use https")
    return url


class _Refused(Exception):
    """This URL may not be read at all."""


class _Cut(Exception):
    """This try ended early; the next one may do better. `wait` in seconds where the server names it."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class _TooLarge(Exception):
    pass


class _TooLate(Exception):
    pass


class _Deadline:
    """A time by the loop's clock. That clock stands still while the machine sleeps, so from the making of this on a
    second clock is read that goes on."""

    def __init__(self, at: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._at = at
        self._left = at - self._clock()
        self._since = time.clock_gettime(_WITH_SLEEP)

    def passed(self) -> bool:
        return self._clock() >= self._at or time.clock_gettime(_WITH_SLEEP) - self._since >= self._left


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

    def forget(self) -> None:
        self.received, self.expected, self.etag = 0, None, ""


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
        idle_s: float = READ_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._trusted = {(parts.hostname or "").lower(): parts.scheme for parts in map(urlsplit, trusted)}
        self._loopback = any(is_loopback(host) for host in self._trusted)
        self._proxy = proxy
        self._limit = limit
        self._idle_s = idle_s
        self._sleep = sleep
        # No connection is kept: the pool knows them by address, and two names may share one.
        self._direct = _transport(None, keep=0)
        self._proxied = _transport(proxy, keep=0) if proxy else self._direct
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
            async with self._turn, asyncio.timeout(2 * READ_S), self._follow(url, {"Range": "bytes=0-0"}) as response:
                if response.status_code in (200, 206):
                    return None
                return f"{redact(url)} answers {response.status_code}"
        except _Refused as exc:
            return str(exc)
        except _LOST as exc:
            return f"{redact(url)} cannot be read: {_why(exc)}"

    async def close(self) -> None:
        await self._direct.aclose()
        if self._proxied is not self._direct:
            await self._proxied.aclose()

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
            except _TooLarge as exc:
                raise Broken(str(exc)) from exc
            except _Disk as exc:
                raise exc.error from exc
            except (*_LOST, _Cut) as exc:
                if tried == TRIES:
                    raise Broken(f"{redact(url)} did not arrive whole in {TRIES} tries: {_why(exc)}") from exc
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
            status = response.status_code
            if status in (408, 416, 425, 429) or status >= 500:
                if status == 416:
                    so_far.forget()
                raise _Cut(f"status {status}", _retry_after(response.headers.get("retry-after", "")))
            if status not in (200, 206):
                raise Gone(f"{redact(url)} answers {status}")
            if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                raise _Refused(f"{redact(url)} comes compressed, which was not asked for")
            if status == 206:
                if _range_start(response.headers.get("content-range", "")) != so_far.received or not asked:
                    so_far.forget()
                    raise _Cut("the server sent another range than was asked for")
            else:
                so_far.forget()
                sink.restart()
                so_far.etag = _strong(response.headers.get("etag", ""))
            length = _length(response.headers.get("content-length"))
            so_far.expected = so_far.received + length if length is not None else None
            if (so_far.expected or 0) > limit:
                raise _TooLarge(f"{redact(url)} is larger than {limit} bytes")
            await self._stream(response, url, sink, limit, so_far, progress, text)
        if so_far.expected is not None and so_far.received != so_far.expected:
            raise _Cut(f"{so_far.received} of {so_far.expected} bytes came")
        if so_far.received == 0:
            raise _Cut("the body is empty")
        progress(so_far.received, so_far.expected)

    async def _stream(
        self,
        response: httpx.Response,
        url: str,
        sink: _Sink,
        limit: int,
        so_far: _Progress,
        progress: Callable[[int, int | None], None],
        text: bool,
    ) -> None:
        told = 0
        async for chunk in response.stream:  # type: ignore[union-attr]
            if so_far.received == 0 and not text and chunk.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"["):
                # Object storage tells of a dead URL in XML, some gateways with status 200.
                raise Gone(f"{redact(url)} holds an error page, not a clip")
            if so_far.received + len(chunk) > limit:
                raise _TooLarge(f"{redact(url)} is larger than {limit} bytes")
            try:
                sink.write(chunk)
            except OSError as exc:
                raise _Disk(exc) from exc
            so_far.received += len(chunk)
            if so_far.received - told >= ANSWER_BYTES:
                told = so_far.received
                progress(so_far.received, so_far.expected)

    @asynccontextmanager
    async def _follow(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """The answer behind at most three redirects, each address checked before it is connected to."""
        for _ in range(REDIRECTS + 1):
            parsed = self._allowed(url)
            async with self._get(parsed, headers) as response:
                where = response.headers.get("location")
                if response.status_code not in (301, 302, 303, 307, 308) or where is None:
                    yield response
                    return
            try:
                url = str(parsed.join(where))
            except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
                raise _Refused(f"{redact(url)} leads to an address that is no URL") from exc
        raise _Refused(f"{redact(url)} is behind more than {REDIRECTS} redirects")

    def _allowed(self, url: str) -> httpx.URL:
        shown = redact(url)
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
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
    async def _get(self, url: httpx.URL, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        proxied = self._proxy is not None and not self._trust(url.host)
        addresses = await self._resolve(url, proxied)
        common = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": _AGENT, "Connection": "close"}
        extensions: dict[str, object] = {"timeout": _timeout(self._idle_s)}
        if proxied:
            request = httpx.Request("GET", url, headers={**common, **headers}, extensions=extensions)
            async with _open(self._proxied, request) as response:
                yield response
            return
        # To the address that was checked, by the name that was asked for.
        common["Host"] = url.netloc.decode("ascii")
        extensions["sni_hostname"] = url.raw_host.decode("ascii")
        for i, address in enumerate(addresses):
            target = url.copy_with(host=address)
            request = httpx.Request("GET", target, headers={**common, **headers}, extensions=extensions)
            try:
                response = await self._direct.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if i == len(addresses) - 1:
                    raise
                continue
            try:
                yield response
            finally:
                await response.aclose()
            return

    async def _resolve(self, url: httpx.URL, proxied: bool) -> tuple[str, ...]:
        port = url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
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
        size, at = os.fstat(self._fd).st_size, 0
        while at < size:
            head = os.pread(self._fd, 16, at)
            if at == 0 and head[4:8] not in (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                return True
            if len(head) < 8:
                return False
            box = int.from_bytes(head[:4])
            if box == 1:
                box = int.from_bytes(head[8:16])
            if box == 0:
                return True
            if box < 8 or at + box > size:
                return False
            at += box
        return True

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


# What httpx needs said ----------------------------------------------------------------------------------------------


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than a request. Respects SSL_CERT_FILE."""
    return httpx.create_ssl_context()


def _transport(proxy: str | None, *, keep: int) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(max_connections=POOL, max_keepalive_connections=keep, keepalive_expiry=30.0)
    return httpx.AsyncHTTPTransport(verify=_tls(), http1=True, http2=False, limits=limits, proxy=proxy, retries=0)


def _timeout(read: float) -> dict[str, float | None]:
    return httpx.Timeout(READ_S, read=read, connect=CONNECT_S, pool=None).as_dict()


@asynccontextmanager
async def _open(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    response = await transport.handle_async_request(request)
    try:
        yield response
    finally:
        await response.aclose()


async def _capped(response: httpx.Response, limit: int) -> bytes:
    """The whole body. A server that compresses unasked is still understood: the answer may hold a paid task's id."""
    data = bytearray()
    async for chunk in response.stream:  # type: ignore[union-attr]
        data += chunk
        if len(data) > limit:
            raise _TooLarge(f"the answer is larger than {limit} bytes")
    coding = response.headers.get("content-encoding", "").lower()
    if coding in ("gzip", "deflate", "x-gzip"):
        unpack = zlib.decompressobj(wbits=47)
        try:
            plain = unpack.decompress(bytes(data), limit)
        except zlib.error as exc:
            raise _TooLarge("the answer cannot be unpacked") from exc
        if unpack.unconsumed_tail:
            raise _TooLarge(f"the answer is larger than {limit} bytes")
        return plain
    return bytes(data)


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)


def _why(exc: BaseException) -> str:
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        return "no answer came in time"
    return redact(str(exc)) or f"the connection broke ({type(exc).__name__})"


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
