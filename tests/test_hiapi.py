"""HiAPI alone: what its table of answers (tests/answers) does not show."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from klingflow.core.model import TaskId
from klingflow.providers import hiapi
from klingflow.providers.base import Accepted, Answer, Later, Pending, Settings, Status, WebhookRefused
from tests.provider_helpers import KEY, STILL, faults, film, shot

TASK = TaskId("tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"negative_prompt": "rain"}, "negative_prompt"),
        ({"multi_shot": {"by": "intelligence"}}, "multi_shot"),
        ({"images": 1}, "images"),
        ({"elements": [1]}, "elements"),
        ({"aspect_ratio": "16:9", "first_frame": STILL}, "aspect_ratio"),
    ],
    ids=str,
)
def test_what_hiapi_lacks_is_refused_at_its_place(fields: dict[str, Any], place: str) -> None:
    assert faults(hiapi, shot(prompt="x", **fields)) == [("error", f"dawn.{place}", "not-offered")]


@pytest.mark.parametrize("ratio", ["16:9", "9:16", "1:1"])
def test_text_to_video_may_name_its_aspect_ratio(ratio: str) -> None:
    square = shot(prompt="x", aspect_ratio=ratio)
    assert faults(hiapi, square) == []
    assert json.loads(hiapi.submit(square, {}, Settings(), KEY, 1).body or b"")["input"]["aspect_ratio"] == ratio


def test_nothing_is_said_of_storage_and_route_unless_the_project_says_it() -> None:
    plain = json.loads(hiapi.submit(shot(prompt="x"), {}, Settings(), KEY, 1).body or b"")
    assert plain.keys() == {"model", "input"}
    stated = Settings(own={"storage": "temp", "route": "ext"})
    told = json.loads(hiapi.submit(shot(prompt="x"), {}, stated, KEY, 1).body or b"")
    assert told == plain | {"storage": "temp", "route": "ext"}


@pytest.mark.parametrize("body", [{"taskId": TASK}, {"taskId": TASK, "data": None}, {"code": 200, "taskId": TASK}])
def test_a_task_id_at_the_top_is_read(body: dict[str, Any]) -> None:
    taken = hiapi.accepted(Answer(status=200, body=json.dumps(body).encode()))
    assert isinstance(taken, Accepted)
    assert (taken.task, taken.replayed) == (TASK, False)
    again = hiapi.accepted(Answer(status=409, body=json.dumps(body).encode()))
    assert isinstance(again, Accepted)
    assert (again.task, again.replayed) == (TASK, True)
    told = hiapi.status(Answer(status=200, body=json.dumps(body | {"status": "handling"}).encode()), TASK)
    assert told == Pending(state="handling")


def test_a_long_prompt_is_a_warning_up_to_the_hard_limit() -> None:
    assert faults(hiapi, shot(prompt="x" * 2500)) == []
    assert faults(hiapi, shot(prompt="x" * 2501)) == [("warning", "dawn.prompt", "prompt-long")]
    assert faults(hiapi, shot(prompt="風" * 3072)) == [("warning", "dawn.prompt", "prompt-long")]
    one = shot(prompt="x" * 3080)
    (problem,) = hiapi.check(film(one), one)
    assert problem.what == "shot 'dawn': the prompt is 3080 characters as rendered; HiAPI takes 3072"
    assert problem.mend == "shorten it by 8"


def test_each_attempt_has_its_own_key_of_lawful_length() -> None:
    first, second = (hiapi.submit(shot(prompt="x"), {}, Settings(), KEY, attempt) for attempt in (1, 2))
    assert first.headers["Idempotency-Key"] == f"kf1:{KEY}:1"
    assert second.headers["Idempotency-Key"] == f"kf1:{KEY}:2"
    assert len(f"kf1:{KEY}:{10**9}") <= 255
    assert first.body == second.body


def listed(tasks: object) -> Answer:
    body = {"code": 200, "message": "success", "data": {"page": 1, "size": 100, "total": 1, "tasks": tasks}}
    return Answer(status=200, body=json.dumps(body).encode())


def test_a_list_says_which_tasks_have_ended() -> None:
    asked = hiapi.poll_many(2)
    assert asked is not None
    assert (asked.method, asked.path) == ("GET", "/v1/tasks?page=2&size=100")
    words = ("queued", "archiving", "success", "fail", "warping")
    told = hiapi.statuses(listed([{"taskId": f"t-{w}", "status": w, "created": 1, "completed": 0} for w in words]))
    expected: dict[str, Status] = {
        "t-queued": Pending(state="queued"),
        "t-archiving": Pending(state="archiving"),
        "t-success": Pending(state="done"),
        "t-fail": Pending(state="done"),
        "t-warping": Pending(state="warping", known=False),
    }
    assert told == expected


def test_junk_in_a_list_costs_only_itself() -> None:
    items = [None, 7, {}, {"taskId": [], "status": "queued"}, {"taskId": "t"}, {"taskId": 3, "status": "queued"}]
    assert hiapi.statuses(listed(items)) == {"3": Pending(state="queued")}
    assert hiapi.statuses(listed([])) == {}
    assert isinstance(hiapi.statuses(listed("none")), Later)
    assert hiapi.statuses(Answer(status=401, body=b'{"message":"no"}')) == Later(message="no", unauthorised=True)
    busy = Answer(status=429, headers={"retry-after": "9"})
    assert hiapi.statuses(busy) == Later(message="HTTP 429", retry_after=9.0)


SECRET = "klingflow-test-secret-0001"
STAMP = "1777282099"
BODY = (
    b'{"taskId":"tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR","model":"kling-3.0-omni/image-to-video","status":"fail",'
    b'"created":1777282033,"completed":1777282099,"error":{"code":"TASK_FAILED","message":"x"}}'
)
SIGNATURE = "1f46aae581d13026f2212a8f2550f32b49156b74716cc54728fbaa62b713bc07"


def signed(body: bytes, stamp: str = STAMP, secret: str = SECRET) -> dict[str, str]:
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"x-hiapi-timestamp": stamp, "x-hiapi-signature": mac}


def test_a_signed_callback_names_its_task() -> None:
    headers = {"X-HiAPI-Timestamp": STAMP, "X-HiAPI-Signature": SIGNATURE}
    assert hiapi.webhook(headers, BODY, SECRET, 1777282099.0) == TASK


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_callback_is_good_for_five_minutes_either_way(off: int) -> None:
    assert hiapi.webhook(signed(BODY), BODY, SECRET, int(STAMP) + off) == TASK


@pytest.mark.parametrize(
    ("headers", "body", "secret", "off"),
    [
        (signed(BODY), BODY, SECRET, 301),
        (signed(BODY), BODY, SECRET, -301),
        (signed(BODY), BODY + b" ", SECRET, 0),
        (signed(BODY), BODY, "another-secret-of-16", 0),
        (signed(BODY, secret=""), BODY, "", 0),
        (signed(BODY) | {"x-hiapi-timestamp": "1777282100"}, BODY, SECRET, 0),
        (signed(BODY, "1e9"), BODY, SECRET, 0),
        (signed(BODY, "-1777282099"), BODY, SECRET, 0),
        (signed(BODY, " 1777282099"), BODY, SECRET, 0),
        (signed(BODY, "1777282099\n"), BODY, SECRET, 0),
        (signed(BODY, "0001777282099"), BODY, SECRET, 0),
        (signed(BODY, "١٧٧٧"), BODY, SECRET, 0),
        (signed(BODY) | {"x-hiapi-signature": SIGNATURE.upper()}, BODY, SECRET, 0),
        (signed(BODY) | {"x-hiapi-signature": f"{SIGNATURE}, {SIGNATURE}"}, BODY, SECRET, 0),
        (signed(BODY) | {"x-hiapi-signature": SIGNATURE + "\n"}, BODY, SECRET, 0),
        ({"x-hiapi-timestamp": STAMP}, BODY, SECRET, 0),
        ({"x-hiapi-signature": SIGNATURE}, BODY, SECRET, 0),
        (signed(b"[]"), b"[]", SECRET, 0),
        (signed(b"\xff"), b"\xff", SECRET, 0),
        (signed(b"[" * 5000), b"[" * 5000, SECRET, 0),
        (signed(b'{"taskId":{}}'), b'{"taskId":{}}', SECRET, 0),
    ],
)
def test_a_forged_or_stale_callback_is_refused(headers: dict[str, str], body: bytes, secret: str, off: int) -> None:
    with pytest.raises(WebhookRefused):
        hiapi.webhook(headers, body, secret, int(STAMP) + off)
