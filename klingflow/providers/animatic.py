"""The animatic: rough moving pictures drawn on this machine, free, the same for the same storyboard.

It meets the same Protocol as the paid providers and goes through the same ledger, so that whoever has no account
can make a whole film. `animatic.service` takes the place of an API and draws the clips. The wire format is our own:

    POST /animatic/clips         the order, canonical JSON    -> {"task": ID}
    GET  /animatic/clips/ID      {"state": "rendering" | "done" | "failed", "url", "message"}, 404 for an unknown task

A pure provider: the same bytes again give the same clip and cost nothing, so a lost task is simply ordered again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from klingflow.core.digest import canonical
from klingflow.core.model import ANIMATIC, Film, Key, Shot, TaskId
from klingflow.core.source import Problem
from klingflow.providers import plain, reading
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
)
from klingflow.providers.plain import NOBODY, nobody_is_missing

CLIPS = "/animatic/clips"

name = ANIMATIC
caps = Caps(
    title="the animatic",
    resolutions=("720p", "1080p", "4K"),
    models=(name,),
    prompt_chars=20_000,
    image_formats=("PNG", "JPEG", "WEBP"),
    image_bytes=100_000_000,
    image_side=2,
    image_ratio=50.0,
    replay_s=math.inf,
    videos=4,  # as many as a storyboard can name: the drawing is the same
    concurrency=4,
    requests_per_minute=None,
    paid=False,
    local=True,
    expect_s=0.4,  # it draws at about a third of real time
)

authorization = plain.nothing
another_form = plain.another_form
poll_many, statuses = plain.poll_many, plain.statuses
result_of, result = plain.result_of, plain.result
find, found = plain.find, plain.found
upload, uploaded = plain.upload, plain.uploaded
webhook = plain.webhook


def model(shot: Shot) -> str:
    """Always its own model: an animatic never answers a key of a real one, nor the other way round."""
    return name


def check(film: Film, shot: Shot) -> Sequence[Problem]:
    """Nothing is beyond it: what it cannot draw it writes into the picture."""
    return ()


def images(settings: Settings, published: bool) -> Images:
    return "blob"


def submit(shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
    """The order for one clip. `inputs` has the digest of each frame's blob by role."""
    order: dict[str, object] = {
        "task": f"animatic-{key[:32]}-{attempt}",
        "seed": key,
        "shot": shot.id,
        "take": shot.take,
        "prompt": shot.prompt,
        "negative_prompt": shot.negative_prompt,
        "duration": shot.duration,
        "resolution": shot.resolution,
        "sound": shot.sound,
        "frames": dict(inputs),
    }
    if shot.aspect_ratio:
        order["aspect_ratio"] = shot.aspect_ratio
    if shot.multi_shot:
        order["multi_shot"] = {
            "by": shot.multi_shot.by,
            "shots": [{"prompt": prompt, "duration": seconds} for prompt, seconds in shot.multi_shot.shots],
        }
    return Request(method="POST", path=CLIPS, body=canonical(order), headers={"content-type": "application/json"})


def accepted(answer: Answer) -> Submitted:
    return reading.with_raw(_accepted(answer), answer)


def _accepted(answer: Answer) -> Submitted:
    body = reading.parsed(answer.body) or {}
    task = reading.task(body, "task")
    if answer.status == 200 and task is not None:
        return Accepted(task=task)
    if 400 <= answer.status < 500:
        return Refused(kind=FailureClass.INVALID, code=str(answer.status), message=_message(body))
    return Unclear(message=f"the animatic answered {answer.status}")


def poll(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    return Request(method="GET", path=f"{CLIPS}/{reading.step(task)}")


def status(answer: Answer, task: TaskId) -> Status:
    body = reading.parsed(answer.body) or {}
    match answer.status, body:
        case 404, _:
            return Missing()
        case 200, {"state": "done", "url": str(url)}:
            return Done(url=url)
        case 200, {"state": "failed"}:
            return Failed(kind=FailureClass.INVALID, code="drawing", message=_message(body))
        case 200, {"state": "rendering"}:
            done = body.get("progress")
            return Pending(state="drawing", fraction=float(done) if isinstance(done, int | float) else None)
        case 200, {"state": str(word)}:
            return Pending(state=word.lower(), known=False)
        case _:
            return Later(message=f"the animatic answered {answer.status}")


def probe() -> Request:
    return poll(NOBODY, CLIPS, {})


def probed(answer: Answer) -> str:
    return nobody_is_missing(status(answer, NOBODY), answer)


def _message(body: Mapping[str, object]) -> str:
    return reading.text(body.get("message")) or "the clip could not be drawn"
