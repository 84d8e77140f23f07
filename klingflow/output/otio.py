"""Timelines as OpenTimelineIO's own files, which Resolve, Premiere, Avid and Hiero read. OpenTimelineIO is an extra, at
home here alone.

The picture is one track of clips and gaps; the sound of clips that have some is a second one, the music bed a third.
A clip's times are counted in its own frames. Where its rate is not the film's, its length is still a whole number of
the film's frames, so that every clip begins where it does in film.mp4. Scenes are markers of the whole timeline: a
nested sequence would have to be opened before a clip in it could be trimmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

from klingflow.core.errors import UsageError
from klingflow.output.timeline import (
    NONE_YET,
    Clip,
    Edited,
    Item,
    Lost,
    Timeline,
    exact_rate,
    gaps_filled,
    path_of,
    start_frame,
)

try:
    import opentimelineio as otio
    from opentimelineio import schema
    from opentimelineio.opentime import RationalTime, TimeRange
except ImportError:  # the extra is not installed
    otio = None


def _need() -> None:
    if otio is None:
        what = "OpenTimelineIO is not installed, which .otio files need"
        raise UsageError(what, "pip install 'klingflow[otio]'; or use .fcpxml or .edl")


# -- writing ----------------------------------------------------------------------------------------------------------


def dump(timeline: Timeline) -> str:
    """The file's text. Raises UsageError where OpenTimelineIO is not installed."""
    _need()
    rate = float(timeline.rate)
    made = schema.Timeline(timeline.name, global_start_time=RationalTime(start_frame(timeline.rate), rate))
    picture = schema.Track("picture", kind=schema.TrackKind.Video)
    picture.extend([_clip(timeline, clip) if clip.media else _gap(timeline, clip) for clip in timeline.clips])
    made.tracks.append(picture)
    if timeline.audio:
        sound = schema.Track("sound", kind=schema.TrackKind.Audio)
        heard = [clip.media is not None and clip.media.audio for clip in timeline.clips]
        sound.extend(
            [
                _clip(timeline, clip, marked=False) if has else schema.Gap(duration=RationalTime(clip.frames, rate))
                for clip, has in zip(timeline.clips, heard, strict=True)
            ]
        )
        made.tracks.append(sound)
    if timeline.bed is not None:
        music = schema.Track("music", kind=schema.TrackKind.Audio)
        frames = timeline.bed.seconds * timeline.rate
        music.append(
            schema.Clip(
                timeline.bed.name,
                schema.ExternalReference(quote(timeline.bed.path), _range(0, frames, rate)),
                _range(0, min(timeline.frames, frames // 1), rate),
            )
        )
        made.tracks.append(music)
    for scene in timeline.scenes():
        where = _range(scene.start, scene.frames, rate)
        made.tracks.markers.append(schema.Marker(f"scene {scene.name}", where, scene.colour))
    text: str = made.to_json_string(indent=2)
    return text + "\n"


def _range(start: Fraction | int, frames: Fraction | int, rate: float) -> TimeRange:
    return TimeRange(RationalTime(float(start), rate), RationalTime(float(frames), rate))


def _clip(timeline: Timeline, clip: Clip, marked: bool = True) -> schema.Clip:
    assert clip.media is not None
    own = clip.media.rate
    shown = _range(clip.source, clip.frames * own / timeline.rate, float(own))
    reference = schema.ExternalReference(quote(clip.media.path), _range(0, clip.media.frames, float(own)))
    reference.name = clip.media.name
    out = schema.Clip(clip.shot, reference, shown, metadata={"klingflow": _known(clip)})
    if marked:
        out.markers.append(schema.Marker(clip.label, _range(clip.source, 1, float(own)), timeline.colour(clip)))
    return out


def _gap(timeline: Timeline, clip: Clip) -> schema.Gap:
    rate = float(timeline.rate)
    out = schema.Gap(f"{clip.shot}{NONE_YET}", RationalTime(clip.frames, rate), metadata={"klingflow": _known(clip)})
    out.markers.append(schema.Marker(clip.label, _range(0, 1, rate), timeline.colour(clip)))
    return out


def _known(clip: Clip) -> dict[str, object]:
    known = {"shot": clip.shot, "take": clip.take, "key": clip.key, "clip": clip.digest, "title": clip.title}
    return {name: value for name, value in known.items() if value} | ({"tags": list(clip.tags)} if clip.tags else {})


# -- reading ----------------------------------------------------------------------------------------------------------


def read(file: Path) -> Edited:
    """A timeline that came back. Raises UsageError where it is none, or OpenTimelineIO is not installed."""
    _need()
    try:
        found = otio.adapters.read_from_file(str(file), adapter_name="otio_json")
        if isinstance(found, schema.Timeline):
            return _Reader(found).edited()
    except OSError as bad:
        raise UsageError(f"{file} cannot be read: {bad.strerror}", "name the edited timeline") from bad
    # OpenTimelineIO raises a KeyError for a missing field; times that are no numbers are found when they are used.
    except (otio.exceptions.OTIOError, LookupError, ValueError, ArithmeticError) as bad:
        why = re.sub(r" \(of type '[^']*'\)", "", str(bad).strip("\"'").partition("\n")[0])
        what = f"{file} is no OpenTimelineIO file: {why}"
        raise UsageError(what, "export it from the editing program anew") from None
    raise UsageError(f"{file} holds a {type(found).__name__}, not a timeline", "export the timeline itself as .otio")


class _Reader:
    def __init__(self, timeline: Any) -> None:
        self.timeline = timeline
        self.rate = _rate(timeline)
        self.lost: list[Lost] = []

    def edited(self) -> Edited:
        tracks = [track for track in self.timeline.tracks if isinstance(track, schema.Track)]
        videos = [track for track in tracks if track.kind == schema.TrackKind.Video and len(track)]
        pictures = [gaps_filled(list(self.items(track))) for track in videos]
        for track, items in zip(videos[1:], pictures[1:], strict=True):
            for item in items:
                if not item.gap:
                    self.lose(item.at, f"'{item.name}' lies on the track '{track.name}' above the picture")
        sounds: list[Item] = []
        for track in tracks:
            if track.kind != schema.TrackKind.Video:
                before = len(self.lost)
                sounds += [item for item in self.items(track) if not item.gap]
                self.lost[before:] = [Lost(at=one.at, what=f"in the sound, {one.what}") for one in self.lost[before:]]
        return Edited(
            name=str(self.timeline.name),
            rate=self.rate,
            picture=pictures[0] if pictures else (),
            sounds=tuple(sounds),
            lost=tuple(self.lost),
            sound_apart=True,
        )

    def lose(self, at: Fraction, what: str) -> None:
        self.lost.append(Lost(at=at, what=what))

    def items(self, track: Any) -> Iterator[Item]:
        for effect in filter(_changes, track.effects):
            self.lose(Fraction(0), f"the effect '{_title(effect)}' on the whole track '{track.name}'")
        at = Fraction(0)
        for child in track:
            if isinstance(child, schema.Transition):
                self.lose(at, f"the transition '{_title(child)}'")
                continue
            length = _seconds(child.duration())
            labels = tuple(str(marker.name) for marker in child.markers)
            for effect in filter(_changes, child.effects):
                kind = "the change of speed" if isinstance(effect, schema.TimeEffect) else "the effect"
                self.lose(at, f"{kind} '{_title(effect)}' on '{child.name}'")
            if isinstance(child, schema.Gap):
                yield Item(at=at, seconds=length, name=str(child.name), labels=labels, gap=True)
            elif isinstance(child, schema.Clip) and child.enabled:
                yield self.clip(child, at, length, labels)
            elif isinstance(child, schema.Clip):
                self.lose(at, f"'{child.name}' is switched off: it is left out")
            else:
                self.lose(at, f"'{child.name}' is a compound clip ({type(child).__name__}): take it apart")
            at += length

    def clip(self, clip: Any, at: Fraction, length: Fraction, labels: tuple[str, ...]) -> Item:
        reference = clip.media_reference
        shown = clip.trimmed_range()
        begins = reference.available_range.start_time if reference and reference.available_range else None
        start = _seconds(shown.start_time) - (_seconds(begins) if begins is not None else 0)
        media = None
        if isinstance(reference, schema.ExternalReference):
            media = path_of(str(reference.target_url))
        elif reference is not None and not isinstance(reference, schema.MissingReference):
            media = str(reference.name) or type(reference).__name__
        return Item(at=at, seconds=length, name=str(clip.name), media=media, start=start, labels=labels)


def _rate(timeline: Any) -> Fraction:
    """What the timeline is counted in: as it says, else as its first picture."""
    if timeline.global_start_time is not None:
        return exact_rate(timeline.global_start_time.rate)
    for track in timeline.tracks:
        for child in track:
            if not isinstance(child, schema.Transition):
                return exact_rate(child.duration().rate)
    return Fraction(24)


def _seconds(time: Any) -> Fraction:
    return Fraction(time.value).limit_denominator(100_000) / exact_rate(time.rate)


def _resolve(effect: Any) -> Mapping[str, Any]:
    found = effect.metadata.get("Resolve_OTIO")
    return found if isinstance(found, Mapping) else {}


def _changes(effect: Any) -> bool:
    """Whether an effect does something: Resolve writes many for each clip (Transform, Cropping, Video Faders), with
    parameters only where they are not as they were (its exports, read 2026-11)."""
    return isinstance(effect, schema.TimeEffect) or not _resolve(effect) or bool(_resolve(effect).get("Parameters"))


def _title(thing: Any) -> str:
    if isinstance(thing, schema.Effect) and _resolve(thing).get("Effect Name"):
        return str(_resolve(thing)["Effect Name"])
    return str(thing.name or getattr(thing, "effect_name", "") or getattr(thing, "transition_type", "") or "unnamed")

