"""The door to video files: measure a clip, refuse a bad one, cut one frame out of it, read its pictures and its sound.

Knows no shot, no store and no film. Everything is read through PyAV, whose wheels carry FFmpeg.

What counts is what a player shows: frames after the edit list, in display order, turned as the file asks, with
square pixels. A clip's length is the length of its picture; sound that runs on is not counted.

Refused with a clear text: pages and playlists that pass for a video, files cut short, clips with no picture, clips
that do not decode to the end, more than 8192 pixels a side. Refused by `check`, unless a person takes the clip as it
is: codecs that few players know, and HDR (PQ or HLG) that was ordered.
What is drawn or joined is what an ordinary screen shows: HDR and wide colour are brought to BT.709 (io.hdr), what is
transparent lies on black, 10 bits become 8. Interlaced pictures are read as they are, without de-interlacing.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import re
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container.input import InputContainer
from av.filter import Graph
from av.filter.context import FilterContext
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from PIL import Image

from klingflow.core.errors import MediaError
from klingflow.core.frametimes import CLOCK, FrameTimes, is_steady
from klingflow.core.model import ClipFacts, ClipLook, Digest
from klingflow.io import boxes, durable, hdr
from klingflow.io.downmix import RATE, SAMPLE, Downmix, names

ENCODERS = ("libx264", "aac")
"""What a film is written with (output.parts, output.sound)."""


def encoders_missing() -> list[str]:
    """Those of ENCODERS that this build of FFmpeg does not have."""
    out = []
    for name in ENCODERS:
        try:
            av.Codec(name, "w")
        except ValueError:
            out.append(name)
    return out


MAX_SIDE = 8192
"""Pixels."""
MAX_SECONDS = 1800
MAX_STREAMS = 32
MAX_INDEX = 64 << 20
"""Bytes of a file's `moov` box: half an hour of clip needs about one MiB, a hostile one would fill the memory."""

# Without the format whitelist a text file "ffconcat version 1.0\nfile other.mp4" opens the other file, and a
# playlist opens URLs (tried with PyAV 18.1). The protocol whitelist alone does not stop it.
_CLIPS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
_SOUNDS = _CLIPS + ",wav,w64,aiff,mp3,flac,ogg,aac"
# The whitelist of codecs binds the probe alone; PyAV opens a decoder without it, so `_known` asks again.
_UNUSUAL = frozenset({"mpeg1video", "mpeg2video", "theora", "rawvideo"})
"""Codecs of pictures that can be read, and that `check` refuses all the same."""
_CODECS = (
    "mpeg1video,mpeg2video,theora,rawvideo,"
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg4,prores,dnxhd,mjpeg,png,qtrle,ffv1,"
    "aac,aac_fixed,mp3,mp3float,opus,libopus,vorbis,flac,alac,ac3,eac3,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_u8"
)

ACCURATE = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
"""Options of every conversion of a picture. The default rounding of swscale darkens a picture by about one level a hop,
which a chain of ten shots makes visible."""

_COMMON_RATES = tuple(
    Fraction(n, d)
    for n, d in ((24, 1), (25, 1), (30, 1), (24000, 1001), (30000, 1001), (50, 1), (60, 1), (60000, 1001), (48, 1))
)
_AGAIN = "fetch or export the clip again"
_EXPORT = "export it again as MP4 (H.264)"


# ---------------------------------------------------------------- measure, check


def facts(path: Path, digest: Digest) -> ClipFacts:
    """Measures a clip by decoding all of it, picture and sound. `digest` is the caller's knowledge of its bytes.

    Raises MediaError for anything that is not a whole, readable clip (see the top of this module).
    """
    line = timeline(path)
    shown, sound = 0, False
    size = (0, 0)
    with opened(path) as (container, video):
        audio, _ = sound_track(path, container)
        decode = _decoder(video)
        for packet in container.demux([video] if audio is None else [video, audio]):
            for frame in decode(packet) if packet.stream.index == video.index else packet.decode():
                if isinstance(frame, AudioFrame):
                    sound = True
                elif isinstance(frame, VideoFrame):
                    if frame.is_corrupt:
                        raise MediaError(f"{path.name} is damaged: frame {shown} does not decode cleanly", _AGAIN)
                    if not shown:
                        size = displayed_size(frame, pixel_shape(video), turned(frame))
                    shown += 1
    if shown != len(line.begins):
        raise MediaError(f"{path.name} is damaged: {shown} of its {len(line.begins)} frames decode", _AGAIN)
    return ClipFacts(
        digest=digest,
        bytes=path.stat().st_size,
        width=size[0],
        height=size[1],
        frames=shown,
        duration=f"{float(line.seconds):.3f}",
        rate=str(line.rate),
        audio=sound,
    )


def check(
    path: Path, *, seconds: float | None, digest: Digest | None = None, as_is: bool = False
) -> ClipFacts:
    """The facts of a file that was just fetched or brought in; raises MediaError when it is not what was ordered.

    `seconds` is the length that was ordered, None when nothing was: then it may be HDR. The digest is computed when the
    caller does not know it. `as_is`: also HDR that was ordered, and unusual codecs.
    """
    if digest is None:
        with _reading(path), path.open("rb") as file:
            digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
    found = facts(path, digest)
    if not as_is:
        _refuse_unusual(path, ordered=seconds is not None)
    if seconds is not None and not found.lasts(seconds):
        raise MediaError(f"{path.name} lasts {found.duration} s where {seconds:g} s were ordered")
    return found


def glance(path: Path) -> ClipLook:
    """Refuses what `check` would of a clip that was not ordered, as far as a file's index and first frame tell it, and
    tells how it is shown. Decodes one frame."""
    timeline(path)
    _refuse_unusual(path, ordered=False)
    with opened(path) as (container, video):
        sound_track(path, container)
        frame = next(_decoded(container, video), None)
        if frame is None:
            raise MediaError(f"{path.name} is damaged: its first frame does not decode", _AGAIN)
        width, height = displayed_size(frame, pixel_shape(video), turned(frame))
        return ClipLook(width=width, height=height, hdr=hdr.HDR.get(frame.color_trc, ""), alpha=_has_alpha(frame))


def _refuse_unusual(path: Path, *, ordered: bool) -> None:
    with opened(path) as (_, video):
        context = video.codec_context
        if ordered and context.color_trc in hdr.HDR:
            raise MediaError(f"{path.name} is HDR ({hdr.HDR[context.color_trc]})", "export it as SDR (BT.709)")
        if context.name in _UNUSUAL:
            raise MediaError(f"{path.name} is coded as {context.name}, which few players read", _EXPORT)


def timeline(path: Path) -> FrameTimes:
    """Reads the whole index of a clip without decoding a picture: a few milliseconds. Raises MediaError."""
    _refuse_other_files(path)
    _walk(path)
    begins: list[int] = []
    keys: list[int] = []
    top, top_length, longest = None, 0, 0
    with opened(path) as (container, video):
        base = _fraction(video.time_base)
        for packet in container.demux(video):
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise MediaError(f"{path.name} is damaged or cut short", _AGAIN)
            length = packet.duration or 0
            longest = max(longest, length)
            if packet.is_discard or packet.pts is None:
                continue
            if top is None or packet.pts > top:
                top, top_length = packet.pts, length
            begins.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        if not begins:
            raise MediaError(f"{path.name} has no frame to show", _EXPORT)
        promised = (video.start_time or 0) + video.duration if video.duration else None
        mean = _fraction(video.average_rate or Fraction(24))
    begins.sort()
    end = begins[-1] + (top_length or longest or round(1 / (mean * base)) or 1)
    if promised is not None:
        if end < promised - max(longest, 1) * 3 // 2:
            have, want = float(end * base), float(promised * base)
            raise MediaError(f"{path.name} is cut short: its picture ends at {have:.3f} s of {want:.3f} s", _AGAIN)
        # With B-frames a packet's duration is the distance in decoding order; the track knows the true end.
        end = promised if promised > begins[-1] else end
    seconds = (end - begins[0]) * base
    if seconds > MAX_SECONDS:
        raise MediaError(f"{path.name} is longer than {MAX_SECONDS // 60} minutes", "cut it into shorter clips")
    rate = _rate(begins, base, mean)
    if rate is None:
        rate = Fraction(len(begins) / seconds).limit_denominator(1001)
    elif abs(seconds - len(begins) / rate) <= 2 * max(base, CLOCK):
        # A clock of a thousandth of a second rounds every time; the rate knows better.
        seconds = len(begins) / rate
    return FrameTimes(base=base, begins=tuple(begins), keys=tuple(sorted(keys)), seconds=seconds, rate=rate)


def _rate(begins: list[int], base: Fraction, mean: Fraction) -> Fraction | None:
    """The rate that puts every frame in its place but for a clock's rounding; None where the distances vary."""
    likely = (mean, *_COMMON_RATES) if mean in _COMMON_RATES else (*_COMMON_RATES, mean)
    slacks = (base, CLOCK) if base < CLOCK else (base,)
    return next((rate for slack in slacks for rate in likely if is_steady(begins, base, rate, slack)), None)


# ---------------------------------------------------------------- one frame


def cut(path: Path, frame: str, to: Path) -> None:
    """Writes one displayed frame as an 8-bit RGB PNG: "last", "first", "-3" (third from the end) or "2.5s".

    The colours are converted by the file's own matrix and range (untagged HD is BT.709) with accurate rounding, and
    the same clip gives the same bytes on the same library versions. Only what is needed is decoded.
    Raises MediaError when the clip has no such frame.
    """
    png = io.BytesIO()
    picture(path, frame).save(png, "PNG", compress_level=3)
    to.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(to, png.getvalue())


def picture(path: Path, frame: str) -> Image.Image:
    """One displayed frame, named as for `cut`, as RGB. Raises MediaError when the clip has no such frame."""
    line = timeline(path)
    return _picture(path, line, line.begins[_index(path, line, frame)])


POSTER_SIDE = 640
"""Pixels of the longer side of a poster, at most: a page shows it at half of that, on a fine screen."""


def poster(path: Path, frame: str, to: Path) -> None:
    """Writes one displayed frame, named as for `cut`, as a small JPEG for pages. Raises MediaError."""
    small = picture(path, frame)
    small.thumbnail((POSTER_SIDE, POSTER_SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=82, optimize=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(to, jpeg.getvalue())


def end(path: Path, seconds: int, to: Path) -> None:
    """Writes the last `seconds` of a clip, or all of a shorter one, as MP4 (H.264, no sound), near to the original: a
    model looks at it. Raises MediaError."""
    line = timeline(path)
    first = line.shown_at(max(Fraction(0), line.seconds - seconds))
    begins = line.begins[first:]
    to.parent.mkdir(parents=True, exist_ok=True)
    with av.open(f"file:{to}", "w", format="mp4", options={"fflags": "bitexact", "movflags": "faststart"}) as made:
        video: VideoStream | None = None
        with opened(path) as (container, source):
            for frame in _decoded(container, source):
                if frame.pts is None or frame.pts < begins[0]:
                    continue
                picture = frame.reformat(format="yuv420p")
                if video is None:
                    video = made.add_stream("libx264", rate=line.rate)
                    video.width, video.height, video.pix_fmt = picture.width, picture.height, "yuv420p"
                    video.time_base = source.time_base
                    video.codec_context.options = {"preset": "fast", "crf": "12", "threads": "2"}
                picture.pts, picture.time_base = frame.pts - begins[0], source.time_base
                picture.pict_type = 0
                made.mux(video.encode(picture))
        if video is None:
            raise MediaError(f"{path.name} is damaged: its end does not decode", _AGAIN)
        made.mux(video.encode(None))


SMALL = (96, 54)
"""Of the pictures that are compared: enough to tell two moments of one shot apart."""


def small(path: Path, first: int, most: int | None = None) -> list[Image.Image]:
    """The displayed frames from number `first` on, `most` of them, in grey and small. Raises MediaError."""
    begin = timeline(path).begins[first]
    out: list[Image.Image] = []
    with opened(path) as (container, video):
        for frame in _decoded(container, video):
            if frame.pts is None or frame.pts < begin:
                continue
            if most is not None and len(out) == most:
                break
            grey = frame.reformat(width=SMALL[0], height=SMALL[1], format="gray")
            plane = grey.planes[0]
            out.append(Image.frombytes("L", SMALL, bytes(plane), "raw", "L", plane.line_size))
    return out


def _index(path: Path, line: FrameTimes, frame: str) -> int:
    found = line.index(frame)
    if found is not None:
        return found
    if re.fullmatch(r"-[1-9][0-9]{0,8}", frame):
        count = len(line.begins)
        raise MediaError(f"{path.name} has no frame {frame}: it has {count} frames", f"choose -1 to -{count}")
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?s", frame):
        end = f"{float(line.seconds):.3f} s"
        raise MediaError(f"{path.name} has no frame at {frame}: it ends at {end}", 'write "last"')
    raise MediaError(f"'{frame}' names no frame", 'write "last", "first", "-3" or "2.5s"')


def _picture(path: Path, line: FrameTimes, begin: int) -> Image.Image:
    """Decodes the frame that begins at `begin`: from the key frame before it, or from the start where that fails.

    Starting at a key frame that is shown no later than the frame is exact: what follows it on the screen needs nothing
    from before it. Some demuxers land elsewhere; then, or when the frame does not come, everything is decoded.
    """
    before = bisect.bisect_right(line.keys, begin) - 1
    for key in (line.keys[before], None) if before >= 0 else (None,):
        with opened(path) as (container, video):
            if key is not None:
                container.seek(key, stream=video, backward=True)
            fresh = key is not None
            decode = _decoder(video)
            for packet in container.demux(video):
                if fresh and packet.pts is not None and packet.pts > begin:
                    break
                fresh = False
                for frame in decode(packet):
                    if frame.pts == begin:
                        if frame.is_corrupt:
                            raise MediaError(f"{path.name} is damaged: a frame does not decode cleanly", _AGAIN)
                        return _image(frame, video)
    raise MediaError(f"{path.name} is damaged: a frame that its index names does not decode", _AGAIN)


def _image(frame: VideoFrame, video: VideoStream) -> Image.Image:
    seen, source = as_seen(frame, siting(frame, video))
    graph = chain(frame, *seen, ("scale", f"{ACCURATE}:{source}:out_range=pc"), ("format", "pix_fmts=rgb24"))
    graph.vpush(frame)
    rgb = graph.vpull()
    plane = rgb.planes[0]
    image = Image.frombytes("RGB", (rgb.width, rgb.height), bytes(plane), "raw", "RGB", plane.line_size)
    square = _square(frame.width, frame.height, pixel_shape(video))
    if square != image.size:
        image = image.resize(square, Image.Resampling.BICUBIC)
    turn = turned(frame)
    return image if turn is None else image.transpose(turn)


# ---------------------------------------------------------------- how a frame is shown


def colour(frame: VideoFrame) -> tuple[int, bool]:
    """The YUV matrix in swscale's numbers (1 BT.709, 5 BT.601, …) and whether the range is full.

    An untagged picture is BT.709 when it is HD, as every player assumes; FFmpeg's own default, BT.601, is
    off by 9 dE there.
    """
    known = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
    hd = frame.height >= 720 or frame.width >= 1280
    matrix = known.get(int(frame.colorspace), 1 if hd else 5)
    tagged = int(frame.color_range)
    return matrix, tagged == 2 if tagged in (1, 2) else frame.format.name.startswith("yuvj")


def siting(frame: VideoFrame, video: VideoStream) -> str:
    """Where the colour of a 4:2:0 or 4:2:2 picture was sampled: "left", "center", "topleft", …, as FFmpeg names it.

    Read wrongly, it shifts colour against light by half a pixel with each hop of a chain. What a file does not say is
    "center" in full range, as in JPEG, else "left", as players assume.
    """
    # PyAV does not tell the tag but converts by it, so where an edge of colour comes out tells where its samples are.
    probe = frame.reformat(width=16 if frame.width != 16 else 32, height=16, format="yuv420p")
    for plane, edge in zip(probe.planes, ((0, 0), (1, 0), (0, 1)), strict=True):
        places = ((i % plane.line_size, i // plane.line_size) for i in range(plane.buffer_size))
        plane.update(bytes(200 * (x * edge[0] + y * edge[1] >= 4) for x, y in places))
    wide = probe.reformat(format="yuv444p", interpolation=Interpolation.BILINEAR)
    across, down = wide.planes[1], wide.planes[2]
    place = _SITINGS[bytes(across)[7] > 75, (bytes(down)[7 * down.line_size] + 25) // 50]
    if place == "center" and video.codec_context.name not in _CENTRED and not colour(frame)[1]:
        return "left"
    return place


_SITINGS = {
    (True, 1): "left",
    (False, 1): "center",
    (True, 2): "topleft",
    (False, 2): "top",
    (True, 0): "bottomleft",
    (False, 0): "bottom",
}
_CENTRED = frozenset({"h264", "hevc", "mjpeg", "mpeg1video"})
"""Codecs whose pictures say it when they are centred. Without a tag, FFmpeg would take any picture to be centred."""


Filters = list[tuple[str, str | bytes]]


def chain(frame: VideoFrame, *filters: tuple[str, str | bytes]) -> Graph:
    """FFmpeg's filters one after the other, each with its options, for frames of the form of this one. Bytes instead of
    options are what stands in the file that the filter reads."""
    base = frame.time_base or Fraction(1, RATE)
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=base),
        *(_filter(graph, name, options) for name, options in filters),
        graph.add("buffersink"),
    ).configure()
    return graph


def _filter(graph: Graph, name: str, options: str | bytes) -> FilterContext:
    if isinstance(options, str):
        return graph.add(name, options)
    with tempfile.NamedTemporaryFile("w+b", prefix="klingflow-", suffix=".cube") as file:
        file.write(options)
        file.flush()
        return graph.add(name, file=file.name)  # it is read at once


def is_plain(frame: VideoFrame) -> bool:
    """Whether an ordinary screen shows the frame as it is: it is opaque, and neither HDR nor of wide colour."""
    return hdr.is_plain(frame.color_trc, frame.color_primaries) and not _has_alpha(frame)


def as_seen(frame: VideoFrame, place: str) -> tuple[Filters, str]:
    """Filters that make of a decoded frame what an ordinary screen shows, none where that is the frame itself; and how
    FFmpeg's scale filter is to read the colours of what comes out. `place` is as for `read_as`."""
    source = read_as(frame, place)
    if is_plain(frame):
        return [], source
    alpha = _has_alpha(frame)
    out: Filters = [
        ("scale", f"{ACCURATE}:{source}:out_range=pc"),
        ("format", "pix_fmts=gbrap16le" if alpha else "pix_fmts=gbrp16le"),
    ]
    if not hdr.is_plain(frame.color_trc, frame.color_primaries):
        out += [
            ("lut3d", hdr.table(frame.color_trc, frame.color_primaries)),
            ("setparams", "color_primaries=bt709:color_trc=bt709"),
        ]
    if alpha:
        out += [("premultiply", "inplace=1"), ("format", "pix_fmts=gbrp16le")]
    return out, "in_range=pc"


def _has_alpha(frame: VideoFrame) -> bool:
    if frame.format.has_palette:
        return any(colour >> 24 < 255 for colour in memoryview(bytes(frame.planes[1])).cast("I"))
    return any(component.is_alpha for component in frame.format.components)


def read_as(frame: VideoFrame, place: str) -> str:
    """Options for FFmpeg's scale filter: how to read the frame's colours, which were sampled at `place`."""
    matrix, full = colour(frame)
    return f"in_color_matrix={_MATRICES[matrix]}:in_range={'pc' if full else 'tv'}:in_chroma_loc={place}"


_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 7: "smpte240m", 9: "bt2020"}


def turned(frame: VideoFrame) -> Image.Transpose | None:
    """The turn or flip that the file's display matrix asks for; None for none."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])  # type: ignore[call-overload]
    upright = abs(a) >= abs(b)
    signs = (a < 0, d < 0) if upright else (b < 0, c < 0)
    return (_UPRIGHT if upright else _SIDEWAYS)[signs]


_UPRIGHT = {
    (False, False): None,
    (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (True, True): Image.Transpose.ROTATE_180,
}
_SIDEWAYS = {
    (False, False): Image.Transpose.TRANSPOSE,
    (True, False): Image.Transpose.ROTATE_90,
    (False, True): Image.Transpose.ROTATE_270,
    (True, True): Image.Transpose.TRANSVERSE,
}


def pixel_shape(video: VideoStream) -> Fraction:
    """Width over height of one pixel as shown; 1 where the file does not say."""
    shape = video.sample_aspect_ratio
    return _fraction(shape) if shape is not None and shape.numerator > 0 else Fraction(1)


def displayed_size(frame: VideoFrame, shape: Fraction, turn: Image.Transpose | None) -> tuple[int, int]:
    """The size on the screen of a frame with such pixels, turned so."""
    width, height = _square(frame.width, frame.height, shape)
    return (height, width) if turn in _SIDEWAYS.values() else (width, height)


def _square(width: int, height: int, shape: Fraction) -> tuple[int, int]:
    """The size with square pixels: the short side of the pixel is stretched, so that nothing is lost."""
    return (round(width * shape), height) if shape >= 1 else (width, round(height / shape))


# ---------------------------------------------------------------- picture and sound, in order


def frames(path: Path, *, threads: int | None = None) -> Iterator[tuple[VideoFrame, VideoStream]]:
    """Every displayed frame in order, as decoded: not yet turned, nor converted. `threads` is of the decoder; None: as
    many as there are processors."""
    with opened(path) as (container, video):
        if threads is not None:
            video.codec_context.thread_count = threads
        for frame in _decoded(container, video):
            yield frame, video


def _decoded(container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    decode = _decoder(video)
    for packet in container.demux(video):
        yield from decode(packet)


def _decoder(video: VideoStream) -> Callable[[Packet[Any]], Iterator[VideoFrame]]:
    """What decodes the picture of an open file; asked for before the first frame is decoded."""
    own = context = video.codec_context
    tags = {tag: getattr(own, tag) for tag in ("colorspace", "color_primaries", "color_trc")}
    if own.name in _WITH_ALPHA and video.metadata.get("alpha_mode") == "1":
        # FFmpeg's own decoders of VP8 and VP9 leave out the transparency that WebM keeps beside the picture.
        context = cast(VideoCodecContext, CodecContext.create(_WITH_ALPHA[own.name], "r"))
        context.extradata, context.thread_type = own.extradata, "AUTO"

    def decode(packet: Packet[Any]) -> Iterator[VideoFrame]:
        for frame in context.decode(packet):
            for tag, value in tags.items():
                # ProRes that says nothing of its colours makes the decoder forget what the container says of them.
                if getattr(frame, tag) == _UNSAID:
                    setattr(frame, tag, value)
            yield frame

    return decode


_UNSAID = 2
"""For colour space, primaries and transfer, in H.273."""

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def sound(path: Path, origin: Fraction, *, bed: bool = False) -> Iterator[bytes]:
    """The sound of a file from `origin` seconds on its own clock, in chunks as io.downmix makes them; may end early.

    Silence stands where the file has a gap. Nothing is yielded for a file without sound, except that `bed=True`
    (a music file, which needs no picture) raises MediaError.
    """
    have = 0
    with _container(path, _SOUNDS if bed else _CLIPS) as container:
        audio, order = sound_track(path, container)
        if audio is None:
            if bed:
                raise MediaError(f"{path.name} has no sound", "name a WAV, MP3, FLAC, M4A or OGG file")
            return
        downmix = Downmix(order)
        for packet in container.demux(audio):
            decoded: list[AudioFrame | None] = [f for f in packet.decode() if isinstance(f, AudioFrame)]
            if packet.size == 0:
                decoded.append(None)
            for frame in decoded:
                for chunk in downmix(frame):
                    data = bytes(chunk.planes[0])[: chunk.samples * SAMPLE]
                    if chunk.pts is not None and chunk.time_base is not None:
                        at = round((chunk.pts * _fraction(chunk.time_base) - origin) * RATE)
                        # Clocks of a thousandth of a second (WebM) jitter; only a real gap or overlap is one.
                        if abs(at - have) > RATE // 50 or have == 0:
                            if at > have:
                                yield from silence(at - have)
                                have = at
                            data = data[max(0, have - at) * SAMPLE :]
                    have += len(data) // SAMPLE
                    if data:
                        yield data


def sound_seconds(path: Path) -> Fraction:
    """How long the sound of a music file is. Raises MediaError."""
    with _container(path, _SOUNDS) as container:
        audio, _ = sound_track(path, container)
        if audio is not None and audio.duration and audio.time_base:
            return audio.duration * _fraction(audio.time_base)
    return Fraction(sum(map(len, sound(path, Fraction(0), bed=True))), SAMPLE * RATE)


def sound_track(path: Path, container: InputContainer) -> tuple[AudioStream | None, tuple[str, ...]]:
    """The sound of an open file, if it has any, and the names of its channels. Raises MediaError for unknown codecs."""
    best = container.streams.best("audio")
    tracks = [best] if isinstance(best, AudioStream) else []
    # Phones write tracks that FFmpeg cannot name beside one that every player hears.
    audio = next((s for s in (*tracks, *container.streams.audio) if _readable(s)), None)
    if audio is None:
        if tracks or container.streams.audio:
            raise MediaError(f"{path.name} has sound that klingflow does not read", "give it a track in AAC")
        return None, ()
    layout = audio.codec_context.layout
    if not layout.name.startswith(f"{layout.nb_channels} channels ("):
        return audio, names(layout)
    # Channels in an order of the file's own. PyAV frees such a layout twice, which ends the process, unless the decoder
    # never hears of it; so the order is kept here.
    order = names(layout)
    audio.codec_context.layout = f"{len(order)} channels"
    return audio, order


def silence(samples: int) -> Iterator[bytes]:
    """Chunks of nothing, so that an hour of silence costs no memory."""
    while samples > 0:
        part = min(samples, RATE)
        yield bytes(part * SAMPLE)
        samples -= part


# ---------------------------------------------------------------- files


@contextmanager
def opened(path: Path, *, probed: bool = True) -> Iterator[tuple[InputContainer, VideoStream]]:
    """An open clip and its picture, limits checked. Whatever FFmpeg says inside becomes a MediaError.

    Not `probed`: for an MP4 whose packets alone are wanted, as they are. It is not decoded to find out what its index
    does not tell, which takes ten times as long as all else (measured: 27 and 2 ms for a clip in 720p).
    """
    with _container(path, _CLIPS, {} if probed else {"probesize": "32"}) as container:
        videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not videos:
            raise MediaError(f"{path.name} has no picture", "a clip needs a video track")
        best = container.streams.best("video")
        video = next((s for s in videos if best is not None and s.index == best.index), videos[0])
        context = video.codec_context
        _known(path, context)
        if max(context.width, context.height) > MAX_SIDE:
            raise MediaError(f"{path.name} is {context.width}x{context.height}: more than {MAX_SIDE} pixels a side")
        # A picture may grow in the middle of a stream, past what the header said.
        context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
        video.thread_type = "AUTO"
        yield container, video


def _readable(stream: AudioStream | VideoStream) -> bool:
    context: CodecContext | None = stream.codec_context  # None where FFmpeg cannot name the codec
    return context is not None and context.name in _CODECS.split(",")


def _known(path: Path, context: CodecContext | None) -> None:
    if context is None:
        raise MediaError(f"{path.name} is in a codec that klingflow does not know", _EXPORT)
    if context.name not in _CODECS.split(","):
        raise MediaError(f"{path.name} is coded as {context.name}, which klingflow does not read", _EXPORT)


@contextmanager
def _container(path: Path, formats: str, more: Mapping[str, str] | None = None) -> Iterator[InputContainer]:
    options = {
        "format_whitelist": formats,
        "protocol_whitelist": "file",
        "codec_whitelist": _CODECS,
        "max_streams": str(MAX_STREAMS),
        "enable_drefs": "0",
        **(more or {}),
    }
    with _reading(path), av.open(f"file:{path}", "r", options=options) as container:
        yield container


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as exc:
        raise MediaError(f"{path} cannot be read: {exc.strerror}") from exc
    except (av.error.FFmpegError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise MediaError(f"{path.name} cannot be decoded: {reason}", _EXPORT) from exc


_PAGES = (
    (b"#extm3u", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"<?xml", "an XML page"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<", "a page of markup"),
    (b"{", "a JSON text"),
    (b"[", "a JSON text"),
    (b"\x89png", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"gif8", "an image"),
)
_TEXT = bytes({9, 10, 12, 13, *range(32, 127), *range(128, 256)})
"""Bytes of a text in any usual coding: no control characters."""
_EBML = b"\x1a\x45\xdf\xa3"


def _refuse_other_files(path: Path) -> None:
    with _reading(path), path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise MediaError(f"{path.name} is empty", _AGAIN)
    if head[4:8] in boxes.STARTS or head[:4] == _EBML:
        return
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        raise MediaError(f"{path.name} is a Git LFS pointer, not the clip", "run `git lfs pull` (in CI: `lfs: true`)")
    kind = next((name for start, name in _PAGES if text.startswith(start)), None)
    if kind is not None:
        raise MediaError(f"{path.name} is not a video: it is {kind}", _AGAIN)
    if not head.translate(None, _TEXT):
        raise MediaError(f"{path.name} is not a video: it is a text", _EXPORT)
    raise MediaError(f"{path.name} is not an MP4, MOV, MKV or WebM file", _EXPORT)


def _walk(path: Path) -> None:
    """Steps over the top-level boxes: the one sure sign of a file cut short.

    A faststart MP4 that lost its end still opens and promises every frame; decoded by several threads it just stops
    early without an error (measured with PyAV 18.1).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) == _EBML:
            needs = _matroska_end(file.read(64))
            if needs is not None and needs > size:
                raise MediaError(f"{path.name} is cut short: {needs - size} bytes are missing", _AGAIN)
            return
        found = boxes.walk(file.fileno())
    if found.broken is not None:
        raise MediaError(f"{path.name} is damaged or cut short at byte {found.broken}", _AGAIN)
    if found.missing:
        raise MediaError(f"{path.name} is cut short: {found.missing} bytes are missing", _AGAIN)
    if found.index is None:
        raise MediaError(f"{path.name} is cut short: it has no index", _AGAIN)
    if found.index > MAX_INDEX:
        raise MediaError(f"{path.name} has an index of {found.index >> 20} MiB: more than a clip needs")


def _matroska_end(head: bytes) -> int | None:
    """Where a Matroska file's segment ends; None where it does not say. `head` follows the file's first four bytes."""
    at, size = _vint(head, 0)
    if size is None or head[at + size : at + size + 4] != b"\x18\x53\x80\x67":
        return None
    start, length = _vint(head, at + size + 4)
    return None if length is None else 4 + start + length


def _vint(data: bytes, at: int) -> tuple[int, int | None]:
    """EBML's number of variable size: the place after it, and its value or None for "unknown"."""
    if at >= len(data) or data[at] == 0:
        return at, None
    width = 9 - data[at].bit_length()
    mask = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width], "big") & mask
    return at + width, None if value == mask else value


def _fraction(value: Fraction | None) -> Fraction:
    assert value is not None  # every open stream has a time base
    # PyAV 19 has a rational type of its own, which does no arithmetic with Fraction.
    return Fraction(value.numerator, value.denominator)
