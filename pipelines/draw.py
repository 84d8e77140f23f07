"""Draws the stills of the shipped storyboards and of `klingflow init`, and the clip that one storyboard brings along.

    python -m pipelines.draw            writes what is missing
    python -m pipelines.draw --again    draws everything anew

The files are committed: nobody has to run this. Nothing here is random.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFilter

from pipelines import scenes

HERE = Path(__file__).parent
WIDE, TALL = (1280, 720), (720, 1280)

STILLS: dict[str, tuple[Callable[[scenes.Size], Image.Image], scenes.Size]] = {
    "harbour/frames/dawn.png": (scenes.harbour_dawn, WIDE),
    "harbour/frames/quay.png": (scenes.harbour_quay, WIDE),
    "harbour/frames/market.png": (scenes.market, WIDE),
    "harbour/frames/night.png": (scenes.harbour_night, WIDE),
    "lighthouse-ad/frames/lighthouse-wide.png": (scenes.lighthouse, WIDE),
    "lighthouse-ad/frames/lighthouse-tall.png": (scenes.lighthouse, TALL),
    "lighthouse-ad/frames/lantern-wide.png": (scenes.lantern, WIDE),
    "lighthouse-ad/frames/lantern-tall.png": (scenes.lantern, TALL),
    "night-train/frames/platform.png": (scenes.platform, WIDE),
    "night-train/frames/viaduct.png": (scenes.night_train, WIDE),
    "night-train/frames/compartment.png": (scenes.compartment, WIDE),
    "../klingflow/frames/lighthouse.png": (scenes.lighthouse, WIDE),
    "../klingflow/frames/lantern.png": (scenes.lantern, WIDE),
    "../klingflow/frames/dawn.png": (scenes.harbour_dawn, WIDE),
}
FOOTAGE = "night-train/footage/insert.mp4"


def main(again: bool) -> None:
    for path, (scene, size) in STILLS.items():
        if again or not (HERE / path).exists():
            data = scenes.png(scene(size))
            (HERE / path).parent.mkdir(parents=True, exist_ok=True)
            (HERE / path).write_bytes(data)
            print(f"{path}  {len(data) // 1000} kB")
    if again or not (HERE / FOOTAGE).exists():
        (HERE / FOOTAGE).parent.mkdir(parents=True, exist_ok=True)
        footage(HERE / FOOTAGE)
        print(f"{FOOTAGE}  {(HERE / FOOTAGE).stat().st_size // 1000} kB")


def footage(to: Path) -> None:
    """Two seconds of a railway signal, as a camera might have taken it: 960x540 at 25 frames a second, no sound."""
    size, rate, frames = (960, 540), 25, 50
    ground = _signal_ground(size)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(to), "w", format="mp4", options=options) as film:
        stream = film.add_stream("libx264", rate=rate, options={"crf": "20", "threads": "1", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        for n in range(frames):
            picture = _signal(ground, n / frames)
            frame = av.VideoFrame.from_image(picture).reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            frame.pts, frame.time_base = n, Fraction(1, rate)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def _signal_ground(size: scenes.Size) -> Image.Image:
    """The line at night: the left side of the station's scene, from nearer."""
    image = scenes.platform((size[0] * 2, size[1] * 2))
    return image.crop((round(size[0] * 0.15), size[1] // 3, round(size[0] * 1.15), size[1] // 3 + size[1]))


def _signal(ground: Image.Image, way: float) -> Image.Image:
    """The mast in front, its lamp going from red to green half way; the picture breathes as a held camera does."""
    image = ground.copy()
    draw = ImageDraw.Draw(image)
    x = round(image.width * 0.7 - 14 * way)
    draw.rectangle((x - 7, 120, x + 7, image.height), fill=(20, 20, 34))
    draw.rounded_rectangle((x - 34, 40, x + 34, 190), radius=30, fill=(16, 16, 28))
    for lamp, (y, colour) in enumerate(((78, (255, 74, 58)), (150, (92, 255, 170)))):
        on = (way < 0.5) == (lamp == 0)
        draw.ellipse((x - 20, y - 20, x + 20, y + 20), fill=colour if on else (40, 38, 48))
        if on:
            scenes.glow(image, (x, y), 170, colour, 0.8)
            draw = ImageDraw.Draw(image)
    return image.filter(ImageFilter.GaussianBlur(0.6))


if __name__ == "__main__":
    main("--again" in sys.argv[1:])
