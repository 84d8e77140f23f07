"""A smaller copy of an image that a provider would refuse as it is: made only where the project asks for it.

The copy shows what the original shows: turned as its EXIF says, with its colour profile, and without any other
metadata. The original stays what the shot's key knows; the digest of the copy is in the record of what went in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from klingflow.core.errors import MediaError
from klingflow.io import pictures

if TYPE_CHECKING:
    from PIL import Image

How = Literal["lossless", "high-quality"]

QUALITIES = (95, 93, 91, 90)
"""Of a JPEG with full colour resolution: at 95 no pixel of a 4K frame is off by more than 8 of 255 (measured)."""
LEAST_SIDE = 720
"""Pixels: a still is never made smaller than the smallest clip that is sold."""
WEBP_SIDE = 16383
"""Pixels at most; the format's own limit."""
ORIENTATION = 0x0112


def smaller(data: bytes, form: str, most_bytes: int, formats: tuple[str, ...], how: How) -> tuple[bytes, str]:
    """An image of at most `most_bytes` in one of `formats`, upright, and its format; the very same where it is so.

    lossless: the same pixels as a PNG, or as a WEBP. high-quality: a JPEG of the same size, then smaller ones.
    Blocks, for seconds with a large image. Raises MediaError when no such copy fits.
    """
    from PIL import Image, ImageOps  # costs 20 ms, and few runs shrink anything

    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            turned = opened.getexif().get(ORIENTATION, 1) in range(2, 9)
            if len(data) <= most_bytes and form in formats and not turned:
                return data, form
            profile = opened.info.get("icc_profile")
            deep = form == "PNG" and data[24] > 8
            picture = _plain(ImageOps.exif_transpose(opened))
        if how == "lossless":
            tries = _lossless(picture, profile, deep, formats)
        else:
            tries = _lossy(picture, profile, most_bytes)
        least = 0
        for copy, made in tries:
            if len(copy) <= most_bytes and made in formats:
                return copy, made
            least = min(least or len(copy), len(copy))
    except (OSError, ValueError, SyntaxError, MemoryError) as bad:
        raise MediaError(f"no smaller copy of the image could be made: {bad}", "make it smaller by hand") from bad
    mend = "make it smaller by hand"
    if how == "lossless":
        mend = "set `images: {shrink: high-quality}` in klingflow.yaml, or " + mend
    has, most = _mib(least), _mib(most_bytes)
    raise MediaError(f"the smallest {how} copy of the image still has {has}; the provider takes {most}", mend)


def _plain(picture: Image.Image) -> Image.Image:
    """The pixels alone: no metadata that a writer would carry over, and no alpha channel that hides nothing."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() == (255, 255):
            picture = picture.convert("RGB")
    picture.info = {}
    return picture


def _lossless(
    picture: Image.Image, profile: bytes | None, deep: bool, formats: tuple[str, ...]
) -> Iterator[tuple[bytes, str]]:
    if deep or picture.mode == "CMYK":
        what = "has more than 8 bits a channel" if deep else "is in CMYK, a print's colours"
        raise MediaError(
            f"the image {what}, so no copy of it can be both smaller and lossless",
            "set `images: {shrink: high-quality}` in klingflow.yaml, or save it as an 8-bit RGB picture",
        )
    yield _saved(picture, "PNG", profile, optimize=True, compress_level=9), "PNG"
    if "WEBP" in formats and max(picture.size) <= WEBP_SIDE:
        if picture.mode not in ("RGB", "RGBA"):
            picture = picture.convert("RGB")
        yield _saved(picture, "WEBP", profile, lossless=True, exact=True, quality=80, method=4), "WEBP"


def _lossy(picture: Image.Image, profile: bytes | None, most_bytes: int) -> Iterator[tuple[bytes, str]]:
    from PIL import Image

    if picture.mode == "RGBA":
        raise MediaError(
            "the image is transparent in places, which a JPEG cannot be",
            "flatten it, or set `images: {shrink: lossless}` in klingflow.yaml",
        )
    if picture.mode == "CMYK":
        picture, profile = pictures.to_srgb(picture, profile), None
    elif pictures.is_deep_grey(picture):
        picture = pictures.eight_bits(picture)
    elif picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    copy = b""
    for quality in QUALITIES:
        copy = _saved(picture, "JPEG", profile, quality=quality, subsampling=0, optimize=True)
        yield copy, "JPEG"
    scale, short = 1.0, min(picture.size)
    while scale * short > LEAST_SIDE:
        scale *= min(0.95, max(0.5, math.sqrt(most_bytes / len(copy))))
        scale = max(scale, LEAST_SIDE / short)
        size = round(picture.width * scale), round(picture.height * scale)
        shrunk = picture.resize(size, Image.Resampling.LANCZOS)
        copy = _saved(shrunk, "JPEG", profile, quality=QUALITIES[-1], subsampling=0, optimize=True)
        yield copy, "JPEG"


def _saved(picture: Image.Image, form: str, profile: bytes | None, **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, form, **options, **({"icc_profile": profile} if profile else {}))
    return out.getvalue()


def _mib(size: int) -> str:
    return f"{size / (1024 * 1024):.1f} MiB"
