"""The animatic as a provider: its order, and what it reads in the answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from klingflow.core.model import FileStill, Key, MultiShot, Shot, ShotFrame, ShotId, TaskId
from klingflow.providers import animatic
from klingflow.providers.base import (
    Accepted,
    Answer,
    Done,
    Failed,
    Later,
    Missing,
    Pending,
    Refused,
    Settings,
    Unclear,
    WebhookRefused,
)

KEY = Key("0123456789abcdef" * 4)


def shot(**fields: object) -> Shot:
    given = {"id": ShotId("dawn"), "index": 0, "prompt": "Waves roll in.", **fields}
    return Shot(**given)  # type: ignore[arg-type]


def answer(status: int, **said: object) -> Answer:
    return Answer(status=status, body=json.dumps(said).encode())


def test_the_order_holds_everything_that_is_drawn() -> None:
    made = shot(
        first_frame=FileStill("a.png"),
        last_frame=ShotFrame(ShotId("night"), "first"),
        negative_prompt="rain",
        multi_shot=MultiShot("customize", (("a", 2), ("b", 3))),
        aspect_ratio="9:16",
        sound=True,
        take=2,
    )
    request = animatic.submit(made, {"first_frame": "aa", "last_frame": "bb"}, Settings(), KEY, 3)
    assert (request.method, request.path) == ("POST", "/animatic/clips")
    assert json.loads(request.body or b"") == {
        "task": "animatic-0123456789abcdef0123456789abcdef-3",
        "seed": KEY,
        "shot": "dawn",
        "take": 2,
        "prompt": "Waves roll in.",
        "negative_prompt": "rain",
        "duration": 5,
        "resolution": "1080p",
        "sound": True,
        "aspect_ratio": "9:16",
        "multi_shot": {"by": "customize", "shots": [{"prompt": "a", "duration": 2}, {"prompt": "b", "duration": 3}]},
        "frames": {"first_frame": "aa", "last_frame": "bb"},
    }


def test_the_same_shot_gives_the_same_bytes_and_another_attempt_another_task() -> None:
    first, again, retry = (animatic.submit(shot(), {}, Settings(), KEY, n).body for n in (1, 1, 2))
    assert first == again != retry


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (answer(200, task="animatic-1"), Accepted(task=TaskId("animatic-1"))),
        (answer(200), Unclear(message="the animatic answered 200")),
        (answer(500), Unclear(message="the animatic answered 500")),
    ],
)
def test_the_answer_to_an_order_is_read(given: Answer, meant: Accepted | Unclear) -> None:
    assert animatic.accepted(given) == replace(meant, raw=given.body.decode())


def test_a_refused_order_says_why() -> None:
    refused = animatic.accepted(answer(400, message="not an order"))
    assert isinstance(refused, Refused)
    assert refused.message == "not an order"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (answer(404), Missing()),
        (answer(200, state="rendering", progress=0.25), Pending(state="drawing", fraction=0.25)),
        (answer(200, state="Dreaming"), Pending(state="dreaming", known=False)),
        (answer(200, state="done", url="file:/x.mp4"), Done(url="file:/x.mp4")),
        (answer(200, state="done"), Pending(state="done", known=False)),
        (Answer(status=200, body=b"<html>"), Later(message="the animatic answered 200")),
    ],
)
def test_the_state_of_a_task_is_read(given: Answer, meant: object) -> None:
    assert animatic.status(given, TaskId("animatic-1")) == meant


def test_a_task_that_failed_says_why() -> None:
    failed = animatic.status(answer(200, state="failed", message="no such still"), TaskId("t"))
    assert isinstance(failed, Failed)
    assert failed.message == "no such still"


def test_nothing_is_beyond_it_and_it_has_neither_list_nor_callbacks() -> None:
    assert animatic.model(shot(model="kling-3.0-omni")) == "animatic"
    assert animatic.poll_many(1) is None
    with pytest.raises(WebhookRefused):
        animatic.webhook({}, b"", "", 0.0)
