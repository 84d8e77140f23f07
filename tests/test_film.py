from __future__ import annotations

import math
import wave
from array import array
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from klingflow.core.digest import of_bytes
from klingflow.core.errors import MediaError
from klingflow.core.model import ClipFacts, Cut, Digest, ShotId
from klingflow.io import media
from klingflow.output.cutting import Sized, said_size, usual_rate, usual_size
from tests import clips
from tests.joining import Piece, assemble, of

NONE = Digest("0" * 64)


def piece(clip: Path, drop: int = 0) -> Piece:
    return Piece(clip=clip, facts=media.facts(clip, of_bytes(clip.read_bytes())), drop=drop)


def music(path: Path, seconds: float, level: float = 0.5) -> Path:
    sound = clips.tone(seconds, 220, level, 44100)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(array("h", (int(v * 32767) for v in sound)).tobytes())
    return path


def loudest(sound: array[float], start: float, end: float) -> float:
    return max(abs(v) for v in sound[2 * round(start * 48000) : 2 * round(end * 48000)])


def loudness(sound: array[float], start: float, end: float) -> float:
    """The peak of a sine of that power: AAC gives single peaks back too high, power it keeps."""
    part = sound[2 * round(start * 48000) : 2 * round(end * 48000)]
    return math.sqrt(2 * sum(v * v for v in part) / len(part))


def steepest(sound: array[float], start: float, end: float) -> float:
    left = sound[2 * round(start * 48000) : 2 * round(end * 48000) : 2]
    return max(abs(b - a) for a, b in pairwise(left))


def test_the_repeated_frame_of_a_continued_seam_is_shown_once(tmp_path: Path) -> None:
    pieces = [
        piece(clips.make(tmp_path / f"{i}.mp4", frames=30, first=i * 29, sound=clips.tone(1.3, 300)), i > 0)
        for i in range(3)
    ]
    film = assemble(pieces, tmp_path / "film.mp4")
    assert clips.numbers(tmp_path / "film.mp4") == list(range(88))
    assert (film.frames, film.starts, film.rate, film.duration) == (88, (0, 30, 59), "24", "3.667")
    assert film.audio
    assert not film.copied


def test_frames_at_a_cut_are_all_shown(tmp_path: Path) -> None:
    one, two = (clips.make(tmp_path / f"{i}.mp4", frames=12, first=i * 100) for i in range(2))
    film = assemble([piece(one), piece(two), piece(one)], tmp_path / "film.mp4")
    assert clips.numbers(tmp_path / "film.mp4") == [*range(12), *range(100, 112), *range(12)]
    assert not film.audio
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert not container.streams.audio


def test_the_film_is_tagged_faststart_and_the_same_every_time(tmp_path: Path) -> None:
    pieces = [piece(clips.make(tmp_path / f"{i}.mp4", frames=12, sound=clips.tone(0.5))) for i in range(2)]
    for name in ("a.mp4", "b.mp4"):
        assemble(pieces, tmp_path / name)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data == (tmp_path / "b.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        audio = container.streams.audio[0].codec_context
        assert (audio.name, audio.sample_rate, audio.layout.name) == ("aac", 48000, "stereo")


def test_clips_of_any_size_rate_and_turn_are_conformed(tmp_path: Path) -> None:
    def turned(number: int, size: tuple[int, int]) -> Image.Image:
        return clips.picture(number, (320, 180)).rotate(-90, expand=True)

    vp9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
    jpeg = {"codec": "mjpeg", "pixels": "yuvj420p", "tagged": False}
    made = [
        clips.make(tmp_path / "0.mp4", frames=12),
        clips.make(tmp_path / "1.mp4", frames=30, first=100, rate=60, size=(180, 320)),
        clips.make(tmp_path / "2.webm", frames=6, first=200, rate=12, size=(240, 240), **vp9),  # type: ignore[arg-type]
        clips.make(tmp_path / "3.mp4", frames=3, first=300, times=[Fraction(0), Fraction(1, 2), Fraction(3, 5)]),
        clips.make(tmp_path / "4.mp4", frames=12, first=400, size=(180, 320), rotate=90, draw=turned),
        clips.make(tmp_path / "5.mov", frames=12, first=500, shape=Fraction(1, 2), **jpeg),  # type: ignore[arg-type]
    ]
    film = assemble([piece(clip, i == 2) for i, clip in enumerate(made)], tmp_path / "film.mp4")
    assert (film.width, film.height, film.rate) == (320, 180, "24")
    ends = [*film.starts[1:], film.frames]
    bars = [None, (110, 0, 210, 180), (70, 0, 250, 180), None, None, (80, 0, 240, 180)]
    shown = [
        clips.numbers(tmp_path / "film.mp4", box)[start:end]
        for box, start, end in zip(bars, film.starts, ends, strict=True)
    ]
    assert shown[0] == list(range(12))
    assert (shown[1][0], shown[1][-1], len(shown[1])) == (100, 129, 12)
    assert shown[2] == [n for n in range(201, 206) for _ in range(2)]
    assert shown[3][:12] == [300] * 12
    assert shown[3][-1] == 302
    assert shown[4] == list(range(400, 412))
    assert shown[5] == list(range(500, 512))
    with av.open(str(tmp_path / "film.mp4")) as container:
        second = [frame.to_image() for frame in container.decode(video=0)][film.starts[1]]
    assert second.getpixel((20, 90)) == (0, 0, 0)


def shown(size: str, seconds: float = 5, rate: str = "24", ordered: int = 0) -> Sized:
    width, height = (int(side) for side in size.split("x"))
    duration = f"{seconds:.3f}"
    facts = ClipFacts(
        digest=NONE, bytes=1, width=width, height=height, frames=120, duration=duration, rate=rate, audio=False
    )
    return Sized(facts=facts, ordered=ordered)


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        ([shown("480x270"), shown("1920x1080", 1)], "1920x1080"),
        ([shown("1920x1080", 1), shown("480x270")], "1920x1080"),
        ([shown("480x270"), shown("1920x1080", ordered=1080)], "1920x1080"),
        # One's own is as large as what was ordered at most, and never smaller than it is for no reason.
        ([shown("3840x2160"), shown("1920x1080", ordered=1080)], "1920x1080"),
        ([shown("3840x2160"), shown("1280x720", ordered=1080)], "1920x1080"),
        ([shown("1600x900"), shown("960x540", ordered=1080)], "1600x900"),
        ([shown("3840x2160"), shown("3840x2160")], "3840x2160"),
        # The shape is that of what was ordered, then that of most of the film.
        ([shown("1080x1920", 60), shown("1920x1080", 5, ordered=1080)], "1920x1080"),
        ([shown("1080x1920", 5), shown("1920x1080", 60)], "1920x1080"),
        ([shown("720x1280", 5), shown("1920x1080", 5)], "1920x1080"),
        ([shown("1440x1440", 9, ordered=1080), *[shown("1080x1920", 5, ordered=1080)] * 2], "1080x1920"),
        ([shown("1000x1000", 8), shown("1918x1080", 5), shown("1280x720", 5)], "1918x1080"),
        ([shown("961x541")], "960x540"),
    ],
)
def test_the_size_of_the_film_is_that_of_what_was_ordered(pieces: list[Sized], size: str) -> None:
    assert "{}x{}".format(*usual_size(pieces)) == size
    assert "{}x{}".format(*usual_size(pieces[::-1])) == size


@pytest.mark.parametrize(
    ("pieces", "fields", "size"),
    [
        ([shown("480x270"), shown("1928x1076", ordered=1080)], {}, None),
        ([shown("480x270"), shown("1928x1076", ordered=1080)], {"size": (640, 360)}, (640, 360)),
        ([shown("480x270"), shown("1928x1076", ordered=1080)], {"resolution": "720p"}, (1280, 720)),
        ([shown("1080x1920", ordered=1080)], {"resolution": "4K"}, (2160, 3840)),
        ([shown("1920x1080", ordered=1080)], {"aspect": "9:16"}, (1080, 1920)),
        ([shown("1920x1080", ordered=1080)], {"aspect": "2.39:1"}, (2582, 1080)),
        ([shown("1920x1080", ordered=1080)], {"aspect": "1:1", "resolution": "720p"}, (720, 720)),
    ],
)
def test_the_storyboard_says_the_size_in_any_of_its_ways(
    pieces: list[Sized], fields: dict[str, Any], size: tuple[int, int] | None
) -> None:
    assert said_size(of(Cut(ShotId("a")), **fields), pieces) == size


@pytest.mark.parametrize(
    ("pieces", "rate"),
    [
        ([shown("64x64", 1, "30"), shown("64x64", 5, "25")], "25"),
        ([shown("64x64", 9, "30"), shown("64x64", 5, "24", ordered=720)], "24"),
        ([shown("64x64", 5, "30"), shown("64x64", 5, "24")], "30"),
        ([shown("64x64", 9, "431/30"), shown("64x64", 1, "30000/1001")], "30000/1001"),
        ([shown("64x64", 9, "2993/100"), shown("64x64", 5, "24")], "30000/1001"),
        ([shown("64x64", 9, "12")], "24"),
    ],
)
def test_the_rate_of_the_film_is_that_of_most_of_what_was_ordered(pieces: list[Sized], rate: str) -> None:
    assert str(usual_rate(pieces)) == str(usual_rate(pieces[::-1])) == rate


def test_what_the_storyboard_says_of_the_film_counts(tmp_path: Path) -> None:
    one = piece(clips.make(tmp_path / "1.mp4", frames=12, size=(64, 64)))
    film = assemble([one], tmp_path / "film.mp4", size=(128, 64), rate=Fraction(48))
    facts = media.facts(tmp_path / "film.mp4", NONE)
    assert (facts.width, facts.height, facts.rate, facts.frames) == (128, 64, "48", 24)
    assert (film.width, film.height, film.rate, film.copied) == (128, 64, "48", False)
    assert not assemble([one], tmp_path / "film.mp4", rate=Fraction(48)).copied
    assert not assemble([one], tmp_path / "film.mp4", size=(128, 64)).copied
    assert assemble([one], tmp_path / "film.mp4", size=(64, 64), rate=Fraction(24)).copied


def test_colours_of_another_matrix_are_converted(tmp_path: Path) -> None:
    def red(number: int, size: tuple[int, int]) -> Image.Image:
        return Image.new("RGB", size, (200, 60, 60))

    made = [clips.make(tmp_path / f"{m}.mp4", frames=6, draw=red, matrix=m, options={"crf": "4"}) for m in (1, 5)]
    assemble([piece(clip) for clip in made], tmp_path / "film.mp4")
    for frame in ("first", "last"):
        media.cut(tmp_path / "film.mp4", frame, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as image:
            got = image.getpixel((160, 90))
        assert all(abs(a - b) <= 3 for a, b in zip(got, (200, 60, 60), strict=True)), got


def test_the_common_rate_of_all_clips_is_kept(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    made = [clips.make(tmp_path / f"{i}.mp4", frames=15, first=15 * i, rate=rate) for i in range(2)]
    film = assemble([piece(clip) for clip in made], tmp_path / "film.mp4")
    assert (film.rate, media.facts(tmp_path / "film.mp4", NONE).rate) == ("30000/1001", "30000/1001")
    assert clips.numbers(tmp_path / "film.mp4") == list(range(30))


def test_sound_does_not_drift_over_ten_clips(tmp_path: Path) -> None:
    # Each clip's sound is longer than its picture; a beep at the start of each shows where it landed.
    beep = clips.tone(0.1, 1000) + array("f", bytes(8 * 48000))
    made = [clips.make(tmp_path / f"{i}.mp4", frames=11, sound=beep) for i in range(10)]
    film = assemble([piece(clip, i > 0) for i, clip in enumerate(made)], tmp_path / "film.mp4")
    sound = clips.samples(tmp_path / "film.mp4")
    assert film.frames == 101
    # The last block of AAC is filled up to 1024 samples.
    assert 0 <= len(sound) // 2 - 101 * 2000 <= 1024
    for start in film.starts:
        at = start / 24
        assert loudest(sound, at + 0.01, at + 0.05) > 0.4
        assert loudest(sound, at + 0.12, at + 0.4) < 0.02


def test_picture_and_sound_of_a_clip_stay_together_when_its_first_frame_is_dropped(tmp_path: Path) -> None:
    late = array("f", bytes(8 * 24000)) + clips.tone(0.1, 1000) + array("f", bytes(8 * 24000))
    one = clips.make(tmp_path / "1.mp4", frames=24, sound=late)
    assemble([piece(one), piece(one, True)], tmp_path / "film.mp4")
    sound = clips.samples(tmp_path / "film.mp4")
    begin = next(i // 2 for i in range(2 * 48000, len(sound)) if abs(sound[i]) > 0.05)
    assert abs(begin - (48000 + 24000 - 2000)) < 48


def test_joins_do_not_click(tmp_path: Path) -> None:
    # 437 Hz stops anywhere in its wave, and at full swing the jump would be up to 1.
    made = [
        clips.make(tmp_path / "1.mp4", frames=13, sound=clips.tone(1, 437)),
        clips.make(tmp_path / "2.mp4", frames=13, sound=array("f", clips.tone(1, 437)[200:])),
        clips.make(tmp_path / "3.mp4", frames=13),
        clips.make(tmp_path / "4.mp4", frames=13, sound=clips.tone(14 * 1024 / 48000, 437)),
    ]
    assemble([piece(clip) for clip in made], tmp_path / "film.mp4")
    sound = clips.samples(tmp_path / "film.mp4")
    assert len(sound) // 2 == pytest.approx(52 * 2000, abs=1024)
    own = steepest(sound, 0.2, 0.4)
    assert steepest(sound, 0.0, 52 / 24) < own * 1.6
    assert loudest(sound, 27 / 24, 38 / 24) < 0.01
    assert loudest(sound, 48 / 24, 51 / 24) < 0.01


def test_a_wave_that_goes_on_is_not_faded(tmp_path: Path) -> None:
    whole = clips.tone(2, 480)
    made = [
        clips.make(tmp_path / "1.mp4", frames=24, sound=whole),
        clips.make(tmp_path / "2.mp4", frames=24, sound=whole),
    ]
    assemble([piece(clip) for clip in made], tmp_path / "film.mp4")
    sound = clips.samples(tmp_path / "film.mp4")
    assert min(loudest(sound, at / 1000, at / 1000 + 0.0021) for at in range(985, 1015)) > 0.4


def test_a_music_bed_lies_under_the_sound_and_ends_with_the_film(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "1.mp4", frames=48, sound=clips.tone(1, 1000, 0.9))
    assemble([piece(clip)], tmp_path / "film.mp4", audio=music(tmp_path / "bed.wav", 9, 0.9))
    sound = clips.samples(tmp_path / "film.mp4")
    assert 0 <= len(sound) // 2 - 96000 <= 1024
    assert 0.85 < loudest(sound, 0.1, 0.9) < 0.95
    assert loudest(sound, 1.1, 1.4) == pytest.approx(0.9 * 0.4, abs=0.03)
    assert loudest(sound, 1.97, 2.0) < 0.02


def test_sound_of_any_layout_is_as_loud_in_the_film_as_in_its_clip(tmp_path: Path) -> None:
    wave = clips.tone(0.5, 440, 0.3)[::2]
    voices = {"mono": (1,), "stereo": (1, 1), "5.1": (0, 0, 1, 1, 0, 0), "7.1": (0, 0, 0, 0, 1, 1, 1, 1)}
    expected = {"mono": 0.3, "stereo": 0.3, "5.1": 0.212, "7.1": 0.424}
    for name, voice in voices.items():
        sound = array("f", (v * on for v in wave for on in voice))
        clips.make(tmp_path / f"{name}.mp4", frames=12, size=(64, 64), sound=sound, layout=name)
    film = assemble([piece(tmp_path / f"{name}.mp4") for name in voices], tmp_path / "film.mp4")
    heard = clips.samples(tmp_path / "film.mp4")
    for start, level in zip(film.starts, expected.values(), strict=True):
        assert loudness(heard, start / 24 + 0.1, start / 24 + 0.4) == pytest.approx(level, rel=0.05)


def test_peaks_are_limited_without_a_bed_and_in_a_film_of_one_clip(tmp_path: Path) -> None:
    full = array("f", (v for v in clips.tone(1, 440, 0.9)[::2] for _ in range(6)))
    clip = clips.make(tmp_path / "1.mp4", frames=24, size=(64, 64), sound=full, layout="5.1")
    for pieces in ([piece(clip)], [piece(clip), piece(clip)]):
        assert not assemble(pieces, tmp_path / "film.mp4").copied
        assert 0.85 < loudest(clips.samples(tmp_path / "film.mp4"), 0, 1) < 0.95


def test_a_short_bed_is_not_repeated_and_carries_a_silent_film_at_its_own_level(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "1.mp4", frames=48)
    film = assemble([piece(clip)], tmp_path / "film.mp4", audio=music(tmp_path / "bed.wav", 1, 0.6))
    sound = clips.samples(tmp_path / "film.mp4")
    assert film.audio
    assert loudest(sound, 0.1, 0.95) == pytest.approx(0.6, abs=0.05)
    assert loudest(sound, 1.05, 2.0) < 0.01
    assert clips.numbers(tmp_path / "film.mp4") == list(range(48))


def test_a_bed_without_sound_is_refused(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "1.mp4", frames=4)
    with pytest.raises(MediaError, match=r"1\.mp4 has no sound"):
        assemble([piece(clip)], tmp_path / "film.mp4", audio=clip)
    assert not (tmp_path / "film.mp4").exists()


def test_a_single_clip_is_delivered_without_an_encode(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "1.mp4", frames=24, sound=clips.tone(1), muxing={"movflags": "write_colr"})
    film = assemble([piece(clip)], tmp_path / "film.mp4")
    data = (tmp_path / "film.mp4").read_bytes()
    assert film.copied
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    assert clips.numbers(tmp_path / "film.mp4") == list(range(24))
    with av.open(str(clip)) as old, av.open(str(tmp_path / "film.mp4")) as new:
        assert [bytes(p) for p in old.demux(video=0)] == [bytes(p) for p in new.demux(video=0)]


@pytest.mark.parametrize("kind", ["turned", "edited", "odd", "long sound"])
def test_a_single_clip_that_needs_it_is_encoded(tmp_path: Path, kind: str) -> None:
    if kind == "edited":
        clip = clips.edit(clips.make(tmp_path / "1.mp4", frames=24), skip=0.25)
    elif kind == "odd":
        clip = clips.make(tmp_path / "1.mp4", frames=24, size=(321, 181), pixels="yuv444p")
    elif kind == "turned":
        clip = clips.make(tmp_path / "1.mp4", frames=24, rotate=90)
    else:
        clip = clips.make(tmp_path / "1.mp4", frames=24, sound=clips.tone(2))
    film = assemble([piece(clip)], tmp_path / "film.mp4")
    assert not film.copied
    sizes = {"turned": (180, 320)}
    assert (film.width, film.height) == sizes.get(kind, (320, 180))
    assert clips.numbers(tmp_path / "film.mp4")[-1] == (None if kind == "turned" else 23)
    assert film.frames == (18 if kind == "edited" else 24)


def test_a_film_that_is_stopped_leaves_the_old_one_whole(tmp_path: Path) -> None:
    made = [piece(clips.make(tmp_path / f"{i}.mp4", frames=24)) for i in range(2)]
    (tmp_path / "film.mp4").write_bytes(b"the old film")

    def stop(done: int, total: int) -> None:
        assert total == 48
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assemble(made, tmp_path / "film.mp4", progress=stop)
    assert (tmp_path / "film.mp4").read_bytes() == b"the old film"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.mp4", "1.mp4", "film.mp4"]


def test_a_clip_that_was_cut_short_since_is_refused(tmp_path: Path) -> None:
    made = [piece(clips.make(tmp_path / f"{i}.mp4", frames=24)) for i in range(2)]
    clips.shorten(made[1].clip, 0.6)
    with pytest.raises(MediaError, match=r"1\.mp4 is cut short"):
        assemble(made, tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


def test_clips_of_one_encoder_are_converted_where_their_colours_are_not_the_films(tmp_path: Path) -> None:
    one, two = (clips.make(tmp_path / f"{name}.mp4", frames=5, matrix=6) for name in "ab")
    assemble([piece(one), piece(two)], tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert film.streams.video[0].codec_context.colorspace == 1
