"""A stand-in of HiAPI's Unified Async API, as strict as its pages (read 2026-11): POST /v1/tasks, GET /v1/tasks/:id,
GET /v1/tasks, Idempotency-Key, signed callbacks. What no page documents is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from tests import standins
from tests.standins import BadImage, Purchase, Reply, Seen, StandIn, says

DAY_S = 24 * 3600
IMAGE = "kling-3.0-omni/image-to-video"
TEXT = "kling-3.0-omni/text-to-video"
FORMATS = ("JPEG", "PNG", "WEBP")
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


PRICING: Any = [
    {
        "model_name": "kling-3.0-omni/image-to-video",
        "factors": ["duration"],
        "base_usd_value": 0.1,
        "policies": [
            {"rule": {"resolution": {"match": "720p"}}, "usd_value": 0.08},
            {"rule": {"resolution": {"match": "720p"}, "sound": {"match": True}}, "usd_value": 0.11},
            {"rule": {"resolution": {"match": "4K"}}, "pricing_type": "multiply", "pricing_value": 4},
            {"rule": {"resolution": {"match": "1080p"}, "sound": {"match": True}}, "usd_value": 0.143},
        ],
    },
    {
        "model_name": "kling-3.0-omni/text-to-video",
        "factors": ["seconds"],
        "policies": [
            {"rule": {"resolution": {"match": ["720p", "1080p"]}}, "usd_value": "0.09"},
            {"rule": {"resolution": {"match": ["4K"]}}, "usd_value": 0.39},
        ],
    },
    {"model_name": "seedance-2.0-fast", "factors": ["frames"], "base_usd_value": 0.2},
]


class Wrong(Exception):
    def __init__(self, message: str, status: int = 400, code: str | None = "INVALID_REQUEST") -> None:
        super().__init__(message)
        self.status, self.code = status, code


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    body: dict[str, Any] = {"code": status, "message": message, "data": None}
    if code:
        body["error_code"] = code
    return says(status, body, **headers)


@dataclass
class Delivery:
    """One attempt at a callback."""

    task: str
    url: str
    body: bytes
    status: int
    """What the receiver answered; 0: nothing."""


@dataclass
class _First:
    digest: str
    at: float
    task: str = ""
    """Empty while the first request with this key is on its way."""


class HiAPI(StandIn):
    """`data_uri`: accepts images as data: URIs, of at most 20 MiB each, as HiAPI's own tools for this model send them
    (2026-08-20). `body_bytes`: of a whole request at most; an older page of its docs names 10 MB. `idempotent` False:
    ignores the key header, as a server might that never had it. `callback_waits` are the seconds before each attempt at
    a callback."""

    key = "sk-hiapi-standin-0001"
    pricing: Any = PRICING
    """The public list of prices: its rows as HiAPI's own tools read them, with figures of our own."""
    routes = ("default", "ext")
    """Whether this model has routes is not documented; the scheme is (HiAPI's Python client 0.2.1)."""

    def __init__(
        self,
        *,
        data_uri: bool = True,
        body_bytes: int = 2 * (20 * 2**20 * 4 // 3 + 64) + 64 * 1024,
        idempotent: bool = True,
        callback_secret: str = "klingflow-standin-callbacks",
        callback_waits: tuple[float, ...] = (0.0, 0.1, 0.3, 0.6),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.data_uri, self.body_bytes, self.idempotent = data_uri, body_bytes, idempotent
        self.callback_secret, self.callback_waits = callback_secret, callback_waits
        self.deliveries: list[Delivery] = []
        self._firsts: dict[tuple[str, str], _First] = {}
        self._stopping = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        super().__exit__(*error)

    def environment(self, account: str | None = None) -> dict[str, str]:
        return {
            "HIAPI_BASE_URL": self.base_url,
            "HIAPI_API_KEY": account or self.key,
            "HIAPI_WEBHOOK_SECRET": self.callback_secret,
        }

    def throttled(self, wait: int) -> Reply:
        return error(429, "rate limit exceeded", **{"Retry_After": str(wait)})

    def api(self, seen: Seen) -> Reply:
        if (seen.method, seen.path) == ("GET", "/api/pricing"):  # anybody may read it
            if "authorization" in seen.headers:
                return error(400, "this list takes no key")
            return says(200, {"data": self.pricing})
        if not self.lets_in(seen):
            return error(401, "invalid api key")
        try:
            if seen.path == "/v1/tasks" and seen.method == "POST":
                reply = self._create(seen)
            elif seen.path == "/v1/tasks" and seen.method == "GET":
                reply = self._list(seen)
            elif seen.path.startswith("/v1/tasks/") and seen.method == "GET":
                reply = self._detail(seen)
            else:
                reply = error(404, "no such route")
        except Wrong as exc:
            reply = error(exc.status, str(exc), exc.code)
        return reply

    # Create

    def _create(self, seen: Seen) -> Reply:
        kind = seen.headers.get("content-type", "application/json").partition(";")[0].strip()
        if kind != "application/json":
            raise Wrong("content type must be application/json", 415, None)
        if len(seen.body) > self.body_bytes:
            raise Wrong(f"request body is over {self.body_bytes} bytes", 413, None)
        token = seen.headers.get("idempotency-key", "")
        if len(token.encode()) > 255:
            raise Wrong("Idempotency-Key is over 255 bytes")
        if not token or not self.idempotent:
            return self._accept(seen, None)
        digest = hashlib.sha256(seen.body).hexdigest()
        claim = seen.bearer, token  # whether keys are shared between accounts is not documented: they are not here
        with self.lock:
            first = self._firsts.get(claim)
            if first is not None and self.clock() - first.at >= DAY_S:
                first = None
            if first is None:
                mine = self._firsts[claim] = _First(digest, self.clock())
        if first is None:
            try:
                return self._accept(seen, mine)
            except BaseException:
                with self.lock:
                    del self._firsts[claim]
                raise
        if first.digest != digest:
            return error(422, "Idempotency-Key was used with another body", "IDEMPOTENCY_KEY_MISMATCH")
        if not first.task:
            return error(409, "the first request is being processed", "IDEMPOTENCY_KEY_PROCESSING", Retry_After="1")
        bought = self.find(str(first.task), seen.bearer)
        assert bought is not None
        bought.answers += 1
        return says(200, _accepted(first.task), **{"Idempotent_Replay": "true"})

    def _accept(self, seen: Seen, first: _First | None) -> Reply:
        try:
            body = json.loads(seen.body)
        except ValueError as exc:
            raise Wrong(f"body is not JSON: {exc}") from exc
        asked = self._asked(body)
        if seen.in_flight:
            seen.in_flight()
        with self.lock:
            if self.credit is not None and self.credit <= 0:
                raise Wrong("insufficient balance", 402, None)
            bought = self.buy(seen, body, _id(), token=seen.headers.get("idempotency-key", ""), **asked)
        if first is not None:
            first.task = bought.task
        if "callback" in body:
            threading.Thread(target=self._call_back, args=(bought, body["callback"]["url"]), daemon=True).start()
        return says(200, _accepted(bought.task))

    def _asked(self, body: Any) -> dict[str, Any]:
        _fields(body, "body", {"model", "input"}, {"callback", "route", "storage"})
        if body["model"] not in (IMAGE, TEXT):
            raise Wrong(f"unknown model {body['model']!r}")
        if body.get("route", "default") not in self.routes:
            raise Wrong(f"unknown route {body['route']!r}; routes of this model: {', '.join(self.routes)}")
        if body.get("storage", "temp") not in ("temp", "persistent"):
            raise Wrong("storage must be temp or persistent")
        if "callback" in body:
            _fields(body["callback"], "callback", {"url"}, {"when"})
            parts = urlsplit(str(body["callback"]["url"]))
            here = parts.hostname in ("127.0.0.1", "localhost")
            if parts.scheme != "https" and not (here and parts.scheme == "http"):
                raise Wrong("callback.url must be an https URL")
            if body["callback"].get("when", "final") != "final":
                raise Wrong("callback.when must be final")
        given = body["input"]
        if body["model"] == IMAGE:
            _fields(given, "input", {"image_urls"}, {"prompt", "resolution", "duration", "sound"})
        else:
            _fields(given, "input", {"prompt"}, {"resolution", "duration", "sound", "aspect_ratio"})
        if "prompt" in given and (not isinstance(given["prompt"], str) or len(given["prompt"]) > 3072):
            raise Wrong("input.prompt must be a string of at most 3072 characters")
        if body["model"] == TEXT and not given["prompt"].strip():
            raise Wrong("input.prompt must not be empty")
        if given.get("resolution", "1080p") not in ("720p", "1080p", "4K"):
            raise Wrong("input.resolution must be 720p, 1080p or 4K")
        seconds = given.get("duration", 5)
        if type(seconds) is not int or not 3 <= seconds <= 15:
            raise Wrong("input.duration must be an integer from 3 to 15")
        if not isinstance(given.get("sound", False), bool):
            raise Wrong("input.sound must be a boolean")
        aspect = given.get("aspect_ratio", "16:9")
        if aspect not in ("16:9", "9:16", "1:1"):
            raise Wrong("input.aspect_ratio must be 16:9, 9:16 or 1:1")
        images, size = self._images(given) if body["model"] == IMAGE else ({}, None)
        return {
            "seconds": seconds,
            "sound": given.get("sound", False),
            "aspect": standins.aspect_of(*size) if size else aspect,
            "images": images,
        }

    def _images(self, given: dict[str, Any]) -> tuple[dict[str, bytes], tuple[int, int] | None]:
        urls = given["image_urls"]
        if not isinstance(urls, list) or not 1 <= len(urls) <= 2 or not all(isinstance(url, str) for url in urls):
            raise Wrong("input.image_urls must hold 1 or 2 URLs")
        images, size = {}, None
        for i, url in enumerate(urls):
            try:
                inline = url.startswith("data:") and self.data_uri
                data = standins.decoded(url) if inline else standins.fetched(url)
                found = standins.judged(data, FORMATS, most=(20 if inline else 50) * 2**20)
            except BadImage as exc:
                raise Wrong(f"input.image_urls[{i}] {exc}") from exc
            images[f"image_urls.{i}"] = data
            size = size or found
        return images, size

    # Read

    def _list(self, seen: Seen) -> Reply:
        page = max(1, _number(seen.query.get("page"), 1))
        size = min(100, max(1, _number(seen.query.get("size"), 10)))
        with self.lock:
            newest = self.bought_by(seen.bearer)[::-1]
        tasks = [
            {k: v for k, v in self.told_of(one).items() if k in ("taskId", "model", "status", "created", "completed")}
            for one in newest[(page - 1) * size : page * size]
        ]
        return _ok({"page": page, "size": size, "total": len(newest), "tasks": tasks})

    def _detail(self, seen: Seen) -> Reply:
        bought = self.find(unquote(seen.path.removeprefix("/v1/tasks/")), seen.bearer)
        return _ok(self.told_of(bought)) if bought else error(404, "task not found")

    def told_of(self, bought: Purchase) -> dict[str, Any]:
        """The task object of detail answers and callbacks."""
        age, outcome = self.age(bought), bought.outcome
        says_: dict[str, Any] = {
            "taskId": bought.task,
            "model": bought.body["model"] + (f"@{bought.body['route']}" if "route" in bought.body else ""),
            "status": "queued" if age < 0.2 else "handling" if age < 0.8 else "archiving",
            "created": int(bought.at + self.offset_s),
            "completed": 0,
            "storage": bought.body.get("storage", "temp"),
        }
        if "route" in bought.body:
            says_["route"] = bought.body["route"]
        if outcome.word is not None:
            says_["status"] = outcome.word
        elif age >= 1:
            says_["completed"] = int(bought.at + self.offset_s + max(self.finish_s, 1))
            says_["status"] = "fail" if outcome.fail else "success"
            if outcome.fail:
                says_["error"] = {"code": outcome.fail[0], "message": outcome.fail[1]}
            elif not outcome.no_output:
                url, dies = self.url(bought)
                dies += self.offset_s
                first = {"url": url.replace(".mp4?", ".jpg?"), "type": "first_frame", "expireAt": int(dies)}
                says_["output"] = [first, {"url": url, "type": "video", "expireAt": int(dies)}]
        return says_

    # Callbacks

    def call(self, bought: Purchase, url: str, *, secret: str | None = None, at: float | None = None) -> int:
        """One signed callback, now; returns the receiver's status, 0 for none."""
        body = json.dumps(self.told_of(bought)).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "standin"}
        if secret := self.callback_secret if secret is None else secret:
            stamp = str(int(self.now() if at is None else at))
            signature = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            headers |= {"X-HiAPI-Timestamp": stamp, "X-HiAPI-Signature": signature}
        try:
            request = urllib.request.Request(url, body, headers)
            with urllib.request.urlopen(request, timeout=10) as response:
                status = int(response.status)
        except urllib.error.HTTPError as exc:
            status = exc.code
            exc.close()
        except OSError:
            status = 0
        self.deliveries.append(Delivery(bought.task, url, body, status))
        return status

    def _call_back(self, bought: Purchase, url: str) -> None:
        while self.age(bought) < 1:
            if self._stopping.wait(min(0.02, self.finish_s)):
                return
        for wait in self.callback_waits:
            if self._stopping.wait(wait) or 200 <= self.call(bought, url) < 300:
                return


def _ok(data: dict[str, Any]) -> Reply:
    return says(200, {"code": 200, "message": "success", "data": data})


def _accepted(task: str) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"taskId": task}}


def _id() -> str:
    stamp = "".join(CROCKFORD[int(time.time() * 1000) >> 5 * i & 31] for i in reversed(range(10)))
    return f"tk-hiapi-{stamp}{''.join(secrets.choice(CROCKFORD) for _ in range(16))}"


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() else otherwise


def _fields(value: Any, where: str, needed: set[str], allowed: set[str]) -> None:
    if not isinstance(value, dict):
        raise Wrong(f"{where} must be an object")
    if missing := needed - value.keys():
        raise Wrong(f"{where} lacks {sorted(missing)}")
    if unknown := value.keys() - needed - allowed:
        raise Wrong(f"{where} has unknown fields {sorted(unknown)}")
    if empty := [name for name, inner in value.items() if inner is None]:
        raise Wrong(f"{where} has nulls: {sorted(empty)}")
