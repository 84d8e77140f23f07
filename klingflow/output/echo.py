"""How much of a clip repeats the end of the clip that it continues: where that end went along as a reference
video, a model may begin by showing it again. The film shows it once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from klingflow.io import media

ALIKE = 8.0
"""Mean difference of two pictures, of 255, up to which they may be one and the same. Measured on the pans of
tests/test_echo.py, 2026-11: two encodes of one frame differ by 0.8 at most (by 3 where one is 3 lighter), frames that
are 8 apart by 16 and more at half a pixel a frame."""
SAME = 1.0
"""How much worse than the best a shorter repetition may fit and still be taken: in a picture that stands still every
length fits, and the shortest cuts least."""
SAMPLES = 12


def frames(before: Path, clip: Path, seconds: int) -> int:
    """How many frames at the start of `clip` repeat the end of `before`, looked for in its last `seconds`; 0 where none
    do. Clips of two frame rates are not compared. Raises MediaError."""
    line, own = media.timeline(before), media.timeline(clip)
    if abs(line.rate / own.rate - 1) > Fraction(1, 100):
        return 0
    first = max(0, line.shown_at(max(Fraction(0), line.seconds - seconds)))
    window = media.small(before, first)
    head = media.small(clip, 0, len(window))
    return repeated(window, head)


def repeated(window: Sequence[Image.Image], head: Sequence[Image.Image]) -> int:
    """The number of pictures at the start of `head` with which `window` ends, 0 for none."""
    fits = {length: _unlike(window, head, length) for length in range(1, min(len(window), len(head)) + 1)}
    best = min(fits.values(), default=ALIKE)
    if best >= ALIKE:
        return 0
    return min(length for length, unlike in fits.items() if unlike <= best + SAME)


def _unlike(window: Sequence[Image.Image], head: Sequence[Image.Image], length: int) -> float:
    """The mean difference of both, as if `length` pictures were repeated."""
    start = len(window) - length
    step = max(1, length // SAMPLES)
    pairs = range(0, length, step)
    return sum(_difference(window[start + i], head[i]) for i in pairs) / len(pairs)


def _difference(one: Image.Image, other: Image.Image) -> float:
    return float(ImageStat.Stat(ImageChops.difference(one, other)).mean[0])
