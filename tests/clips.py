"""Real clips for tests, made on the spot: every frame carries its own number as a pattern that survives encoding.

    make(path, frames=24)            H.264 with B-frames, 24 a second, 320x180, tagged BT.709
    number(image)                    the number that a picture carries, None where it carries none

The pattern is a grid of 4 x 4 cells over the whole picture, so that it can be read after scaling, in a letterbox
(pass `box`), and it is not the same after a turn or a flip: 12 bits, and corners that say which way is up.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw

_CORNERS = {(0, 0): 1, (3, 0): 1, (0, 3): 1, (3, 3): 0}
_CELLS = [(x, y) for y in range(4) for x in range(4) if (x, y) not in _CORNERS]


def picture(number: int, size: tuple[int, int] = (320, 180)) -> Image.Image:
    image = Image.new("RGB", size, (20, 20, 20))
    draw = ImageDraw.Draw(image)
    bits = dict(_CORNERS) | {cell: number >> i & 1 for i, cell in enumerate(_CELLS)}
    for (x, y), bit in bits.items():
        if bit:
            corner = (x * size[0] // 4, y * size[1] // 4, (x + 1) * size[0] // 4 - 1, (y + 1) * size[1] // 4 - 1)
            draw.rectangle(corner, fill=(235, 235, 235))
    return image


def number(image: Image.Image, box: tuple[int, int, int, int] | None = None) -> int | None:
    grey = image.convert("L").crop(box or (0, 0, *image.size))
    lit = {
        (x, y): grey.getpixel(((2 * x + 1) * grey.width // 8, (2 * y + 1) * grey.height // 8)) > 128
        for x in range(4)
        for y in range(4)
    }
    if any(lit[cell] != bool(bit) for cell, bit in _CORNERS.items()):
        return None
    return sum(lit[cell] << i for i, cell in enumerate(_CELLS))


def numbers(path: Path, box: tuple[int, int, int, int] | None = None) -> list[int | None]:
    """What every frame carries, by a plain decode of everything."""
    with av.open(str(path)) as container:
        return [number(frame.to_image(), box) for frame in container.decode(video=0)]


def tone(seconds: float, hertz: float = 440.0, level: float = 0.5, rate: int = 48000) -> array[float]:
    """Interleaved stereo."""
    out = array("f")
    for i in range(round(seconds * rate)):
        out.extend((level * math.sin(2 * math.pi * hertz * i / rate),) * 2)
    return out


def audio_frame(data: array[float], layout: str, rate: int = 48000, at: int = 0) -> av.AudioFrame:
    """Interleaved floats as a frame that begins at sample `at`."""
    frame = av.AudioFrame(format="flt", layout=layout, samples=len(data) // av.AudioLayout(layout).nb_channels)
    frame.planes[0].update(data.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def samples(path: Path) -> array[float]:
    """All sound of a file as interleaved stereo floats at 48 kHz, by a plain decode."""
    out = array("f")
    resampler = av.AudioResampler(format="flt", layout="stereo", rate=48000)
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            for part in resampler.resample(frame):
                out.frombytes(bytes(part.planes[0])[: part.samples * 8])
    return out


def make(
    path: Path,
    *,
    frames: int = 24,
    first: int = 0,
    size: tuple[int, int] = (320, 180),
    rate: Fraction | int = 24,
    times: Sequence[Fraction] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    tagged: bool = True,
    transfer: int = 1,
    matrix: int = 1,
    sound: array[float] | None = None,
    sound_rate: int = 48000,
    layout: str = "stereo",
    sound_codec: str = "",
    rotate: int = 0,
    shape: Fraction | None = None,
    draw: Callable[[int, tuple[int, int]], Image.Image] = picture,
) -> Path:
    """Writes a clip whose frames carry `first`, `first`+1, …; `times` in seconds makes its rate variable."""
    default = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    base = Fraction(1, 90000) if times else 1 / Fraction(rate)
    with av.open(str(path), "w", options=muxing or default) as container:
        video = container.add_stream(codec, rate=Fraction(rate))
        video.width, video.height, video.pix_fmt = *size, pixels
        context = video.codec_context
        context.time_base = base
        if codec == "libx264":
            context.options = {"preset": "veryfast", "crf": "18", "threads": "1", "bf": "2", **(options or {})}
        else:
            context.options = options or {}
        if tagged:
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = matrix, 1, transfer, 1
        if shape:
            context.sample_aspect_ratio = shape
        if rotate:
            video.set_display_rotation(rotate)
        audio = None
        if sound is not None:
            name = sound_codec or ("libopus" if path.suffix == ".webm" else "aac")
            audio = container.add_stream(name, rate=sound_rate, layout=layout)
        for i in range(frames):
            frame = av.VideoFrame.from_image(draw(first + i, size))
            frame = frame.reformat(
                format=pixels, dst_colorspace=matrix, dst_color_range=1, interpolation=0x4 | 0x40000 | 0x2000 | 0x4000
            )
            if tagged:
                frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = matrix, 1, 1, transfer
            frame.pts = i if times is None else round(times[i] / base)
            frame.time_base = base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            channels = av.AudioLayout(layout).nb_channels
            for at in range(0, len(sound) // channels, 1024):
                part = sound[at * channels : (at + 1024) * channels]
                container.mux(audio.encode(audio_frame(part, layout, sound_rate, at)))
            container.mux(audio.encode(None))
    return path


def edit(path: Path, *, skip: float = 0.0, seconds: float | None = None) -> Path:
    """Rewrites the picture's edit list in place: what is shown starts `skip` s later and lasts `seconds`."""
    data = bytearray(path.read_bytes())
    movie = data.find(b"mvhd")
    movie_scale = int.from_bytes(data[movie + 16 : movie + 20], "big")
    scale_at = data.find(b"mdhd")
    scale = int.from_bytes(data[scale_at + 16 : scale_at + 20], "big")
    at = data.find(b"elst")
    assert at > 0, "no edit list to rewrite"
    length, begin = struct.unpack(">Ii", data[at + 12 : at + 20])
    begin += round(skip * scale)
    length = length - round(skip * movie_scale) if seconds is None else round(seconds * movie_scale)
    data[at + 12 : at + 20] = struct.pack(">Ii", length, begin)
    path.write_bytes(data)
    return path


def shorten(path: Path, part: float) -> Path:
    """Cuts the file off after `part` of its bytes."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path
