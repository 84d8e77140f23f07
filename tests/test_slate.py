"""What a film writes into an animatic's strip: number, title and the time in the film, and nothing else anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat

from klingflow.animatic import design
from klingflow.animatic.slate import Slate
from klingflow.core.model import Digest
from klingflow.io import media
from tests import clips
from tests.cli import Project
from tests.joining import Piece, assemble
from tests.shared import once
from tests.test_renderer import draw, inside, order, pictures, psnr, still

BOARD = """klingflow: 1
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, title: First light, prompt: Dawn.}
  - {id: pier, prompt: The pier.}
  - {id: own, clip: own.mp4, title: Not mine}
"""


def film(to: Path, slates: Sequence[tuple[Path, tuple[str, str] | None]], **how: object) -> list[Image.Image]:
    pieces = [Piece(clip=clip, facts=media.facts(clip, Digest("0" * 64)), slate=slate) for clip, slate in slates]
    assemble(pieces, to, **how)  # type: ignore[arg-type]
    return pictures(to)


def apart(a: Image.Image, b: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(a.convert("RGB"), b.convert("RGB"))).mean)


def shows_time(frame: Image.Image, n: int, rate: int = 24) -> bool:
    """Whether the time of frame `n` is in the frame: of all near times it is the likest."""
    at = design.Layout(*frame.size)
    x, y = at.film_time
    found = np.asarray(frame.crop((x + design.TIME_LEFT, y, x + 120, y + 20)).convert("RGB"), np.int16)
    near = range(max(0, n - 30), n + 30)
    off = np.abs(np.stack([written_time(n, rate) for n in near]) - found).mean(axis=(1, 2)).max(axis=1)
    return near[int(off.argmin())] == n and bool(off.min() < 4)


@cache
def written_time(n: int, rate: int) -> np.ndarray:
    time = Image.new("L", (120, 20), design.STRIP[0])
    design.write_time(time, (0, 0), n, rate, design.digits())
    return np.asarray(time.crop((design.TIME_LEFT, 0, 120, 20)).convert("RGB"), np.int16)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    def make(folder: Path) -> None:
        still("harbour/frames/dawn.png").save(folder / "a.png")
        draw(folder, order("dawn", frames={"first_frame": "a.png"}, duration=2), order("pier", duration=1))

    folder = once(tmp_path_factory, "drawn", make)
    return [folder / "0.mp4", folder / "1.mp4"]


def test_every_frame_has_the_films_own_time(tmp_path: Path, drawn: list[Path]) -> None:
    shown = film(tmp_path / "film.mp4", [(drawn[0], ("Shot 1", "First light")), (drawn[1], ("Shot 2", ""))])
    assert len(shown) == 72
    assert all(shows_time(frame, n) for n, frame in enumerate(shown))


def test_the_time_is_of_the_films_rate_also_where_a_frame_is_shown_twice(tmp_path: Path, drawn: list[Path]) -> None:
    shown = film(tmp_path / "film.mp4", [(drawn[1], ("Shot 1", "")), (drawn[1], ("Shot 2", ""))], rate=Fraction(48))
    assert len(shown) == 96
    assert all(shows_time(frame, n, 48) for n, frame in enumerate(shown))


def test_nothing_but_the_time_and_the_title_is_written(tmp_path: Path, drawn: list[Path]) -> None:
    shown = film(tmp_path / "film.mp4", [(drawn[0], ("Shot 1", "First light")), (drawn[1], ("Shot 2", "The pier"))])
    plain = film(tmp_path / "plain.mp4", [(drawn[0], None), (drawn[1], None)])
    at = design.Layout(*shown[0].size)
    x, y = at.film_time
    for with_slate, without in zip(shown, plain, strict=True):
        assert apart(with_slate.crop(at.title), without.crop(at.title)) > 1
        for frame in (with_slate, without):
            frame.paste(0, at.title)
            frame.paste(0, (x, y, x + 140, y + 20))
        assert psnr(with_slate, without) > 38


def test_the_decoder_keeps_its_own_frames(drawn: list[Path]) -> None:
    """What later frames are made from: were it written into, the words would stay where they are written no more."""
    slate = Slate("Shot 1", "First light", Fraction(24))
    untouched = [bytes(frame.planes[0]) for frame, _ in media.frames(drawn[0])]
    for n, (frame, _) in enumerate(media.frames(drawn[0])):
        if n < 10:
            assert bytes(slate.write(frame, n).planes[0]) != untouched[n]
        else:
            assert bytes(frame.planes[0]) == untouched[n]


def test_a_part_is_kept_by_all_that_is_written_into_it(tmp_path: Path, drawn: list[Path]) -> None:
    kept, clip = tmp_path / "kept", drawn[1]

    def parts(*slates: tuple[str, str] | None) -> int:
        film(tmp_path / "film.mp4", [(clip, slate) for slate in slates], kept=kept)
        return len(list(kept.glob("*.mp4")))

    one, two = ("Shot 1", "A"), ("Shot 2", "B")
    assert parts(one, two) == 2
    assert parts(one, two) == 2
    assert parts(one, two, ("Shot 3", "C")) == 3
    assert parts(one, ("Shot 2", "Other")) == 4
    assert parts(("Shot 2", "B"), one) == 6
    assert all(shows_time(frame, n) for n, frame in enumerate(pictures(tmp_path / "film.mp4")))


def test_a_long_title_is_cut_before_the_stamp(tmp_path: Path, drawn: list[Path]) -> None:
    shown = film(tmp_path / "film.mp4", [(drawn[1], ("Shot 1", "a very long title " * 30))])
    assert len(shown) == 24
    assert {design.stamp_of(frame) for frame in shown} == {design.CARD}


def test_a_clip_that_is_no_animatic_is_left_as_it_is(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "own.mp4", frames=6)
    shown = film(tmp_path / "film.mp4", [(clip, ("Shot 1", "Title")), (clip, ("Shot 2", ""))])
    plain = film(tmp_path / "plain.mp4", [(clip, None), (clip, None)])
    assert all(psnr(one, other) > 40 for one, other in zip(shown, plain, strict=True))


def test_a_title_and_the_order_are_in_the_film_and_in_no_clip(project: Project) -> None:
    clips.make(project.root / "own.mp4", frames=24)
    made = project.root / "out" / "film" / "film.mp4"

    def run(board: str) -> tuple[str, bytes, list[Image.Image]]:
        project.write("film.yaml", board)
        ended = project.run("run", "film.yaml")
        assert ended.code == 0, ended.said
        return ended.said, made.read_bytes(), pictures(made)

    _, first, frames = run(BOARD)
    assert all(shows_time(frame, n) for n, frame in enumerate(frames[:144]))
    kept = (project.root / "film.lock.yaml").read_bytes()

    said, retitled, again = run(BOARD.replace("First light", "Last light"))
    assert "0 clips made" in said
    at = design.Layout(*again[0].size)
    assert apart(again[9].crop(at.title), frames[9].crop(at.title)) > 0.5
    assert apart(again[99].crop(at.title), frames[99].crop(at.title)) < 0.5
    assert psnr(inside(again[9]), inside(frames[9])) > 42

    said, _, turned = run(BOARD + "film: {shots: [own, pier, dawn]}\n")
    assert "0 clips made" in said
    assert all(shows_time(frame, n) for n, frame in enumerate(turned) if n >= 24)
    assert (project.root / "film.lock.yaml").read_bytes() == kept

    assert run(BOARD)[1] == first != retitled


def test_a_title_that_no_film_shows_joins_nothing_again(project: Project) -> None:
    clips.make(project.root / "own.mp4", frames=24)
    board = "klingflow: 1\nshots:\n  - {id: a, clip: own.mp4, title: One}\n  - {id: b, clip: own.mp4}\n"
    made = project.root / "out" / "film" / "film.mp4"
    times = []
    for title in ("One", "Two"):
        project.write("film.yaml", board.replace("One", title))
        assert project.run("run", "film.yaml").code == 0
        times.append((made.stat().st_mtime_ns, made.stat().st_ino))
    assert times[0] == times[1]


def test_colour_below_the_words_stays_grey(tmp_path: Path, drawn: list[Path]) -> None:
    film(tmp_path / "film.mp4", [(drawn[0], ("Shot 1", "First light"))])
    with av.open(str(tmp_path / "film.mp4")) as file:
        frame = next(file.decode(video=0)).to_image()
    box = frame.crop(design.Layout(*frame.size).title)
    assert all(max(pixel) - min(pixel) <= 6 for _, pixel in box.getcolors(1 << 16) or ())  # type: ignore[arg-type]
