"""The film as a timeline for editing programs, and an edited timeline that came back: values, and what every format of
them needs. The formats are output.otio, output.fcpxml and output.edl.

Frames are counted from 0, an `end` is the one after. A timeline begins at 01:00:00:00, as editors expect. What an
editor's program drops on its way (metadata, in EDL and FCPXML) is in the names of markers: shot, take, key and tags.
Pure: opens no file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from urllib.parse import unquote, urlsplit

from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import ClipFacts, Digest, Film, Key, Shot, ShotId
from klingflow.output.cutting import Clip as Known
from klingflow.output.cutting import Shown

HOUR_S = 3600
"""Where a timeline begins, in seconds of its timecode."""
KEY_SHOWN = 12
"""Digits of a key in a marker's name."""
SCENE_COLOURS = ("CYAN", "GREEN", "YELLOW", "BLUE", "MAGENTA")
"""Of markers, by scene, for those in turn that have a tag. Names that OTIO and Avid's markers in an EDL share."""
NO_SCENE, NOT_MADE = "WHITE", "RED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """The file of a clip."""

    path: str
    """From the folder of the timeline's file, with forward slashes."""
    frames: int
    rate: Fraction
    """Frames a second."""
    width: int
    height: int
    audio: bool

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One place of the film."""

    shot: str
    take: int
    key: Key | None = None
    digest: Digest | None = None
    title: str = ""
    tags: tuple[str, ...] = ()
    media: Media | None
    """None where the shot is not made: a gap of the ordered length."""
    source: Fraction = Fraction(0)
    """Where in the media it begins, in frames of the media; whole but where its frames stand at unequal distances."""
    start: int
    """The frame of the timeline at which it begins."""
    frames: int
    """How many frames of the timeline it lasts."""

    @property
    def label(self) -> str:
        """The name of its marker: `harbour take 2 key 51ab12cd3344 #night`."""
        key = f" key {self.key[:KEY_SHOWN]}" if self.key else ""
        tags = "".join(f" #{tag}" for tag in self.tags)
        return f"{self.shot} take {self.take}{key}{'' if self.media else NONE_YET}{tags}"


NONE_YET = ", not made"
_LABEL = re.compile(rf"(?P<shot>[a-z0-9][a-z0-9_-]*) take (?P<take>[0-9]+)(?: key [0-9a-f]+)?(?P<none>{NONE_YET})?")


def read_label(text: str) -> tuple[str, int, bool] | None:
    """Shot, take and whether the shot was made, of a marker's name; None of any other text."""
    found = _LABEL.match(text)
    return (found["shot"], int(found["take"]), not found["none"]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """The music under the film."""

    path: str
    """As Media.path."""
    seconds: Fraction

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Neighbours of the film that share their first tag."""

    name: str
    start: int
    frames: int
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A film as an editor sees it."""

    name: str
    rate: Fraction
    size: tuple[int, int]
    clips: tuple[Clip, ...]
    bed: Bed | None = None

    @property
    def frames(self) -> int:
        return sum(clip.frames for clip in self.clips)

    @property
    def audio(self) -> bool:
        """Whether a clip has sound."""
        return any(clip.media is not None and clip.media.audio for clip in self.clips)

    def colour(self, clip: Clip) -> str:
        """Of its marker: red where it is not made, else that of its scene."""
        if clip.media is None:
            return NOT_MADE
        names = list(dict.fromkeys(each.tags[0] for each in self.clips if each.tags))
        return SCENE_COLOURS[names.index(clip.tags[0]) % len(SCENE_COLOURS)] if clip.tags else NO_SCENE

    def scenes(self) -> tuple[Scene, ...]:
        out: list[Scene] = []
        name = ""
        names = list(dict.fromkeys(clip.tags[0] for clip in self.clips if clip.tags))
        for clip in self.clips:
            before, name = name, clip.tags[0] if clip.tags else ""
            if name and name == before:
                last = out.pop()
                out.append(Scene(name=name, start=last.start, frames=last.frames + clip.frames, colour=last.colour))
            elif name:
                colour = SCENE_COLOURS[names.index(name) % len(SCENE_COLOURS)]
                out.append(Scene(name=name, start=clip.start, frames=clip.frames, colour=colour))
        return tuple(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The clip of a shot, and the file that it was delivered to."""

    take: int
    key: Key | None
    clip: Known
    path: str
    """As Media.path."""


def laid_out(
    film: Film,
    shown: Sequence[Shown],
    sources: Mapping[ShotId, Source],
    *,
    rate: Fraction,
    size: tuple[int, int],
    bed: Bed | None,
) -> Timeline:
    """The film as a timeline: what it shows, of the clips that are there. A shot without one is a gap."""
    shots = film.by_id()
    clips = []
    for one in shown:
        shot, source = shots[one.shot], sources.get(one.shot)
        clips.append(
            Clip(
                shot=shot.id,
                take=source.take if source else shot.take,
                key=source.key if source else None,
                digest=source.clip.facts.digest if source else None,
                title=shot.title,
                tags=shot.tags,
                media=_media(source.path, source.clip) if source else None,
                source=source_frame(source.clip, one.first) if source else Fraction(0),
                start=one.film_start,
                frames=len(one.picks),
            )
        )
    return Timeline(name=film.label, rate=rate, size=size, clips=tuple(clips), bed=bed)


def stand_in(shot: Shot, rate: Fraction) -> Known:
    """What stands for the clip of a shot that is not made: as long as it was ordered, in frames of the film."""
    frames = round(shot.duration * rate)
    facts = ClipFacts(
        digest=Digest(""), bytes=0, width=0, height=0, frames=frames, duration="", rate=str(rate), audio=False
    )
    return Known(facts=facts, times=FrameTimes.steady(frames, rate))


def _media(path: str, clip: Known) -> Media:
    facts: ClipFacts = clip.facts
    return Media(
        path=path,
        frames=len(clip.times.begins),
        rate=clip.times.rate,
        width=facts.width,
        height=facts.height,
        audio=facts.audio,
    )


def moved(timeline: Timeline, folder: str) -> Timeline:
    """The same timeline in a file that lies elsewhere: `folder` is the film's own, as seen from there."""

    def path(text: str) -> str:
        return posixpath.normpath(posixpath.join(folder, text))

    clips = tuple(
        replace(clip, media=replace(clip.media, path=path(clip.media.path))) if clip.media else clip
        for clip in timeline.clips
    )
    bed = replace(timeline.bed, path=path(timeline.bed.path)) if timeline.bed else None
    return replace(timeline, clips=clips, bed=bed)


def source_frame(clip: Known, frame: int) -> Fraction:
    """Where a frame begins, in frames of the clip's rate: its own number, where frames stand at equal distance."""
    times = clip.times
    if times.is_steady(times.rate):
        return Fraction(frame)
    return (times.begins[frame] - times.begins[0]) * times.base * times.rate


# -- an edited one ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What stands at one place of an edited timeline's picture track, or of its sound. Times are in seconds."""

    at: Fraction
    """From the timeline's beginning."""
    seconds: Fraction
    name: str
    media: str | None = None
    """The file, as the timeline names it: a path or a URL. None for a gap, and where it names none."""
    start: Fraction = Fraction(0)
    """Where in the media it begins, from the media's first frame."""
    labels: tuple[str, ...] = ()
    """The names of its markers."""
    gap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Something on an edited timeline that a storyboard cannot say."""

    at: Fraction
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A timeline that came back from an editor."""

    name: str = ""
    rate: Fraction
    """What its times are counted in, for messages."""
    picture: tuple[Item, ...]
    sounds: tuple[Item, ...] = ()
    lost: tuple[Lost, ...] = ()
    coarse: bool = False
    """Whether sources are counted in the film's frames, also those of another rate."""
    sound_apart: bool = False
    """Whether the sound of a clip is an item of its own."""


# -- time -------------------------------------------------------------------------------------------------------------


def nominal(rate: Fraction) -> int:
    """What timecode counts to in a second: 24 for 24000/1001 a second."""
    return max(1, round(rate))


def timecode(frame: int, rate: Fraction) -> str:
    """`01:00:12:05`, without dropped numbers."""
    fps = nominal(rate)
    seconds, rest = divmod(frame, fps)
    return f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"


def start_frame(rate: Fraction) -> int:
    """The number that timecode gives the first frame of a timeline."""
    return HOUR_S * nominal(rate)


def place(at: Fraction, rate: Fraction) -> str:
    """Where something is on a timeline, as an editor's program shows it."""
    return timecode(start_frame(rate) + round(at * rate), rate)


def exact_rate(rate: float) -> Fraction:
    """Frames a second as files write them (24, 23.976, 29.97003) as what they mean. Raises ValueError."""
    whole = round(rate)
    if rate <= 0:
        raise ValueError(f"{rate} is no number of frames a second")
    if whole >= 1 and abs(rate - whole) < 1e-4:
        return Fraction(whole)
    if whole >= 1 and abs(rate - whole * 1000 / 1001) < 0.005:
        return Fraction(whole * 1000, 1001)
    return Fraction(rate).limit_denominator(1001)


def path_of(url: str) -> str:
    """A media reference as a path: editors write plain paths and URLs."""
    return unquote(urlsplit(url).path) if "://" in url or "%" in url else url


def one_line(text: str) -> str:
    """Text of a storyboard in one line of a text file."""
    return " ".join(text.split())


def reels(names: Iterable[str]) -> dict[str, str]:
    """A tape's name for each: eight capitals and digits, which the oldest readers of an EDL take; no two alike."""
    out: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = re.sub(r"[^A-Z0-9]", "", name.upper()) or "CLIP"
        reel, n = plain[:8], 1
        while reel in (*out.values(), "BL", "AX"):  # black, and a tape without a name
            n += 1
            reel = f"{plain[: 8 - len(str(n))]}{n}"
        out[name] = reel
    return out


def gaps_filled(items: Sequence[Item]) -> tuple[Item, ...]:
    """The items in the order of time, with a gap wherever nothing stands for a thousandth of a second or more."""
    out: list[Item] = []
    end = Fraction(0)
    for item in sorted(items, key=lambda item: item.at):
        if item.at - end > Fraction(1, 1000):
            out.append(Item(at=end, seconds=item.at - end, name="", gap=True))
        out.append(item)
        end = max(end, item.at + item.seconds)
    return tuple(out)
