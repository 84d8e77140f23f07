"""HDR, wide colour and transparency: shown as an ordinary screen shows them, wherever the pixels of a clip are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from klingflow.core.model import Digest
from klingflow.io import hdr, media
from tests import clips
from tests.joining import Piece, assemble

NONE = Digest("0" * 64)
PATCH = 16
TRANSFERS = {"PQ": 16, "HLG": 18}
LIGHTS: dict[str, tuple[float, float, float]] = {
    "black": (0, 0, 0),
    "grey": (26, 26, 26),
    "white": (203, 203, 203),
    "lamp": (1000, 1000, 1000),
    "red": (203, 0, 0),
    "green": (0, 203, 0),
    "blue": (0, 0, 203),
    "red lamp": (1000, 0, 0),
    "skin": (101, 66, 48),
}
"""cd/m2 in BT.2020."""


def signal(kind: str, light: Sequence[float]) -> NDArray[np.float64]:
    """BT.2100 the other way: what a camera of that kind writes for such a light on a screen of 1000 cd/m2."""
    rgb = np.array(light, float)
    if kind == "PQ":
        root = (rgb / 10_000) ** (2610 / 16384)
        return np.asarray(((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32))
    luma = float(rgb @ (0.2627, 0.6780, 0.0593)) / 1000
    scene = rgb / 1000 * (luma ** (1 / 1.2 - 1) if luma else 0)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def chart(
    path: Path,
    signals: Sequence[NDArray[np.float64]],
    *,
    transfer: int,
    primaries: int = 9,
    matrix: int = 9,
    tag: int | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p10le",
    rotate: int = 0,
) -> Path:
    """Two frames of patches side by side; `tag` is what is said of the matrix instead."""
    row = np.repeat(np.array(signals), PATCH, axis=0)[None].repeat(2 * PATCH, axis=0)
    picture = av.VideoFrame.from_ndarray((row.clip(0, 1) * 65535 + 0.5).astype(np.uint16), format="rgb48le")
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=24, options={"crf": "1", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = picture.width, picture.height, pixels
        if rotate:
            video.set_display_rotation(rotate)
        tags = {"colorspace": tag or matrix, "color_primaries": primaries, "color_trc": transfer, "color_range": 1}
        name = {1: "bt709", 9: "bt2020"}[matrix]
        to = f"{media.ACCURATE}:out_color_matrix={name}:out_range=tv:out_chroma_loc=left"
        graph = media.chain(picture, ("scale", to), ("format", f"pix_fmts={pixels}"))
        for i in range(2):
            graph.vpush(picture)
            frame = graph.vpull()
            frame.pts, frame.time_base, frame.pict_type = i, Fraction(1, 24), 0
            for tag, value in tags.items():
                setattr(video.codec_context, tag, value)
                setattr(frame, tag, value)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def patches(path: Path, count: int) -> list[tuple[int, ...]]:
    """The middle of each patch in the last frame of a clip, as it is cut."""
    media.cut(path, "last", path.with_suffix(".png"))
    with Image.open(path.with_suffix(".png")) as image:
        places = [(n * PATCH + PATCH // 2, PATCH) for n in range(count)]
        return [image.getpixel(place) for place in places]  # type: ignore[misc]


def joined(path: Path, times: int = 1) -> Path:
    to = path.with_name("film.mp4")
    film = assemble([Piece(clip=path, facts=media.facts(path, NONE))] * times, to)
    assert not film.copied
    with av.open(str(to)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_trc, context.color_primaries, context.colorspace, context.pix_fmt) == (1, 1, 1, "yuv420p")
    return to


def lights(path: Path, kind: str, **how: object) -> Path:
    return chart(path, [signal(kind, light) for light in LIGHTS.values()], transfer=TRANSFERS[kind], **how)  # type: ignore[arg-type]


def near(got: tuple[int, ...], want: tuple[int, ...], by: int) -> bool:
    return all(abs(a - b) <= by for a, b in zip(got, want, strict=True))


SHOWN: Mapping[str, tuple[int, ...]] = {
    "black": (0, 0, 0),
    "grey": (108, 108, 108),
    "white": (230, 230, 230),
    "lamp": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 243, 0),
    "blue": (0, 0, 241),
    "red lamp": (255, 0, 0),
    "skin": (208, 155, 136),
}


@pytest.mark.parametrize("kind", TRANSFERS)
@pytest.mark.parametrize("where", ["cut", "film"])
def test_hdr_is_tone_mapped(tmp_path: Path, kind: str, where: str) -> None:
    path = lights(tmp_path / "own.mp4", kind)
    got = dict(zip(LIGHTS, patches(path if where == "cut" else joined(path), len(LIGHTS)), strict=True))
    by = 5 if where == "cut" else 9
    wrong = {name: (got[name], want) for name, want in SHOWN.items() if not near(got[name], want, by)}
    assert not wrong


@pytest.mark.parametrize("kind", TRANSFERS)
@pytest.mark.parametrize("colour", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0.8, 0.1), (0.1, 0.4, 1)])
def test_more_light_is_never_darker(tmp_path: Path, kind: str, colour: tuple[float, ...]) -> None:
    steps = [signal(kind, [level * share for share in colour]) for level in np.geomspace(0.1, 1000, 40)]
    got = patches(chart(tmp_path / "own.mp4", steps, transfer=TRANSFERS[kind], pixels="yuv444p10le"), len(steps))
    for channel in range(3):
        values = [patch[channel] for patch in got]
        assert all(after >= before - 8 for before, after in pairwise(values)), values
    assert max(got[-1]) == 255
    assert max(got[0]) < 15


@pytest.mark.parametrize("where", ["cut", "film", "film of two"])
@pytest.mark.parametrize(("rotate", "matrix"), [(0, 1), (180, 9)])
def test_hdr_is_turned_and_in_eight_bits_too(tmp_path: Path, where: str, rotate: int, matrix: int) -> None:
    path = lights(tmp_path / "own.mp4", "HLG", pixels="yuv420p", rotate=rotate, matrix=matrix)
    shown = path if where == "cut" else joined(path, 2 if where == "film of two" else 1)
    got = patches(shown, len(LIGHTS))[:: -1 if rotate else 1]
    by_name = dict(zip(LIGHTS, got, strict=True))
    assert near(by_name["white"], SHOWN["white"], 6)
    assert near(by_name["red"], SHOWN["red"], 12)


def test_hdr_as_a_phone_writes_it_for_editing(tmp_path: Path) -> None:
    path = lights(tmp_path / "own.mov", "HLG", codec="prores_ks", pixels="yuv422p10le")
    assert media.glance(path).hdr == "HLG"
    got = dict(zip(LIGHTS, patches(path, len(LIGHTS)), strict=True))
    assert near(got["white"], SHOWN["white"], 8)
    assert near(got["grey"], SHOWN["grey"], 8)


@pytest.mark.parametrize(("codec", "pixels"), [("prores_ks", "yuv422p10le"), ("libx264", "yuv420p10le")])
def test_hdr_that_only_the_container_tells_of(tmp_path: Path, codec: str, pixels: str) -> None:
    signals = [signal("HLG", light) for light in LIGHTS.values()]
    silent = chart(tmp_path / "silent.mov", signals, transfer=2, primaries=2, tag=2, codec=codec, pixels=pixels)
    with (
        av.open(str(silent)) as source,
        av.open(str(tmp_path / "own.mov"), "w", options={"movflags": "write_colr"}) as to,
    ):
        track = to.add_stream_from_template(source.streams.video[0])
        context = track.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 18, 1
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                to.mux(packet)
    own = tmp_path / "own.mov"
    assert (media.glance(silent).hdr, media.glance(own).hdr) == ("", "HLG")
    for shown in (own, joined(own)):
        got = dict(zip(LIGHTS, patches(shown, len(LIGHTS)), strict=True))
        assert all(near(got[name], SHOWN[name], 9) for name in ("grey", "white", "lamp", "red", "skin"))


def test_wide_colour_keeps_its_greys_and_gets_its_own_red(tmp_path: Path) -> None:
    values = [np.array(rgb) / 255 for rgb in ((0, 0, 0), (64, 64, 64), (128, 128, 128), (255, 255, 255), (128, 64, 64))]
    plain = patches(chart(tmp_path / "plain.mp4", values, transfer=1, primaries=1, matrix=1), 5)
    for primaries, matrix, red in ((12, 1, 137), (9, 9, 153)):
        own = chart(tmp_path / "own.mp4", values, transfer=1, primaries=primaries, matrix=matrix, pixels="yuv420p")
        assert media.glance(own).hdr == ""
        for shown in (own, joined(own)):
            got = patches(shown, 5)
            assert all(near(a, b, 3) for a, b in zip(got[:4], plain, strict=False))
            assert near(got[4][:1], (red,), 4)


def test_what_every_screen_shows_goes_through_no_filter(tmp_path: Path) -> None:
    for pixels in ("yuv420p", "yuv420p10le"):
        path = clips.make(tmp_path / "a.mp4", frames=1, pixels=pixels)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        assert media.as_seen(frame, "left")[0] == []


def test_a_table_is_made_once() -> None:
    assert hdr.table(16, 9) is hdr.table(16, 9)
    assert hdr.table(16, 2) == hdr.table(16, 9), "HDR without a word on its primaries"


def test_a_folder_of_temporary_files_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's, a [folder]: é\\x"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = lights(tmp_path / "own.mp4", "PQ")
    assert near(patches(path, len(LIGHTS))[2], SHOWN["white"], 5)
    assert list(folder.iterdir()) == []


# ---------------------------------------------------------------- what is transparent

GLASS = {(200, 40, 40, 0): (0, 0, 0), (200, 40, 40, 128): (100, 20, 20), (40, 200, 40, 255): (40, 200, 40)}
ALPHA = [
    ("own.mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
    ("own.mov", "qtrle", "argb", {}),
    ("own.mov", "png", "rgba", {}),
    ("own.mkv", "ffv1", "yuva420p", {}),
    ("own.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "crf": "4", "b": "0"}),
    ("own.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "crf": "4", "b": "2000000"}),
]


def glass(path: Path, codec: str, pixels: str, options: dict[str, str]) -> Path:
    row = np.repeat(np.array(list(GLASS), np.uint8), PATCH, axis=0)[None].repeat(2 * PATCH, axis=0)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=24, options=options)
        video.width, video.height, video.pix_fmt = row.shape[1], row.shape[0], pixels
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(row, format="rgba").reformat(format=pixels)
            frame.pts, frame.time_base = i, Fraction(1, 24)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), ALPHA)
def test_what_is_transparent_lies_on_black(
    tmp_path: Path, name: str, codec: str, pixels: str, options: dict[str, str]
) -> None:
    path = glass(tmp_path / name, codec, pixels, options)
    assert media.glance(path).alpha
    assert media.facts(path, NONE).frames == 6
    for shown in (path, joined(path)):
        got = patches(shown, len(GLASS))
        assert all(near(a, b, 6) for a, b in zip(got, GLASS.values(), strict=True)), got
    for frame in ("first", "-3"):
        media.cut(path, frame, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as image:
            assert near(image.getpixel((PATCH // 2, PATCH)), (0, 0, 0), 6)  # type: ignore[arg-type]


def test_a_palette_may_be_transparent(tmp_path: Path) -> None:
    image = Image.new("P", (2 * PATCH, 2 * PATCH), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, PATCH, 2 * PATCH))
    for hidden, want in ((b"\xff\x00", (0, 0, 0)), (b"\xff\xff", (0, 255, 0))):
        png = BytesIO()
        image.save(png, "PNG", transparency=hidden)
        path = tmp_path / "own.mov"
        with av.open(str(path), "w") as container:
            video = container.add_stream("png", rate=24)
            video.width, video.height, video.pix_fmt = *image.size, "rgba"
            packet = av.Packet(png.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = video, 0, 0, Fraction(1, 24)
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
        assert all(near(a, b, 1) for a, b in zip(patches(path, 2), ((255, 0, 0), want), strict=True))
        assert media.glance(path).alpha == (hidden[1] == 0)


def test_an_alpha_channel_that_hides_nothing_changes_nothing(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mov", codec="prores_ks", pixels="yuva444p10le", frames=3)
    media.cut(path, "last", tmp_path / "last.png")
    with Image.open(tmp_path / "last.png") as image:
        assert clips.number(image) == 2
        assert near(image.getpixel((40, 22)), (235, 235, 235), 2)  # type: ignore[arg-type]
