"""Toy: a seller that is nowhere, with everything that a seller may have.

    POST /v1/images  image bytes   -> 201 {"image": NAME, "expires_in": SECONDS}
    POST /v1/videos  the order     -> 202 {"id", "status_url"}; 409 where its `client_id` was seen before
    GET  /v1/videos?client_id=ID   -> 200 {"videos": [{"id", "status_url"}]}
    GET  status_url                -> 200 {"id", "state": "making" | "ended", "result_url"}
    GET  result_url                -> 200 {"id", "video": URL} or {"id", "error": {"code", "message"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from urllib.parse import quote

from klingflow.core.model import Film, Key, Shot, TaskId
from klingflow.core.source import Problem
from klingflow.providers import plain, reading
from klingflow.providers.base import (
    Accepted,
    Answer,
    Busy,
    Caps,
    Done,
    Ended,
    Failed,
    FailureClass,
    Images,
    Later,
    Missing,
    Pending,
    Request,
    Settings,
    Status,
    Submitted,
    Unclear,
    Uploaded,
)

name = "toy"

caps = Caps(
    title="Toy",
    seconds=(3, 10),
    resolutions=("720p",),
    models=("toy-1",),
    prompt_chars=2000,
    image_formats=("PNG", "JPEG"),
    image_bytes=10_000_000,
    image_side=2,
    image_ratio=4.0,
    replay_s=20 * 3600.0,
    concurrency=2,
    requests_per_minute=None,
    prices={"720p": (Decimal("0.05"), Decimal("0.06"))},
    prices_from="Toy's price list, made up for this page",
    settings={
        "style": {
            "title": "Style",
            "description": "How Toy draws.",
            "enum": ["plain", "soft"],
            "default": "plain",
        }
    },
    key_variable="TOY_API_KEY",
    base_variable="TOY_BASE_URL",
    base_url="https://api.toy.example",
)

authorization = plain.key_scheme
another_form = plain.another_form
poll_many, statuses = plain.poll_many, plain.statuses
webhook = plain.webhook


def model(shot: Shot) -> str:
    return "toy-1"


def check(film: Film, shot: Shot) -> Sequence[Problem]:
    return tuple(_check(film, shot))


def _check(film: Film, shot: Shot) -> Iterator[Problem]:
    def wrong(field: str, what: str, mend: str) -> Problem:
        return Problem(rule="toy", what=f"shot '{shot.id}': {what}", span=film.where(shot.id, field), mend=mend)

    least, most = caps.seconds
    if not least <= shot.duration <= most:
        yield wrong("duration", f"Toy makes {least} to {most} seconds", f"choose from {least} to {most}")
    if shot.resolution not in caps.resolutions:
        yield wrong("resolution", f"Toy makes 720p, not {shot.resolution}", "write 720p")
    if shot.model not in (None, *caps.models):
        yield wrong("model", f"Toy sells no model '{shot.model}'", "leave the field out")
    if len(shot.prompt) > caps.prompt_chars:
        yield wrong("prompt", f"Toy takes {caps.prompt_chars} characters", "shorten it")
    if not shot.prompt.strip() and shot.first_frame is None:
        yield wrong("prompt", "Toy needs a prompt or a first frame", "write a prompt")
    if shot.last_frame is not None and shot.first_frame is None:
        yield wrong("last_frame", "a last frame needs a first frame", "give it one")
    for field in ("negative_prompt", "multi_shot", "images", "elements", "aspect_ratio"):
        if getattr(shot, field):
            yield wrong(field, f"Toy has no {field}", "leave it out")


def images(settings: Settings, published: bool) -> Images:
    return "upload"


def upload(data: bytes, form: str) -> Request:
    return Request(method="POST", path="/v1/images", body=data, headers={"Content-Type": f"image/{form.lower()}"})


def uploaded(answer: Answer) -> Uploaded | Later:
    body = reading.parsed(answer.body) or {}
    match answer.status, body:
        case 201, {"image": str(image), "expires_in": int(seconds)}:
            return Uploaded(text=image, valid_s=seconds)
    return Later(message=f"Toy answered HTTP {answer.status}", unauthorised=answer.status in (401, 403))


def submit(shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
    order: dict[str, object] = {"client_id": _id(key, attempt), "prompt": shot.prompt, "seconds": shot.duration}
    order |= {role: inputs[role] for role in ("first_frame", "last_frame") if role in inputs}
    order |= {"sound": shot.sound, "style": settings.own.get("style", "plain")}
    return _json("/v1/videos", order)


def _json(path: str, body: object) -> Request:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Request(method="POST", path=path, body=text.encode(), headers={"Content-Type": "application/json"})


def _id(key: Key, attempt: int) -> str:
    return f"{key}-{attempt}"


def accepted(answer: Answer) -> Submitted:
    return reading.with_raw(_accepted(answer), answer)


def _accepted(answer: Answer) -> Submitted:
    body = reading.parsed(answer.body)
    task = _task(body)
    if 200 <= answer.status <= 299:
        return task or Unclear(message=f"Toy answered HTTP {answer.status} without an id")
    if answer.status == 409:  # an order of this client_id was taken: `find` tells which
        return Busy(retry_after=reading.retry_after(answer.headers))
    refused = reading.refusal(answer, answer.status, _error(body))
    return refused or Unclear(message=f"Toy answered HTTP {answer.status}")


def _task(body: object) -> Accepted | None:
    found = reading.task(body if isinstance(body, dict) else None, "id")
    url = body.get("status_url") if isinstance(body, dict) else None
    return None if found is None else Accepted(task=found, urls={"status": url} if isinstance(url, str) else {})


def _error(body: reading.Object | None) -> reading.ErrorText:
    error = reading.field(body, "error")
    return reading.ErrorText(reading.text(error.get("code")), reading.text(error.get("message")))


def find(key: Key, attempt: int) -> Request | None:
    return Request(method="GET", path=f"/v1/videos?client_id={quote(_id(key, attempt), safe='')}")


def found(answer: Answer) -> Accepted | Missing | Later:
    body = reading.parsed(answer.body)
    videos = body.get("videos") if answer.status == 200 and body is not None else None
    if not isinstance(videos, list):
        return Later(message=f"Toy answered HTTP {answer.status}", retry_after=reading.retry_after(answer.headers))
    task = _task(videos[0]) if videos else None
    if task is not None:
        return replace(task, raw=reading.raw(answer))
    return Later(message="Toy's list cannot be read") if videos else Missing()


def poll(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=urls.get("status") or f"/v1/videos/{reading.step(task)}")


def status(answer: Answer, task: TaskId) -> Status | Ended:
    body = _about(answer, task)
    if not isinstance(body, dict):
        return body
    match body.get("state"):
        case "ended":
            url = body.get("result_url")
            return Ended(urls={"result": url} if isinstance(url, str) else {})
        case str(word) if word.strip():
            return Pending(state=word.lower(), known=word == "making")
    return Later(message="Toy's answer names no state")


def result_of(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=urls.get("result") or f"/v1/videos/{reading.step(task)}/result")


def result(answer: Answer, task: TaskId) -> Status:
    body = _about(answer, task)
    if not isinstance(body, dict):
        return body
    url, error = reading.url(body.get("video")), _error(body)
    if url is not None:
        return Done(url=url)
    if not str(error):
        return Later(message="Toy's result names neither a video nor an error")
    kind = FailureClass.MODERATED if reading.moderated(error) else FailureClass.INVALID
    return Failed(kind=kind, code=error.code, message=error.message)


def _about(answer: Answer, task: TaskId) -> reading.Object | Missing | Later:
    """The object that is about the task, or why there is none."""
    body = reading.parsed(answer.body)
    if answer.status == 404 and not reading.is_page(answer.body):
        return Missing()
    if answer.status != 200 or body is None:
        refused, wait = answer.status in (401, 403), reading.retry_after(answer.headers)
        return Later(message=f"Toy answered HTTP {answer.status}", retry_after=wait, unauthorised=refused)
    return body if reading.task(body, "id") in (None, task) else Later(message="Toy answered about another task")


def probe() -> Request:
    return poll(plain.NOBODY, "/v1/videos", {})


def probed(answer: Answer) -> str:
    return plain.nobody_is_missing(status(answer, plain.NOBODY), answer)
