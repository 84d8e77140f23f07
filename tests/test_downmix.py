from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import av
import pytest

from klingflow.io.downmix import Downmix, levels
from tests import clips

SIDE = 0.5**0.5


def heard(frames: Sequence[av.AudioFrame]) -> array[float]:
    out, downmix = array("f"), Downmix()
    for frame in [*frames, None]:
        for part in downmix(frame):
            out.frombytes(bytes(part.planes[0])[: part.samples * 8])
    return out


@pytest.mark.parametrize(
    ("layout", "left"),
    [
        ("mono", [1]),
        ("1 channels", [1]),
        ("stereo", [1, 0]),
        ("2 channels", [1, 0]),
        ("downmix", [1, 0]),
        ("2.1", [1, 0, 0]),
        ("3.0", [1, 0, SIDE]),
        ("3 channels", [1, 0, SIDE]),
        ("quad", [1, 0, SIDE, 0]),
        ("quad(side)", [1, 0, SIDE, 0]),
        ("4 channels", [1, 0, SIDE, 0]),
        ("4.0", [1, 0, SIDE, 0.5]),
        ("5.0", [1, 0, SIDE, SIDE, 0]),
        ("5.1", [1, 0, SIDE, 0, SIDE, 0]),
        ("5.1(side)", [1, 0, SIDE, 0, SIDE, 0]),
        ("6 channels", [1, 0, SIDE, 0, SIDE, 0]),
        ("6.1", [1, 0, SIDE, 0, 0.5, SIDE, 0]),
        ("7.1", [1, 0, SIDE, 0, SIDE, 0, SIDE, 0]),
        ("8 channels", [1, 0, SIDE, 0, SIDE, 0, SIDE, 0]),
        ("7.1(wide)", [1, 0, SIDE, 0, SIDE, 0, 1, 0]),
        ("5.1.4", [1, 0, SIDE, 0, SIDE, 0, SIDE, 0, SIDE, 0]),
        ("9 channels", [SIDE] * 9),
        ("ambisonic 1", [1, 0, 0, 0]),
    ],
)
def test_every_layout_is_mixed_as_the_itu_says(layout: str, left: list[float]) -> None:
    names = tuple(channel.name for channel in av.AudioLayout(layout).channels)
    for i, (name, level) in enumerate(zip(names, left, strict=True)):
        # One channel at a time, half as loud as can be.
        data = array("f", (0.5 * (channel == i) for _ in range(64) for channel in range(len(names))))
        sides = heard([clips.audio_frame(data, layout)])[-2:]
        assert sides[0] == pytest.approx(level / 2, abs=1e-4), name
    mirrored = [right for _, right in levels(names)]
    assert sum(mirrored) == pytest.approx(sum(left))


def test_no_channel_that_a_layout_can_name_is_lost_but_low_frequency_effects() -> None:
    for layout in ("hexadecagonal", "22.2", "7.1.4", "9.1.6"):
        names = tuple(channel.name for channel in av.AudioLayout(layout).channels)
        lost = {name for name, sides in zip(names, levels(names), strict=True) if not any(sides)}
        assert lost <= {"LFE", "LFE2"}, layout


def test_a_sum_over_full_scale_is_not_clipped_on_the_way() -> None:
    whole = av.AudioFrame(format="s16", layout="5.1", samples=64)
    whole.planes[0].update(array("h", [30000] * 6 * 64).tobytes().ljust(whole.planes[0].buffer_size, b"\0"))
    whole.sample_rate = 48000
    assert heard([whole])[-1] == pytest.approx(30000 / 32768 * (1 + 2 * SIDE), rel=1e-3)


def test_a_track_may_change_its_layout_and_rate_in_the_middle() -> None:
    def tone(layout: str, rate: int, at: int) -> av.AudioFrame:
        channels = av.AudioLayout(layout).nb_channels
        wave = (0.4 * math.sin(2 * math.pi * 440 * i / rate) for i in range(rate // 10))
        return clips.audio_frame(array("f", (v for v in wave for _ in range(channels))), layout, rate, at)

    sound = heard([tone("mono", 44100, 0), tone("stereo", 48000, 4800), tone("mono", 48000, 9600)])
    assert len(sound) // 2 == pytest.approx(3 * 4800, abs=40)
    for third in range(3):
        assert max(sound[third * 9600 + 500 : third * 9600 + 9000]) == pytest.approx(0.4, abs=0.01)
