"""Turns sound of any layout, rate and sample format into 48 kHz stereo floats, as loud as it was.

Mixed as ITU-R BS.775 says: the middle and what comes from behind at -3 dB on the sides that they belong to, without the
low-frequency effects. Nothing is turned down to make room, so the sum may go over full scale: whoever writes it limits
it. Where nothing is on a side, the middle is full on both, as every player shows a mono clip. Channels whose order the
file does not name are taken for the usual layout of that many; where none is usual, all are put in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.filter import Graph

RATE = 48000
"""Samples a second of what comes out; stereo, 32-bit float, interleaved: 8 bytes a sample."""
SAMPLE = 8

_HALF = 0.5**0.5
"""-3 dB: half the power."""
_LEFT = {"FL": 1.0, "DL": 1.0, "FLC": 1.0} | dict.fromkeys(
    ("SL", "BL", "WL", "SDL", "TFL", "TSL", "TBL", "BFL"), _HALF
)
_RIGHT = {name.replace("L", "R"): level for name, level in _LEFT.items()}
_MIDDLE = {"FC": _HALF, "BFC": _HALF, "AMBI0": _HALF} | dict.fromkeys(("BC", "TC", "TFC", "TBC", "NONE"), 0.5)
_UNNAMED = {
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def levels(channels: tuple[str, ...]) -> list[tuple[float, float]]:
    """How loud each channel is on the left and on the right; by FFmpeg's names, "NONE" for one that has no name."""
    if set(channels) == {"NONE"}:
        channels = _UNNAMED.get(len(channels), channels)
    if len(channels) == 1:
        return [(1.0, 1.0)]
    middle = 1.0 if any(name in _LEFT or name in _RIGHT for name in channels) else 1 / _HALF
    return [
        (_LEFT.get(name, 0.0) + both, _RIGHT.get(name, 0.0) + both)
        for name in channels
        for both in (_MIDDLE.get(name, 0.0) * middle,)
    ]


class Downmix:
    """Frames of one sound track in, chunks of stereo out. The track may change its form in the middle.

    `order` names the channels of frames that do not name them themselves.
    """

    def __init__(self, order: tuple[str, ...] = ()) -> None:
        self._order = order
        self._form: tuple[object, ...] = ()
        self._graph: Graph | None = None

    def __call__(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """What is ready after this frame; None for the end of the track."""
        form = () if frame is None else (frame.layout.name, frame.sample_rate, frame.format.name, frame.time_base)
        if form != self._form:
            if self._graph is not None:
                self._graph.push(None)
                yield from pulled(self._graph)
            self._graph, self._form = None if frame is None else _graph(frame, self._order), form
        if self._graph is not None:
            self._graph.push(frame)
            yield from pulled(self._graph)


def names(layout: AudioLayout) -> tuple[str, ...]:
    return tuple(channel.name for channel in layout.channels)


def _graph(frame: AudioFrame, order: tuple[str, ...]) -> Graph:
    channels = names(frame.layout)
    if set(channels) == {"NONE"} and len(channels) == len(order):
        channels = order
    sides = zip(*levels(channels), strict=True)
    mix = "|".join(
        f"c{i}=" + "+".join(f"{level:.6f}*c{channel}" for channel, level in enumerate(side))
        for i, side in enumerate(sides)
    )
    graph = Graph()
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format,
            layout=frame.layout,
            time_base=frame.time_base or Fraction(1, frame.sample_rate),
        ),
        # In floats first: whole numbers would clip the sum.
        graph.add("aformat", "sample_fmts=flt|fltp"),
        graph.add("pan", f"stereo|{mix}"),
        graph.add("aformat", f"sample_fmts=flt:sample_rates={RATE}:channel_layouts=stereo"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def pulled(graph: Graph) -> Iterator[AudioFrame]:
    """All sound that a graph has ready."""
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame
