"""Kling's own API alone: what its table of answers (tests/answers) does not show, and its stand-in."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from klingflow.core.model import TaskId
from klingflow.providers import kling
from klingflow.providers.base import Settings, WebhookRefused
from tests.provider_helpers import KEY, STILL, faults, shot
from tests.standins import Outcome, movie
from tests.standins.kling import PATH, Kling
from tests.test_standins import ask as ask_with

RAW = base64.b64encode(movie.still(7)).decode()
NOW = 1_780_000_000.0


@pytest.fixture
def api() -> Iterator[Kling]:
    with Kling(finish_s=0, clock=lambda: NOW) as server:
        yield server
        assert server.trouble == []


def ask(api: Kling, path: str, body: object = None, *, at: float = NOW, account: str = "") -> tuple[int, Any, Any]:
    who = account or api.key
    return ask_with(api, path, body, kling.authorization(who, api.secret_of(who), at))


def order(**change: Any) -> dict[str, Any]:
    frames = [{"image_url": RAW, "type": "first_frame"}]
    plain = {"model_name": "kling-v3-omni", "prompt": "waves", "image_list": frames, "duration": "3"}
    return {name: value for name, value in {**plain, **change}.items() if value != "gone"}


# Tokens -------------------------------------------------------------------------------------------------------------


def test_a_token_is_the_one_that_the_page_shows() -> None:
    """Against PyJWT 2.15, as the page's sample uses it."""
    assert kling.authorization("ak-1", "sk-secret-of-an-account-0123456789", NOW) == {
        "Authorization": "Bearer "
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
        "eyJpc3MiOiJhay0xIiwiZXhwIjoxNzgwMDAxODAwLCJuYmYiOjE3Nzk5OTk5OTV9."
        "4BVcE9wRSherCJ3GLqkpLz_5RFiPlNFyQlalxPaYrIs"
    }


def test_the_stand_in_judges_a_token_by_its_own_clock(api: Kling) -> None:
    for at, code in [(NOW, 0), (NOW + 4, 0), (NOW + 6, 1003), (NOW - 1799, 0), (NOW - 1800, 1004)]:
        assert ask(api, f"{PATH}?pageNum=1&pageSize=1", at=at)[1]["code"] == code, at
    wrong = kling.authorization(api.key, "sk-not-this-one", NOW)
    assert ask_with(api, PATH, None, wrong)[1]["code"] == 1002
    nobody = kling.authorization("ak-nobody", api.secret_of("ak-nobody"), NOW)
    assert ask_with(api, PATH, None, nobody)[1]["code"] == 1000
    assert ask_with(api, PATH, None, {"Authorization": ""})[1]["code"] == 1001
    assert ask_with(api, PATH)[1]["code"] == 1002, "an access key is no token"


# What it can make ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "place", "rule"),
    [
        ({"negative_prompt": "rain"}, "negative_prompt", "not-offered"),
        ({"elements": [1]}, "elements", "not-offered"),
        ({"images": 1, "first_frame": STILL, "last_frame": STILL}, "images", "not-offered"),
        ({"aspect_ratio": "16:9", "first_frame": STILL}, "aspect_ratio", "not-offered"),
        ({"prompt": " ", "first_frame": STILL}, "prompt", "no-prompt"),
        ({"images": 8}, "images", "too-many-images"),
    ],
    ids=str,
)
def test_what_kling_lacks_is_refused_at_its_place(fields: dict[str, Any], place: str, rule: str) -> None:
    assert faults(kling, shot(**{"prompt": "x", **fields})) == [("error", f"dawn.{place}", rule)]


@pytest.mark.parametrize(
    "fields",
    [
        {"aspect_ratio": "1:1", "images": 7},
        {"resolution": "4K", "first_frame": STILL, "last_frame": STILL},
        {"multi_shot": {"by": "customize", "shots": [["a", 5]]}, "prompt": "", "first_frame": STILL},
        {"duration": 15, "sound": True},
    ],
    ids=str,
)
def test_what_its_pages_show_is_let_through(fields: dict[str, Any]) -> None:
    assert faults(kling, shot(**{"prompt": "x", **fields})) == []


def test_each_attempt_has_its_own_id_by_which_it_is_found() -> None:
    sent = [json.loads(kling.submit(shot(prompt="x"), {}, Settings(), KEY, n).body or b"") for n in (1, 2)]
    ids = [body["external_task_id"] for body in sent]
    assert ids == [f"kf1-{KEY[:40]}-1", f"kf1-{KEY[:40]}-2"]
    for attempt, mine in enumerate(ids, 1):
        asked = kling.find(KEY, attempt)
        assert asked is not None
        assert (asked.method, asked.path, asked.body) == ("GET", f"{PATH}/{mine}", None)


# Callbacks ----------------------------------------------------------------------------------------------------------

VECTOR = {
    "secret": "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=",
    "headers": {
        "webhook-id": "9876543210",
        "webhook-timestamp": "1781080794",
        "webhook-signature": "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
    },
    "body": b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,'
    b'"update_time":1781080794151}',
}
"""Kling docs, callbacks, read 2026-11: the vendor's own test vector."""


def test_a_callback_is_verified_as_klings_own_vector_has_it() -> None:
    headers: Any = VECTOR["headers"]
    body: Any = VECTOR["body"]
    secret: Any = VECTOR["secret"]
    assert kling.webhook(headers, body, secret, 1781080794 + 300) == TaskId("1234567890")
    for change, now in ((b" ", 1781080794), (b"", 1781080794 + 301)):
        with pytest.raises(WebhookRefused):
            kling.webhook(headers, body + change, secret, now)


def test_a_callback_of_the_legacy_standard_names_its_task(api: Kling) -> None:
    body = json.dumps({"task_id": "866168216002236456", "task_status": "processing"}).encode()
    assert kling.webhook(api.signed(body), body, api.webhook_secret, NOW) == TaskId("866168216002236456")
    api.signs = False
    with pytest.raises(WebhookRefused):
        kling.webhook(api.signed(body), body, api.webhook_secret, NOW)


# The stand-in -------------------------------------------------------------------------------------------------------


def test_the_stand_in_makes_what_was_ordered_and_finds_it_by_both_ids(api: Kling) -> None:
    code, told, _ = ask(api, PATH, order(external_task_id="mine-1", mode="4k", sound="on"))
    task = told["data"]["task_id"]
    assert (code, told["code"], told["data"]["task_status"]) == (200, 0, "submitted")
    by_task, by_mine = (ask(api, f"{PATH}/{one}")[1]["data"] for one in (task, "mine-1"))
    assert by_task["task_id"] == by_mine["task_id"] == task
    assert by_task["task_status"] == "succeed"
    video = by_task["task_result"]["videos"][0]
    with urllib.request.urlopen(video["url"], timeout=60) as response:
        assert movie.last_number(response.read()) == (1, 72)
    assert api.purchases[0].numbers == {"first_frame": (movie.STILL + 7, 0)}
    assert ask(api, f"{PATH}?pageNum=1&pageSize=500")[1]["data"][0]["task_id"] == task


def test_the_stand_in_refuses_an_id_of_ours_a_second_time_in_one_account(api: Kling) -> None:
    assert ask(api, PATH, order(external_task_id="mine-1"))[0] == 200
    code, told, _ = ask(api, PATH, order(external_task_id="mine-1", duration="4"))
    assert (code, told["code"]) == (400, 1201)
    assert "already exists" in told["message"]
    other = api.open_account()
    assert ask(api, f"{PATH}/mine-1", account=other)[1]["code"] == 1203
    assert ask(api, PATH, order(external_task_id="mine-1"), account=other)[0] == 200
    assert len(api.purchases) == 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model_name": "gone"}, "model"),
        ({"model_name": "kling-v3"}, "model"),
        ({"duration": 3}, "duration"),
        ({"mode": "4K"}, "mode"),
        ({"sound": True}, "sound"),
        ({"negative_prompt": "x"}, "unknown"),
        ({"prompt": "gone"}, "prompt must not be empty"),
        ({"prompt": None}, "nulls"),
        ({"image_list": [{"image_url": f"data:image/png;base64,{RAW}", "type": "first_frame"}]}, "without a prefix"),
        ({"image_list": [{"image_url": RAW, "type": "end_frame"}]}, "needs a first frame"),
        ({"image_list": [{"image_url": RAW, "type": "last_frame"}]}, "type is"),
        ({"image_list": []}, "1 to 7"),
        ({"image_list": "gone"}, "aspect_ratio is required"),
        ({"multi_prompt": [{"index": 1, "prompt": "a", "duration": "3"}]}, "go with multi_shot"),
        (
            {
                "multi_shot": True,
                "shot_type": "customize",
                "multi_prompt": [{"index": 1, "prompt": "a", "duration": "2"}],
            },
            "add up",
        ),
    ],
    ids=str,
)
def test_the_stand_in_refuses_what_its_pages_do_not_allow(api: Kling, change: dict[str, Any], what: str) -> None:
    code, told, _ = ask(api, PATH, order(**change))
    assert code in (400, 404)
    assert what in told["message"]
    assert "data" not in told
    assert api.purchases == []


def test_the_stand_in_counts_tasks_under_way_and_money(api: Kling) -> None:
    api.parallel, api.finish_s = 1, 100
    api.becomes(Outcome(fail=("", "risk control")))
    assert ask(api, PATH, order())[1]["code"] == 0
    code, told, _ = ask(api, PATH, order())
    assert (code, told["code"]) == (429, 1303)
    api.finish_s = 0
    api.credit = 0
    assert (ask(api, PATH, order())[0], ask(api, PATH, order())[1]["code"]) == (429, 1102)
    told = ask(api, f"{PATH}/{api.purchases[0].task}")[1]["data"]
    assert (told["task_status"], told["task_status_msg"]) == ("failed", "risk control")
