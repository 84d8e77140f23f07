"""A film is joined of parts: what did not change is not encoded again, and the join changes no frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from klingflow.core.digest import of_bytes
from klingflow.io import media
from klingflow.output import film as joining
from klingflow.output import parts
from tests import clips
from tests.joining import Piece, assemble


def piece(clip: Path, drop: int = 0) -> Piece:
    return Piece(clip=clip, facts=media.facts(clip, of_bytes(clip.read_bytes())), drop=drop)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts that were encoded."""
    names: list[str] = []
    real = parts.encode

    def encode(frames: Iterable[Any], to: Path, form: parts.Form, work: parts.Work) -> None:
        names.append(to.name)
        real(frames, to, form, work)

    monkeypatch.setattr(joining, "encode", encode)
    return names


def pixels(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def chain(folder: Path, frames: tuple[int, ...] = (30, 9, 1, 26)) -> list[Piece]:
    return [
        piece(clips.make(folder / f"{n}.mp4", frames=count + (n > 0), first=100 * n, sound=clips.tone(1)), n > 0)
        for n, count in enumerate(frames)
    ]


def test_a_film_shows_its_parts_pixel_for_pixel_and_in_time(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    made = chain(tmp_path)
    film = assemble(made, tmp_path / "film.mp4", kept=kept)
    assert film.frames == 66
    shown = [*range(30), *range(101, 110), 201, *range(301, 327)]
    assert clips.numbers(tmp_path / "film.mp4") == shown
    alone = {clips.numbers(part)[0]: pixels(part) for part in kept.glob("*.mp4")}
    assert pixels(tmp_path / "film.mp4") == [frame for first in (0, 101, 201, 301) for frame in alone[first]]
    with av.open(str(tmp_path / "film.mp4")) as container:
        (video,) = container.streams.video
        times = [packet.dts for packet in container.demux(video) if packet.dts is not None]
        assert times == sorted(set(times))
    line = media.timeline(tmp_path / "film.mp4")
    assert [(begin - line.begins[0]) * line.base for begin in line.begins] == [Fraction(n, 24) for n in range(66)]
    assert line.start_s == 0
    assert len(line.keys) == 4, "each part begins with a key frame"


def test_a_change_costs_the_encode_of_what_changed(tmp_path: Path, encoded: list[str]) -> None:
    kept = tmp_path / "kept"
    made = chain(tmp_path)
    assemble(made, tmp_path / "film.mp4", kept=kept)
    assert len(encoded) == 4
    first = (tmp_path / "film.mp4").read_bytes()
    encoded.clear()
    made[1] = piece(clips.make(tmp_path / "other.mp4", frames=10, first=700), True)
    assemble(made, tmp_path / "film.mp4", kept=kept)
    assert len(encoded) == 1
    assert clips.numbers(tmp_path / "film.mp4")[30:39] == list(range(701, 710))
    encoded.clear()
    made = [made[3], made[0], made[3], *chain(tmp_path)[1:]]
    assemble(made, tmp_path / "film.mp4", kept=kept)
    assert encoded == [], "another order, and what was there before, are joined of the same parts"
    assemble(chain(tmp_path), tmp_path / "film.mp4", kept=kept)
    assert (tmp_path / "film.mp4").read_bytes() == first
    assert encoded == []
    assemble(chain(tmp_path), tmp_path / "film.mp4", kept=kept, size=(160, 90))
    assert len(encoded) == 4
    assemble(chain(tmp_path), tmp_path / "film.mp4", kept=kept, rate=Fraction(25))
    assert len(encoded) == 8


def test_a_part_is_encoded_again_where_its_first_frame_is_shown_or_dropped_now(
    tmp_path: Path, encoded: list[str]
) -> None:
    one = clips.make(tmp_path / "1.mp4", frames=12)
    two = clips.make(tmp_path / "2.mp4", frames=12, first=50, options={"crf": "30"})
    for drop in (False, True):
        assemble([piece(one), piece(two, drop)], tmp_path / "film.mp4", kept=tmp_path / "kept")
        assert clips.numbers(tmp_path / "film.mp4") == [*range(12), *range(50 + drop, 62)]
    assert len(encoded) == 3


def test_clips_of_one_encoder_are_joined_as_they_are(tmp_path: Path, encoded: list[str]) -> None:
    tone = clips.tone(1)
    made = [piece(clips.make(tmp_path / f"{n}.mp4", frames=20 + n, first=100 * n, sound=tone)) for n in range(3)]
    film = assemble(made, tmp_path / "film.mp4", kept=tmp_path / "kept")
    assert encoded == []
    assert (film.frames, film.starts, film.audio) == (63, (0, 20, 41), True)
    assert packets(tmp_path / "film.mp4") == [packet for each in made for packet in packets(each.clip)]
    assert clips.numbers(tmp_path / "film.mp4") == [*range(20), *range(100, 121), *range(200, 222)]
    assert abs(len(clips.samples(tmp_path / "film.mp4")) // 2 - 63 * 2000) <= 1024


def test_a_clip_that_did_not_change_is_opened_for_its_packets_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = media._container

    def container(path: Path, *how: Any) -> Any:
        opened.append(path.name)
        return real(path, *how)

    made = [piece(clips.make(tmp_path / f"{n}.mp4", frames=8, first=100 * n)) for n in range(4)]
    cut = [Piece(clip=each.clip, facts=each.facts, drop=1) for each in made]
    monkeypatch.setattr(media, "_container", container)
    kept = tmp_path / "kept"

    def counts(pieces: list[Piece]) -> list[int]:
        """How often each clip is opened for a film."""
        del opened[:]
        assemble(pieces, tmp_path / "film.mp4", kept=kept)
        return [opened.count(f"{n}.mp4") for n in range(4)]

    # Joined as they are: each once for its packets, the first also for its header.
    counts(made[:3])
    assert counts([*made[:2], made[3]]) == [2, 1, 0, 4]
    # Joined of parts: the clips are not opened at all.
    counts(cut[:3])
    assert counts([*cut[:2], cut[3]]) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"options": {"crf": "23", "bf": "0"}},
        {"size": (318, 180)},
        {"rate": 25},
        {"matrix": 5},
        {"codec": "mpeg4"},
        {"times": [Fraction(n, 24) if n < 9 else Fraction(n, 12) for n in range(20)]},
    ],
    ids=str,
)
def test_clips_that_differ_are_encoded(tmp_path: Path, encoded: list[str], other: dict[str, Any]) -> None:
    made = [clips.make(tmp_path / "0.mp4", frames=20), clips.make(tmp_path / "1.mp4", frames=20, first=40, **other)]
    assemble([piece(clip) for clip in made], tmp_path / "film.mp4", size=(320, 180), rate=Fraction(24))
    assert len(encoded) == 2
    shown = clips.numbers(tmp_path / "film.mp4")
    assert (shown[:20], shown[20], shown[-1]) == (list(range(20)), 40, 59)


def cut_without_an_encode(clip: Path, frames: int, to: Path) -> Path:
    """What `ffmpeg -c copy` makes of the end of a clip, from the key frame at `frames`: without what needs more."""
    with av.open(str(clip)) as source, av.open(str(to), "w") as target:
        video = source.streams.video[0]
        track = target.add_stream_from_template(video)
        begin = frames * round(1 / (24 * video.time_base))
        for packet in source.demux(video):
            if packet.size and packet.pts is not None and packet.dts is not None and packet.pts >= begin:
                packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, track
                target.mux(packet)
    return to


def test_a_clip_that_begins_with_a_key_frame_which_leans_on_what_was_before_is_encoded(
    tmp_path: Path, encoded: list[str]
) -> None:
    coding = {"g": "12", "keyint_min": "12", "sc_threshold": "0", "x264-params": "open-gop=1"}
    one, other = (
        clips.make(tmp_path / f"{n}.mp4", frames=36, first=100 * n, size=(640, 360), options=coding) for n in (0, 1)
    )
    line = media.timeline(other)
    end = cut_without_an_encode(other, line.begins.index(line.keys[1]), tmp_path / "end.mp4")
    whole = clips.numbers(end)
    assemble([piece(one), piece(end)], tmp_path / "film.mp4")
    assert clips.numbers(tmp_path / "film.mp4") == [*range(36), *whole]
    assert len(encoded) == 2


def test_clips_with_headers_on_the_way_are_encoded(tmp_path: Path, encoded: list[str]) -> None:
    coding = {"x264-params": "repeat-headers=1"}
    made = [clips.make(tmp_path / f"{n}.mp4", frames=8, first=100 * n, options=coding) for n in range(2)]
    assemble([piece(clip) for clip in made], tmp_path / "film.mp4")
    assert len(encoded) == 2


def test_an_edit_list_is_obeyed_among_clips_of_one_encoder(tmp_path: Path, encoded: list[str]) -> None:
    one = clips.make(tmp_path / "1.mp4", frames=24)
    two = clips.edit(clips.make(tmp_path / "2.mp4", frames=24, first=100), skip=0.25)
    assemble([piece(one), piece(two)], tmp_path / "film.mp4")
    assert len(encoded) == 2
    assert clips.numbers(tmp_path / "film.mp4") == [*range(24), *range(106, 124)]


@pytest.mark.parametrize("damage", ["short", "empty", "other", "folder"])
def test_a_kept_part_that_is_damaged_is_encoded_again(tmp_path: Path, encoded: list[str], damage: str) -> None:
    kept = tmp_path / "kept"
    made = chain(tmp_path)
    assemble(made, tmp_path / "film.mp4", kept=kept)
    good = (tmp_path / "film.mp4").read_bytes()
    part = kept / encoded[0]
    if damage == "short":
        part.write_bytes(part.read_bytes()[:-200])
    elif damage == "empty":
        part.write_bytes(b"")
    elif damage == "other":
        part.write_bytes((kept / encoded[1]).read_bytes())
    else:
        part.unlink()
        part.symlink_to(tmp_path / "nowhere")
    name = encoded[0]
    encoded.clear()
    assemble(made, tmp_path / "film.mp4", kept=kept)
    assert encoded == [name]
    assert (tmp_path / "film.mp4").read_bytes() == good


def test_a_film_is_joined_also_where_no_part_can_be_kept(tmp_path: Path, encoded: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assemble(chain(tmp_path), tmp_path / "film.mp4", kept=tmp_path / "file" / "kept")
    assert len(encoded) == 4
    assert len(clips.numbers(tmp_path / "film.mp4")) == 66


def test_parts_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / str(n)).write_bytes(bytes(100))
        os.utime(tmp_path / str(n), (1000 + n, 1000 + n))
    os.utime(tmp_path / "0")
    parts.tidy(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3"]
    parts.tidy(tmp_path / "nowhere")


def test_what_fails_in_one_part_ends_the_others(tmp_path: Path) -> None:
    work = parts.Work()
    ended = []

    def endless() -> None:
        try:
            while True:
                work.count()
        except parts.Stopped:
            ended.append("stopped")
            raise

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work.run([endless, fails], lambda done: None)
    assert ended == ["stopped"]


def test_a_film_is_the_same_on_one_core_and_on_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = chain(tmp_path)
    films = []
    for cores in (1, 6):
        monkeypatch.setattr(parts.os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)), raising=False)
        assemble(made, tmp_path / "film.mp4")
        films.append((tmp_path / "film.mp4").read_bytes())
    assert films[0] == films[1]
