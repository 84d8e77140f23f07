"""How a film was made, as the film itself says it: which shot is shown when, and which model made its clip.

The record is written into the MP4 as an XMP packet, beside the IPTC digital source type, and with a signature into the
C2PA manifest (output.credentials). Without a signature anybody can change it. The same film has the same bytes: no date
in it is that of the day it was joined. Knows no storyboard, no lock and no cryptography.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import klingflow
from klingflow.core.errors import MediaError
from klingflow.core.model import ANIMATIC
from klingflow.output.words import count
from klingflow.planning.plan import OWN

VERSION = 1

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""IPTC NewsCodes, Digital Source Type, as modified 2024-10-23 (https://cv.iptc.org/newscodes/digitalsourcetype/)."""
TRAINED = "trainedAlgorithmicMedia"
"""Created using generative AI."""
COMPOSITE_SYNTHETIC = "compositeSynthetic"
"""A mix of several elements, at least one of which is generative AI. (`compositeWithTrainedAlgorithmicMedia` sounds
alike and is another thing: something that was there before, edited with generative AI.)"""
ALGORITHMIC = "algorithmicMedia"
"""Made by an algorithm that was not trained on anything."""
COMPOSITE = "composite"
"""A mix of several elements, any of which may or may not be generative AI."""


CARD = "card"
"""The provider, and the model, of a card that stands in a draft for a shot without a clip: klingflow draws it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownShot:
    """One shot in the film, and where its clip is from."""

    shot: str
    take: int
    start: int
    """The film frame at which it begins, from 0."""
    end: int
    """The film frame after its last one."""
    clip: str
    """The SHA-256 of the clip; empty for a card."""
    clip_start: int
    """The first frame of the clip that is shown, from 0."""
    clip_end: int
    """The frame of the clip after the last one that is shown."""
    key: str
    """What the purchase is known by; empty for a clip of one's own."""
    provider: str
    """Who was asked; `own` for a clip of one's own, `card` in a draft for a shot that has none yet."""
    model: str
    task: str
    """The provider's id of the task; empty where there is none."""
    date: str
    """The UTC day on which the clip was made, YYYY-MM-DD; empty for one's own, and for one that klingflow drew."""
    prompt_sha256: str
    """The SHA-256 of the rendered prompt's UTF-8 text; empty where there is none, or it is not known."""
    taken_in: bool
    """Whether a person took it in by hand, from a seller's console."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRecord:
    """How one film was made."""

    generator: str
    """klingflow, and its version."""
    title: str
    storyboard: str
    """Its path from the project's root."""
    variant: str
    """Which film of a matrix; empty without one."""
    commit: str
    """The git commit of the project when the film was signed; empty where it was not signed, or there is none."""
    dirty: bool
    """Whether files that git tracks differed from that commit, or the storyboard was in none."""
    rate: str
    """Film frames a second, as a whole number or a fraction."""
    frames: int
    digital_source_type: str
    """A URI of the IPTC's list."""
    music: str
    """The SHA-256 of the music bed; empty without one."""
    shots: tuple[ShownShot, ...]

    def seconds(self, frame: int) -> float:
        return float(frame / Fraction(self.rate))


def source_type(shots: Sequence[ShownShot], *, music: bool, drawn_from_stills: bool) -> str:
    """The IPTC term for a film, as a URI. `drawn_from_stills`: an animatic shows pictures of which it is not known how
    they were made."""
    kinds = {clip_type(shot) for shot in shots}
    if SOURCE_TYPES + TRAINED in kinds:
        return SOURCE_TYPES + (TRAINED if len(kinds) == 1 and not music else COMPOSITE_SYNTHETIC)
    alone = kinds == {SOURCE_TYPES + ALGORITHMIC} and not (music or drawn_from_stills)
    return SOURCE_TYPES + (ALGORITHMIC if alone else COMPOSITE)


def clip_type(shot: ShownShot) -> str:
    """The IPTC term for a clip, as a URI; empty for a clip of one's own: nobody said how that was made."""
    if shot.provider == OWN:
        return ""
    return SOURCE_TYPES + (ALGORITHMIC if shot.provider in (ANIMATIC, CARD) else TRAINED)


def summary(shots: Sequence[ShownShot], *, music: bool) -> str:
    """How a film was made, in a sentence: `AI-generated: 3 shots by kling-3.0-omni through hiapi; a music bed of one's
    own.`"""
    makers = Counter((shot.provider, shot.model, shot.taken_in) for shot in shots)
    parts = []
    for (provider, model, taken_in), number in sorted(makers.items()):
        if provider not in (OWN, ANIMATIC, CARD):
            by_hand = ", taken in by hand" if taken_in else ""
            parts.append(f"{count(number, 'shot')} by {model} through {provider}{by_hand}")
    drawn = sum(shot.provider == ANIMATIC for shot in shots)
    own = sum(shot.provider == OWN for shot in shots)
    cards = sum(shot.provider == CARD for shot in shots)
    rest = [f"{count(drawn, 'shot')} drawn by klingflow's animatic, which is no AI model"] if drawn else []
    rest += [f"{count(own, 'clip')} of one's own"] if own else []
    rest += [f"{count(cards, 'card')} for shots that are not made yet"] if cards else []
    rest += ["a music bed of one's own"] if music else []
    begin = ("AI-generated: " if not rest else "Partly AI-generated: ") if parts else "Not AI-generated by klingflow: "
    return f"{begin}{'; '.join([*parts, *rest])}."


def tags(record: FilmRecord) -> dict[str, str]:
    """What a player shows of a film: MP4 tags by the names that FFmpeg has for them."""
    told = summary(record.shots, music=bool(record.music))
    comment = f"{told} Made with klingflow. IPTC digital source type: {record.digital_source_type}"
    return {"title": record.title, "comment": comment} if record.title else {"comment": comment}


# ---------------------------------------------------------------- JSON


def as_json(record: FilmRecord) -> dict[str, Any]:
    return {"version": VERSION, **asdict(record), "shots": [asdict(shot) for shot in record.shots]}


def from_json(found: object) -> FilmRecord:
    """Reads a record that anybody may have written. Raises ValueError where it is none."""
    if not isinstance(found, Mapping) or found.get("version") != VERSION:
        raise ValueError(f"no record of version {VERSION}")
    shots = found.get("shots")
    if not isinstance(shots, list | tuple):
        raise ValueError("no list of shots")
    record: FilmRecord = _read(FilmRecord, {**found, "shots": tuple(_read(ShownShot, shot) for shot in shots)})
    if re.fullmatch(r"[1-9]\d{0,8}(/[1-9]\d{0,8})?", record.rate) is None:
        raise ValueError("rate is no number of frames a second")
    if not 0 <= record.frames <= _MOST_FRAMES:
        raise ValueError("frames is no length of a film")
    if any(not 0 <= shot.start <= shot.end <= record.frames for shot in record.shots):
        raise ValueError("a shot is not in the film")
    return record


_MOST_FRAMES = 1 << 40
"""Far more than any film has; what is beyond was not written by klingflow."""


def _read(kind: Any, found: object) -> Any:
    types = get_type_hints(kind)
    values = {}
    for field in fields(kind):
        wanted = types[field.name]
        value = found.get(field.name) if isinstance(found, Mapping) else None
        if field.name != "shots" and type(value) is not wanted:
            raise ValueError(f"{field.name} is missing, or of another kind")
        values[field.name] = value
    return kind(**values)


# ---------------------------------------------------------------- in the file

_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""The user type of the outermost box that holds XMP in an MP4: XMP specification, part 3 (Adobe, 2020), 1.3.2."""
_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""That of the box that holds a C2PA manifest store: C2PA specification 2.2, A.5."""
_MOST = 16 << 20
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_OURS = "urn:klingflow:film:1#"

_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{rdf}">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:klingflow="{ours}">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{summary}</rdf:li></rdf:Alt></dc:description>
<xmp:CreatorTool>{generator}</xmp:CreatorTool>
<Iptc4xmpExt:DigitalSourceType>{kind}</Iptc4xmpExt:DigitalSourceType>
<klingflow:record>{record}</klingflow:record>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def append(film: Path, record: FilmRecord) -> None:
    """Writes the record at the end of an MP4, in a box of its own: nothing in the file moves. Raises OSError."""
    told = summary(record.shots, music=bool(record.music))
    packet = _PACKET.format(
        rdf=_RDF,
        ours=_OURS,
        title=_text(record.title),
        summary=_text(told),
        generator=_text(record.generator),
        kind=_text(record.digital_source_type),
        record=_text(json.dumps(as_json(record), ensure_ascii=True, separators=(",", ":"))),
    ).encode()
    with film.open("ab") as file:
        file.write((24 + len(packet)).to_bytes(4) + b"uuid" + _XMP + packet)


def _text(value: str) -> str:
    """Text for an XML element, without what XML cannot hold."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", value))


def read(film: Path) -> FilmRecord | None:
    """The record that an MP4 carries in plain; None where there is none that can be read. Raises MediaError for a file
    that is not there or is no MP4."""
    return next(filter(None, (_record(packet) for kind, packet in _boxes(film) if kind == _XMP)), None)


def is_signed(film: Path) -> bool:
    """Whether an MP4 carries a C2PA manifest store, good or bad. Raises MediaError as `read`."""
    return any(kind == _C2PA for kind, _ in _boxes(film))


def _record(packet: bytes) -> FilmRecord | None:
    if b"<!" in packet:  # no packet declares entities; one that does wants to harm its reader
        return None
    try:
        found = ElementTree.fromstring(packet).find(f".//{{{_OURS}}}record")
        return None if found is None else from_json(json.loads(found.text or ""))
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None


def _boxes(film: Path) -> Iterator[tuple[bytes, bytes]]:
    """The user type and content of each outermost box of kind `uuid`; the content only of one that holds XMP."""
    try:
        with film.open("rb") as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            while at + 8 <= size:
                file.seek(at)
                head = file.read(32)
                length, begin = int.from_bytes(head[:4]), 8
                if at == 0 and head[4:8] != b"ftyp":
                    raise MediaError(f"{film.name} is not an MP4", "name a finished film, as out/NAME/film.mp4")
                if length == 1:
                    length, begin = int.from_bytes(head[8:16]), 16
                elif length == 0:
                    length = size - at
                if length < begin:
                    return
                kind = head[begin : begin + 16]
                if head[4:8] == b"uuid":
                    file.seek(at + begin + 16)
                    rest = length - begin - 16
                    yield kind, file.read(rest) if kind == _XMP and 0 < rest <= _MOST else b""
                at += length
            if size == 0:
                raise MediaError(f"{film.name} is empty")
    except OSError as bad:
        raise MediaError(f"{film} cannot be read: {bad.strerror or bad}", "name a finished film") from bad


def generator() -> str:
    return f"klingflow {klingflow.__version__}"
