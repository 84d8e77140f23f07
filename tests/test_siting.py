"""Colour stays on light, and every level is kept, however often a picture goes through a clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from klingflow.animatic.renderer import Planes
from klingflow.core.model import Digest
from klingflow.io import media
from tests.joining import Piece, assemble

SIDE = 64
HOPS = 10
BEFORE, AFTER = (200, 40, 40), (40, 170, 230)
X264_PLACES = {"left": 0, "center": 1, "topleft": 2}
FORMS = [
    ("yuv420p", "left"),
    ("yuv420p", "center"),
    ("yuv420p", "topleft"),
    ("yuv420p10le", "left"),
    ("yuv420p10le", "topleft"),
    ("yuv422p", "left"),
    ("yuv422p10le", "left"),
    ("yuv444p", "left"),
]


Colour = tuple[int, int, int]


def edges(before: Colour = BEFORE, after: Colour = AFTER) -> Image.Image:
    """One edge across, at an even place, and one down, at an odd one; of light and of both colours."""
    image = Image.new("RGB", (SIDE, SIDE), before)
    image.paste(after, (SIDE // 2, 0, SIDE, SIDE // 2))
    image.paste(after, (0, SIDE // 2 + 1, SIDE // 2, SIDE))
    return image


def clip(
    path: Path, image: Image.Image, pixels: str = "yuv420p", place: str = "left", primaries: int = 1, **options: str
) -> Path:
    """Two frames, as an encoder that knows what it does writes them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(options.pop("codec", "libx264"), rate=24)
        video.width, video.height, video.pix_fmt = *image.size, pixels
        if "rotate" in options:
            video.set_display_rotation(int(options.pop("rotate")))
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, primaries, 1, 1
        if video.codec_context.name == "libx264":
            options = {"crf": "1", "preset": "ultrafast", "x264-params": f"chromaloc={X264_PLACES[place]}"}
        context.options = options
        source = av.VideoFrame.from_image(image)
        to = f"out_color_matrix=bt709:out_range=tv:out_chroma_loc={place}"
        graph = media.chain(source, ("scale", f"{media.ACCURATE}:{to}"), ("format", f"pix_fmts={pixels}"))
        for i in range(2):
            graph.vpush(source)
            frame = graph.vpull()
            frame.pts, frame.time_base, frame.pict_type = i, Fraction(1, 24), 0
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def cut(path: Path) -> Image.Image:
    media.cut(path, "last", path.with_suffix(".png"))
    with Image.open(path.with_suffix(".png")) as image:
        return image.convert("RGB")


def crossing(values: list[float]) -> float:
    """Where a row of values passes the middle between its ends."""
    middle = (values[4] + values[-5]) / 2
    signs = [value > middle for value in values]
    i = next(i for i in range(SIDE // 4, 3 * SIDE // 4) if signs[i] != signs[i + 1])
    return i + (values[i] - middle) / (values[i] - values[i + 1])


def off(image: Image.Image) -> float:
    """How far the edges of colour stand from those of light, in pixels: the worst of two colours, across and down."""
    worst = 0.0
    for places in (
        [(x, SIDE // 4) for x in range(SIDE)],
        [(SIDE // 4, y) for y in range(SIDE)],
    ):
        pixels = [image.getpixel(place) for place in places]
        light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in pixels]  # type: ignore[misc]
        for channel in (0, 2):
            colour = [pixel[channel] - y for pixel, y in zip(pixels, light, strict=True)]  # type: ignore[index]
            worst = max(worst, abs(crossing(colour) - crossing(light)))
    return worst


def same_levels(image: Image.Image) -> bool:
    corners = {(4, 4): BEFORE, (SIDE - 5, 4): AFTER, (4, SIDE - 5): AFTER, (SIDE - 5, SIDE - 5): BEFORE}
    got = {at: image.getpixel(at) for at in corners}
    return all(abs(a - b) <= 2 for at, want in corners.items() for a, b in zip(got[at], want, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(("pixels", "place"), FORMS)
def test_nothing_drifts_over_ten_hops_of_a_chain(tmp_path: Path, pixels: str, place: str) -> None:
    image = edges()
    for _ in range(HOPS):
        image = cut(clip(tmp_path / "hop.mp4", image, pixels, place))
    assert off(image) < 0.25
    assert same_levels(image)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("hop.webm", "libvpx-vp9", "yuv420p"),
        ("hop.mov", "prores_ks", "yuv422p10le"),
        ("hop.mkv", "ffv1", "yuv420p"),
        ("hop.mp4", "mpeg4", "yuv420p"),
    ],
)
def test_what_says_nothing_is_read_as_left(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    assert off(cut(clip(tmp_path / name, edges(), pixels, codec=codec))) < 0.25


def test_jpeg_is_read_as_centred(tmp_path: Path) -> None:
    path = tmp_path / "hop.mov"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=24)
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuvj420p"
        source = av.VideoFrame.from_image(edges())
        to = "out_color_matrix=bt601:out_range=pc:out_chroma_loc=center"
        graph = media.chain(source, ("scale", f"{media.ACCURATE}:{to}"), ("format", "pix_fmts=yuvj420p"))
        graph.vpush(source)
        container.mux(video.encode(graph.vpull()))
        container.mux(video.encode(None))
    assert off(cut(path)) < 0.25


def test_nothing_drifts_over_ten_hops_of_animatics(tmp_path: Path) -> None:
    image = edges()
    for _ in range(HOPS):
        image = cut(drawn(tmp_path / "hop.mp4", Planes.of(image)))
    assert off(image) < 0.25
    assert same_levels(image)


def drawn(path: Path, planes: Planes) -> Path:
    """A clip of these planes, encoded as the renderer does it."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24, options={"crf": "1", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        frame = av.VideoFrame(SIDE, SIDE, "yuv420p")
        for plane, own in zip(frame.planes, (planes.y, planes.u, planes.v), strict=True):
            rows = [own.tobytes()[y * own.width : (y + 1) * own.width] for y in range(own.height)]
            plane.update(b"".join(row.ljust(plane.line_size, b"\0") for row in rows))
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def test_a_push_moves_colour_and_light_alike(tmp_path: Path) -> None:
    image = edges()
    for _ in range(HOPS):
        # Pushed, and drawn back: whatever a push shifts, adds up.
        pushed = cut(drawn(tmp_path / "hop.mp4", Planes.of(image).zoomed(1.25, (0.5, 0.5))))
        inner = pushed.resize((SIDE * 4 // 5, SIDE * 4 // 5), Image.Resampling.BICUBIC)
        image.paste(inner, ((SIDE - inner.width) // 2, (SIDE - inner.height) // 2))
    assert off(image) < 0.25


@pytest.mark.parametrize(("pixels", "place"), FORMS)
@pytest.mark.parametrize("what", ["as it is", "turned", "upside down", "larger"])
def test_colour_stays_on_light_in_the_film(tmp_path: Path, pixels: str, place: str, what: str) -> None:
    turns = {"turned": "90", "upside down": "180"}
    options = {"rotate": turns[what]} if what in turns else {}
    own = clip(tmp_path / "own.mp4", edges(), pixels, place, **options)
    size = (3 * SIDE, 3 * SIDE) if what == "larger" else (SIDE, SIDE)
    first = clip(tmp_path / "first.mp4", edges().resize(size))
    pieces = [Piece(clip=path, facts=media.facts(path, Digest("0" * 64))) for path in (first, own)]
    assemble(pieces, tmp_path / "film.mp4")
    image = cut(tmp_path / "film.mp4")
    assert off(image.resize((SIDE, SIDE), Image.Resampling.BOX)) < 0.25


@pytest.mark.parametrize(("pixels", "place"), FORMS)
@pytest.mark.parametrize("rotate", ["0", "90"])
def test_colour_stays_on_light_where_it_is_converted(tmp_path: Path, pixels: str, place: str, rotate: str) -> None:
    # Weak colours, and not as near: BT.709 cannot show all that lies between two strong ones of Display P3.
    image = edges((150, 90, 90), (90, 130, 160))
    own = clip(tmp_path / "own.mp4", image, pixels, place, primaries=12, rotate=rotate)
    first = clip(tmp_path / "first.mp4", image.resize((3 * SIDE, 3 * SIDE)))
    pieces = [Piece(clip=path, facts=media.facts(path, Digest("0" * 64))) for path in (first, own)]
    assemble(pieces, tmp_path / "film.mp4")
    assert off(cut(own)) < 0.3
    assert off(cut(tmp_path / "film.mp4").resize((SIDE, SIDE), Image.Resampling.BOX)) < 0.3


def test_the_film_and_the_animatic_are_left_sited(tmp_path: Path) -> None:
    first = clip(tmp_path / "first.mp4", edges(), place="center")
    facts = media.facts(first, Digest("0" * 64))
    assemble([Piece(clip=first, facts=facts)] * 2, tmp_path / "film.mp4")
    for path in (tmp_path / "film.mp4", drawn(tmp_path / "drawn.mp4", Planes.of(edges()))):
        assert media.siting(*next(media.frames(path))) == "left"


@pytest.mark.parametrize("place", X264_PLACES)
def test_the_tag_of_a_clip_is_read(tmp_path: Path, place: str) -> None:
    assert media.siting(*next(media.frames(clip(tmp_path / "a.mp4", edges(), place=place)))) == place
