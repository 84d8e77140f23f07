"""A small HTTP server for one page on this machine: loopback alone, and for nobody but who has its address.

The address holds a random token, so no other user or program of the machine can guess it; and a page of another origin
in the same browser gets nothing either, because every request is held to these:

- Host is 127.0.0.1 or localhost with our port: a foreign name that was made to point here is refused (DNS rebinding).
- The token is in the path of each request, and no page is told it: nothing is sent as a referrer.
- Where a browser says where a request comes from (Origin, Sec-Fetch-Site), that is this very page, or the address bar.
- What changes something is a POST of JSON with our Origin.

Nothing is answered to others but a status. Built on asyncio and h11, as the receiver of callbacks is (io.webhook): one
request a connection, one limit for the time of a whole request. Knows no storyboard.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import h11

from klingflow.core.errors import UsageError

HOST = "127.0.0.1"
HEAD_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024
REQUEST_S = 10.0
"""From the connection to the last byte of the request."""
STALLED_S = 30.0
"""For a part of an answer to be taken."""
REFUSED_S = 1.0
"""How long what follows a request that was refused is read, to be thrown away."""
CONNECTIONS = 64
PART_BYTES = 2 << 20
"""Of a file in one answer. A browser has six connections to a host, and a video that is not played holds one for as
long as its answer lasts: so each gets a part, and asks for the next (RFC 9110, 15.3.7)."""

_HEADERS = (
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("connection", "close"),
)
_SAID = {400: "bad request", 403: "forbidden", 404: "not found", 405: "method not allowed", 413: "too large"}
_SAID |= {500: "klingflow has failed: its message is in the terminal"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was let in."""

    method: str
    """GET or POST."""
    path: str
    """What follows the token: "/", "/api/state"."""
    query: str
    body: bytes


@dataclass(frozen=True, slots=True)
class File:
    """A file as an answer, or the part of it that was asked for."""

    path: Path
    kind: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Answer | File]]


def plain(status: int) -> Answer:
    """An answer that says its status and no more."""
    return Answer(status, body=f"{_SAID.get(status, 'no')}\n".encode())


@dataclass(frozen=True, slots=True)
class Serving:
    url: str
    """The page's address, with its token."""
    opening: str
    """An address that leads there once: the command line of a browser, which others of the machine can read, holds it
    and not the token."""
    port: int


@asynccontextmanager
async def serve(handler: Handler, port: int = 0) -> AsyncIterator[Serving]:
    """Answers by `handler` until the block is left. Port 0 is any that is free. Raises UsageError where it cannot be
    had."""
    gate = _Gate(handler=handler, token=secrets.token_urlsafe(24), ticket=secrets.token_urlsafe(24))
    try:
        server = await asyncio.start_server(gate.connection, HOST, port, limit=HEAD_BYTES)
    except OSError as bad:
        raise UsageError(f"port {port} cannot be used: {bad.strerror or bad}", "choose another --port") from bad
    gate.port = server.sockets[0].getsockname()[1]
    site = f"http://{HOST}:{gate.port}"
    try:
        yield Serving(url=f"{site}/{gate.token}/", opening=f"{site}/open/{gate.ticket}", port=gate.port)
    finally:
        server.close()
        await gate.close()


@dataclass(slots=True, kw_only=True)
class _Gate:
    handler: Handler
    token: str
    ticket: str
    """Empty once it was used."""
    port: int = 0
    open: set[asyncio.Task[None]] = field(default_factory=set)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, and the connection ends."""
        task = asyncio.current_task()
        assert task is not None
        if len(self.open) >= CONNECTIONS:
            writer.close()
            return
        self.open.add(task)
        try:
            await self._converse(reader, writer)
        except (TimeoutError, OSError, h11.ProtocolError):
            pass  # too slow, cut, or no HTTP
        except asyncio.CancelledError:
            pass  # the server closes
        except Exception as bug:  # by itself Python 3.11.2 tells of it when the task is collected, perhaps never
            told = {"message": "a request could not be answered", "exception": bug}
            asyncio.get_running_loop().call_exception_handler(told)
        finally:
            self.open.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def close(self) -> None:
        for task in tuple(self.open):
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        async with asyncio.timeout(REQUEST_S):
            head = await _event(wire, reader)
            if not isinstance(head, h11.Request):
                return
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
            let_in = self._judged(head, headers)
            body = None if isinstance(let_in, Answer) else await _body(wire, reader, writer)
        sender = _Sender(wire, writer)
        if isinstance(let_in, Answer) or body is None:
            await sender.send(let_in if isinstance(let_in, Answer) else plain(413))
            with suppress(TimeoutError):
                async with asyncio.timeout(REFUSED_S):  # what was still on its way: else the answer would be lost
                    while await reader.read(HEAD_BYTES):
                        pass
            return
        try:
            answer = await self.handler(replace(let_in, body=body))
        except Exception:
            await sender.send(plain(500))
            raise
        if isinstance(answer, File):
            await sender.file(answer, dict(headers).get("range", ""))
        else:
            await sender.send(answer)

    def _judged(self, head: h11.Request, headers: list[tuple[str, str]]) -> Request | Answer:
        """The request without its body, or the answer to one that is not let in."""
        given = dict(headers)
        if len(given) != len(headers):
            return plain(400)  # one that comes twice may be read in two ways
        hosts = [f"{name}:{self.port}" for name in (HOST, "localhost")] + ([HOST, "localhost"] * (self.port == 80))
        if given.get("host") not in hosts:
            return plain(403)
        target, _, query = head.target.decode("latin-1").partition("?")
        method = head.method.decode("latin-1")
        if self.ticket and method == "GET" and _same(target, f"/open/{self.ticket}"):
            self.ticket = ""
            return Answer(303, headers={"location": f"/{self.token}/"})
        inside = f"/{self.token}"
        if not _same(target[: len(inside) + 1], f"{inside}/"):
            return plain(404)
        path = target[len(inside) :]
        origin, site = given.get("origin"), given.get("sec-fetch-site", "none")
        own = (None, f"http://{given['host']}")
        if origin not in own or not (site in ("none", "same-origin") or (path == "/" and method == "GET")):
            return plain(403)
        if method == "POST":
            kind, length = given.get("content-type", ""), given.get("content-length", "")
            if origin is None or kind.partition(";")[0].strip().lower() != "application/json":
                return plain(403)
            if not length.isdecimal() or int(length) > BODY_BYTES:
                return plain(413)
        elif method != "GET":
            return replace(plain(405), headers={"allow": "GET, POST"})
        return Request(method, path, query, b"")


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


@dataclass(slots=True)
class _Sender:
    wire: h11.Connection
    writer: asyncio.StreamWriter

    async def send(self, answer: Answer) -> None:
        headers = {"content-type": answer.kind, **answer.headers}
        await self._begin(answer.status, headers, len(answer.body))
        await self._end(answer.body)

    async def file(self, file: File, asked: str) -> None:
        size = (await asyncio.to_thread(file.path.stat)).st_size
        headers = {"content-type": file.kind, "accept-ranges": "bytes"}
        found = _RANGE.fullmatch(asked.replace(" ", ""))
        if found is None or not (found[1] or found[2]):
            await self._begin(200, headers, size)
            for start in range(0, size, PART_BYTES):
                await self._write(await asyncio.to_thread(_read, file.path, start, min(PART_BYTES, size - start)))
            await self._end(b"")
            return
        start = int(found[1]) if found[1] else max(0, size - int(found[2]))
        end = min(size, int(found[2]) + 1 if found[1] and found[2] else size, start + PART_BYTES)
        if start >= end:
            await self._begin(416, {**headers, "content-range": f"bytes */{size}"}, 0)
            await self._end(b"")
            return
        await self._begin(206, {**headers, "content-range": f"bytes {start}-{end - 1}/{size}"}, end - start)
        await self._end(await asyncio.to_thread(_read, file.path, start, end - start))

    async def _begin(self, status: int, headers: Mapping[str, str], length: int) -> None:
        named = [*_HEADERS, *headers.items(), ("content-length", str(length))]
        self.writer.write(self.wire.send(h11.Response(status_code=status, headers=named)) or b"")

    async def _write(self, data: bytes) -> None:
        if data:
            self.writer.write(self.wire.send(h11.Data(data=data)) or b"")
        async with asyncio.timeout(STALLED_S):
            await self.writer.drain()

    async def _end(self, data: bytes) -> None:
        await self._write(data)
        self.writer.write(self.wire.send(h11.EndOfMessage()) or b"")
        await self.writer.drain()


_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


def _read(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)


async def _event(wire: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := wire.next_event()) is h11.NEED_DATA:
        wire.receive_data(await reader.read(HEAD_BYTES))
    return event


async def _body(wire: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The whole body, or None as soon as it is too large."""
    if wire.they_are_waiting_for_100_continue:
        writer.write(wire.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
    body = bytearray()
    while isinstance(event := await _event(wire, reader), h11.Data):
        body += event.data
        if len(body) > BODY_BYTES:
            return None
    return bytes(body)
