"""When two shots are the same purchase: the parts of a key, its hash, and what changed between two of them.

`parts` alone lists what goes in. `key` hashes that list, `explain` compares two of them, and `brief` shortens
one for the lock: so the reason that a plan gives can never disagree with the cache.

Not in a key: ids, titles, notes, order, tags, the provider, prices, limits and output settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import rfc8785

from klingflow.core.model import (
    ANIMATIC,
    Digest,
    FileStill,
    FileVideo,
    Frame,
    ImageFacts,
    Key,
    Shot,
    ShotFrame,
    ShotId,
    ShotVideo,
    UrlStill,
    Video,
)

RECIPE = 1
"""Raised only when the meaning of a part changes. Raising it buys every clip in the world again."""

DRAWING = 3
"""A part of the keys of the animatic's clips alone: raised when it draws the same shot otherwise. They are free."""


def parts(
    shot: Shot,
    model: str,
    stills: Mapping[str, ImageFacts],
    clips: Mapping[ShotId, Digest],
    files: Mapping[str, Digest],
) -> dict[str, object] | None:
    """The parts of the key of one shot's active take; None while a clip that it needs is not known.

    `model` is the neutral model name; `stills` are the project's images by path, `clips` the clips of the other
    shots, `files` the digests of clips and videos of one's own by path. Empty fields are left out, so that a field
    which is added to the format later changes no key that does not use it.
    """
    if shot.clip is not None:
        return {"recipe": RECIPE, "clip": files[shot.clip]}
    out: dict[str, object] = {
        "recipe": RECIPE,
        "model": model,
        "duration": shot.duration,
        "resolution": shot.resolution,
        "sound": shot.sound,
    }
    if model == ANIMATIC:
        out["drawing"] = DRAWING
    for name, text in (("prompt", shot.prompt), ("negative_prompt", shot.negative_prompt)):
        if text:
            out[name] = text
    if shot.aspect_ratio:
        out["aspect_ratio"] = shot.aspect_ratio
    if shot.multi_shot:
        out["multi_shot"] = {
            "by": shot.multi_shot.by,
            "shots": [{"prompt": prompt, "duration": seconds} for prompt, seconds in shot.multi_shot.shots],
        }
    for role, frame in shot.frames():
        part = _frame(frame, stills, clips)
        if part is None:
            return None
        out[role] = part
    for i, video in enumerate(shot.videos):
        part = _video(video, files, clips)
        if part is None:
            return None
        out[f"videos.{i}"] = part
    if shot.take != 1:
        out["take"] = shot.take
    return out


def _frame(frame: Frame, stills: Mapping[str, ImageFacts], clips: Mapping[ShotId, Digest]) -> dict[str, object] | None:
    match frame:
        case FileStill(path):
            return {"sha256": stills[path].digest}
        case UrlStill(url, digest):
            return {"sha256": digest} if digest else {"url": url}
        case ShotFrame(shot, name):
            return {"clip": clips[shot], "frame": name} if shot in clips else None


def frame_brief(frame: Frame, stills: Mapping[str, ImageFacts], clips: Mapping[ShotId, Digest]) -> str | None:
    """A frame as `brief` has it in a lock; None while its clip, or its file, is not known."""
    if isinstance(frame, FileStill) and frame.path not in stills:
        return None
    part = _frame(frame, stills, clips)
    return None if part is None else str(brief({"frame": part})["frame"])


def _video(video: Video, files: Mapping[str, Digest], clips: Mapping[ShotId, Digest]) -> dict[str, object] | None:
    match video:
        case FileVideo(path):
            return {"sha256": files[path]}
        case UrlStill(url, digest):
            return {"sha256": digest} if digest else {"url": url}
        case ShotVideo(shot, last_s):
            if shot not in clips:
                return None
            return {"clip": clips[shot]} if last_s is None else {"clip": clips[shot], "last_s": last_s}


def canonical(value: object) -> bytes:
    """RFC 8785 canonical JSON: the one way of writing a value that is hashed or sent."""
    if _plain(value):
        with suppress(UnicodeEncodeError):  # a lone surrogate: rfc8785 refuses it with its own error
            return _PLAIN_JSON.encode(value).encode()
    return rfc8785.dumps(value)  # type: ignore[arg-type]


_PLAIN_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _plain(value: object) -> bool:
    """Whether the standard library, which is ten times as fast, writes the value as RFC 8785 does: no float, no number
    that a JavaScript reader would round, and names whose order is the same in UTF-8 and UTF-16."""
    kind = type(value)
    if kind is str or kind is bool:
        return True
    if kind is int:
        return -(2**53) < value < 2**53  # type: ignore[operator]
    if kind is dict:
        return all(type(name) is str and name.isascii() and _plain(inner) for name, inner in value.items())  # type: ignore[attr-defined]
    return kind is list and all(map(_plain, value))  # type: ignore[call-overload]


def key(listed: Mapping[str, object]) -> Key:
    return Key(hashlib.sha256(canonical(dict(listed))).hexdigest())


def of_bytes(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def brief(listed: Mapping[str, object]) -> dict[str, str | int | bool]:
    """The parts short enough for a lock: scalars as they are, texts and lists by 12 digits of their digest."""
    out: dict[str, str | int | bool] = {}
    for name in sorted(listed):
        value = listed[name]
        if isinstance(value, bool | int) or (isinstance(value, str) and name in _SHORT):
            out[name] = value
        elif isinstance(value, dict) and "sha256" in value:
            out[name] = str(value["sha256"])[:12]
        elif isinstance(value, dict) and "clip" in value:
            out[name] = _readable(value)
        else:
            out[name] = hashlib.sha256(canonical(value)).hexdigest()[:12]
    return out


_SHORT = frozenset({"model", "resolution", "aspect_ratio"})


@dataclass(frozen=True, slots=True)
class PartChange:
    """One part of the key that differs. `old` and `new` are readable texts; empty where unknown or absent."""

    field: str
    old: str
    new: str


def explain(
    old_brief: Mapping[str, str | int | bool], new: Mapping[str, object], old: Mapping[str, object] | None = None
) -> tuple[PartChange, ...]:
    """What differs between a purchase that was made and the one wanted now, part by part, in name order.

    `old_brief` is what the lock kept, `old` the whole parts where the store still has them (then texts are shown).
    """
    new_brief = brief(new)
    out = []
    another_model = old_brief.get("model") != new_brief.get("model")
    for name in sorted({*old_brief, *new_brief}):
        if old_brief.get(name) == new_brief.get(name) or (name == "drawing" and another_model):
            continue
        before = _readable(old[name]) if old is not None and name in old else _readable(old_brief.get(name, ""))
        hidden = old is None and name in old_brief and name not in _SHORT and isinstance(old_brief[name], str)
        out.append(PartChange(name, "" if hidden and name in _TEXTS else before, _readable(new.get(name, ""))))
    return tuple(out)


_TEXTS = frozenset({"prompt", "negative_prompt", "multi_shot"})


def _readable(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case {"sha256": str(digest)}:
            return digest[:12]
        case {"clip": str(clip), "frame": str(name)}:
            return f"{name} of {clip[:12]}"
        case {"clip": str(clip), "last_s": int(seconds)}:
            return f"last {seconds} s of {clip[:12]}"
        case {"clip": str(clip)}:
            return clip[:12]
        case str() | int():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
