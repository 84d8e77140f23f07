"""A copy of an image that a provider would refuse as it is, or might show otherwise: made only where the project asks.

The copy shows what an eye sees in the original: upright, and where that was anything else, in eight bits of sRGB on
black. It carries no metadata but a colour profile that is sRGB's own. The original stays what the shot's key knows; the
digest of the copy is in the record of what went in.
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


def smaller(data: bytes, form: str, most_bytes: int, formats: tuple[str, ...], how: How) -> tuple[bytes, str]:
    """A plain image (`ImageFacts.plain`) of at most `most_bytes` in one of `formats`, and its format; the very same
    where it is so.

    lossless: the pixels that are seen as a PNG, or as a WEBP. high-quality: a JPEG of the same size, then smaller ones.
    Blocks, for seconds with a large image. Raises MediaError when no such copy fits.
    """
    from PIL import Image  # costs 20 ms, and few runs shrink anything

    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            plain = pictures.facts(opened, data).plain
            if plain and len(data) <= most_bytes and form in formats:
                return data, form
            profile = opened.info.get("icc_profile")
            if plain and (not profile or pictures.is_srgb(profile)):
                picture = _pixels(opened)
            else:
                picture, profile = pictures.on_black(pictures.as_seen(opened)), None
            picture.info = {}
        tries = _lossless(picture, profile, formats) if how == "lossless" else _lossy(picture, profile, most_bytes)
        least = 0
        for copy, made in tries:
            if len(copy) <= most_bytes and made in formats:
                return copy, made
            least = min(least or len(copy), len(copy))
    except (OSError, ValueError, SyntaxError, MemoryError) as bad:
        raise MediaError(f"no copy of the image could be made: {bad}", "save it as an 8-bit PNG in sRGB") from bad
    mend = "make it smaller by hand"
    if how == "lossless":
        mend = "set `images: {shrink: high-quality}` in klingflow.yaml, or " + mend
    has, most = _mib(least), _mib(most_bytes)
    raise MediaError(f"the smallest {how} copy of the image still has {has}; the provider takes {most}", mend)


def _pixels(plain: Image.Image) -> Image.Image:
    """The very pixels of a plain image, without the alpha channel that hides nothing."""
    return plain.convert("RGB") if plain.has_transparency_data else plain.copy()


def _lossless(picture: Image.Image, profile: bytes | None, formats: tuple[str, ...]) -> Iterator[tuple[bytes, str]]:
    yield _saved(picture, "PNG", profile, optimize=True, compress_level=9), "PNG"
    if "WEBP" in formats and max(picture.size) <= WEBP_SIDE:
        yield _saved(picture.convert("RGB"), "WEBP", profile, lossless=True, exact=True, quality=80, method=4), "WEBP"


def _lossy(picture: Image.Image, profile: bytes | None, most_bytes: int) -> Iterator[tuple[bytes, str]]:
    """JPEGs without `optimize`, which saves some hundredths: libjpeg then wants all of the file in one buffer, Pillow
    guesses how large that is, and a picture with much grain is larger."""
    from PIL import Image

    if picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    copy = b""
    for quality in QUALITIES:
        copy = _saved(picture, "JPEG", profile, quality=quality, subsampling=0)
        yield copy, "JPEG"
    scale, short = 1.0, min(picture.size)
    while scale * short > LEAST_SIDE:
        scale *= min(0.95, max(0.5, math.sqrt(most_bytes / len(copy))))
        scale = max(scale, LEAST_SIDE / short)
        size = round(picture.width * scale), round(picture.height * scale)
        shrunk = picture.resize(size, Image.Resampling.LANCZOS)
        copy = _saved(shrunk, "JPEG", profile, quality=QUALITIES[-1], subsampling=0)
        yield copy, "JPEG"


def _saved(picture: Image.Image, form: str, profile: bytes | None, **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, form, **options, **({"icc_profile": profile} if profile else {}))
    return out.getvalue()


def _mib(size: int) -> str:
    return f"{size / (1024 * 1024):.1f} MiB"
