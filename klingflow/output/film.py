"""Joins clips into the film: the repeated frame of a continued seam shown once, sound joined to the sample.

Knows no storyboard and no store: clips come as files with their facts, in film order.

Each piece is encoded on its own, several side by side, and kept (output.parts), and so is its sound (output.sound). The
film is their packets one after the other, so that a change costs the encode of what changed. The picture of clips of
one encoder that need no change at all is joined as it is.

Size and rate: what the storyboard says; else what was ordered decides, and clips of one's own only in a film of nothing
else: the shape of most of the film at the size of its largest clip, and the usual rate of most of it (24 where none is
usual). A clip of one's own is larger than that only up to the resolution that was ordered.
Other sizes are scaled to fit, with black bars. At another rate, each output frame shows what is on the
screen in the middle of its time; the first and last are always the clip's own first and last, so seams stay exact.
Seam: a continuing clip begins with the API's own encoding of the frame that the clip before ends with. The earlier
clip's last frame is the original and stays; the later clip's first frame goes, and its share of the sound with it.
Slate: into the strip of an animatic's clip go the shot's number and title and the time in the film (animatic.slate).
Picture: H.264, yuv420p, colour sited left, BT.709, limited range, faststart; HDR is tone-mapped, what is transparent
lies on black (io.media). The same input gives the same bytes on the same libraries.
Clips that are joined as they are keep their own tags, or none.
Sound: AAC, 48 kHz, stereo, on one timeline of samples: sample `round(n * 48000 / rate)` belongs to frame n, so nothing
drifts. Sound that is longer than its picture is cut, shorter is filled with silence. Where the wave would jump, both
sides are faded over 5 ms. A film whose clips are all silent, without a bed, has no sound at all.
Music bed: at BED_UNDER below sound, at its own level in a film of silent clips; where it is longer than the film it is
faded out over the last 2 seconds, where it is shorter it is not repeated. Sound of any layout keeps its loudness
(io.downmix); a limiter holds the peaks of the sum.
"""

from __future__ import annotations

import bisect
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.container.input import InputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from klingflow.animatic.slate import Slate
from klingflow.core.digest import canonical, of_bytes
from klingflow.core.errors import MediaError
from klingflow.core.model import ClipFacts
from klingflow.io import durable, media
from klingflow.io.downmix import RATE
from klingflow.io.media import Timeline
from klingflow.output.parts import (
    Form,
    Task,
    Work,
    closed_order,
    encode,
    is_writable,
    join,
    kept_name,
    kept_order,
    order,
    read_kept,
    tidy,
    write_kept,
)
from klingflow.output.sound import Sound, Span, packets, track

USUAL_RATES = frozenset(
    Fraction(r) for r in ("24", "25", "30", "48", "50", "60", "24000/1001", "30000/1001", "60000/1001")
)
_TAIL_S = Fraction(1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One clip of the film."""

    clip: Path
    facts: ClipFacts
    drop: int = 0
    """So many frames at its start repeat the end of the piece before it, and are not shown."""
    ordered: int = 0
    """The shorter side of the picture that was ordered, in pixels; 0 for a clip of one's own."""
    slate: tuple[str, str] | None = None
    """The shot's number and title: written into the strip of an animatic's clip, with the time in the film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFacts:
    width: int
    height: int
    frames: int
    rate: str
    duration: str
    """Seconds, three places."""
    audio: bool
    starts: tuple[int, ...]
    """The film frame at which each piece begins."""
    copied: bool
    """True where the one clip was delivered as it is, without a new encode."""
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A piece on the film's timeline: `picks` are the indices of its displayed frames, one an output frame."""

    piece: Piece
    line: Timeline
    picks: tuple[int, ...]
    skipped: int
    """Output frames dropped at its start."""
    start: int

    @property
    def whole(self) -> bool:
        """Whether every frame of the clip is shown once."""
        return self.picks == tuple(range(len(self.line.begins)))


def assemble(
    pieces: Sequence[Piece],
    to: Path,
    *,
    audio: Path | None = None,
    size: tuple[int, int] | None = None,
    rate: Fraction | None = None,
    progress: Callable[[int, int], None] | None = None,
    kept: Path | None = None,
    preset: str = "veryfast",
) -> FilmFacts:
    """Writes the film to `to` (MP4), which appears whole or not at all. `audio` is the music bed; `size` (even numbers)
    and `rate` are what the storyboard says, see the top of this module.

    `progress(frames done, frames in all)` is called now and then; what it raises stops the work. `kept` is the folder
    in which encoded parts, and what is known of clips, are kept and found again; `preset` is x264's. H.264 clips of one
    encoder, of that size and rate, with nothing dropped and no slate, are not encoded anew, and a single one without a
    bed is copied with its sound. Memory does not grow with the film. Raises MediaError when a clip or the bed cannot
    be read.
    """
    if not pieces:
        raise MediaError("the film has no clip", "make at least one shot, or name one under film.shots")
    own = pieces[0].facts
    as_said = size in (None, (own.width, own.height)) and rate in (None, Fraction(own.rate))
    rate = rate or usual_rate(pieces)
    if kept is not None and not is_writable(kept):
        kept = None
    parts = _parts(pieces, rate, kept)
    total = parts[-1].start + len(parts[-1].picks)
    if total == 0:
        raise MediaError("the film has no frame")
    width, height = size or usual_size(pieces)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(to) as temporary:
            alone = len(pieces) == 1 and not (pieces[0].drop or pieces[0].slate) and audio is None and as_said
            copied = alone and _copy(pieces[0].clip, parts[0].line, temporary)
            if not copied:
                form = Form(size=(width, height), rate=rate, preset=preset)
                _join(parts, temporary, form, total, audio, progress or (lambda done, of: None), kept)
            elif progress is not None:
                progress(total, total)
    except (av.error.FFmpegError, OSError) as exc:
        raise MediaError(f"{to.name} cannot be written: {exc.strerror or exc}") from exc
    return FilmFacts(
        width=width,
        height=height,
        frames=own.frames if copied else total,
        rate=own.rate if copied else str(rate),
        duration=own.duration if copied else f"{float(total / rate):.3f}",
        audio=audio is not None or any(piece.facts.audio for piece in pieces),
        starts=tuple(part.start for part in parts),
        copied=copied,
        bytes=to.stat().st_size,
    )


def usual_size(pieces: Sequence[Piece]) -> tuple[int, int]:
    """The size of a film whose storyboard says none."""
    ordered = max(piece.ordered for piece in pieces)
    seconds: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for piece in _deciding(pieces):
        seconds[piece.facts.width, piece.facts.height] += Fraction(piece.facts.duration)

    def alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
        return abs(size[0] * other[1] / (size[1] * other[0]) - 1) < 0.02

    def weight(size: tuple[int, int]) -> tuple[Fraction, int]:
        return sum((s for other, s in seconds.items() if alike(size, other)), Fraction(0)), size[0] * size[1]

    most = max(seconds, key=weight)
    sizes = [_at_most(piece, ordered) for piece in pieces if alike((piece.facts.width, piece.facts.height), most)]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def _at_most(piece: Piece, ordered: int) -> tuple[int, int]:
    """A piece's size; of a clip of one's own, no more than what was ordered, if anything was."""
    width, height = piece.facts.width, piece.facts.height
    if piece.ordered or not 0 < ordered < min(width, height):
        return width, height
    return round(width * ordered / min(width, height)), round(height * ordered / min(width, height))


def usual_rate(pieces: Sequence[Piece]) -> Fraction:
    """The rate of a film whose storyboard says none."""
    seconds: defaultdict[Fraction, Fraction] = defaultdict(Fraction)
    for piece in _deciding(pieces):
        own = Fraction(piece.facts.rate)
        near = min(USUAL_RATES, key=lambda usual: abs(usual - own))
        if abs(near / own - 1) < 0.02:  # a phone's clip has 30 a second on average
            seconds[near] += Fraction(piece.facts.duration)
    return max(seconds, key=lambda rate: (seconds[rate], rate), default=Fraction(24))


def _deciding(pieces: Sequence[Piece]) -> Sequence[Piece]:
    return [piece for piece in pieces if piece.ordered] or pieces


def _parts(pieces: Sequence[Piece], rate: Fraction, room: Path | None) -> list[_Part]:
    out: list[_Part] = []
    start = 0
    for piece in pieces:
        line = _timeline(piece, room)
        picks = _picks(line, rate)
        # A slower clip shows its first frame for several output frames: all of them repeat the frame before.
        skipped = sum(1 for pick in picks if pick < piece.drop)
        out.append(_Part(piece=piece, line=line, picks=tuple(picks[skipped:]), skipped=skipped, start=start))
        start += len(picks) - skipped
    return out


def _timeline(piece: Piece, room: Path | None) -> Timeline:
    base, seconds, rate, begins, keys = _found("timeline", piece, room, _measure)
    return Timeline(
        base=Fraction(base), begins=tuple(begins), keys=tuple(keys), seconds=Fraction(seconds), rate=Fraction(rate)
    )


def _measure(clip: Path) -> list[Any]:
    line = media.timeline(clip)
    return [str(line.base), str(line.seconds), str(line.rate), line.begins, line.keys]


def _found(what: str, piece: Piece, room: Path | None, find: Callable[[Path], Any]) -> Any:
    """What `find` says of a clip (JSON), kept in `room`: a clip that did not change is not opened for it."""
    if room is None:
        return find(piece.clip)
    file = room / kept_name([what, piece.facts.digest], "json")
    data = read_kept(file) if _is_whole(piece) else None
    if data is None:
        data = json.dumps(find(piece.clip)).encode()
        write_kept(file, data)
    return json.loads(data)


def _is_whole(piece: Piece) -> bool:
    """Whether as many bytes are there as were measured; where not, the clip is looked at, and says what is wrong."""
    try:
        return piece.clip.stat().st_size == piece.facts.bytes
    except OSError:
        return False


def _picks(line: Timeline, rate: Fraction) -> list[int]:
    count = max(1, round(line.seconds * rate))
    # As `line.shown_at((n + Fraction(1, 2)) / rate)`, in whole numbers: a film has many frames.
    half = 1 / (2 * rate * line.base)
    ticks = (line.begins[0] + (2 * n + 1) * half.numerator // half.denominator for n in range(count))
    picks = [max(0, bisect.bisect_right(line.begins, tick) - 1) for tick in ticks]
    if count > 1:
        picks[0], picks[-1] = 0, len(line.begins) - 1
    return picks


# ---------------------------------------------------------------- the parts


def _join(
    parts: Sequence[_Part],
    to: Path,
    form: Form,
    total: int,
    bed: Path | None,
    progress: Callable[[int, int], None],
    kept: Path | None,
) -> None:
    work = Work()
    heard = bed is not None or any(part.piece.facts.audio for part in parts)
    with tempfile.TemporaryDirectory(prefix="klingflow-film-", ignore_cleanup_errors=True) as temporary:
        room = kept or Path(temporary)
        tasks: list[Task] = []
        alike = _alike(parts, form, kept)
        coded = [part.piece.clip if alike else room / form.name(_shows(part)) for part in parts]
        orders: dict[Path, Sequence[int]] = alike or {}
        for file, part in dict(zip(coded, parts, strict=True)).items() if not alike else ():
            found = kept_order(file, len(part.picks))
            if found is None:
                tasks.append(partial(_encode_part, part, file, form, work))
            else:
                orders[file] = found
        add_sound = None
        if heard:
            sound = Sound([_span(part, form.rate) for part in parts], bed)
            windows = [(window, room / sound.name(window)) for window in sound.windows]
            missing = {file: window for window, file in windows if packets(file, window) is None}
            encodes = sound.tasks([(window, file) for file, window in missing.items()], work)
            # Last what is short, so that all cores end together; with a bed it is one long task.
            tasks = [*tasks, *encodes] if bed is None else [*encodes, *tasks]
            add_sound = partial(track, windows, sound.total)
        work.run(tasks, lambda done: progress(min(done, total), total))
        for file, part in zip(coded, parts, strict=True):
            if file not in orders:
                orders[file] = order(file)
            if len(orders[file]) != len(part.picks):
                count = len(orders[file])
                raise MediaError(f"{file.name} has {count} frames where {len(part.picks)} were encoded", "run again")
        join(coded, orders, form.rate, add_sound, to)
        if room is kept:
            tidy(room)
    progress(total, total)


def _span(part: _Part, rate: Fraction) -> Span:
    return Span(
        clip=part.piece.clip,
        digest=part.piece.facts.digest if part.piece.facts.audio else "",
        origin=part.line.start_s + part.skipped / rate,
        start=_samples_at(part.start, rate),
        end=_samples_at(part.start + len(part.picks), rate),
    )


def _shows(part: _Part) -> object:
    """What a part shows, but for the film's size and rate."""
    picks = of_bytes(canonical(list(part.picks)))
    shown: dict[str, object] = {"clip": part.piece.facts.digest, "picks": picks}
    if part.piece.slate is not None:
        shown |= {"slate": list(part.piece.slate), "start": part.start}
    return shown


def _encode_part(part: _Part, to: Path, form: Form, work: Work) -> None:
    encode(_pictures(part, form), to, form, work)


def _alike(parts: Sequence[_Part], form: Form, room: Path | None) -> dict[Path, Sequence[int]] | None:
    """The `order` of every clip, where all are as the film shall be, and of one encoder, so that their packets can
    follow each other."""
    if any(part.piece.slate is not None or not part.whole for part in parts):
        return None
    orders: dict[Path, Sequence[int]] = {}
    forms = set()
    for clip, part in {part.piece.clip: part for part in parts}.items():
        line = part.line
        if not (line.is_steady(form.rate) and line.keys[:1] == line.begins[:1]):
            return None
        found = _found("as it is", part.piece, room, _as_it_is)
        if found is None:
            return None
        size, made, orders[clip] = found
        forms.add(json.dumps(made))
        if tuple(size) != form.size or len(orders[clip]) != len(line.begins) or len(forms) > 1:
            return None
    return orders


def _as_it_is(clip: Path) -> list[Any] | None:
    """The size of a clip whose packets can stand in a film, what those of one encoder have in common, and its `order`;
    None of another clip."""
    with media.opened(clip) as (container, video):
        context = video.codec_context
        first = next(container.decode(video))
        plain = _is_plain(container, video, first) and media.colour(first) == (1, False)
        if not plain or media.siting(first, video) != "left":
            return None
        tags = map(int, (context.colorspace, context.color_primaries, context.color_trc, context.color_range))
        made = [bytes(context.extradata or b"").hex(), *tags]
        size = [context.width, context.height]
    found = closed_order(clip)
    return None if found is None else [size, made, found]


def _samples_at(frame: int, rate: Fraction) -> int:
    return round(frame * RATE / rate)


def _pictures(part: _Part, form: Form) -> Iterator[VideoFrame]:
    fit = _Fit(form.size)
    slate = Slate(*part.piece.slate, form.rate) if part.piece.slate is not None else None
    wanted = iter(enumerate(part.picks, part.start))
    n, want = next(wanted, (0, None))
    last = -1
    for last, (frame, video) in enumerate(media.frames(part.piece.clip)):
        if want is None:
            break
        shown = None
        while want == last:
            if shown is None or slate is not None:
                shown = fit(slate.write(frame, n) if slate is not None else frame, video)
            yield shown
            n, want = next(wanted, (0, None))
    if want is not None:
        count = len(part.line.begins)
        raise MediaError(f"{part.piece.clip.name} is damaged: {last + 1} of its {count} frames decode")


class _Fit:
    """Turns a clip's frames into the film's size and colour. A frame that fits already passes untouched."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._graph: Graph | None = None
        self._form: tuple[object, ...] = ()
        self._turn: Image.Transpose | None = None
        self._siting = ""

    def __call__(self, frame: VideoFrame, video: VideoStream) -> VideoFrame:
        if not self._siting:
            # Asked once a clip: PyAV keeps every frame whose side data was looked at until the next collection.
            self._turn, self._siting = media.turned(frame), media.siting(frame, video)
        turn = self._turn
        shape = media.pixel_shape(video)
        matrix, full = media.colour(frame)
        fits = turn is None and shape == 1 and (frame.width, frame.height) == self.size and self._siting == "left"
        plain = media.is_plain(frame)
        if fits and plain and frame.format.name == "yuv420p" and matrix == 1 and not full:
            return frame
        # A clip's size or format may change in the middle: then the graph is built again.
        tones = frame.color_trc, frame.color_primaries, plain
        form = (frame.width, frame.height, frame.format.name, matrix, full, turn, *tones)
        if self._graph is None or form != self._form:
            shown = media.displayed_size(frame, shape, turn)
            self._graph, self._form = _graph(frame, shown, self.size, turn, self._siting), form
        self._graph.vpush(frame)
        return self._graph.vpull()


_TURNS = {
    Image.Transpose.FLIP_LEFT_RIGHT: (("hflip", ""),),
    Image.Transpose.FLIP_TOP_BOTTOM: (("vflip", ""),),
    Image.Transpose.ROTATE_180: (("hflip", ""), ("vflip", "")),
    Image.Transpose.ROTATE_90: (("transpose", "cclock"),),
    Image.Transpose.ROTATE_270: (("transpose", "clock"),),
    Image.Transpose.TRANSPOSE: (("transpose", "cclock_flip"),),
    Image.Transpose.TRANSVERSE: (("transpose", "clock_flip"),),
}


def _graph(
    frame: VideoFrame, shown: tuple[int, int], size: tuple[int, int], turn: Image.Transpose | None, siting: str
) -> Graph:
    zoom = min(Fraction(size[0], shown[0]), Fraction(size[1], shown[1]))
    # A bar of a pixel or two is a rounding, not a shape.
    inner = [
        side if side - zoom * own <= 2 else max(2, round(zoom * own / 2) * 2)
        for side, own in zip(size, shown, strict=True)
    ]
    left, top = ((side - own) // 4 * 2 for side, own in zip(size, inner, strict=True))
    seen, source = media.as_seen(frame, siting)
    if not seen and (turn is not None or siting != "left"):
        # A turn moves the colour samples too, and swscale does not move them where the size stays: so in full first.
        deep = max(component.bits for component in frame.format.components) > 8
        seen = [
            ("scale", f"{media.ACCURATE}:{source}:out_color_matrix=bt709:out_range=tv"),
            ("format", "pix_fmts=yuv444p10le" if deep else "pix_fmts=yuv444p"),
        ]
        source = "in_color_matrix=bt709:in_range=tv"
    upright = _TURNS[turn] if turn is not None else ()
    target = "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left"
    return media.chain(
        frame,
        *seen,
        *upright,
        ("scale", f"w={inner[0]}:h={inner[1]}:{media.ACCURATE}:{source}:{target}"),
        ("format", "pix_fmts=yuv420p"),
        ("pad", f"w={size[0]}:h={size[1]}:x={left}:y={top}:color=black"),
        ("setsar", "1"),
    )


# ---------------------------------------------------------------- no encode


def _copy(clip: Path, line: Timeline, to: Path) -> bool:
    """Delivers the one clip as it is when every player shows it as it should be; False when it has to be encoded."""
    with media.opened(clip) as (container, video):
        audio, channels = media.sound_track(clip, container)
        plays = audio is None or (audio.codec_context.name == "aac" and len(channels) <= 2)
        if not (plays and line.begins[0] == 0 and _is_plain(container, video, next(container.decode(video)))):
            return False
    if audio is not None and any(True for _ in media.sound(clip, line.start_s + line.seconds + _TAIL_S)):
        return False
    return _remux(clip, to)


def _is_plain(container: InputContainer, video: VideoStream, first: VideoFrame) -> bool:
    """Whether every player shows the picture of an open clip as it should be; `first` is its first frame."""
    context = video.codec_context
    return (
        "mp4" in container.format.name
        and context.name == "h264"
        and context.pix_fmt == "yuv420p"
        and context.width % 2 == context.height % 2 == 0
        and media.pixel_shape(video) == 1
        and media.turned(first) is None
        and media.is_plain(first)
    )


def _remux(clip: Path, to: Path) -> bool:
    """Packets as they are into a faststart MP4; False where an edit list hides some of them, which is not copied."""
    with (
        media.opened(clip) as (container, video),
        av.open(f"file:{to}", "w", format="mp4", options={"movflags": "faststart", "fflags": "bitexact"}) as film,
    ):
        audio, _ = media.sound_track(clip, container)
        tracks = {s.index: film.add_stream_from_template(s) for s in (video, audio) if s is not None}
        for packet in container.demux([s for s in (video, audio) if s is not None]):
            if packet.dts is None:
                continue
            if packet.is_discard and packet.stream.index == video.index:
                return False
            packet.stream = tracks[packet.stream.index]
            film.mux(packet)
    return True
