"""HTTP connections: the only user of httpx. io.api and io.downloads say where to, with what, and what an answer means.

httpx slows down with the square of the requests that wait for its pool, and then fails: whoever opens requests here
holds them behind a semaphore of at most POOL. Its transport is used without its client, which would keep cookies and
log URLs. Nothing is sent twice here, and no redirect is followed.

A proxy (HTTPS_PROXY) is used for https alone. There it only passes bytes of a TLS tunnel, so it cannot send a POST
twice; over plain http it could.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, cached_property
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # in no stub

import httpx

from klingflow import __version__
from klingflow.core.errors import UsageError
from klingflow.core.redact import redact

POOL = 64
"""Connections at once. 2,000 requests on httpx's own 100 never finish; behind 64 they take 4 s (measured 2026-11)."""
CONNECT_S = 10.0
READ_S = 30.0
"""For one piece of an answer, or for one piece of a request to leave."""

URL = httpx.URL
_FAULTS = (httpx.HTTPError, httpx.StreamError, OSError, UnicodeError)


class Lost(Exception):
    """No answer came, or none that is whole."""


class Response:
    """An answer whose body has not been read yet; lives as long as the request is open."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        """Names in small letters."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes over the wire, still in its content coding. Raises Lost."""
        try:
            async for chunk in self._response.stream:  # type: ignore[union-attr]
                yield chunk
        except _FAULTS as exc:
            raise Lost(why(exc)) from exc


class Connections:
    """A pool of them, all direct or all through one proxy; made inside the event loop that uses it.

    `keep` connections wait for a further request; 0: none is ever used twice.
    """

    def __init__(self, proxy: str | None, *, keep: int) -> None:
        self._proxy = proxy
        self._keep = keep

    @cached_property
    def _transport(self) -> httpx.AsyncHTTPTransport:
        """Made for the first request: a run with nothing to ask reads no certificates."""
        limits = httpx.Limits(max_connections=POOL, max_keepalive_connections=self._keep, keepalive_expiry=30.0)
        return httpx.AsyncHTTPTransport(
            verify=_tls(), http1=True, http2=False, limits=limits, proxy=self._proxy, retries=0
        )

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        read_s: float = READ_S,
        addresses: Sequence[str] = (),
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Response]:
        """Sends one request; the answer is there when its headers are. Raises Lost.

        `addresses`: the connection goes to the first of these that takes it, under the URL's name (Host and TLS).
        `leaving` is awaited when there is a connection and the request's first byte is about to leave; what it raises
        ends the request, and no byte has left.
        """

        async def trace(event: str, info: Mapping[str, object]) -> None:
            begins = event.endswith("send_request_headers.started")
            # The proxy's CONNECT raises this event too, and holds nothing of the request.
            if begins and leaving is not None and getattr(info["request"], "method", b"") != b"CONNECT":
                await leaving()

        # httpx's own headers are not wanted.
        sent = {"Accept-Encoding": "identity", "User-Agent": f"klingflow/{__version__}", **headers}
        timeout = httpx.Timeout(READ_S, read=read_s, connect=CONNECT_S, pool=None).as_dict()
        extensions: dict[str, object] = {"timeout": timeout, "trace": trace}
        targets = [url]
        if addresses:
            sent["Host"] = url.netloc.decode("ascii")
            extensions["sni_hostname"] = url.raw_host.decode("ascii")
            targets = [url.copy_with(host=address) for address in addresses]
        requests = [httpx.Request(method, at, headers=sent, content=body, extensions=extensions) for at in targets]
        response = await self._first_answer(requests)
        try:
            yield Response(response)
        finally:
            with suppress(*_FAULTS):
                await response.aclose()

    async def _first_answer(self, requests: Sequence[httpx.Request]) -> httpx.Response:
        for n, request in enumerate(requests):
            try:
                return await self._transport.handle_async_request(request)
            except _FAULTS as exc:
                connected = not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
                if connected or n == len(requests) - 1:
                    raise Lost(why(exc)) from exc
        raise AssertionError  # BUG: there is at least one request

    async def close(self) -> None:
        if "_transport" in vars(self):
            await self._transport.aclose()


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than a request. Respects SSL_CERT_FILE."""
    return httpx.create_ssl_context()


def parse(text: str) -> URL:
    """Raises ValueError for what is no URL."""
    try:
        return URL(text)
    except httpx.InvalidURL as exc:
        raise ValueError(str(exc)) from exc


def join(base: URL, location: str) -> URL:
    """Where a Location header leads. Raises ValueError."""
    try:
        return base.join(location)
    except httpx.InvalidURL as exc:
        raise ValueError(str(exc)) from exc


def why(exc: BaseException) -> str:
    """What happened to a connection, in words; no secret in them."""
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        return "no answer came in time"
    return redact(str(exc)) or f"the connection broke ({type(exc).__name__})"


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for an https URL (HTTPS_PROXY, ALL_PROXY; NO_PROXY is respected).

    Raises UsageError for one that klingflow cannot use.
    """
    parts = urlsplit(url)
    names = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy") and value}
    proxy = names.get("https_proxy") or names.get("all_proxy")
    bypass = proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": names.get("no_proxy", "")})
    if parts.scheme != "https" or not proxy or bypass:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parsed = parse(proxy)
        if parsed.scheme in ("http", "https") and urlsplit(proxy).hostname:  # httpx takes "[" for a host
            return proxy
    except ValueError:
        pass
    raise UsageError(f"{redact(proxy)} is no proxy that klingflow can use", "set HTTPS_PROXY to an http:// proxy")
