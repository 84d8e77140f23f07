"""MuleRouter: one endpoint for each capability of Kling V3 Omni, with the task read under the path that made it.

Wire facts: MuleRouter docs (kling-v3-omni pages, async tasks, error codes, webhooks) and MuleRouter's own clients,
read 2026-11. Frames go as URLs or inside the request. Nothing like an idempotency key is documented, and there is no
list: after a lost answer only a person can find out whether an order was taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from klingflow.core.model import Film, Key, Shot, ShotVideo, TaskId
from klingflow.core.source import Problem
from klingflow.providers import omni, plain, reading, standard_webhooks
from klingflow.providers.base import (
    Accepted,
    Answer,
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
from klingflow.providers.plain import NOBODY, nobody_is_missing
from klingflow.providers.reading import ErrorText, Object
from klingflow.storyboard import mentions

name = "mulerouter"

_MODE = {"720p": "std", "1080p": "pro"}
"""MuleRouter docs, text-to-video: std is 720p, pro is 1080p; there is no 4K."""

_REFERENCES = ("reference-to-video", "reference-image-to-video")
"""Two names of one endpoint: the docs' page, and MuleRouter's client (2026-04-23)."""
_VIDEOS = ("reference-video-to-video", "video-to-video")
"""The endpoint for reference videos by its newer page, and by the older one; the vendor's CLI (2026-05) says that the
newer one is live."""

caps = Caps(
    title="MuleRouter",
    seconds=(3, 15),  # MuleRouter docs, image-to-video
    resolutions=tuple(_MODE),
    models=(omni.MODEL,),
    prompt_chars=2500,  # MuleRouter docs, text-to-video
    # MuleRouter docs: format, bytes, sides and ratio of an element's image and of the frames of the sibling kling-v3.
    image_formats=("JPEG", "PNG"),
    image_bytes=10 * 1024 * 1024,
    image_side=300,
    image_ratio=2.5,
    replay_s=None,
    videos=1,  # MuleRouter docs, reference-video-to-video
    concurrency=4,  # not documented: klingflow's own choice
    requests_per_minute=None,  # not documented
    prices=omni.LIST_PRICE,  # MuleRouter's own are not in its documents
    prices_from=omni.PRICES_FROM,
    settings={
        "base64": {
            "title": "Base64 form",
            "description": "How frames are written inside the request.",
            "enum": ["data-uri", "raw"],
            "default": "data-uri",
        },
        "multi_shot": {
            "title": "Multi-shot form",
            "description": "How multi_shot is written: MuleRouter's pages say boolean, its clients send text. What is "
            "refused is sent in the other form.",
            "enum": ["boolean", "text"],
            "default": "boolean",
        },
        "reference": {
            "title": "Reference path",
            "description": "The path for shots with reference images and no first frame: that of MuleRouter's pages, "
            "or of its client. Where one is not there, the other is asked.",
            "enum": list(_REFERENCES),
            "default": _REFERENCES[0],
        },
        "video": {
            "title": "Reference video path",
            "description": "The path for shots with a reference video and no frame: that of MuleRouter's newer page, "
            "or of its older one, which is also asked where a shot has frames, and where the newer is not there.",
            "enum": list(_VIDEOS),
            "default": _VIDEOS[0],
        },
    },
    key_variable="MULEROUTER_API_KEY",
    webhook_variable="MULEROUTER_WEBHOOK_SECRET",
    base_variable="MULEROUTER_BASE_URL",
    base_url="https://api.mulerouter.ai",
)

VIDEO_SECONDS = (3, 10)
"""Of a reference video; MuleRouter's client 0.4.3, reference-video-to-video, read 2026-11. It also says mp4 or mov,
sides of 720 to 2160 pixels and at most 200 MB."""
IMAGES_WITH_VIDEO = 4
"""Images, elements and frames beside a reference video; MuleRouter docs, reference-video-to-video."""
RATIO_WITHOUT_FRAME = "16:9"
"""A shot without a first frame must name its ratio; this is what MuleRouter's client sends when its user names none."""

_ROOT = "/vendors/klingai/v1/kling-v3-omni"

model = omni.model
authorization = plain.bearer
poll_many, statuses = plain.poll_many, plain.statuses
result_of, result = plain.result_of, plain.result
find, found = plain.find, plain.found
upload, uploaded = plain.upload, plain.uploaded


def check(film: Film, shot: Shot) -> Sequence[Problem]:
    return tuple(_check(film, shot))


def _check(film: Film, shot: Shot) -> Iterator[Problem]:
    yield from omni.faults(film, shot, caps, "MuleRouter")
    if len(shot.negative_prompt) > caps.prompt_chars:
        has, most = len(shot.negative_prompt), caps.prompt_chars
        yield omni.too_long(film, shot, "negative_prompt", "the negative prompt", has, most, "MuleRouter")
    yield from _check_multi_shot(film, shot)
    yield from _check_images(film, shot)
    if shot.videos:
        yield from _check_video(film, shot)


def _check_video(film: Film, shot: Shot) -> Iterator[Problem]:
    def wrong(field: str, what: str, mend: str, *, warning: bool = False) -> Problem:
        return omni.problem(film, shot, field, f"with a reference video {what}", mend, rule="videos", warning=warning)

    if not shot.prompt.strip():
        yield wrong("videos", "MuleRouter needs a prompt", "write what is to be made of it")
    if shot.sound:
        yield wrong("sound", "MuleRouter makes no sound", "drop sound")
    if shot.multi_shot is not None:
        yield wrong("multi_shot", "MuleRouter takes no multi_shot", "drop one of the two")
    total = len(shot.elements) + len(shot.images) + (shot.first_frame is not None) + (shot.last_frame is not None)
    if total > IMAGES_WITH_VIDEO:
        field = "images" if shot.images else "elements"
        has = f"MuleRouter takes {IMAGES_WITH_VIDEO} frames, images and elements together, not {total}"
        yield wrong(field, has, f"drop {total - IMAGES_WITH_VIDEO}")
    video = shot.videos[0]
    if not isinstance(video, ShotVideo):
        return
    field = "videos.0" if shot.motion_s is None else "continues.motion"
    seconds = video.last_s or film.shot(video.shot).duration
    least, most = VIDEO_SECONDS
    if not least <= seconds <= most:
        what = f"MuleRouter wants {least} to {most} seconds of it, not {seconds}"
        yield wrong(field, what, f"write {least}s to {most}s")
    elif shot.follows_length and seconds != shot.duration:
        what = f"alone the clip gets as long as that, {seconds} s, not {shot.duration}"
        yield wrong(field, what, f"write duration: {seconds}", warning=True)


def _check_multi_shot(film: Film, shot: Shot) -> Iterator[Problem]:
    yield from omni.multi_shot_faults(film, shot, "MuleRouter")
    if shot.multi_shot is not None and shot.first_frame is not None:
        yield omni.problem(
            film,
            shot,
            "multi_shot",
            "MuleRouter takes multi_shot together with a first frame; Kling itself does so since 2026-05 alone, and "
            "MuleRouter does not say which it passes on: the frames may not be met",
            "drop multi_shot where the first or last frame must be exact",
            rule="multi-shot",
            warning=True,
        )


def _check_images(film: Film, shot: Shot) -> Iterator[Problem]:
    yield from omni.image_faults(film, shot, "MuleRouter")
    if shot.first_frame is not None and shot.last_frame is not None and len(shot.images) > 1:
        yield omni.problem(
            film,
            shot,
            "images",
            "with a first and a last frame MuleRouter takes one reference image",
            "keep one image, or drop last_frame",
            rule="too-many-images",
        )


def images(settings: Settings, published: bool) -> Images:
    return "base64" if settings.own.get("base64") == "raw" else "data-uri"


def submit(shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
    """The order, at the endpoint of what the shot's images ask for, its fields in the order of the docs' page. `key`
    and `attempt` change nothing: there is no idempotency key."""
    if shot.videos:
        return _with_video(shot, inputs, settings)
    first = inputs.get("first_frame")
    body: Object = {}
    if first is not None:
        body["first_frame"] = first
        if "last_frame" in inputs:
            body["last_frame"] = inputs["last_frame"]
    if shot.images:
        body["images"] = [inputs[f"images.{i}"] for i in range(len(shot.images))]
    if shot.prompt:
        body["prompt"] = shot.prompt
    multi = shot.multi_shot
    if multi is not None and multi.by == "customize":
        body["multi_prompt"] = [{"prompt": prompt, "duration": seconds} for prompt, seconds in multi.shots]
    if shot.negative_prompt:
        body["negative_prompt"] = shot.negative_prompt
    body["sound"] = "on" if shot.sound else "off"
    body["mode"] = _MODE[shot.resolution]
    ratio = shot.aspect_ratio or (RATIO_WITHOUT_FRAME if first is None else None)
    if ratio is not None:
        body["aspect_ratio"] = ratio
    body["duration"] = shot.duration
    if multi is not None:
        body["multi_shot"] = True if settings.own.get("multi_shot", "boolean") == "boolean" else "true"
        body["shot_type"] = multi.by
    if shot.elements:
        body["elements"] = [_element(inputs, i, len(e.reference_images)) for i, e in enumerate(shot.elements)]
    way = "image-to-video" if first is not None else _reference(settings) if _referring(shot) else "text-to-video"
    return Request(
        method="POST",
        path=f"{_ROOT}/{way}/generation",
        body=omni.compact(body),
        headers={"Content-Type": "application/json"},
    )


def _reference(settings: Settings) -> str:
    return str(settings.own.get("reference", _REFERENCES[0]))


def _with(settings: Settings, **own: str) -> Settings:
    """The settings with some changed. A default is left out: settings that mean the same are equal."""
    changed = {**settings.own, **own}
    return replace(settings, own={name: v for name, v in changed.items() if v != caps.settings[name]["default"]})


def _with_video(shot: Shot, inputs: Mapping[str, str], settings: Settings) -> Request:
    """The order at the endpoint for reference videos. Its newer page takes no frames, no images and no duration: a shot
    that has some goes to the older one, which takes frames (and, by MuleRouter's client, a duration)."""
    older = bool(shot.first_frame or shot.images) or settings.own.get("video") == _VIDEOS[1]
    body: Object = {"prompt": mentions.replaced(shot.prompt, _spelled)}
    if older:
        body["video_list"] = [
            {"video_url": inputs["videos.0"], "refer_type": "feature", "keep_original_sound": "no"}
        ]
        body |= {name: inputs[name] for name in ("first_frame", "last_frame") if name in inputs}
        if shot.images:
            body["images"] = [inputs[f"images.{i}"] for i in range(len(shot.images))]
    else:
        body["video"] = inputs["videos.0"]
    if shot.negative_prompt:
        body["negative_prompt"] = shot.negative_prompt
    body["mode"] = _MODE[shot.resolution]
    if shot.aspect_ratio or shot.first_frame is None:
        body["aspect_ratio"] = shot.aspect_ratio or RATIO_WITHOUT_FRAME
    if older and not shot.follows_length:
        body["duration"] = shot.duration
    if shot.elements:
        body["elements"] = [_element(inputs, i, len(e.reference_images)) for i, e in enumerate(shot.elements)]
    return Request(
        method="POST",
        path=f"{_ROOT}/{_VIDEOS[older]}/generation",
        body=omni.compact(body),
        headers={"Content-Type": "application/json"},
    )


def _spelled(kind: str, number: int) -> str:
    return f"@Video{number}" if kind == "video" else mentions.spelled(kind, number)


def _referring(shot: Shot) -> bool:
    return bool(shot.images or shot.elements)


def _element(inputs: Mapping[str, str], index: int, references: int) -> Object:
    role = f"elements.{index}"
    element: Object = {"type": "image", "frontal_image": inputs[f"{role}.frontal_image"]}
    if references:
        element["reference_images"] = [inputs[f"{role}.reference_images.{i}"] for i in range(references)]
    return element


_ABOUT_IMAGES = r"base ?64|data[ -]?ur[il]|image|frame"
_NOT_FETCHED = r"fetch|download|unreachable|not accessible|access denied|could not be loaded|failed to load"
_INLINE_HINT = (
    "; if it is the form of a frame inside the request that is refused, "
    "set providers.mulerouter.base64 to raw (or back to data-uri)"
)
_URL_HINT = (
    "; an image that the storyboard gives as a URL must be readable for everyone: open it in a private window, or keep "
    "the file in the project, from where it goes inside the request"
)


def _hint(message: str) -> str:
    """What may mend an order that was refused over an image; empty for every other."""
    if not re.search(_ABOUT_IMAGES, message, re.IGNORECASE):
        return ""
    return _URL_HINT if re.search(_NOT_FETCHED, message, re.IGNORECASE) else _INLINE_HINT


def accepted(answer: Answer) -> Submitted:
    """A task's id in any 2xx is an order that was taken, and one in a 409 is "a task that already exists" (error codes
    page). In a 400 the same envelope names a task that was never run.

    Every 5xx, also 503, and 409 without an id and 423 leave it open whether the order was taken.
    """
    return reading.with_raw(_accepted(answer), answer)


def _task(body: Object | None) -> TaskId | None:
    return reading.task(reading.field(body, "task_info"), "id", "taskId", "task_id") or reading.task(
        body, "taskId", "task_id"
    )


def _accepted(answer: Answer) -> Submitted:
    body = reading.parsed(answer.body)
    reported = _error(body)
    task = _task(body)
    word = reading.text(reading.field(body, "task_info").get("status"), 80).lower()
    if task is not None and answer.status == 409 and word not in _FAILED:
        return Accepted(task=task, replayed=True)
    if 200 <= answer.status <= 299:
        if task is not None:
            return Accepted(task=task)
        kind = _NUMBERS.get(reported.code) if body is not None and "task_info" not in body else None
        if kind in (FailureClass.INVALID, FailureClass.MODERATED):
            return Refused(kind=kind, code=reported.code, message=reported.message)
        return Unclear(message=f"MuleRouter answered HTTP {answer.status} without a task id" + _tail(reported))
    refused = reading.refusal(answer, answer.status, reported)
    if refused is None:
        return Unclear(message=f"MuleRouter answered HTTP {answer.status}" + _tail(reported))
    if refused.kind is FailureClass.INVALID and _NUMBERS.get(reported.code) is FailureClass.MODERATED:
        return Refused(kind=FailureClass.MODERATED, code=refused.code, message=refused.message)
    if refused.kind is FailureClass.INVALID:
        return replace(refused, message=refused.message + _hint(reported.message))
    return refused


def _tail(reported: ErrorText) -> str:
    return f": {reported}" if str(reported) else ""


def _error(body: Object | None) -> ErrorText:
    """All error shapes: `task_info.error` (endpoint pages), top-level `error` (async page), and for a whole request
    `detail`, `error` or `message` at top level; the code is in `error_code`, else in `code`."""
    if body is None:
        return ErrorText()
    inner = reading.field(reading.field(body, "task_info"), "error") or reading.field(body, "error")
    code = _first(inner.get("error_code"), inner.get("code"), body.get("error_code"), body.get("code"))
    title = _first(inner.get("title"))
    detail = _first(
        inner.get("detail"), title, inner.get("message"), body.get("detail"), body.get("error"), body.get("message")
    )
    return ErrorText(code, f"{title}: {detail}" if title and title != detail else detail)


def _first(*values: object) -> str:
    """The first text among them; a list of complaints, as some frameworks write `detail`, is one text."""
    for value in values:
        parts = [item.get("msg") for item in value if isinstance(item, dict)] if isinstance(value, list) else [value]
        known = reading.text("; ".join(filter(None, map(reading.text, parts[:5]))))
        if known:
            return known
    return ""


def another_form(said: Refused, request: Request, settings: Settings) -> Settings | None:
    """Two guesses have a second form: the path for reference images (one of the two answers 404), and `multi_shot` as
    boolean, as the docs have it, or as text, as the clients of 2026-04 send it (a 400 complains about the field)."""
    way = request.path.removeprefix(f"{_ROOT}/").removesuffix("/generation")
    if way == _VIDEOS[0] and said.code == "HTTP 404":
        return _with(settings, video=_VIDEOS[1])
    if way in _REFERENCES and said.code == "HTTP 404":
        docs, client = _REFERENCES
        return _with(settings, reference=client if way == docs else docs)
    about_type = re.search(r"multi_shot\W.*(bool|str|type|text|true|enum)", said.message, re.IGNORECASE | re.DOTALL)
    if said.kind is FailureClass.INVALID and about_type and b'"multi_shot":' in (request.body or b""):
        was_text = b'"multi_shot":"' in (request.body or b"")
        return _with(settings, multi_shot="boolean" if was_text else "text")
    return None


def poll(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=f"{path}/{reading.step(task)}")


_PENDING = frozenset({"pending", "queued", "processing", "running", "retrying"})
_DONE = frozenset({"completed", "succeeded"})
_FAILED = frozenset({"failed"})
"""Both vocabularies of the docs: endpoint pages and the page on async tasks."""


def status(answer: Answer, task: TaskId) -> Status:
    """What became of a task."""
    body = reading.parsed(answer.body)
    code = answer.status
    info = reading.field(body, "task_info")
    reported = _error(body)
    about = _task(body)
    word = reading.text(info.get("status"), 80).lower()
    if code != 200 and not (code == 400 and about == task and word in _FAILED):
        wait = reading.retry_after(answer.headers)
        if code == 404 and not reading.is_page(answer.body):
            return Missing()
        return Later(message=str(reported) or f"HTTP {code}", retry_after=wait, unauthorised=code in (401, 403))
    if body is None:
        return Later(message="MuleRouter's answer is not JSON")
    if not info or not word:
        return Later(message="MuleRouter's answer names no task status" + _tail(reported))
    if about not in (None, task):
        return Later(message=f"MuleRouter answered about another task ({reading.text(about, 80)})")
    if word in _DONE:
        video = _video(body)
        if video is None:
            message = "MuleRouter calls the task done, and its answer names no video"
            return Unreadable(message=message, raw=reading.raw(answer))
        return Done(url=str(video["url"]))
    if word in _FAILED or word in reading.STOPPED:
        why = "MuleRouter gave no reason" if word in _FAILED else f"MuleRouter calls the task {word}"
        kind = _kind(word, reported)
        hint = _hint(reported.message) if kind is FailureClass.INVALID else ""
        return Failed(kind=kind, code=reported.code, message=(reported.message or why) + hint)
    return Pending(state=word, known=word in _PENDING)


def _video(body: Object) -> Object | None:
    """The first address in `videos`. `output.url` is on one page that all of MuleRouter's models share."""
    listed = body.get("videos")
    videos = [item if isinstance(item, dict) else {"url": item} for item in listed] if isinstance(listed, list) else []
    return reading.clip([{"type": "video", **item} for item in videos]) or reading.clip(body.get("output"))


_NUMBERS = {
    "2001": FailureClass.INVALID,
    "3001": FailureClass.MODERATED,  # the supplier would not: seen with a prohibited prompt
    "3005": FailureClass.MODERATED,  # seen with a prompt violation
    "4002": FailureClass.PROVIDER_FAULT,
    "4008": FailureClass.PROVIDER_FAULT,
}
"""MuleRouter docs, async tasks, and the tests of its clients, read 2026-11; the whole table is not public. Of 4002 and
4008 the docs say to make a new task. Of 3002 to 3004 (the supplier could not complete it) they say nothing: a new order
is not documented to help, so none is made."""


def _kind(word: str, reported: ErrorText) -> FailureClass:
    """Only a documented code allows a new order; the message can only take it back (moderation, a missing ratio)."""
    known = _NUMBERS.get(reported.code)
    if known is not FailureClass.INVALID and reading.moderated(reported):
        return FailureClass.MODERATED
    ratio = reported.code == "4002" and re.search(r"aspect[ _]ratio", reported.message, re.IGNORECASE)
    if known is None or ratio or word not in _FAILED:
        return FailureClass.INVALID
    return known


def probe() -> Request:
    return poll(NOBODY, f"{_ROOT}/image-to-video/generation", {})


def probed(answer: Answer) -> str:
    return nobody_is_missing(status(answer, NOBODY), answer)


def webhook(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
    """The account-wide events task.created, task.succeeded, task.failed; balance.low is about no task.

    The docs promise HMAC-SHA256 and a secret that begins with whsec_, but the stored pages name no header. This is the
    Standard Webhooks scheme, to which such a secret belongs and which Kling itself uses; it is not proven against
    MuleRouter. An event that does not pass costs only the poll interval.
    """
    standard_webhooks.verify(headers, body, secret, now_s)
    read = reading.parsed(body)
    if read is None:
        raise WebhookRefused("the body is not a JSON object")
    payload = reading.field(reading.field(read, "data"), "payload")
    return _task(payload)
