"""Joins clips into the film: what output.cutting says of each, sound joined to the sample.

Knows no storyboard and no store: clips come as files with their facts, in film order.

Each piece is encoded on its own, several side by side, and kept (output.parts), and so is its sound (output.sound). The
film is their packets one after the other, so that a change costs the encode of what changed. The picture of clips of
one encoder that need no change at all is joined as it is.

Other sizes than the film's are scaled to fit, with black bars. The sound of frames that are not shown goes with them.
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

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import av
from av.container.input import InputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from klingflow.animatic import missing
from klingflow.animatic.missing import Card
from klingflow.animatic.slate import Slate
from klingflow.core.digest import canonical, of_bytes
from klingflow.core.errors import MediaError
from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import ClipFacts
from klingflow.io import durable, media
from klingflow.io.downmix import RATE
from klingflow.output.cutting import Shown
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

_TAIL_S = Fraction(1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One clip of the film, and what of it is shown."""

    clip: Path
    facts: ClipFacts
    times: FrameTimes
    shown: Shown
    slate: tuple[str, str] | None = None
    """The shot's number and title: written into the strip of an animatic's clip, with the time in the film."""
    card: Card | None = None
    """What is shown instead: there is no clip, and nobody opens `clip`."""

    @property
    def uncut(self) -> bool:
        """Whether the clip is shown from its first frame to its last."""
        return (self.shown.first, self.shown.end) == (0, len(self.times.begins))

    @property
    def whole(self) -> bool:
        """Whether every frame of the clip is shown once."""
        return self.shown.picks == tuple(range(len(self.times.begins)))


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


def assemble(
    pieces: Sequence[Piece],
    to: Path,
    *,
    size: tuple[int, int],
    rate: Fraction,
    audio: Path | None = None,
    as_it_is: bool = False,
    progress: Callable[[int, int], None] | None = None,
    kept: Path | None = None,
    preset: str = "veryfast",
    tags: Mapping[str, str] | None = None,
    finish: Callable[[Path], None] | None = None,
) -> FilmFacts:
    """Writes the film to `to` (MP4), which appears whole or not at all. `size` has even numbers, `rate` is that of the
    decisions in `pieces`, `audio` the music bed. With `as_it_is` a clip that is the whole film may keep its own.

    `progress(frames done, frames in all)` is called now and then; what it raises stops the work. `kept` is the folder
    in which encoded parts, and what is known of clips, are kept and found again; `preset` is x264's. H.264 clips of one
    encoder, of that size and rate, with nothing dropped and no slate, are not encoded anew. Memory does not grow with
    the film. `tags` are those of the MP4 (title, comment); `finish` adds to the whole file before it is in its place.
    Raises MediaError when a clip or the bed cannot be read.
    """
    if not pieces:
        raise MediaError("the film has no clip", "make at least one shot, or name one under film.shots")
    own = pieces[0].facts
    if kept is not None and not is_writable(kept):
        kept = None
    total = pieces[-1].shown.film_end
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(to) as temporary:
            alone = as_it_is and len(pieces) == 1 and pieces[0].uncut and not pieces[0].slate and audio is None
            copied = alone and _copy(pieces[0].clip, pieces[0].times, temporary, tags or {})
            if not copied:
                form = Form(size=size, rate=rate, preset=preset)
                _join(pieces, temporary, form, total, audio, progress or (lambda done, of: None), kept, tags or {})
            elif progress is not None:
                progress(total, total)
            if finish is not None:
                finish(temporary)
    except (av.error.FFmpegError, OSError) as exc:
        raise MediaError(f"{to.name} cannot be written: {exc.strerror or exc}") from exc
    return FilmFacts(
        width=size[0],
        height=size[1],
        frames=own.frames if copied else total,
        rate=own.rate if copied else str(rate),
        duration=own.duration if copied else f"{float(total / rate):.3f}",
        audio=audio is not None or any(piece.facts.audio for piece in pieces),
        starts=tuple(piece.shown.film_start for piece in pieces),
        copied=copied,
        bytes=to.stat().st_size,
    )


def frame_times(clip: Path, facts: ClipFacts, kept: Path | None = None) -> FrameTimes:
    """When each frame of a clip is shown, kept in that folder: a clip that did not change is not opened for it."""
    room = kept if kept is not None and is_writable(kept) else None
    base, seconds, rate, begins, keys = _found("timeline", clip, facts, room, _measure)
    return FrameTimes(
        base=Fraction(base), begins=tuple(begins), keys=tuple(keys), seconds=Fraction(seconds), rate=Fraction(rate)
    )


def _measure(clip: Path) -> list[Any]:
    line = media.timeline(clip)
    return [str(line.base), str(line.seconds), str(line.rate), line.begins, line.keys]


def _found(what: str, clip: Path, facts: ClipFacts, room: Path | None, find: Callable[[Path], Any]) -> Any:
    """What `find` says of a clip (JSON), kept in `room`."""
    if room is None:
        return find(clip)
    file = room / kept_name([what, facts.digest], "json")
    data = read_kept(file) if _is_whole(clip, facts) else None
    if data is None:
        data = json.dumps(find(clip)).encode()
        write_kept(file, data)
    return json.loads(data)


def _is_whole(clip: Path, facts: ClipFacts) -> bool:
    """Whether as many bytes are there as were measured; where not, the clip is looked at, and says what is wrong."""
    try:
        return clip.stat().st_size == facts.bytes
    except OSError:
        return False


# ---------------------------------------------------------------- the parts


def _join(
    pieces: Sequence[Piece],
    to: Path,
    form: Form,
    total: int,
    bed: Path | None,
    progress: Callable[[int, int], None],
    kept: Path | None,
    tags: Mapping[str, str],
) -> None:
    work = Work()
    heard = bed is not None or any(piece.facts.audio for piece in pieces)
    with tempfile.TemporaryDirectory(prefix="klingflow-film-", ignore_cleanup_errors=True) as temporary:
        room = kept or Path(temporary)
        tasks: list[Task] = []
        alike = _alike(pieces, form, kept)
        coded = [piece.clip if alike else room / form.name(_shows(piece)) for piece in pieces]
        orders: dict[Path, Sequence[int]] = alike or {}
        for file, piece in dict(zip(coded, pieces, strict=True)).items() if not alike else ():
            found = kept_order(file, len(piece.shown.picks))
            if found is None:
                tasks.append(partial(_encode_piece, piece, file, form, work))
            else:
                orders[file] = found
        add_sound = None
        if heard:
            sound = Sound([_span(piece, form.rate) for piece in pieces], bed)
            windows = [(window, room / sound.name(window)) for window in sound.windows]
            missing = {file: window for window, file in windows if packets(file, window) is None}
            encodes = sound.tasks([(window, file) for file, window in missing.items()], work)
            # Last what is short, so that all cores end together; with a bed it is one long task.
            tasks = [*tasks, *encodes] if bed is None else [*encodes, *tasks]
            add_sound = partial(track, windows, sound.total)
        work.run(tasks, lambda done: progress(min(done, total), total))
        for file, piece in zip(coded, pieces, strict=True):
            if file not in orders:
                orders[file] = order(file)
            if len(orders[file]) != len(piece.shown.picks):
                has, wanted = len(orders[file]), len(piece.shown.picks)
                raise MediaError(f"{file.name} has {has} frames where {wanted} were encoded", "run again")
        join(coded, orders, form.rate, add_sound, to, tags)
        if room is kept:
            tidy(room)
    progress(total, total)


def _span(piece: Piece, rate: Fraction) -> Span:
    return Span(
        clip=piece.clip,
        digest=piece.facts.digest if piece.facts.audio else "",
        origin=piece.times.start_s + piece.shown.start_s,
        start=_samples_at(piece.shown.film_start, rate),
        end=_samples_at(piece.shown.film_end, rate),
    )


def _shows(piece: Piece) -> object:
    """What a piece shows, but for the film's size and rate."""
    picks = of_bytes(canonical(list(piece.shown.picks)))
    shown: dict[str, object] = {"clip": piece.facts.digest, "picks": picks}
    if piece.card is not None:
        shown |= {"card": list(astuple(piece.card)), "drawing": missing.DRAWING}
    if piece.slate is not None:
        shown |= {"slate": list(piece.slate), "start": piece.shown.film_start}
    return shown


def _encode_piece(piece: Piece, to: Path, form: Form, work: Work) -> None:
    encode(_pictures(piece, form), to, form, work)


def _alike(pieces: Sequence[Piece], form: Form, room: Path | None) -> dict[Path, Sequence[int]] | None:
    """The `order` of every clip, where all are as the film shall be, and of one encoder, so that their packets can
    follow each other."""
    if any(piece.slate is not None or piece.card is not None or not piece.whole for piece in pieces):
        return None
    orders: dict[Path, Sequence[int]] = {}
    forms = set()
    for clip, piece in {piece.clip: piece for piece in pieces}.items():
        line = piece.times
        if not (line.is_steady(form.rate) and line.keys[:1] == line.begins[:1]):
            return None
        found = _found("as it is", piece.clip, piece.facts, room, _as_it_is)
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


def _pictures(piece: Piece, form: Form) -> Iterator[VideoFrame]:
    if piece.card is not None:
        picture = av.VideoFrame.from_image(piece.card.draw(form.size))  # type: ignore[no-untyped-call]
        target = "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left"
        graph = media.chain(picture, ("scale", f"{media.ACCURATE}:{target}"), ("format", "pix_fmts=yuv420p"))
        graph.vpush(picture)
        yield from repeat(graph.vpull(), len(piece.shown.picks))
        return
    fit = _Fit(form.size)
    slate = Slate(*piece.slate, form.rate) if piece.slate is not None else None
    wanted = iter(enumerate(piece.shown.picks, piece.shown.film_start))
    n, want = next(wanted, (0, None))
    last = -1
    for last, (frame, video) in enumerate(media.frames(piece.clip)):
        if want is None:
            break
        shown = None
        while want == last:
            if shown is None or slate is not None:
                shown = fit(slate.write(frame, n) if slate is not None else frame, video)
            yield shown
            n, want = next(wanted, (0, None))
    if want is not None:
        count = len(piece.times.begins)
        raise MediaError(f"{piece.clip.name} is damaged: {last + 1} of its {count} frames decode")


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


def _copy(clip: Path, line: FrameTimes, to: Path, tags: Mapping[str, str]) -> bool:
    """Delivers the one clip as it is when every player shows it as it should be; False when it has to be encoded."""
    with media.opened(clip) as (container, video):
        audio, channels = media.sound_track(clip, container)
        plays = audio is None or (audio.codec_context.name == "aac" and len(channels) <= 2)
        if not (plays and line.begins[0] == 0 and _is_plain(container, video, next(container.decode(video)))):
            return False
    if audio is not None and any(True for _ in media.sound(clip, line.start_s + line.seconds + _TAIL_S)):
        return False
    return _remux(clip, to, tags)


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


def _remux(clip: Path, to: Path, tags: Mapping[str, str]) -> bool:
    """Packets as they are into a faststart MP4; False where an edit list hides some of them, which is not copied."""
    with (
        media.opened(clip) as (container, video),
        av.open(f"file:{to}", "w", format="mp4", options={"movflags": "faststart", "fflags": "bitexact"}) as film,
    ):
        film.metadata.update(tags)
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
