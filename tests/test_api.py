"""A provider's API against real sockets: what is known of a send, and whom the key reaches."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from klingflow.core.errors import UsageError
from klingflow.io.api import HttpService
from klingflow.io.http import proxy_for
from klingflow.io.service import NotSent, Unanswered
from klingflow.providers import plain
from klingflow.providers.base import Request
from tests.wire import Talk, run, says, wire

KEY = "sk-test-0123456789"
ORDER = Request(method="POST", path="/v1/tasks", body=b'{"a":1}', headers={"Content-Type": "application/json"})


@asynccontextmanager
async def service(base: str, **options: object) -> AsyncIterator[HttpService]:
    it = HttpService(base, (KEY, ""), plain.bearer, trusted_base=True, **options)  # type: ignore[arg-type]
    try:
        yield it
    finally:
        await it.close()


def test_a_refused_connection_is_not_sent() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with service(f"http://127.0.0.1:{taken.getsockname()[1]}") as it:
                with pytest.raises(NotSent):
                    await it.send(ORDER, paid=True)

    run(main())


def test_a_tls_failure_is_not_sent() -> None:
    async def main() -> None:
        async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(no_tls, "127.0.0.1", 0)
        async with service(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as it:
            with pytest.raises(NotSent):
                await it.send(ORDER, paid=True)
        server.close()

    run(main())


def test_an_order_cut_after_it_left_is_unanswered_and_went_out_once() -> None:
    async def talk(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> None:
        async with wire(talk) as server, service(server.base) as it:
            with pytest.raises(Unanswered):
                await it.send(ORDER, paid=True)
            await asyncio.sleep(0)
            assert len(server.heard) == 1

    run(main())


@pytest.mark.parametrize(
    "talk",
    [
        says("200 OK", b'{"code": 200, "da', length=60),
        says("200 OK", b"x" * 1_100_000),
        says("200 OK", gzip.compress(b"0" * 3_000_000), "Content-Encoding: gzip"),
    ],
    ids=["cut", "large", "gzip bomb"],
)
def test_an_answer_that_is_not_whole_leaves_an_order_unanswered(talk: Talk) -> None:
    async def main() -> None:
        async with wire(talk) as server, service(server.base) as it:
            with pytest.raises(Unanswered):
                await it.send(ORDER, paid=True)
            assert len(server.heard) == 1

    run(main())


def test_a_silent_server_leaves_an_order_unanswered() -> None:
    async def talk(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        async with wire(talk) as server, service(server.base, paid_read_s=0.1) as it:
            with pytest.raises(Unanswered):
                await it.send(ORDER, paid=True)

    run(main())


def test_an_order_that_is_too_late_from_the_start_is_not_sent() -> None:
    async def main() -> None:
        async with wire(says("200 OK")) as server, service(server.base) as it:
            now = asyncio.get_running_loop().time()
            with pytest.raises(NotSent, match="too late"):
                await it.send(ORDER, paid=True, before=now)
            assert server.heard == []
            assert (await it.send(ORDER, paid=True, before=now + 3600)).status == 200

    run(main())


def test_a_connection_that_comes_too_late_gets_no_byte_of_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = asyncio.Event()
    received = []

    async def on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()
        connected.set()

    async def main() -> None:
        server = await asyncio.start_server(on, "127.0.0.1", 0)
        before = asyncio.get_running_loop().time() + 0.05
        asked, lookup = [], socket.getaddrinfo

        def slow(*args: object, **options: object) -> object:
            """A name server that answers when it is too late."""
            asked.append(args)
            while time.monotonic() < before:
                time.sleep(0.01)
            return lookup("127.0.0.1", *args[1:], **options)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        async with service(f"http://api.example.com:{server.sockets[0].getsockname()[1]}") as it:
            with pytest.raises(NotSent, match="too late"):
                await it.send(ORDER, paid=True, before=before)
        await asyncio.wait_for(connected.wait(), 10)
        assert (received, len(asked)) == ([b""], 1)
        server.close()

    run(main())


def test_an_order_is_too_late_after_the_machine_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock stands still meanwhile; the one that goes on has jumped when the connection is there."""

    async def main() -> None:
        read = time.clock_gettime
        readings = iter([0.0])
        monkeypatch.setattr(time, "clock_gettime", lambda clock: read(clock) + next(readings, 61.0))
        async with wire(says("200 OK")) as server, service(server.base) as it:
            with pytest.raises(NotSent, match="too late"):
                await it.send(ORDER, paid=True, before=asyncio.get_running_loop().time() + 60)
            assert server.heard == []

    run(main())


def test_an_order_goes_out_on_a_connection_of_its_own_with_the_exact_bytes() -> None:
    async def main() -> None:
        async with wire(says("200 OK", b'{"ok":1}')) as server, service(server.base) as it:
            await it.send(Request(method="GET", path="/v1/tasks?page=1"))
            answer = await it.send(ORDER, paid=True)
            assert (answer.status, answer.body) == (200, b'{"ok":1}')
            head, _, body = server.heard[1].partition(b"\r\n\r\n")
            assert body == ORDER.body
            lines = head.lower().split(b"\r\n")
            assert b"connection: close" in lines
            assert b"accept-encoding: identity" in lines
            assert lines.count(b"authorization: bearer " + KEY.encode()) == 1
            assert b"content-type: application/json" in lines

    run(main())


def test_a_redirect_comes_back_as_an_answer_and_carries_the_key_nowhere() -> None:
    async def main() -> None:
        async with wire(says("200 OK")) as thief:
            away = says("307 Temporary Redirect", b"", f"Location: {thief.base}/x")
            async with wire(away) as server, service(server.base) as it:
                for request, paid in ((ORDER, True), (Request(method="GET", path="/v1/tasks/1"), False)):
                    assert (await it.send(request, paid=paid)).status == 307
            assert thief.heard == []

    run(main())


def test_a_cookie_is_never_sent_back() -> None:
    async def main() -> None:
        async with wire(says("200 OK", b"{}", "Set-Cookie: a=b")) as server, service(server.base) as it:
            for _ in range(2):
                await it.send(Request(method="GET", path="/v1/tasks"))
            assert b"cookie" not in server.heard[1].lower()

    run(main())


def test_a_request_never_leaves_the_base_urls_origin() -> None:
    async def main() -> None:
        async with wire(says("200 OK")) as server, service(server.base) as it:
            for path in ("@evil.example/x", ".evil.example/x", "1/x"):
                with pytest.raises(ValueError, match="away"):
                    await it.send(Request(method="GET", path=path))
            assert server.heard == []

    run(main())


def test_a_base_url_may_end_with_the_version_of_the_path() -> None:
    async def main() -> None:
        async with wire(says("200 OK")) as server, service(server.base + "/v1") as it:
            await it.send(ORDER, paid=True)
            assert server.heard[0].startswith(b"POST /v1/tasks HTTP/1.1\r\n")

    run(main())


@pytest.mark.parametrize(
    ("base", "key"),
    [
        ("http://api.example.com", KEY),
        ("ftp://api.example.com", KEY),
        ("https://u:p@api.example.com", KEY),
        ("https://api.example.com", "sk-a\nb"),
        ("nonsense", KEY),
    ],
)
def test_a_base_url_or_key_that_cannot_work_is_refused_at_once(base: str, key: str) -> None:
    async def main() -> None:
        with pytest.raises(UsageError) as caught:
            HttpService(base, (key, ""), plain.bearer)
        assert caught.value.mend

    run(main())


def test_requests_stay_inside_the_providers_minute_and_orders_keep_room() -> None:
    """On a loop whose clock is set forward: a minute costs nothing."""

    async def main() -> None:
        async with wire(says("200 OK")) as server, service(server.base, requests_per_minute=12) as it:
            loop = asyncio.get_running_loop()
            real, ahead = loop.time, [0.0]
            loop.time = lambda: real() + ahead[0]  # type: ignore[method-assign]
            polls = [asyncio.create_task(it.send(Request(method="GET", path="/v1/tasks"))) for _ in range(11)]
            await asyncio.gather(*polls[:10])
            await it.send(ORDER, paid=True)
            assert len(server.heard) == 11
            assert not polls[10].done()
            ahead[0] = 62.0
            await polls[10]

    run(main())


def test_polls_use_what_orders_have_used_of_the_room_that_is_kept_for_them() -> None:
    async def main() -> None:
        async with wire(says("200 OK")) as server, service(server.base, requests_per_minute=12) as it:
            await asyncio.gather(*(it.send(ORDER, paid=True) for _ in range(2)))
            polls = [asyncio.create_task(it.send(Request(method="GET", path="/v1/tasks"))) for _ in range(11)]
            await asyncio.gather(*polls[:10])
            assert len(server.heard) == 12
            assert not polls[10].done()
            polls[10].cancel()

    run(main())


def test_more_polls_at_once_than_the_pool_holds_all_come_back() -> None:
    async def main() -> None:
        async with wire(says("200 OK")) as server, service(server.base) as it:
            answers = await asyncio.gather(*(it.send(Request(method="GET", path=f"/p/{i}")) for i in range(150)))
            assert {answer.status for answer in answers} == {200}

    run(main())


def test_the_proxy_of_the_environment_is_for_https_alone() -> None:
    environ = {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "inside.example"}
    assert proxy_for("https://api.hiapi.ai", environ) == "http://proxy.example:3128"
    assert proxy_for("http://127.0.0.1:80", environ) is None
    assert proxy_for("https://inside.example/x", environ) is None
    with pytest.raises(UsageError):
        proxy_for("https://api.hiapi.ai", {"ALL_PROXY": "socks5://user:pass@h:1"})


@pytest.mark.parametrize("proxy", ["http://[", "http://proxy:port", "http://", "ftp://proxy"])
def test_a_malformed_proxy_is_the_users_to_mend(proxy: str) -> None:
    with pytest.raises(UsageError, match="is no proxy that klingflow can use"):
        proxy_for("https://api.hiapi.ai", {"https_proxy": proxy})


def test_what_a_proxy_refuses_was_not_sent_and_showed_it_no_key() -> None:
    async def main() -> None:
        async with wire(says("502 Bad Gateway", b"")) as proxy:
            async with service("https://api.example.com", proxy=proxy.base) as it:
                with pytest.raises(NotSent):
                    await it.send(ORDER, paid=True)
            assert proxy.heard[0].startswith(b"CONNECT api.example.com:443 HTTP/1.1\r\n")
            assert KEY.encode() not in b"".join(proxy.heard)

    run(main())
