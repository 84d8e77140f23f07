"""The callback receiver: a small HTTP server that wakes the poller. It never believes what a callback says.

Its only addresses are POST /NAME for the providers whose secret is known, and the path of a callback URL. Everything
else, and every callback that is not verified, gets the same empty 404. A verified one names a task; `wake` is told, and
whoever polls that task asks the provider with its own key. So a forged or replayed callback changes nothing, and a lost
one costs the poll interval.

Built on asyncio and h11, which httpx brings along, not on a web framework: one limit for the time of a whole request,
no server header, no signal handlers, and a receiver that is there in every install. TLS belongs to what stands before
it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import h11

from klingflow.core.errors import UsageError
from klingflow.core.model import TaskId
from klingflow.core.redact import redact, register
from klingflow.providers.base import Provider, WebhookRefused

BODY_BYTES = 256 * 1024
HEAD_BYTES = 16 * 1024
REQUEST_S = 5.0
"""From the connection to the last byte of the body. HiAPI waits 10 s for an answer (its examples, read 2026-11)."""
CONNECTIONS = 64
REMEMBERED = 4096

Wake = Callable[[str, TaskId], None]
"""Told the provider's name and the task; must return at once and must bear tasks that it does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    host: str
    port: int
    """The port that was bound: another one than asked for when 0 was."""
    paths: Mapping[str, str]
    """The path of each provider's callbacks."""


def parse_address(text: str) -> tuple[str, int]:
    """`8080`, `:8080`, `127.0.0.1:8080` or `[::1]:8080`; without a host it is this machine alone."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = "", text
    host = host.strip("[]") if host.startswith("[") else host
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or (":" in host and not text.startswith("[")):
        raise UsageError(f"'{text}' is no address to listen on", "write HOST:PORT, such as 127.0.0.1:8080")
    return host or "127.0.0.1", int(port)


@asynccontextmanager
async def listen(
    host: str,
    port: int,
    *,
    providers: Mapping[str, Provider],
    secrets: Mapping[str, str],
    wake: Wake,
    also: Mapping[str, Sequence[str]] | None = None,
    refused: Callable[[str], None] = lambda line: None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Listening]:
    """Receives callbacks until the block is left. `secrets` are by provider name; those without one are not served.

    `also` names more paths, and the providers that may call each: that of a callback URL, where nothing on the way
    rewrites it. The first of them that believes a callback has it.
    `refused` gets one line for each new reason why callbacks were not believed: for our log, never for the sender.
    Raises UsageError when there is no secret at all, or the address cannot be bound.
    """
    known = [name for name, secret in secrets.items() if secret and name in providers]
    served: dict[str, Sequence[str]] = {f"/{name}": (name,) for name in known}
    if not served:
        raise UsageError(
            "no webhook secret is set, so no callback could be believed",
            f"set {' or '.join(p.caps.webhook_variable for p in providers.values() if p.caps.webhook_variable)} to the "
            "signing key of the account's console, or run without --listen",
        )
    for path, names in (also or {}).items():
        if callers := [name for name in names if name in known]:
            served[path] = callers
    for name in known:
        if not providers[name].caps.webhook_keys:
            register(secrets[name])
    receiver = _Receiver(providers=providers, secrets=secrets, served=served, wake=wake, refused=refused, now=now)
    try:
        server = await asyncio.start_server(receiver.connection, host, port, limit=HEAD_BYTES)
    except OSError as exc:
        raise UsageError(f"cannot listen on {host}:{port}: {exc.strerror or exc}", "choose another address") from exc
    try:
        bound = server.sockets[0].getsockname()[1]
        yield Listening(
            host=host, port=bound, paths={name: path for path, names in reversed(served.items()) for name in names}
        )
    finally:
        server.close()
        await receiver.close()


@dataclass(slots=True, kw_only=True)
class _Receiver:
    providers: Mapping[str, Provider]
    secrets: Mapping[str, str]
    served: Mapping[str, Sequence[str]]
    wake: Wake
    refused: Callable[[str], None]
    now: Callable[[], float]
    open: set[asyncio.Task[None]] = field(default_factory=set)
    seen: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    said: set[str] = field(default_factory=set)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, and the connection ends: a sender calls once in minutes."""
        task = asyncio.current_task()
        assert task is not None
        if len(self.open) >= CONNECTIONS:
            writer.close()
            return
        self.open.add(task)
        try:
            async with asyncio.timeout(REQUEST_S):
                await self._answer(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, h11.RemoteProtocolError):
            pass  # Too slow, cut, or no HTTP: it gets no answer.
        except asyncio.CancelledError:
            pass  # The receiver closes. asyncio would print a cancelled connection as an error.
        finally:
            self.open.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def close(self) -> None:
        for task in tuple(self.open):
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        head = await _event(wire, reader)
        if not isinstance(head, h11.Request):
            return
        names = self._callers(head)
        body = await _body(wire, reader, writer) if names else None
        known = body is not None and any(self._believe(name, head, body) for name in names)
        headers = [("content-length", "0"), ("connection", "close")]
        answer = h11.Response(status_code=200 if known else 404, headers=headers)
        writer.write((wire.send(answer) or b"") + (wire.send(h11.EndOfMessage()) or b""))
        await writer.drain()

    def _callers(self, head: h11.Request) -> Sequence[str]:
        """The providers that this request may come from, judged before a byte of its body is read."""
        headers = [name for name, _ in head.headers]
        kind = next((value for name, value in head.headers if name == b"content-type"), b"")
        length = next((value for name, value in head.headers if name == b"content-length"), b"0")
        if (
            head.method != b"POST"
            # A header that comes twice would be read by us one way and by what stands before us another way.
            or len(headers) != len(set(headers))
            or kind.partition(b";")[0].strip().lower() != b"application/json"
            or int(length) > BODY_BYTES
        ):
            return ()
        return self.served.get(head.target.partition(b"?")[0].decode("ascii", "replace"), ())

    def _believe(self, name: str, head: h11.Request, body: bytes) -> bool:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in head.headers}
        try:
            task = self.providers[name].webhook(headers, body, self.secrets[name], self.now())
        except WebhookRefused as exc:
            reason = redact(f"a callback to {name} was refused: {exc}")
            if reason not in self.said and len(self.said) < REMEMBERED:
                self.said.add(reason)
                self.refused(reason)
            return False
        event = (name, hashlib.sha256(body).hexdigest())
        if task is not None and event not in self.seen:
            self.seen[event] = None
            if len(self.seen) > REMEMBERED:
                self.seen.popitem(last=False)
            self.wake(name, task)
        return True


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
    return bytes(body) if isinstance(event, h11.EndOfMessage) else None
