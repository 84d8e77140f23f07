"""Measures what output.seams judges: decodes clips small, follows what moves in them (dense optical flow), and listens
at their joins. The extra klingflow[seams] brings OpenCV, and with it numpy.

Each clip is decoded once, as far as the film shows it; several are looked at side by side. Inside a clip, what is
followed from sample to sample tells how light, colours and fine detail change of the same things, whatever else comes
into the picture; the sum of these steps along a chain is the drift, free of what the camera merely turned to. Across a
join, each point of the last picture before it is followed so many frames back and so many on, which gives its speed on
both sides. Numbers are of the picture as it is shown on an ordinary screen, WIDE pixels wide; speeds are in % of its
width a second.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame

from klingflow.core.errors import MediaError
from klingflow.io import media
from klingflow.io.downmix import RATE
from klingflow.output import seams
from klingflow.output.seams import Across, Inside, Seam

Array = np.ndarray[Any, Any]
Planes = list[Array]
"""A frame's light and colour differences, as large as they were coded."""

AT_ONCE = min(4, os.cpu_count() or 1)
"""Clips that are worth looking at side by side: each keeps one processor busy."""
WIDE = 384
ALIKE = (7, 7)
"""Points that are followed, beside each other, that go alike: the mean of so many is less noisy than each of them."""
BLOCK = 8
"""Pixels of a side of the squares, of the small picture, in which light, colour and detail are averaged."""
ENDS = 10
"""Frames on each side of a join in which motion is followed."""
NEAR = 4
"""Frames on each side in which light and colours are compared."""
LONG = 45
"""Frames on each side in which repetitions and standing still are looked for."""
HEARD_S = 2.0
"""Seconds of sound on each side of a join."""
THING = 12
"""Points, of those that are followed, that a thing is large at least."""
FLOOR = 1.0
"""% of the width a second: slower than that is not told from standing still (a tenth of a pixel a frame)."""

SLOW = 4.0
"""% of the width a second: a change of what is slower counts as if it were so fast, as an eye hardly sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A clip as the film shows it: frames `first` to before `end` (None: to its last)."""

    shot: str
    path: Path
    first: int = 0
    end: int | None = None


@dataclass(slots=True)
class Picture:
    """A frame, small."""

    light: Array
    """Grey, 0 to 255."""
    half: Array
    """The same at half the width."""
    colour: Array | None
    """Light and colour difference (YCbCr bytes) as it was coded; None where nobody asks for it."""
    matrix: int
    full: bool
    """How to read it (media.colour)."""


@dataclass(slots=True)
class Sample:
    """What is known of a frame whose things are followed to the next sample."""

    picture: Picture
    lab: Array
    detail: tuple[Array, ...]
    """The energy of detail in each block: of one pixel of the clip, of two, and of some twenty."""


@dataclass(slots=True)
class Look:
    """What was seen and heard of a clip."""

    clip: Clip
    rate: float
    inside: Inside
    head: list[Picture]
    tail: list[Picture]
    first: Sample
    last: Sample
    sound: tuple[Array, Array] | None
    """Of the beginning, and of the end: (samples, 2)."""
    unheard: int
    """Samples at the beginning that the film leaves out."""
    notes: list[str] = field(default_factory=list)


def seams_of(clips: Sequence[Clip], joins: Sequence[str], limits: dict[str, float]) -> tuple[Seam, ...]:
    """Measures and judges the joins of a film: `joins` says of each what it is (Seam.join). Raises MediaError."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="seams") as threads:
        looks = list(threads.map(look, clips))
    acrosses = [across(one, two, join) for one, two, join in zip(looks, looks[1:], joins, strict=False)]
    starts = [sum(each.inside.frames for each in looks[:n]) for n in range(len(looks))]
    return seams.judge(
        [clip.shot for clip in clips],
        [each.inside for each in looks],
        acrosses,
        joins,
        limits,
        starts=starts,
        rate=looks[0].rate,
    )


# ---------------------------------------------------------------- one clip


def look(clip: Clip) -> Look:
    """Decodes a clip, as far as the film shows it. Raises MediaError."""
    line = media.timeline(clip.path)
    count = len(line.begins)
    end = count if clip.end is None else min(clip.end, count)
    if not 0 <= clip.first < end:
        raise MediaError(f"{clip.path.name} has no frame between {clip.first} and {end}")
    origin = line.begins[clip.first] * line.base
    finish = line.begins[end] * line.base if end < count else line.start_s + line.seconds
    begin = line.start_s if clip.first <= 2 else origin
    with ThreadPoolExecutor(1, thread_name_prefix="seams") as thread:
        heard = thread.submit(_sounds, clip.path, begin, finish)
        return _seen(clip, end, float(line.rate), heard, round((origin - begin) * RATE))


def _seen(clip: Clip, end: int, rate: float, heard: Future[tuple[Array, Array] | None], unheard: int) -> Look:
    head: list[Picture] = []
    tail: deque[Picture] = deque(maxlen=LONG)
    steps: list[_Step] = []
    track = _Track(rate)
    flow = _flow(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    last: tuple[Picture, Planes] | None = None
    for n, frame in enumerate(_shown(clip.path, clip.first, end)):
        full, picture = _picture(frame)
        if n < NEAR or n >= end - clip.first - NEAR:
            _colour(full, picture)
        if len(head) < LONG:
            head.append(picture)
        if tail:
            steps.append(_step(flow, tail[-1], picture))
        track.see(n, full, picture, steps[-1] if steps else None)
        tail.append(picture)
        last = picture, full
    if last is None:
        raise MediaError(f"{clip.path.name} is damaged: none of its frames decodes")
    sample = track.close(last[0], last[1])
    levels = track.levels()
    still, sudden = _still(list(tail))
    inside = Inside(
        frames=end - clip.first,
        rate=rate,
        cuts=tuple(_cuts(steps)),
        early=_mean(levels, 0, 1 / 3),
        late=_mean(levels, 2 / 3, 1),
        whole=tuple(float(each) for each in levels[-1][1]),
        middle=_mean(levels, 0, 1),
        scaled=_scaled(track.light),
        still=still,
        sudden=sudden,
    )
    return Look(
        clip=clip,
        rate=rate,
        inside=inside,
        head=head,
        tail=list(tail),
        first=track.first,
        last=sample,
        sound=heard.result(),
        unheard=unheard,
    )


def _shown(path: Path, first: int, end: int) -> Iterator[VideoFrame]:
    for n, (frame, _) in enumerate(media.frames(path, threads=1)):
        if n >= end:
            return
        if n >= first:
            yield frame


_PLAIN = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


def _picture(frame: VideoFrame) -> tuple[Planes, Picture]:
    """A frame in full, and its light small."""
    if frame.format.name not in _PLAIN or not media.is_plain(frame):
        seen, source = media.as_seen(frame, "left")
        target = "out_color_matrix=bt709:out_range=tv"
        graph = media.chain(
            frame, *seen, ("scale", f"{media.ACCURATE}:{source}:{target}"), ("format", "pix_fmts=yuv444p")
        )
        graph.vpush(frame)
        frame = graph.vpull()
        matrix, full_range = 1, False
    else:
        matrix, full_range = media.colour(frame)
    planes = [_plane(frame, n) for n in range(3)]
    light = planes[0]
    width = min(WIDE, light.shape[1]) // (2 * BLOCK) * 2 * BLOCK
    height = max(2, round(light.shape[0] * width / light.shape[1] / (2 * BLOCK))) * 2 * BLOCK
    small = _small(light, (width, height))
    half = _halved(small)
    return planes, Picture(small, half, None, matrix, full_range)


def _colour(full: Planes, picture: Picture) -> None:
    if picture.colour is None:
        size = picture.light.shape[1], picture.light.shape[0]
        picture.colour = cv2.merge([picture.light, *(_small(plane, size) for plane in full[1:])])


def _small(plane: Array, size: tuple[int, int]) -> Array:
    near = _halves(plane, size[0])
    # So little smaller, what lies on the line between two points is as good as the area, and six times as fast.
    how = cv2.INTER_LINEAR if near.shape[1] < 1.5 * size[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(near, size, interpolation=how))


def _halved(picture: Array) -> Array:
    """At half the size: many times faster than at any other."""
    size = picture.shape[1] // 2, picture.shape[0] // 2
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _halves(picture: Array, width: int) -> Array:
    """Halved for as long as it stays wider than that."""
    while picture.shape[1] >= 2 * width:
        picture = _halved(picture)
    return picture


def _plane(frame: VideoFrame, n: int) -> Array:
    plane = frame.planes[n]
    rows: Array = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Of red and blue in the light, by matrix (H.273)."""


def _lab(colour: Array, matrix: int, full: bool) -> Array:
    return np.asarray(cv2.cvtColor(_rgb(colour, matrix, full), cv2.COLOR_RGB2Lab))


def _rgb(colour: Array, matrix: int, full: bool) -> Array:
    red, blue = _WEIGHTS[matrix]
    values = colour.astype(np.float32)
    light = values[..., 0] / 255 if full else (values[..., 0] - 16) / 219
    cb, cr = ((values[..., n] - 128) / (255 if full else 224) for n in (1, 2))
    r = light + 2 * (1 - red) * cr
    b = light + 2 * (1 - blue) * cb
    g = (light - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], -1), 0, 1).astype(np.float32)


def _lab_of(picture: Picture, moved: Array | None = None) -> Array:
    """L*a*b* of each block; of things that went so far since the picture before, where they were there."""
    assert picture.colour is not None
    colour = picture.colour
    height, width = colour.shape[:2]
    if moved is not None:
        colour = _warped(colour, cv2.resize(moved, (width, height)) * 2)
    size = width // BLOCK, height // BLOCK
    blocks = cv2.resize(colour.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return _lab(blocks, picture.matrix, picture.full)


# ---------------------------------------------------------------- motion


def _flow(preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM) -> Callable[[Array, Array], Array]:
    """Dense optical flow of two grey pictures: how far each point of the first went, in pixels."""
    found = cv2.DISOpticalFlow.create(preset)
    return lambda one, two: np.asarray(found.calc(one, two, None))  # type: ignore[call-overload]


@dataclass(slots=True)
class _Step:
    """From one frame to the next, at half width."""

    raw: float
    """How unlike they are, in levels."""
    left: float
    """The same once the motion is taken away."""
    speed: float
    """Pixels, of the middle of all points."""


def _step(flow: Callable[[Array, Array], Array], one: Picture, two: Picture) -> _Step:
    moved = flow(one.half, two.half)
    back = _warped(two.half, moved)
    inner = (slice(6, -6), slice(6, -6))
    raw = cv2.absdiff(one.half, two.half)[inner]
    left = cv2.absdiff(one.half, back)[inner]
    some = moved[2::4, 2::4]
    speed = _median(np.hypot(some[..., 0], some[..., 1]))
    return _Step(cv2.mean(raw)[0], cv2.mean(left)[0], speed)


def _median(values: Array) -> float:
    """Of two in the middle, the greater: three times as fast as numpy's."""
    half = values.size // 2
    return float(np.partition(values, half, axis=None)[half])


_GRIDS: dict[tuple[int, int], Array] = {}


def _grid(shape: tuple[int, ...]) -> Array:
    """The place of each point of a picture: x, y."""
    size = shape[0], shape[1]
    if size not in _GRIDS:
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        _GRIDS[size] = np.dstack([x, y])
    return _GRIDS[size]


def _warped(picture: Array, moved: Array) -> Array:
    """What the points of the picture before show by now: `picture` where they went."""
    return _read(picture, _grid(moved.shape) + moved)


def _read(picture: Array, places: Array) -> Array:
    """A picture at places between its points; outside it what is at its edge."""
    return np.asarray(cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))  # type: ignore[call-overload]


def _cuts(steps: Sequence[_Step]) -> list[int]:
    """The frames, from 0, that begin after a cut."""
    out = []
    for n, step in enumerate(steps):
        near = [*steps[max(0, n - 9) : n], *steps[n + 1 : n + 10]]
        if len(near) < 4:
            continue
        usual_left = sorted(each.left for each in near)[len(near) // 2]
        usual_raw = sorted(each.raw for each in near)[len(near) // 2]
        usual_speed = sorted(each.speed for each in near)[len(near) // 2]
        unlike = step.left > 3.0 + 3.0 * usual_left and step.raw > 4.0 + 2.0 * usual_raw
        # Where the picture passes fast, two frames are always unlike; what motion leaves of it tells more there.
        unlike |= step.left > max(4.0 + 4.0 * usual_left, 0.6 * step.raw) and step.raw > 1.25 * usual_raw
        leapt = step.speed > 5.0 + 5.0 * usual_speed and step.raw > 4.0 + 2.0 * usual_raw
        if (unlike or leapt) and not _flash(steps, n):
            out.append(n + 1)
    return out


def _flash(steps: Sequence[_Step], n: int) -> bool:
    """Whether the picture changes as much right before or after: a flash comes and goes."""
    near = [steps[m] for m in (n - 2, n - 1, n + 1, n + 2) if 0 <= m < len(steps)]
    return any(each.raw > 0.6 * steps[n].raw and each.left > 0.6 * steps[n].left for each in near)


# ---------------------------------------------------------------- light, colour and detail, followed


Change = Array
"""Of what is followed: L*, a*, b*, chroma, logs of the finest, fine and coarse detail, and of the size."""
NOTHING: Change = np.zeros(8, np.float64)
FADE_RATE = 12.0
"""L* a second: faster than that light is faded on purpose, or flashes, and does not drift."""
DARK = 6.0
"""L*: darker than that a picture has no colour or detail worth the name."""


class _Track:
    """Follows things through a clip, in samples that lie close enough together to see the same."""

    def __init__(self, rate: float) -> None:
        self._steps: list[tuple[int, Change | None]] = []
        self._rate = rate
        self._flow = _flow(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._gone = 0.0
        self._at = 0
        self._torn = False
        self._last: Sample | None = None
        self.first: Sample
        self.light: Array
        self._number = 0

    def see(self, n: int, full: Planes, picture: Picture, step: _Step | None) -> None:
        self._number = n
        if self._last is None:
            self.light = full[0].copy()
            self.first = self._last = sample(full, picture)
            return
        assert step is not None
        self._gone += step.speed
        self._torn |= step.left > 12
        if n - self._at >= self._rate / 3 or self._gone > 0.06 * picture.half.shape[1]:
            self._add(n, sample(full, picture))

    def levels(self) -> list[tuple[int, Change]]:
        """At each sampled frame, how far all has changed since the first. The step before and after a fade is the
        fade's own beginning and end."""
        out = [(0, NOTHING)]
        for n, (frame, change) in enumerate(self._steps):
            near = self._steps[max(0, n - 1) : n + 2]
            out.append((frame, out[-1][1] + (NOTHING if any(each is None for _, each in near) else change)))
        return out

    def close(self, picture: Picture, full: Planes) -> Sample:
        """The last sample."""
        assert self._last is not None
        if self._number != self._at:
            self._add(self._number, sample(full, picture))
        return self._last

    def _add(self, n: int, now: Sample) -> None:
        assert self._last is not None
        seconds = (n - self._at) / self._rate
        change = None if self._torn else changed(self._flow, self._last, now, seconds)
        self._steps.append((n, change))
        self._last, self._at, self._gone, self._torn = now, n, 0.0, False


def sample(full: Planes, picture: Picture) -> Sample:
    _colour(full, picture)
    rows, columns = picture.light.shape[0] // BLOCK, picture.light.shape[1] // BLOCK
    light = full[0]
    fine = tuple(_energy(each, 1.0, None, (columns, rows)) for each in (light, _halved(light)))
    return Sample(picture, _lab_of(picture), (*fine, _energy(picture.light, 1.5, 5.0, (columns, rows))))


def _energy(picture: Array, below: float, above: float | None, size: tuple[int, int]) -> Array:
    """The energy, in each block, of detail that is finer than `above` and coarser than `below`, as sigmas of
    blurs in pixels. `above` None: the finest."""
    soft = cv2.GaussianBlur(picture, (0, 0), below)
    band = cv2.absdiff(soft, picture if above is None else cv2.GaussianBlur(picture, (0, 0), above))
    if above is None:
        band = band[::2]  # every other row tells as much
    energy = cv2.multiply(band, band, dtype=cv2.CV_32F)
    return np.asarray(cv2.resize(_halves(energy, 4 * size[0]), size, interpolation=cv2.INTER_AREA))


SCALES = (0.55, 0.75, 1.3, 1.8, 2.5)


def _scaled(light: Array) -> tuple[tuple[float, ...], ...]:
    """What a zoom alone does to the detail of a picture: for each of SCALES its log, and the change of the logs of the
    finest, fine and coarse detail."""
    rows = [(math.log(scale), _detail(_zoomed(light, scale))) for scale in (1.0, *SCALES)]
    usual = rows[0][1]
    return tuple((size, *(b - a for a, b in zip(usual, found, strict=True))) for size, found in sorted(rows))


def _zoomed(light: Array, scale: float) -> Array:
    """The middle of a picture as it is when it is so much larger: as large as a quarter of it, at most."""
    height, width = light.shape
    high, wide = (round(side / max(2.0, 2.0 * scale)) for side in (height, width))
    top, left = (height - high) // 2, (width - wide) // 2
    part = light[top : top + high, left : left + wide]
    return cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _detail(light: Array) -> tuple[float, ...]:
    found = (_energy(light, 1.0, None, (1, 1)), _energy(_halved(light), 1.0, None, (1, 1)))
    return tuple(0.5 * math.log(float(each[0, 0]) + 0.1) for each in found)


def changed(flow: Callable[[Array, Array], Array], one: Sample, two: Sample, seconds: float) -> Change | None:
    """How light, colour and detail of the same things changed from one sample to another; None where they cannot be
    followed, or are faded."""
    moved = flow(one.picture.half, two.picture.half)
    back = flow(two.picture.half, one.picture.half)
    grid = _grid(moved.shape)
    there = _read(back, grid + moved)
    sure = (np.hypot(*np.moveaxis(there + moved, -1, 0)) < 1.0).astype(np.float32)
    spot = grid + moved
    height, width = moved.shape[:2]
    sure *= (spot[..., 0] > 2) & (spot[..., 0] < width - 3) & (spot[..., 1] > 2) & (spot[..., 1] < height - 3)
    rows, columns = one.lab.shape[:2]
    trust = cv2.resize(sure, (columns, rows), interpolation=cv2.INTER_AREA)
    used = trust > 0.7
    if used.sum() < 0.1 * used.size:
        return None
    before, after = one.lab[used], _lab_of(two.picture, moved)[used]
    lab = [_middle(after[:, n] - before[:, n]) for n in range(3)]
    chroma = _middle(np.hypot(after[:, 1], after[:, 2]) - np.hypot(before[:, 1], before[:, 2]))
    if abs(lab[0]) > FADE_RATE * max(seconds, 0.04) or min(before[:, 0].mean(), after[:, 0].mean()) < DARK:
        return None
    shift = cv2.resize(moved, (columns, rows), interpolation=cv2.INTER_AREA) * (2 / BLOCK)
    detail = [
        0.5 * math.log((float(_warped(b, shift)[used].mean()) + 0.1) / (float(a[used].mean()) + 0.1))
        for a, b in zip(one.detail, two.detail, strict=True)
    ]
    return np.array([*lab, chroma, *detail, _growth(moved, sure)])


def _middle(values: Array) -> float:
    """The mean of what is near to the median: of a shadow that moves over a part of the picture it has little."""
    away = np.abs(values - np.median(values))
    return float(values[away <= max(0.5, 2 * float(np.median(away)))].mean())


def _growth(moved: Array, sure: Array) -> float:
    """The log of how much larger things became."""
    y, x = np.nonzero(sure > 0.5)
    if len(x) < 50:
        return 0.0
    dx, dy = moved[y, x, 0], moved[y, x, 1]
    sx, sy = x - x.mean(), y - y.mean()
    gain = (float((sx * dx).sum() + (sy * dy).sum())) / float((sx * sx).sum() + (sy * sy).sum())
    return math.log(max(0.2, 1 + gain))


def _mean(levels: Sequence[tuple[int, Change]], begin: float, end: float) -> tuple[float, ...]:
    last = levels[-1][0]
    near = [change for n, change in levels if begin * last <= n <= end * last] or [levels[-1][1]]
    return tuple(float(each) for each in np.mean(near, axis=0))


# ---------------------------------------------------------------- standing still, and showing again


def _unlike(one: Picture, two: Picture) -> float:
    """How unlike two frames are where they are most unlike, in levels; their mean light and their contrast, which a
    fade changes, do not count."""
    spread = [float(cv2.meanStdDev(each.half)[1][0, 0]) or 1.0 for each in (one, two)]
    low = min(spread)
    scaled = cv2.addWeighted(one.half, low / spread[0], two.half, -low / spread[1], 0, dtype=cv2.CV_32F)
    soft = cv2.boxFilter(scaled, -1, (5, 5))[4:-4:2, 4:-4:2]
    away = np.abs(soft - _median(soft)).ravel()
    most = len(away) // 50
    return float(np.partition(away, -most)[-most:].mean())


MOVES = 1.0
"""Levels by which one frame is unlike the next at least where something moves."""


def _still(tail: Sequence[Picture]) -> tuple[int, bool]:
    """How many frames a clip stands still at its end, although it moved before; and whether it stopped at once."""
    steps = [_unlike(one, two) for one, two in pairwise(tail)]
    if len(steps) < 4:
        return 0, False
    for still in range(len(steps) - 2, 0, -1):
        end, before = steps[len(steps) - still :], steps[: len(steps) - still]
        usual = float(np.median(before[-8:]))
        if usual < MOVES or len(before) < 2:
            continue
        if max(end) < 0.3 * usual and before[-1] > 0.5 * usual:
            return still, True
        # A coder goes on to refine grain in a picture that stands still.
        if max(end) < 0.5 * usual and np.median(end) < 0.3 * usual and before[-1] > 0.75 * usual:
            return still, True
        if max(end) < 0.1 * usual:
            return still, False
    return _settled([_unlike(each, tail[-1]) for each in reversed(tail)], steps), False


def _settled(gone: Sequence[float], steps: Sequence[float]) -> int:
    """For how many frames nothing goes away from the last one, although it came nearer at a steady pace before; where
    grain, or a coder that refines it, keeps any two frames apart and hides whether it stopped at once. `gone` is how
    unlike the last frame each one is, from itself backwards; `steps`, how unlike the next one each is. A camera that
    hesitates is none: it moves ever faster again."""
    for still in range(len(gone) - 6, 3, -1):
        pace = (gone[still + 4] - gone[still]) / 4
        last = gone[still + 1] - gone[still]
        first = gone[still] - gone[still - 1]
        went = max(gone[1 : still + 1]) - gone[1]
        early, late = (float(np.median(part)) for part in (steps[-still : -(still // 2)], steps[-(still // 2) :]))
        steady = pace > 0.6 and last > 0.5 * pace and first < 0.5 * pace and late < 1.5 * early
        if steady and went < min(1.5, 0.25 * (still - 1)) * pace:
            return still
    return 0


def _same(tail: Sequence[Picture], at: int, picture: Picture, near: float, pace: float) -> bool:
    """Whether a frame shows one of the tail's again: it is near it; or, where grain or a coder keeps any two frames
    apart, it is nearer to it than frames are that follow each other, and than to those beside it."""
    unlike = _unlike(tail[at], picture)
    if unlike < near:
        return True
    beside = [_unlike(tail[n], picture) for n in (at - 1, at + 1) if 0 <= n < len(tail)]
    return unlike < 0.9 * pace and unlike < 0.8 * min(beside)


def _again(tail: Sequence[Picture], head: Sequence[Picture]) -> int:
    """How many frames after the join show again what was shown before it."""
    usual = [_unlike(one, two) for one, two in zip(tail[-9:], tail[-8:], strict=False)]
    pace = float(np.median(usual[-3:])) if usual else 0.0
    if pace < MOVES:
        return 0
    near = max(0.35 * pace, 0.5)
    best = 0
    for length in range(2, min(len(tail), len(head), LONG)):
        begin = len(tail) - length
        picked = sorted({0, length // 2, length - 1, length // 4, 3 * length // 4})
        if all(_same(tail, begin + n, head[n], near, pace) for n in picked):
            # What comes back by itself, as a pendulum does, was at the same place as long before.
            best = 0 if _same(tail, begin - 1, tail[-1], near, pace) else length
            break
    return max(best, _returned(tail, head, pace), _held(tail, head, pace, stutters=min(usual) < 0.3 * pace))


def _held(tail: Sequence[Picture], head: Sequence[Picture], pace: float, *, stutters: bool) -> int:
    """How many frames go on showing the last one before the join."""
    away = _unlike(tail[-1], head[0])
    if away >= 0.8 * pace or stutters:
        return 0
    held = 1
    # Coded anew the picture is not quite the same, but it does not move.
    for one, two in pairwise(head):
        if _unlike(one, two) >= 0.2 * pace:
            break
        held += 1
    return held if held > 1 or away < max(0.2 * pace, 0.4) else 0


def _returned(tail: Sequence[Picture], head: Sequence[Picture], pace: float) -> int:
    """How many frames it takes until the picture is back at the last one before the join, which it left at a leap: on
    the way it shows again what lay before, as nearly as grain lets any two frames be near."""
    away = [_unlike(tail[-1], picture) for picture in head[: len(tail) - 1]]
    back = int(np.argmin(away)) + 1
    if back == 1 or away[0] < 1.3 * max(pace, away[back - 1]):
        return 0
    again = [_unlike(one, two) for one, two in zip(tail[-back:], head[:back], strict=True)]
    return back if np.mean(again) < 1.15 * pace and max(again) < 1.5 * pace else 0


# ---------------------------------------------------------------- across a join


def across(one: Look, two: Look, join: str) -> Across:
    """Measures what lies between two clips that are shown one after the other."""
    loudness, click = _heard(one, two)
    shapes = one.last.picture.light.shape == two.first.picture.light.shape
    if join == "cut" or not shapes:
        return Across(loudness=loudness, click=click)
    motion = _motion(one, two)
    step = changed(_flow(), one.last, two.first, 1.0)
    luma, colour = _jump(one, two)
    return Across(
        loudness=loudness,
        click=click,
        velocity=motion.broken if motion else None,
        before=motion.before if motion else None,
        after=motion.after if motion else None,
        turn=motion.turn if motion else None,
        echo=_again(one.tail, two.head),
        luma=luma,
        colour=colour,
        step=tuple(float(each) for each in (NOTHING if step is None else step)),
    )


@dataclass(slots=True)
class _Motion:
    broken: float
    before: float
    after: float
    turn: float


def _motion(one: Look, two: Look) -> _Motion | None:
    left, right = one.tail[-ENDS:], two.head[:ENDS]
    if len(left) < 4 or len(right) < 4:
        return None
    origin = left[-1]
    back = _followed([each.light for each in reversed(left)])
    on = _followed([origin.light, *(each.light for each in right)])
    width = origin.light.shape[1]
    # % of the width a second of each step, the nearest to the join first; of a point of the last picture before it.
    before = -np.diff(back, axis=0) * (one.rate * 100 / width)
    after = np.diff(on, axis=0) * (two.rate * 100 / width)
    leap, after = after[0], after[1:]
    sure = _textured(origin.light) & _inside(back, on, origin.light.shape)
    if sure.sum() < 60:
        return None
    before, after, leap = before[:, sure], after[:, sure], leap[sure]
    vl, vr = before[:4].mean(0), after[:4].mean(0)
    size_l, size_r = _size(vl), _size(vr)
    faster = np.maximum(size_l, size_r)
    moving = faster > max(FLOOR, 0.3 * _fastest(faster, sure))
    share = float(moving.mean())
    speed = float(np.median(faster[moving])) if moving.any() else 0.0
    if share < 0.004:
        return _Motion(0.0, 0.0, 0.0, 0.0)
    total = float(np.maximum(faster[moving], SLOW).sum())
    places = np.zeros(sure.shape, bool)
    places[sure] = moving
    crowd = cv2.boxFilter(places.astype(np.float32), -1, ALIKE, normalize=False)

    def part(difference: Array) -> float:
        field = np.zeros((*places.shape, 2), np.float32)
        field[places] = difference[moving]
        alike = cv2.boxFilter(field, -1, ALIKE, normalize=False)[places] / crowd[places][:, None]
        return float(_size(alike).sum()) / total

    def leaps(step: Array, usual: Array) -> float:
        """How far most of what moves is from its usual step."""
        return float(np.median(_size(step - usual)[moving] / np.maximum(faster[moving], SLOW)))

    plain = part(vr - vl)
    bent = part(_reach(after[:8], 1.0) - _reach(before[:8], 1.0)) if min(len(before), len(after)) >= 6 else plain
    inner = [part(each[:4].mean(0) - each[5:9].mean(0)) for each in (before, after) if len(each) >= 8]
    shakes = [leaps(each[n], _beside(each, n)) for each in (before, after) for n in range(2, len(each) - 2)]
    shaky = max(shakes, default=0.0)
    usual = max([*inner, 1.2 * shaky if shaky > 0.5 else 0.0])
    doubt = 1.5 if share > 0.1 else 2.0  # where little moves, much of what seems to is grain
    broken = min(bent, math.sqrt(max(0.0, plain**2 - (doubt * usual) ** 2)))
    usual_step = (vl + vr) / 2
    leapt = leaps(leap, usual_step) - max(1.1, 1.5 * shaky)
    pixels = width / (one.rate * 100)
    if leapt > 0 and _explains(origin.light, right[0].light, sure, usual_step * pixels, leap * pixels):
        leapt = 0.0  # what flow saw is noise: the usual step fits the picture as well
    return _Motion(
        100 * max(broken, min(1.0, leapt), 0.0),
        float(np.median(size_l[moving])),
        float(np.median(size_r[moving])),
        _turn(vl[moving], vr[moving]) if speed else 0.0,
    )


def _fastest(speeds: Array, places: Array) -> float:
    """How fast the fastest thing is that is more than a few points large. Beside it, what hardly moves is grain."""
    field = np.zeros(places.shape, np.float32)
    field[places] = speeds
    soft = cv2.boxFilter(field, -1, (3, 3))[places]
    return float(np.partition(soft, -THING)[-THING])


def _explains(one: Array, two: Array, sure: Array, usual: Array, seen: Array) -> bool:
    """Whether a usual step, in pixels of each point, fits two pictures nearly as well as the one that flow saw."""
    soft = [cv2.GaussianBlur(light, (0, 0), 1.5).astype(np.float32) for light in (one, two)]
    points = _grid(one.shape)[2::4, 2::4]
    there = _read(soft[0], points)[sure]

    def unlike(step: Array) -> float:
        places = points.copy()
        places[sure] += step
        return float(np.abs(_read(soft[1], places)[sure] - there).mean())

    return unlike(usual) <= 1.3 * unlike(seen) + 0.3


def _followed(pictures: Sequence[Array]) -> Array:
    """Where each fourth point of the first picture is in each of the pictures, as a way from its place; in pixels."""
    flow = _flow(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    points = _grid(pictures[0].shape)[2::4, 2::4]
    ways = [np.zeros_like(points)]
    for one, two in pairwise(pictures):
        moved = flow(one, two)
        ways.append(ways[-1] + _read(moved, points + ways[-1]))
    return np.stack(ways)


def _inside(back: Array, on: Array, shape: tuple[int, ...]) -> Array:
    points = _grid(shape)[2::4, 2::4]
    sure = np.ones(points.shape[:2], bool)
    for way in (*back[: min(6, len(back))], *on[: min(7, len(on))]):
        place = points + way
        sure &= (place[..., 0] > 4) & (place[..., 0] < shape[1] - 5)
        sure &= (place[..., 1] > 4) & (place[..., 1] < shape[0] - 5)
    return sure


def _textured(light: Array) -> Array:
    """Where there is something that can be followed, at each fourth point."""
    soft = cv2.GaussianBlur(light, (0, 0), 1.0).astype(np.float32)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=1 / 8)
    strength = cv2.boxFilter(np.hypot(dx, dy), -1, (9, 9))[2::4, 2::4]
    return np.asarray(strength > max(0.6, 0.25 * float(np.median(strength))))


def _size(vectors: Array) -> Array:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]))


def _reach(steps: Array, gap: float) -> Array:
    """The speed at the join, as a straight line through the steps beside it foretells it."""
    t = np.arange(len(steps)) + gap
    t0 = t - t.mean()
    slope = np.tensordot(t0, steps, axes=(0, 0)) / float((t0 * t0).sum())
    return np.asarray(steps.mean(0) - slope * t.mean())


def _beside(steps: Array, n: int) -> Array:
    """The mean of the steps round one, without it."""
    return np.asarray(np.concatenate([steps[max(0, n - 4) : n], steps[n + 1 : n + 5]]).mean(0))


def _turn(before: Array, after: Array) -> float:
    """By how many degrees the motion turns, in the mean of what moves."""
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    dot = (before * after).sum(-1)
    return math.degrees(math.atan2(float(np.abs(cross).sum()), float(dot.sum())))


def _jump(one: Look, two: Look) -> tuple[float, float]:
    """How far light (% of white) and colours (dE without lightness) jump at the join, beyond how they change from frame
    to frame beside it.

    What is taken is what a grading would have to do to undo it: a change of light and colours that depends on nothing
    but the colour. Noise, and what a coder does to single blocks, is no part of it."""
    flow = _flow()
    left, right = one.tail[-NEAR:], two.head[:NEAR]
    pairs = [*pairwise(left), *pairwise(right), (left[-1], right[0])]
    graded = [_grading(flow, a, b) for a, b in pairs]
    jump = graded.pop()
    base = _colours(left[-1])
    steps = [_applied(each, base) for each in graded]
    found = _applied(jump, base)
    usual = [*steps, np.mean(steps, axis=0)] if steps else []
    out = []
    for part in (slice(0, 1), slice(1, 3)):
        out.append(min(_length((found - each)[:, part]) for each in (*usual, 0 * found)))
    return out[0], out[1]


def _colours(picture: Picture) -> Array:
    """For each block: 1, light in % of white, a*, b*."""
    lab = _lab_of(picture)[1:-1, 1:-1].reshape(-1, 3)
    return np.column_stack([np.ones(len(lab)), lab])


def _grading(flow: Callable[[Array, Array], Array], one: Picture, two: Picture) -> Array:
    """What makes the colours of one picture those of the same things in the next: 4 x 3, of `_colours` to a change of
    L*, a*, b*."""
    moved = flow(one.half, two.half)
    before = _colours(one)
    change = _lab_of(two, moved)[1:-1, 1:-1].reshape(-1, 3) - before[:, 1:]
    sizes = np.linalg.norm(change - np.median(change, axis=0), axis=1)
    near = sizes <= np.quantile(sizes, 0.85)
    x, y = before[near], change[near]
    scale = np.array([1.0, 50.0, 15.0, 15.0])
    x = x / scale
    keep = np.diag([1e-6, 0.02, 0.02, 0.02]) * len(x)
    return np.asarray(np.linalg.solve(x.T @ x + keep, x.T @ y) / scale[:, None])


def _applied(grading: Array, colours: Array) -> Array:
    return np.asarray(colours @ grading)


def _length(change: Array) -> float:
    return float(np.sqrt((change**2).sum(-1)).mean())


# ---------------------------------------------------------------- a picture of the join

STRIP = (240, 144)
"""The most that one frame of a strip takes up, in pixels."""


def strip(one: Look, two: Look) -> bytes:
    """A JPEG: the last frames before the join above, the first after it below; arrows show where things go in three
    frames' time."""
    rows = [_row(one.tail[-NEAR - 1 :], NEAR), _row(two.head[: NEAR + 1], NEAR)]
    width = max(row.shape[1] for row in rows)
    rows = [cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT) for row in rows]
    gap = np.full((3, width, 3), 128, np.uint8)
    done, data = cv2.imencode(".jpg", np.vstack([rows[0], gap, rows[1]]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert done
    return data.tobytes()


def _row(pictures: Sequence[Picture], most: int) -> Array:
    flow = _flow()
    shown = [picture for picture in pictures if picture.colour is not None][-most:]
    out = []
    for picture in shown:
        at = next(n for n, each in enumerate(pictures) if each is picture)
        one, two = (at, at + 1) if at + 1 < len(pictures) else (max(0, at - 1), at)
        moved = flow(pictures[one].light, pictures[two].light)
        out.append(_drawn(picture, moved))
    return np.hstack(out)


def _drawn(picture: Picture, moved: Array) -> Array:
    assert picture.colour is not None
    bgr = cv2.cvtColor(_rgb(picture.colour, picture.matrix, picture.full), cv2.COLOR_RGB2BGR) * 255
    height, width = bgr.shape[:2]
    scale = min(STRIP[0] / width, STRIP[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = np.clip(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), 0, 255).astype(np.uint8)
    every = 24
    for y in range(every // 2, height, every):
        for x in range(every // 2, width, every):
            dx, dy = 3 * moved[y, x]
            if math.hypot(dx, dy) > 0.8:
                begin, end = ((round(a * scale * 16), round(b * scale * 16)) for a, b in ((x, y), (x + dx, y + dy)))
                for colour, thick in (((0, 0, 0), 2), ((80, 255, 160), 1)):
                    cv2.arrowedLine(image, begin, end, colour, thick, cv2.LINE_AA, 4, 0.35)
    return image


# ---------------------------------------------------------------- sound


def _sounds(path: Path, begin: Fraction, end: Fraction) -> tuple[Array, Array] | None:
    """The first and the last HEARD_S of a clip's sound between two times of its own clock; None where it has none."""
    most, whole = round(HEARD_S * RATE), round((end - begin) * RATE)
    head: list[Array] = []
    tail: deque[tuple[int, Array]] = deque()
    have = 0
    for chunk in media.sound(path, begin):
        part = np.frombuffer(chunk, np.float32).reshape(-1, 2)
        if have < most:
            head.append(part)
        tail.append((have, part))
        have += len(part)
        while tail[0][0] + len(tail[0][1]) <= whole - most:
            tail.popleft()
            if not tail:
                break
        if have >= max(most, whole):
            break
    if not head:
        return None
    last = np.concatenate([part[: max(0, whole - at)] for at, part in tail] or [head[0][:0]])
    return np.concatenate(head)[:most], last[-most:]


HOP = RATE // 100
QUIET_DB = -55.0


def _heard(one: Look, two: Look) -> tuple[float | None, float | None]:
    """How many dB the sound falls at the join, and how many dB a click stands out; None where one is silent."""
    if one.sound is None or two.sound is None:
        return None, None
    left, right = one.sound[1], two.sound[0]
    if min(len(left), len(right)) < RATE // 4:
        return None, None
    return _dip(left, right[two.unheard :]), _click(left, right, two.unheard)


def _loud(sound: Array) -> Array:
    """dB of each hundredth of a second, over four of them."""
    count = len(sound) // HOP
    power = (sound[: count * HOP].reshape(count, HOP * 2).astype(np.float64) ** 2).mean(1)
    return np.asarray(10 * np.log10(np.convolve(power, np.ones(4) / 4, "same") + 1e-9))


def _dip(left: Array, right: Array) -> float | None:
    whole = _loud(np.concatenate([left, right]))
    at = len(left) // HOP
    near = 45
    before, after = whole[4 : max(8, at - near)], whole[at + near : -4]
    if len(before) < 20 or len(after) < 20:
        return None
    sides = [float(np.median(side)) for side in (before, after)]
    if min(sides) < QUIET_DB:
        return None
    usual = max(side - float(np.percentile(part, 4)) for side, part in zip(sides, (before, after), strict=True))
    low = float(whole[max(0, at - near) : at + near].min())
    dip = min(sides) - low
    return dip if dip > usual + 3 else max(0.0, dip - usual)


def _click(left: Array, right: Array, unheard: int) -> float | None:
    """A click cannot be foretold from the sound before it, as a tone or a voice can."""
    near = RATE * 8 // 100 // _PEAK
    foretell = _foretelling(np.concatenate([left[: -RATE // 10], right[RATE // 10 :]]))
    loud = float(np.abs(left[-RATE // 10 :]).max())
    sounding = np.flatnonzero(np.abs(left).max(1) > 0.02 * loud)
    if len(sounding) and len(left) - sounding[-1] < _CODED:  # a sound that ends at once is no click
        left = left[: sounding[-1] + 1]
    before, after = _surprises(left, foretell), _surprises(right, foretell)[unheard // _PEAK :]
    # A coder makes a little of a sound's end, and much of one that is there at once: as loud as that, for two blocks.
    before[-3:][before[-3:] <= 0.25 * loud] = 0
    if unheard == 0:
        begins = after[: _CODED // _PEAK + 1]
        begins[begins <= 2 * float(np.abs(right[_CODED : RATE // 10]).max())] = 0
    found = max(float(before[-near:].max()), float(after[:near].max()))
    others = np.concatenate([before[near:-near], after[near:-near]])
    if not len(others):
        return None
    usual, middle = max(float(others.max()), 0.004), float(np.median(others))
    # In wind or rain all is equally surprising: less is enough there than where there are beats.
    even = max(0.0, 15 - 20 * math.log10(usual / middle)) if middle > 0.05 * loud else 0.0
    return max(0.0, 20 * math.log10(max(found, 1e-9) / usual) + even)


_CODED = 2048
"""Samples: two blocks of AAC."""
_PEAK = 48
"""Samples: a thousandth of a second."""
_ORDER = 24


def _lower(sound: Array) -> Array:
    """At half the rate: what AAC leaves of the highest tones is not worth foretelling."""
    count = len(sound) // 2 * 2
    return np.asarray(sound[:count].reshape(-1, 2, 2).mean(1))


def _foretelling(sound: Array) -> Array:
    """Linear prediction: what, summed with so many samples before it, foretells a sample."""
    wave = _lower(sound).mean(1).astype(np.float64)
    wave = wave * np.hanning(len(wave))
    power = np.abs(np.fft.rfft(wave, 1 << (len(wave) + _ORDER).bit_length())) ** 2
    products = np.fft.irfft(power)[: _ORDER + 1]
    products[0] = products[0] * 1.0001 + 1e-9
    lags = np.abs(np.subtract.outer(np.arange(_ORDER), np.arange(_ORDER)))
    return np.concatenate([[1.0], -np.linalg.solve(products[lags], products[1:])])


def _surprises(sound: Array, foretell: Array) -> Array:
    """The sample of each thousandth of a second that is furthest from what was foretold."""
    half = _lower(sound).astype(np.float64)
    kernel, newest = foretell[::-1, None], (0, _ORDER)
    left = np.abs(cv2.filter2D(half, -1, kernel, anchor=newest, borderType=cv2.BORDER_CONSTANT)).max(1)
    size = _PEAK // 2
    count = len(left) // size
    peaks = left[: count * size].reshape(count, size).max(1)
    # A sound that begins or ends surprises as well, and is there after it or before it.
    power = np.pad((half[: count * size] ** 2).reshape(count, -1).mean(1), 11)
    eight = np.convolve(power, np.ones(8) / 8, "valid")
    after, before = np.sqrt(eight[13 : 13 + count]), np.sqrt(eight[2 : 2 + count])
    step = np.abs(after - before)
    return np.asarray(np.maximum(0, peaks - 2 * step * (step > 0.5 * np.maximum(after, before))))
