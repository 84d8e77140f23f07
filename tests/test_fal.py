"""fal.ai alone: what its table of answers (tests/answers) does not show, and its stand-in."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import fal_client
import fal_client.client
import pytest

from klingflow.core.model import TaskId
from klingflow.providers import fal
from klingflow.providers.base import WebhookRefused
from tests.provider_helpers import STILL, faults, shot
from tests.standins import Outcome, movie
from tests.standins.fal import APP, Fal
from tests.test_standins import ask as ask_as_bearer

INLINE = "data:image/png;base64," + base64.b64encode(movie.still(7)).decode()
I2V = f"/{APP}/o3/standard/image-to-video"
TASK = TaskId("764cabcf-b745-4b3e-ae38-1200304cf45b")
NOW = 1_780_000_000.0


@pytest.fixture
def api() -> Iterator[Fal]:
    with Fal(finish_s=0, clock=lambda: NOW) as server:
        yield server
        assert server.trouble == []


def ask(api: Fal, path: str, body: object = None) -> tuple[int, Any, Any]:
    return ask_as_bearer(api, path, body, {"Authorization": f"Key {api.key}"})


# What it can make ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "place", "rule"),
    [
        ({"negative_prompt": "rain"}, "negative_prompt", "not-offered"),
        ({"aspect_ratio": "16:9", "first_frame": STILL}, "aspect_ratio", "not-offered"),
        ({"prompt": " ", "first_frame": STILL}, "prompt", "no-prompt"),
        ({"elements": [0]}, "elements", "element-images"),
        ({"images": 8}, "images", "too-many-images"),
        ({"multi_shot": {"by": "intelligence"}, "prompt": " "}, "multi_shot", "multi-shot"),
    ],
    ids=str,
)
def test_what_fal_lacks_is_refused_at_its_place(fields: dict[str, Any], place: str, rule: str) -> None:
    assert ("error", f"dawn.{place}", rule) in faults(fal, shot(**{"prompt": "x", **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"aspect_ratio": "1:1"},
        {"aspect_ratio": "1:1", "first_frame": STILL, "images": 2},
        {"resolution": "4K", "first_frame": STILL, "last_frame": STILL, "elements": [3]},
        {"multi_shot": {"by": "customize", "shots": [["a", 5]]}, "prompt": "", "first_frame": STILL},
        {"duration": 15, "sound": True},
    ],
    ids=str,
)
def test_what_its_pages_show_is_let_through(fields: dict[str, Any]) -> None:
    assert faults(fal, shot(**{"prompt": "x", **fields})) == []


def test_another_kling_is_another_model() -> None:
    for other in ("kling-3.0-turbo", "kling-3.0", "kling-v4", "kling-o1"):
        assert faults(fal, shot(prompt="x", model=other)) == [("error", "dawn.model", "unknown-model")]


# Callbacks ----------------------------------------------------------------------------------------------------------


def signed(api: Fal, body: bytes, **change: str) -> dict[str, str]:
    return {**api.signed(TASK, body, NOW), **{name.replace("_", "-"): value for name, value in change.items()}}


BODY = json.dumps({"request_id": TASK, "status": "OK", "payload": {}}).encode()


def test_a_callback_that_one_of_the_published_keys_signed_names_its_task(api: Fal) -> None:
    keys = json.dumps(api.jwks)
    assert fal.webhook(signed(api, BODY), BODY, keys, NOW) == TASK
    assert fal.webhook(signed(api, BODY), BODY, keys, NOW + 300) == TASK
    lower = {name.lower(): value for name, value in signed(api, BODY).items()}
    assert fal.webhook(lower, BODY, keys, NOW - 300) == TASK


def test_a_callback_that_is_forged_old_or_odd_is_refused(api: Fal) -> None:
    keys, good = json.dumps(api.jwks), signed(api, BODY)
    other = json.dumps({"keys": api.jwks["keys"][:1]})
    no_task = b'{"status": "OK"}'
    for why, headers, body, known, now in [
        ("does not fit", good, BODY + b" ", keys, NOW),
        ("does not fit", {**good, "X-Fal-Webhook-User-Id": "user_x"}, BODY, keys, NOW),
        ("does not fit", {**good, "X-Fal-Webhook-Timestamp": str(int(NOW) + 1)}, BODY, keys, NOW),
        ("does not fit", good, BODY, other, NOW),
        ("more than 300 s off", good, BODY, keys, NOW + 301),
        ("more than 300 s off", good, BODY, keys, NOW - 301),
        ("not 128 hex digits", {**good, "X-Fal-Webhook-Signature": "é" * 128}, BODY, keys, NOW),
        ("not 128 hex digits", {**good, "X-Fal-Webhook-Signature": ""}, BODY, keys, NOW),
        ("not a number of seconds", {**good, "X-Fal-Webhook-Timestamp": "now"}, BODY, keys, NOW),
        ("names no request", {**good, "X-Fal-Webhook-Request-Id": ""}, BODY, keys, NOW),
        ("names no request", signed(api, no_task), no_task, keys, NOW),
        ("no key of fal's", good, BODY, "", NOW),
        ("no key of fal's", good, BODY, '{"keys": [1, {"x": 2}, {"x": "é"}, {"x": "AAAA"}, {"x": "!"}]}', NOW),
    ]:
        with pytest.raises(WebhookRefused, match=why):
            fal.webhook(headers, body, known, now)


# The stand-in -------------------------------------------------------------------------------------------------------


def test_the_stand_in_queues_makes_and_tells_at_its_own_addresses(api: Fal) -> None:
    api.finish_s = 100
    code, told, _ = ask(api, I2V, {"prompt": "waves", "image_url": INLINE, "end_image_url": INLINE, "duration": "3"})
    task = told["request_id"]
    assert (code, told["status"], told["status_url"]) == (200, "IN_QUEUE", f"{told['response_url']}/status")
    status = told["status_url"].removeprefix(api.base_url)
    assert I2V not in status, "the endpoint's path is no part of it"
    assert ask(api, status)[0] == 202
    assert ask(api, f"{I2V}/requests/{task}/status")[0] == 405
    early = ask(api, told["response_url"].removeprefix(api.base_url))
    assert early[:2] == (400, {"detail": "Request is still in progress"})
    api.finish_s = 0
    assert (ask(api, status)[0], ask(api, status)[1]["status"]) == (200, "COMPLETED")
    video = ask(api, told["response_url"].removeprefix(api.base_url))[1]["video"]
    with urllib.request.urlopen(video["url"], timeout=60) as response:
        assert movie.last_number(response.read()) == (1, 72)
    assert api.purchases[0].numbers == dict.fromkeys(("image_url", "end_image_url"), (movie.STILL + 7, 0))


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        ({"duration": 3}, "duration", "literal_error"),
        ({"duration": "2"}, "duration", "literal_error"),
        ({"generate_audio": "on"}, "generate_audio", "bool_type"),
        ({"negative_prompt": "x"}, "negative_prompt", "extra_forbidden"),
        ({"aspect_ratio": "16:9"}, "aspect_ratio", "extra_forbidden"),
        ({"multi_prompt": [{"prompt": "a", "duration": "5"}]}, "prompt", "value_error"),
        ({"image_url": INLINE.partition(",")[2]}, "image_url", "image_load_error"),
        ({"image_url": "http://127.0.0.1:9/none.png"}, "image_url", "file_download_error"),
        ({"image_url": None}, "image_url", "value_error"),
        ({"prompt": "x" * 2501}, "prompt", "value_error"),
    ],
    ids=str,
)
def test_the_stand_in_tells_late_what_its_pages_do_not_allow(
    api: Fal, change: dict[str, Any], field: str, kind: str
) -> None:
    told = ask(api, I2V, {"prompt": "x", "image_url": INLINE, **change})[1]
    assert ask(api, told["status_url"].removeprefix(api.base_url))[1]["error_type"] == kind
    code, result, _ = ask(api, told["response_url"].removeprefix(api.base_url))
    (problem,) = result["detail"]
    assert (code, problem["loc"], problem["type"]) == (422, ["body", field], kind)


def test_the_stand_in_lets_in_its_own_accounts_and_keeps_them_apart(api: Fal) -> None:
    order = {"prompt": "x", "image_url": INLINE}
    assert ask_as_bearer(api, I2V, order)[0] == 401, "the scheme is Key, not Bearer"
    told = ask(api, I2V, order)[1]
    other = {"Authorization": f"Key {api.open_account()}"}
    assert ask_as_bearer(api, told["status_url"].removeprefix(api.base_url), None, other)[0] == 404
    assert ask(api, f"/{APP}/v3/turbo/image-to-video", order)[0] == 404
    api.credit = 0
    assert ask(api, I2V, order)[0] == 403


def test_fals_own_client_buys_from_the_stand_in(api: Fal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{api.base_url}/")
    client = fal_client.SyncClient(key=api.key)
    order = {"prompt": "x", "image_url": INLINE, "duration": "3"}
    asked = client.submit(I2V[1:], order)
    assert isinstance(asked.status(with_logs=True), fal_client.Completed)
    assert asked.get()["video"]["content_type"] == "video/mp4"
    assert client.result(I2V[1:], asked.request_id)["video"] == asked.get()["video"]
    api.becomes(Outcome(fail=("content_policy_violation", "flagged")))
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        client.subscribe(I2V[1:], order)
    assert refused.value.status_code == 422
    client._client.close()
