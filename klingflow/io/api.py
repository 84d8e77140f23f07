"""A provider's API: the door through which orders and polls go.

It attaches what proves who asks, follows no redirect and repeats nothing. A paid request goes out once on a fresh
connection; the only failure called `NotSent` is one before its first byte could leave.
"""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from klingflow.core.errors import UsageError
from klingflow.core.model import Digest
from klingflow.core.redact import redact, register
from klingflow.io import http
from klingflow.io.downloads import DOWNLOAD_BYTES, Downloads
from klingflow.io.service import NotSent, Unanswered, polls_per_minute
from klingflow.providers.base import Answer, Request

PAID_READ_S = 60.0
"""Longer than for a poll: an answer that is given up may cost a person's time (HiAPI's own client waits 60 s)."""
PAID_S = 120.0
"""A paid request is over after this, however slowly its bytes go out and come back: other runners wait longer."""
ANSWER_BYTES = 1024 * 1024
WINDOW_S = 61.0
"""A provider's minute, and a second for what the network moves between us."""
_WITH_SLEEP: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that counts the time in which the machine sleeps: clock_gettime(2) of Linux has one of that name; on macOS
CLOCK_MONOTONIC does (its manual, read 2026-11), and Python's own monotonic clock does not."""


class HttpService:
    """One provider's API. Meets `io.service.Service`; made inside the event loop that uses it.

    `trusted_base`: the base URL comes from the environment, so plain http and a private address are welcome, and
    results may lie on its host. `trusted`: more such URLs (a publish URL of the environment).
    `key` has both halves of the API's key, empty where there is none; `authorization` makes headers of them and of the
    time (`Provider.authorization`). Raises UsageError for a base URL or key that can never work.
    """

    def __init__(
        self,
        base_url: str,
        key: tuple[str, str],
        authorization: Callable[[str, str, float], Mapping[str, str]],
        *,
        trusted_base: bool = False,
        trusted: Sequence[str] = (),
        requests_per_minute: int | None = None,
        concurrent: int = http.POOL,
        proxy: str | None = None,
        download_bytes: int = DOWNLOAD_BYTES,
        paid_read_s: float = PAID_READ_S,
    ) -> None:
        for half in key:
            register(half)
        self._base = _base(base_url, trusted_base)
        if any(not half.isascii() or not half.isprintable() or " " in half for half in key):
            raise UsageError(
                f"the API key for {redact(base_url)} holds a character that no key has",
                "copy it again, without quotes, spaces or line ends",
            )
        self._key = key
        self._authorization = authorization
        self._paid_read_s = paid_read_s
        # One pool keeps its connections for polls; the other never uses one twice: a request on a kept connection
        # that the server closes at that moment may or may not have been read.
        self._polls = http.Connections(proxy, keep=concurrent)
        self._orders = http.Connections(proxy, keep=0)
        self._turns = {False: asyncio.Semaphore(min(concurrent, http.POOL)), True: asyncio.Semaphore(http.POOL)}
        self._pace = _Pace(requests_per_minute)
        vouched = (base_url, *trusted) if trusted_base else trusted
        self._downloads = Downloads(vouched, proxy=proxy, limit=download_bytes)

    async def send(
        self,
        request: Request,
        *,
        paid: bool = False,
        before: float = math.inf,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        """One exchange with the API: one try, whatever the status of the answer.

        Raises NotSent while nothing of the request can have left, or at `before`, or where it is not `wanted`;
        Unanswered for everything later: cut, silent for too long, larger than 1 MiB.
        """
        deadline = _Deadline(before)
        async with self._turns[paid]:
            await self._pace.turn(paid)
            return await self._exchange(request, paid, deadline, wanted)

    async def _exchange(
        self, request: Request, paid: bool, deadline: _Deadline, wanted: Callable[[], Awaitable[bool]] | None
    ) -> Answer:
        left = False

        async def leaving() -> None:
            nonlocal left
            if left:
                return
            if wanted is not None and not await wanted():
                raise _NotWanted
            if deadline.passed():
                raise _TooLate
            left = True

        # What a provider says beside the key never overrides it.
        proof = self._authorization(*self._key, time.time())
        own = {"authorization", *(name.lower() for name in proof)}
        headers = {"Accept": "application/json"}
        headers |= {name: value for name, value in request.headers.items() if name.lower() not in own}
        headers |= proof
        if paid:
            headers["Connection"] = "close"
        read_s = self._paid_read_s if paid else http.READ_S
        opened = (self._orders if paid else self._polls).open(
            request.method, self._url(request.path), headers, request.body, read_s=read_s, leaving=leaving
        )
        try:
            async with asyncio.timeout(PAID_S if paid else 2 * http.READ_S), opened as response:
                body = await _whole(response, ANSWER_BYTES)
                return Answer(status=response.status, headers=response.headers, body=body)
        except (http.Lost, TimeoutError) as exc:
            raise (Unanswered if left else NotSent)(http.why(exc)) from exc
        except _TooLarge as exc:
            raise Unanswered(str(exc)) from exc
        except _NotWanted as exc:
            raise NotSent("it was not wanted any more") from exc
        except _TooLate as exc:
            raise NotSent("it was too late to send it: this machine was paused, or the connection was slow") from exc

    def share(self, runners: int) -> None:
        self._pace.share(runners)

    def owns(self, url: str) -> bool:
        try:
            self._url(url)
        except ValueError:
            return False
        return True

    def _url(self, path: str) -> http.URL:
        if path.lower().startswith(("https://", "http://")):
            url = http.parse(path)
            if _origin(url) != _origin(self._base) or url.userinfo:
                raise ValueError("a request's URL led away from the API's host")  # BUG: the key would follow
            return url
        base = str(self._base).rstrip("/")
        # HiAPI's own clients take the base with or without /v1 (HiAPI docs, read 2026-11).
        last = "/" + base.rpartition("/")[2]
        if self._base.path.strip("/") and path.startswith(last + "/"):
            base = base.removesuffix(last)
        if not path.startswith("/") or _origin(url := http.URL(base + path)) != _origin(self._base):
            raise ValueError("a request's path led away from the API's host")  # BUG: the key would follow
        return url

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        return await self._downloads.fetch(url, to, progress)

    async def close(self) -> None:
        await self._polls.close()
        await self._orders.close()
        await self._downloads.close()


class _Pace:
    """At most `limit` requests in any minute, all calls of a service together.

    A sixth is for orders: polls use what of it the orders of the last minute have not used. An order waits only when
    all is used up: its intent is on disk already, and other runners count their patience from there (a replay of theirs
    is safe where there is a limit).
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = self._whole = limit
        self._sent: deque[tuple[float, bool]] = deque()

    def share(self, runners: int) -> None:
        if self._whole is not None:
            self._limit = max(1, self._whole // runners)

    async def turn(self, paid: bool) -> None:
        if self._limit is None:
            return
        clock = asyncio.get_running_loop().time
        while True:
            now = clock()
            while self._sent and self._sent[0][0] <= now - WINDOW_S:
                self._sent.popleft()
            orders = sum(one for _, one in self._sent)
            kept = 0 if paid else max(0, self._limit - polls_per_minute(self._limit) - orders)
            if len(self._sent) < self._limit - kept:
                self._sent.append((now, paid))
                return
            await asyncio.sleep(max(self._sent[0][0] + WINDOW_S - now, 0.001))


class _TooLarge(Exception):
    pass


class _NotWanted(Exception):
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


def _base(text: str, trusted: bool) -> http.URL:
    try:
        url = http.parse(text)
    except ValueError as exc:
        raise UsageError(f"{redact(text)!r} is no URL", "a base URL looks like https://api.example.com") from exc
    if not url.host or url.scheme not in ("https", "http") or url.userinfo or url.query or url.fragment:
        raise UsageError(f"{redact(text)!r} cannot be an API's base URL", "write https://HOST, without user or query")
    if url.scheme == "http" and not trusted:
        raise UsageError(f"{redact(text)!r} would send the API key unencrypted", "use https")
    return url


async def _whole(response: http.Response, limit: int) -> bytes:
    """The whole body. A server that compresses unasked is still understood: the answer may hold a paid task's id."""
    data = bytearray()
    async for chunk in response.chunks():
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


def _origin(url: http.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)
