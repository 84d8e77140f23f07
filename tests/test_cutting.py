"""Which frames of each clip the film shows: one pure decision, its laws, and real films that keep to it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.core.errors import StoryboardError
from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import ClipFacts, Cut, Digest, FileStill, Film, Frame, ImageFacts, Shot, ShotFrame, ShotId
from klingflow.io import media
from klingflow.output.cutting import Clip, Join, Shown, cut_list, places
from tests import clips
from tests.cli import Project
from tests.joining import of

A, B, C = ShotId("a"), ShotId("b"), ShotId("c")
DIGESTS = {name: Digest(name[0] * 64) for name in (A, B, C)}
STILL = ImageFacts(digest=Digest("7" * 64), format="PNG", width=16, height=9, bytes=1)


def clip(name: str, frames: int = 24, rate: Fraction | int = 24, begins: tuple[int, ...] = ()) -> Clip:
    rate = Fraction(rate)
    base = 1 / (rate * 100)
    line = begins or tuple(100 * n for n in range(frames))
    seconds = (line[-1] + 100) * base
    facts = ClipFacts(
        digest=DIGESTS.get(ShotId(name), Digest("9" * 64)),
        bytes=1,
        width=16,
        height=9,
        frames=len(line),
        duration=f"{float(seconds):.3f}",
        rate=str(rate),
        audio=False,
    )
    return Clip(facts=facts, times=FrameTimes(base=base, begins=line, keys=line[:1], seconds=seconds, rate=rate))


def shot(name: ShotId, first: Frame | None = None, last: Frame | None = None, **fields: Any) -> Shot:
    return Shot(id=name, index=0, first_frame=first, last_frame=last, **fields)


def shown(film: Film, made: dict[ShotId, Clip], rate: int = 24, **rest: Any) -> tuple[Shown, ...]:
    digests = {name: one.facts.digest for name, one in made.items()}
    joined = places(film, digests, {"quay.png": STILL}, rest.pop("made_of", None))
    return cut_list(film, made, Fraction(rate), joined, rest.pop("repeats", None))


def parts(*of_film: Shown) -> list[tuple[str, int, int]]:
    return [(one.shot, one.first, one.end) for one in of_film]


def chain(frame: str, *cuts: Cut) -> Film:
    """`b` begins with a frame of `a`."""
    return of(*(cuts or (Cut(A), Cut(B))), shots=(shot(A), shot(B, ShotFrame(A, frame)), shot(C)))


MADE = {A: clip("a", 24), B: clip("b", 48), C: clip("c", 12)}


def test_the_frame_of_a_continued_join_is_shown_once() -> None:
    one, two = shown(chain("last"), MADE)
    assert parts(one, two) == [("a", 0, 24), ("b", 1, 48)]
    assert (one.film_start, one.film_end, two.film_start, two.film_end) == (0, 24, 24, 71)
    assert (two.dropped_at_head, two.join, two.start_s) == (1, Join.CONTINUES, Fraction(1, 24))
    assert (one.reason, two.reason) == ("", "the frame of 'a' that it begins with is shown once")
    assert parts(*shown(chain("last", Cut(A), Cut(C), Cut(B)), MADE)) == [("a", 0, 24), ("c", 0, 12), ("b", 0, 48)]


def test_of_a_clip_shorter_than_a_frame_of_the_film_a_frame_that_is_new_is_shown() -> None:
    _, two = shown(chain("last"), {**MADE, B: clip("b", 2, rate=40)})
    assert (two.first, two.end, two.picks) == (1, 2, (1,))


@pytest.mark.parametrize(("frame", "end"), [("-10", 15), ("-2", 23), ("0.5s", 13), ("0.99s", 24)])
def test_a_shot_that_begins_at_an_earlier_frame_ends_the_one_before_there(frame: str, end: int) -> None:
    one, two = shown(chain(frame), MADE)
    assert parts(one, two) == [("a", 0, end), ("b", 1, 48)]
    assert (one.film_end, two.film_start, two.join) == (end, end, Join.EARLIER)
    assert one.reason == (f"'b' begins at its frame {frame}" if end < 24 else "")
    assert one.dropped_at_tail == 24 - end


@pytest.mark.parametrize("frame", ["first", "-24", "0s"])
def test_a_shot_that_begins_with_the_first_frame_of_the_one_before_cuts_nothing(frame: str) -> None:
    assert parts(*shown(chain(frame), MADE)) == [("a", 0, 24), ("b", 0, 48)]


def test_an_earlier_frame_of_a_shot_that_is_not_right_before_cuts_nothing() -> None:
    assert parts(*shown(chain("-10", Cut(A), Cut(C), Cut(B)), MADE)) == [("a", 0, 24), ("c", 0, 12), ("b", 0, 48)]


def test_in_and_out_are_obeyed_to_the_frame() -> None:
    film = of(Cut(A, "3", "20"), Cut(B, "0.5s", "1.5s"), Cut(A, end="5"), Cut(C, "11"), Cut(C, end="900"))
    made = shown(film, MADE)
    assert parts(*made) == [("a", 3, 20), ("b", 12, 36), ("a", 0, 5), ("c", 11, 12), ("c", 0, 12)]
    assert [one.film_start for one in made] == [0, 17, 41, 46, 47]
    assert (made[1].start_s, made[1].dropped_at_head, made[1].dropped_at_tail) == (Fraction(1, 2), 12, 12)
    assert made[1].reason == "film.shots shows it from 0.5s to 1.5s"


def test_what_the_storyboard_cuts_weighs_more_than_the_joins() -> None:
    def both(frame: str, *cuts: Cut) -> list[tuple[str, int, int]]:
        return parts(*shown(chain(frame, *cuts), MADE))

    # The one before does not end with the frame: nothing is repeated.
    assert both("last", Cut(A, end="20"), Cut(B)) == [("a", 0, 20), ("b", 0, 48)]
    assert both("last", Cut(A, end="24"), Cut(B)) == [("a", 0, 24), ("b", 1, 48)]
    assert both("last", Cut(A), Cut(B, "0")) == [("a", 0, 24), ("b", 0, 48)]
    assert both("-10", Cut(A, end="20"), Cut(B)) == [("a", 0, 20), ("b", 0, 48)]
    assert both("-10", Cut(A, end="15"), Cut(B)) == [("a", 0, 15), ("b", 1, 48)]
    assert both("-10", Cut(A, "20"), Cut(B)) == [("a", 20, 24), ("b", 0, 48)]
    assert both("-10", Cut(A), Cut(B, "5", "9")) == [("a", 0, 15), ("b", 5, 9)]


def test_a_motion_that_is_repeated_is_cut_as_far_as_it_was_shown() -> None:
    film = chain("last")
    assert parts(*shown(film, MADE, repeats={1: 10}))[1] == ("b", 10, 48)
    assert parts(*shown(chain("last", Cut(A, end="20"), Cut(B)), MADE, repeats={1: 10}))[1] == ("b", 6, 48)
    assert parts(*shown(chain("last", Cut(A, end="10"), Cut(B)), MADE, repeats={1: 10}))[1] == ("b", 0, 48)
    assert shown(film, MADE, repeats={1: 10})[1].reason == "its first 10 frames repeat 'a'"
    assert parts(*shown(film, MADE, repeats={1: 400}))[1] == ("b", 47, 48), "something of every shot is shown"


def test_one_of_two_equal_stills_that_meet_is_shown() -> None:
    still = FileStill("quay.png")
    shots = (shot(A, last=still), shot(B, still), shot(C, FileStill("other.png")))
    one, two, three = shown(of(Cut(A), Cut(B), Cut(C), shots=shots), MADE)
    assert parts(one, two, three) == [("a", 0, 24), ("b", 1, 48), ("c", 0, 12)]
    assert (two.join, two.reason) == (Join.MEETS, "the still that 'a' ends with is shown once")
    assert parts(*shown(of(Cut(A), Cut(C), Cut(B), shots=shots), MADE))[2] == ("b", 0, 48)
    assert parts(*shown(of(Cut(A, end="23"), Cut(B), shots=shots), MADE))[1] == ("b", 0, 48)


def test_a_held_clip_is_joined_by_what_it_was_made_of() -> None:
    was = {"first_frame": f"last of {DIGESTS[C][:12]}"}
    assert parts(*shown(chain("last"), MADE, made_of={B: was}))[1] == ("b", 0, 48)
    assert parts(*shown(chain("last", Cut(C), Cut(B)), MADE, made_of={B: was}))[1] == ("b", 1, 48)
    assert parts(*shown(chain("last"), MADE, made_of={B: {"model": "x"}}))[1] == ("b", 1, 48)
    still = FileStill("quay.png")
    film = of(Cut(A), Cut(B), shots=(shot(A, last=still), shot(B, still)))
    assert parts(*shown(film, MADE, made_of={A: {"last_frame": "7" * 12}}))[1] == ("b", 1, 48)
    assert parts(*shown(film, MADE, made_of={A: {"last_frame": "8" * 12}}))[1] == ("b", 0, 48)


def test_a_frame_that_the_clip_does_not_have_is_an_error_at_its_place() -> None:
    with pytest.raises(StoryboardError) as late:
        shown(of(Cut(A), Cut(C, "12")), MADE)
    (problem,) = late.value.problems
    assert problem.span is not None
    assert problem.span.path == "film.yaml#film.shots.1.in"
    assert problem.what == "the clip of 'c' has 12 frames, none at 12"
    with pytest.raises(StoryboardError) as nothing:
        shown(of(Cut(A, "12", "0.5s")), MADE)
    (problem,) = nothing.value.problems
    assert problem.span is not None
    assert problem.span.path == "film.yaml#film.shots.0.out"
    assert problem.what == "'a' is shown from 12 to 0.5s: that is nothing"


RATES = [Fraction(24), Fraction(25), Fraction(30), Fraction(60), Fraction(12), Fraction(30000, 1001)]


@st.composite
def films(draw: st.DrawFn) -> tuple[Film, dict[ShotId, Clip], Fraction, dict[int, int]]:
    made, shots, cuts, before = {}, [], [], None
    same_rate = draw(st.sampled_from([None, *RATES]))
    for n in range(draw(st.integers(1, 6))):
        name = ShotId(f"s{n}")
        frames, rate = draw(st.integers(1, 40)), same_rate or draw(st.sampled_from(RATES))
        begins = [100 * i for i in range(frames)]
        if draw(st.integers(0, 4)) == 0:  # a phone's clip
            begins = sorted(draw(st.sets(st.integers(1, 4000), min_size=frames - 1, max_size=frames - 1)) | {0})
        one = clip(name, rate=rate, begins=tuple(begins))
        made[name] = Clip(facts=ClipFacts(**{**_fields(one.facts), "digest": Digest(f"{n}" * 64)}), times=one.times)
        kind = draw(st.sampled_from(["cut", "continues", "earlier", "time", "meets"])) if before else "cut"
        frame: Frame | None = {
            "cut": None,
            "continues": ShotFrame(before or name),
            "earlier": ShotFrame(before or name, f"-{draw(st.integers(2, 45))}"),
            "time": ShotFrame(before or name, f"{draw(st.integers(0, 2000)) / 1000:g}s"),
            "meets": FileStill("quay.png"),
        }[kind]
        shots.append(shot(name, frame, FileStill("quay.png") if draw(st.booleans()) else None))
        start, end = draw(st.none() | st.integers(0, frames - 1)), None
        if draw(st.booleans()):
            end = draw(st.integers((start or 0) + 1, 50))
        cuts.append(Cut(name, None if start is None else str(start), None if end is None else str(end)))
        before = name
    order = draw(st.permutations(cuts)) if draw(st.booleans()) else [*cuts, *draw(st.lists(st.sampled_from(cuts)))]
    repeats = draw(st.dictionaries(st.integers(1, 6), st.integers(1, 50)))
    return of(*order, shots=tuple(shots)), made, same_rate or draw(st.sampled_from(RATES)), repeats


def _fields(facts: ClipFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in ClipFacts.__slots__}


@given(films())
def test_the_laws_of_a_cut_list(drawn: tuple[Film, dict[ShotId, Clip], Fraction, dict[int, int]]) -> None:
    film, made, rate, repeats = drawn
    joined = places(film, {name: one.facts.digest for name, one in made.items()}, {"quay.png": STILL})
    whole = cut_list(film, made, rate, joined, repeats)
    assert [one.shot for one in whole] == [cut.shot for cut in film.cut]
    assert whole[0].film_start == 0
    assert all(one.film_end == two.film_start for one, two in pairwise(whole))
    for one, cut in zip(whole, film.cut, strict=True):
        count = len(made[one.shot].times.begins)
        assert 0 <= one.first < one.end <= count
        assert one.picks, "something of every shot is shown"
        assert all(one.first <= pick < one.end for pick in one.picks)
        assert list(one.picks) == sorted(one.picks)
        assert len(one.picks) == 1 or one.picks[-1] == one.end - 1
        assert (one.dropped_at_head, one.dropped_at_tail) == (one.first, count - one.end)
        assert cut.start is None or one.first == int(cut.start)
        assert cut.end is None or one.end == min(int(cut.end), count)
        times = made[one.shot].times
        if times.rate == rate and times.is_steady(rate):
            assert list(one.picks) == list(range(one.first, one.end))
    for n, (one, two) in enumerate(pairwise(whole), 1):
        times = made[one.shot].times
        at = times.index(joined[n].frame)
        if two.join is Join.EARLIER and film.cut[n - 1].end is None and at and at >= int(film.cut[n - 1].start or 0):
            assert one.end == at + 1
        last_shown = at is not None and one.end == at + 1
        if two.join is not Join.NONE and last_shown and film.cut[n].start is None and two.end > 1:
            assert two.first >= 1, "no frame is shown twice at a join"
            assert two.first == min(repeats.get(n, 1), two.end - 1)


# ---------------------------------------------------------------- real films


BOARD = """\
klingflow: 1
shots:
  - {id: one, clip: one.mp4}
  - {id: two, clip: two.mp4}
film:
  shots:
    - {shot: one, in: 6, out: 0.5s}
    - two
    - {shot: one, in: 20}
"""


def test_a_film_shows_the_parts_that_the_storyboard_names(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    project.write("film.yaml", BOARD)
    beep = clips.tone(0.5, 300, 0.0) + clips.tone(0.5, 1000)
    clips.make(project.root / "one.mp4", frames=24, sound=beep)
    clips.make(project.root / "two.mp4", frames=12, first=100, sound=clips.tone(0.5, 300, 0.0))
    ran = project.run("run", "film.yaml")
    assert ran.code == 0, ran.said
    film = project.root / "out/film/film.mp4"
    assert clips.numbers(film) == [*range(6, 12), *range(100, 112), *range(20, 24)]
    sound = clips.samples(film)
    loud = [max(abs(v) for v in sound[4000 * n + 1000 : 4000 * n + 3000]) > 0.2 for n in range(22)]
    assert loud == [False] * 18 + [True] * 4, "the sound goes with its picture"
    made = film.stat().st_mtime_ns
    assert project.run("run", "film.yaml", "--frozen").code == 0
    assert film.stat().st_mtime_ns == made
    project.write("film.yaml", BOARD.replace("in: 20", "in: 22"))
    assert project.run("film", "film.yaml").code == 0
    assert clips.numbers(film)[-3:] == [111, 22, 23]
    project.write("film.yaml", BOARD.replace("in: 20", "in: 24"))
    failed = project.run("run", "film.yaml")
    assert failed.code != 0
    assert "film.yaml:9:23: the clip of 'one' has 24 frames, none at 24" in failed.err
    assert "every clip is kept" in failed.err


def test_rehearsed_joins_show_each_frame_once(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    clips.picture(5, (640, 360)).save(project.root / "quay.png") if project.root.mkdir() is None else None
    project.write(
        "film.yaml",
        """\
klingflow: 1
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: Dawn.}
  - {id: pier, prompt: The pier., first_frame: {shot: dawn, frame: 2s}, last_frame: quay.png}
  - {id: quay, prompt: The quay., meets: pier}
""",
    )
    ran = project.run("run", "film.yaml")
    assert ran.code == 0, ran.said
    line = media.timeline(project.root / "out/film/film.mp4")
    assert len(line.begins) == 49 + 71 + 71
    assert media.timeline(project.root / "out/film/shots/dawn.mp4").rate == 24
