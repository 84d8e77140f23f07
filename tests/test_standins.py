"""The stand-ins are judged too: they refuse what the pages do not document, and their clips carry their numbers."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import av
import pytest

from tests import standins
from tests.standins import Outcome, Thief, movie
from tests.standins.hiapi import IMAGE, TEXT, HiAPI
from tests.standins.mulerouter import ROOT, MuleRouter

I2V = f"{ROOT}/image-to-video/generation"
STILL = movie.still(7)
INLINE = "data:image/png;base64," + base64.b64encode(STILL).decode()


@pytest.fixture
def hiapi(tmp_path: Path) -> Iterator[HiAPI]:
    (tmp_path / "a.png").write_bytes(STILL)
    (tmp_path / "small.png").write_bytes(movie.still(1, size=(320, 200)))
    (tmp_path / "b.txt").write_bytes(b"no image")
    with HiAPI(frames=tmp_path) as api:
        yield api
        assert api.trouble == []


@pytest.fixture
def mule() -> Iterator[MuleRouter]:
    with MuleRouter() as api:
        yield api
        assert api.trouble == []


def ask(
    api: standins.StandIn, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(api.base_url + path, data, sent)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read()), response.headers
    except urllib.error.HTTPError as exc:
        with exc:
            text = exc.read()
            return exc.code, json.loads(text) if text[:1] == b"{" else text, exc.headers


def order(api: HiAPI, **given: Any) -> dict[str, Any]:
    return {"model": IMAGE, "input": {"image_urls": [f"{api.frames_url}/a.png"], "duration": 3, **given}}


def download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        return bytes(response.read())


@pytest.mark.parametrize(("aspect", "sound"), [("16:9", False), ("9:16", True), ("1:1", False)])
def test_every_picture_of_a_clip_carries_its_number(aspect: str, sound: bool) -> None:
    with av.open(io.BytesIO(movie.clip(4711, 3, aspect=aspect, sound=sound, extra=1))) as clip:
        frames = list(clip.decode(video=0))
        assert [movie.read_number(frame.to_image()) for frame in frames] == [(4711, i) for i in range(73)]
        assert bool(clip.streams.audio) is sound
        assert (frames[0].width, frames[0].height) == movie.SIZES[aspect]


def test_a_number_survives_scaling_and_jpeg_and_is_not_seen_where_none_is() -> None:
    image = movie.Image.open(io.BytesIO(STILL)).resize((1920, 1080))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=60)
    assert movie.read_number(out.getvalue()) == (movie.STILL + 7, 0)
    assert movie.read_number(movie.Image.new("RGB", (640, 360))) is None
    assert movie.read_number(b"no image") is None


def test_hiapi_makes_what_was_ordered_and_lists_it(hiapi: HiAPI) -> None:
    status, answer, _ = ask(hiapi, "/v1/tasks", order(hiapi, prompt="waves", sound=True))
    task = answer["data"]["taskId"]
    assert (status, len(task), task[:9]) == (200, 35, "tk-hiapi-")
    hiapi.finish_s = 0
    _, told, _ = ask(hiapi, f"/v1/tasks/{task}")
    video = next(one for one in told["data"]["output"] if one["type"] == "video")
    assert movie.last_number(download(video["url"])) == (1, 72)
    assert hiapi.purchases[0].numbers == {"image_urls.0": (movie.STILL + 7, 0)}
    _, listed, _ = ask(hiapi, "/v1/tasks?page=0&size=500")
    assert (listed["data"]["page"], listed["data"]["size"], listed["data"]["total"]) == (1, 100, 1)
    assert "output" not in listed["data"]["tasks"][0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"duration": 2}, "duration"),
        ({"duration": "5"}, "duration"),
        ({"duration": True}, "duration"),
        ({"resolution": "4k"}, "resolution"),
        ({"sound": "on"}, "sound"),
        ({"prompt": None}, "nulls"),
        ({"negative_prompt": "x"}, "unknown"),
        ({"aspect_ratio": "16:9"}, "unknown"),
        ({"image_urls": []}, "1 or 2"),
        ({"image_urls": ["http://example.com/a.png"]}, "no public URL"),
        ({"image_urls": ["FRAMES/none.png"]}, "cannot be fetched"),
        ({"image_urls": ["FRAMES/b.txt"]}, "is no image"),
        ({"image_urls": ["FRAMES/small.png"]}, "under 300"),
        ({"image_urls": ["FRAMES/../../etc/passwd"]}, "cannot be fetched"),
    ],
)
def test_hiapi_refuses_what_its_page_does_not_allow(hiapi: HiAPI, change: dict[str, Any], what: str) -> None:
    body = json.dumps(order(hiapi, **change)).replace("FRAMES", hiapi.frames_url).encode()
    status, answer, _ = ask(hiapi, "/v1/tasks", body)
    assert (status, answer["error_code"], answer["data"]) == (400, "INVALID_REQUEST", None)
    assert what in answer["message"]
    assert hiapi.purchases == []


def test_hiapi_judges_key_type_model_and_callback(hiapi: HiAPI) -> None:
    assert ask(hiapi, "/v1/tasks", order(hiapi), {"Authorization": "Bearer x"})[0] == 401
    assert ask(hiapi, "/v1/tasks", order(hiapi), {"Content-Type": "text/plain"})[0] == 415
    assert ask(hiapi, "/v1/tasks", b"{")[0] == 400
    assert ask(hiapi, "/v1/tasks", {**order(hiapi), "model": "kling"})[0] == 400
    assert ask(hiapi, "/v1/tasks", {**order(hiapi), "callback": {"url": "http://a.example"}})[0] == 400
    assert ask(hiapi, "/v1/tasks", {"model": TEXT, "input": {"resolution": "720p"}})[0] == 400
    assert ask(hiapi, "/v1/tasks/tk-hiapi-none")[0] == 404
    assert hiapi.purchases == []


def test_the_same_key_gives_the_same_task_for_a_day(hiapi: HiAPI) -> None:
    now = [1e9]
    hiapi.clock = lambda: now[0]
    token = {"Idempotency-Key": "kf1:abc:1"}
    first = ask(hiapi, "/v1/tasks", order(hiapi), token)
    again = ask(hiapi, "/v1/tasks", order(hiapi), token)
    assert first[1] == again[1]
    assert (first[2]["Idempotent-Replay"], again[2]["Idempotent-Replay"]) == (None, "true")
    other = ask(hiapi, "/v1/tasks", order(hiapi, duration=4), token)
    assert (other[0], other[1]["error_code"]) == (422, "IDEMPOTENCY_KEY_MISMATCH")
    now[0] += 24 * 3600
    assert ask(hiapi, "/v1/tasks", order(hiapi), token)[1] != first[1]
    assert len(hiapi.purchases) == 2
    assert hiapi.purchases[0].answers == 2


def as_account(key: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **headers}


def test_accounts_share_no_task_no_list_and_no_idempotency_key(hiapi: HiAPI) -> None:
    other = hiapi.open_account()
    assert hiapi.environment(other) == {**hiapi.environment(), "HIAPI_API_KEY": other}
    token = {"Idempotency-Key": "kf1:abc:1"}
    mine = ask(hiapi, "/v1/tasks", order(hiapi), token)[1]["data"]["taskId"]
    theirs = ask(hiapi, "/v1/tasks", order(hiapi, duration=4), as_account(other, **token))[1]["data"]["taskId"]
    assert [one.task for one in hiapi.bought_by(hiapi.key)] == [mine]
    assert [one.task for one in hiapi.bought_by(other)] == [theirs]
    assert ask(hiapi, f"/v1/tasks/{mine}")[0] == 200
    assert ask(hiapi, f"/v1/tasks/{mine}", None, as_account(other))[0] == 404
    assert ask(hiapi, "/v1/tasks", None, as_account(other))[1]["data"]["total"] == 1
    assert ask(hiapi, "/v1/tasks", None, as_account(other + "x"))[0] == 401


def test_accounts_of_mulerouter_share_no_task(mule: MuleRouter) -> None:
    other = mule.open_account()
    task = ask(mule, I2V, {"first_frame": INLINE})[1]["task_info"]["id"]
    assert ask(mule, f"{I2V}/{task}")[0] == 200
    assert ask(mule, f"{I2V}/{task}", None, as_account(other))[0] == 404
    assert ask(mule, f"{I2V}/{task}", None, as_account(other + "x"))[0] == 401


def test_while_the_first_order_is_in_flight_its_key_is_409_and_another_body_422(hiapi: HiAPI) -> None:
    token = {"Idempotency-Key": "k"}
    hold = standins.Hold("flight")
    hiapi.faults.add("POST /v1/tasks", hold)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, hiapi, "/v1/tasks", order(hiapi), token)
        assert hold.reached.wait(60)
        busy = ask(hiapi, "/v1/tasks", order(hiapi), token)
        other = ask(hiapi, "/v1/tasks", order(hiapi, duration=4), token)
        others = ask(hiapi, "/v1/tasks", order(hiapi), as_account(hiapi.open_account(), **token))
        hold.release()
        taken = first.result(10)
    assert (busy[0], busy[1]["error_code"], busy[2]["Retry-After"]) == (409, "IDEMPOTENCY_KEY_PROCESSING", "1")
    assert (other[0], other[1]["error_code"]) == (422, "IDEMPOTENCY_KEY_MISMATCH")
    assert (taken[0], others[0]) == (200, 200)
    assert ask(hiapi, "/v1/tasks", order(hiapi), token)[1] == taken[1]
    assert len(hiapi.bought_by(hiapi.key)) == 1


def test_many_orders_with_one_key_at_once_are_one_purchase(hiapi: HiAPI) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, hiapi, "/v1/tasks", order(hiapi), {"Idempotency-Key": "k"}) for _ in range(16)]
        assert {one.result(20)[0] for one in asked} <= {200, 409}
    assert len(hiapi.purchases) == 1


@pytest.mark.parametrize(("at", "bought"), [("arrival", 0), ("flight", 0), ("answer", 1)])
def test_an_order_can_be_held_on_its_way(mule: MuleRouter, at: Any, bought: int) -> None:
    hold = standins.Hold(at, drop=True)
    mule.faults.add("POST", hold)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, mule, I2V, {"first_frame": INLINE})
        assert hold.reached.wait(60)
        assert len(mule.purchases) == bought
        hold.release()
        with pytest.raises((OSError, HTTPException)):
            asked.result(10)
    assert len(mule.purchases) == 1


def test_the_servers_clock_can_be_wrong_and_durations_are_not(hiapi: HiAPI) -> None:
    hiapi.clock = lambda: 1e9
    hiapi.offset_s = -7200.0
    status, answer, headers = ask(hiapi, "/v1/tasks", order(hiapi))
    assert (status, parsedate_to_datetime(headers["Date"]).timestamp()) == (200, 1e9 - 7200)
    told = ask(hiapi, f"/v1/tasks/{answer['data']['taskId']}")[1]["data"]
    assert (told["created"], told["status"]) == (1e9 - 7200, "queued")
    hiapi.faults.add("GET", standins.cut(1.0))
    assert ask(hiapi, "/v1/tasks")[2]["Date"] == headers["Date"]
    hiapi.faults.add("GET", standins.answer(200, {}, {"Date": "yesterday"}))
    assert ask(hiapi, "/v1/tasks")[2].get_all("Date") == ["yesterday"]  # type: ignore[attr-defined]
    hiapi.sends_date = False
    assert ask(hiapi, "/v1/tasks")[2]["Date"] is None


def test_a_refused_order_does_not_use_up_its_key_and_no_credit_is_402(hiapi: HiAPI) -> None:
    token = {"Idempotency-Key": "k"}
    hiapi.credit = 0
    assert ask(hiapi, "/v1/tasks", order(hiapi), token)[0] == 402
    hiapi.credit = 1
    assert ask(hiapi, "/v1/tasks", order(hiapi), token)[0] == 200
    assert ask(hiapi, "/v1/tasks", order(hiapi))[0] == 402


def test_the_minute_is_kept_and_said(hiapi: HiAPI) -> None:
    hiapi.per_minute = 3
    statuses = [ask(hiapi, "/v1/tasks")[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert int(ask(hiapi, "/v1/tasks")[2]["Retry-After"]) > 50


def test_a_dead_url_is_replaced_by_a_fresh_one(hiapi: HiAPI) -> None:
    hiapi.finish_s = 0
    hiapi.becomes(Outcome(expires_s=0))
    task = ask(hiapi, "/v1/tasks", order(hiapi))[1]["data"]["taskId"]
    urls = [ask(hiapi, f"/v1/tasks/{task}")[1]["data"]["output"][1]["url"] for _ in range(2)]
    with pytest.raises(urllib.error.HTTPError) as caught:
        download(urls[0])
    caught.value.close()
    assert caught.value.code == 403
    assert download(urls[1])[4:8] == b"ftyp"


def test_a_callback_is_signed_and_repeated_until_it_is_taken(hiapi: HiAPI) -> None:
    with Thief() as receiver:
        receiver.faults.add("POST /cb", standins.answer(500), times=2)
        hiapi.callback_waits = (0, 0, 0, 0)
        body = {**order(hiapi), "callback": {"url": f"{receiver.base_url}/cb", "when": "final"}}
        task = ask(hiapi, "/v1/tasks", body)[1]["data"]["taskId"]
        end = time.monotonic() + 10
        while len(hiapi.deliveries) < 3 and time.monotonic() < end:
            time.sleep(0.002)
        assert [one.status for one in hiapi.deliveries] == [500, 500, 200]
        assert receiver.requests[-1].json["taskId"] == task
        assert len(receiver.requests[-1].headers["x-hiapi-signature"]) == 64


def test_faults_come_in_order_and_orders_count_where_they_were_taken(hiapi: HiAPI) -> None:
    hiapi.faults.add("POST /v1/tasks", standins.drop_before)
    hiapi.faults.add("POST /v1/tasks", standins.drop_after)
    hiapi.faults.add("POST /v1/tasks", standins.html(502, process=True))
    hiapi.faults.add("GET /v1/tasks/", standins.answer(503), times=2, after=1)
    for bought in (0, 1):
        with pytest.raises((OSError, HTTPException)):
            ask(hiapi, "/v1/tasks", order(hiapi))
        assert len(hiapi.purchases) == bought
    assert ask(hiapi, "/v1/tasks", order(hiapi))[0] == 502
    task = hiapi.purchases[1].task
    assert [ask(hiapi, f"/v1/tasks/{task}")[0] for _ in range(4)] == [200, 503, 503, 200]


def test_outcomes_fail_stall_and_come_without_a_clip(hiapi: HiAPI) -> None:
    hiapi.finish_s = 0
    hiapi.becomes(Outcome(fail=("TASK_FAILED", "moderated")), prompt="one")
    hiapi.becomes(Outcome(word="resting"), prompt="two")
    hiapi.becomes(Outcome(no_output=True), prompt="three")
    told = {}
    for name in ("three", "two", "one"):
        task = ask(hiapi, "/v1/tasks", order(hiapi, prompt=name))[1]["data"]["taskId"]
        told[name] = ask(hiapi, f"/v1/tasks/{task}")[1]["data"]
    assert told["one"]["error"] == {"code": "TASK_FAILED", "message": "moderated"}
    assert told["two"]["status"] == "resting"
    assert (told["three"]["status"], "output" in told["three"]) == ("success", False)


def test_mulerouter_makes_what_was_ordered_on_its_path_alone(mule: MuleRouter) -> None:
    body = {"first_frame": INLINE, "last_frame": INLINE.partition(",")[2], "prompt": "p", "duration": 3}
    status, answer, headers = ask(mule, I2V, body)
    task = answer["task_info"]["id"]
    assert (status, answer["task_info"]["status"]) == (202, "pending")
    assert headers["traceparent"]
    mule.finish_s = 0
    assert ask(mule, f"{ROOT}/text-to-video/generation/{task}")[0] == 404
    told = ask(mule, f"{I2V}/{task}")[1]
    assert told["task_info"]["status"] == "completed"
    assert movie.last_number(download(told["videos"][0])) == (1, 72)
    assert mule.purchases[0].numbers == dict.fromkeys(("first_frame", "last_frame"), (movie.STILL + 7, 0))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"first_frame": INLINE, "resolution": "1080p"}, "additional"),
        ({"first_frame": INLINE, "prompt": None}, "nulls"),
        ({"first_frame": INLINE, "sound": True}, "sound"),
        ({"first_frame": INLINE, "mode": "4K"}, "mode"),
        ({"first_frame": INLINE, "duration": 16}, "duration"),
        ({"first_frame": INLINE, "prompt": "x" * 2501}, "2500"),
        ({"first_frame": INLINE, "images": []}, "at least 1"),
        ({"first_frame": INLINE, "elements": [{"frontal_image": INLINE}] * 4}, "1 to 3"),
        ({"first_frame": INLINE, "multi_shot": True}, "shot_type"),
        ({"first_frame": INLINE, "multi_prompt": [{"prompt": "a", "duration": 5}]}, "multi_shot"),
        (
            {
                "first_frame": INLINE,
                "multi_shot": True,
                "shot_type": "customize",
                "multi_prompt": [{"prompt": "a", "duration": 4}],
            },
            "add up",
        ),
        ({"first_frame": "data:image/gif;base64,AAAA"}, "no image"),
        ({"first_frame": "!!"}, "neither"),
        ({"last_frame": INLINE}, "needs first_frame"),
        ({"prompt": "p", "aspect_ratio": "16:9"}, "needs first_frame"),
    ],
)
def test_mulerouter_refuses_what_its_page_does_not_allow(mule: MuleRouter, body: dict[str, Any], what: str) -> None:
    status, answer, _ = ask(mule, I2V, body)
    assert status == 400
    assert what in answer["task_info"]["error"]["detail"]
    assert mule.purchases == []


def test_mulerouter_speaks_both_vocabularies_and_error_shapes() -> None:
    with MuleRouter(vocabulary="async", errors="async", finish_s=0) as api:
        api.becomes(Outcome(fail=(3005, "prompt violation")))
        task = ask(api, I2V, {"first_frame": INLINE})[1]["task_info"]["id"]
        told = ask(api, f"{I2V}/{task}")[1]
        assert (told["task_info"]["status"], told["error"]["error_code"]) == ("failed", 3005)
        assert ask(api, I2V, {})[1] == {"detail": "image-to-video needs first_frame"}


@pytest.mark.parametrize("name", ["hiapi", "mulerouter", "fal", "kling"])
def test_a_stand_in_runs_alone_and_says_what_to_export(name: str) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "tests.standins", name]
    running = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    assert running.stdout is not None
    said: dict[str, str] = {}
    while "KLINGFLOW_PUBLISH_URL" not in said:
        said |= [running.stdout.readline().removeprefix("export ").strip().split("=", 1)]
    base = said[f"{name.upper()}_BASE_URL"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        download(f"{base}/v1/tasks")
    caught.value.close()
    assert caught.value.code == 401
    os.kill(running.pid, signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 0
