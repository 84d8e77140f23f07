"""The one redaction layer: everything that is printed, logged, recorded or reported passes through `redact`.

Two rules: what was registered as a secret never shows, in whatever form it is written; and what looks like a secret
(a bearer token, a webhook secret, an API key, a signature, a URL's user, query and fragment) never shows either,
registered or not. Knows no environment: whoever reads a secret registers it.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from urllib.parse import quote, quote_plus

MARK = "[redacted]"

_LEAST = 6
"""Shorter secrets are not looked for: they would blacken ordinary words."""

_forms: set[str] = set()
_known: re.Pattern[str] | None = None


def register(secret: str) -> None:
    """From now on this text never passes `redact`, nor do its URL-encoded, JSON-escaped and Base64 forms."""
    global _known
    secret = secret.strip()
    if len(secret) < _LEAST or secret in _forms:
        return
    _forms.update({secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]})
    _forms.update(_base64(secret.encode()))
    # The longest first: a form may begin with another one.
    _known = re.compile("|".join(re.escape(form) for form in sorted(_forms, key=len, reverse=True)))


def _base64(secret: bytes) -> set[str]:
    """The secret inside Base64 text at each of its three alignments ("user:secret" shifts it), without the
    characters at the borders, which depend on what is beside it."""
    out = set()
    for shift in range(3):
        text = b2a_base64(b"\0" * shift + secret, newline=False).decode().rstrip("=")
        inner = text[(shift * 8 + 5) // 6 : len(text) - (1 if (shift + len(secret)) % 3 else 0)]
        if len(inner) >= _LEAST:
            out |= {inner, inner.replace("+", "-").replace("/", "_")}
    return out


# One look tells clean text, which is nearly all text, from text worth the substitutions.
_SUSPECT = re.compile(r"://|bearer|authorization|whsec_|sk-|akia|asia|signature|credential|security-token|sig=", re.I)

# A URL in apostrophes ends at the apostrophe, any other may hold one.
_URL = re.compile(r"""(?<=')[a-z][a-z0-9+.-]*://[^\s"'<>`]+|\b[a-z][a-z0-9+.-]*://(?:[^\s"<>`\\]|\\(?!["']))+""", re.I)

_RULES = (
    (re.compile(r"""(authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|key)\s+)?)[^\s"',;]+""", re.I), rf"\1{MARK}"),
    (re.compile(r"(\bBearer\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{MARK}"),
    # Written small it may be a word of a prompt ("flag bearer marching"): then only with a digit in it.
    (re.compile(r"(\bbearer\s+)(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,}", re.I), rf"\1{MARK}"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), f"whsec_{MARK}"),
    (re.compile(r"\b((?:hi-)?sk-)(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{8,}"), rf"\1{MARK}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), MARK),
    (
        re.compile(
            r"""((?:x-(?:amz|goog)-(?:signature|credential|security-token)|x-[a-z]+-signature|(?:webhook-)?signature"""
            r"""|awsaccesskeyid|\bsig)(?:=|["']?:\s*["']?|["']\s*,\s*["']))[^\s&"'<>,;]+""",
            re.I,
        ),
        rf"\1{MARK}",
    ),
)


def redact(text: str) -> str:
    """The text without secrets: `Bearer [redacted]`, `https://host/path?…`. Doing it twice changes nothing more."""
    if _known is not None:
        text = _known.sub(MARK, text)
    if _SUSPECT.search(text) is None:
        return text
    text = _URL.sub(_strip, text)
    for pattern, shown in _RULES:
        text = pattern.sub(shown, text)
    return text


def _strip(match: re.Match[str]) -> str:
    scheme, _, rest = match.group().partition("://")
    cut = next((i for i, char in enumerate(rest) if char in "/?#"), len(rest))
    place, tail = rest[:cut].rpartition("@")[2], rest[cut:]
    for mark in "?#":
        path, found, _ = tail.partition(mark)
        if found:
            return f"{scheme}://{place}{path.partition('#')[0]}{mark}…"
    return f"{scheme}://{place}{tail}"
