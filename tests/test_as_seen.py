"""A still is shown as an eye would see it, whatever its mode, depth, profile or EXIF."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image, ImageCms

from klingflow.io.pictures import as_seen

GREY = (128, 128, 128)


def deep(value: int) -> Image.Image:
    return Image.frombytes("I;16", (8, 8), array("H", [value] * 64).tobytes())


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


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
        (lambda: saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
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


def swapped() -> bytes:
    """An sRGB profile whose red and green are exchanged, under another name: what a wide profile is, only more so."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ").replace(
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
