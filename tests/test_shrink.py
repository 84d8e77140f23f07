"""Smaller copies of images: they fit, show the same, and are made only where that is needed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from klingflow.core.errors import MediaError
from klingflow.core.model import ImageFacts
from klingflow.io.project import picture
from klingflow.io.shrink import How, smaller
from klingflow.providers import PROVIDERS, hiapi, mulerouter
from klingflow.providers.images import PIXELS, frame_bytes, image_bytes, image_doubts, image_problems
from tests import odd_stills

BOTH = ("JPEG", "PNG")
ALL = ("JPEG", "PNG", "WEBP")


def scene(width: int = 1280, height: int = 800, noise: int = 24) -> Image.Image:
    """A slope with some grain: what a photograph is to a coder."""
    grain = np.random.default_rng(7).integers(0, noise, (height, width, 3))
    slope = np.linspace(20, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return Image.fromarray((slope + grain).astype(np.uint8))


def coded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def off(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures of one size, in levels."""
    a, b = (np.asarray(each.convert("RGB"), dtype=np.int16) for each in (one, other))
    return float(np.abs(a - b).mean())


@pytest.mark.parametrize("how", ["lossless", "high-quality"])
def test_an_image_that_fits_is_sent_as_it_is(how: How) -> None:
    data = coded(scene(64, 64))
    assert smaller(data, "PNG", len(data), BOTH, how) == (data, "PNG")


def test_lossless_is_the_same_pixels_as_png_and_then_as_webp() -> None:
    data = coded(scene(), compress_level=0)
    png, form = smaller(data, "PNG", len(data) - 1, ALL, "lossless")
    assert form == "PNG"
    assert off(opened(png), scene()) == 0
    webp, form = smaller(data, "PNG", len(png) - 1, ALL, "lossless")
    assert form == "WEBP"
    assert len(webp) < len(png)
    assert off(opened(webp), scene()) == 0
    with pytest.raises(MediaError, match="the smallest lossless copy") as refused:
        smaller(data, "PNG", len(png) - 1, BOTH, "lossless")
    assert "high-quality" in refused.value.mend


def test_high_quality_is_a_jpeg_with_full_colour_and_scaled_down_only_when_that_is_not_enough() -> None:
    data = coded(scene())
    same, form = smaller(data, "PNG", len(data) // 2, BOTH, "high-quality")
    assert (form, opened(same).size) == ("JPEG", (1280, 800))
    assert [each[1:3] for each in opened(same).layer] == [(1, 1)] * 3, "4:4:4"  # type: ignore[attr-defined]
    assert off(opened(same), scene()) < 5
    scaled, _ = smaller(data, "PNG", 330_000, BOTH, "high-quality")
    assert len(scaled) <= 330_000
    width, height = opened(scaled).size
    assert 720 <= height < 800
    assert abs(width / height - 1.6) < 0.01
    with pytest.raises(MediaError, match="high-quality copy"):
        smaller(data, "PNG", 10_000, BOTH, "high-quality")


def test_a_picture_of_nothing_but_noise_is_sent_as_a_jpeg_too(capfd: pytest.CaptureFixture[str]) -> None:
    noise = Image.fromarray(np.random.default_rng(7).integers(0, 256, (800, 1000, 3), dtype=np.uint8))
    data = coded(noise)
    copy, form = smaller(data, "PNG", len(data) - 1, BOTH, "high-quality")
    assert (form, opened(copy).size) == ("JPEG", noise.size)
    assert capfd.readouterr() == ("", ""), "libjpeg has nothing to complain of"


@pytest.mark.parametrize("how", ["lossless", "high-quality"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_an_image_that_exif_turns_is_sent_upright_and_without_metadata(how: How, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera of somebody's"
    data = coded(scene(160, 80), "JPEG", quality=95, exif=exif, comment=b"secret place")
    upright = ImageOps.exif_transpose(opened(data))
    copy, form = smaller(data, "JPEG", 10_000_000, BOTH, how)
    assert form == ("PNG" if how == "lossless" else "JPEG")
    assert opened(copy).size == upright.size
    assert not opened(copy).getexif()
    assert b"camera" not in copy
    assert b"secret" not in copy
    assert off(opened(copy), upright) <= (0 if how == "lossless" else 3)


def test_the_colour_profile_stays_with_the_pixels() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = coded(scene(), icc_profile=profile, compress_level=0)
    hows: tuple[How, ...] = ("lossless", "high-quality")
    for how in hows:
        copy, _ = smaller(data, "PNG", len(data) - 1, ALL, how)
        assert opened(copy).info["icc_profile"] == profile


@pytest.mark.parametrize("how", ["lossless", "high-quality"])
@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (odd_stills.cmyk(200, 30, 90, 40), (46, 189, 139)),
        (odd_stills.ycck(200, 30, 90, 40), (46, 189, 139)),
        (odd_stills.deep(0, 128 * 257), (128, 128, 128)),
        (odd_stills.deep(4, 128 * 257, 65535), (128, 128, 128)),
        (odd_stills.deep(4, 128 * 257, 32768), (64, 64, 64)),
        (odd_stills.deep(2, 200 * 257, 60 * 257, 20 * 257), (200, 60, 20)),
        (odd_stills.deep(6, 200 * 257, 60 * 257, 20 * 257, 65535), (200, 60, 20)),
        (odd_stills.png(3, 1, b"\xff" * 160, PLTE=bytes([1, 2, 3, 200, 100, 50]), tRNS=b"\xff\x80"), (100, 50, 25)),
        (odd_stills.png(0, 2, b"\x55" * 320, tRNS=b"\0\1"), (0, 0, 0)),
        (coded(Image.new("RGBA", odd_stills.SIZE, (200, 100, 50, 0)), "WEBP", lossless=True, exact=True), (0, 0, 0)),
        (coded(Image.new("RGB", odd_stills.SIZE, (200, 60, 20)), "PNG", icc_profile=odd_stills.wide()), (217, 42, 0)),
        (coded(Image.new("RGB", odd_stills.SIZE, (200, 60, 20)), "JPEG", icc_profile=odd_stills.wide()), (216, 42, 0)),
        (coded(Image.new("L", odd_stills.SIZE, 128), "JPEG", icc_profile=odd_stills.wide("L")), (100, 100, 100)),
    ],
)
def test_what_a_seller_may_show_otherwise_is_sent_as_an_eye_sees_it_however_small(
    data: bytes, colour: tuple[int, ...], how: How
) -> None:
    copy, form = smaller(data, picture("a", data).format, 10**7, BOTH, how)
    assert form == ("PNG" if how == "lossless" else "JPEG")
    sent = picture("copy", copy)
    assert (sent.plain, sent.format, sent.width, sent.height) == (True, form, *odd_stills.SIZE)
    image = opened(copy)
    assert (image.mode, image.info.get("icc_profile")) == ("RGB", None)
    found = image.getpixel((640, 360))
    assert isinstance(found, tuple)
    assert all(abs(one - other) <= 2 for one, other in zip(found, colour, strict=True)), found
    assert smaller(copy, form, 10**7, BOTH, how) == (copy, form), "a copy needs no other"


def test_a_turned_and_wide_still_is_both_upright_and_in_a_screens_colours() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = odd_stills.wide()
    data = coded(Image.new("RGB", (80, 40), (200, 60, 20)), "JPEG", quality=100, exif=exif, icc_profile=wide)
    image = opened(smaller(data, "JPEG", 10**7, BOTH, "lossless")[0])
    assert image.size == (40, 80)
    assert off(image, Image.new("RGB", (40, 80), (217, 42, 0))) < 3


def test_a_palette_that_hides_nothing_stays_one_and_a_grey_stays_grey() -> None:
    stripes = Image.fromarray((np.indices((400, 400)).sum(0) % 7 * 30).astype(np.uint8))
    for image in (stripes, stripes.convert("P"), stripes.convert("1")):
        data = coded(image, compress_level=0)
        copy = opened(smaller(data, "PNG", len(data) - 1, ALL, "lossless")[0])
        assert copy.mode == image.mode
        assert off(copy, image) == 0


def facts(**more: Any) -> ImageFacts:
    plain: dict[str, Any] = {"digest": "0" * 64, "format": "PNG", "width": 1920, "height": 1080, "bytes": 9_000_000}
    return ImageFacts(**(plain | more))


def test_an_image_inside_hiapis_request_may_be_as_large_as_its_own_tools_send_it() -> None:
    assert image_bytes(hiapi.caps, "data-uri") == 20 * 2**20
    assert image_bytes(hiapi.caps, "url") == 50 * 2**20
    assert image_bytes(mulerouter.caps, "data-uri") == 10 * 2**20


def test_no_frame_of_a_clip_is_larger_than_what_is_said_of_it() -> None:
    width, height = 1280, 720
    noise = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = len(coded(Image.fromarray(noise), compress_level=3))  # as io.media cuts it
    assert width * height * 3 < size <= frame_bytes(width * height)
    assert frame_bytes(PIXELS["4K"]) > 20 * 2**20 > frame_bytes(PIXELS["1080p"])


def test_a_format_that_the_provider_lacks_is_told_with_the_setting_that_converts() -> None:
    webp = facts(format="WEBP")
    [(what, mend)] = image_problems(mulerouter.caps, webp)
    assert what == "the image is WEBP; the provider takes JPEG, PNG"
    assert "images: {shrink: lossless}" in mend
    assert image_problems(mulerouter.caps, webp, shrinks=True) == []
    assert image_problems(PROVIDERS["hiapi"].caps, webp) == []
    ways: tuple[How, How] = ("lossless", "high-quality")
    for how in ways:
        out = io.BytesIO()
        Image.new("RGB", (720, 720), "red").save(out, "WEBP")
        copy, form = smaller(out.getvalue(), "WEBP", 10**7, BOTH, how)
        assert form in ("JPEG", "PNG")
        assert Image.open(io.BytesIO(copy)).format == form


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"cmyk": True}, "the image is in CMYK, the colours of print; the provider does not say"),
        ({"deep": True}, "the image is of 16 bits a channel; the provider does not say"),
        ({"profile": "Display P3"}, "the image is in the colours of the profile 'Display P3'; the provider"),
        ({"transparent": True}, "the image is transparent in places; the provider does not say"),
        (
            {"deep": True, "profile": "P3", "transparent": True},
            "the image is of 16 bits a channel, in the colours of the profile 'P3' and transparent in places; ",
        ),
    ],
)
def test_what_no_seller_speaks_of_is_told_once_with_the_setting_that_converts(odd: dict[str, Any], said: str) -> None:
    image = facts(**odd)
    for seller in (mulerouter, hiapi):
        assert image_problems(seller.caps, image) == [], "nobody refuses it"
        [(what, mend)] = image_doubts(seller.caps, image)
        assert what.startswith(said)
        assert "images: {shrink: lossless}" in mend
        assert image_doubts(seller.caps, image, shrinks=True) == []
        assert image_doubts(seller.caps, facts()) == []
    assert image_doubts(PROVIDERS["animatic"].caps, image) == []


def test_only_bytes_and_orientation_are_mended_by_a_copy() -> None:
    bad = facts(bytes=11 * 2**20, turned=True, width=299, height=300)
    told = [(what.split(";")[0], mend) for what, mend in image_problems(mulerouter.caps, bad)]
    assert [what for what, _ in told] == [
        "the image has 11.0 MiB",
        "the image is turned or mirrored by its EXIF orientation alone",
        "the image is 299x300 pixels",
    ]
    assert all("images: {shrink: lossless}" in mend for _, mend in told[:2])
    assert [what for what, _ in image_problems(mulerouter.caps, bad, shrinks=True)] == [
        "the image is 299x300 pixels; each side needs at least 300"
    ]
    assert image_problems(PROVIDERS["animatic"].caps, facts(turned=True)) == []
