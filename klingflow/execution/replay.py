"""Whether a recorded request is the one that the order asks for today.

A record is evidence, never an instruction: what is sent again is rebuilt from the order, and the recorded bytes are
sent only where they are that very request. One thing may differ: the query of a URL under which klingflow itself
publishes a frame, because a presigned URL has another signature each time and the provider wants the first bytes again.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from klingflow.providers.base import Request


def recorded(intent: Mapping[str, object], rebuilt: Request, published: Collection[str]) -> Request | list[str]:
    """The request to send again, with the recorded bytes; or the names of what differs.

    `published` are the texts that stand for images in the rebuilt request.
    """
    body = _body(intent)
    differs = [
        name
        for name, here in (("method", rebuilt.method), ("path", rebuilt.path), ("headers", dict(rebuilt.headers)))
        if intent.get(name) != here
    ]
    if body is None:
        differs.append("body")
    elif body != rebuilt.body:
        differs += _fields(body, rebuilt.body or b"", published)
    if differs or body is None:
        return differs
    return replace(rebuilt, body=body)


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
    if json.dumps(old) == json.dumps(new):
        return ["body"]  # the same values in other bytes: not what klingflow writes
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
