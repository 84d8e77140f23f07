"""A recorded request is sent again only where it is, byte for byte, the one that the order asks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.execution.replay import recorded
from klingflow.providers.base import Request
from klingflow.providers.omni import compact as encode

FRAME = "https://cdn.example/frames/ab12.png?X-Amz-Signature=2"
BODY = {"model": "kling-3.0", "prompt": "dawn breaks", "duration": 5, "images": [FRAME], "audio": False}
REQUEST = Request(method="POST", path="/v1/tasks", body=encode(BODY), headers={"Idempotency-Key": "k-1"})


def intent(body: bytes, request: Request = REQUEST) -> dict[str, object]:
    coded = base64.b64encode(body).decode()
    return {"method": request.method, "path": request.path, "headers": dict(request.headers), "body": coded}


def differs(record: Mapping[str, object], *published: str, request: Request = REQUEST) -> list[str]:
    found = recorded(record, request, published)
    assert not isinstance(found, Request), "it would be sent"
    return found


def with_frame(url: str) -> bytes:
    return encode(BODY | {"images": [url]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON))
def test_a_recorded_request_that_equals_the_rebuilt_one_is_returned(body: dict[str, Any]) -> None:
    request = replace(REQUEST, body=encode(body))
    assert recorded(intent(encode(body), request), request, ()) == request


@given(st.dictionaries(st.text(max_size=8), JSON, min_size=1), st.data())
def test_any_field_that_is_not_as_rebuilt_is_named(body: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(body)))
    other = data.draw(JSON.filter(lambda found: json.dumps(found) != json.dumps(body[name])))
    forged = intent(encode(body | {name: other}))
    found = differs(forged, FRAME, request=replace(REQUEST, body=encode(body)))
    assert all(each.startswith(f"body.{name}") for each in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "PUT"),
        ("path", "/v1/other"),
        ("headers", {"Idempotency-Key": "k-2"}),
        ("headers", {"Idempotency-Key": "k-1", "X-Callback": "https://evil.example"}),
        ("body", "no Base64 at all!"),
        ("body", None),
    ],
)
def test_a_record_with_another_line_or_header_is_not_sent(name: str, value: object) -> None:
    assert differs(intent(encode(BODY)) | {name: value}, FRAME) == [name]


def test_everything_that_differs_is_named() -> None:
    body = {**BODY, "prompt": "noon", "callback": {"url": "https://evil.example"}}
    assert differs(intent(encode(body)) | {"path": "/v2"}, FRAME) == ["path", "body.callback", "body.prompt"]


def test_true_is_not_one() -> None:
    request = replace(REQUEST, body=encode({"audio": 1}))
    assert differs(intent(encode({"audio": True})), request=request) == ["body.audio"]


@pytest.mark.parametrize(
    "url", ["https://cdn.example/frames/ab12.png?X-Amz-Signature=1", "https://cdn.example/frames/ab12.png"]
)
def test_a_published_url_may_be_signed_anew_and_the_recorded_bytes_are_sent(url: str) -> None:
    found = recorded(intent(with_frame(url)), REQUEST, [FRAME])
    assert found == replace(REQUEST, body=with_frame(url))


def test_two_published_urls_where_one_begins_like_the_other_are_both_signed_anew() -> None:
    urls = ["https://cdn.example/a", "https://cdn.example/a?b"]
    request = replace(REQUEST, body=encode({"images": urls}))
    before = encode({"images": [f"{urls[0]}?s=1", f"{urls[1]}&s=1"]})
    assert recorded(intent(before), request, urls) == replace(request, body=before)


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/frames/cd34.png?X-Amz-Signature=2",
        "https://evil.example/frames/ab12.png?X-Amz-Signature=2",
        "https://cdn.example/frames/ab12.png#?X-Amz-Signature=2",
        "https://cdn.example/frames/ab12.png/../cd34.png?X-Amz-Signature=2",
    ],
)
def test_a_published_url_may_differ_in_nothing_but_its_query(url: str) -> None:
    assert differs(intent(with_frame(url)), FRAME) == ["body.images"]


def test_the_query_of_a_url_that_klingflow_does_not_publish_may_not_differ() -> None:
    """A picture of the storyboard's own: another query is another picture."""
    assert differs(intent(with_frame("https://cdn.example/frames/ab12.png?id=9"))) == ["body.images"]


@pytest.mark.parametrize("signature", ["1", "2"])
def test_a_field_that_is_there_twice_is_not_sent(signature: str) -> None:
    """Who reads the first of the two would read another prompt than was compared."""
    body = with_frame(FRAME[:-1] + signature)
    twice = body.replace(b'"prompt":', b'"prompt":"something else","prompt":')
    assert differs(intent(twice), FRAME) == ["body"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_order_is_not_sent(body: bytes) -> None:
    assert differs(intent(body), FRAME) == ["body"]


def test_spaces_are_not_ours() -> None:
    assert differs(intent(json.dumps(BODY).encode()), FRAME) == ["body"]
