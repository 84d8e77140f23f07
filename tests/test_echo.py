"""What a clip repeats of the one before it, where that one's end went along as a reference video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from klingflow.output import echo

RATE = 24
WIDE, HIGH = 640, 360
SCENE = np.random.default_rng(7).integers(0, 255, (HIGH // 8, WIDE // 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
"""A landscape that a camera pans over; 8 x 8 pixels are one colour, so that a coder keeps them."""


def shown(at: float, *, light: int = 0) -> np.ndarray:
    """What the camera sees when it has moved so many pixels."""
    left = round(at)
    return np.clip(SCENE[:, left : left + WIDE].astype(int) + light, 0, 255).astype(np.uint8)


def written(path: Path, moments: list[float], *, crf: int = 23, light: int = 0, rate: int = RATE) -> Path:
    """A clip of a pan: where the camera is in each frame."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(rate))
        video.width, video.height, video.pix_fmt = WIDE, HIGH, "yuv420p"
        video.codec_context.options = {"crf": str(crf), "preset": "ultrafast"}
        for moment in moments:
            container.mux(video.encode(av.VideoFrame.from_ndarray(shown(moment, light=light), format="rgb24")))
        container.mux(video.encode(None))
    return path


def pan(first: int, count: int, speed: float = 3.0) -> list[float]:
    return [(first + n) * speed for n in range(count)]


@pytest.mark.parametrize("repeated", [0, 1, 7, 24, 60])
@pytest.mark.parametrize("crf", [18, 35])
def test_the_frames_that_are_repeated_are_counted(tmp_path: Path, repeated: int, crf: int) -> None:
    before = written(tmp_path / "a.mp4", pan(0, 72))
    clip = written(tmp_path / "b.mp4", pan(72 - repeated, 96) if repeated else pan(150, 96), crf=crf)
    assert echo.frames(before, clip, 3) == repeated


def test_a_clip_a_little_lighter_repeats_all_the_same(tmp_path: Path) -> None:
    before = written(tmp_path / "a.mp4", pan(0, 72))
    assert echo.frames(before, written(tmp_path / "b.mp4", pan(72 - 30, 96), light=3), 3) == 30


def test_no_more_is_looked_for_than_went_along(tmp_path: Path) -> None:
    before = written(tmp_path / "a.mp4", pan(0, 96))
    clip = written(tmp_path / "b.mp4", pan(96 - 40, 96))
    assert echo.frames(before, clip, 1) == 0, "its 24 frames are no repetition of the last second"
    assert echo.frames(before, clip, 3) == 40


def test_of_a_picture_that_stands_still_one_frame_is_cut(tmp_path: Path) -> None:
    before, clip = (written(tmp_path / name, [40.0] * 72) for name in ("a.mp4", "b.mp4"))
    assert echo.frames(before, clip, 3) == 1


def test_a_clip_that_goes_on_without_a_repetition_keeps_every_frame_but_the_shared_one(tmp_path: Path) -> None:
    before = written(tmp_path / "a.mp4", pan(0, 72))
    assert echo.frames(before, written(tmp_path / "b.mp4", pan(71, 96)), 3) == 1


def test_clips_of_two_rates_are_not_compared(tmp_path: Path) -> None:
    before = written(tmp_path / "a.mp4", pan(0, 72))
    assert echo.frames(before, written(tmp_path / "b.mp4", pan(48, 96), rate=30), 3) == 0


def test_a_short_clip_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    before = written(tmp_path / "a.mp4", pan(0, 72))
    assert echo.frames(before, written(tmp_path / "b.mp4", pan(72 - 10, 10)), 3) == 10
