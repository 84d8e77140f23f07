"""HiAPI: one asynchronous endpoint, `POST /v1/tasks`, with the model in the body.

Wire facts: HiAPI docs (kling-3.0-omni image-to-video, text-to-video, async-api) and HiAPI's own Python client 0.2.1,
read 2026-11. Frames reach it as URLs: where they are published, or as data: URIs, as HiAPI's own tools for this very
model send them (HiAPIAI/hiapi-food-commercial-video-skill at 6bf39ea, 2026-08-20). An order carries an Idempotency-Key:
the same key with the same bytes within about a day gives the first task again and is not billed again, so a lost answer
is asked for once more.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from klingflow.core.model import Film, Key, Shot, TaskId
from klingflow.core.source import Problem
from klingflow.providers import omni, plain, reading
from klingflow.providers.base import (
    Accepted,
    Answer,
    Busy,
    Caps,
    Done,
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

name = "hiapi"

caps = Caps(
    title="HiAPI",
    seconds=(3, 15),  # HiAPI docs, image-to-video
    resolutions=("720p", "1080p", "4K"),  # HiAPI docs, image-to-video
    models=(omni.MODEL,),
    prompt_chars=3072,  # HiAPI names no limit; Kling's own API of this model: 3,072, of which 2,500 are advised
    image_formats=("JPEG", "PNG", "WEBP"),  # HiAPI docs, image-to-video
    # HiAPI names no limit for an image; these are Kling's own for this generation of the model (the one that makes 4K).
    image_bytes=50 * 1024 * 1024,
    image_side=300,
    image_ratio=2.5,
    # HiAPI's own tools for this model put files of up to 20 MiB each into a request (the commit above); an older page
    # of its docs (rate limits) names 10 MB for a whole request. A 413 costs nothing, and is told with what mends it.
    inline_bytes=20 * 1024 * 1024,
    replay_s=20 * 3600.0,  # HiAPI's client says about 24 h; the margin is for clocks and for the last send
    concurrency=4,  # HiAPI's blog on rate limits advises to begin with 4 in flight
    requests_per_minute=60,  # HiAPI docs, rate limits: "may vary by model and account tier"
    requests_at_once=10,  # HiAPI docs, rate limits
    list_size=100,  # HiAPI docs, list tasks
    prices=omni.LIST_PRICE,  # HiAPI's own are not in its documents
    prices_from=omni.PRICES_FROM,
    settings={
        "data_uri": {
            "title": "Frames as data URIs",
            "description": "Where nothing is published, send frames inside the request, at most 20 MiB each: HiAPI's "
            "own tools for this model do, its pages do not say it. false: no frame is sent without publish.",
            "type": "boolean",
            "default": True,
        },
        "storage": {
            "title": "Storage",
            "description": "Where HiAPI keeps the clips that it made: temp, what it does untold, for about 7 days and "
            "free; persistent for a price of its own. klingflow downloads each clip at once and needs no more than "
            "temp.",
            "enum": ["temp", "persistent"],
        },
        "route": {
            "title": "Route",
            "description": "Which of the model's routes at HiAPI makes the clips, by its name there; an unknown one is "
            "refused with the names that there are. Left out: the default one.",
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
            "maxLength": 64,
            "errorMessage": "a route is a name as HiAPI writes it: letters, digits, dots, - and _",
            "examples": ["ext"],
        },
    },
    key_variable="HIAPI_API_KEY",
    webhook_variable="HIAPI_WEBHOOK_SECRET",
    callback_in_order=True,
    base_variable="HIAPI_BASE_URL",
    base_url="https://api.hiapi.ai",
)

PROMPT_ADVISED = 2500
"""Characters; Kling docs, video omni, read 2026-11."""

model = omni.model
authorization = plain.bearer
another_form = plain.another_form
result_of, result = plain.result_of, plain.result
find, found = plain.find, plain.found
upload, uploaded = plain.upload, plain.uploaded


def check(film: Film, shot: Shot) -> Sequence[Problem]:
    return tuple(_check(film, shot))


def _check(film: Film, shot: Shot) -> Iterator[Problem]:
    yield from omni.faults(film, shot, caps, "HiAPI")
    lacking = (
        ("negative_prompt", bool(shot.negative_prompt), "say in the prompt what should be seen instead"),
        ("multi_shot", shot.multi_shot is not None, "write each cut as a shot of its own"),
        ("images", bool(shot.images), "use first_frame and last_frame"),
        ("elements", bool(shot.elements), "describe them in the prompt"),
    )
    for field, used, instead in lacking:
        if used:
            yield omni.problem(
                film,
                shot,
                field,
                f"HiAPI's Kling 3.0 Omni has no {field}",
                f"{instead}, or use provider: mulerouter",
                rule="not-offered",
            )
    if shot.aspect_ratio is not None and shot.first_frame is not None:
        yield omni.problem(
            film,
            shot,
            "aspect_ratio",
            "HiAPI takes the aspect ratio from the first frame",
            "drop aspect_ratio, or crop the first frame to it",
            rule="not-offered",
        )
    if PROMPT_ADVISED < len(shot.prompt) <= caps.prompt_chars:
        yield omni.problem(
            film,
            shot,
            "prompt",
            f"the prompt is {len(shot.prompt)} characters as rendered; Kling advises at most {PROMPT_ADVISED}",
            "shorten it, or expect its end to count for little",
            rule="prompt-long",
            warning=True,
        )


def images(settings: Settings, published: bool) -> Images:
    return "data-uri" if settings.own.get("data_uri", True) and not published else "url"


def submit(shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
    """`POST /v1/tasks`. The body's bytes are what HiAPI compares with those of an earlier order of the same key."""
    first, last = inputs.get("first_frame"), inputs.get("last_frame")
    given: Object = {}
    if first is not None:
        given["image_urls"] = [first] if last is None else [first, last]
    if shot.prompt:
        given["prompt"] = shot.prompt
    given["resolution"] = shot.resolution
    if first is None and shot.aspect_ratio is not None:
        given["aspect_ratio"] = shot.aspect_ratio
    given["duration"] = shot.duration
    given["sound"] = shot.sound
    way = "text-to-video" if first is None else "image-to-video"
    body: Object = {"model": f"{omni.MODEL}/{way}", "input": given}
    for name in ("route", "storage"):
        if name in settings.own:
            body[name] = settings.own[name]
    if settings.callback_url is not None:
        body["callback"] = {"url": settings.callback_url, "when": "final"}
    return Request(
        method="POST",
        path="/v1/tasks",
        body=omni.compact(body),
        headers={"Content-Type": "application/json", "Idempotency-Key": token(key, attempt)},
    )


def token(key: Key, attempt: int) -> str:
    """The order's Idempotency-Key. 70 bytes with a one-digit attempt; HiAPI allows 255."""
    return f"kf1:{key}:{attempt}"


_ANOTHER_TRY = frozenset({"model_unavailable", "task_timeout", "storage_unavailable"})
"""Error codes, in small letters, after which a new order is documented to help: HiAPI's Python client 0.2.1, its whole
table, read 2026-11. Of every other failed task HiAPI's page says to fix the request, so it is not ordered again."""


_IDS = ("taskId", "task_id", "id")
"""Where a task's id is: HiAPI docs, HiAPI's own tools, and its blog. The last one only inside a task's own object."""


def accepted(answer: Answer) -> Submitted:
    """A task id in a 2xx is an order that was taken, one in a 409 the task of an earlier request with the same key."""
    return reading.with_raw(_accepted(answer), answer)


def _accepted(answer: Answer) -> Submitted:
    body = reading.parsed(answer.body)
    status = answer.status
    reported = _error(body)
    code = reported.code.lower()
    task = reading.task(reading.field(body, "data"), *_IDS) or reading.task(body, *_IDS[:2])
    mismatch = code == "idempotency_key_mismatch"
    if task is not None and not mismatch and (200 <= status <= 299 or status == 409):
        replayed = status == 409 or answer.headers.get("idempotent-replay", "").strip().lower() == "true"
        return Accepted(task=task, replayed=replayed)
    if 200 <= status <= 299:
        inside = reading.number(body.get("code")) if body is not None else None
        if inside is None or not 300 <= inside <= 599:
            return Unclear(message=f"HiAPI answered HTTP {status} without a task id")
        status = inside
    if mismatch:
        return Unclear(
            message="HiAPI has already seen this order's key with another body, so an order was sent that this ledger "
            "does not know",
            final=True,
        )
    if status == 409:
        return (
            Busy(retry_after=reading.retry_after(answer.headers))
            if code in ("", "idempotency_key_processing")
            else Unclear(message=f"HiAPI answered HTTP 409: {reported}")
        )
    refused = reading.refusal(answer, status, reported)
    if refused is None:
        # HiAPI's client takes its 503 for a no. The same bytes with the same key are right whether it was one or not.
        return Unclear(
            message=f"HiAPI answered HTTP {status}" + (f": {reported}" if str(reported) else ""),
            retry_after=reading.retry_after(answer.headers),
        )
    if refused.kind is FailureClass.INVALID and code in _ANOTHER_TRY:
        return Refused(
            kind=FailureClass.PROVIDER_FAULT,
            code=refused.code,
            message=refused.message,
            retry_after=refused.retry_after,
        )
    if refused.kind is FailureClass.INVALID and (status == 413 or re.search(_ABOUT_IMAGES, refused.message)):
        return replace(refused, message=refused.message + _INLINE_HINT)
    return refused


_ABOUT_IMAGES = r"(?i)image_url|data[ -]?ur[il]|base ?64|image.* (too large|fetch|download|load)"
_INLINE_HINT = (
    "; if that is about frames inside the request, set images: {shrink: high-quality} in klingflow.yaml for smaller "
    "ones, or publish, so that they go by URL"
)


def _error(body: Object | None) -> ErrorText:
    """Both error shapes: {code, message, error_code} (docs) and {error: {code, message, type}} (blog, examples)."""
    if body is None:
        return ErrorText()
    inner = reading.field(body, "error")
    return ErrorText(
        reading.text(body.get("error_code")) or reading.text(inner.get("code")) or reading.text(inner.get("type")),
        reading.text(inner.get("message")) or reading.text(body.get("message")) or reading.text(body.get("error")),
    )


def poll(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=f"/v1/tasks/{reading.step(task)}")


_PENDING = frozenset({"queued", "handling", "archiving", "pending", "processing", "running"})
_DONE = frozenset({"success", "succeeded", "completed"})
_FAILED = frozenset({"fail", "failed"})
"""The documents' words first, then those of HiAPI's blog. The blog's "timeout" is left out: a task with a word that no
document knows is waited for."""


def status(answer: Answer, task: TaskId) -> Status:
    """What became of a task."""
    data = _data(answer)
    if not isinstance(data, dict):
        return data
    about = reading.task(data, *_IDS) or task
    if about != task:
        return Later(message=f"HiAPI answered about another task ({reading.text(about, 80)})")
    word = reading.text(data.get("status"), 80).lower()
    if not word:
        return Later(message="HiAPI's answer names no status")
    if word in _DONE:
        video = reading.clip(data.get("output"))
        if video is None:
            message = "HiAPI calls the task done, and its answer names no video"
            return Unreadable(message=message, raw=reading.raw(answer))
        return Done(url=str(video["url"]))
    if word in _FAILED or word in reading.STOPPED:
        return _failure(word, data.get("error") or data.get("fail_reason"))
    return Pending(state=word, known=word in _PENDING)


def _data(answer: Answer) -> Object | Missing | Later:
    """What is inside the envelope, or why there is nothing to read."""
    body = reading.parsed(answer.body)
    code = answer.status
    if code == 200 and body is not None:
        inside = reading.number(body.get("code"))
        code = inside if inside is not None and 300 <= inside <= 599 else code
    wait = reading.retry_after(answer.headers)
    reported = str(_error(body))
    if code in (401, 403):
        return Later(message=reported or f"HTTP {code}", retry_after=wait, unauthorised=True)
    if code == 404 and not reading.is_page(answer.body):
        return Missing()
    if code != 200:
        return Later(message=reported or f"HTTP {code}", retry_after=wait)
    if body is None:
        return Later(message="HiAPI's answer is not JSON", retry_after=wait)
    data = body.get("data")
    data = body if data is None else data  # HiAPI's own tools read a task at the top, too
    return data if isinstance(data, dict) else Later(message="HiAPI's answer holds no data", retry_after=wait)


def _failure(word: str, error: object) -> Failed:
    """Only a documented code allows a new order; the message can only take it back (moderation)."""
    inner = error if isinstance(error, dict) else {}
    reported = ErrorText(reading.text(inner.get("code")), reading.text(inner.get("message")) or reading.text(error))
    kind = FailureClass.INVALID
    if reading.moderated(reported):
        kind = FailureClass.MODERATED
    elif word in _FAILED and reported.code.lower() in _ANOTHER_TRY:
        kind = FailureClass.PROVIDER_FAULT
    message = reported.message or ("HiAPI gave no reason" if word in _FAILED else f"HiAPI calls the task {word}")
    return Failed(kind=kind, code=reported.code, message=message)


def probe() -> Request:
    return poll(plain.NOBODY, "", {})  # not the list, which may be refused to a key that may order


def probed(answer: Answer) -> str:
    return plain.nobody_is_missing(status(answer, plain.NOBODY), answer)


def poll_many(page: int) -> Request | None:
    return Request(method="GET", path=f"/v1/tasks?page={page}&size={caps.list_size}")


def statuses(answer: Answer) -> Mapping[TaskId, Status] | Later:
    """A list names neither outputs nor errors, so every ended task is "done" here, also a failed one."""
    data = _data(answer)
    if isinstance(data, Missing):
        return Later(message="HiAPI does not know its own list of tasks")
    if isinstance(data, Later):
        return data
    tasks = data.get("tasks")
    if not isinstance(tasks, list):
        return Later(message="HiAPI's list holds no tasks")
    out: dict[TaskId, Status] = {}
    for item in tasks:
        if not isinstance(item, dict):
            continue
        task = reading.task(item, *_IDS)
        word = reading.text(item.get("status"), 80).lower()
        if task is None or not word:
            continue
        ended = word in _DONE or word in _FAILED or word in reading.STOPPED
        out[task] = Pending(state="done") if ended else Pending(state=word, known=word in _PENDING)
    return out


WINDOW_S = 300
"""Seconds that a callback's time may be off, either way; HiAPI docs, async API, read 2026-11."""


def webhook(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
    """HMAC-SHA256 over timestamp, a dot, and the raw body; the key is the secret's UTF-8 bytes."""
    given = {header.lower(): value for header, value in headers.items()}
    stamp, signature = given.get("x-hiapi-timestamp", ""), given.get("x-hiapi-signature", "")
    if not secret:
        raise WebhookRefused("no webhook secret is set")
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise WebhookRefused("the timestamp is not a number of seconds")
    if not re.fullmatch(r"[0-9a-f]{64}", signature):
        raise WebhookRefused("the signature is not 64 lower-case hex digits")
    expected = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise WebhookRefused("the signature does not fit")
    if abs(now_s - int(stamp)) > WINDOW_S:
        raise WebhookRefused(f"the timestamp is more than {WINDOW_S} s off")
    read = reading.parsed(body)
    task = reading.task(read, *_IDS)
    if task is None:
        raise WebhookRefused("the body names no task")
    return task
