"""Timelines as CMX 3600 edit decision lists: one track of cuts in plain text, which every editing program reads.

All timecode is the film's, without dropped numbers: the record side begins at 01:00:00:00, each source at 00:00:00:00.
A clip of another rate is counted in the film's frames of its time. A shot that is not made is a stretch of black (reel
BL). A list has no room for paths and metadata: the file's name and path are in comments, shot, take and key in the name
of a marker (`* LOC:`) at the first frame of its event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from klingflow.core.errors import UsageError
from klingflow.output.timeline import (
    HOUR_S,
    NONE_YET,
    Clip,
    Edited,
    Item,
    Lost,
    Timeline,
    gaps_filled,
    nominal,
    one_line,
    reels,
    start_frame,
    timecode,
)

BLACK = "BL"

# -- writing ----------------------------------------------------------------------------------------------------------


def dump(timeline: Timeline) -> str:
    """The list's text."""
    rate, begin = timeline.rate, start_frame(timeline.rate)
    names = [clip.media.name for clip in timeline.clips if clip.media] + ([timeline.bed.name] if timeline.bed else [])
    reel = reels(name.rpartition(".")[0] for name in names)
    lines = [f"TITLE: {one_line(timeline.name)}", "FCM: NON-DROP FRAME", ""]

    def event(number: int, tape: str, channel: str, first: int, frames: int, start: int) -> str:
        times = (first, first + frames, begin + start, begin + start + frames)
        return f"{number:03d}  {tape:<8} {channel:<5} C        " + " ".join(timecode(each, rate) for each in times)

    for number, clip in enumerate(timeline.clips, 1):
        if clip.media is None:
            lines.append(event(number, BLACK, "V", 0, clip.frames, clip.start))
            lines.append(f"* FROM CLIP NAME: {clip.shot}{NONE_YET}")
        else:
            first = source_frame(clip, rate)
            channel = "B" if clip.media.audio else "V"
            lines.append(
                event(number, reel[clip.media.name.rpartition(".")[0]], channel, first, clip.frames, clip.start)
            )
            lines += [f"* FROM CLIP NAME: {clip.media.name}", f"* SOURCE FILE: {clip.media.path}"]
        lines.append(f"* LOC: {timecode(begin + clip.start, rate)} {timeline.colour(clip):<7} {one_line(clip.label)}")
    if timeline.bed is not None:
        frames = min(timeline.frames, timeline.bed.seconds * rate // 1)
        tape = reel[timeline.bed.name.rpartition(".")[0]]
        lines.append(event(len(timeline.clips) + 1, tape, "A2", 0, int(frames), 0))
        lines += [f"* FROM CLIP NAME: {timeline.bed.name}", f"* SOURCE FILE: {timeline.bed.path}"]
    return "\n".join(lines) + "\n"


def source_frame(clip: Clip, rate: Fraction) -> int:
    """The first frame of a clip, counted at the film's rate."""
    assert clip.media is not None
    return round(clip.source / clip.media.rate * rate)


# -- reading ----------------------------------------------------------------------------------------------------------

_EVENT = re.compile(
    r"^(?P<number>\d{1,6})\s+(?P<reel>\S+)\s+(?P<channel>\S+)\s+(?P<kind>C|D|W\d*|K\S*)\s+(?:(?P<length>\d+)\s+)?"
    + r"\s+".join(rf"(?P<{name}>\d\d[:;]\d\d[:;]\d\d[:;]\d\d)" for name in ("first", "end", "start", "stop"))
)
_NAME = re.compile(r"^\*\s*(?:FROM CLIP NAME|FROM CLIP|CLIP NAME):\s*(.+)$", re.IGNORECASE)
_TO = re.compile(r"^\*\s*TO CLIP NAME:\s*(.+)$", re.IGNORECASE)
_FILE = re.compile(r"^\*\s*(?:SOURCE FILE|FROM FILE):\s*(.+)$", re.IGNORECASE)
_MARKER = re.compile(r"^\*\s*LOC:\s*\S+\s+\w+\s+(.+)$", re.IGNORECASE)
_SPEED = re.compile(r"^M2\s", re.IGNORECASE)
_FROZEN = re.compile(r"^\*\s*FREEZE FRAME", re.IGNORECASE)
_EFFECT = re.compile(r"^\*\s*EFFECT NAME:\s*(.+)$", re.IGNORECASE)


@dataclass(slots=True)
class _Event:
    reel: str
    channel: str
    kind: str
    first: int
    end: int
    start: int
    stop: int
    names: list[str] = field(default_factory=list)
    to: str = ""
    file: str | None = None
    labels: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.to or (self.names[0] if self.names else self.reel)


def read(text: str, shown: str, rate: Fraction) -> Edited:
    """A list that came back; `rate` is the film's, since a list names none. Raises UsageError where it is none."""
    events = _events(text, rate)
    if not events:
        raise UsageError(f"{shown} is no edit decision list: no line of it is an event", "export it as CMX 3600")
    lost: list[Lost] = []
    begin = min(event.start for event in events) // start_frame(rate) * start_frame(rate)
    picture: list[Item] = []
    sounds: list[Item] = []
    for event in events:
        at = (event.start - begin) / rate
        if event.stop <= event.start:
            continue  # the first half of a dissolve
        if event.kind != "C":
            name = "dissolve" if event.kind == "D" else "wipe" if event.kind[0] == "W" else "key"
            lost.append(Lost(at=at, what=f"the transition to '{event.name}' ({name})"))
        for change in event.changes:
            lost.append(Lost(at=at, what=f"{change} on '{event.name}'"))
        length = event.stop - event.start
        if event.end - event.first != length and not event.changes and event.reel != BLACK:
            lost.append(Lost(at=at, what=f"the change of speed on '{event.name}'"))
        item = Item(
            at=at,
            seconds=length / rate,
            name="" if event.reel == BLACK and not event.names else event.name,
            media=None if event.reel == BLACK else event.file or event.name,
            start=event.first / rate,
            labels=tuple(event.labels),
            gap=event.reel == BLACK,
        )
        if event.channel in ("V", "V1") or event.channel == "B" or event.channel.endswith("/V"):
            picture.append(item)
        elif event.channel.startswith("V"):
            lost.append(Lost(at=at, what=f"'{event.name}' lies on the track '{event.channel}' above the picture"))
        elif not item.gap:
            sounds.append(item)
    return Edited(rate=rate, picture=gaps_filled(picture), sounds=tuple(sounds), lost=tuple(lost), coarse=True)


def _events(text: str, rate: Fraction) -> list[_Event]:
    out: list[_Event] = []
    for line in map(str.strip, text.splitlines()):
        found = _EVENT.match(line)
        if found:
            first, end, start, stop = (frame_of(found[name], rate) for name in ("first", "end", "start", "stop"))
            out.append(_Event(found["reel"], found["channel"], found["kind"], first, end, start, stop))
            continue
        if not out:
            continue
        last = out[-1]
        if found := _NAME.match(line):
            last.names.append(found[1])
        elif found := _TO.match(line):
            last.to = found[1]
        elif found := _FILE.match(line):
            last.file = found[1]
        elif found := _MARKER.match(line):
            last.labels.append(found[1])
        elif _FROZEN.match(line):
            last.changes.append("the freeze frame")
        elif _SPEED.match(line):
            last.changes.append("the change of speed")
        elif (found := _EFFECT.match(line)) and last.kind == "C":
            last.changes.append(f"the effect '{found[1]}'")
    return out


def frame_of(code: str, rate: Fraction) -> int:
    """The frame that a timecode names, from 00:00:00:00; one with `;` drops numbers (29.97 and 59.94 a second)."""
    hours, minutes, seconds, frames = map(int, re.split("[:;]", code))
    fps = nominal(rate)
    number = (hours * HOUR_S + minutes * 60 + seconds) * fps + frames
    if ";" not in code:
        return number
    whole = hours * 60 + minutes
    return number - fps // 15 * (whole - whole // 10)
