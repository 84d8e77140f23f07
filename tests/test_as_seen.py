"""A still is shown as an eye would see it, whatever its mode, depth, profile or EXIF.

Of Pillow's modes, I and F reach no still: a PNG, JPEG or WEBP is never opened in them, and TIFF is not read.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image, ImageCms

from klingflow.io.pictures import as_seen
from klingflow.io.project import picture
from tests import odd_stills
from tests.odd_stills import png, saved, wide

GREY = (128, 128, 128)


def deep(value: int) -> Image.Image:
    return Image.frombytes("I;16", (8, 8), array("H", [value] * 64).tobytes())


def screen() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 60, 20])
    return saved(image, "PNG", **({"transparency": 1} if transparent else {}))


@pytest.mark.parametrize(
    ("make", "colour"),
    [
        (lambda: saved(deep(128 * 257), "PNG"), GREY),
        (lambda: saved(deep(65535), "PNG"), (255, 255, 255)),
        (lambda: saved(deep(300), "PNG"), (1, 1, 1)),
        (lambda: saved(Image.new("1", (8, 8), 1), "PNG"), (255, 255, 255)),
        (lambda: saved(Image.new("L", (8, 8), 128), "PNG"), GREY),
        (lambda: saved(Image.new("L", (8, 8), 128), "JPEG"), GREY),
        (lambda: saved(Image.new("LA", (8, 8), (128, 0)), "PNG"), (*GREY, 0)),
        (lambda: saved(Image.new("LA", (8, 8), (128, 255)), "PNG"), (*GREY, 255)),
        (lambda: palette(False), (200, 60, 20)),
        (lambda: palette(True), (200, 60, 20, 0)),
        (lambda: saved(Image.new("RGB", (8, 8), (200, 60, 20)), "PNG", transparency=(200, 60, 20)), (200, 60, 20, 0)),
        (lambda: saved(Image.new("RGB", (8, 8), (200, 60, 20)), "PNG", transparency=(1, 2, 3)), (200, 60, 20, 255)),
        (lambda: saved(Image.new("RGBA", (8, 8), (200, 60, 20, 90)), "WEBP", lossless=True), (200, 60, 20, 90)),
        (lambda: odd_stills.deep(4, 128 * 257, 90 * 257), (*GREY, 90)),
        (lambda: odd_stills.deep(2, 200 * 257, 60 * 257, 20 * 257), (200, 60, 20)),
        (lambda: odd_stills.deep(6, 200 * 257, 60 * 257, 20 * 257, 90 * 257), (200, 60, 20, 90)),
        (lambda: odd_stills.cmyk(0, 255, 255, 0), (255, 0, 0)),
        (lambda: odd_stills.cmyk(200, 30, 90, 40), (46, 189, 139)),
        (lambda: odd_stills.ycck(200, 30, 90, 40), (46, 189, 139)),  # FFmpeg's own reading of the same file
    ],
)
def test_every_mode_is_shown_as_it_looks(make: Callable[[], bytes], colour: tuple[int, ...]) -> None:
    with Image.open(BytesIO(make())) as image:
        seen = as_seen(image)
    assert seen.mode == ("RGB" if len(colour) == 3 else "RGBA")
    found = seen.getpixel((3, 3))
    assert isinstance(found, tuple)
    assert all(abs(one - other) <= 2 for one, other in zip(found, colour, strict=True)), found


def test_a_deep_grey_that_is_declared_transparent_is() -> None:
    image = deep(40000)
    image.putpixel((0, 0), 513)
    image.info["transparency"] = 513
    seen = as_seen(image)
    assert seen.mode == "RGBA"
    assert seen.getpixel((0, 0)) == (2, 2, 2, 0)
    assert seen.getpixel((1, 1)) == (156, 156, 156, 255)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (png(0, 1, b"\xff", (8, 8), tRNS=b"\0\1"), (255, 255, 255, 0)),
        (png(0, 1, b"\xff", (8, 8), tRNS=b"\0\0"), (255, 255, 255, 255)),
        (png(0, 2, b"\x55" * 2, (8, 8), tRNS=b"\0\1"), (85, 85, 85, 0)),
        (png(0, 4, b"\x77" * 4, (8, 8), tRNS=b"\0\7"), (119, 119, 119, 0)),
        (png(0, 4, b"\x11" * 4, (8, 8), tRNS=b"\0\7"), (17, 17, 17, 255)),
        (png(3, 1, b"\xff", (8, 8), PLTE=bytes([1, 2, 3, 40, 50, 60]), tRNS=b"\xff\x50"), (40, 50, 60, 80)),
        (odd_stills.deep(2, 40000, 300, 65535, tRNS=struct.pack(">3H", 40000, 300, 65535)), (156, 1, 255, 0)),
        (odd_stills.deep(2, 40000, 300, 65535, tRNS=struct.pack(">3H", 1, 300, 65535)), (156, 1, 255, 255)),
    ],
)
def test_a_colour_that_is_declared_transparent_is_meant_in_the_files_own_depth(
    data: bytes, colour: tuple[int, ...]
) -> None:
    with Image.open(BytesIO(data)) as image:
        assert as_seen(image).getpixel((3, 3)) == colour
    assert picture("a.png", data).transparent == (colour[3] < 255)


@pytest.mark.parametrize(
    ("data", "odd"),
    [
        (odd_stills.cmyk(0, 255, 255, 0), {"cmyk": True}),
        (odd_stills.ycck(0, 255, 255, 0), {"cmyk": True}),
        (odd_stills.deep(0, 40000), {"deep": True}),
        (odd_stills.deep(0, 40000, tRNS=struct.pack(">H", 40000)), {"deep": True, "transparent": True}),
        (odd_stills.deep(4, 40000, 65535), {"deep": True}),
        (odd_stills.deep(2, 1, 2, 3), {"deep": True}),
        (odd_stills.deep(6, 1, 2, 3, 4), {"deep": True, "transparent": True}),
        (saved(Image.new("RGB", (8, 8), "red"), "PNG", icc_profile=wide()), {"profile": "Display P3"}),
        (saved(Image.new("RGB", (8, 8), "red"), "JPEG", icc_profile=wide()), {"profile": "Display P3"}),
        (saved(Image.new("RGBA", (8, 8), "red"), "WEBP", icc_profile=wide()), {"profile": "Display P3"}),
        (saved(deep(40000), "PNG", icc_profile=wide("L")), {"deep": True, "profile": "Dot Gain 40%"}),
        (saved(Image.new("LA", (8, 8), (9, 255)), "PNG", icc_profile=wide("L")), {"profile": "Dot Gain 40%"}),
        (saved(Image.new("RGBA", (8, 8), (9, 9, 9, 254)), "PNG"), {"transparent": True}),
        (saved(Image.new("LA", (8, 8), (9, 0)), "PNG"), {"transparent": True}),
        (palette(True), {"transparent": True}),
        (palette(False), {}),
        (saved(Image.new("RGBA", (8, 8), (9, 9, 9, 255)), "WEBP", lossless=True), {}),
        (saved(Image.new("1", (8, 8)), "PNG"), {}),
        (saved(Image.new("L", (8, 8)), "JPEG"), {}),
        (saved(Image.new("RGB", (8, 8)), "PNG", icc_profile=wide("L")), {}),
        (saved(Image.new("RGB", (8, 8)), "PNG", icc_profile=b"nonsense"), {}),
        (saved(Image.new("RGB", (8, 8)), "PNG", icc_profile=screen()), {}),
    ],
)
def test_what_a_seller_may_show_otherwise_is_known_of_a_still(data: bytes, odd: dict[str, object]) -> None:
    facts = picture("a.png", data)
    known = {name: getattr(facts, name) for name in ("turned", "cmyk", "deep", "transparent", "profile")}
    assert {name: value for name, value in known.items() if value} == odd
    assert facts.plain == (not odd)


def test_the_name_of_a_profile_acts_on_no_terminal() -> None:
    evil = wide().replace("Display P3".encode("utf-16-be"), "\x1b]0;owned!".encode("utf-16-be"))
    assert picture("a.png", saved(Image.new("RGB", (8, 8)), "PNG", icc_profile=evil)).profile == "\\x1b]0;owned!"


def swapped() -> bytes:
    """An sRGB profile whose red and green are exchanged, under another name: what a wide profile is, only more so."""
    return screen().replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ").replace(
        "sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_is_followed(mode: str) -> None:
    image = Image.new("RGB", (8, 8), (200, 60, 20)).convert(mode)
    with Image.open(BytesIO(saved(image, "PNG", icc_profile=swapped()))) as opened:
        seen = as_seen(opened)
    assert seen.mode == mode
    found = seen.getpixel((1, 1))
    assert isinstance(found, tuple)
    assert all(abs(one - other) <= 3 for one, other in zip(found, (60, 200, 20, 255), strict=False)), found


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (saved(Image.new("RGB", (8, 8), (200, 60, 20)), "PNG", icc_profile=wide()), (217, 42, 0)),
        (saved(Image.new("L", (8, 8), 128), "PNG", icc_profile=wide("L")), (100, 100, 100)),
        (saved(Image.new("LA", (8, 8), (128, 255)), "PNG", icc_profile=wide("L")), (100, 100, 100, 255)),
        (saved(deep(128 * 257), "PNG", icc_profile=wide("L")), (100, 100, 100)),
        (saved(Image.new("L", (8, 8), 128), "PNG", icc_profile=wide()), GREY),
    ],
)
def test_a_wide_profile_and_a_greys_own_are_followed(data: bytes, colour: tuple[int, ...]) -> None:
    """Worked out by hand: P3 and sRGB share their curve, and the grey is 0.5 to the power of 3."""
    with Image.open(BytesIO(data)) as image:
        found = as_seen(image).getpixel((1, 1))
    assert isinstance(found, tuple)
    assert all(abs(one - other) <= 1 for one, other in zip(found, colour, strict=True)), found


def test_a_profile_that_does_not_fit_is_no_profile() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"nonsense", lab):
        data = saved(Image.new("RGB", (8, 8), (200, 60, 20)), "PNG", icc_profile=profile)
        with Image.open(BytesIO(data)) as image:
            assert as_seen(image).getpixel((1, 1)) == (200, 60, 20)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_exif_turns_is_shown_turned(form: str) -> None:
    image = Image.new("RGB", (16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(BytesIO(saved(image, form, exif=exif))) as opened:
        assert as_seen(opened).size == (8, 16)
