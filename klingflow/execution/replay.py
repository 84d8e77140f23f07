"""Whether a recorded request is the one that the order asks for today.

A record is evidence, never an instruction: what is sent again is rebuilt from the order, and the recorded bytes are
sent only where they are that very request. One thing may differ: the query of a URL under which klingflow itself
publishes a frame, because a presigned URL has another signature each time and the provider wants the first bytes again.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from klingflow.providers.base import Request

_QUERY = re.compile(rb"(\?[!#-\[\]-~]*)?")
"""A URL's query as it is in JSON: without a quote, a backslash, a space or a control character."""


def recorded(intent: Mapping[str, object], rebuilt: Request, published: Collection[str]) -> Request | list[str]:
    """The request to send again, with the recorded bytes; or the names of what differs, never none.

    `published` are the URLs in the rebuilt request under which klingflow publishes frames.
    """
    differs = [
        name
        for name, here in (("method", rebuilt.method), ("path", rebuilt.path), ("headers", dict(rebuilt.headers)))
        if intent.get(name) != here
    ]
    body, now = _body(intent), rebuilt.body or b""
    if body is None:
        return [*differs, "body"]
    if body != now and not _equal_but_for_queries(body, now, published):
        differs += _fields(body, now, published) or ["body"]  # the same values in other bytes are not ours either
    return differs or replace(rebuilt, body=body)


def _equal_but_for_queries(before: bytes, now: bytes, published: Collection[str]) -> bool:
    """Whether two bodies are the same bytes, but for the queries of published URLs."""
    if not published:
        return False
    urls = re.compile(b"|".join(re.escape(url.encode()) for url in sorted(published, key=len, reverse=True)))
    at = read = 0
    for url in urls.finditer(now):
        same = now[read : url.start()] + url.group().partition(b"?")[0]
        if not before.startswith(same, at):
            return False
        query = _QUERY.match(before, at + len(same))
        assert query is not None  # it matches nothing too
        at, read = query.end(), url.end()
    return before[at:] == now[read:]


def _body(intent: Mapping[str, object]) -> bytes | None:
    try:
        return base64.b64decode(str(intent.get("body")), validate=True)
    except (binascii.Error, ValueError):
        return None


def _fields(before: bytes, now: bytes, published: Collection[str]) -> list[str]:
    """The fields in which two bodies differ, but for the query of a published URL."""
    try:
        old, new = json.loads(before), json.loads(now)
    except (ValueError, RecursionError):
        return ["body"]
    return list(dict.fromkeys(_differing(old, new, "body", frozenset(published))))


def _differing(old: object, new: object, at: str, published: Collection[str]) -> Iterator[str]:
    match old, new:
        case dict(), dict():
            for name in sorted({*old, *new}):
                if name not in old or name not in new:
                    yield f"{at}.{name}"
                else:
                    yield from _differing(old[name], new[name], f"{at}.{name}", published)
        case list(), list() if len(old) == len(new):
            for left, right in zip(old, new, strict=True):
                yield from _differing(left, right, at, published)
        case str(), str() if new in published and old.partition("?")[0] == new.partition("?")[0]:
            return
        case _:
            if type(old) is not type(new) or old != new:
                yield at
