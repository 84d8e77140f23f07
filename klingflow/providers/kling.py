"""Kling's own API, in its legacy standard: `POST /v1/videos/omni-video`, with the model in the body.

Wire facts: Kling docs (Omni-Video, authentication, error codes, concurrency, callbacks, API updates), read 2026-11. The
legacy standard is the one that takes short-lived tokens of an access key and a secret key; Kling plans no end for it
(API updates, 2026-07-15). Frames go as URLs or as plain Base64. An order carries an `external_task_id` of ours: it can
be looked up, and a second order with the same one is refused, so that a lost answer buys nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from klingflow.core.model import Film, Key, Shot, TaskId
from klingflow.core.source import Problem
from klingflow.providers import omni, plain, reading, standard_webhooks
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

name = "kling"

_MODE = {"720p": "std", "1080p": "pro", "4K": "4k"}
"""Kling docs, API updates of 2026-04-23 (4k), and its own pages' std (720p) and pro (1080p)."""

caps = Caps(
    title="Kling",
    seconds=(3, 15),  # Kling docs, Omni-Video
    resolutions=tuple(_MODE),
    models=(omni.MODEL,),
    prompt_chars=2500,  # Kling docs, Omni-Video (legacy)
    # Kling docs, Omni-Video (legacy): formats, 10 MB, sides and ratio. The new standard takes 50 MB.
    image_formats=("JPEG", "PNG"),
    image_bytes=10_000_000,
    image_side=300,
    image_ratio=2.5,
    replay_s=30 * 86400.0,  # an id of ours is refused a second time for ever; a result is kept for 30 days
    concurrency=3,  # by package, and not on the pages: klingflow's own choice, lowered by each 1303
    requests_per_minute=None,  # Kling docs, concurrency: "does not impose any QPS limits"
    prices=omni.LIST_PRICE,
    prices_from=omni.PRICES_FROM,
    key_variable="KLING_ACCESS_KEY",
    secret_variable="KLING_SECRET_KEY",
    webhook_variable="KLING_WEBHOOK_SECRET",
    callback_in_order=True,
    base_variable="KLING_BASE_URL",
    base_url="https://api-singapore.klingai.com",
)

RATIO_WITHOUT_FRAME = "16:9"
"""A shot without a first frame must name its ratio; the default of Kling's new standard."""

_PATH = "/v1/videos/omni-video"

model = omni.model
another_form = plain.another_form
poll_many, statuses = plain.poll_many, plain.statuses
result_of, result = plain.result_of, plain.result
upload, uploaded = plain.upload, plain.uploaded

TOKEN_S = 1800
"""Seconds that a token is good for; Kling docs, authentication, read 2026-11."""
SKEW_S = 5
"""Seconds before now that it begins to be good; likewise."""


def authorization(key: str, secret: str, now_s: float) -> Mapping[str, str]:
    """A token for one request: a JWT (RFC 7519) of the access key, signed by HS256 with the secret key.

    Made by hand: it is ten lines of the standard library, and one fixed form of JWT, which is never read here.
    """
    head = _packed({"alg": "HS256", "typ": "JWT"})
    claims = _packed({"iss": key, "exp": int(now_s) + TOKEN_S, "nbf": int(now_s) - SKEW_S})
    signature = hmac.new(secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return {"Authorization": f"Bearer {head}.{claims}.{_text(signature)}"}


def _packed(value: Object) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def check(film: Film, shot: Shot) -> Sequence[Problem]:
    return tuple(_check(film, shot))


def _check(film: Film, shot: Shot) -> Iterator[Problem]:
    yield from omni.faults(film, shot, caps, "Kling")
    yield from omni.prompt_faults(film, shot, "Kling")
    yield from omni.multi_shot_faults(film, shot, "Kling")
    yield from omni.image_faults(film, shot, "Kling")
    if shot.negative_prompt:
        what = "Kling's own API has no negative_prompt for 3.0 Omni"
        mend = "say in the prompt what should be seen instead, or use provider: mulerouter"
        yield omni.lacking(film, shot, "negative_prompt", what, mend)
    if shot.elements:
        what = "Kling's own API takes elements from a library of the account, not as images"
        mend = "give them as `images`, or use provider: mulerouter or fal"
        yield omni.lacking(film, shot, "elements", what, mend)
    if shot.last_frame is not None and shot.images:
        what = "Kling's own API takes no last frame beside reference images"
        yield omni.lacking(film, shot, "images", what, "drop the images, or last_frame")
    if shot.aspect_ratio is not None and shot.first_frame is not None:
        what = "Kling takes the aspect ratio from the first frame"
        yield omni.lacking(film, shot, "aspect_ratio", what, "drop aspect_ratio, or crop the first frame to it")


def submit(shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
    """`POST /v1/videos/omni-video`. Reference images come before the frames, which carry a type: so `<<<image_1>>>` in
    a prompt is the first of `images`."""
    first = inputs.get("first_frame")
    multi = shot.multi_shot
    body: Object = {"model_name": "kling-v3-omni"}
    if multi is not None:
        body["multi_shot"] = True
        body["shot_type"] = multi.by
    if multi is not None and multi.by == "customize":
        body["multi_prompt"] = [
            {"index": index, "prompt": prompt, "duration": str(length)}
            for index, (prompt, length) in enumerate(multi.shots, 1)
        ]
    else:
        body["prompt"] = shot.prompt
    images: list[Object] = [{"image_url": inputs[f"images.{i}"]} for i in range(len(shot.images))]
    if first is not None:
        images.append({"image_url": first, "type": "first_frame"})
        if "last_frame" in inputs:
            images.append({"image_url": inputs["last_frame"], "type": "end_frame"})
    if images:
        body["image_list"] = images
    body["sound"] = "on" if shot.sound else "off"
    body["mode"] = _MODE[shot.resolution]
    if first is None:
        body["aspect_ratio"] = shot.aspect_ratio or RATIO_WITHOUT_FRAME
    body["duration"] = str(shot.duration)
    if settings.callback_url is not None:
        body["callback_url"] = settings.callback_url
    body["external_task_id"] = external_id(key, attempt)
    return Request(
        method="POST", path=_PATH, body=omni.compact(body), headers={"Content-Type": "application/json"}
    )


def external_id(key: Key, attempt: int) -> str:
    """The order's `external_task_id`: 160 bits of the key, and the attempt. Kling names no limits for it, so it is
    short, of letters, digits and hyphens."""
    return f"kf1-{key[:40]}-{attempt}"


_KINDS = {
    1000: FailureClass.UNAUTHORISED,
    1001: FailureClass.UNAUTHORISED,
    1002: FailureClass.UNAUTHORISED,
    1003: FailureClass.UNAUTHORISED,
    1004: FailureClass.UNAUTHORISED,
    1100: FailureClass.UNAUTHORISED,
    1101: FailureClass.QUOTA,
    1102: FailureClass.QUOTA,
    1103: FailureClass.UNAUTHORISED,
    1200: FailureClass.INVALID,
    1201: FailureClass.INVALID,
    1202: FailureClass.INVALID,
    1203: FailureClass.INVALID,
    1300: FailureClass.MODERATED,
    1301: FailureClass.MODERATED,
    1302: FailureClass.THROTTLED,
    1303: FailureClass.THROTTLED,
    1304: FailureClass.UNAUTHORISED,
}
"""Kling docs, error codes, read 2026-11: every code below 5000. 1100 is an account in an abnormal state, 1304 its list
of allowed addresses: no order passes before somebody looks. After 5000 to 5002 the order may have been taken."""
_CLOCK = {1003: "not yet valid", 1004: "expired"}
_TWICE = r"external_task_id.*(exist|duplicat|repeat|unique|already)|(exist|duplicat|already).*external_task_id"
"""A probe of 2026-09-20 by a third party: a second order with the same id is answered 1201, "already exists"."""


def accepted(answer: Answer) -> Submitted:
    """A task id with code 0 is an order that was taken. A refusal of the id itself says that it was taken before."""
    return reading.with_raw(_accepted(answer), answer)


def _accepted(answer: Answer) -> Submitted:
    body = reading.parsed(answer.body)
    code = reading.number(body.get("code")) if body is not None else None
    reported = _error(body)
    task = reading.task(reading.field(body, "data"), "task_id")
    wait = reading.retry_after(answer.headers)
    if code in (0, None) and task is not None and 200 <= answer.status <= 299:
        return Accepted(task=task)
    if code == 1201 and re.search(_TWICE, reported.message, re.IGNORECASE | re.DOTALL):
        return Busy(retry_after=wait)
    if code in _KINDS and not 500 <= answer.status <= 599:
        kind = _KINDS[code]
        if kind is FailureClass.INVALID and reading.moderated(reported):
            kind = FailureClass.MODERATED
        clock = f"; its token is {_CLOCK[code]} by Kling's clock: set this machine's" if code in _CLOCK else ""
        message = (reported.message or f"Kling answered code {code}") + clock
        return Refused(kind=kind, code=str(code), message=message, retry_after=wait)
    refused = None if code is not None and code >= 5000 else reading.refusal(answer, answer.status, reported)
    if refused is None:
        tail = f": {reported}" if str(reported) else ""
        return Unclear(message=f"Kling answered HTTP {answer.status}{tail}", retry_after=wait)
    return refused


def _error(body: Object | None) -> ErrorText:
    """`code` and `message` of the envelope; code 0 is no error."""
    if body is None:
        return ErrorText()
    code = reading.text(body.get("code"))
    return ErrorText("" if code == "0" else code, "" if code == "0" else reading.text(body.get("message")))


def images(settings: Settings, published: bool) -> Images:
    return "base64"


def poll(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=f"{_PATH}/{reading.step(task)}")


def find(key: Key, attempt: int) -> Request | None:
    """The query of one task takes the caller's own id in place of Kling's (Kling docs, Omni-Video)."""
    return Request(method="GET", path=f"{_PATH}/{external_id(key, attempt)}")


def found(answer: Answer) -> Accepted | Missing | Later:
    data = _data(answer)
    if not isinstance(data, dict):
        return data
    task = reading.task(data, "task_id")
    if task is None:
        return Later(message="Kling knows this order's id, and its answer names no task")
    return Accepted(task=task, replayed=True, raw=reading.raw(answer))


def probe() -> Request:
    return Request(method="GET", path=f"{_PATH}?pageNum=1&pageSize=1")


def probed(answer: Answer) -> str:
    body = reading.parsed(answer.body)
    if answer.status == 200 and body is not None and isinstance(body.get("data"), list):
        return ""
    return str(_error(body)) or f"HTTP {answer.status}"


_PENDING = frozenset({"submitted", "processing"})
_DONE = frozenset({"succeed", "succeeded"})
_FAILED = frozenset({"failed"})
"""Kling docs: the legacy standard's words, and the new one's."""


def status(answer: Answer, task: TaskId) -> Status:
    """What became of a task."""
    data = _data(answer)
    if not isinstance(data, dict):
        return data
    about = reading.task(data, "task_id")
    if about not in (None, task):
        return Later(message=f"Kling answered about another task ({reading.text(about, 80)})")
    word = reading.text(data.get("task_status"), 80).lower()
    if not word:
        return Later(message="Kling's answer names no task status")
    if word in _DONE:
        videos = reading.field(data, "task_result").get("videos")
        listed = [item for item in videos if isinstance(item, dict)] if isinstance(videos, list) else []
        video = reading.clip([{"type": "video", **item} for item in listed])
        if video is None:
            message = "Kling calls the task done, and its answer names no video"
            return Unreadable(message=message, raw=reading.raw(answer))
        return Done(url=str(video["url"]))
    if word in _FAILED or word in reading.STOPPED:
        why = ErrorText("", reading.text(data.get("task_status_msg")))
        # The reason is a text alone, so nothing documents that a new order may help.
        kind = FailureClass.MODERATED if reading.moderated(why) else FailureClass.INVALID
        return Failed(kind=kind, code="", message=why.message or f"Kling calls the task {word} and gives no reason")
    return Pending(state=word, known=word in _PENDING)


_UNKNOWN = r"task.*(not (be )?found|not exist|no such|does ?n[o']t exist|invalid)|(not found|not exist).*task"


def _data(answer: Answer) -> Object | Missing | Later:
    """What is inside the envelope, or why there is nothing to read. No page says how an unknown task is answered: 1203
    (a resource that does not exist), or 1201 with words."""
    body = reading.parsed(answer.body)
    code = reading.number(body.get("code")) if body is not None else None
    reported = _error(body)
    wait = reading.retry_after(answer.headers)
    if answer.status == 401 or _KINDS.get(code or 0) is FailureClass.UNAUTHORISED:
        return Later(message=str(reported) or f"HTTP {answer.status}", retry_after=wait, unauthorised=True)
    lost = code == 1203 or (code == 1201 and re.search(_UNKNOWN, reported.message, re.IGNORECASE))
    if lost or (answer.status == 404 and not reading.is_page(answer.body)):
        return Missing()
    if answer.status != 200 or body is None or code not in (0, None):
        return Later(message=str(reported) or f"HTTP {answer.status}", retry_after=wait)
    data = body.get("data")
    return data if isinstance(data, dict) else Later(message="Kling's answer holds no data", retry_after=wait)


def webhook(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
    """Standard Webhooks, sent on every change of a task's status; only an account that has made a secret gets a signed
    one, and others are not believed."""
    standard_webhooks.verify(headers, body, secret, now_s)
    read = reading.parsed(body)
    task = reading.task(read, "task_id", "id")
    if task is None:
        raise WebhookRefused("the body names no task")
    return task
