"""How many planted faults of joins `klingflow seams` finds, how often it is wrong, and how long a join takes.

    python benchmarks/seams.py                 # 640x360, a few minutes
    python benchmarks/seams.py --faults 1      # one scene for each fault and strength
    python benchmarks/seams.py --time-only     # seconds a join at 1080p

Chains of clips are drawn with a motion that is known (pans, zooms, turns, parallax, things that move, a camera in the
hand, slow acceleration, nothing at all), over six kinds of picture, with noise, coded by x264 at crf 18 to 28 and 24 or
30 frames a second. Each clip begins with the frame that the one before it ends with. Ten faults are planted, each in
five strengths. A fault is found where a finding of its kind names its join; a false alarm is a join of a film without
a fault that has any finding.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from klingflow.output import seam_measure, seams
from klingflow.output.seam_measure import Clip

Array = np.ndarray[Any, Any]

STRENGTHS: dict[str, tuple[float, ...]] = {
    "speed": (1.4, 1.7, 2.2, 3.0, 0.3),  # times as fast after the join
    "direction": (25, 45, 70, 110, 180),  # degrees
    "freeze": (3, 5, 8, 12, 20),  # frames that stand still before the end
    "echo": (2, 4, 7, 12, 20),  # frames that are shown again
    "colour": (0.05, 0.08, 0.12, 0.18, 0.25),  # more red and less blue
    "luma": (0.025, 0.04, 0.06, 0.1, 0.2),  # of full scale, up or down
    "drift": (6, 8, 11, 16, 24),  # levels of 255 from the first clip of the chain to the last
    "texture": (0.6, 0.8, 1.1, 1.5, 2.2),  # sigma of the blur of the last clip, in pixels
    "loudness": (9, 12, 18, 30, 80),  # dB that a dip of 80 to 300 ms is deep
    "click": (0.15, 0.25, 0.35, 0.5, 0.8),  # of full scale
    "cut": (1, 2, 3, 4, 5),  # ever less like the picture before it
}
KIND = {"speed": "velocity", "direction": "velocity"}
"""The finding that a fault is expected to be, where its name is another one."""

MOTIONS = (
    *("pan", "tilt", "diagonal", "zoom in", "zoom out", "turn", "parallax", "thing", "things and pan", "hand"),
    *("accelerate", "sway", "still", "still"),
)
MOVING = tuple(name for name in MOTIONS if name not in ("still", "hand", "sway"))
SOUNDS = ("tone", "chord", "wind", "speech", "beats")
PICTURES = ("clouds", "mosaic", "landscape", "street", "paper", "leaves")


@dataclass(frozen=True)
class Scene:
    """What is drawn, and how it is coded."""

    seed: int
    picture: str = "clouds"
    motion: str = "pan"
    speed: float = 0.15
    """Widths of the picture a second, or what is like it for a zoom or a turn."""
    size: tuple[int, int] = (640, 360)
    rate: int = 24
    seconds: float = 1.5
    """Of each clip."""
    clips: int = 2
    noise: float = 0.0
    crf: int = 20
    preset: str = "veryfast"
    fade: str = ""
    """"out": the film ends in black; "in": it begins there; "over": it darkens by half and lightens again."""
    sound: str = ""
    fault: str = ""
    strength: float = 0.0
    step: int = 1
    """Of 1 to 5."""
    planned_cut: bool = False


# ---------------------------------------------------------------- what is drawn


def canvas(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """A picture three times as large as a frame each way, BGR floats of 0 to 1."""
    width, height = 3 * size[0], 3 * size[1]
    unit = size[0] / 640
    made: Array
    if kind == "clouds":
        made = octaves(rng, width, height, unit, 1.0)
    elif kind == "mosaic":
        made = np.zeros((height, width, 3), np.float32)
        for _ in range(900):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
            w, h = (int(rng.integers(10, 160) * unit) for _ in "wh")
            cv2.rectangle(made, (x, y), (x + w, y + h), tuple(rng.uniform(0.05, 0.95, 3).tolist()), -1)
        made = cv2.GaussianBlur(made, (0, 0), 0.7)
    elif kind == "landscape":
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        sky = np.array([0.9, 0.7, 0.45], np.float32) * (1 - down) + np.array([0.6, 0.75, 0.9], np.float32) * down
        made = np.repeat(sky, width, 1)
        ground = octaves(rng, width, height, unit, 1.4) * np.array([0.35, 0.6, 0.5], np.float32)
        edge = height * (0.45 + 0.05 * np.sin(np.arange(width) / (90 * unit)) + 0.02 * np.sin(np.arange(width) / 17))
        below = np.arange(height)[:, None] > edge[None]
        made = np.where(below[..., None], ground, made).astype(np.float32)
        for _ in range(60):
            x, y = int(rng.integers(0, width)), int(rng.integers(height // 3, height))
            radius, colour = int(rng.integers(4, 40) * unit), tuple(rng.uniform(0, 0.8, 3).tolist())
            cv2.circle(made, (x, y), radius, colour, -1, cv2.LINE_AA)
    elif kind == "street":
        made = octaves(rng, width, height, unit, 0.4) * 0.3 + 0.35
        for x in range(0, width, int(46 * unit)):
            for y in range(0, height, int(38 * unit)):
                lit = rng.uniform(0, 1, 3) * (rng.random() < 0.4) + 0.08
                cv2.rectangle(made, (x, y), (x + int(26 * unit), y + int(20 * unit)), tuple(lit.tolist()), -1)
    elif kind == "paper":
        page = np.full((height, width, 3), 210, np.uint8)
        for y in range(int(20 * unit), height, int(26 * unit)):
            x = 0
            while x < width:
                word = "".join(chr(97 + c) for c in rng.integers(0, 26, int(rng.integers(2, 9))))
                cv2.putText(page, word, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit, (50, 40, 40), 1, cv2.LINE_AA)
                x += int((len(word) * 10 + 14) * unit)
        made = page.astype(np.float32) / 255 * (octaves(rng, width, height, unit, 0.15) * 0.3 + 0.7)
    else:
        made = octaves(rng, width, height, unit, 2.0) * np.array([0.4, 0.9, 0.6], np.float32)
        made = np.clip(1.6 * made - 0.2, 0, 1)
    return np.clip(made, 0, 1).astype(np.float32)


def octaves(rng: np.random.Generator, width: int, height: int, unit: float, fine: float) -> Array:
    """Noise at many sizes; `fine` says how much of the finest there is."""
    out = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((128, 1.0), (48, 0.8), (18, 0.6), (7, 0.45 * fine), (3, 0.3 * fine)):
        side = max(1.5, cell * unit)
        small = rng.uniform(-1, 1, (int(height / side) + 2, int(width / side) + 2, 3)).astype(np.float32)
        out += weight * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    out -= out.min()
    return out / out.max()


class Drawing:
    """Draws the frames of a scene: `frame(moment)`, where the moment may run faster than the clock."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        rng = self.rng = np.random.default_rng(scene.seed)
        self.back = canvas(scene.picture, rng, scene.size)
        self.front = canvas("leaves" if scene.picture != "leaves" else "mosaic", rng, scene.size)
        self.things = [
            (rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.14), canvas_chip(rng))
            for _ in range(3)
        ]
        self.shake = rng.uniform(0, 2 * math.pi, (4, 6))
        self.sign = rng.choice([-1, 1])
        self.interpolation = rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA])

    def hand(self, moment: float, much: float) -> tuple[float, float, float]:
        """A camera in the hand: where it is off, in widths and degrees."""
        axes = []
        for row in self.shake[:3]:
            waves = (0.4, 0.9, 1.6, 2.3, 3.4, 5.1)
            axes.append(sum(math.sin(2 * math.pi * f * moment + p) / f for f, p in zip(waves, row, strict=True)))
        return axes[0] * much, axes[1] * much, axes[2] * much * 40

    def pose(self, moment: float) -> tuple[float, float, float, float]:
        """How far the camera went, in widths; its zoom; its turn in degrees."""
        scene, speed = self.scene, self.scene.speed * self.sign
        whole = scene.seconds * scene.clips
        x = y = turn = 0.0
        zoom = 1.0
        match scene.motion:
            case "pan" | "parallax" | "things and pan":
                x = speed * moment
            case "tilt":
                y = speed * moment / 2
            case "diagonal":
                x, y = speed * moment, speed * moment * 0.4
            case "zoom in":
                zoom = math.exp(abs(speed) * moment)
            case "zoom out":
                zoom = math.exp(abs(speed) * (whole - moment))
            case "turn":
                turn = speed * 60 * moment
            case "hand":
                x, y, turn = self.hand(moment, 0.006)
                x += speed * 0.3 * moment
            case "accelerate":
                x = speed * moment * moment / whole
            case "sway":
                x, y = speed * 0.4 * math.sin(2.2 * moment), speed * 0.1 * math.cos(1.7 * moment)
        return x, y, zoom, turn

    def frame(self, moment: float, way: float = 0.0, since: float = 0.0) -> Array:
        """BGR floats. `way` turns the motion since the moment `since` by so many degrees."""
        x, y, zoom, turn = self.pose(moment)
        if way:
            sx, sy, szoom, sturn = self.pose(since)
            angle = math.radians(way)
            dx, dy = x - sx, y - sy
            x = sx + dx * math.cos(angle) - dy * math.sin(angle)
            y = sy + dx * math.sin(angle) + dy * math.cos(angle)
            if way >= 90:
                zoom, turn = szoom * szoom / zoom, 2 * sturn - turn
        out = self.look(self.back, x, y, zoom, turn)
        if self.scene.motion == "parallax":
            out = self.lay(out, x, zoom)
        if self.scene.motion in ("thing", "things and pan"):
            for n, thing in enumerate(self.things[: 1 if self.scene.motion == "thing" else 3]):
                self.put(out, thing, n, moment, way, since)
        return out

    def look(self, picture: Array, x: float, y: float, zoom: float, turn: float) -> Array:
        width, height = self.scene.size
        centre = (picture.shape[1] / 2 + x * width, picture.shape[0] / 2 + y * width)
        matrix = cv2.getRotationMatrix2D(centre, turn, zoom)
        matrix[:, 2] += (width / 2 - centre[0], height / 2 - centre[1])
        flags = int(self.interpolation)
        return cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)

    def lay(self, out: Array, x: float, zoom: float) -> Array:
        """Bushes in front of the picture, which pass twice as fast."""
        near = self.look(self.front, 2.0 * x, 0, zoom, 0)
        height, width = out.shape[:2]
        columns = np.arange(width)[None] + 2.0 * x * width
        edge = height * (0.7 + 0.08 * np.sin(columns / (width * 0.07)))
        mask = np.clip((np.arange(height)[:, None] - edge) / 2, 0, 1)[..., None]
        return (out * (1 - mask) + near * mask).astype(np.float32)

    def put(self, out: Array, thing: Any, n: int, moment: float, way: float, since: float) -> None:
        x0, y0, side, chip = thing
        width, height = out.shape[1], out.shape[0]
        pace = self.scene.speed * self.sign * (0.8 + 0.3 * n)
        heading = np.array([math.cos(n * 1.1), math.sin(n * 1.1) * 0.4])
        gone = heading * pace * min(moment, since or moment)
        if since and moment > since:
            angle = math.radians(way)
            turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            gone = gone + turn @ heading * pace * (moment - since)
        middle = scene_middle(self.scene)
        offset = heading * pace * middle
        px = (x0 * 0.4 + 0.3 + gone[0] - offset[0]) * width
        py = (y0 * 0.4 + 0.3) * height + (gone[1] - offset[1]) * width
        extent = max(8.0, side * width)
        matrix = np.array([[extent / chip.shape[1], 0, px], [0, extent / chip.shape[0], py]])
        moved = cv2.warpAffine(chip, matrix, (width, height), flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(np.ones(chip.shape[:2], np.float32), matrix, (width, height))[..., None]
        out[:] = out * (1 - mask) + moved * mask


def scene_middle(scene: Scene) -> float:
    return scene.seconds * scene.clips / 2


def canvas_chip(rng: np.random.Generator) -> Array:
    chip = rng.uniform(0, 1, (6, 6, 3)).astype(np.float32)
    return cv2.resize(chip, (96, 96), interpolation=cv2.INTER_NEAREST)


# ---------------------------------------------------------------- faults


def pictures(scene: Scene) -> list[list[Array]]:
    """The frames of each clip, BGR bytes, the fault in them. It is at the last join, or in the clip after it."""
    drawing = Drawing(scene)
    rng = np.random.default_rng(scene.seed + 1)
    each = round(scene.seconds * scene.rate)
    joins = [each - 1 + n * (each - 1) for n in range(scene.clips - 1)]
    last = joins[-1] if joins else 0
    out: list[list[Array]] = []
    fault, much = scene.fault, scene.strength
    total = each + (scene.clips - 1) * (each - 1)
    other = Drawing(replace(scene, seed=scene.seed + 77, picture=PICTURES[(PICTURES.index(scene.picture) + 2) % 6]))
    for number in range(scene.clips):
        start = number * (each - 1)
        frames = []
        for n in range(each):
            k = start + n
            after = number == scene.clips - 1 and fault != ""
            moment, way, since = k / scene.rate, 0.0, 0.0
            join = last / scene.rate
            if fault == "speed" and after:
                moment = join + (moment - join) * much
            if fault == "direction" and after:
                way, since = much, join
            if fault == "freeze":
                if number == scene.clips - 2:
                    moment = min(k, last - much) / scene.rate
                elif after:
                    moment = (k - much) / scene.rate
            if fault == "echo" and after:
                moment = (k - much) / scene.rate
            drawn = (other if scene.planned_cut and number == scene.clips - 1 else drawing).frame(moment, way, since)
            if fault == "cut" and after and n >= each * 0.55:
                drawn = cut_to(scene, drawing, other, moment)
            if fault == "colour" and after and n > 0:
                drawn = drawn * np.array([1 - much, 1, 1 + much], np.float32)
            if fault == "luma" and after and n > 0:
                drawn = drawn + (much if scene.seed % 2 else -much)
            if fault == "drift":
                ramp = max(0.0, k / (total - 1)) * much / 255
                tint = ((1, 0.4, -0.6), (0.8, 0.8, 0.8), (-0.8, -0.8, -0.8), (-0.8, 0.1, 0.9))[scene.seed % 4]
                drawn = drawn + np.array(tint, np.float32) * ramp
            if fault == "texture" and number:
                sigma = much * number / (scene.clips - 1)
                drawn = cv2.GaussianBlur(drawn, (0, 0), max(0.05, sigma)) if n else drawn
            drawn = faded(scene, drawn, k / max(1, total - 1))
            levels = 255 * drawn
            if scene.noise:
                levels = levels + rng.normal(0, scene.noise, drawn.shape[:2]).astype(np.float32)[..., None]
            frames.append(np.clip(levels + 0.5, 0, 255).astype(np.uint8))
        out.append(frames)
    return out


def cut_to(scene: Scene, drawing: Drawing, other: Drawing, moment: float) -> Array:
    """What is seen after an unasked cut: of the same place, then of places ever less like it."""
    match scene.step:
        case 1:
            x, y, zoom, turn = drawing.pose(moment)
            return drawing.look(drawing.back, x + 0.35, y + 0.1, zoom, turn)
        case 2:
            x, y, zoom, turn = drawing.pose(moment)
            return drawing.look(drawing.back, x, y, zoom * 1.6, turn)
        case 3:
            x, y, zoom, turn = drawing.pose(moment)
            return drawing.look(drawing.back, x - 0.8, y - 0.3, zoom, turn)
        case 4:
            return other.frame(moment)
    return np.clip(1 - other.frame(moment), 0, 1)


def faded(scene: Scene, drawn: Array, part: float) -> Array:
    match scene.fade:
        case "out":
            return drawn * min(1.0, (1 - part) / 0.35)
        case "in":
            return drawn * min(1.0, part / 0.35)
        case "over":
            return drawn * (1 - 0.5 * math.exp(-(((part - 0.5) / 0.18) ** 2)))
    return drawn


RATE = 48000


def sounds(scene: Scene) -> list[Array] | None:
    """Each clip's sound, stereo floats: one sound that goes on across the joins, but for the fault."""
    if not scene.sound:
        return None
    rng = np.random.default_rng(scene.seed + 2)
    each = round(scene.seconds * scene.rate)
    frames = each + (scene.clips - 1) * (each - 1)
    count = round(frames / scene.rate * RATE)
    t = np.arange(count) / RATE
    match scene.sound:
        case "tone":
            whole = 0.3 * np.sin(2 * np.pi * rng.uniform(120, 900) * t)
        case "chord":
            whole = sum(0.12 * np.sin(2 * np.pi * f * t + f) for f in rng.uniform(100, 1500, 4))
        case "wind":
            whole = np.convolve(rng.normal(0, 1, count), np.ones(24) / 24, "same") * 0.35
            whole *= 1 + 0.3 * np.sin(2 * np.pi * 0.7 * t)
        case "speech":
            carrier = np.sign(np.sin(2 * np.pi * 130 * t)) * 0.2 + rng.normal(0, 0.05, count)
            carrier = np.convolve(carrier, np.ones(40) / 40, "same")
            syllables = np.clip(np.sin(2 * np.pi * 3.3 * t + 1) + 0.7, 0.03, None)
            whole = carrier * syllables
        case _:
            beats = np.exp(-((t * 2.1) % 1.0) * 9)
            whole = 0.4 * beats * np.sin(2 * np.pi * 220 * t) + 0.05 * np.sin(2 * np.pi * 55 * t)
    whole = np.asarray(whole, np.float32)
    join = round((each - 1 + (scene.clips - 2) * (each - 1)) / scene.rate * RATE) + round(RATE / scene.rate)
    if scene.fault == "loudness":
        wide = round(RATE * rng.uniform(0.08, 0.3))
        begin = join - round(wide * rng.uniform(0.2, 0.8))
        ramp = np.minimum(1, np.minimum(np.arange(wide), np.arange(wide)[::-1]) / (0.01 * RATE))
        whole[begin : begin + wide] *= 1 - ramp * (1 - 10 ** (-scene.strength / 20))
    if scene.fault == "click":
        at = join + round(rng.uniform(-0.004, 0.012) * RATE)
        length = 96
        pulse = np.exp(-np.arange(length) / rng.uniform(1, 12)) * np.cos(np.arange(length) * rng.uniform(0, 1.2))
        whole[at : at + length] += scene.strength * pulse * rng.choice([-1, 1])
    out = []
    for number in range(scene.clips):
        begin = round(number * (each - 1) / scene.rate * RATE)
        part = whole[begin : begin + round(each / scene.rate * RATE)]
        out.append(np.clip(np.stack([part, part]), -1, 1).astype(np.float32))
    return out


def written(path: Path, frames: Sequence[Array], scene: Scene, sound: Array | None) -> Path:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=Fraction(scene.rate))
        video.width, video.height, video.pix_fmt = *scene.size, "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        context.options = {"preset": scene.preset, "crf": str(scene.crf), "threads": "1"}
        audio = container.add_stream("aac", rate=RATE, layout="stereo") if sound is not None else None
        for drawn in frames:
            frame = av.VideoFrame.from_ndarray(drawn, format="bgr24").reformat(
                format="yuv420p", dst_colorspace=1, dst_color_range=1
            )
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for at in range(0, sound.shape[1], 1024):
                heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, at : at + 1024]), "fltp", "stereo")
                heard.sample_rate, heard.pts, heard.time_base = RATE, at, Fraction(1, RATE)
                container.mux(audio.encode(heard))
            container.mux(audio.encode(None))
    return path


# ---------------------------------------------------------------- the trial


def scenes(number: int, size: tuple[int, int], clean: int, draw: int = 0) -> list[Scene]:
    """`number` scenes for each fault and strength, and `clean` without a fault; others for each `draw`."""
    out = []
    rng = np.random.default_rng(20261127 + draw)

    def scene(seed: int, motions: Sequence[str]) -> Scene:
        return Scene(
            seed=seed,
            picture=str(rng.choice(PICTURES)),
            motion=str(rng.choice(motions)),
            speed=float(rng.uniform(0.05, 0.35)),
            size=size,
            rate=int(rng.choice([24, 30])),
            seconds=float(rng.choice([1.0, 1.5, 2.0])),
            noise=float(rng.choice([0, 0, 1.5, 3, 5])),
            crf=int(rng.integers(18, 29)),
            preset=str(rng.choice(["ultrafast", "veryfast", "medium"])),
        )

    seed = 100_000 * draw
    for fault, strengths in STRENGTHS.items():
        for step, strength in enumerate(strengths, 1):
            for _ in range(number):
                seed += 1
                motions = MOVING if fault in ("speed", "direction", "freeze", "echo") else MOTIONS
                if fault == "direction":
                    motions = tuple(name for name in MOVING if name not in ("zoom in", "zoom out", "turn"))
                made = scene(seed, motions)
                made = replace(made, fault=fault, strength=strength, step=step)
                if fault in ("drift", "texture"):
                    made = replace(made, clips=4, speed=made.speed / 2)
                if fault in ("loudness", "click"):
                    made = replace(made, sound=str(rng.choice(SOUNDS)), seconds=2.0)
                out.append(made)
    for n in range(clean):
        seed += 1
        made = scene(seed, MOTIONS)
        if n % 4 == 1:
            made = replace(made, clips=4, speed=made.speed / 2)
        if n % 4 == 2:
            made = replace(made, fade=str(rng.choice(["in", "out", "over"])))
        if n % 5 == 3:
            made = replace(made, sound=str(rng.choice(SOUNDS)))
        if n % 10 == 9:
            made = replace(made, planned_cut=True)
        out.append(made)
    return out


@dataclass(frozen=True)
class Judged:
    scene: Scene
    kinds: tuple[tuple[str, ...], ...]
    """The kinds of finding at each join."""
    numbers: tuple[dict[str, float | None], ...] = field(default=())


def judged(scene: Scene) -> Judged:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = clips_of(scene, Path(folder))
        joins = ["continues"] * (scene.clips - 1)
        if scene.planned_cut:
            joins[-1] = "cut"
        found = seam_measure.seams_of(clips, joins, seams.limits({}))
    return Judged(
        scene,
        tuple(tuple(one.kind for one in seam.findings) for seam in found),
        tuple(dict(seam.numbers) for seam in found),
    )


def clips_of(scene: Scene, folder: Path) -> list[Clip]:
    heard = sounds(scene)
    out = []
    for n, frames in enumerate(pictures(scene)):
        path = written(folder / f"{n}.mp4", frames, scene, heard[n] if heard else None)
        repeats = n > 0 and not (scene.planned_cut and n == scene.clips - 1)
        out.append(Clip(shot=f"shot{n}", path=path, first=int(repeats)))
    return out


SHOTS = 12
"""Of the film of which it is said how long a join takes."""


def timed(seconds: float) -> float:
    """Seconds a join of a film of 1080p clips of so many seconds takes, on all cores: three clips, again and again."""
    scene = Scene(seed=3, size=(1920, 1080), seconds=seconds, clips=3, speed=0.1, sound="chord", noise=2)
    with tempfile.TemporaryDirectory() as folder:
        clips = clips_of(scene, Path(folder))
        film = [clips[n % len(clips)] for n in range(SHOTS)]
        cv2.setNumThreads(-1)
        began = time.perf_counter()
        seam_measure.seams_of(film, ["continues"] * (SHOTS - 1), seams.limits({}))
        return (time.perf_counter() - began) / (SHOTS - 1)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faults", type=int, default=4, metavar="N", help="scenes for each fault and strength (default: 4)")
    p.add_argument("--clean", type=int, default=120, metavar="N", help="films without a fault (default: 120)")
    p.add_argument("--size", default="640x360", help="of the clips that are judged (default: 640x360)")
    p.add_argument("--draw", type=int, default=0, metavar="N", help="other scenes for each N; limits were set on 0")
    p.add_argument("--time-only", action="store_true", help="only the seconds a join at 1080p")
    p.add_argument("--verbose", action="store_true", help="each fault that was missed and each false alarm")
    read = p.parse_args()
    times = {seconds: timed(seconds) for seconds in (3, 5)}
    if not read.time_only:
        width, height = (int(side) for side in read.size.split("x"))
        asked = scenes(read.faults, (width, height), read.clean, read.draw)
        with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
            show(list(pool.map(judged, asked, chunksize=4)), read.verbose)
    took = ", ".join(f"{time:.2f} with clips of {seconds} s" for seconds, time in times.items())
    print(f"seconds a join of a film of {SHOTS} shots at 1080p, on {os.cpu_count()} cores: {took}")


def show(all_judged: Sequence[Judged], verbose: bool) -> None:
    found: Counter[tuple[str, int]] = Counter()
    asked: Counter[tuple[str, int]] = Counter()
    joins = wrong = 0
    for one in all_judged:
        scene = one.scene
        if scene.fault:
            hit = any(KIND.get(scene.fault, scene.fault) in kinds for kinds in one.kinds)
            asked[scene.fault, scene.step] += 1
            found[scene.fault, scene.step] += hit
            bad = not hit
        else:
            alarms = [kinds for kinds in one.kinds if kinds]
            joins, wrong, bad = joins + len(one.kinds), wrong + len(alarms), bool(alarms)
        if verbose and bad:
            rounded = [{k: None if v is None else round(v, 2) for k, v in each.items()} for each in one.numbers]
            print("MISSED" if scene.fault else "FALSE", scene, one.kinds, *rounded, sep="\n    ")
    print("| fault | found, weakest to strongest |\n| --- | --- |")
    for fault in STRENGTHS:
        steps = [f"{found[fault, step]}/{asked[fault, step]}" for step in range(1, 6)]
        print(f"| {fault} | {' '.join(steps)} |")
    planted = sum(asked.values())
    if planted:
        print(f"found: {sum(found.values())} of {planted} planted faults ({100 * sum(found.values()) / planted:.1f} %)")
    if joins:
        print(f"false alarms: {wrong} of {joins} joins without a fault ({100 * wrong / joins:.1f} %)")


if __name__ == "__main__":
    main()
