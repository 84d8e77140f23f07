"""A stand-in of Kling's own API, its legacy standard (model in the body), as strict as its pages (read 2026-11):
POST /v1/videos/omni-video, GET of one task by its id or by the caller's own id, tokens signed with the secret key,
callbacks. What no page documents is refused."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading
import urllib.error
import urllib.request
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from tests import standins
from tests.standins import BadImage, Purchase, Reply, Seen, StandIn, says

PATH = "/v1/videos/omni-video"
FIELDS = {
    "model_name", "prompt", "image_list", "element_list", "video_list", "sound", "mode", "aspect_ratio", "duration",
    "multi_shot", "shot_type", "multi_prompt", "watermark_info", "callback_url", "external_task_id",
}  # fmt: skip
FORMATS = ("JPEG", "PNG")
TOKEN_S = 1800
HTTP = {
    1000: 401, 1001: 401, 1002: 401, 1003: 401, 1004: 401, 1100: 429, 1101: 429, 1102: 429, 1103: 403, 1200: 400,
    1201: 400, 1202: 404, 1203: 404, 1300: 400, 1301: 400, 1302: 429, 1303: 429, 1304: 429, 5000: 500, 5001: 503,
    5002: 504,
}  # fmt: skip
"""HTTP status by service code: Kling docs, error codes."""


class Wrong(Exception):
    def __init__(self, message: str, code: int = 1201) -> None:
        super().__init__(message)
        self.code = code


def error(code: int, message: str, **headers: str) -> Reply:
    """The documented envelope of an error, which has no `data`."""
    return says(HTTP[code], {"code": code, "message": message, "request_id": str(uuid.uuid4())}, **headers)


class Kling(StandIn):
    """`parallel` is how many tasks may be under way (1303 beyond). `unknown` is the code for a task that is not there:
    no page names it. `signs`: callbacks carry a signature, as they do once an account has made a secret.

    An account is its access key; its secret key is `secret_of` that."""

    key = "ak-standin-0001"

    def __init__(
        self, *, parallel: int | None = None, unknown: int = 1203, signs: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.parallel, self.unknown, self.signs = parallel, unknown, signs
        self.webhook_secret = "whsec_" + base64.b64encode(b"standin-kling-0001").decode()
        self.deliveries: list[tuple[str, str, int]] = []
        """(task, status told, what the receiver answered) of each callback."""
        self._stopping = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        super().__exit__(*error)

    def secret_of(self, account: str) -> str:
        return "sk-" + hashlib.sha256(account.encode()).hexdigest()[:32]

    def environment(self, account: str | None = None) -> dict[str, str]:
        access = account or self.key
        return {
            "KLING_BASE_URL": self.base_url,
            "KLING_ACCESS_KEY": access,
            "KLING_SECRET_KEY": self.secret_of(access),
            "KLING_WEBHOOK_SECRET": self.webhook_secret,
        }

    def caller(self, seen: Seen) -> str:
        try:
            return str(_unpacked(seen.bearer.split(".")[1]).get("iss", ""))
        except (IndexError, ValueError):
            return ""

    def throttled(self, wait: int) -> Reply:
        return error(1302, "request too fast", Retry_After=str(wait))

    def api(self, seen: Seen) -> Reply:
        try:
            self._authorise(seen)
            if seen.path == PATH and seen.method == "POST":
                return self._create(seen)
            if seen.path == PATH and seen.method == "GET":
                return self._list(seen)
            if seen.path.startswith(PATH + "/") and seen.method == "GET":
                return self._detail(seen)
            raise Wrong("no such resource", 1203)
        except Wrong as exc:
            return error(exc.code, str(exc))

    def _authorise(self, seen: Seen) -> None:
        """The token as the authentication page has it: HS256, typ JWT, iss, exp within 30 minutes, nbf past."""
        given = seen.headers.get("authorization", "")
        if not given.strip():
            raise Wrong("Authorization is empty", 1001)
        scheme, _, token = given.partition(" ")
        parts = token.split(".")
        try:
            head, claims, signature = _unpacked(parts[0]), _unpacked(parts[1]), _decoded(parts[2])
        except (IndexError, ValueError) as exc:
            raise Wrong("Authorization is invalid", 1002) from exc
        issuer = claims.get("iss")
        if scheme != "Bearer" or len(parts) != 3 or head != {"alg": "HS256", "typ": "JWT"}:
            raise Wrong("Authorization is invalid", 1002)
        if issuer not in self.accounts or claims.keys() != {"iss", "exp", "nbf"}:
            raise Wrong("Authentication failed", 1000)
        secret = self.secret_of(issuer).encode()
        expected = hmac.new(secret, f"{parts[0]}.{parts[1]}".encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(expected, signature):
            raise Wrong("signature is invalid", 1002)
        if type(claims["exp"]) is not int or type(claims["nbf"]) is not int:
            raise Wrong("Authorization is invalid", 1002)
        if claims["nbf"] > self.now():
            raise Wrong("Authorization is not yet valid", 1003)
        if claims["exp"] <= self.now():
            raise Wrong("Authorization has expired", 1004)
        if claims["exp"] > self.now() + TOKEN_S + 60:
            raise Wrong("klingflow's tokens are short-lived", 1002)

    # Create

    def _create(self, seen: Seen) -> Reply:
        if seen.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Wrong("Content-Type must be application/json", 1200)
        try:
            body = json.loads(seen.body)
        except ValueError as exc:
            raise Wrong("the body is not JSON", 1200) from exc
        asked = self._asked(body)
        if seen.in_flight:
            seen.in_flight()
        mine = body.get("external_task_id", "")
        with self.lock:
            account = self.caller(seen)
            if mine and any(one.token == mine for one in self.bought_by(account)):
                raise Wrong(f"external_task_id {mine} already exists")
            if self.credit is not None and self.credit <= 0:
                raise Wrong("Account balance not enough", 1102)
            under_way = [one for one in self.bought_by(account) if self.age(one) < 1]
            if self.parallel is not None and len(under_way) >= self.parallel:
                raise Wrong("parallel task over resource pack limit", 1303)
            bought = self.buy(seen, body, str(860_000_000_000_000_000 + secrets.randbelow(10**16)), token=mine, **asked)
        if body.get("callback_url"):
            threading.Thread(target=self._tell, args=(bought, body["callback_url"]), daemon=True).start()
        return self._says({"task_id": bought.task, "task_status": "submitted", **self._info(bought)})

    def _says(self, data: Any) -> Reply:
        return says(200, {"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4()), "data": data})

    def _asked(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise Wrong("the body must be an object", 1200)
        if unknown := body.keys() - FIELDS:
            raise Wrong(f"unknown parameters: {sorted(unknown)}")
        if empty := [name for name, value in body.items() if value is None]:
            raise Wrong(f"klingflow sends no nulls: {empty}")
        if body.get("model_name") != "kling-v3-omni":
            raise Wrong("model is not supported", 1203)
        if "video_list" in body or "element_list" in body or "watermark_info" in body:
            raise Wrong("klingflow orders no videos, elements of a library, or watermarks")
        if not isinstance(body.get("prompt", ""), str) or len(body.get("prompt", "")) > 2500:
            raise Wrong("prompt has at most 2500 characters")
        for name, words in (
            ("sound", ("on", "off")), ("mode", ("std", "pro", "4k")), ("aspect_ratio", ("16:9", "9:16", "1:1")),
            ("shot_type", ("customize", "intelligence")), ("duration", tuple(str(n) for n in range(3, 16))),
        ):  # fmt: skip
            if name in body and body[name] not in words:
                raise Wrong(f"{name} value '{body[name]}' is invalid")
        if not isinstance(body.get("external_task_id", ""), str):
            raise Wrong("external_task_id must be a string")
        seconds = int(body.get("duration", "5"))
        self._shots(body, seconds)
        images, first = self._images(body)
        if first is None and "aspect_ratio" not in body:
            raise Wrong("aspect_ratio is required without a first frame")
        aspect = standins.aspect_of(*first) if first else body["aspect_ratio"]
        return {"seconds": seconds, "sound": body.get("sound") == "on", "aspect": aspect, "images": images}

    def _shots(self, body: dict[str, Any], seconds: int) -> None:
        multi = body.get("multi_shot", False)
        if not isinstance(multi, bool):
            raise Wrong("multi_shot must be a boolean")
        if not multi:
            if "multi_prompt" in body or "shot_type" in body:
                raise Wrong("multi_prompt and shot_type go with multi_shot")
            if not body.get("prompt", "").strip():
                raise Wrong("prompt must not be empty when multi_shot is false")
            return
        if body.get("shot_type") == "intelligence":
            if "multi_prompt" in body or not body.get("prompt", "").strip():
                raise Wrong("intelligence takes a prompt and no multi_prompt")
            return
        shots = body.get("multi_prompt")
        if body.get("shot_type") != "customize" or not isinstance(shots, list) or not 1 <= len(shots) <= 6:
            raise Wrong("multi_prompt must have 1 to 6 shots")
        for number, shot in enumerate(shots, 1):
            if not isinstance(shot, dict) or shot.keys() != {"index", "prompt", "duration"} or shot["index"] != number:
                raise Wrong("a shot of multi_prompt has index, prompt and duration")
            if not isinstance(shot["prompt"], str) or not 1 <= len(shot["prompt"]) <= 512:
                raise Wrong("a shot's prompt has 1 to 512 characters")
            if not isinstance(shot["duration"], str) or not shot["duration"].isdigit() or int(shot["duration"]) < 1:
                raise Wrong("a shot's duration is a string of at least 1")
        if sum(int(shot["duration"]) for shot in shots) != seconds:
            raise Wrong("the durations of the shots must add up to duration")

    def _images(self, body: dict[str, Any]) -> tuple[dict[str, bytes], tuple[int, int] | None]:
        listed = body.get("image_list", [])
        if "image_list" in body and (not isinstance(listed, list) or not 1 <= len(listed) <= 7):
            raise Wrong("image_list must have 1 to 7 images")
        images: dict[str, bytes] = {}
        first = None
        for number, item in enumerate(listed):
            if not isinstance(item, dict) or not {"image_url"} <= item.keys() <= {"image_url", "type"}:
                raise Wrong("an image has image_url and perhaps a type")
            kind = item.get("type", f"image_list.{number}")
            if "type" in item and (kind not in ("first_frame", "end_frame") or kind in images):
                raise Wrong("type is first_frame or end_frame, each once")
            try:
                images[kind] = data = _image(item["image_url"])
                size = standins.judged(data, FORMATS)
            except BadImage as exc:
                raise Wrong(f"{kind} {exc}") from exc
            first = size if kind == "first_frame" else first
        if "end_frame" in images and first is None:
            raise Wrong("an end frame needs a first frame")
        return images, first

    # Read

    def _detail(self, seen: Seen) -> Reply:
        asked, account = unquote(seen.path.removeprefix(PATH + "/")), self.caller(seen)
        bought = self.find(asked, account)
        if bought is None:
            bought = next((one for one in self.bought_by(account) if one.token and one.token == asked), None)
        if bought is None:
            raise Wrong("task not found", self.unknown)
        return self._says(self.told_of(bought))

    def _list(self, seen: Seen) -> Reply:
        number, size = int(seen.query.get("pageNum", "1")), int(seen.query.get("pageSize", "30"))
        if not 1 <= number <= 1000 or not 1 <= size <= 500:
            raise Wrong("pageNum is 1 to 1000 and pageSize 1 to 500")
        newest = self.bought_by(self.caller(seen))[::-1]
        return self._says([self.told_of(one) for one in newest[(number - 1) * size : number * size]])

    def told_of(self, bought: Purchase) -> dict[str, Any]:
        age, outcome = self.age(bought), bought.outcome
        ended = "failed" if outcome.fail else "succeed"
        word = outcome.word or ("submitted" if age < 0.3 else "processing" if age < 1 else ended)
        told: dict[str, Any] = {"task_id": bought.task, "task_status": word, **self._info(bought)}
        if word == "failed" and outcome.fail:
            told["task_status_msg"] = outcome.fail[1]
        elif word == "succeed" and not outcome.no_output:
            video = {"id": str(bought.number), "url": self.url(bought)[0], "duration": f"{bought.seconds + 0.041:.3f}"}
            told |= {"task_result": {"videos": [video]}, "final_unit_deduction": "3.0"}
        return told

    def _info(self, bought: Purchase) -> dict[str, Any]:
        at = int((bought.at + self.offset_s) * 1000)
        return {"task_info": {"external_task_id": bought.token}, "created_at": at, "updated_at": int(self.now() * 1000)}

    # Callbacks

    def _tell(self, bought: Purchase, url: str) -> None:
        """On every change of the status."""
        last = ""
        while True:
            told = self.told_of(bought)
            if told["task_status"] != last:
                last = told["task_status"]
                self.call(bought, url)
            if last in ("succeed", "failed") or self._stopping.wait(min(0.02, max(self.finish_s / 4, 0.001))):
                return

    def call(self, bought: Purchase, url: str) -> int:
        """One callback, now: the task as the query tells it. 0: no answer."""
        told = self.told_of(bought)
        body = json.dumps(told).encode()
        request = urllib.request.Request(url, body, self.signed(body))
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answered = int(response.status)
        except urllib.error.HTTPError as exc:
            exc.close()
            answered = exc.code
        except OSError:
            answered = 0
        self.deliveries.append((bought.task, told["task_status"], answered))
        return answered

    def signed(self, body: bytes) -> dict[str, str]:
        if not self.signs:
            return {"Content-Type": "application/json"}
        event, seconds = secrets.token_hex(8), str(int(self.now()))
        raw = base64.b64decode(self.webhook_secret.removeprefix("whsec_"))
        mac = hmac.new(raw, f"{event}.{seconds}.".encode() + body, hashlib.sha256).digest()
        return {
            "Content-Type": "application/json",
            "webhook-id": event,
            "webhook-timestamp": seconds,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        }


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from exc


def _unpacked(part: str) -> dict[str, Any]:
    value = json.loads(_decoded(part))
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _image(text: Any) -> bytes:
    if not isinstance(text, str):
        raise BadImage("must be a string")
    if text.startswith("data:"):
        raise BadImage("is a data URI; Base64 goes without a prefix")
    if urlsplit(text).scheme in ("http", "https"):
        return standins.fetched(text)
    return standins.decoded(text)
