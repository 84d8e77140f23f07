"""Real clips whose every picture carries its own number: which task made it, and which frame of the clip it is.

The number is 40 black or white blocks (task 16 bits, frame 12, checksum 12) in 5 rows of 8, so it survives H.264,
scaling and JPEG. `read_number` finds it in any picture again: so a test proves which frame of which clip was sent.
"""

from __future__ import annotations

import io
import tempfile
import zlib
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

RATE = 24
ROWS, COLUMNS = 5, 8
SIZES = {"16:9": (640, 360), "9:16": (360, 640), "1:1": (384, 384)}
"""No side under 300 pixels, so that a last frame may go back in."""
STILL = 0xF000
"""Stills carry their number above this as a task, at frame 0."""


def _bits(task: int, frame: int) -> list[int]:
    word = (task & 0xFFFF) << 12 | (frame & 0xFFF)
    whole = word << 12 | zlib.crc32(word.to_bytes(4)) & 0xFFF
    return [whole >> i & 1 for i in range(ROWS * COLUMNS)]


def _draw(luma: np.ndarray, bits: list[int]) -> None:
    height, width = luma.shape
    for i, bit in enumerate(bits):
        row, column = divmod(i, COLUMNS)
        luma[
            height * row // ROWS : height * (row + 1) // ROWS,
            width * column // COLUMNS : width * (column + 1) // COLUMNS,
        ] = 235 if bit else 16


@lru_cache(maxsize=256)
def clip(task: int, seconds: float, *, aspect: str = "16:9", sound: bool = False, extra: int = 0) -> bytes:
    """An MP4 of `seconds` at 24 frames a second and `extra` frames more (1: the 5.041 s that Kling gives for 5)."""
    width, height = SIZES[aspect]
    count = round(seconds * RATE) + extra
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    with tempfile.TemporaryDirectory(prefix="standin-") as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
            options = {"preset": "ultrafast", "crf": "30", "x264-params": "bframes=2:keyint=48:scenecut=0"}
            video = out.add_stream("libx264", rate=RATE, options=options)
            video.width, video.height, video.pix_fmt, video.thread_count = width, height, "yuv420p", 1
            video.codec_context.colorspace, video.codec_context.color_range = 1, 1
            audio = out.add_stream("aac", rate=48000, layout="stereo") if sound else None
            for i in range(count):
                _draw(picture[:height], _bits(task, i))
                frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
                frame.pts = i
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            if audio is not None:
                _tone(out, audio, count * 48000 // RATE)
        return path.read_bytes()


def _tone(out: av.container.OutputContainer, audio: av.AudioStream, samples: int) -> None:
    wave = (0.1 * np.sin(np.arange(samples) * (2 * np.pi * 220 / 48000))).astype(np.float32)
    for start in range(0, samples, 1024):
        part = np.tile(wave[start : start + 1024], (2, 1))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, start
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def still(number: int, *, aspect: str = "16:9", size: tuple[int, int] | None = None, kind: str = "PNG") -> bytes:
    """An image file; `read_number` gives (STILL + number, 0) for it."""
    width, height = size or SIZES[aspect]
    luma = np.zeros((height, width), np.uint8)
    _draw(luma, _bits(STILL + number, 0))
    out = io.BytesIO()
    Image.fromarray(luma).convert("RGB").save(out, kind)
    return out.getvalue()


def read_number(picture: bytes | Path | Image.Image) -> tuple[int, int] | None:
    """(task, frame) of a picture; None where it carries no number."""
    if not isinstance(picture, Image.Image):
        try:
            picture = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
        except UnidentifiedImageError:
            return None
    luma = np.asarray(picture.convert("L"), dtype=np.float32)
    height, width = luma.shape
    whole = 0
    for i in range(ROWS * COLUMNS):
        row, column = divmod(i, COLUMNS)
        middle = luma[
            int(height * (row + 0.3) / ROWS) : int(height * (row + 0.7) / ROWS) + 1,
            int(width * (column + 0.3) / COLUMNS) : int(width * (column + 0.7) / COLUMNS) + 1,
        ].mean()
        if 100 < middle < 150:
            return None
        whole |= int(middle > 125) << i
    word = whole >> 12
    if whole & 0xFFF != zlib.crc32(word.to_bytes(4)) & 0xFFF:
        return None
    return word >> 12, word & 0xFFF


def length(data: bytes) -> float:
    """Seconds of a clip; 0 where it is none."""
    try:
        with av.open(io.BytesIO(data)) as container:
            video = container.streams.video[0]
            return sum(1 for _ in container.decode(video)) / float(video.average_rate or 24)
    except (av.error.FFmpegError, IndexError):
        return 0.0


def numbers(data: bytes) -> list[tuple[int, int] | None]:
    """What every frame of a clip says: (task, frame)."""
    with av.open(io.BytesIO(data)) as container:
        return [read_number(frame.to_image()) for frame in container.decode(video=0)]


def last_number(data: bytes) -> tuple[int, int] | None:
    """The number of a clip's last picture, by decoding all of it: slow and sure."""
    with av.open(io.BytesIO(data)) as container:
        frames = [(frame.pts, frame) for frame in container.decode(video=0)]
    return read_number(max(frames, key=lambda pair: pair[0])[1].to_image())
