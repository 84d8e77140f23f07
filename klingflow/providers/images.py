"""What is wrong with an image for a provider, told from its measured facts. Reads no file."""

from __future__ import annotations

from klingflow.core.model import ImageFacts
from klingflow.providers.base import Caps


def image_problems(caps: Caps, facts: ImageFacts) -> list[tuple[str, str]]:
    """Each limit that the image breaks: (what, mend)."""
    out: list[tuple[str, str]] = []
    if facts.format not in caps.image_formats:
        allowed = ", ".join(caps.image_formats)
        out.append((f"the image is {facts.format}; the provider takes {allowed}", "convert it to PNG"))
    if facts.bytes > caps.image_bytes:
        has, most = _mib(facts.bytes), _mib(caps.image_bytes)
        out.append((f"the image has {has}; the provider takes {most}", "make it smaller, or save it as JPEG"))
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


def _mib(size: int) -> str:
    return f"{size / (1024 * 1024):.1f} MiB"
