"""Nothing secret passes `redact`, in any form, and ordinary text passes it unchanged."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from klingflow.core.redact import redact, register

SECRET = "canary/9f3+'\"x&7Kq=zz"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://h/p?X-Amz-Signature=abc&x=1 failed", "GET https://h/p?… failed"),
        ("https://user:pass@h:8443/p/q#frag", "https://h:8443/p/q#…"),
        ("https://h/p#frag?x=1", "https://h/p?…"),
        ("https://h?x=1", "https://h?…"),
        ("https://user@h", "https://h"),
        ("postgres://u:p@db/x", "postgres://db/x"),
        ('{"url": "https://h/p?x=it\'s", "a": 1}', '{"url": "https://h/p?…", "a": 1}'),
        ("'https://h/p?x=1' is gone", "'https://h/p?…' is gone"),
        (r'"{\"url\":\"https://h/p?x=1\"}"', r'"{\"url\":\"https://h/p?…\"}"'),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]"),
        ("{'authorization': 'Basic dXNlcg=='}", "{'authorization': 'Basic [redacted]'}"),
        ("sent Bearer abcdefghijkl", "sent Bearer [redacted]"),
        ("secret whsec_dGVzdA==", "secret whsec_[redacted]"),
        ("key sk-abc123def456 is wrong", "key sk-[redacted] is wrong"),
        ("key hi-sk-abc123def456", "key hi-sk-[redacted]"),
        ("X-HiAPI-Signature: 1f46aae5", "X-HiAPI-Signature: [redacted]"),
        ("h/p?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&b=1", "h/p?X-Amz-Credential=[redacted]&b=1"),
        ("id AKIAIOSFODNN7EXAMPLE", "id [redacted]"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_hiding_it_twice_changes_nothing(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a flag bearer marching through the task-force, risk-free; sk-learn",
        "film.yaml:12:5: shot 'beach' has no field 'duraton'",
        "https://example.com/a/b.png",
        "her signature smile, Asia at dawn",
    ],
)
def test_ordinary_text_passes_unchanged(text: str) -> None:
    assert redact(text) == text


def test_a_registered_secret_shows_in_no_form() -> None:
    register(SECRET)
    for form in (
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(f"ab{SECRET}!".encode()).decode(),
    ):
        shown = redact(f"before {form} after")
        assert "[redacted]" in shown, form
        assert form not in shown
        assert redact(shown) == shown


def test_a_secret_too_short_to_look_for_does_not_blacken_words() -> None:
    register("a")
    register("")
    assert redact("a cat") == "a cat"


def test_clean_text_costs_next_to_nothing() -> None:
    text = "gentle waves roll in, a weathered red fishing boat drifts, slow push-in. " * 2000
    assert redact(text) == text
