from __future__ import annotations

import hashlib
from array import array
from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from klingflow.core.errors import MediaError
from klingflow.core.model import ClipLook, Digest
from klingflow.io import media
from tests import clips

NONE = Digest("0" * 64)


def carried(clip: Path, frame: str) -> int | None:
    to = clip.with_suffix(".png")
    media.cut(clip, frame, to)
    with Image.open(to) as image:
        assert image.mode == "RGB"
        return clips.number(image)


def test_facts_are_measured_from_the_file(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=121, sound=clips.tone(5.2))
    found = media.facts(clip, NONE)
    assert (found.width, found.height, found.frames) == (320, 180, 121)
    assert (found.duration, found.rate, found.audio) == ("5.042", "24", True)
    assert found.bytes == clip.stat().st_size


def test_a_film_rate_and_a_clock_of_milliseconds_are_recognised(tmp_path: Path) -> None:
    film = clips.make(tmp_path / "a.mp4", frames=48, rate=Fraction(24000, 1001))
    assert media.facts(film, NONE).rate == "24000/1001"
    web = clips.make(tmp_path / "a.mkv", frames=30)
    assert (media.facts(web, NONE).rate, media.facts(web, NONE).duration) == ("24", "1.250")


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("B-frames and one key frame", {}),
        ("many key frames", {"options": {"g": "7"}}),
        ("an open GOP", {"options": {"g": "7", "x264-params": "open-gop=1"}}),
        ("sound longer than the picture", {"sound": clips.tone(3)}),
        ("a fragmented file", {"muxing": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "10"}}),
        ("no tags", {"tagged": False}),
        ("ten bits", {"pixels": "yuv420p10le"}),
        ("an odd size", {"size": (321, 181), "pixels": "yuv444p"}),
    ],
)
def test_the_exact_displayed_frame_is_cut(tmp_path: Path, what: str, options: dict[str, object]) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=30, first=100, **options)  # type: ignore[arg-type]
    got = [carried(clip, frame) for frame in ("first", "last", "-1", "-3", "-16", "-30", "0s", "0.5s", "1.24s")]
    assert got == [100, 129, 129, 127, 114, 100, 100, 112, 129]


def test_every_frame_can_be_cut_by_its_place(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=20, options={"g": "5", "x264-params": "open-gop=1"})
    assert [carried(clip, f"-{20 - i}") for i in range(20)] == list(range(20))


def test_other_containers_give_the_same_frames(tmp_path: Path) -> None:
    quick = {"deadline": "realtime", "cpu-used": "8"}
    web = clips.make(tmp_path / "a.webm", codec="libvpx-vp9", frames=20, options=quick, sound=clips.tone(1))
    assert [carried(web, f) for f in ("first", "last", "-2")] == [0, 19, 18]
    jpeg = clips.make(tmp_path / "a.mov", codec="mjpeg", pixels="yuvj420p", frames=20, tagged=False)
    assert [carried(jpeg, f) for f in ("first", "last", "-2")] == [0, 19, 18]


def test_a_variable_rate_is_read_by_the_clock(tmp_path: Path) -> None:
    times = [Fraction(n, 10) for n in (0, 1, 2, 10, 11, 30)]
    clip = clips.make(tmp_path / "a.mp4", frames=6, times=times)
    assert [carried(clip, f) for f in ("0.05s", "0.9s", "1.05s", "2.5s", "last")] == [0, 2, 3, 4, 5]


def test_edit_lists_decide_what_is_first_and_last(tmp_path: Path) -> None:
    ends = clips.edit(clips.make(tmp_path / "a.mp4", frames=48), seconds=1.0)
    assert (carried(ends, "first"), carried(ends, "last"), media.facts(ends, NONE).duration) == (0, 23, "1.000")
    begins = clips.edit(clips.make(tmp_path / "b.mp4", frames=48), skip=0.5)
    assert (carried(begins, "first"), carried(begins, "last"), media.facts(begins, NONE).frames) == (12, 47, 36)


@pytest.mark.parametrize("angle", [90, -90, 180])
def test_a_turned_clip_is_cut_upright(tmp_path: Path, angle: int) -> None:
    def stored(number: int, size: tuple[int, int]) -> Image.Image:
        return clips.picture(number, (320, 180)).rotate(-angle, expand=True)

    size = (320, 180) if angle == 180 else (180, 320)
    clip = clips.make(tmp_path / "a.mp4", frames=5, size=size, rotate=angle, draw=stored)
    assert carried(clip, "last") == 4
    found = media.facts(clip, NONE)
    assert (found.width, found.height) == (320, 180)


def test_wide_pixels_are_made_square(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=5, shape=Fraction(4, 3))
    assert (media.facts(clip, NONE).width, carried(clip, "last")) == (427, 4)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((1280, 720), {}),
        ((1280, 720), {"tagged": False}),
        ((720, 1280), {"tagged": False}),
        ((320, 180), {"matrix": 5}),
    ],
)
def test_colours_survive_within_two_levels(tmp_path: Path, size: tuple[int, int], options: dict[str, object]) -> None:
    colours = [(40, 120, 220), (220, 40, 40), (40, 200, 60), (128, 128, 128)]

    def draw(number: int, size: tuple[int, int]) -> Image.Image:
        image = Image.new("RGB", size)
        for i, colour in enumerate(colours):
            image.paste(colour, (i * size[0] // 4, 0, (i + 1) * size[0] // 4, size[1]))
        return image

    clip = clips.make(tmp_path / "a.mp4", frames=2, size=size, draw=draw, options={"crf": "4"}, **options)  # type: ignore[arg-type]
    media.cut(clip, "last", tmp_path / "last.png")
    with Image.open(tmp_path / "last.png") as image:
        got = [image.getpixel(((2 * i + 1) * size[0] // 8, size[1] // 2)) for i in range(4)]
    assert all(abs(a - b) <= 2 for x, y in zip(got, colours, strict=True) for a, b in zip(x, y, strict=True)), got


def test_the_same_clip_gives_the_same_png_without_metadata(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=10)
    media.cut(clip, "last", tmp_path / "1.png")
    media.cut(clip, "last", tmp_path / "2.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    with Image.open(tmp_path / "1.png") as image:
        assert image.info == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.png", "2.png", "a.mp4"]


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        ("-11", "a.mp4 has no frame -11: it has 10 frames"),
        ("0.5s", "a.mp4 has no frame at 0.5s: it ends at 0.417 s"),
        ("middle", "'middle' names no frame"),
        ("-0", "'-0' names no frame"),
    ],
)
def test_a_frame_that_is_not_there_is_refused(tmp_path: Path, frame: str, what: str) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=10)
    with pytest.raises(MediaError) as caught:
        media.cut(clip, frame, tmp_path / "x.png")
    assert caught.value.what == what
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7, 0.95, 0.999])
@pytest.mark.parametrize(
    ("name", "muxing"),
    [
        ("faststart.mp4", {"movflags": "faststart"}),
        ("index at the end.mp4", {"movflags": "write_colr"}),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", {}),
    ],
)
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, muxing: dict[str, str], part: float) -> None:
    clip = clips.shorten(clips.make(tmp_path / name, frames=40, options={"g": "10"}, muxing=muxing), part)
    with pytest.raises(MediaError, match="cut short"):
        media.check(clip, seconds=None)
    with pytest.raises(MediaError, match="cut short"):
        media.cut(clip, "last", tmp_path / "x.png")


@pytest.mark.parametrize("muxing", [{"movflags": "faststart"}, {}, {"movflags": "frag_keyframe+empty_moov"}])
@pytest.mark.parametrize("tail", [b"\n", b"\r\n", b"\xad\x4d" * 700, b"\0" * 100, b"\x01\0\0\08db42d694ccc41" * 4])
def test_bytes_after_the_last_box_are_no_fault(tmp_path: Path, muxing: dict[str, str], tail: bytes) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=5, muxing=muxing)
    clip.write_bytes(clip.read_bytes() + tail)
    assert media.check(clip, seconds=None).frames == 5


def nameless(data: bytes, at: int) -> bytes:
    """A track of sound made one that FFmpeg has no name for, as phones write them."""
    at = data.index(b"mp4a", at)
    end = data.index(b"esds", at)
    return data[:at] + b"apac" + data[at + 4 : end] + b"dapa" + data[end + 4 :]


@pytest.mark.parametrize("which", [0, 1])
def test_a_second_sound_track_that_nobody_can_name_is_passed_over(tmp_path: Path, which: int) -> None:
    one = clips.make(tmp_path / "one.mov", frames=12, sound=clips.tone(0.5))
    two = tmp_path / "two.mov"
    with av.open(str(one)) as source, av.open(str(two), "w") as target:
        video, audio = source.streams.video[0], source.streams.audio[0]
        out = [target.add_stream_from_template(s) for s in (video, audio, audio)]
        for packet in source.demux(video, audio):
            if packet.dts is None:
                continue
            data = bytes(packet)
            for stream in out[:1] if packet.stream is video else out[1:]:
                copy = av.Packet(data)
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                target.mux(copy)
    data = two.read_bytes()
    start = data.index(b"moov")
    two.write_bytes(nameless(data, data.index(b"mp4a", start) + 4 if which else start))
    assert media.check(two, seconds=None).audio
    assert any(map(any, media.sound(two, Fraction(0))))


def test_a_clip_whose_only_sound_nobody_can_name_is_refused_by_name(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mov", frames=12, sound=clips.tone(0.5))
    clip.write_bytes(nameless(clip.read_bytes(), 0))
    with pytest.raises(MediaError, match=r"a\.mov has sound that klingflow does not read"):
        media.check(clip, seconds=None)


def test_a_picture_that_nobody_can_name_is_refused_by_name(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mov", frames=3)
    data = clip.read_bytes()
    assert b"avc1" in data
    at = data.rindex(b"avc1")
    clip.write_bytes(data[:at] + b"zzz9" + data[at + 4 :].replace(b"avcC", b"zzzC"))
    with pytest.raises(MediaError, match=r"a\.mov"):
        media.check(clip, seconds=None)


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=40, options={"crf": "4"})
    data = bytearray(clip.read_bytes())
    middle = data.find(b"mdat") + (len(data) - data.find(b"mdat")) // 2
    data[middle : middle + 400] = bytes(400)
    clip.write_bytes(data)
    with pytest.raises(MediaError, match=r"damaged|cannot be decoded"):
        media.check(clip, seconds=None)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "clip.mp4 is empty"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "clip.mp4 is not a video: it is an XML page"),
        (b"\n <!DOCTYPE html><html>", "clip.mp4 is not a video: it is an HTML page"),
        (b'{"error": "gone"}', "clip.mp4 is not a video: it is a JSON text"),
        (b"#EXTM3U\nreal.mp4\n", "clip.mp4 is not a video: it is a playlist"),
        (b"ffconcat version 1.0\nfile real.mp4\n", "clip.mp4 is not a video: it is a playlist"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "clip.mp4 is not a video: it is an image"),
        (bytes(600), "clip.mp4 is not an MP4, MOV, MKV or WebM file"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    clips.make(tmp_path / "real.mp4", frames=3)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        media.check(clip, seconds=5)
    assert caught.value.what == what


def test_a_playlist_is_refused_by_the_demuxer_too(tmp_path: Path) -> None:
    clips.make(tmp_path / "real.mp4", frames=3)
    clip = tmp_path / "list.mp4"
    clip.write_bytes(b"ffconcat version 1.0\nfile real.mp4\n")
    with pytest.raises(MediaError, match="cannot be decoded"), media.opened(clip):
        pass


def test_channels_in_an_order_of_the_files_own_are_heard_where_they_belong(tmp_path: Path) -> None:
    # A MOV whose channels are middle, left, right, …: PyAV frees such an order twice, which ended the process.
    path = tmp_path / "own.mov"
    voice = array("f", (0.5 * (channel == 0) for _ in range(4800) for channel in range(5)))
    clips.make(path, frames=3, size=(64, 64), sound=voice, layout="5.0", sound_codec="pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"chan") + 8
    data[at : at + 4] = (120 << 16 | 5).to_bytes(4, "big")  # MPEG_5_0_D: C L R Ls Rs
    path.write_bytes(data)
    for _ in range(3):
        assert media.facts(path, NONE).audio
        sound = array("f", b"".join(media.sound(path, Fraction(0))))
        assert sound[2000:2002].tolist() == pytest.approx([0.3535, 0.3535], abs=0.001)


def test_sound_without_a_picture_is_refused(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    with av.open(str(clip), "w") as container:
        audio = container.add_stream("aac", rate=48000, layout="stereo")
        frame = av.AudioFrame(format="flt", layout="stereo", samples=4800)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate = 48000
        container.mux([*audio.encode(frame), *audio.encode(None)])
    with pytest.raises(MediaError, match=r"a\.mp4 has no picture"):
        media.check(clip, seconds=None)


def test_hdr_that_was_ordered_and_absurd_sizes_are_refused(tmp_path: Path) -> None:
    hdr = clips.make(tmp_path / "a.mp4", pixels="yuv420p10le", frames=2, transfer=18, matrix=9)
    with pytest.raises(MediaError, match=r"a\.mp4 is HDR \(HLG\)"):
        media.check(hdr, seconds=2 / 24)
    assert media.check(hdr, seconds=2 / 24, as_is=True).frames == 2
    assert media.check(hdr, seconds=None).frames == 2, "nobody ordered it"
    wide = clips.make(tmp_path / "b.mov", codec="mjpeg", pixels="yuvj420p", frames=1, size=(8208, 16), tagged=False)
    for as_is in (False, True):
        with pytest.raises(MediaError, match="more than 8192 pixels a side"):
            media.check(wide, seconds=None, as_is=as_is)


def test_a_codec_that_few_players_read_is_refused_unless_it_is_taken_as_it_is(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mkv", codec="mpeg2video", frames=5)
    with pytest.raises(MediaError, match=r"a\.mkv is coded as mpeg2video, which few players read"):
        media.check(clip, seconds=None)
    assert media.check(clip, seconds=None, as_is=True).frames == 5
    media.cut(clip, "last", tmp_path / "last.png")
    with Image.open(tmp_path / "last.png") as picture:
        assert clips.number(picture) == 4


def test_a_codec_outside_the_list_is_refused(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mkv", codec="msmpeg4v3", frames=5)
    for as_is in (False, True):
        with pytest.raises(MediaError, match=r"a\.mkv is coded as msmpeg4, which klingflow does not read"):
            media.check(clip, seconds=None, as_is=as_is)


def test_a_length_far_from_the_order_is_refused(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=121)
    found = media.check(clip, seconds=5)
    assert found.digest == hashlib.sha256(clip.read_bytes()).hexdigest()
    with pytest.raises(MediaError, match=r"a\.mp4 lasts 5\.042 s where 10 s were ordered"):
        media.check(clip, seconds=10)
    with pytest.raises(MediaError, match="where 4 s were ordered"):
        media.check(clip, seconds=4)


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read: No such file"):
        media.cut(tmp_path / "none.mp4", "last", tmp_path / "x.png")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", r"is a Git LFS pointer"),
        (b"a note about the clip\n", r"is not a video: it is a text"),
        ("Größe\r\n".encode(), r"is not a video: it is a text"),
        (b"\x00\x01\x02 something else", r"is not an MP4, MOV, MKV or WebM file"),
    ],
)
def test_a_glance_names_what_is_no_clip(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(MediaError, match=what):
        media.glance(tmp_path / "a.mp4")


def test_a_glance_tells_how_a_clip_is_shown_and_finds_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hlg = clips.make(tmp_path / "hlg.mp4", frames=2, transfer=18)
    pq = clips.make(tmp_path / "pq.mp4", frames=2, transfer=16)
    glass = clips.make(tmp_path / "glass.mov", codec="qtrle", pixels="argb", frames=2)
    short = clips.shorten(clips.make(tmp_path / "short.mp4", frames=9), 0.7)
    plain = clips.make(tmp_path / "plain.mp4", frames=2)
    tall = clips.make(tmp_path / "tall.mp4", frames=2, rotate=90)
    flat = clips.make(tmp_path / "flat.mp4", frames=2, shape=Fraction(4, 3))
    monkeypatch.setattr(media, "facts", None)
    assert media.glance(plain) == ClipLook(width=320, height=180)
    assert media.glance(hlg) == ClipLook(width=320, height=180, hdr="HLG")
    assert media.glance(pq) == ClipLook(width=320, height=180, hdr="PQ")
    assert media.glance(glass) == ClipLook(width=320, height=180, alpha=True)
    assert media.glance(tall) == ClipLook(width=180, height=320)
    assert media.glance(flat) == ClipLook(width=427, height=180)
    with pytest.raises(MediaError, match="cut short"):
        media.glance(short)


def test_a_glance_decodes_the_first_frame_alone(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", frames=9, options={"bf": "0"})
    with av.open(str(clip)) as container:
        first = next(container.demux(video=0))
        assert first.pos is not None
        end = first.pos + first.size
    data = clip.read_bytes()
    clip.write_bytes(data[:end] + bytes(len(data) - end))
    assert media.glance(clip).width == 320
    with pytest.raises(MediaError):
        media.facts(clip, NONE)
