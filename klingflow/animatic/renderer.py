"""Draws the clips of the animatic.

A clip is a real one: H.264 in MP4, yuv420p tagged BT.709, 24 frames a second, exactly seconds times 24 frames,
faststart, and AAC when sound was ordered. The same order gives the same bytes on the same versions of Pillow and
PyAV: one encoder thread, no dates, own fonts.

A title card, which stands in for a shot without stills, does not move; a shot that continues a title card begins with
that card, which then gives way to its own. A move never leaves the stills. A shot begins with its first still exactly
as it is and ends with its last still exactly as it is; a push on a single still gets smaller with each clip along a
chain (see Move), so a chain settles.
A picture is drawn where it differs from the one before, and not again; what is round it is drawn once.
Knows no task.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from PIL import Image

from klingflow.animatic import design
from klingflow.core.errors import MediaError
from klingflow.io import pictures
from klingflow.io.media import ACCURATE, chain

RATE = 24
SAMPLES = 48_000
_TASK = re.compile(r"animatic-[0-9a-f]{32}-[0-9]{1,6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """What providers.animatic sends, read back."""

    task: str
    seed: str
    shot: str
    take: int
    prompt: str
    negative_prompt: str
    seconds: int
    resolution: str
    sound: bool
    aspect_ratio: str
    parts: tuple[tuple[str, int], ...]
    """(prompt, seconds) of each part of a multi-shot; empty for one shot."""
    by: str
    """How a multi-shot is divided: "", "customize" or "intelligence"."""
    frames: Mapping[str, str]

    @classmethod
    def read(cls, body: bytes) -> RenderRequest:
        """Raises ValueError, KeyError or TypeError for anything that is not an order."""
        said: dict[str, Any] = json.loads(body)
        task, seconds = str(said["task"]), int(said["duration"])
        if not _TASK.fullmatch(task):
            raise ValueError("the task's name")
        if not 1 <= seconds <= 60:
            raise ValueError("the duration")
        multi = said.get("multi_shot") or {}
        return cls(
            task=task,
            seed=str(said["seed"]),
            shot=str(said["shot"]),
            take=int(said["take"]),
            prompt=str(said["prompt"]),
            negative_prompt=str(said["negative_prompt"]),
            seconds=seconds,
            resolution=str(said["resolution"]),
            sound=bool(said["sound"]),
            aspect_ratio=str(said.get("aspect_ratio") or ""),
            parts=tuple((str(part["prompt"]), int(part["duration"])) for part in multi.get("shots", ())),
            by=str(multi.get("by") or ""),
            frames={str(role): str(digest) for role, digest in said["frames"].items()},
        )

    def cues(self) -> list[tuple[int, str, str]]:
        """(frames, number, prompt) one after the other; together as many frames as the clip has. The number is that of
        a part of a multi-shot."""
        whole = self.seconds * RATE
        if not self.parts:
            return [(whole, "", self.prompt)]
        out, left = [], whole
        for i, (prompt, seconds) in enumerate(self.parts):
            frames = left if i == len(self.parts) - 1 else min(seconds * RATE, left)
            if frames > 0:
                out.append((frames, f"{i + 1}/{len(self.parts)}", prompt))
                left -= frames
        return out

    @property
    def without(self) -> str:
        return f"[without: {self.negative_prompt}]" if self.negative_prompt else ""

    def meta(self) -> str:
        facts = [f"take {self.take}"] if self.take != 1 else []
        facts += [self.resolution, *(["sound"] if self.sound else [])]
        facts += ["multi-shot"] if self.by == "intelligence" else []
        return " · ".join(facts)


# Drawing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture as the encoder wants it: luma, and two colour planes of half the size, their samples on the left of the
    two that they stand for (what H.264 means where it says nothing). BT.709, limited range.

    Moving three planes costs half of what moving RGB costs, and nothing has to be converted frame by frame.
    """

    y: Image.Image
    u: Image.Image
    v: Image.Image

    @classmethod
    def of(cls, image: Image.Image) -> Planes:
        frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
        target = "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left"
        graph = chain(frame, ("scale", f"{ACCURATE}:{target}"), ("format", "pix_fmts=yuv420p"))
        graph.vpush(frame)
        frame = graph.vpull()
        y, u, v = (
            Image.frombytes("L", (plane.width, plane.height), bytes(plane), "raw", "L", plane.line_size)
            for plane in frame.planes
        )
        return cls(y, u, v)

    def copy(self) -> Planes:
        return Planes(self.y.copy(), self.u.copy(), self.v.copy())

    def paste(self, other: Planes, at: tuple[int, int]) -> None:
        """`at` must be even."""
        self.y.paste(other.y, at)
        self.u.paste(other.u, (at[0] // 2, at[1] // 2))
        self.v.paste(other.v, (at[0] // 2, at[1] // 2))

    def zoomed(self, zoom: float, focus: tuple[float, float]) -> Planes:
        if zoom == 1.0:
            return self
        return Planes(_zoomed(self.y, zoom, focus), *(_zoomed(plane, zoom, focus, 0.25) for plane in (self.u, self.v)))

    def faded(self, to: Planes, share: float) -> Planes:
        if share in (0.0, 1.0):
            return to if share else self
        return Planes(
            Image.blend(self.y, to.y, share), Image.blend(self.u, to.u, share), Image.blend(self.v, to.v, share)
        )


def _zoomed(plane: Image.Image, zoom: float, focus: tuple[float, float], aside: float = 0.0) -> Image.Image:
    """`aside`: how far left of the middle of the place that it covers a sample of the plane stands."""
    width, height = plane.width / zoom, plane.height / zoom
    left, top = (plane.width - width) * focus[0], (plane.height - height) * focus[1]
    left += aside * (1 - 1 / zoom)
    return plane.resize(plane.size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))


@dataclass(frozen=True, slots=True)
class Move:
    """One picture slowly pushed, or two with a crossfade between; over `frames` frames.

    It begins with `first` untouched; it ends with `last` untouched when there is one. A push on a picture that is
    itself the end of a push is weaker, 0.55 times each: along the longest chain the camera comes 17 % closer, not more.
    """

    frames: int
    first: Planes
    last: Planes | None
    push: float
    focus: tuple[float, float]

    def pictures(self) -> Iterator[Planes]:
        """One a frame; the very same one where nothing that can be seen has moved."""
        closer = back = _Lens(self.first, self.focus)
        if self.last is not None:
            back = _Lens(self.last, self.focus)
        for n in range(self.frames):
            way = n / (self.frames - 1) if self.frames > 1 else 0.0
            gone = _ease(way)
            share = _ease((way - 0.3) / 0.4) if self.last is not None else 0.0
            if share == 0.0:
                yield closer.at(self.push * gone)
            elif share == 1.0:
                yield back.at(PUSH * (1 - gone))
            else:
                yield closer.at(self.push * gone).faded(back.at(PUSH * (1 - gone)), share)


PUSH = 0.07
SEEN = 16
"""A picture is drawn anew when its farthest edge has moved by this part of a pixel: late in a chain, where the camera
has nearly come to rest, few of a clip's pictures differ."""


class _Lens:
    """One picture seen from closer and closer, in steps that are just too small to be seen."""

    def __init__(self, picture: Planes, focus: tuple[float, float]) -> None:
        sides = zip(picture.y.size, focus, strict=True)
        self._steps = SEEN * max(side * max(place, 1 - place) for side, place in sides)
        self._picture, self._focus, self._step, self._seen = picture, focus, 0, picture

    def at(self, closer: float) -> Planes:
        """`closer` as a share of the picture's size: 0 is the picture as it is."""
        step = round(closer * self._steps)
        if step != self._step:
            self._step, self._seen = step, self._picture.zoomed(1 + step / self._steps, self._focus)
        return self._seen


def _ease(way: float) -> float:
    way = min(max(way, 0.0), 1.0)
    return way * way * (3 - 2 * way)


@dataclass(frozen=True, slots=True)
class Turn:
    """One title card that gives way to the next, within a second or half the time; begins with `first` untouched.
    A card alone is a turn to itself."""

    frames: int
    first: Planes
    last: Planes

    def pictures(self) -> Iterator[Planes]:
        """One a frame; the very same one from where the card stands alone."""
        turned = 0 if self.first is self.last else min(RATE, self.frames / 2)
        for n in range(self.frames):
            yield self.last if n >= turned else self.first.faded(self.last, _ease(n / turned))


def render(request: RenderRequest, blob: Callable[[str], Path], to: Path, drawn: Callable[[], None]) -> None:
    """Draws the clip into the new file `to`, calling `drawn` after each frame. Raises MediaError for a bad still."""
    first, last = (_still(request, role, blob) for role in ("first_frame", "last_frame"))
    at = _layout(request, first or last)
    if first is None or first.stamp == design.CARD:
        moves, scenes = _cards(request, blob, at, first, last)
    else:
        moves, scenes = _stills(request, at, first, last)
    grounds = _grounds(request, at, scenes, _stamp(first, last))
    frames = request.seconds * RATE
    signs = {char: design.limited(sign) for char, sign in design.digits().items()}
    passed = design.limited(Image.new("L", (at.width, design.PASSED), 190))
    with _Film(to, at, request) as film:
        shown = (picture for move in moves for picture in move.pictures())
        before: tuple[Planes | None, Planes | None] = None, None
        for n, (picture, frame) in enumerate(zip(shown, grounds, strict=True)):
            moved = picture is not before[0] or frame is not before[1]
            if moved:
                frame.paste(picture, at.picture[:2])
                before = picture, frame
            frame.y.paste(passed.crop((0, 0, math.ceil(at.width * (n + 1) / frames), design.PASSED)), (0, at.top))
            design.write_time(frame.y, at.shot_time, n, RATE, signs)
            film.add(frame, moved)
            drawn()


def _stamp(first: _Still | None, last: _Still | None) -> int:
    """What the clip ends with: its last still, a card, or the picture that it began with, pushed once more."""
    if last is not None:
        return last.stamp
    if first is None or first.stamp == design.CARD:
        return design.CARD
    return min(first.stamp + 1, design.MOST_PUSHES)


Scene = tuple[int, str, bool]
"""So many frames with this text in the strip; and whether a title card is the picture."""


def _grounds(request: RenderRequest, at: design.Layout, scenes: Sequence[Scene], stamp: int) -> Iterator[Planes]:
    """What is round the picture, frame by frame."""
    for i, (frames, text, card) in enumerate(scenes):
        ends = i == len(scenes) - 1
        surround = partial(
            design.surround,
            at,
            shot=request.shot,
            text=text,
            meta=request.meta(),
            stamp=design.CARD if card else stamp,
            aside=card,
        )
        ground = Planes.of(surround(last=False))
        yield from repeat(ground, frames - ends)
        if ends:
            yield Planes.of(surround(last=True))


@dataclass(frozen=True, slots=True)
class _Still:
    """An image as it goes in; one that is a frame of an animatic is its picture alone."""

    image: Image.Image
    size: tuple[int, int]
    stamp: int
    """As design.stamp_of; 0 for an image that is no frame of an animatic: nothing was pushed."""
    animatic: bool


def _still(request: RenderRequest, role: str, blob: Callable[[str], Path]) -> _Still | None:
    if role not in request.frames:
        return None
    try:
        with Image.open(blob(request.frames[role]), formats=("PNG", "JPEG", "WEBP")) as file:
            image = _opaque(pictures.as_seen(file))
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as exc:
        raise MediaError(f"the image for {role} of shot '{request.shot}' cannot be read: {exc}") from exc
    stamp = design.stamp_of(image)
    if stamp is None:
        return _Still(image, image.size, 0, animatic=False)
    return _Still(design.picture_in(image), image.size, stamp, animatic=True)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, (*design.GROUND, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _layout(request: RenderRequest, still: _Still | None) -> design.Layout:
    if still is not None:
        return design.Layout(*still.size) if still.animatic else design.layout(still.size[0] / still.size[1])
    width, _, height = request.aspect_ratio.partition(":")
    if width.isdecimal() and height.isdecimal() and int(width) and int(height):
        return design.layout(int(width) / int(height))
    return design.layout(16 / 9)


def _stills(
    request: RenderRequest, at: design.Layout, first: _Still, last: _Still | None
) -> tuple[Sequence[Move | Turn], Sequence[Scene]]:
    """From still to still, or on one still."""
    dice = hashlib.sha256(request.seed.encode()).digest()
    focus = (0.35 + 0.3 * dice[8] / 255, 0.4 + 0.2 * dice[9] / 255)
    end = _shown(last, at) if last is not None else None
    move = Move(request.seconds * RATE, _shown(first, at), end, PUSH * 0.55**first.stamp, focus)
    scenes = [(frames, _joined(number, prompt, request.without), False) for frames, number, prompt in request.cues()]
    return [move], scenes


def _cards(
    request: RenderRequest,
    blob: Callable[[str], Path],
    at: design.Layout,
    first: _Still | None,
    last: _Still | None,
) -> tuple[Sequence[Move | Turn], Sequence[Scene]]:
    """A title card for each part of a shot that has no picture to begin with, at most the card of another shot.

    A prompt that a card shows is not repeated below it. A last still comes in the second half of the last part.
    """
    others = [_still(request, role, blob) for role in request.frames if role not in ("first_frame", "last_frame")]
    images = [still.image for still in others if still is not None]
    remark = f"No {'first ' if last is not None else ''}still: the prompt stands in for the picture."
    moves: list[Move | Turn] = []
    scenes: list[Scene] = []
    cues = request.cues()
    for i, (frames, number, prompt) in enumerate(cues):
        image = design.card(at.picture_size, seed=f"{request.seed}{i}", over=number, text=prompt, images=images)
        card = Planes.of(image)
        end = _shown(last, at) if last is not None and i == len(cues) - 1 else None
        alone = frames if end is None else frames // 2
        before = _shown(first, at) if first is not None and i == 0 else card
        moves.append(Turn(alone, before, card))
        scenes.append((alone, _joined(remark, request.without), True))
        if end is not None:
            moves.append(Move(frames - alone, card, end, 0.0, (0.5, 0.5)))
            scenes.append((frames - alone, _joined(number, prompt, request.without), False))
    return moves, scenes


def _joined(*texts: str) -> str:
    return "  ".join(filter(None, texts))


def _shown(still: _Still, at: design.Layout) -> Planes:
    return Planes.of(design.fitted(still.image, at.picture_size))


class _Film:
    """The MP4 being written; used as a context manager, finished at its end.

    Frames are encoded in a thread of its own while the next ones are drawn, so that also a single clip, or a chain of
    which each waits for the one before, keeps two cores busy.
    """

    def __init__(self, to: Path, at: design.Layout, request: RenderRequest) -> None:
        # bitexact keeps library versions out of the headers; x264's own threads would change the bytes.
        self._file = av.open(str(to), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"})
        # A fixed quantiser needs a fifth less work than a fixed quality, and less of the file.
        options = {"preset": "ultrafast", "qp": "14", "bf": "0", "threads": "1"}
        video = self._file.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt, video.gop_size = at.width, at.height, "yuv420p", 2 * RATE
        context = video.codec_context
        context.thread_count = 1
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        self._video, self._size, self._count = video, (at.width, at.height), 0
        self._last = request.seconds * RATE - 1
        self._audio: AudioStream | None = None
        self._tone = array("f")
        if request.sound:
            # Of one note the fast coder makes a quarter of the bytes in half the time, at 12 dB less noise.
            options = {"aac_coder": "fast"}
            self._audio = self._file.add_stream("aac", rate=SAMPLES, layout="stereo", options=options)
            self._tone = _tone(request)
        self._colour: tuple[bytes, ...] = ()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="animatic-encoder")
        self._ahead: deque[Future[None]] = deque()

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for frame in self._ahead:
                    frame.result()
                self._file.mux(self._video.encode(None))
                if self._audio is not None:
                    self._file.mux(self._audio.encode(None))
        finally:
            self._encoder.shutdown(cancel_futures=True)
            self._file.close()

    def add(self, picture: Planes, coloured: bool = True) -> None:
        """The next frame. `coloured`: its colours may differ from those of the frame before."""
        frame = av.VideoFrame(*self._size, "yuv420p")
        if coloured:
            colour = zip(frame.planes[1:], (picture.u, picture.v), strict=True)
            self._colour = tuple(_padded(image, plane.line_size) for plane, image in colour)
        light = _padded(picture.y, frame.planes[0].line_size)
        for plane, data in zip(frame.planes, (light, *self._colour), strict=True):
            plane.update(data)
        if len(self._ahead) == AHEAD:
            self._ahead.popleft().result()
        self._ahead.append(self._encoder.submit(self._encode, frame))

    def _encode(self, frame: VideoFrame) -> None:
        frame.pts, frame.time_base = self._count, Fraction(1, RATE)
        if self._count == self._last:  # what is handed on: as good as the first one, or a chain fades
            frame.pict_type = PictureType.I
        self._file.mux(self._video.encode(frame))
        if self._audio is not None:
            self._sound()
        self._count += 1

    def _sound(self) -> None:
        """The sound of one frame of picture: exactly as long."""
        assert self._audio is not None
        share = SAMPLES // RATE
        samples = self._tone[self._count * share : (self._count + 1) * share].tobytes()
        sound = av.AudioFrame(format="fltp", layout="stereo", samples=share)
        sound.sample_rate, sound.pts, sound.time_base = SAMPLES, self._count * share, Fraction(1, SAMPLES)
        for plane in sound.planes:
            plane.update(samples)
        self._file.mux(self._audio.encode(sound))


AHEAD = 3
"""Frames that are drawn before they can be encoded, at most."""


def _padded(image: Image.Image, line: int) -> bytes:
    """The bytes of a plane whose lines take so many of them."""
    if line == image.width:
        return image.tobytes()
    padded = Image.new("L", (line, image.height))
    padded.paste(image)
    return padded.tobytes()


def _tone(request: RenderRequest) -> array[float]:
    """A quiet note, its pitch from the shot's key, faded in and out."""
    period = 160 + 4 * (hashlib.sha256(request.seed.encode()).digest()[10] % 40)
    turns = [2 * math.pi * i / period for i in range(period)]
    wave = array("f", [0.06 * math.sin(turn) + 0.015 * math.sin(3 * turn) for turn in turns])
    whole = request.seconds * SAMPLES
    tone = (wave * (whole // period + 1))[:whole]
    fade = SAMPLES // 4
    for i in range(fade):
        level = _ease(i / fade)
        tone[i] *= level
        tone[whole - 1 - i] *= level
    return tone
