"""A page of klingflow.web, served in a thread of the test, and requests to it byte by byte."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlsplit

from klingflow.web.server import Serving


@contextmanager
def served(page: AbstractAsyncContextManager[Serving]) -> Iterator[Serving]:
    """Raises whatever the page raises at its start or end."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[Serving] = []
    loops: list[asyncio.AbstractEventLoop] = []
    errors: list[BaseException] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with page as serving:
            found.append(serving)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            errors.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        if not errors:
            yield found[0]
    finally:
        if not errors:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        for error in errors:
            raise error


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(page: Serving, path: str = "", *, method: str = "GET", body: bytes | None = None, **headers: str | None) -> Got:
    """A request as the page's own script sends it, but for the headers given (None: without it). `path` is below the
    page's address, or from the root where it begins with a slash."""
    address = urlsplit(page.url)
    usual: dict[str, str | None] = {"host": address.netloc}
    if body is not None:
        usual |= {
            "origin": f"http://{address.netloc}",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
    sent = {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}}
    target = path if path.startswith("/") else address.path + path
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value is not None)
    return raw(page, f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b""))


def raw(page: Serving, data: bytes) -> Got:
    """What is answered to these bytes; status 0 for no answer."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as line:
        line.sendall(data)
        answer = HTTPResponse(line)
        try:
            answer.begin()
            return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except OSError:
            return Got(0, {}, b"")
        except Exception:
            return Got(0, {}, b"")
