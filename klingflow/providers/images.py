"""What is wrong with an image for a provider, from its measured facts. Reads no file."""

from __future__ import annotations

from klingflow.core.model import ImageFacts
from klingflow.providers.base import Caps, Images

PIXELS = {"720p": 1280 * 720, "1080p": 1920 * 1080, "4K": 3840 * 2160}
"""Of a frame of a clip, whatever its shape: the sellers keep the number and change the sides."""


def frame_bytes(pixels: int) -> int:
    """How many bytes the PNG of a clip's frame has at most: 8-bit RGB in which nothing can be compressed."""
    return pixels * 3 * 1001 // 1000 + 64 * 1024


def image_bytes(caps: Caps, way: Images) -> int:
    """How many bytes an image may have on its way to the provider (`Provider.images`). They are the file's own, also
    where it goes as Base64 (so MuleRouter's docs speak of a file of 10 MB, and HiAPI's tools measure the file)."""
    inside = way in ("data-uri", "base64") and caps.inline_bytes is not None
    return min(caps.image_bytes, caps.inline_bytes or 0) if inside else caps.image_bytes


def image_problems(
    caps: Caps, facts: ImageFacts, most_bytes: int | None = None, shrinks: bool = False
) -> list[tuple[str, str]]:
    """Each limit that the image breaks: (what, mend). `most_bytes`: see `image_bytes`.

    `shrinks`: the project has copies sent (io.shrink) where that is needed.
    """
    most = caps.image_bytes if most_bytes is None else most_bytes
    out: list[tuple[str, str]] = []
    if facts.format not in caps.image_formats and not shrinks:
        out.append(other_format(facts.format, caps))
    if facts.bytes > most and not shrinks:
        out.append(too_large(facts.bytes, most))
    if facts.turned and caps.paid and not shrinks:
        out.append(
            (
                "the image is turned or mirrored by its EXIF orientation alone; a provider may ignore that",
                "save it upright, or set `images: {shrink: lossless}` in klingflow.yaml to send an upright copy",
            )
        )
    short, long = sorted((facts.width, facts.height))
    if short < caps.image_side:
        out.append(
            (
                f"the image is {facts.width}x{facts.height} pixels; each side needs at least {caps.image_side}",
                "use a larger image",
            )
        )
    if long > short * caps.image_ratio:
        out.append(
            (
                f"the image is {facts.width}x{facts.height} pixels; its longer side may be at most "
                f"{caps.image_ratio:g} times the shorter",
                "crop it",
            )
        )
    return out


def image_doubts(caps: Caps, facts: ImageFacts, shrinks: bool = False) -> list[tuple[str, str]]:
    """What of an image no provider's documents speak of, so that it may be shown otherwise than it looks: at most one
    (what, mend)."""
    odd = (
        (facts.cmyk, "in CMYK, the colours of print"),
        (facts.deep, "of 16 bits a channel"),
        (bool(facts.profile), f"in the colours of the profile '{facts.profile}'"),
        (facts.transparent, "transparent in places"),
    )
    has = [what for is_so, what in odd if is_so]
    if not has or not caps.paid or shrinks:
        return []
    said = " and ".join([", ".join(has[:-1]), has[-1]] if has[1:] else has)
    what = f"the image is {said}; the provider does not say that it takes that, and may refuse it or show it otherwise"
    mend = "save it in 8-bit sRGB, opaque, or set `images: {shrink: lossless}` in klingflow.yaml to send such a copy"
    return [(what, mend)]


def other_format(has: str, caps: Caps) -> tuple[str, str]:
    """That a provider does not take an image's format: (what, mend)."""
    return (
        f"the image is {has}; the provider takes {', '.join(caps.image_formats)}",
        "convert it to PNG, or set `images: {shrink: lossless}` in klingflow.yaml to send a copy as PNG",
    )


def too_large(has: int, most: int) -> tuple[str, str]:
    """That an image has too many bytes: (what, mend)."""
    return (
        f"the image has {mib(has)}; the provider takes {mib(most)}",
        "make it smaller, or set `images: {shrink: lossless}` or `{shrink: high-quality}` in klingflow.yaml to send a "
        "smaller copy",
    )


def mib(size: int) -> str:
    return f"{size / (1024 * 1024):.1f} MiB"
