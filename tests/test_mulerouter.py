"""MuleRouter alone: what its table of answers (tests/answers) does not show."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from klingflow.core.model import TaskId
from klingflow.providers import mulerouter
from klingflow.providers.base import Settings, WebhookRefused
from tests.provider_helpers import KEY, STILL, faults, shot

UUID = "8e1e315e-b50d-4334-a231-be7d19a372f4"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"resolution": "4K"}, [("error", "dawn.resolution", "resolution")]),
        ({"negative_prompt": "x" * 2501}, [("error", "dawn.negative_prompt", "prompt-too-long")]),
        ({"prompt": "x" * 2501}, [("error", "dawn.prompt", "prompt-too-long")]),
        ({"negative_prompt": "rain", "aspect_ratio": "1:1", "sound": True}, []),
        ({"aspect_ratio": "16:9", "first_frame": STILL}, []),
        ({"images": 7}, []),
        ({"images": 8}, [("error", "dawn.images", "too-many-images")]),
        ({"images": 1, "first_frame": STILL, "last_frame": STILL}, []),
        ({"images": 2, "first_frame": STILL}, []),
        ({"images": 2, "first_frame": STILL, "last_frame": STILL}, [("error", "dawn.images", "too-many-images")]),
        ({"elements": [1, 2, 3, 1], "first_frame": STILL}, [("error", "dawn.elements", "too-many-images")]),
        ({"elements": [1, 2, 3, 1]}, []),
        ({"elements": [4]}, [("error", "dawn.elements", "element-images")]),
        ({"elements": [0]}, [("warning", "dawn.elements", "element-images")]),
        ({"multi_shot": {"by": "intelligence"}}, []),
        ({"multi_shot": {"by": "intelligence"}, "first_frame": STILL}, [("warning", "dawn.multi_shot", "multi-shot")]),
        (
            {"multi_shot": {"by": "intelligence"}, "first_frame": STILL, "prompt": ""},
            [("error", "dawn.multi_shot", "multi-shot"), ("warning", "dawn.multi_shot", "multi-shot")],
        ),
        ({"multi_shot": {"by": "customize", "shots": [["a", 3], ["b", 2]]}, "prompt": ""}, []),
        (
            {"multi_shot": {"by": "customize", "shots": [["a", 3], ["b", 2]]}},
            [("warning", "dawn.multi_shot", "multi-shot")],
        ),
        (
            {"multi_shot": {"by": "customize", "shots": [["a", 1]] * 7}, "duration": 7, "prompt": ""},
            [("error", "dawn.multi_shot", "multi-shot")],
        ),
        ({"multi_shot": {"by": "customize"}, "prompt": ""}, [("error", "dawn.multi_shot", "multi-shot")]),
        (
            {"multi_shot": {"by": "customize", "shots": [["a" * 513, 5]]}, "prompt": ""},
            [("error", "dawn.multi_shot", "prompt-too-long")],
        ),
        (
            {"multi_shot": {"by": "customize", "shots": [[" ", 5], ["b", 0]]}, "prompt": ""},
            [("error", "dawn.multi_shot", "multi-shot"), ("error", "dawn.multi_shot", "multi-shot")],
        ),
    ],
    ids=lambda value: str(value)[:70],
)
def test_the_documented_rules_are_held_at_check(fields: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    assert faults(mulerouter, shot(**({"prompt": "x"} | fields))) == found


def test_an_order_carries_no_key_of_its_own() -> None:
    made = mulerouter.submit(shot(prompt="x"), {}, Settings(), KEY, 3)
    assert dict(made.headers) == {"Content-Type": "application/json"}


def test_a_task_is_read_under_the_path_that_made_it() -> None:
    path = "/vendors/klingai/v1/kling-v3-omni/image-to-video/generation"
    assert mulerouter.poll(TaskId(UUID), path, {}).path == f"{path}/{UUID}"


SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
NOW = 1781080794.0


def signed(body: bytes, *, stamp: str = "1781080794", event: str = "evt_1") -> dict[str, str]:
    raw = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(raw, f"{event}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": event, "webhook-timestamp": stamp, "webhook-signature": f"v1,{mac}"}


def event(kind: str, payload: object) -> bytes:
    data = {"vendor": "klingai", "model_name": "kling-v3-omni", "payload": payload}
    return json.dumps({"id": "evt_1", "type": kind, "created_at": "2026-03-03T00:02:00Z", "data": data}).encode()


def test_the_vendors_own_signature_fits() -> None:
    """Kling's published vector of the scheme; its body is Kling's, so it names no task of MuleRouter."""
    body = (
        b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}'
    )
    headers = {
        "Webhook-Id": "9876543210",
        "Webhook-Timestamp": "1781080794",
        "Webhook-Signature": "v1,AAAA v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
    }
    assert mulerouter.webhook(headers, body, SECRET, NOW) is None
    with pytest.raises(WebhookRefused):
        mulerouter.webhook(headers, body + b" ", SECRET, NOW)


@pytest.mark.parametrize("kind", ["task.created", "task.succeeded", "task.failed"])
def test_an_account_wide_event_names_its_task(kind: str) -> None:
    body = event(kind, {"task_info": {"id": UUID, "status": "completed"}, "videos": ["https://x/v.mp4"]})
    assert mulerouter.webhook(signed(body), body, SECRET, NOW + 300) == UUID


@pytest.mark.parametrize("payload", [{"balance": 9.5}, None, [], {"task_info": {"id": " "}}])
def test_an_event_without_a_task_is_good_but_speaks_of_none(payload: object) -> None:
    body = event("balance.low", payload)
    assert mulerouter.webhook(signed(body), body, SECRET, NOW) is None


@pytest.mark.parametrize(
    ("headers", "secret", "off"),
    [
        (signed(b"{}"), SECRET, 301),
        (signed(b"{}"), SECRET, -301),
        (signed(b"{}"), "whsec_AAAA", 0),
        (signed(b"{}"), "not base64!", 0),
        (signed(b"{}") | {"webhook-id": "evt_2"}, SECRET, 0),
        (signed(b"{}", stamp="1e9"), SECRET, 0),
        (signed(b"{}", event=""), SECRET, 0),
        (signed(b"{}") | {"webhook-signature": "v2,AAAA"}, SECRET, 0),
        ({}, SECRET, 0),
    ],
)
def test_a_forged_or_stale_event_is_refused(headers: dict[str, str], secret: str, off: int) -> None:
    with pytest.raises(WebhookRefused):
        mulerouter.webhook(headers, b"{}", secret, NOW + off)
