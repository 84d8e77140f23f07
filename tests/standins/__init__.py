"""Stand-ins of the two APIs: real HTTP servers on this machine that judge requests strictly and make real clips.

In a test: `with HiAPI() as api:` gives `api.base_url`, `api.purchases` (what was bought, in order), `api.requests`
(everything that came in, with headers) and `api.faults` (what shall go wrong). Alone: `python -m tests.standins hiapi`.
One server may have several accounts (`api.open_account()`): a task, an idempotency key and a list belong to the account
whose key made them, and another account is answered 404.

Every fault is a function of an Exchange, so a test may write its own; the usual ones stand below. They act on requests
("POST /v1/tasks", "GET /v1/tasks/", "GET /files/"); what happens to a task itself is an `Outcome`.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from tests.standins import movie


@dataclass
class Seen:
    """A request as it came in. Header names are lower-case; `body` is empty where a fault closed before reading."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    body: bytes = b""
    status: int = 0
    """What it was answered; 0: nothing."""
    in_flight: Callable[[], None] | None = None
    """Called once while the order is being taken: its idempotency key is claimed, and no task exists yet."""

    @property
    def bearer(self) -> str:
        """The key that it carries; empty without one."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def says(status: int, value: object, **headers: str) -> Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


@dataclass(kw_only=True)
class Outcome:
    """What becomes of a task. The default is a good clip."""

    fail: tuple[Any, str] | None = None
    """The error's code and message."""
    word: str | None = None
    """A status word to say for ever in place of the documented ones."""
    no_output: bool = False
    """Says that it is done, and names no clip."""
    seconds: float | None = None
    """Makes a clip of another length than was ordered."""
    finish_s: float | None = None
    expires_s: float | None = None
    """How long the first URL lives; the next ones live as the server says."""
    task: Any = None
    """The id to answer with, in place of a new one; any JSON value."""
    clip: bytes | None = None
    """The file, in place of a real clip."""


@dataclass
class Purchase:
    """One accepted task: what a user pays for."""

    number: int
    """1, 2, … in order of acceptance; every picture of the clip carries it."""
    account: str
    """The key that paid for it."""
    task: str
    body: dict[str, Any]
    raw: bytes
    token: str
    """The Idempotency-Key; empty without one."""
    path: str
    at: float
    seconds: int
    aspect: str
    sound: bool
    outcome: Outcome
    images: dict[str, bytes]
    """The bytes of each image that went in, by field."""
    answers: int = 1
    """How often it was answered: replays count."""
    issues: list[tuple[int, float]] = field(default_factory=list)
    """(number, dies at) of each URL given out."""

    @property
    def numbers(self) -> dict[str, tuple[int, int] | None]:
        """(task, frame) that each image carries, by field."""
        return {name: movie.read_number(data) for name, data in self.images.items()}


class Exchange:
    """One request being answered. A fault decides whether and when to `process` it, and what to send."""

    def __init__(self, server: StandIn, handler: _Handler, seen: Seen) -> None:
        self.server, self.seen, self._handler, self._read = server, seen, handler, False

    def read(self) -> None:
        if not self._read:
            self._read = True
            self._handler.read_body(self.seen)

    def process(self) -> Reply:
        """Does what the request asks for, and gives the true answer back, unsent."""
        self.read()
        return self.server.judge(self.seen)

    def send(self, reply: Reply) -> None:
        self.read()
        self.seen.status = reply.status
        self._handler.send(reply)

    def head(self, reply: Reply, length: int | None) -> bytes:
        """The first lines of an answer that is sent raw, with which the connection ends."""
        headers = self.server.dated(reply.headers)
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {text}" for name, text in headers.items())]
        lines += [f"Content-Length: {length}"] if length is not None else []
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode()

    def send_raw(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def close(self, *, reset: bool = False) -> None:
        """Closes without another byte; `reset` as a crash would (RST)."""
        self._handler.close_connection = True
        connection = self._handler.connection
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.shutdown(socket.SHUT_RDWR)


Action = Callable[[Exchange], None]
Match = Callable[[Seen], bool]


class Faults:
    """What shall go wrong, in order: the first rule that fits a request is used, as many times as it says."""

    def __init__(self) -> None:
        self._rules: list[list[Any]] = []
        self._lock = threading.Lock()

    def add(self, match: str | Match, action: Action, times: int = 1, *, after: int = 0) -> None:
        """`match` is the beginning of "METHOD /path", or a function of the request. `times` -1 is for ever; the
        first `after` requests that fit pass unharmed."""
        fits = (lambda seen: seen.line.startswith(match)) if isinstance(match, str) else match
        with self._lock:
            self._rules.append([fits, action, times, after])

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def take(self, seen: Seen) -> Action | None:
        with self._lock:
            for rule in self._rules:
                if rule[2] == 0 or not rule[0](seen):
                    continue
                if rule[3] > 0:
                    rule[3] -= 1
                    continue
                rule[2] -= rule[2] > 0
                return rule[1]  # type: ignore[no-any-return]
        return None


# The usual faults ---------------------------------------------------------------------------------------------------


def drop_before(exchange: Exchange) -> None:
    """Closes without reading: nothing was bought, and the client cannot know."""
    exchange.close()


def drop_after(exchange: Exchange) -> None:
    """Takes the order and closes without an answer."""
    exchange.process()
    exchange.close()


def reset_after(exchange: Exchange) -> None:
    exchange.process()
    exchange.close(reset=True)


def delay(seconds: float) -> Action:
    """Waits before the request is looked at."""

    def action(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.send(exchange.process())

    return action


def delay_answer(seconds: float) -> Action:
    """Takes the order at once and answers late."""

    def action(exchange: Exchange) -> None:
        reply = exchange.process()
        time.sleep(seconds)
        exchange.send(reply)

    return action


class Hold:
    """A fault that keeps a request waiting until `release`. `at` says where:

    arrival   before anything is looked at: nothing was bought;
    flight    while the order is being taken: its idempotency key is claimed (a second POST gets 409), no task exists;
    answer    the order was taken, and its answer is not sent.

    `reached` is set as soon as a request waits there; `drop` at the end closes without an answer.
    """

    def __init__(self, at: Literal["arrival", "flight", "answer"] = "answer", *, drop: bool = False) -> None:
        self.at, self.drop = at, drop
        self.reached = threading.Event()
        self._released = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        if self.at == "arrival":
            self._wait()
        elif self.at == "flight":
            exchange.seen.in_flight = self._wait
        reply = exchange.process()
        if self.at == "answer":
            self._wait()
        if self.drop:
            exchange.close()
        else:
            exchange.send(reply)

    def release(self) -> None:
        self._released.set()

    def _wait(self) -> None:
        self.reached.set()
        if not self._released.wait(120):
            raise TimeoutError("a held request was never released")


def answer(
    status: int, body: object = b"", headers: Mapping[str, str] | None = None, *, process: bool = False
) -> Action:
    """Any answer; `body` is bytes or a JSON value. `process`: the order is taken all the same."""

    def action(exchange: Exchange) -> None:
        if process:
            exchange.process()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/json" if not isinstance(body, bytes) or body[:1] in (b"{", b"[") else "text/html"
        exchange.send(Reply(status, data, {"Content-Type": kind, **(headers or {})}))

    return action


def html(status: int, *, process: bool = False) -> Action:
    """What a gateway in front of the API says."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return answer(status, page.encode(), process=process)


def redirect(url: str, status: int = 307) -> Action:
    return answer(status, b"", {"Location": url})


def half_json(exchange: Exchange) -> None:
    """Takes the order; the answer is whole as HTTP and cut as JSON."""
    reply = exchange.process()
    exchange.send(Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers))


def cut(part: float = 0.6) -> Action:
    """Names the whole length, sends a part, closes."""

    def action(exchange: Exchange) -> None:
        reply = exchange.process()
        exchange.send_raw(exchange.head(reply, len(reply.body)) + reply.body[: int(len(reply.body) * part)])
        exchange.close()

    return action


def wrong_length(part: float = 0.6) -> Action:
    """Sends a part as if it were the whole."""

    def action(exchange: Exchange) -> None:
        reply = exchange.process()
        exchange.send(Reply(reply.status, reply.body[: int(len(reply.body) * part)], reply.headers))

    return action


def no_length(part: float = 1.0) -> Action:
    """Names no length and closes at the end, or before it."""

    def action(exchange: Exchange) -> None:
        reply = exchange.process()
        exchange.send_raw(exchange.head(reply, None) + reply.body[: int(len(reply.body) * part)])
        exchange.close()

    return action


def slow(size: int, every_s: float) -> Action:
    """The whole body, `size` bytes at a time."""

    def action(exchange: Exchange) -> None:
        reply = exchange.process()
        exchange.send_raw(exchange.head(reply, len(reply.body)))
        for start in range(0, len(reply.body), size):
            exchange.send_raw(reply.body[start : start + size])
            time.sleep(every_s)
        exchange.close()

    return action


EXPIRED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"""


def xml(status: int = 200) -> Action:
    """The error page of an object store, also where it says 200."""
    return answer(status, EXPIRED, {"Content-Type": "application/xml"})


def gzipped(exchange: Exchange) -> None:
    """Three gigabytes of nothing in three megabytes."""
    import gzip

    bomb = gzip.compress(bytes(1024 * 1024)) * 64
    exchange.send(Reply(200, bomb, {"Content-Type": "video/mp4", "Content-Encoding": "gzip"}))


# The server ---------------------------------------------------------------------------------------------------------


class StandIn:
    """A server on loopback. `clock` gives UTC seconds and may be set forward by a test.

    `offset_s` is by how much the server's own time is wrong: it goes into the Date header and into every time that an
    answer names, and into no duration. `sends_date` False leaves the header out.
    `frames` is a folder served under /frames/: where a client publishes. `per_minute` turns the rate limit on.
    `finish_s` is how long a task takes, `files_s` how long a URL lives.
    """

    key = "sk-standin-0123456789"
    publishes = "/frames/"

    def __init__(
        self,
        *,
        port: int = 0,
        key: str | None = None,
        finish_s: float = 0.05,
        files_s: float = 3600.0,
        per_minute: int | None = None,
        credit: int | None = None,
        extra_frames: int = 1,
        frames: Path | None = None,
        clock: Callable[[], float] = time.time,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self.key = key or type(self).key
        self.accounts = [self.key]
        """The keys that are let in; the first one is `key`."""
        self.offset_s = 0.0
        self.sends_date = True
        self.finish_s, self.files_s, self.per_minute, self.credit = finish_s, files_s, per_minute, credit
        self.extra_frames, self.frames, self.clock, self.told = extra_frames, frames, clock, told
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.purchases: list[Purchase] = []
        self.outcomes: list[tuple[Callable[[dict[str, Any]], bool], Outcome, int]] = []
        self.trouble: list[str] = []
        """What went wrong inside the stand-in itself: a test may assert that it is empty."""
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _Handler, bind_and_activate=False)
        self._http.daemon_threads = True
        self._http.request_queue_size = 256
        self._http.standin = self  # type: ignore[attr-defined]
        self._http.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self._http.allow_reuse_address = True
        self._http.server_bind()
        self._http.server_activate()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Any:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def frames_url(self) -> str:
        """The public URL of the folder `frames`."""
        return f"{self.base_url}/frames"

    def becomes(self, outcome: Outcome, *, prompt: str = "", times: int = 1) -> None:
        """The next task whose prompt holds `prompt` ends so. `times` -1 is for ever."""
        with self.lock:
            self.outcomes.append((lambda body: prompt in json.dumps(body, ensure_ascii=False), outcome, times))

    def open_account(self) -> str:
        """One more account on this server; returns its key, for `environment`."""
        with self.lock:
            self.accounts.append(f"{self.key}-account{len(self.accounts) + 1}")
            return self.accounts[-1]

    def bought_by(self, account: str) -> list[Purchase]:
        """What an account bought, in order; of the default account: `bought_by(api.key)`."""
        with self.lock:
            return [one for one in self.purchases if one.account == account]

    def find(self, task: str, account: str) -> Purchase | None:
        """The account's task of that id, or None: also where the task is another account's."""
        return next((one for one in self.bought_by(account) if str(one.task) == task), None)

    def caller(self, seen: Seen) -> str:
        """The account that a request comes from, as its credentials name it; empty without them."""
        return seen.bearer

    def lets_in(self, seen: Seen) -> bool:
        return seen.headers.get("authorization") in [f"Bearer {key}" for key in self.accounts]

    def now(self) -> float:
        """UTC seconds as the server believes."""
        return self.clock() + self.offset_s

    def dated(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers, and a Date where they name none."""
        if not self.sends_date or "Date" in headers:
            return dict(headers)
        return {"Date": formatdate(self.now(), usegmt=True), **headers}

    def calls(self, line: str) -> list[Seen]:
        with self.lock:
            return [seen for seen in self.requests if seen.line.startswith(line)]

    def environment(self, account: str | None = None) -> dict[str, str]:
        """The variables with which klingflow speaks to this server, as the default account or another one."""
        raise NotImplementedError

    def judge(self, seen: Seen) -> Reply:
        try:
            if seen.path.startswith("/files/"):
                return self._file(seen)
            if seen.path.startswith(self.publishes) and self.frames is not None:
                return self._frame(seen)
            refused = self._limited(seen)
            return refused or self.api(seen)
        except Exception as exc:
            self.trouble.append(f"{seen.line}: {exc!r}")
            return says(500, {"message": f"the stand-in has a bug: {exc!r}"})

    def api(self, seen: Seen) -> Reply:
        raise NotImplementedError

    def throttled(self, wait: int) -> Reply:
        raise NotImplementedError

    def _limited(self, seen: Seen) -> Reply | None:
        if self.per_minute is None:
            return None
        with self.lock:
            recent = [one for one in self.requests if one.at > seen.at - 60 and one.status not in (0, 429)]
            recent = [one for one in recent if not one.path.startswith(("/files/", self.publishes))]
        left = self.per_minute - len(recent)
        if left <= 0:
            return self.throttled(max(1, round(recent[0].at + 60 - seen.at)))
        return None

    # Tasks

    def buy(self, seen: Seen, body: dict[str, Any], task: str, **facts: Any) -> Purchase:
        with self.lock:
            number = len(self.purchases) + 1
            outcome = self._outcome(body)
            bought = Purchase(
                number=number,
                account=self.caller(seen),
                task=outcome.task or task,
                body=body,
                raw=seen.body,
                path=seen.path,
                at=self.clock(),
                outcome=outcome,
                **facts,
            )
            self.purchases.append(bought)
            if self.credit is not None:
                self.credit -= 1
        if self.told:
            self.told(f"bought {bought.task} ({bought.seconds} s, {bought.numbers})")
        return bought

    def _outcome(self, body: dict[str, Any]) -> Outcome:
        for i, (fits, outcome, times) in enumerate(self.outcomes):
            if times != 0 and fits(body):
                self.outcomes[i] = (fits, outcome, times - (times > 0))
                return outcome
        return Outcome()

    def age(self, bought: Purchase) -> float:
        """How far a task is: 1 and more is done."""
        wanted = self.finish_s if bought.outcome.finish_s is None else bought.outcome.finish_s
        return (self.clock() - bought.at) / wanted if wanted > 0 else 1.0

    def url(self, bought: Purchase) -> tuple[str, float]:
        """A URL that lives, and when it dies. A dead one is replaced by a fresh one."""
        with self.lock:
            if not bought.issues or bought.issues[-1][1] <= self.clock():
                first = not bought.issues and bought.outcome.expires_s is not None
                life = bought.outcome.expires_s if first else self.files_s
                bought.issues.append((len(bought.issues) + 1, self.clock() + (life or 0.0)))
            number, dies = bought.issues[-1]
        signature = base64.urlsafe_b64encode(f"{bought.task}:{number}".encode()).decode().rstrip("=")
        return f"{self.base_url}/files/{bought.number}-{number}.mp4?X-Amz-Signature={signature}", dies

    def clip(self, bought: Purchase) -> bytes:
        if bought.outcome.clip is not None:
            return bought.outcome.clip
        other = bought.outcome.seconds
        return movie.clip(
            bought.number,
            bought.seconds if other is None else other,
            aspect=bought.aspect,
            sound=bought.sound,
            extra=self.extra_frames if other is None else 0,
        )

    def _file(self, seen: Seen) -> Reply:
        try:
            number, issue = (int(part) for part in seen.path.removeprefix("/files/").removesuffix(".mp4").split("-"))
            bought = self.purchases[number - 1]
            dies = dict(bought.issues)[issue]
        except (ValueError, IndexError, KeyError):
            return Reply(404, EXPIRED, {"Content-Type": "application/xml"})
        if "X-Amz-Signature" not in seen.query or dies <= self.clock():
            return Reply(403, EXPIRED, {"Content-Type": "application/xml"})
        return _ranged(seen, self.clip(bought), "video/mp4")

    def _frame(self, seen: Seen) -> Reply:
        assert self.frames is not None
        path = (self.frames / seen.path.removeprefix(self.publishes)).resolve()
        if not path.is_relative_to(self.frames.resolve()) or not path.is_file():
            return Reply(404)
        return _ranged(seen, path.read_bytes(), "application/octet-stream")


def _ranged(seen: Seen, data: bytes, kind: str) -> Reply:
    tag = f'"{len(data):x}-{hash(data) & 0xFFFFFFFF:08x}"'
    headers = {"Content-Type": kind, "ETag": tag, "Accept-Ranges": "bytes"}
    wanted = seen.headers.get("range", "")
    if wanted.startswith("bytes=") and seen.headers.get("if-range", tag) == tag:
        first, _, last = wanted[6:].partition("-")
        start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if start >= len(data):
            return Reply(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
        return Reply(206, data[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})
    return Reply(200, data, headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def _any(self) -> None:
        standin: StandIn = self.server.standin  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): text for name, text in self.headers.items()}
        seen = Seen(self.command, parts.path, query, headers, standin.clock())
        with standin.lock:
            standin.requests.append(seen)
        exchange = Exchange(standin, self, seen)
        action = standin.faults.take(seen)
        if action is None:
            exchange.send(exchange.process())
        else:
            action(exchange)
        if standin.told:
            standin.told(f"{seen.line} -> {seen.status or 'nothing'}")

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = _any  # noqa: N815

    def read_body(self, seen: Seen) -> None:
        length = seen.headers.get("content-length", "0")
        seen.body = self.rfile.read(int(length)) if length.isdigit() else b""

    def send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, text in self.server.standin.dated(reply.headers).items():  # type: ignore[attr-defined]
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Thief(StandIn):
    """Answers everything with 200 and keeps what it was sent: no key may ever arrive here."""

    def api(self, seen: Seen) -> Reply:
        return says(200, {"code": 200, "data": {"taskId": "tk-hiapi-THIEF00000000000000000000"}})

    @property
    def stolen(self) -> list[str]:
        return [seen.headers["authorization"] for seen in self.requests if "authorization" in seen.headers]


# Images -------------------------------------------------------------------------------------------------------------


class BadImage(Exception):
    pass


def fetched(url: str) -> bytes:
    """An image by its URL, as the provider's side would read it: https, or http on this machine."""
    parts = urlsplit(url)
    here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme not in (("http", "https") if here else ("https",)) or parts.username:
        raise BadImage(f"{url!r} is no public URL")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "standin"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return bytes(response.read(64 * 1024 * 1024))
    except (OSError, ValueError) as exc:
        if isinstance(exc, urllib.error.HTTPError):
            exc.close()
        raise BadImage(f"{parts.path} cannot be fetched: {exc}") from exc


def decoded(text: str) -> bytes:
    """A data: URI or plain Base64."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if head not in ("data:image/png;base64", "data:image/jpeg;base64", "data:image/webp;base64"):
            raise BadImage(f"{head[:60]!r} is no image in Base64")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise BadImage("is neither a URL nor Base64") from exc


def judged(data: bytes, formats: tuple[str, ...], most: int = 10 * 1024 * 1024) -> tuple[int, int]:
    """Width and height of a real image within Kling's documented limits."""
    if len(data) > most:
        raise BadImage(f"has {len(data)} bytes, more than {most}")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            kind, (width, height) = image.format, image.size
    except Exception as exc:
        raise BadImage(f"is no image: {exc}") from exc
    if kind not in formats:
        raise BadImage(f"is {kind}, not one of {formats}")
    if min(width, height) < 300:
        raise BadImage(f"is {width} x {height}: a side is under 300 pixels")
    if max(width, height) > 2.5 * min(width, height):
        raise BadImage(f"is {width} x {height}: the ratio is over 2.5")
    return width, height


def aspect_of(width: int, height: int) -> str:
    """The nearest of the aspects that clips are made in."""
    return min(movie.SIZES, key=lambda name: abs(movie.SIZES[name][0] / movie.SIZES[name][1] - width / height))
