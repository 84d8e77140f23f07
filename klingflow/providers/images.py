"""What is wrong with an image for a provider, from its measured facts. Reads no file."""

from __future__ import annotations

from klingflow.core.model import ImageFacts, Shot, UrlStill
from klingflow.providers.base import Caps, Settings

BODY_ROOM = 64 * 1024
"""Of a request's body for all but its images: the prompt at its longest takes 18 KB as JSON."""


def image_bytes(caps: Caps, settings: Settings, shot: Shot, *, published: bool) -> int:
    """How many bytes each image of a shot may have on its way to the provider.

    The provider's limit for an image counts the file's own bytes, also where it goes as Base64 (so MuleRouter's docs
    speak of a file of 10 MB). Where HiAPI gets images inside the request, they share its body, a third larger as text.
    """
    if caps.body_bytes is None or published or not settings.data_uri:
        return caps.image_bytes
    inside = sum(not isinstance(frame, UrlStill) for _, frame in shot.frames())
    share = (caps.body_bytes - BODY_ROOM) // max(1, inside)
    return min(caps.image_bytes, share // 4 * 3)


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
        f"the image has {_mib(has)}; the provider takes {_mib(most)}",
        "make it smaller, or set `images: {shrink: lossless}` or `{shrink: high-quality}` in klingflow.yaml to send a "
        "smaller copy",
    )


def _mib(size: int) -> str:
    return f"{size / (1024 * 1024):.1f} MiB"
