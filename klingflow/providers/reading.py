"""Reads the answers of a web API, which may be anything: junk, a gateway's page, forgeries.

Shared by all providers. Nothing here raises: what cannot be read is None or empty.
Knows no provider's words; those are in the provider's own module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

from klingflow.core.model import TaskId, task_id
from klingflow.core.redact import redact
from klingflow.providers.base import Answer, Busy, FailureClass, Refused, Submitted

Object = dict[str, object]

STOPPED = frozenset({"cancelled", "canceled", "error"})
"""Status words of a task that has ended without a clip, beside each provider's own; HiAPI's own tools, read 2026-11.
Whatever code comes with them, they are no failure that a new order is documented to help against."""


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An error as the answer reports it; both empty where it reports none."""

    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.message and self.code else self.message or self.code


def parsed(body: bytes) -> Object | None:
    """The JSON object that the body is, or None."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_page(body: bytes) -> bool:
    """True for HTML and XML: the answer is of something in front of the API, not of the API."""
    return body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def field(value: object, name: str) -> Object:
    """The object under a name; empty where there is none."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def text(value: object, most: int = 500) -> str:
    """A scalar as one printable line that any file and terminal can take."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    line = str(value) if isinstance(value, str) or abs(value) < 10**18 else "a very large number"
    line = line.encode("utf-8", "replace").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in line[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


RAW_CHARS = 4096


def raw(answer: Answer) -> str:
    """The answer's body as text for the record: redacted, then cut to `RAW_CHARS`."""
    return redact(answer.body.decode("utf-8", "replace"))[:RAW_CHARS]


def number(value: object) -> int | None:
    """A status number, also when it came as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else None


def task(value: Object | None, *names: str) -> TaskId | None:
    """The first task id under these names. The documented shapes are narrow (HiAPI: tk-hiapi- and 26 characters,
    MuleRouter: a UUID), but a paid id is not thrown away for its shape."""
    return next(filter(None, (task_id(value.get(name)) for name in names)), None) if value else None


def step(task: TaskId) -> str:
    """A task id as one step of a URL's path."""
    encoded = quote(task, safe="")
    return encoded.replace(".", "%2E") if task in (".", "..") else encoded


def with_raw(said: Submitted, answer: Answer) -> Submitted:
    """What an answer to an order means, with the answer's text for the record."""
    return said if isinstance(said, Busy) else replace(said, raw=raw(answer))


def url(value: object) -> str | None:
    """A web address as an answer gives it. Whether it may be fetched is for the client to say."""
    if not isinstance(value, str) or len(value) > 8192:
        return None
    return value if re.fullmatch(r"https?://[^\s/?#]+[^\s\x00-\x1f]*", value, re.IGNORECASE) else None


_VIDEO = r"\.(mp4|m4v|mov|webm|mkv)$"
_OTHER = r"\.(jpe?g|png|webp|gif|bmp|svg|avif|heic|mp3|m4a|wav|aac|ogg|flac|json|txt|vtt|srt|zip|html)$"
_CONTENT_TYPES = ("content_type", "contentType", "mime_type", "mimeType", "mime")


def clip(output: object) -> Object | None:
    """The item of a task's output that is its clip, always with a usable `url`; None where that is not certain.

    An item that is something else by type, content type or extension, such as a cover, is never taken. Of the others
    the first of type video, else the first that is one by content type or extension, else the only one.
    """
    items = output if isinstance(output, list) else [output]
    found = [item if isinstance(item, dict) else {"url": item} for item in items]
    found = [item for item in found if url(item.get("url")) is not None and _is_video(item) is not False]
    by_type = [item for item in found if text(item.get("type")).lower() == "video"]
    by_looks = [item for item in found if _is_video(item)]
    only = found if len(found) == 1 else []
    return next(iter(by_type + by_looks + only), None)


def _is_video(item: Object) -> bool | None:
    """What an item's type, content type and the end of its address say; None where they say nothing."""
    kind = text(item.get("type")).lower()
    path = re.split("[?#]", str(item["url"]), maxsplit=1)[0].lower()
    if kind in _NO_VIDEO or re.search(_OTHER, path):
        return False
    for said in (kind, *(text(item.get(name)).lower() for name in _CONTENT_TYPES)):
        if said.startswith(("image/", "audio/", "text/")):
            return False
        if said == "video" or said.startswith("video/"):
            return True
    return True if re.search(_VIDEO, path) else None


_NO_VIDEO = frozenset({"image", "audio", "first_frame", "last_frame", "thumbnail", "cover"})
"""Types beside `video`; HiAPI docs, task detail, read 2026-11, which call the set open. `cover` is in no document."""


RETRY_AFTER = (1.0, 900.0)
"""Seconds: a wait that an answer asks for is clamped to this range."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that the answer asks for, in seconds; None where it asks for none that makes sense.

    A date is measured against the answer's own Date, so that no clock of ours matters.
    """
    asked = headers.get("retry-after", "").strip()
    seconds: float | None = None
    if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,9})?([eE]\+?[0-9]{1,2})?", asked):
        seconds = float(asked)
    else:
        until, now = _http_date(asked), _http_date(headers.get("date", "").strip())
        if until is not None and now is not None:
            seconds = (until - now).total_seconds()
    return None if seconds is None else min(max(seconds, RETRY_AFTER[0]), RETRY_AFTER[1])


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = (
    rf"[A-Z][a-z]{{2}}, ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) ([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}}) GMT"
)


def _http_date(value: str) -> datetime | None:
    # email.utils would read it too, but it brings sockets and the locale with it.
    found = re.fullmatch(_DATE, value)
    if not found:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None


# Texts, not compiled patterns: a check or a plan imports this and reads no answer.
_MODERATED = (
    r"moderat(ion|ed|or)|nsfw|censor|inappropriate|\bsafety\b|(?<!case[- ])\bsensitive\b|risk control"
    r"|prohibited (content|word|term|material|subject|image|prompt)"
    r"|(prompt|content|image)s? (is|are|was|were) prohibited"
    r"|\bcontent (policy|security|violation|filter|error|review|check|risk|blocked)"
    r"|(content|usage|platform|community) (polic|guideline)|(illegal|harmful|unsafe|blocked) content"
    r"|(prompt|content|image|polic|terms|guideline)\w*\W+(\w+\W+){0,3}violat"
    r"|violat\w*\W+(\w+\W+){0,4}(polic|terms|guideline|content|rules)"
    r"|reject\w* (the|your|this) (prompt|content|image)|审核|敏感|违规"
)
_BROKE = (
    r"insufficient (\w+ ){0,2}(balance|quota|credit|fund|amount)|not enough (\w+ ){0,2}(balance|credit|fund)"
    r"|余额不足|欠费"
)
_QUOTA = (
    r"\bbalance\b|spend(ing)? (limit|cap)|arrears|top[ -]?up|recharge|\bcredits?\b|payment required"
    r"|(daily|monthly) (quota|budget|spend)|(package|plan|quota) (is |has been )?(exhausted|used up|depleted)"
)
_QUOTA_MAYBE = r"\bquota|billing|(daily|monthly) limit|额度"
_RATE = r"\brate\b|too many|per (second|minute)|concurren|\b[qr]p[ms]\b|slow down|frequen"


def _words(reported: ErrorText) -> str:
    return re.sub(r"[_-]+", " ", f"{reported.code} ").lower() + reported.message.lower()


def moderated(reported: ErrorText) -> bool:
    return re.search(_MODERATED, _words(reported)) is not None


def quota(reported: ErrorText) -> bool:
    """No money or no allowance left, as against asking too fast: waiting a minute does not help."""
    words = _words(reported)
    surely = re.search(_BROKE, words) or re.search(_QUOTA, words)
    return bool(surely or (re.search(_QUOTA_MAYBE, words) and not re.search(_RATE, words)))


def refusal(answer: Answer, status: int, reported: ErrorText) -> Refused | None:
    """The definite refusal that an HTTP status is by itself, also from a gateway; None where it is none.

    `status` may differ from the answer's own: some APIs put the error inside an HTTP 200.
    Left out on purpose: 408, 409, 423, 425, 499 and every 5xx, after which the order may have been taken,
    and 303, which follows work that was done.
    """
    match status:
        case 301 | 302 | 307 | 308:
            return Refused(
                kind=FailureClass.UNAUTHORISED,
                code=f"HTTP {status}",
                message="the API's address answered with a redirect, and an order and its key are never sent on to "
                "another address",
            )
        case 401:
            kind = FailureClass.UNAUTHORISED
        case 402:
            kind = FailureClass.QUOTA
        case 403:
            kind = FailureClass.UNAUTHORISED
            kind = FailureClass.MODERATED if moderated(reported) else FailureClass.QUOTA if quota(reported) else kind
        case 429:
            kind = FailureClass.QUOTA if quota(reported) else FailureClass.THROTTLED
        case 451:
            kind = FailureClass.MODERATED
        case 400 | 404 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 422 | 431:
            kind = FailureClass.MODERATED if moderated(reported) else FailureClass.INVALID
            kind = FailureClass.QUOTA if re.search(_BROKE, _words(reported)) and kind is FailureClass.INVALID else kind
        case _:
            return None
    return Refused(
        kind=kind,
        code=reported.code or f"HTTP {status}",
        message=reported.message or _PLAIN.get(status, f"the API answered HTTP {status}"),
        retry_after=retry_after(answer.headers),
    )


_PLAIN = {
    401: "the key is missing, wrong or revoked",
    402: "the account's balance is too low",
    403: "the key lacks the permission for this",
    404: "the API does not know this path or model",
    413: "the request is too large",
    429: "too many requests",
    451: "refused for legal reasons",
}
