"""The sound of a film in windows, one a clip: each mixed and encoded on its own, several side by side, kept by what is
heard in it, and joined by its packets.

AAC has packets of BLOCK samples, and each leans on its neighbours; so the encoder of a window begins LEAD_IN blocks
early and ends after its end, and only the window's own packets are kept. All windows stand on one grid of blocks, which
begins with the film. Where one begins is decided by its clip, so that a change is heard in its own window and the two
beside it; in all that follow only where the film became longer or shorter by what is no multiple of a block.

The same windows are encoded whatever was kept, so a film is the same either way. In time it is one encode, packet for
packet. In its bits only the first window is: the encoder's rate control remembers the whole film, so later packets
may be quantised otherwise. Measured once (2026-11, PyAV 18.1, 12 s each, windows of 61 packets, before this module), as
the distance from the sound that went in, one encode and windows: tones 38.4 and 35.2 dB, speech-like 21.7 and 21.6,
clicks 39.5 and 39.5, all three 24.1 and 24.2, white noise 5.2 and 2.9. In the blocks at the seams: 44.9 and 44.9, 21.6
and 21.5, 39.5 and 39.5, 22.7 and 21.9, 5.4 and 2.7. The two differ from each other by about what encoding changes, in
tones and noise by up to 1.4 dB more. With a lead-in of 2 blocks the seams of tones were at 14.5 dB.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from av.container.output import OutputContainer
from av.filter import Graph
from av.packet import Packet

from klingflow.core.errors import MediaError
from klingflow.io import media
from klingflow.io.downmix import RATE, SAMPLE, pulled
from klingflow.output.parts import Heard, Stopped, Task, Work, kept_name, read_kept, write_kept

BED_UNDER = 0.4
"""-8 dB: music is heard, and a voice stays clear above it."""
BED_FADE_S = 2.0
PEAK = 0.89
"""-1 dB: AAC gives peaks back a few hundredths higher than they went in (measured: 4 % of a sine)."""
FADE = RATE * 5 // 1000
"""Samples of one side's fade at a join."""
BIT_RATE = 192_000
BLOCK = 1024
LEAD_IN = 16
"""Blocks that are mixed and encoded before those that are kept: until limiter and encoder are as if they had begun with
the film."""
LEAD_OUT = 3
"""Two that the encoder looks ahead, and one in which the mix, which ends there, is faded out."""
_FADE_BYTES = FADE * SAMPLE
_OVERLAP = (LEAD_IN + LEAD_OUT) * BLOCK
"""Samples by which two windows overlap at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is heard of one clip, from sample `start` to `end` of the film."""

    clip: Path
    digest: str
    """Of the clip; empty where it has no sound."""
    origin: Fraction
    """Seconds on the clip's own clock that are heard at `start`."""
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Packets `first` to `last` of the film's sound, and the samples that they are encoded of. Packet 0 is the
    encoder's start-up; packet n gives the samples of block n - 1."""

    first: int
    last: int
    total: int
    """Samples of the film."""
    spans: tuple[Span, ...]
    """That are heard between `begin` and `end`."""

    @property
    def lead(self) -> int:
        """Packets that are encoded before the first one."""
        return min(self.first, LEAD_IN)

    @property
    def begin(self) -> int:
        return (self.first - self.lead) * BLOCK

    @property
    def end(self) -> int:
        return min(self.total, (self.last + LEAD_OUT) * BLOCK)


class Sound:
    """A film's sound: the spans of its clips, end to end, and a music bed."""

    def __init__(self, spans: Sequence[Span], bed: Path | None) -> None:
        self.total = spans[-1].end
        self.windows = _windows(spans)
        self._bed = bed
        self._gain = BED_UNDER if any(span.digest for span in spans) else 1.0
        self._bed_digest = ""
        if bed is not None:
            try:
                with bed.open("rb") as file:
                    self._bed_digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as exc:
                raise MediaError(f"{bed} cannot be read: {exc.strerror}") from exc

    def name(self, window: Window) -> str:
        """The name of the file that keeps a window. Where in the film it is does not count, but for a bed."""
        at, end = window.begin, window.end
        heard = [
            [span.digest, str(span.origin), span.start - at, min(span.end, end) - at]
            if span.digest
            else ["", max(span.start, at) - at, min(span.end, end) - at]
            for span in window.spans
        ]
        what: dict[str, object] = {
            "sound": heard,
            "film ends": end == window.total,
            "packets": [window.lead, window.last - window.first],
            "how": [RATE, BIT_RATE, PEAK, FADE],
        }
        if self._bed is not None:
            what["bed"] = [self._bed_digest, at, self.total, str(self._gain), str(BED_FADE_S)]
        return kept_name(what, "aac")

    def tasks(self, missing: Sequence[tuple[Window, Path]], work: Work) -> list[Task]:
        """What encodes windows into files. A bed is decoded from its start, so once for all of them."""
        if self._bed is None:
            return [partial(self._write, [one], work) for one in missing]
        return [partial(self._write, missing, work)] if missing else []

    def _write(self, missing: Sequence[tuple[Window, Path]], work: Work) -> None:
        bed = _Reader(_music(self._bed, self.total)) if self._bed is not None else None
        for window, to in missing:
            sounds = [(_clips(window), 1.0)]
            if bed is not None:
                sounds.append((bed.read(window.begin, window.end), self._gain))
            packets = _encode(_limited(sounds), window, work)
            write_kept(to, b"".join(len(packet).to_bytes(2) + packet for packet in packets))


def packets(file: Path, window: Window) -> list[bytes] | None:
    """The packets of a window that is kept; None where it is not, or is damaged. It counts as used now."""
    data = read_kept(file)
    out = []
    at = 0
    while data is not None and at < len(data):
        size = int.from_bytes(data[at : at + 2])
        out.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return out if len(out) == window.last - window.first else None


def track(windows: Sequence[tuple[Window, Path]], total: int, film: OutputContainer) -> Heard:
    """Adds the sound's track to a film, and gives its packets and the seconds at which they are heard."""
    stream = film.add_stream("aac", rate=RATE, layout="stereo")
    stream.codec_context.bit_rate = BIT_RATE

    def all_packets() -> Heard:
        for window, file in windows:
            found = packets(file, window)
            if found is None:
                raise MediaError(f"{file.name} went while the film was joined", "run again")
            for n, data in enumerate(found, window.first):
                packet = Packet(data)
                start = (n - 1) * BLOCK
                packet.time_base = Fraction(1, RATE)
                packet.pts = packet.dts = start
                packet.duration = min(BLOCK, total - start)
                packet.is_keyframe = True
                packet.stream = stream
                yield Fraction(start, RATE), packet

    return all_packets()


def _windows(spans: Sequence[Span]) -> list[Window]:
    total = spans[-1].end
    count = -(-total // BLOCK) + 1
    begins = sorted({0, *(-(-span.start // BLOCK) + 1 for span in spans[1:]), count})
    out = []
    at = 0
    for first, last in pairwise(begins):
        bare = Window(first=first, last=last, total=total, spans=())
        while spans[at].end <= bare.begin:
            at += 1
        heard = []
        for span in islice(spans, at, None):
            if span.start >= bare.end:
                break
            heard.append(span)
        out.append(Window(first=first, last=last, total=total, spans=tuple(heard)))
    return out


def _encode(source: Iterator[bytes], window: Window, work: Work) -> list[bytes]:
    encoder = CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE, "stereo", "fltp"
    encoder.bit_rate, encoder.time_base = BIT_RATE, Fraction(1, RATE)
    out: list[bytes] = []
    at = 0
    for block in _blocks(source):
        if work.stop.is_set():
            raise Stopped
        out += map(bytes, encoder.encode(_frame(block, at)))
        at += len(block) // SAMPLE
    out += map(bytes, encoder.encode(None))
    return out[window.lead : window.lead + window.last - window.first]


class _Reader:
    """Parts of a stream of samples, in the order of the film; one may begin `_OVERLAP` samples before the last one's
    end."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._held = bytearray()
        self._at = 0
        """The sample with which `_held` begins."""

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Samples `begin` to `end`."""
        at = begin
        while at < end:
            while self._at + len(self._held) // SAMPLE <= at:
                self._held += next(self._source)
                old = max(0, min(at - _OVERLAP - self._at, len(self._held) // SAMPLE))
                del self._held[: old * SAMPLE]
                self._at += old
            chunk = bytes(self._held[(at - self._at) * SAMPLE : (end - self._at) * SAMPLE])
            yield chunk
            at += len(chunk) // SAMPLE


def _music(bed: Path, length: int) -> Iterator[bytes]:
    return _joined(_filled(_faded(media.sound(bed, Fraction(0), bed=True), length), length))


def _clips(window: Window) -> Iterator[bytes]:
    return _joined(run for span in window.spans for run in _runs(span, window.begin, window.end))


def _runs(span: Span, begin: int, end: int) -> Iterator[Iterator[bytes]]:
    """The sound of one clip and the silence that fills it up, between two samples of the film."""
    skip, length = max(0, begin - span.start), min(end, span.end) - span.start
    if not span.digest:
        yield media.silence(length - skip)
        return

    def after(run: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal skip
        for chunk in run:
            gone = min(skip, len(chunk) // SAMPLE)
            skip -= gone
            yield chunk[gone * SAMPLE :]

    yield from map(after, _filled(media.sound(span.clip, span.origin), length))


def _blocks(source: Iterator[bytes]) -> Iterator[bytes]:
    """The same samples in blocks of one size, the last one shorter."""
    held = bytearray()
    for chunk in source:
        held += chunk
        while len(held) >= BLOCK * SAMPLE:
            yield bytes(held[: BLOCK * SAMPLE])
            del held[: BLOCK * SAMPLE]
    if held:
        yield bytes(held)


def _frame(data: bytes, at: int) -> AudioFrame:
    frame = AudioFrame(format="flt", layout="stereo", samples=len(data) // SAMPLE)
    plane = frame.planes[0]
    plane.update(data.ljust(plane.buffer_size, b"\0"))
    frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
    return frame


def _filled(source: Iterator[bytes], length: int) -> Iterator[Iterator[bytes]]:
    """Two runs of together `length` samples: the source, cut, and the silence after it where it is shorter."""
    given = 0

    def run() -> Iterator[bytes]:
        nonlocal given
        for chunk in source:
            part = chunk[: (length - given) * SAMPLE]
            given += len(part) // SAMPLE
            yield part
            if given == length:
                return

    yield run()
    yield media.silence(length - given)


def _joined(runs: Iterable[Iterator[bytes]]) -> Iterator[bytes]:
    """All runs end to end, both sides of a join faded where the wave would jump; before and after is silence."""
    nothing = bytes(_FADE_BYTES)
    tail, started = nothing, False
    for run in runs:
        head = b""
        for chunk in run:
            head += chunk
            if len(head) >= _FADE_BYTES:
                break
        if not head:
            continue
        tail, head = _smooth(tail, head)
        if started:
            yield tail
        started = True
        for chunk in run:
            head += chunk
            yield head[:-_FADE_BYTES]
            head = head[-_FADE_BYTES:]
        if len(head) > _FADE_BYTES:
            yield head[:-_FADE_BYTES]
        tail = head[-_FADE_BYTES:]
    if started:
        yield _smooth(tail, nothing)[0]


def _smooth(tail: bytes, head: bytes) -> tuple[bytes, bytes]:
    """The two sides of a join, faded to and from nothing unless the wave goes on as it went."""
    before, after = array("f", tail), array("f", head)
    if all(_goes_on(before[channel::2], after[channel : 2 * FADE : 2]) for channel in (0, 1)):
        return tail, head
    for i in range(min(FADE, len(before) // 2)):
        for channel in (1, 2):
            before[-2 * i - channel] *= _SLOPE[i]
    for i in range(min(FADE, len(after) // 2)):
        for channel in (0, 1):
            after[2 * i + channel] *= _SLOPE[i]
    return before.tobytes(), after.tobytes()


_SLOPE = tuple(0.5 - 0.5 * math.cos(math.pi * (i + 0.5) / FADE) for i in range(FADE))


def _goes_on(before: array[float], after: array[float]) -> bool:
    step = max((abs(b - a) for side in (before, after) for a, b in pairwise(side)), default=0.0)
    return abs(after[0] - before[-1]) <= max(1.25 * step, 1e-4)


def _limited(sounds: Sequence[tuple[Iterator[bytes], float]]) -> Iterator[bytes]:
    """The sum of equally long sounds, each at its gain, its peaks at most PEAK. What is below comes out as it was."""
    graph = Graph()
    inputs = [graph.add_abuffer(sample_rate=RATE, format="flt", layout="stereo") for _ in sounds]
    mix = graph.add("amix", f"inputs={len(inputs)}:normalize=0:weights={' '.join(str(gain) for _, gain in sounds)}")
    # latency=1 takes the limiter's look-ahead out of the timeline; level=0 stops it from raising quiet films.
    limit = graph.add("alimiter", f"limit={PEAK}:attack=5:release=50:level=0:latency=1")
    form = graph.add("aformat", f"sample_fmts=flt:sample_rates={RATE}:channel_layouts=stereo")
    for i, node in enumerate(inputs):
        node.link_to(mix, 0, i)
    graph.link_nodes(mix, limit, form, graph.add("abuffersink")).configure()
    at = 0
    for blocks in zip(*(_blocks(sound) for sound, _ in sounds), strict=True):
        for node, block in zip(inputs, blocks, strict=True):
            node.push(_frame(block, at))
        at += len(blocks[0]) // SAMPLE
        yield from _bytes(graph)
    graph.push(None)
    yield from _bytes(graph)


def _bytes(graph: Graph) -> Iterator[bytes]:
    for frame in pulled(graph):
        yield bytes(frame.planes[0])[: frame.samples * SAMPLE]


def _faded(source: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The first `length` samples, their end faded out; a source that is shorter stays as it is."""
    fade = min(round(BED_FADE_S * RATE), length // 4)
    held = bytearray()
    for chunk in source:
        held += chunk
        ready = min(len(held) // SAMPLE, length - fade) * SAMPLE
        if ready:
            yield bytes(held[:ready])
            del held[:ready]
            length -= ready // SAMPLE
        if len(held) >= fade * SAMPLE and length == fade:
            break
    if length == fade and len(held) >= fade * SAMPLE:
        end = array("f", bytes(held[: fade * SAMPLE]))
        for i in range(fade):
            level = 0.5 + 0.5 * math.cos(math.pi * (i + 0.5) / fade)
            end[2 * i] *= level
            end[2 * i + 1] *= level
        held = bytearray(end.tobytes())
    yield bytes(held)
