"""The callback receiver believes nobody without a signature, and what it believes only wakes the poller."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping

import pytest

from klingflow.core.errors import UsageError
from klingflow.core.model import TaskId
from klingflow.core.redact import redact
from klingflow.io import webhook
from klingflow.io.webhook import Listening, listen, parse_address
from klingflow.providers import PROVIDERS

SECRET = "klingflow-test-secret-0001"
EVENTS = "whsec_" + base64.b64encode(b"another-secret-0002").decode()
NOW = 1_777_282_099.0
TASK = {"taskId": "tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR", "status": "success"}
BODY = json.dumps(TASK).encode()


def signed(body: bytes, secret: str = SECRET, at: int = int(NOW)) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-HiAPI-Timestamp": str(at), "X-HiAPI-Signature": digest}


def request(
    body: bytes = BODY,
    headers: Mapping[str, str] | None = None,
    path: str = "/hiapi",
    method: str = "POST",
    more: str = "",
) -> bytes:
    lines = {"Host": "h", "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + more + "\r\n"
    return head.encode() + body


async def talk(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def heard(main: Callable[[Listening], Awaitable[None]]) -> tuple[list[tuple[str, TaskId]], list[str]]:
    woken: list[tuple[str, TaskId]] = []
    said: list[str] = []

    async def body() -> None:
        async with listen(
            "127.0.0.1",
            0,
            providers=PROVIDERS,
            secrets={"hiapi": SECRET, "mulerouter": EVENTS},
            wake=lambda provider, task: woken.append((provider, task)),
            refused=said.append,
            now=lambda: NOW,
        ) as listening:
            await main(listening)

    asyncio.run(body())
    return woken, said


def test_a_signed_callback_wakes_its_task_once_and_is_answered_at_once() -> None:
    async def main(at: Listening) -> None:
        for _ in range(100):
            answer = await talk(at.port, request(headers=signed(BODY)))
            assert answer.startswith(b"HTTP/1.1 200")
        assert b"server:" not in answer.lower()

    woken, _ = heard(main)
    assert woken == [("hiapi", TASK["taskId"])]


def test_an_event_of_the_account_wakes_its_task() -> None:
    body = json.dumps({"id": "evt_1", "type": "task.succeeded", "data": {"payload": {"task_info": {"id": "8e1e"}}}})
    mac = hmac.new(b"another-secret-0002", f"evt_1.{int(NOW)}.{body}".encode(), hashlib.sha256).digest()
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }

    async def main(at: Listening) -> None:
        assert at.paths == {"hiapi": "/hiapi", "mulerouter": "/mulerouter"}
        assert b" 200 " in await talk(at.port, request(body.encode(), headers, at.paths["mulerouter"]))

    assert heard(main)[0] == [("mulerouter", "8e1e")]


DEEP = b"[" * 100_000
LARGE = BODY + b" " * webhook.BODY_BYTES
BAD = {
    "unsigned": request(),
    "wrong secret": request(headers=signed(BODY, "another")),
    "other body": request(b"{}", signed(BODY)),
    "upper-case": request(headers={k: v.upper() for k, v in signed(BODY).items()}),
    "late": request(headers=signed(BODY, at=int(NOW) - 301)),
    "early": request(headers=signed(BODY, at=int(NOW) + 301)),
    "far": request(headers=signed(BODY, at=10**9)),
    "twice signed": request(headers=signed(BODY), more="x-hiapi-signature: " + "0" * 64 + "\r\n"),
    "twice signed, rightly at the end": request(
        headers={"x-hiapi-signature": "0" * 64}, more="".join(f"{k}: {v}\r\n" for k, v in signed(BODY).items())
    ),
    "other path": request(headers=signed(BODY), path="/hiapi/x"),
    "root": request(headers=signed(BODY), path="/"),
    "animatic": request(headers=signed(BODY), path="/animatic"),
    "get": request(headers=signed(BODY), method="GET"),
    "text": request(headers={**signed(BODY), "Content-Type": "text/plain"}),
    "large": request(LARGE, signed(LARGE)),
    "said large": request(b"", {"Content-Length": "99999999999"}),
    "deep": request(DEEP, signed(DEEP)),
    "no utf-8": request(b"\xff\xfe", signed(b"\xff\xfe")),
}


@pytest.mark.parametrize("name", BAD)
def test_everything_else_gets_the_same_empty_answer_and_changes_nothing(name: str) -> None:
    async def main(at: Listening) -> None:
        answer = await talk(at.port, BAD[name])
        assert answer in (b"", b"HTTP/1.1 404 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), answer

    assert heard(main)[0] == []


def test_a_chunked_body_is_taken_when_small_and_cut_when_large() -> None:
    def chunked(body: bytes) -> bytes:
        head = request(b"", signed(body), more="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def main(at: Listening) -> None:
        assert b" 200 " in await talk(at.port, chunked(BODY))
        assert b" 200 " not in await talk(at.port, chunked(LARGE))

    assert len(heard(main)[0]) == 1


def test_a_slow_sender_is_cut_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "REQUEST_S", 0.2)

    async def main(at: Listening) -> None:
        slow = [asyncio.create_task(talk(at.port, request(headers=signed(BODY))[:-5])) for _ in range(10)]
        assert b" 200 " in await talk(at.port, request(headers=signed(BODY)))
        assert await asyncio.gather(*slow) == [b""] * 10

    heard(main)


def test_each_reason_for_a_refusal_is_said_once_and_without_the_body() -> None:
    async def main(at: Listening) -> None:
        for _ in range(3):
            await talk(at.port, BAD["wrong secret"])

    assert heard(main)[1] == ["a callback to hiapi was refused: the signature does not fit"]


def test_without_a_secret_or_a_free_address_it_does_not_start() -> None:
    async def main() -> None:
        async def start(port: int, secrets: Mapping[str, str]) -> None:
            async with listen("127.0.0.1", port, providers=PROVIDERS, secrets=secrets, wake=lambda p, t: None) as at:
                if port == 0:
                    await start(at.port, secrets)

        for port, secrets, what in ((0, {"hiapi": ""}, "no webhook secret"), (0, {"hiapi": SECRET}, "cannot listen")):
            with pytest.raises(UsageError, match=what):
                await start(port, secrets)

    asyncio.run(main())


def test_a_connection_that_is_open_at_the_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "REQUEST_S", 3600.0)

    async def main() -> None:
        secrets = {"hiapi": SECRET}
        async with listen("127.0.0.1", 0, providers=PROVIDERS, secrets=secrets, wake=lambda p, t: None) as at:
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            writer.write(request()[:-5])
            assert b" 404 " in await talk(at.port, request(path="/"))  # by now the first one is being heard
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()

    asyncio.run(main())


def test_so_many_connections_are_heard_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "REQUEST_S", 3600.0)
    monkeypatch.setattr(webhook, "CONNECTIONS", 3)

    async def main(at: Listening) -> None:
        right = request(headers=signed(BODY))
        waiting = []
        for _ in range(3):
            waiting.append(await asyncio.open_connection("127.0.0.1", at.port))
            waiting[-1][1].write(right[:-5])
        assert await talk(at.port, right) == b""
        reader, writer = waiting[0]
        writer.write(right[-5:])
        assert b" 200 " in await reader.read()
        while not await talk(at.port, right):
            pass  # the first one is about to leave
        for _, writer in waiting:
            writer.close()

    assert len(heard(main)[0]) == 1


def test_a_sender_that_asks_before_it_sends_the_body_is_answered() -> None:
    async def main(at: Listening) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        head, _, body = request(headers={**signed(BODY), "Expect": "100-continue"}).partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert b" 200 " in await reader.read()
        writer.close()

    assert len(heard(main)[0]) == 1


def test_a_path_of_a_callback_url_is_served_where_its_provider_has_a_secret() -> None:
    woken: list[TaskId] = []

    async def main() -> None:
        also = {"/studio/here": ["hiapi"], "/studio/there": ["mulerouter"]}
        secrets = {"hiapi": SECRET, "mulerouter": ""}
        wake = lambda provider, task: woken.append(task)  # noqa: E731
        async with listen(
            "127.0.0.1", 0, providers=PROVIDERS, secrets=secrets, wake=wake, also=also, now=lambda: NOW
        ) as at:
            assert at.paths == {"hiapi": "/hiapi"}
            for path, known in (("/studio/here", True), ("/studio/there", False)):
                answer = await talk(at.port, request(headers=signed(BODY), path=path))
                assert (b" 200 " in answer) is known

    asyncio.run(main())
    assert woken == [TASK["taskId"]]


def test_a_secret_of_callbacks_is_printed_nowhere() -> None:
    secret = "a-secret-of-this-test-alone-0003"

    async def main() -> None:
        async with listen("127.0.0.1", 0, providers=PROVIDERS, secrets={"hiapi": secret}, wake=lambda p, t: None):
            assert secret not in redact(f"it is {secret}")

    asyncio.run(main())


def test_an_address_is_read_in_its_usual_forms() -> None:
    assert parse_address("8080") == ("127.0.0.1", 8080)
    assert parse_address(":0") == ("127.0.0.1", 0)
    assert parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("", "host", "::1", "h:65536", "h:99999", "h:x", "h:²"):
        with pytest.raises(UsageError):
            parse_address(wrong)
