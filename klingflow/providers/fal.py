"""fal.ai: Kling O3, which is Kling 3.0 Omni, behind fal's queue: one endpoint for each tier and way.

Wire facts: fal docs (queue, inference API, errors, request errors, webhooks, the O3 pages) and fal's own clients
(fal-client 1.0.3, fal-js 2026-08), read 2026-11. Frames go as URLs or data URIs. An order answers with the addresses of
its status and its result, which are used as given. Nothing like an idempotency key is documented, and there is no list:
after a lost answer only a person can find out whether an order was taken.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from klingflow.core.model import Film, Key, Shot, TaskId
from klingflow.core.source import Problem
from klingflow.providers import omni, plain, reading
from klingflow.providers.base import (
    Accepted,
    Answer,
    Caps,
    Done,
    Ended,
    Failed,
    FailureClass,
    Images,
    Later,
    Missing,
    Pending,
    Refused,
    Request,
    Settings,
    Status,
    Submitted,
    Unclear,
    Unreadable,
    WebhookRefused,
)
from klingflow.providers.reading import ErrorText, Object
from klingflow.storyboard import mentions

name = "fal"

_TIER = {"720p": "standard", "1080p": "pro", "4K": "4k"}
"""fal's pages name the tiers and not their sizes. The sizes are Kling's own of the modes std, pro and 4k (Kling docs,
API updates, read 2026-11), whose list prices fal's tiers have to the cent."""

caps = Caps(
    title="fal.ai",
    seconds=(3, 15),  # fal docs, O3 standard image-to-video
    resolutions=tuple(_TIER),
    models=(omni.MODEL,),
    prompt_chars=2500,  # fal names none for O3; its page of v3 turbo advises this, and Kling's legacy API has it
    # fal names no limits for O3; these are of its pages of the sibling O1 (bytes, sides, ratio) and v3 turbo (formats).
    image_formats=("JPEG", "PNG"),
    image_bytes=10_000_000,
    image_side=300,
    image_ratio=2.5,
    replay_s=None,
    concurrency=2,  # fal docs, FAQ: what a new account may run at once; more wait in the queue, and none is refused
    requests_per_minute=None,  # fal docs, concurrency limits: there is none
    prices=omni.LIST_PRICE,
    prices_from="fal.ai's O3 pages, read 2026-11: Kling's list price to the cent",
    key_variable="FAL_KEY",  # as fal's own clients have it
    webhook_keys="https://rest.fal.ai/.well-known/jwks.json",  # fal docs, webhooks
    callback_in_order=True,
    base_variable="FAL_BASE_URL",
    base_url="https://queue.fal.run",
)

_APP = "/fal-ai/kling-video"

model = omni.model
authorization = plain.key_scheme
another_form = plain.another_form
poll_many, statuses = plain.poll_many, plain.statuses
find, found = plain.find, plain.found
upload, uploaded = plain.upload, plain.uploaded


def check(film: Film, shot: Shot) -> Sequence[Problem]:
    return tuple(_check(film, shot))


def _check(film: Film, shot: Shot) -> Iterator[Problem]:
    yield from omni.faults(film, shot, caps, "fal.ai")
    yield from omni.prompt_faults(film, shot, "fal.ai")
    yield from omni.multi_shot_faults(film, shot, "fal.ai")
    yield from omni.image_faults(film, shot, "fal.ai", needs_reference=True)
    if shot.negative_prompt:
        mend = "say in the prompt what should be seen instead, or use provider: mulerouter"
        yield omni.lacking(film, shot, "negative_prompt", "fal.ai's Kling O3 has no negative_prompt", mend)
    if shot.aspect_ratio is not None and shot.first_frame is not None and not _referring(shot):
        what = "fal.ai takes the aspect ratio from the first frame"
        yield omni.lacking(film, shot, "aspect_ratio", what, "drop aspect_ratio, or crop the first frame to it")


def submit(shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
    """The order, at the endpoint of the shot's resolution and of what its images ask for. `key` and `attempt` change
    nothing: there is no idempotency key."""
    first = inputs.get("first_frame")
    way = "reference-to-video" if _referring(shot) else "text-to-video" if first is None else "image-to-video"
    body: Object = {}
    multi = shot.multi_shot
    if multi is not None and multi.by == "customize":
        # The prompt and multi_prompt exclude each other.
        body["multi_prompt"] = [{"prompt": _spelled(text), "duration": str(length)} for text, length in multi.shots]
    else:
        body["prompt"] = _spelled(shot.prompt)
    if multi is not None:
        body["shot_type"] = "customize" if multi.by == "customize" else "intelligent"
    if first is not None:
        body["image_url" if way == "image-to-video" else "start_image_url"] = first
        if "last_frame" in inputs:
            body["end_image_url"] = inputs["last_frame"]
    if shot.images:
        body["image_urls"] = [inputs[f"images.{i}"] for i in range(len(shot.images))]
    if shot.elements:
        body["elements"] = [_element(inputs, i, len(e.reference_images)) for i, e in enumerate(shot.elements)]
    body["duration"] = str(shot.duration)
    body["generate_audio"] = shot.sound
    if shot.aspect_ratio is not None and way != "image-to-video":
        body["aspect_ratio"] = shot.aspect_ratio
    path = f"{_APP}/o3/{_TIER[shot.resolution]}/{way}"
    if settings.callback_url is not None:
        path += f"?fal_webhook={quote(settings.callback_url, safe='')}"
    return Request(
        method="POST", path=path, body=omni.compact(body), headers={"Content-Type": "application/json"}
    )


def _referring(shot: Shot) -> bool:
    return bool(shot.images or shot.elements)


def _spelled(text: str) -> str:
    """A prompt with its mentions as fal writes them: @Element1, @Image1."""
    return mentions.replaced(text, lambda kind, number: f"@{kind.capitalize()}{number}")


def _element(inputs: Mapping[str, str], index: int, references: int) -> Object:
    role = f"elements.{index}"
    others = [inputs[f"{role}.reference_images.{i}"] for i in range(references)]
    return {"frontal_image_url": inputs[f"{role}.frontal_image"], "reference_image_urls": others}


def accepted(answer: Answer) -> Submitted:
    """A request id in a 2xx is an order that was taken. Every 5xx leaves it open whether it was."""
    return reading.with_raw(_accepted(answer), answer)


def _accepted(answer: Answer) -> Submitted:
    body = reading.parsed(answer.body)
    reported, kinds = _error(body, answer)
    task = reading.task(body, "request_id")
    if 200 <= answer.status <= 299:
        if task is None:
            return Unclear(message=f"fal.ai answered HTTP {answer.status} without a request id" + _tail(reported))
        return Accepted(task=task, urls=_addresses(body, status="status_url", result="response_url"))
    refused = reading.refusal(answer, answer.status, reported)
    if refused is None:
        return Unclear(message=f"fal.ai answered HTTP {answer.status}" + _tail(reported))
    kind = refused.kind
    if refused.kind is FailureClass.UNAUTHORISED and re.search(_NO_MONEY, reported.message, re.IGNORECASE):
        kind = FailureClass.QUOTA
    elif refused.kind is FailureClass.INVALID and _MODERATED in kinds:
        kind = FailureClass.MODERATED
    return Refused(kind=kind, code=refused.code, message=refused.message, retry_after=refused.retry_after)


def _addresses(body: Object | None, **names: str) -> dict[str, str]:
    """The addresses of an answer, by names of ours."""
    given = {ours: reading.url((body or {}).get(theirs)) for ours, theirs in names.items()}
    return {ours: url for ours, url in given.items() if url is not None}


_NO_MONEY = r"user is locked\W.*(balance|top_?up)"
"""A 403; issues of GitHub `fal-ai/fal`, as a guide of 2026-11-22 quotes them."""
_MODERATED = "content_policy_violation"
"""fal docs, model errors."""


def _tail(reported: ErrorText) -> str:
    return f": {reported}" if str(reported) else ""


def _error(body: Object | None, answer: Answer) -> tuple[ErrorText, frozenset[str]]:
    """An error in both its shapes, and every kind it names: `detail` as a list of {loc, msg, type} (the model's), and
    `detail` as text with `error_type` (the queue's), which is in a header too."""
    if body is None:
        return ErrorText(), frozenset()
    detail = body.get("detail")
    items = [item for item in detail if isinstance(item, dict)] if isinstance(detail, list) else []
    kinds = [reading.text(item.get("type"), 80) for item in items]
    kinds.append(reading.text(body.get("error_type"), 80) or reading.text(answer.headers.get("x-fal-error-type"), 80))
    kinds = [kind for kind in kinds if kind]
    message = "; ".join(filter(None, map(_complaint, items[:5]))) or reading.text(detail)
    message = message or reading.text(body.get("error")) or reading.text(body.get("message"))
    return ErrorText(kinds[0] if kinds else "", reading.text(message)), frozenset(kinds)


def _complaint(item: Object) -> str:
    """One error of the model: its message, and the field it is about where that is not the whole body."""
    where = item.get("loc")
    parts = [reading.text(part, 80) for part in where[1:]] if isinstance(where, list) else []
    message = reading.text(item.get("msg"))
    return f"{'.'.join(filter(None, parts))}: {message}" if any(parts) and message else message


_PENDING = frozenset({"in_queue", "in_progress"})
_DONE = frozenset({"completed"})
_FAILED = frozenset({"failed"})
"""fal docs, queue, have the first two; a failed task is "completed" there. The last is in a third party's schema."""

_ANOTHER_TRY = frozenset(
    {
        "internal_server_error",
        "generation_timeout",
        "downstream_service_unavailable",
        "request_timeout",
        "startup_timeout",
        "runner_scheduling_failure",
        "runner_connection_timeout",
        "runner_disconnected",
        "runner_connection_refused",
        "runner_connection_error",
        "runner_incomplete_response",
        "runner_server_error",
        "internal_error",
    }
)
"""Kinds after which a new order may help: fal docs, model errors (the first three, which fal marks as such by a header
too) and request errors. fal has tried each ten times by itself, and charges nothing that ends with 5xx (FAQ)."""


def _failure(reported: ErrorText, kinds: frozenset[str], answer: Answer) -> Failed:
    """Only a documented kind allows a new order; the message can only take it back (moderation)."""
    kind = FailureClass.INVALID
    if _MODERATED in kinds or reading.moderated(reported):
        kind = FailureClass.MODERATED
    elif kinds & _ANOTHER_TRY or answer.headers.get("x-fal-retryable", "").strip().lower() == "true":
        kind = FailureClass.PROVIDER_FAULT
    return Failed(kind=kind, code=reported.code, message=reported.message or "fal.ai gave no reason")



def poll(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    """The status at the address that the order's answer gave. Without it: fal's addresses hold the app, and not the
    endpoint's path below it."""
    at = urls.get("status") or f"{_APP}/requests/{reading.step(task)}/status"
    return Request(method="GET", path=at)


def result_of(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=urls.get("result") or f"{_APP}/requests/{reading.step(task)}")


def status(answer: Answer, task: TaskId) -> Status | Ended:
    """How far a task is; what came of one that has ended is behind another address (`result_of`)."""
    body = reading.parsed(answer.body)
    reported, _ = _error(body, answer)
    wait = reading.retry_after(answer.headers)
    if answer.status == 404 and not reading.is_page(answer.body):
        return Missing()
    if answer.status not in (200, 202):
        unauthorised = answer.status in (401, 403)
        return Later(message=str(reported) or f"HTTP {answer.status}", retry_after=wait, unauthorised=unauthorised)
    if body is None:
        return Later(message="fal.ai's answer is not JSON", retry_after=wait)
    about = reading.task(body, "request_id")
    if about not in (None, task):
        return Later(message=f"fal.ai answered about another task ({reading.text(about, 80)})")
    word = reading.text(body.get("status"), 80).lower()
    if not word:
        return Later(message="fal.ai's answer names no status" + _tail(reported))
    if word in _DONE or word in _FAILED:
        return Ended(urls=_addresses(body, result="response_url"))
    if word in reading.STOPPED:
        return Failed(kind=FailureClass.INVALID, code=reported.code, message=f"fal.ai calls the task {word}")
    return Pending(state=word, known=word in _PENDING)


def result(answer: Answer, task: TaskId) -> Status:
    """What came of a task that has ended: the model's own answer, with its own HTTP status where it failed.

    A 5xx is the task's end only where it is marked as fal's: by a kind, or by the header of fal's own answers.
    """
    body = reading.parsed(answer.body)
    reported, kinds = _error(body, answer)
    wait = reading.retry_after(answer.headers)
    if answer.status == 200 and body is not None:
        video = reading.clip([{"type": "video", **reading.field(body, "video")}])
        if video is not None:
            return Done(url=str(video["url"]))
        if "detail" not in body:
            message = "fal.ai calls the task done, and its answer names no video"
            return Unreadable(message=message, raw=reading.raw(answer))
    if answer.status == 404 and not kinds and not reading.is_page(answer.body):
        return Missing()
    ended = body is not None and "detail" in body and (bool(kinds) or "x-fal-request-id" in answer.headers)
    early = answer.status == 400 and re.search(r"in (progress|queue)", reported.message, re.IGNORECASE)
    if ended and not early and answer.status not in (202, 401, 403, 404, 408, 429):
        return _failure(reported, kinds, answer)
    unauthorised = answer.status in (401, 403)
    return Later(message=str(reported) or f"HTTP {answer.status}", retry_after=wait, unauthorised=unauthorised)


def images(settings: Settings, published: bool) -> Images:
    return "data-uri"


def probe() -> Request:
    return Request(method="GET", path=f"{_APP}/requests/{plain.NOBODY}/status")


def probed(answer: Answer) -> str:
    return plain.nobody_is_missing(status(answer, plain.NOBODY), answer)


WINDOW_S = 300
"""Seconds that a callback's time may be off, either way; fal docs, webhooks, read 2026-11."""


def webhook(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
    """ED25519 over request id, user id, timestamp and the body's SHA-256 in hex, a line each. `secret` is no secret:
    the key set (JWKS) that fal publishes, as JSON. Any of its keys may have signed."""
    given = {header.lower(): value for header, value in headers.items()}
    named = [given.get(f"x-fal-webhook-{part}", "") for part in ("request-id", "user-id", "timestamp")]
    request, user, stamp = named
    keys = _keys(secret)
    if not keys:
        raise WebhookRefused("no key of fal's published set is known")
    if not request or not user or max(map(len, named)) > 200 or not "".join(named).isascii():
        raise WebhookRefused("the callback names no request")
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise WebhookRefused("the timestamp is not a number of seconds")
    signature = given.get("x-fal-webhook-signature", "")
    if not re.fullmatch(r"[0-9a-fA-F]{128}", signature):
        raise WebhookRefused("the signature is not 128 hex digits")
    message = "\n".join((request, user, stamp, hashlib.sha256(body).hexdigest())).encode()
    if not any(_signed(key, bytes.fromhex(signature), message) for key in keys):
        raise WebhookRefused("the signature does not fit")
    if abs(now_s - int(stamp)) > WINDOW_S:
        raise WebhookRefused(f"the timestamp is more than {WINDOW_S} s off")
    task = reading.task(reading.parsed(body), "request_id")
    if task is None:
        raise WebhookRefused("the body names no request")
    return task


KEYS = 16
"""Keys of a set that are tried."""


def _keys(jwks: str) -> list[bytes]:
    """The public ED25519 keys of a JWKS (RFC 7517, RFC 8037): 32 bytes each."""
    listed = (reading.parsed(jwks.encode()) or {}).get("keys")
    out = []
    for item in (listed if isinstance(listed, list) else [])[:KEYS]:
        text = item.get("x") if isinstance(item, dict) else None
        if not isinstance(text, str):
            continue
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(raw) == 32:
            out.append(raw)
    return out


def _signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:  # Only here: an extra, which nothing but a callback needs.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as exc:
        raise WebhookRefused("ED25519 needs the extra klingflow[fal], which is not installed") from exc
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
