"""How large a picture is: resolutions by name, and shapes as width by height."""

from __future__ import annotations

from fractions import Fraction

SHORTER_SIDE = {"720p": 720, "1080p": 1080, "4K": 2160}
"""Pixels of a picture of that resolution."""


def shape_of(aspect: str) -> Fraction:
    """Width by height of an aspect ratio: "16:9", "2.39:1". Raises ValueError or ZeroDivisionError for other texts."""
    width, height = aspect.split(":")
    return Fraction(width) / Fraction(height)


def framed(side: int, shape: Fraction) -> tuple[int, int]:
    """Width and height, even numbers, of a picture of that shape whose shorter side has so many pixels."""
    longer = round(side * max(shape, 1 / shape) / 2) * 2
    shorter = side // 2 * 2
    return (longer, shorter) if shape >= 1 else (shorter, longer)
