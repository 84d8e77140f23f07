"""The sound of a film is encoded in windows: what did not change is not encoded again, and nobody hears the seams."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from klingflow.core.digest import of_bytes
from klingflow.io import media
from klingflow.output import sound
from tests import clips
from tests.joining import Piece, assemble

SIZE = (32, 32)
LONG = 12 * 2000
ROOM = 1024
"""Samples that AAC leans over a seam."""


def noisy(seconds: float, number: int, level: float = 0.25) -> array[float]:
    """A tone and a little noise, of each number another one."""
    chance = random.Random(number)
    return array("f", (v + chance.uniform(-0.03, 0.03) for v in clips.tone(seconds, 300 + 70 * number, level)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Piece]:
    """Ten clips of LONG samples, with sound; one that is 64 frames (125 blocks) longer, one that is a frame longer."""
    folder = tmp_path_factory.mktemp("sound")

    def piece(number: int, frames: int) -> Piece:
        clip = folder / f"{number}.mp4"
        clips.make(clip, frames=frames, size=SIZE, sound=noisy(frames / 24, number))
        return Piece(clip=clip, facts=media.facts(clip, of_bytes(clip.read_bytes())))

    return [piece(n, 12) for n in range(10)] + [piece(10, 12 + 64), piece(11, 13)]


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first packet of each window that was encoded."""
    firsts: list[int] = []
    real = sound._encode

    def encode(source: Iterator[bytes], window: sound.Window, work: Any) -> list[bytes]:
        firsts.append(window.first)
        return real(source, window, work)

    monkeypatch.setattr(sound, "_encode", encode)
    return firsts


def joined(pieces: list[Piece], to: Path, **how: Any) -> bytes:
    assemble(pieces, to, size=(64, 64), **how)
    return to.read_bytes()


def forget_sound(kept: Path) -> None:
    for file in kept.glob("*.aac"):
        file.unlink()


def packets(film: Path) -> list[tuple[Any, ...]]:
    with av.open(str(film)) as container:
        return [(p.pts, p.duration, bytes(p)) for p in container.demux(audio=0) if p.size]


def distance(one: array[float], other: array[float], parts: list[tuple[int, int]]) -> float:
    """The mean square of the difference, over some spans of samples."""
    pairs = [(one[n], other[n]) for begin, end in parts for n in range(2 * begin, 2 * end)]
    return sum((a - b) ** 2 for a, b in pairs) / len(pairs)


def whole(spans: list[sound.Span]) -> list[sound.Window]:
    """The film in one window."""
    total = spans[-1].end
    return [sound.Window(first=0, last=-(-total // sound.BLOCK) + 1, total=total, spans=tuple(spans))]


def test_windows_are_one_encode_in_time_and_as_true_to_the_sound(
    made: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(made[:5], tmp_path / "windows.mp4")
    monkeypatch.setattr(sound, "_windows", whole)
    joined(made[:5], tmp_path / "one.mp4")
    windows, one = packets(tmp_path / "windows.mp4"), packets(tmp_path / "one.mp4")
    assert [packet[:2] for packet in windows] == [packet[:2] for packet in one]
    assert windows[:12] == one[:12], "the first window is the first part of one encode, to the bit"
    total = 5 * LONG
    assert sum(duration for _, duration, _ in windows) == total + sound.BLOCK
    heard = {name: clips.samples(tmp_path / f"{name}.mp4") for name in ("windows", "one")}
    true = array("f")
    for piece in made[:5]:
        true.frombytes(b"".join(media.sound(piece.clip, Fraction(0)))[: LONG * sound.SAMPLE])
    # The mix fades where clips meet, which `true` does not.
    seams = [(n * LONG + sound.FADE, n * LONG + sound.FADE + 4 * ROOM) for n in range(1, 5)]
    between = [(n * LONG + 5 * ROOM, (n + 1) * LONG - ROOM) for n in range(5)]
    for spans in (seams, between):
        assert distance(heard["windows"], true, spans) < 1.3 * distance(heard["one"], true, spans)
        assert distance(heard["windows"], heard["one"], spans) < 1.5 * distance(heard["one"], true, spans)


def test_one_window_is_what_ffmpegs_encoder_makes_of_the_sound(made: list[Piece], tmp_path: Path) -> None:
    joined(made[:1], tmp_path / "film.mp4")
    mixed = b"".join(sound._joined(iter([media.sound(made[0].clip, Fraction(0))])))[: LONG * sound.SAMPLE]
    mixed = b"".join(sound._joined(iter([iter([mixed])])))
    with av.open(str(tmp_path / "plain.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="stereo")
        stream.codec_context.bit_rate = sound.BIT_RATE
        container.mux(stream.encode(clips.audio_frame(array("f", mixed), "stereo")))
        container.mux(stream.encode(None))
    assert packets(tmp_path / "film.mp4") == packets(tmp_path / "plain.mp4")


def test_a_change_is_encoded_in_its_window_and_those_beside_it(
    made: list[Piece], tmp_path: Path, coded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    joined(made[:7], tmp_path / "film.mp4", kept=kept)
    assert len(coded) == 7
    coded.clear()
    opened: set[Path] = set()
    real = media.sound

    def listen(path: Path, origin: Fraction, *, bed: bool = False) -> Iterator[bytes]:
        opened.add(path)
        return real(path, origin, bed=bed)

    with monkeypatch.context() as patch:
        patch.setattr(media, "sound", listen)
        changed = [*made[:3], made[9], *made[4:7]]
        film = joined(changed, tmp_path / "film.mp4", kept=kept)
    begins = [0] + [-(-n * LONG // 1024) + 1 for n in range(1, 7)]
    assert sorted(coded) == begins[2:5]
    assert {int(path.stem) for path in opened} == {1, 2, 9, 4, 5}
    forget_sound(kept)
    assert joined(changed, tmp_path / "film.mp4", kept=kept) == film, "the same film, whatever was kept"
    joined(made[:7], tmp_path / "film.mp4", kept=kept)
    coded.clear()
    joined(made[:7], tmp_path / "film.mp4", kept=kept)
    assert coded == []


def test_what_follows_is_encoded_again_only_where_it_stands_elsewhere_among_the_blocks(
    made: list[Piece], tmp_path: Path, coded: list[int]
) -> None:
    kept = tmp_path / "kept"
    joined(made[:7], tmp_path / "film.mp4", kept=kept)
    for other, count in ((made[10], 3), (made[11], 5)):
        coded.clear()
        longer = [*made[:3], other, *made[4:7]]
        film = joined(longer, tmp_path / "film.mp4", kept=kept)
        assert len(coded) == count
        forget_sound(kept)
        assert joined(longer, tmp_path / "film.mp4", kept=kept) == film
        joined(made[:7], tmp_path / "film.mp4", kept=kept)


def test_a_bed_is_kept_in_its_place_and_decoded_once(
    made: list[Piece], tmp_path: Path, coded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    beds = 0
    real = media.sound

    def listen(path: Path, origin: Fraction, *, bed: bool = False) -> Iterator[bytes]:
        nonlocal beds
        beds += bed
        return real(path, origin, bed=bed)

    monkeypatch.setattr(media, "sound", listen)
    kept, bed = tmp_path / "kept", made[10].clip
    joined(made[:7], tmp_path / "film.mp4", kept=kept, audio=bed)
    assert (len(coded), beds) == (7, 1)
    coded.clear()
    changed = [*made[:3], made[9], *made[4:7]]
    film = joined(changed, tmp_path / "film.mp4", kept=kept, audio=bed)
    assert (len(coded), beds) == (3, 2)
    forget_sound(kept)
    assert joined(changed, tmp_path / "film.mp4", kept=kept, audio=bed) == film
    coded.clear()
    joined([*changed, made[9]], tmp_path / "film.mp4", kept=kept, audio=bed)
    assert len(coded) == 8, "where the bed fades out is another place now"
    coded.clear()
    joined(made[:7], tmp_path / "film.mp4", kept=kept, audio=made[11].clip)
    assert len(coded) == 7


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_kept_window_that_is_damaged_is_encoded_again(
    made: list[Piece], tmp_path: Path, coded: list[int], damage: str
) -> None:
    kept = tmp_path / "kept"
    good = joined(made[:3], tmp_path / "film.mp4", kept=kept)
    coded.clear()
    file = min(kept.glob("*.aac"))
    data = bytearray(file.read_bytes())
    if damage == "bit":
        data[100] ^= 1
    file.write_bytes({"cut": data[:-40], "bit": data, "empty": b""}[damage])
    assert joined(made[:3], tmp_path / "film.mp4", kept=kept) == good
    assert len(coded) == 1


def test_shots_shorter_than_a_block_are_heard_in_their_place(tmp_path: Path) -> None:
    # 800 samples a frame; all parts of one wave that never stops.
    wave = clips.tone(1, 480)
    clip = clips.make(tmp_path / "1.mp4", frames=60, rate=60, size=SIZE, sound=wave)
    short = clips.make(tmp_path / "2.mp4", frames=2, rate=60, size=SIZE, sound=wave)
    facts = [media.facts(file, of_bytes(file.read_bytes())) for file in (clip, short)]
    pieces = [
        Piece(clip=clip, facts=facts[0]),
        *(Piece(clip=short, facts=facts[1], drop=1) for _ in range(9)),
        Piece(clip=clip, facts=facts[0]),
    ]
    joined(pieces, tmp_path / "film.mp4")
    heard = clips.samples(tmp_path / "film.mp4")
    assert sum(duration for _, duration, _ in packets(tmp_path / "film.mp4")) == 129 * 800 + sound.BLOCK
    assert min(max(map(abs, heard[at : at + 200])) for at in range(0, 2 * 129 * 800 - 400, 200)) > 0.4


def test_windows_cover_all_packets_once_and_are_mixed_of_all_that_is_heard() -> None:
    chance = random.Random(1)
    for _ in range(50):
        ends = [0]
        for _ in range(chance.randrange(1, 30)):
            ends.append(ends[-1] + chance.choice((1, 700, 1024, 2000, 48000, 100_000)))
        spans = [
            sound.Span(clip=Path(f"{n}"), digest=str(n), origin=Fraction(0), start=start, end=end)
            for n, (start, end) in enumerate(pairwise(ends))
        ]
        windows = sound._windows(spans)
        assert [w.first for w in windows] == [0, *(w.last for w in windows[:-1])]
        assert windows[-1].last == -(-ends[-1] // 1024) + 1
        for w in windows:
            assert w.last > w.first
            assert 0 <= w.begin < w.end <= ends[-1]
            assert w.spans == tuple(s for s in spans if s.end > w.begin and s.start < w.end)


def test_a_stream_is_read_in_overlapping_parts() -> None:
    samples = bytes(range(256)) * 4000
    reader = sound._Reader(iter([samples[at : at + 24_000] for at in range(0, len(samples), 24_000)]))
    for begin, end in ((0, 9000), (9000 - sound._OVERLAP // 4, 30_000), (30_000, 30_001), (90_000, 128_000)):
        assert b"".join(reader.read(begin, end)) == samples[begin * 8 : end * 8]
