"""The frames that a shot shows: files, URLs, frames of other shots' clips, and `{still: ID}`.

Frames reads what is written in one shot; Stills then replaces every `{still: ID}`, once the last frames of all shots
are known. Opens no image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from typing import cast as cast_to

from klingflow.core.address import is_inside, is_vouched
from klingflow.core.errors import KlingflowError
from klingflow.core.model import (
    Digest,
    Element,
    FileStill,
    FileVideo,
    Frame,
    Proposal,
    ShotFrame,
    ShotId,
    ShotVideo,
    UrlStill,
    Video,
)
from klingflow.core.source import Path, Severity
from klingflow.storyboard import paths
from klingflow.storyboard.storyboard_file import Data, Skip, StoryboardFile, each

MOST_RATE = 60
"""Frames a second that no clip of a provider exceeds: a frame before that is not there, whatever the rate will be."""


@dataclass(frozen=True, slots=True)
class StillOf:
    """`{still: ID}` before it is known what ID declares; `at` is where it was written."""

    shot: str
    at: Path


class Frames:
    """Reads the frames that shots show. `ids` are the shots that can be named, each with its index in `raws`.

    `unsure` are those of them that are at fault.
    `owner` is the id of the shot that shows the frame: it cannot refer to itself.
    """

    def __init__(
        self,
        file: StoryboardFile,
        raws: Sequence[Data],
        defaults: Data,
        ids: Mapping[str, int],
        unsure: Collection[str],
        cast: Mapping[str, Data],
    ) -> None:
        self.file = file
        self.raws = raws
        self.defaults = defaults
        self.ids = ids
        self.unsure = unsure
        self.cast = cast

    def frame(self, value: Any, context: dict[str, object], at: Path, owner: str) -> Frame | StillOf:
        if isinstance(value, str):
            text = self.file.text(value, context, at)
            if not paths.is_url(text):
                return FileStill(self.file.path(text, at))
            return self.unpinned(self.url(text, at), at)
        if "url" in value:
            url = self.url(self.file.text(value["url"], context, (*at, "url")), (*at, "url"))
            pinned = value.get("sha256")
            if not pinned:
                return self.unpinned(url, (*at, "url"))
            return UrlStill(url, Digest(self.file.text(pinned, context, (*at, "sha256")).lower()))
        if "still" in value:
            return StillOf(self.shot(value["still"], context, (*at, "still"), owner), (*at, "still"))
        shot = self.shot(value["shot"], context, (*at, "shot"), owner)
        return ShotFrame(shot, self.frame_name(value.get("frame", "last"), shot, context, (*at, "frame")))

    def end(self, value: Any, context: dict[str, object], at: Path, owner: str) -> Frame | StillOf:
        """A shot's first or last frame: a frame, or stills to choose one from."""
        if not isinstance(value, dict) or "stills" not in value:
            return self.frame(value, context, at, owner)
        role = str(at[-1])
        stills = each(value["stills"], (*at, "stills"), lambda one, at: self.proposed(one, context, at))
        if len(stills) < 2:
            mend = f"write {role}: {stills[0]}" if stills else "name two or more files"
            self.file.fault("stills", f"{role} of '{owner}' proposes nothing to choose from", mend, (*at, "stills"))
            raise Skip
        for i, still in enumerate(stills):
            if still in stills[:i]:
                what = f"{role} of '{owner}' proposes '{still}' twice"
                self.file.fault("stills", what, "remove one", (*at, "stills", i))
                raise Skip
        take = value.get("take")
        if take is None:
            return FileStill(stills[0], Proposal(ShotId(owner), role, stills))
        if take > len(stills):
            what = f"take {take} of {role} of '{owner}' is chosen, and {len(stills)} stills are proposed"
            self.file.fault("stills", what, f"choose one of 1 to {len(stills)}", (*at, "take"))
            raise Skip
        return FileStill(stills[take - 1], Proposal(ShotId(owner), role, stills, take))

    def proposed(self, value: str, context: dict[str, object], at: Path) -> str:
        text = self.file.text(value, context, at)
        if paths.is_url(text):
            self.file.fault("stills", "a proposed still is a file", "download it into the project", at)
            raise Skip
        return self.file.path(text, at)

    def url(self, text: str, at: Path) -> str:
        try:
            url = paths.https_url(text)
        except KlingflowError as exc:
            self.file.fault("url", exc.what, exc.mend, at)
            raise Skip from None
        host = paths.host(url)
        if is_inside(host) and not is_vouched(host, self.file.trusted):
            what = f"'{host}' is not a host on the public internet"
            self.file.fault("private-host", what, "name a public host, or keep the image in the project", at)
            raise Skip
        return url

    def unpinned(self, url: str, at: Path) -> UrlStill:
        """The image at a URL without a digest: a warning, once a URL."""
        if url not in self.file.unpinned:
            self.file.unpinned.add(url)
            what = "this image is not pinned: other bytes at its URL would change the shot without a change here"
            self.file.fault("unpinned-url", what, "write {url: …, sha256: …}", at, severity=Severity.WARNING)
        return UrlStill(url)

    def shot(self, value: str, context: dict[str, object], at: Path, owner: str) -> ShotId:
        name = self.file.text(value, context, at)
        if name not in self.ids:
            self.unknown(name, at)
            raise Skip
        if name == owner:
            if name not in self.unsure:
                self.file.fault("self-reference", f"'{name}' refers to itself", "name another shot", at)
            raise Skip
        return ShotId(name)

    def unknown(self, name: str, at: Path) -> None:
        """That there is no such shot. Where the ids of others are at fault, it may be one of theirs: nothing is said
        but for a slip of the pen."""
        known = [one for one in self.ids if not one.startswith("#")]
        mend = self.file.meant(name, known)
        if not self.unsure or mend.startswith("did you mean"):
            self.file.fault("unknown-shot", f"there is no shot '{name}'", mend, at)

    def frame_name(self, value: str | int, shot: ShotId, context: dict[str, object], at: Path) -> str:
        """ "last", "first", "-3" or "2.5s", each in one spelling, because it goes into a key."""
        text = self.file.text(value, context, at) if isinstance(value, str) else str(value)
        if text in ("last", "-1"):
            return "last"
        if text == "first":
            return text
        other = self.raws[self.ids[shot]]
        length = other.get("duration") or self.defaults.get("duration") or 5
        if re.fullmatch(r"-[1-9][0-9]{0,5}", text):
            if -int(text) > length * MOST_RATE and "clip" not in other:
                what = f"'{shot}' lasts {length} s: it has no frame {text}"
                self.file.fault("frame", what, "name a later frame, or `first`", at)
                raise Skip
            return text
        if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?s", text):
            seconds = Decimal(text[:-1])
            if seconds > length and "clip" not in other:
                what = f"'{shot}' lasts {length} s: it has no frame at {text}"
                self.file.fault("frame", what, "name an earlier time, or `last`", at)
                raise Skip
            return f"{seconds.normalize():f}s"
        mend = "write last, first, a negative number (-3 is the third from the end) or a time such as 2.5s"
        self.file.fault("frame", f"'{text}' names no frame", mend, at)
        raise Skip

    def elements(
        self, given: Sequence[Data] | Mapping[str, Data], context: dict[str, object], at: Path, owner: str
    ) -> tuple[Element, ...]:
        """The elements of a list, or of a mapping of names, in the order in which they are written."""
        if not isinstance(given, Mapping):
            return each(given, at, lambda one, at: self.listed(one, context, at, owner))
        return each(list(given), at, lambda name, _: self.element(given[name], context, (*at, name), owner, name))

    def listed(self, value: str | Data, context: dict[str, object], at: Path, owner: str) -> Element:
        """An element by its name in the cast, or written out."""
        if not isinstance(value, str):
            return self.element(value, context, at, owner)
        if value not in self.cast:
            mend = self.file.meant(value, list(self.cast))
            self.file.fault("unknown-element", f"the cast has no '{value}'", mend, at)
            raise Skip
        if self.cast[value] is None:
            raise Skip  # the schema has reported it
        return self.element(self.cast[value], context, ("cast", value), owner, value)

    def element(
        self, value: Data, context: dict[str, object], at: Path, owner: str, name: str = ""
    ) -> Element:
        front = self.frame(value["frontal_image"], context, (*at, "frontal_image"), owner)
        others = value.get("reference_images", ())
        rest = each(others, (*at, "reference_images"), lambda one, at: self.frame(one, context, at, owner))
        return Element(cast_to(Frame, front), cast_to(tuple[Frame, ...], rest), name)


    def video(self, value: Any, context: dict[str, object], at: Path, owner: str) -> Video:
        """A reference video, as a shot writes it."""
        if isinstance(value, str):
            text = self.file.text(value, context, at)
            if not paths.is_url(text):
                return FileVideo(self.file.path(text, at))
            return self.unpinned(self.url(text, at), at)
        if "url" in value:
            made = self.frame(value, context, at, owner)
            assert isinstance(made, UrlStill)
            return made
        shot = self.shot(value["shot"], context, (*at, "shot"), owner)
        return ShotVideo(shot, self.seconds(value.get("last"), shot, (*at, "last")))

    def seconds(self, text: str | None, shot: str, at: Path) -> int | None:
        """Whole seconds at the end of a shot's clip. Raises Skip where it does not last so long."""
        if text is None:
            return None
        seconds = int(text[:-1])
        other = self.raws[self.ids[shot]]
        length = other.get("duration") or self.defaults.get("duration") or 5
        if seconds > length and "clip" not in other:
            self.file.fault("seconds", f"'{shot}' lasts {length} s: it has no last {seconds} s", "name fewer", at)
            raise Skip
        return seconds


class Stills:
    """What shots declare as their last frames, through any number of stills of stills."""

    def __init__(self, file: StoryboardFile, last: Mapping[str, Any], faulty: Collection[str]) -> None:
        self.file = file
        self.last = last
        self.faulty = faulty
        self.known: dict[str, Frame | None] = {}

    def put_into(self, fields: dict[str, Any]) -> set[str]:
        """Replaces each StillOf in the fields of a shot; returns the names of those where one has no frame."""
        lacking = set()
        for role in ("first_frame", "last_frame"):
            if isinstance(fields.get(role), StillOf):
                fields[role] = self.of(fields[role])
                lacking |= {role} if fields[role] is None else set()
        if "images" in fields:
            found = self.each(fields["images"])
            lacking |= {"images"} if len(found) < len(fields["images"]) else set()
            fields["images"] = found
        if "elements" in fields:
            elements = tuple(
                Element(front, self.each(element.reference_images), element.name)
                for element in fields["elements"]
                for front in self.each([element.frontal_image])
            )
            lacking |= {"elements"} if _count(elements) < _count(fields["elements"]) else set()
            fields["elements"] = elements
        return lacking

    def each(self, frames: Iterable[Any]) -> tuple[Frame, ...]:
        found = [self.of(frame) if isinstance(frame, StillOf) else frame for frame in frames]
        return tuple(frame for frame in found if frame is not None)

    def of(self, wanted: StillOf) -> Frame | None:
        """The frame; None where there is none, and then its fault is noted."""
        path: dict[str, Path] = {}  # the shots on the way, each with the place that refers to it
        while wanted.shot not in self.known:
            if wanted.shot in path:
                names = list(path)
                circle = " -> ".join([*names[names.index(wanted.shot) :], wanted.shot])
                what = f"these stills refer to each other: {circle}"
                self.file.fault("still-cycle", what, "give one of them a file or a URL", wanted.at)
                self.known[wanted.shot] = None
                break
            path[wanted.shot] = wanted.at
            frame = self.last[wanted.shot]
            if not isinstance(frame, StillOf):
                self.known[wanted.shot] = frame
                break
            wanted = frame
        found = self.known[wanted.shot]
        for name in path:
            self.known[name] = found
        if self.last[wanted.shot] is None and wanted.shot not in self.faulty:
            what = f"'{wanted.shot}' declares no last_frame to begin with"
            mend = f"give '{wanted.shot}' a last_frame, or continue it: continues: {wanted.shot}"
            self.file.fault("no-still", what, mend, wanted.at)
        return found


def _count(elements: Iterable[Any]) -> int:
    return sum(1 + len(element.reference_images) for element in elements)
