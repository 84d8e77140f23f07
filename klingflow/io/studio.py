"""The studio: draws the clips of the animatic. To the engine it is a Service like any other, only that it is here.

A clip is a real one: H.264 in MP4, yuv420p tagged BT.709, 24 frames a second, exactly seconds times 24 frames,
faststart, and AAC when sound was ordered. The same order gives the same bytes on the same versions of Pillow and
PyAV: one encoder thread, no dates, own fonts.

Work is done in threads, because Pillow and x264 let go of the interpreter while they compute (two threads drew two
clips in the time of one on two cores): they start at once, share no state, and die with the process however it ends.
Tasks live in memory alone: one of an earlier process is answered with 404, and the engine orders it again.

A move never leaves the stills. A shot begins with its first still exactly as it is and ends with its last still
exactly as it is; a push on a single still gets smaller with each clip along a chain (see Move), so a chain settles.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
import shutil
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from PIL import Image, ImageOps

from klingflow.core.errors import MediaError
from klingflow.core.model import Digest
from klingflow.io import panel
from klingflow.io.service import Gone
from klingflow.providers.animatic import CLIPS
from klingflow.providers.base import Answer, Request

RATE = 24
SAMPLES = 48_000
LONG_POLL_S = 1.0
_TASK = re.compile(r"animatic-[0-9a-f]{32}-[0-9]{1,6}")


class Stopped(Exception):
    """The studio was closed while this clip was being drawn."""


@dataclass(slots=True)
class _Task:
    clip: Path
    frames: int
    drawn: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    future: Future[Digest] = field(init=False)


class Studio:
    """`blob` finds the file of a still by its digest; clips are drawn into `folder`, and gone from it after `close`."""

    def __init__(self, blob: Callable[[str], Path], folder: Path, workers: int | None = None) -> None:
        self._blob = blob
        self._folder = folder
        self._threads = ThreadPoolExecutor(workers or os.cpu_count() or 2, thread_name_prefix="studio")
        self._stop = Event()
        self._tasks: dict[str, _Task] = {}

    async def send(self, request: Request, *, paid: bool = False, before: float = math.inf) -> Answer:
        """POST begins to draw and answers at once; GET answers when the clip is finished, or after a second."""
        if request.method == "POST" and request.path == CLIPS:
            return self._begin(request.body or b"")
        if request.method == "GET" and request.path.startswith(f"{CLIPS}/"):
            return await self._tell(request.path.removeprefix(f"{CLIPS}/"))
        return _answer(404, message=f"the studio has no {request.method} {request.path}")

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        clip = Path(url.removeprefix("file:"))
        task = self._tasks.get(clip.stem)
        if task is None or task.clip != clip or not task.future.done():
            raise Gone("this studio has not drawn that clip")
        digest = task.future.result()
        try:
            size = clip.stat().st_size
            await asyncio.to_thread(_link, clip, to)
        except FileNotFoundError as exc:
            # Somebody tidied the folder: forget the task, so that it is ordered and drawn again.
            del self._tasks[clip.stem]
            raise Gone("the clip is no longer in the studio") from exc
        progress(size, size)
        return digest

    async def close(self) -> None:
        """Stops drawing within a frame and takes unfetched clips away. Must be called before the process ends."""
        self._stop.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for task in self._tasks.values():
            task.clip.unlink(missing_ok=True)
        self._tasks.clear()

    def _begin(self, body: bytes) -> Answer:
        try:
            order = Order.read(body)
        except (ValueError, KeyError, TypeError) as exc:
            return _answer(400, message=f"not an order for a clip: {exc}")
        if order.task not in self._tasks:
            self._folder.mkdir(parents=True, exist_ok=True)
            task = _Task(self._folder / f"{order.task}.mp4", order.seconds * RATE)
            loop = asyncio.get_running_loop()
            task.future = self._threads.submit(self._draw, order, task)
            task.future.add_done_callback(lambda _: loop.call_soon_threadsafe(task.ended.set))
            self._tasks[order.task] = task
        return _answer(200, task=order.task)

    async def _tell(self, name: str) -> Answer:
        task = self._tasks.get(name)
        if task is None:
            return _answer(404, message="no such task")
        try:
            await asyncio.wait_for(task.ended.wait(), LONG_POLL_S)
        except TimeoutError:
            return _answer(200, state="rendering", progress=round(task.drawn / task.frames, 3))
        try:
            task.future.result()
        except MediaError as exc:
            return _answer(200, state="failed", message=exc.what)
        except OSError as exc:
            return _answer(200, state="failed", message=f"the clip could not be written: {exc.strerror or exc}")
        return _answer(200, state="done", url=f"file:{task.clip}")

    def _draw(self, order: Order, task: _Task) -> Digest:
        def drawn() -> None:
            task.drawn += 1
            if self._stop.is_set():
                raise Stopped

        part = task.clip.with_suffix(".part")
        try:
            render(order, self._blob, part, drawn)
            with part.open("rb") as file:
                digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
            os.replace(part, task.clip)
        finally:
            part.unlink(missing_ok=True)
        return digest


def _link(clip: Path, to: Path) -> None:
    to.unlink(missing_ok=True)
    try:
        os.link(clip, to)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(clip, to)


def _answer(status: int, **said: object) -> Answer:
    return Answer(status=status, headers={"content-type": "application/json"}, body=json.dumps(said).encode())


# The order -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
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
    def read(cls, body: bytes) -> Order:
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

    def captions(self) -> list[tuple[int, str]]:
        """(frames, text) one after the other; together as many frames as the clip has."""
        whole = self.seconds * RATE
        if not self.parts:
            text = f"{self.prompt}  [without: {self.negative_prompt}]" if self.negative_prompt else self.prompt
            return [(whole, text)]
        out, left = [], whole
        for i, (prompt, seconds) in enumerate(self.parts):
            frames = left if i == len(self.parts) - 1 else min(seconds * RATE, left)
            if frames > 0:
                out.append((frames, f"{i + 1}/{len(self.parts)}  {prompt}"))
                left -= frames
        return out

    def meta(self) -> str:
        facts = [f"take {self.take}"] if self.take != 1 else []
        facts += [self.resolution, *(["sound"] if self.sound else [])]
        facts += ["multi-shot"] if self.by == "intelligence" else []
        return " · ".join(facts)


# Drawing -------------------------------------------------------------------------------------------------------

_ACCURATE = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""Without the accurate flags every hop along a chain darkens the picture."""


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture as the encoder wants it: luma, and two colour planes of half the size. BT.709, limited range.

    Moving three planes costs half of what moving RGB costs, and nothing has to be converted frame by frame.
    """

    y: Image.Image
    u: Image.Image
    v: Image.Image

    @classmethod
    def of(cls, image: Image.Image) -> Planes:
        frame = av.VideoFrame.from_image(image).reformat(  # type: ignore[no-untyped-call]
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=_ACCURATE,
        )
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
        return self if zoom == 1.0 else Planes(*(_zoomed(plane, zoom, focus) for plane in (self.y, self.u, self.v)))

    def faded(self, to: Planes, share: float) -> Planes:
        if share in (0.0, 1.0):
            return to if share else self
        return Planes(
            Image.blend(self.y, to.y, share), Image.blend(self.u, to.u, share), Image.blend(self.v, to.v, share)
        )


def _zoomed(plane: Image.Image, zoom: float, focus: tuple[float, float]) -> Image.Image:
    width, height = plane.width / zoom, plane.height / zoom
    left, top = (plane.width - width) * focus[0], (plane.height - height) * focus[1]
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

    def at(self, n: int) -> Planes:
        way = n / (self.frames - 1) if self.frames > 1 else 0.0
        gone = _ease(way)
        if self.last is None:
            return self.first.zoomed(1 + self.push * gone, self.focus)
        share = _ease((way - 0.3) / 0.4)
        if share == 0.0:
            return self.first.zoomed(1 + self.push * gone, self.focus)
        back = self.last.zoomed(1 + PUSH * (1 - gone), self.focus)
        return back if share == 1.0 else self.first.zoomed(1 + self.push * gone, self.focus).faded(back, share)


PUSH = 0.07


def _ease(way: float) -> float:
    way = min(max(way, 0.0), 1.0)
    return way * way * (3 - 2 * way)


def render(order: Order, blob: Callable[[str], Path], to: Path, drawn: Callable[[], None]) -> None:
    """Draws the clip into the new file `to`, calling `drawn` after each frame. Raises MediaError for a bad still."""
    first, last = (_still(order, role, blob) for role in ("first_frame", "last_frame"))
    at = _layout(order, first or last)
    dice = hashlib.sha256(order.seed.encode()).digest()
    focus = (0.35 + 0.3 * dice[8] / 255, 0.4 + 0.2 * dice[9] / 255)
    pushes = last.pushes if last else min((first.pushes if first else 0) + 1, panel.MOST_PUSHES)
    captions = order.captions()
    moves = _moves(order, blob, at, first, last, focus, captions)
    grounds = [
        Planes.of(panel.surround(at, shot=order.shot, text=text, meta=order.meta(), pushes=pushes, last=False))
        for _, text in captions
    ]
    end = Planes.of(
        panel.surround(at, shot=order.shot, text=captions[-1][1], meta=order.meta(), pushes=pushes, last=True)
    )
    signs = {char: sign.point([16 + round(i * 219 / 255) for i in range(256)]) for char, sign in panel.digits().items()}
    with _Film(to, at, order) as film:
        for n, (picture, part) in enumerate(_pictures(moves, captions)):
            frame = end if n == order.seconds * RATE - 1 else grounds[part]
            frame.paste(picture, at.picture[:2])
            x, y = at.timecode
            for char in f"{n // RATE // 60:02}:{n // RATE % 60:02}:{n % RATE:02}":
                frame.y.paste(signs[char], (x, y))
                x += signs[char].width
            film.add(frame)
            drawn()


def _pictures(moves: Sequence[Move], captions: Sequence[tuple[int, str]]) -> Iterator[tuple[Planes, int]]:
    """Every frame's picture, with the number of the caption under it."""
    parts = [i for i, (frames, _) in enumerate(captions) for _ in range(frames)]
    pictures = (move.at(n) for move in moves for n in range(move.frames))
    return zip(pictures, parts, strict=True)


@dataclass(frozen=True, slots=True)
class _Still:
    """An image as it goes in; one that is a frame of an animatic is its picture alone."""

    image: Image.Image
    size: tuple[int, int]
    pushes: int
    animatic: bool


def _still(order: Order, role: str, blob: Callable[[str], Path]) -> _Still | None:
    if role not in order.frames:
        return None
    try:
        with Image.open(blob(order.frames[role]), formats=("PNG", "JPEG", "WEBP")) as file:
            image = _opaque(ImageOps.exif_transpose(file))
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as exc:
        raise MediaError(f"the image for {role} of shot '{order.shot}' cannot be read: {exc}") from exc
    pushes = panel.pushes_of(image)
    if pushes is None:
        return _Still(image, image.size, 0, animatic=False)
    return _Still(panel.picture_in(image), image.size, pushes, animatic=True)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*panel.GROUND, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _layout(order: Order, still: _Still | None) -> panel.Layout:
    if still is not None:
        return panel.Layout(*still.size) if still.animatic else panel.layout(still.size[0] / still.size[1])
    width, _, height = order.aspect_ratio.partition(":")
    if width.isdecimal() and height.isdecimal() and int(width) and int(height):
        return panel.layout(int(width) / int(height))
    return panel.layout(16 / 9)


def _moves(
    order: Order,
    blob: Callable[[str], Path],
    at: panel.Layout,
    first: _Still | None,
    last: _Still | None,
    focus: tuple[float, float],
    captions: Sequence[tuple[int, str]],
) -> list[Move]:
    """What moves: from still to still, on one still, or a title card for each part of a shot that has none."""
    size = at.picture_size
    if first is not None or last is not None:
        end = Planes.of(panel.fitted(last.image, size)) if last else None
        if first is not None:
            return [Move(order.seconds * RATE, Planes.of(panel.fitted(first.image, size)), end, _push(first), focus)]
        captions = [(order.seconds * RATE, order.prompt)]
    else:
        end = None
    others = [_still(order, role, blob) for role in order.frames if role not in ("first_frame", "last_frame")]
    images = [still.image for still in others if still is not None]
    out = []
    for i, (frames, text) in enumerate(captions):
        ground = panel.card(size, seed=f"{order.seed}{i}", over=order.shot, text=text, images=images)
        out.append(Move(frames, Planes.of(ground), end, PUSH, focus))
    return out


def _push(still: _Still) -> float:
    return PUSH * 0.55**still.pushes


class _Film:
    """The MP4 being written; used as a context manager, finished at its end."""

    def __init__(self, to: Path, at: panel.Layout, order: Order) -> None:
        # bitexact keeps library versions out of the headers; x264's own threads would change the bytes.
        self._file = av.open(str(to), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"})
        options = {"preset": "ultrafast", "crf": "17", "bf": "0", "threads": "1"}
        video = self._file.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt, video.gop_size = at.width, at.height, "yuv420p", 2 * RATE
        context = video.codec_context
        context.thread_count = 1
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        self._video, self._size, self._count = video, (at.width, at.height), 0
        self._audio = self._file.add_stream("aac", rate=SAMPLES, layout="stereo") if order.sound else None
        self._tone = _tone(order) if order.sound else array("f")

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.mux(self._video.encode(None))
                if self._audio is not None:
                    self._file.mux(self._audio.encode(None))
        finally:
            self._file.close()

    def add(self, picture: Planes) -> None:
        frame = av.VideoFrame(*self._size, "yuv420p")
        frame.pts, frame.time_base = self._count, Fraction(1, RATE)
        for plane, image in zip(frame.planes, (picture.y, picture.u, picture.v), strict=True):
            if plane.line_size == plane.width:
                plane.update(image.tobytes())
            else:
                padded = Image.new("L", (plane.line_size, plane.height))
                padded.paste(image)
                plane.update(padded.tobytes())
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


def _tone(order: Order) -> array[float]:
    """A quiet note, its pitch from the shot's key, faded in and out."""
    period = 160 + 4 * (hashlib.sha256(order.seed.encode()).digest()[10] % 40)
    turns = [2 * math.pi * i / period for i in range(period)]
    wave = array("f", [0.06 * math.sin(turn) + 0.015 * math.sin(3 * turn) for turn in turns])
    whole = order.seconds * SAMPLES
    tone = (wave * (whole // period + 1))[:whole]
    fade = SAMPLES // 4
    for i in range(fade):
        level = _ease(i / fade)
        tone[i] *= level
        tone[whole - 1 - i] *= level
    return tone
