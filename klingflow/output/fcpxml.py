"""Timelines as Final Cut Pro XML 1.10, which Final Cut Pro and Resolve read.

Written by hand: OpenTimelineIO's adapter (otio-fcpx-xml-adapter 1.0.0, read 2026-11) writes 1.8, formats without a size
and with an empty name, and sound as clips inside gaps. What is written here holds to Apple's DTD of version 1.10.

Times are exact fractions of a second. Offsets and lengths are whole frames of the film, the start of a clip is a whole
frame of its own. A clip's tags are keywords, which Final Cut's timeline index lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from klingflow.core.errors import UsageError
from klingflow.output.timeline import (
    NONE_YET,
    Clip,
    Edited,
    Item,
    Lost,
    Media,
    Timeline,
    exact_rate,
    gaps_filled,
    path_of,
    start_frame,
)

VERSION = "1.10"

# -- writing ----------------------------------------------------------------------------------------------------------

_NAMED = {(1280, 720): "720p", (1920, 1080): "1080p", (3840, 2160): "3840x2160p"}
_RATES = {
    Fraction(24000, 1001): ("2398", "23.98"),
    Fraction(24): ("24", "24"),
    Fraction(25): ("25", "25"),
    Fraction(30000, 1001): ("2997", "29.97"),
    Fraction(30): ("30", "30"),
    Fraction(48): ("", "48"),
    Fraction(50): ("50", "50"),
    Fraction(60000, 1001): ("5994", "59.94"),
    Fraction(60): ("60", "60"),
}
"""By frames a second, as the names of Final Cut's formats have it, and as `conform-rate` does."""
_REC_709 = "1-1-1 (Rec. 709)"


def dump(timeline: Timeline) -> str:
    """The file's text."""
    root = Element("fcpxml", version=VERSION)
    resources = _Resources(SubElement(root, "resources"))
    film = resources.format(timeline.size, timeline.rate)
    event = SubElement(SubElement(root, "library"), "event", name=timeline.name)
    project = SubElement(event, "project", name=timeline.name)
    begin = start_frame(timeline.rate) / timeline.rate
    sequence = SubElement(
        project,
        "sequence",
        format=film,
        duration=_time(timeline.frames / timeline.rate),
        tcStart=_time(begin),
        tcFormat="NDF",
        audioLayout="stereo",
        audioRate="48k",
    )
    spine = SubElement(sequence, "spine")
    for n, clip in enumerate(timeline.clips):
        start = clip.source / clip.media.rate if clip.media else begin
        common = {
            "offset": _time(begin + clip.start / timeline.rate),
            "name": clip.shot if clip.media else f"{clip.shot}{NONE_YET}",
            "start": _time(start),
            "duration": _time(clip.frames / timeline.rate),
        }
        if clip.media is None:
            element = SubElement(spine, "gap", common)
        else:
            element = SubElement(spine, "asset-clip", {"ref": resources.asset(clip.media), **common, "tcFormat": "NDF"})
            rate = _RATES.get(clip.media.rate)
            if clip.media.rate != timeline.rate and rate is not None:
                SubElement(element, "conform-rate", scaleEnabled="0", srcFrameRate=rate[1])
        if n == 0 and timeline.bed is not None:
            frames = min(timeline.frames, timeline.bed.seconds * timeline.rate // 1)
            SubElement(
                element,
                "asset-clip",
                ref=resources.sound(timeline.bed.name, timeline.bed.path, timeline.bed.seconds),
                lane="-1",
                offset=_time(start),
                name=timeline.bed.name,
                duration=_time(frames / timeline.rate),
                audioRole="music",
            )
        _marks(element, clip, start, timeline.rate)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n\n{text}\n'


def _marks(element: Element, clip: Clip, start: Fraction, rate: Fraction) -> None:
    marker = SubElement(element, "marker", start=_time(start), duration=_time(1 / rate), value=clip.label)
    if clip.title:
        marker.set("note", clip.title)
    for tag in clip.tags:
        SubElement(element, "keyword", start=_time(start), duration=_time(clip.frames / rate), value=tag)


class _Resources:
    """Formats and assets, each once."""

    def __init__(self, element: Element) -> None:
        self._element = element
        self._ids: dict[object, str] = {}

    def _new(self, key: object) -> str | None:
        """An id for something that is not there yet."""
        if key in self._ids:
            return None
        self._ids[key] = f"r{len(self._ids) + 1}"
        return self._ids[key]

    def format(self, size: tuple[int, int], rate: Fraction) -> str:
        key = (size, rate)
        new = self._new(key)
        if new:
            element = SubElement(self._element, "format", id=new)
            name = _NAMED.get(size, ""), _RATES.get(rate, ("", ""))[0]
            if all(name):
                element.set("name", "FFVideoFormat" + "".join(name))
            element.set("frameDuration", _time(1 / rate))
            element.set("width", str(size[0]))
            element.set("height", str(size[1]))
            element.set("colorSpace", _REC_709)
        return self._ids[key]

    def asset(self, media: Media) -> str:
        form = self.format((media.width, media.height), media.rate)
        new = self._new(media.path)
        if new:
            element = SubElement(self._element, "asset", id=new, name=media.name.rpartition(".")[0], start="0s")
            element.set("duration", _time(media.frames / media.rate))
            element.set("hasVideo", "1")
            element.set("format", form)
            element.set("videoSources", "1")
            if media.audio:
                _heard(element)
            SubElement(element, "media-rep", kind="original-media", src=_src(media.path))
        return self._ids[media.path]

    def sound(self, name: str, path: str, seconds: Fraction) -> str:
        new = self._new(path)
        if new:
            element = SubElement(self._element, "asset", id=new, name=name, start="0s", duration=_time(seconds))
            _heard(element)
            SubElement(element, "media-rep", kind="original-media", src=_src(path))
        return self._ids[path]


def _heard(element: Element) -> None:
    for name, value in (("hasAudio", "1"), ("audioSources", "1"), ("audioChannels", "2"), ("audioRate", "48000")):
        element.set(name, value)


def _src(path: str) -> str:
    return quote(path if path.startswith("..") else f"./{path}")


def _time(seconds: Fraction) -> str:
    if seconds.denominator == 1:
        return f"{seconds.numerator}s"
    return f"{seconds.numerator}/{seconds.denominator}s"


# -- reading ----------------------------------------------------------------------------------------------------------

_PLAIN = {"note", "conform-rate", "adjust-conform", "marker", "chapter-marker", "rating", "keyword", "analysis-marker",
          "audio-channel-source", "metadata"}
"""What inside a clip changes nothing of what is seen of it."""
_TIME = re.compile(r"(-?[0-9./]{1,64})s?")
_COMPOUND = {"ref-clip": "a compound clip", "mc-clip": "a multicam clip", "sync-clip": "a synchronized clip",
             "audition": "an audition"}


def read(text: str, shown: str) -> Edited:
    """A timeline that came back. Raises UsageError where it is none."""
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as bad:
        raise UsageError(f"{shown} is no XML: {bad}", "export it as FCPXML anew") from None
    projects = [each for each in root.iterfind(".//project") if each.find("sequence") is not None]
    if root.tag != "fcpxml" or len(projects) != 1:
        what = f"has {len(projects)} projects" if root.tag == "fcpxml" else f"is <{root.tag}>, not <fcpxml>"
        raise UsageError(f"{shown} {what}", "export the one project as FCPXML")
    return _Reader(root, projects[0], shown).edited()


class _Reader:
    def __init__(self, root: Element, project: Element, shown: str) -> None:
        sequence = next(project.iterfind("sequence"))
        self.shown, self.name, self.sequence = shown, project.get("name", ""), sequence
        self.by_id = {element.get("id", ""): element for element in root.iterfind("resources/*")}
        step = self.by_id.get(sequence.get("format", ""), Element("format")).get("frameDuration")
        self.rate = exact_rate(float(self.a_second(step))) if step else Fraction(24)
        self.begin = self.time(sequence.get("tcStart", "0s"))
        self.lost: list[Lost] = []
        self.sounds: list[Item] = []

    def time(self, text: str | None) -> Fraction:
        # Fraction itself would also take `1e999999999`, and never come back.
        found = _TIME.fullmatch(text or "0s")
        try:
            return Fraction(found[1] if found else "")
        except (ValueError, ZeroDivisionError):
            raise self.wrong(f"'{text}' is no time") from None

    def a_second(self, step: str) -> Fraction:
        """How many frames that last so long there are in a second."""
        seconds = self.time(step)
        if seconds <= 0:
            raise self.wrong(f"a frame cannot last {step}")
        return 1 / seconds

    def wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.shown}: {what}", "export it as FCPXML anew")

    def lose(self, at: Fraction, what: str) -> None:
        self.lost.append(Lost(at=at, what=what))

    def edited(self) -> Edited:
        spine = self.sequence.find("spine")
        items = list(self.items(spine)) if spine is not None else []
        return Edited(
            name=self.name,
            rate=self.rate,
            picture=gaps_filled(items),
            sounds=tuple(self.sounds),
            lost=tuple(self.lost),
        )

    def items(self, spine: Element) -> Iterator[Item]:
        end = Fraction(0)
        for element in spine:
            offset = element.get("offset")
            at = self.time(offset) - self.begin if offset is not None else end
            name = element.get("name", "")
            if element.tag == "transition":
                self.lose(at, f"the transition '{name}'")
                continue
            asset = self.asset(element)
            length = self.length(element, asset)
            end = at + length
            start = self.time(element.get("start")) if element.get("start") else self.time(
                asset.get("start") if asset is not None else "0s"
            )
            for child in element:
                self.connected(child, at + (self.time(child.get("offset")) - start))
            if element.tag == "gap":
                yield Item(at=at, seconds=length, name=name, labels=_labels(element), gap=True)
            elif element.get("enabled") == "0":
                self.lose(at, f"'{name}' is switched off: it is left out")
            elif element.tag in _COMPOUND:
                self.lose(at, f"'{name}' is {_COMPOUND[element.tag]}: take it apart")
            else:
                self.changes(element, at, name)
                yield Item(
                    at=at,
                    seconds=length,
                    name=name,
                    media=self.media(asset) if asset is not None else name or element.tag,
                    start=start - (self.time(asset.get("start")) if asset is not None else 0),
                    labels=_labels(element),
                )

    def asset(self, element: Element) -> Element | None:
        """What a clip shows: named by itself, or by the video inside it."""
        inner = element.find("video") if element.tag == "clip" else None
        found = self.by_id.get((element if inner is None else inner).get("ref", ""))
        return found if found is not None and found.tag == "asset" else None

    def length(self, element: Element, asset: Element | None) -> Fraction:
        said = element.get("duration") or (asset.get("duration") if asset is not None else None)
        return self.time(said)

    def media(self, asset: Element) -> str:
        rep = asset.find("media-rep")
        return path_of((asset if rep is None else rep).get("src", "") or asset.get("name", ""))

    def connected(self, element: Element, at: Fraction) -> None:
        """What lies above or below the picture."""
        if element.get("lane") is None:
            return
        name = element.get("name", element.tag)
        asset = self.asset(element)
        if element.tag in ("asset-clip", "audio") and asset is not None and asset.get("hasVideo") != "1":
            start = self.time(element.get("start") or asset.get("start")) - self.time(asset.get("start"))
            length = self.length(element, asset)
            self.sounds.append(Item(at=at, seconds=length, name=name, media=self.media(asset), start=start))
        else:
            self.lose(at, f"'{name}' lies above or below the picture ({element.tag})")

    def changes(self, element: Element, at: Fraction, name: str) -> None:
        for child in element:
            if child.get("lane") is not None or child.tag in _PLAIN or child.tag in ("video", "audio"):
                continue
            if child.tag == "timeMap":
                self.lose(at, f"the change of speed on '{name}'")
            elif child.tag.startswith("filter-"):
                self.lose(at, f"the effect '{child.get('name', child.tag)}' on '{name}'")
            elif not _is_default(child):
                self.lose(at, f"{child.tag} on '{name}'")
        conform = element.find("conform-rate")
        asset = self.asset(element)
        form = self.by_id.get(asset.get("format", "")) if asset is not None else None
        step = form.get("frameDuration") if form is not None else None
        scaled = conform is not None and conform.get("scaleEnabled") != "0"
        if scaled and step is not None and abs(self.a_second(step) - self.rate) > Fraction(1, 100):
            self.lose(at, f"the change of speed on '{name}' (its frames are played at the film's rate)")


def _is_default(element: Element) -> bool:
    plain = {"0", "0 0", "1 1", "1", "0dB", "fit"}
    return not len(element) and all(value in plain for value in element.attrib.values())


def _labels(element: Element) -> tuple[str, ...]:
    return tuple(marker.get("value", "") for marker in element.iterfind("marker"))
