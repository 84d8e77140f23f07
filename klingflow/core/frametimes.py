"""When each frame of a clip is on the screen: exact, in whole units of the file's own clock."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

CLOCK = Fraction(1, 1000)
"""Seconds of a tick of WebM and Matroska; a file that was once one keeps its rounding in an MP4 of a finer clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTimes:
    """When each frame that a player shows begins, in units of `base` seconds, in display order."""

    base: Fraction
    begins: tuple[int, ...]
    keys: tuple[int, ...]
    """Those of `begins` at which decoding can start, sorted."""
    seconds: Fraction
    """From the first frame's appearance until the last one leaves the screen."""
    rate: Fraction
    """Frames a second: exact where the frames stand at equal distance, else their mean."""

    @classmethod
    def steady(cls, frames: int, rate: Fraction) -> FrameTimes:
        """So many frames at equal distance, `rate` a second."""
        return cls(base=1 / rate, begins=tuple(range(frames)), keys=(0,), seconds=frames / rate, rate=rate)

    @property
    def start_s(self) -> Fraction:
        """Where the picture begins on the file's own clock, which its sound shares."""
        return self.begins[0] * self.base

    def shown_at(self, seconds: Fraction) -> int:
        """The index of the frame on the screen `seconds` after the first one appeared."""
        return bisect.bisect_right(self.begins, self.begins[0] + seconds / self.base) - 1

    def index(self, frame: str) -> int | None:
        """The index of a frame that is named as in core.model.ShotFrame; None where the clip has none of that name."""
        count = len(self.begins)
        if frame in ("first", "last"):
            return 0 if frame == "first" else count - 1
        if re.fullmatch(r"-[1-9][0-9]{0,8}", frame):
            return count + int(frame) if -int(frame) <= count else None
        if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?s", frame):
            seconds = Fraction(frame[:-1])
            return self.shown_at(seconds) if seconds < self.seconds else None
        return None

    def span_s(self, first: int, end: int) -> Fraction:
        """How many seconds the frames `first` to `end` (exclusive) are on the screen."""
        count = len(self.begins)
        if (first, end) == (0, count):
            return self.seconds
        if self.is_steady(self.rate):
            return (end - first) / self.rate
        last = self.begins[end] if end < count else self.begins[0] + self.seconds / self.base
        return (last - self.begins[first]) * self.base

    def is_steady(self, rate: Fraction) -> bool:
        """Whether the frames stand at equal distance, `rate` a second, but for the rounding of a clock."""
        return is_steady(self.begins, self.base, rate, max(self.base, CLOCK))


def is_steady(begins: Sequence[int], base: Fraction, rate: Fraction, slack: Fraction) -> bool:
    """Whether frames that begin so are `rate` a second, each within `slack` seconds."""
    step = 1 / (rate * base)
    # A clock as coarse as the frames are long does not hide that one is missing.
    most = min(slack / base, step / 2)
    # In whole numbers: a film has many frames.
    up, down, limit = step.numerator, step.denominator, most.numerator * step.denominator
    return all(abs((begin - begins[0]) * down - i * up) * most.denominator <= limit for i, begin in enumerate(begins))
