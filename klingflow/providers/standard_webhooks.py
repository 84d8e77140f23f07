"""The Standard Webhooks scheme of signed callbacks (standardwebhooks.com, read 2026-11): HMAC-SHA256 over id, timestamp
and raw body, with a secret that begins with whsec_. Kling signs so; MuleRouter's secrets are of this form."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

from klingflow.providers.base import WebhookRefused

WINDOW_S = 300
"""Seconds that an event's time may be off, either way; Standard Webhooks, and Kling docs, callbacks."""
SIGNATURES = 8
"""Signatures of one event that are compared: several are sent while a secret is being changed."""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> None:
    """Raises WebhookRefused unless the secret signed this body not long ago."""
    given = {header.lower(): value for header, value in headers.items()}
    event, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    try:
        raw = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        raise WebhookRefused("no webhook secret of the form whsec_… is set")
    if not event or len(event) > 200 or not event.isascii():
        raise WebhookRefused("the event has no id")
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise WebhookRefused("the timestamp is not a number of seconds")
    expected = base64.b64encode(hmac.new(raw, f"{event}.{stamp}.".encode() + body, hashlib.sha256).digest())
    signatures = [part[3:] for part in given.get("webhook-signature", "").split(" ") if part.startswith("v1,")]
    if not any(hmac.compare_digest(expected, one.encode("utf-8", "replace")) for one in signatures[:SIGNATURES]):
        raise WebhookRefused("the signature does not fit")
    if abs(now_s - int(stamp)) > WINDOW_S:
        raise WebhookRefused(f"the timestamp is more than {WINDOW_S} s off")
