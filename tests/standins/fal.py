"""A stand-in of fal.ai's queue for Kling O3 (3.0 Omni), as strict as its pages (read 2026-11): submit, status, result,
cancel, webhooks signed with ED25519. What no page documents is refused.

As at fal, an order is queued before its body is judged: what is wrong with it is told as the task's result (422), and
the addresses of status and result do not hold the endpoint's path."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import urllib.error
import urllib.request
import uuid
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tests import standins
from tests.standins import BadImage, Purchase, Reply, Seen, StandIn, says

APP = "fal-ai/kling-video"
TIERS = ("standard", "pro", "4k")
SECONDS = tuple(str(n) for n in range(3, 16))
COMMON = {"prompt", "multi_prompt", "shot_type", "duration", "generate_audio"}
ALLOWED = {
    "image-to-video": COMMON | {"image_url", "end_image_url"},
    "text-to-video": COMMON | {"aspect_ratio"},
    "reference-to-video": COMMON | {"aspect_ratio", "start_image_url", "end_image_url", "image_urls", "elements"},
}
ENDPOINTS = {f"/{APP}/o3/{tier}/{way}": way for tier in TIERS for way in ALLOWED}
FORMATS = ("JPEG", "PNG")
REQUESTS = f"/{APP}/requests/"


class Wrong(Exception):
    """What is wrong with an input: told late, as the result."""

    def __init__(self, field: str, message: str, kind: str = "value_error") -> None:
        super().__init__(message)
        self.field, self.kind = field, kind


class Fal(StandIn):
    """`early`: an order with a bad body is refused at once with 422, as an API may that judges before it queues.
    `told_failure`: the status of a failed task says so (`error`, `error_type`), else its result alone does.
    `Outcome.fail` is (kind, message): a type of the page on model errors, an error_type of the page on request errors,
    or one of them with an HTTP status: ("runner_disconnected", 503)."""

    key = "fal-standin-0001:s3cret"

    def __init__(self, *, early: bool = False, told_failure: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.early, self.told_failure = early, told_failure
        self.deliveries: list[tuple[str, int]] = []
        """The task of each callback that was sent, and what it was answered (0: nothing)."""
        self._wrong: dict[str, Wrong] = {}
        self._stopping = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        super().__exit__(*error)

    def environment(self, account: str | None = None) -> dict[str, str]:
        return {"FAL_BASE_URL": self.base_url, "FAL_KEY": account or self.key}

    def caller(self, seen: Seen) -> str:
        return seen.headers.get("authorization", "").removeprefix("Key ")

    def lets_in(self, seen: Seen) -> bool:
        return seen.headers.get("authorization") in [f"Key {key}" for key in self.accounts]

    def throttled(self, wait: int) -> Reply:
        return says(429, {"detail": "Too Many Requests"}, Retry_After=str(wait))

    @cached_property
    def signing(self) -> Any:
        """The key that callbacks are signed with."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # an extra

        return Ed25519PrivateKey.generate()

    @property
    def jwks(self) -> dict[str, Any]:
        """The key set that is published: another key, and the one that signs."""
        raw = self.signing.public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        other = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": other}, {"kty": "OKP", "crv": "Ed25519", "x": x}]}

    def api(self, seen: Seen) -> Reply:
        if seen.path == "/.well-known/jwks.json" and seen.method == "GET":
            return says(200, self.jwks)
        if not self.lets_in(seen):
            return says(401, {"detail": f"Cannot access application '{APP}'. Authentication is required to access it."})
        if seen.path in ENDPOINTS:
            return self._submit(seen) if seen.method == "POST" else says(405, {"detail": "Method Not Allowed"})
        if seen.path.startswith(REQUESTS):
            return self._request(seen)
        if "/requests/" in seen.path:  # the trap: the endpoint's path in a status address
            return says(405, {"detail": "Method Not Allowed"})
        return says(404, {"detail": f"Application '{seen.path.strip('/')}' not found"})

    # Submit

    def _submit(self, seen: Seen) -> Reply:
        if seen.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return says(415, {"detail": "Unsupported Media Type"})
        if unknown := seen.query.keys() - {"fal_webhook"}:
            return says(422, {"detail": f"klingflow sends no such parameters: {sorted(unknown)}"})
        hook = seen.query.get("fal_webhook")
        if hook is not None and not _https_or_here(hook):
            return says(422, {"detail": "fal_webhook is no https URL"})
        try:
            body = json.loads(seen.body)
        except ValueError:
            return says(400, {"detail": "Invalid JSON"})
        if not isinstance(body, dict):
            return says(422, {"detail": [_problem("", "Input should be a valid dictionary", "dict_type")]})
        wrong, asked = None, {"seconds": 5, "sound": False, "aspect": "16:9", "images": {}}
        try:
            asked = self._asked(body, ENDPOINTS[seen.path])
        except Wrong as exc:
            wrong = exc
        if wrong is not None and self.early:
            return says(422, {"detail": [_problem(wrong.field, str(wrong), wrong.kind)]})
        if seen.in_flight:
            seen.in_flight()
        with self.lock:
            if self.credit is not None and self.credit <= 0:
                locked = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
                return says(403, {"detail": locked})
            bought = self.buy(seen, body, str(uuid.uuid4()), token="", **asked)
            if wrong is not None:
                self._wrong[bought.task] = wrong
        if hook is not None:
            threading.Thread(target=self._call_when_done, args=(bought, hook), daemon=True).start()
        return says(200, {"status": "IN_QUEUE", "queue_position": 0, **self.addresses(bought)})

    def addresses(self, bought: Purchase) -> dict[str, str]:
        at = f"{self.base_url}{REQUESTS}{quote(str(bought.task), safe='')}"
        return {
            "request_id": bought.task,
            "gateway_request_id": bought.task,
            "response_url": at,
            "status_url": f"{at}/status",
            "cancel_url": f"{at}/cancel",
        }

    def _asked(self, body: dict[str, Any], way: str) -> dict[str, Any]:
        if unknown := body.keys() - ALLOWED[way]:
            raise Wrong(sorted(unknown)[0], "Extra inputs are not permitted", "extra_forbidden")
        for name, value in body.items():
            if value is None:
                raise Wrong(name, "klingflow sends no nulls")
        seconds = body.get("duration", "5")
        if seconds not in SECONDS:
            raise Wrong("duration", "Input should be '3', '4', … or '15'", "literal_error")
        if not isinstance(body.get("generate_audio", False), bool):
            raise Wrong("generate_audio", "Input should be a valid boolean", "bool_type")
        if body.get("aspect_ratio", "16:9") not in ("16:9", "9:16", "1:1"):
            raise Wrong("aspect_ratio", "Input should be '16:9', '9:16' or '1:1'", "literal_error")
        self._prompts(body, int(seconds))
        images, first = self._images(body, way)
        if way == "image-to-video" and first is None:
            raise Wrong("image_url", "Field required", "missing")
        aspect = standins.aspect_of(*first) if first else body.get("aspect_ratio", "16:9")
        sound = body.get("generate_audio", False)
        return {"seconds": int(seconds), "sound": sound, "aspect": aspect, "images": images}

    def _prompts(self, body: dict[str, Any], seconds: int) -> None:
        if "prompt" in body and (not isinstance(body["prompt"], str) or len(body["prompt"]) > 2500):
            raise Wrong("prompt", "a string of at most 2500 characters")
        if ("prompt" in body) == ("multi_prompt" in body):
            raise Wrong("prompt", "Either prompt or multi_prompt must be provided, but not both.")
        if body.get("shot_type", "customize") not in ("customize", "intelligent"):
            raise Wrong("shot_type", "Input should be 'customize' or 'intelligent'", "literal_error")
        shots = body.get("multi_prompt", [{"prompt": "x", "duration": str(seconds)}])
        if not isinstance(shots, list) or not 1 <= len(shots) <= 6:
            raise Wrong("multi_prompt", "1 to 6 items")
        for shot in shots:
            if not isinstance(shot, dict) or shot.keys() != {"prompt", "duration"}:
                raise Wrong("multi_prompt", "an item has prompt and duration")
            if not isinstance(shot["prompt"], str) or not 1 <= len(shot["prompt"]) <= 512:
                raise Wrong("multi_prompt", "an item's prompt has 1 to 512 characters")
            if shot["duration"] not in [str(n) for n in range(1, 16)]:
                raise Wrong("multi_prompt", "an item's duration is '1', '2', … or '15'")
        if sum(int(shot["duration"]) for shot in shots) != seconds:
            raise Wrong("multi_prompt", "the durations must add up to duration")

    def _images(self, body: dict[str, Any], way: str) -> tuple[dict[str, bytes], tuple[int, int] | None]:
        start = "image_url" if way == "image-to-video" else "start_image_url"
        if "end_image_url" in body and start not in body:
            raise Wrong("end_image_url", f"needs {start}")
        given = {name: body[name] for name in (start, "end_image_url") if name in body}
        extra, elements = body.get("image_urls", []), body.get("elements", [])
        for name, items in (("image_urls", extra), ("elements", elements)):
            if name in body and (not isinstance(items, list) or not items):
                raise Wrong(name, "a list of at least 1 item")
        given |= {f"image_urls.{i}": image for i, image in enumerate(extra)}
        for i, element in enumerate(elements):
            if not isinstance(element, dict) or element.keys() != {"frontal_image_url", "reference_image_urls"}:
                raise Wrong("elements", "an element has frontal_image_url and reference_image_urls")
            others = element["reference_image_urls"]
            if not isinstance(others, list) or not 1 <= len(others) <= 3:
                raise Wrong("elements", "1 to 3 reference images")
            given[f"elements.{i}.frontal_image_url"] = element["frontal_image_url"]
            given |= {f"elements.{i}.reference_image_urls.{j}": other for j, other in enumerate(others)}
        if len(elements) + len(extra) + len({start, "end_image_url"} & body.keys()) > 7:
            raise Wrong("image_urls", "elements, images and frames are more than 7 together")
        images: dict[str, bytes] = {}
        first = None
        for name, text in given.items():
            try:
                if not isinstance(text, str) or not text.startswith(("http://", "https://", "data:")):
                    raise BadImage("is neither a URL nor a data URI")
                images[name] = data = standins.decoded(text) if text.startswith("data:") else standins.fetched(text)
                size = standins.judged(data, FORMATS, 10_000_000)
            except BadImage as exc:
                raise Wrong(name, str(exc), "file_download_error" if "fetched" in str(exc) else "image_load_error")  # noqa: B904
            first = size if name == start else first
        return images, first

    # Read

    def _request(self, seen: Seen) -> Reply:
        task, _, what = seen.path.removeprefix(REQUESTS).partition("/")
        bought = self.find(unquote(task), self.caller(seen))
        if bought is None:
            return says(404, {"detail": "Request not found"})
        if what == "status" and seen.method == "GET":
            told = self.told_of(bought)
            return says(200 if told["status"] == "COMPLETED" else 202, told)
        if what == "" and seen.method == "GET":
            return self.result(bought)
        if what == "cancel" and seen.method == "PUT":
            done = self.age(bought) >= 1
            return says(400 if done else 202, {"status": "ALREADY_COMPLETED" if done else "CANCELLATION_REQUESTED"})
        return says(405, {"detail": "Method Not Allowed"})

    def told_of(self, bought: Purchase) -> dict[str, Any]:
        age = self.age(bought)
        word = bought.outcome.word or ("IN_QUEUE" if age < 0.3 else "IN_PROGRESS" if age < 1 else "COMPLETED")
        told: dict[str, Any] = {"status": word, **self.addresses(bought), "logs": None}
        if word == "IN_QUEUE":
            told["queue_position"] = 0
        if word == "COMPLETED":
            told["metrics"] = {"inference_time": 94.2}
            failure = self._failure(bought)
            if failure is not None and self.told_failure:
                told |= {"error": f"Invalid status code: {failure[0]}", "error_type": failure[2]}
        return told

    def _failure(self, bought: Purchase) -> tuple[int, dict[str, Any], str] | None:
        """HTTP status, body and type of a task that ended without a clip."""
        wrong = self._wrong.get(bought.task)
        if wrong is not None:
            return 422, {"detail": [_problem(wrong.field, str(wrong), wrong.kind)]}, wrong.kind
        if bought.outcome.fail is None:
            return None
        named, message = bought.outcome.fail
        kind, status = named if isinstance(named, tuple) else (named, 422)
        if kind.startswith(("runner_", "request_", "startup_", "client_", "internal_error")):
            return status, {"detail": message, "error_type": kind}, kind
        return status, {"detail": [_problem("prompt", message, kind)]}, kind

    def result(self, bought: Purchase) -> Reply:
        if self.age(bought) < 1 or bought.outcome.word is not None:
            return says(400, {"detail": "Request is still in progress"})
        failure = self._failure(bought)
        if failure is not None:
            status, body, kind = failure
            headers = {"x_fal_request_id": quote(str(bought.task), safe="")}
            if "error_type" in body:
                headers["X_Fal_Error_Type"] = kind
            else:
                headers["X_Fal_Retryable"] = "true" if status >= 500 else "false"
            return says(status, body, **headers)
        if bought.outcome.no_output:
            return says(200, {}, x_fal_request_id=quote(str(bought.task), safe=""))
        url = self.url(bought)[0]
        video = {"url": url, "content_type": "video/mp4", "file_name": "output.mp4", "file_size": 1}
        return says(200, {"video": video}, x_fal_request_id=quote(str(bought.task), safe=""))

    # Webhooks

    def _call_when_done(self, bought: Purchase, url: str) -> None:
        while self.age(bought) < 1:
            if self._stopping.wait(min(0.02, max(self.finish_s, 0.001))):
                return
        self.call(bought, url)

    def call(self, bought: Purchase, url: str, *, stamp: float | None = None) -> int:
        """One signed callback, now. 0: no answer."""
        reply = self.result(bought)
        body = json.dumps(
            {
                "request_id": bought.task,
                "gateway_request_id": bought.task,
                "status": "OK" if reply.status == 200 else "ERROR",
                **({} if reply.status == 200 else {"error": f"Invalid status code: {reply.status}"}),
                "payload": json.loads(reply.body),
            }
        ).encode()
        request = urllib.request.Request(url, body, self.signed(bought.task, body, stamp))
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answered = int(response.status)
        except urllib.error.HTTPError as exc:
            exc.close()
            answered = exc.code
        except OSError:
            answered = 0
        self.deliveries.append((bought.task, answered))
        return answered

    def signed(self, task: str, body: bytes, stamp: float | None = None) -> dict[str, str]:
        """The headers of a callback with this body."""
        user, seconds = f"user_{secrets.token_hex(4)}", str(int(self.now() if stamp is None else stamp))
        message = "\n".join((task, user, seconds, hashlib.sha256(body).hexdigest()))
        return {
            "Content-Type": "application/json",
            "X-Fal-Webhook-Request-Id": task,
            "X-Fal-Webhook-User-Id": user,
            "X-Fal-Webhook-Timestamp": seconds,
            "X-Fal-Webhook-Signature": self.signing.sign(message.encode()).hex(),
        }


def _problem(field: str, message: str, kind: str) -> dict[str, Any]:
    where = ["body", *filter(None, field.split("."))]
    return {"loc": where, "msg": message, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}


def _https_or_here(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost"))
