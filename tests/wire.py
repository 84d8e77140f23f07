"""A server on loopback that answers as it is told, for the tests of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

Talk = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    """A server that answers as it is told and keeps every byte it was sent."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.heard: list[bytes] = []
        self.base = ""

    async def on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                length = next(
                    (int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0
                )
                body = await reader.readexactly(length)
                self.heard.append(head + body)
                await self.talk(head + body, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def wire(talk: Talk) -> AsyncIterator[Wire]:
    it = Wire(talk)
    server = await asyncio.start_server(it.on, "127.0.0.1", 0)
    it.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()


def says(status: str, body: bytes = b"{}", *headers: str, length: int | None = None) -> Talk:
    async def talk(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
        writer.write("\r\n".join(head).encode() + body)
        if length is not None and length != len(body):
            writer.close()

    return talk


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(main)
