"""Timelines leave, are edited, and come back: the film's cut is then the edited one, to the frame."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest
from opentimelineio.opentime import RationalTime, TimeRange

from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import (
    ClipFacts,
    Cut,
    Digest,
    FileStill,
    Film,
    Frame,
    ImageFacts,
    Key,
    Shot,
    ShotFrame,
    ShotId,
)
from klingflow.core.source import Span
from klingflow.output import edl, fcpxml
from klingflow.output import otio as otio_files
from klingflow.output.cutting import Clip, Shown, cut_list, places
from klingflow.output.recut import Recut, kept, recut
from klingflow.output.timeline import Bed, Edited, Item, Source, Timeline, laid_out, reels

STILL = ImageFacts(digest=Digest("7" * 64), format="PNG", width=16, height=9, bytes=1)
FILM = Fraction(24)


def clip(name: str, frames: int, rate: Fraction | int = 24, *, take: int = 1, audio: bool = False) -> Clip:
    """A clip whose frames stand at equal distance."""
    rate = Fraction(rate)
    facts = ClipFacts(
        digest=Digest(f"{name}{take}".encode().hex().ljust(64, "0")),
        bytes=1,
        width=1920,
        height=1080,
        frames=frames,
        duration=f"{float(frames / rate):.3f}",
        rate=str(rate),
        audio=audio,
    )
    begins = tuple(1000 * n for n in range(frames))
    times = FrameTimes(base=1 / rate / 1000, begins=begins, keys=(0,), seconds=frames / rate, rate=rate)
    return Clip(facts=facts, times=times)


class Studio:
    """A film, its clips, and the way out and back."""

    def __init__(
        self,
        shots: Sequence[Shot],
        clips: Mapping[tuple[str, int], Clip],
        cut: Sequence[Cut] = (),
        rate: Fraction = FILM,
        bed: Bed | None = None,
    ) -> None:
        cut = tuple(cut) or tuple(Cut(shot.id) for shot in shots)
        self.film = Film(
            name="film",
            matrix={},
            title="Film",
            shots=tuple(shots),
            cut=cut,
            audio=None if bed is None else bed.path,
            where=lambda shot, field: Span("film.yaml", 1, 1, 2),
        )
        self.clips, self.rate, self.bed = clips, rate, bed

    def clip_of(self, shot: ShotId, take: int) -> Clip | None:
        return self.clips.get((shot, take))

    def cut_list(self, cut: Sequence[Cut], takes: Mapping[ShotId, int]) -> tuple[Shown, ...]:
        film = replace(self.film, cut=tuple(cut))
        made = {s.id: self.clips[s.id, n] for s in film.shots if (s.id, n := takes.get(s.id, s.take)) in self.clips}
        stand_ins = {s.id: clip(s.id, s.duration * 24) for s in film.shots if s.id not in made}
        joined = places(film, {name: one.facts.digest for name, one in made.items()}, {"quay.png": STILL})
        return cut_list(film, made | stand_ins, self.rate, joined)

    def timeline(self, cut: Sequence[Cut] = (), takes: Mapping[ShotId, int] | None = None) -> Timeline:
        takes = takes or {}
        sources = {
            shot.id: Source(take=take, key=Key("5" * 64), clip=one, path=_path(shot, take))
            for shot in self.film.shots
            if (take := takes.get(shot.id, shot.take)) and (one := self.clip_of(shot.id, take)) is not None
        }
        shown = self.cut_list(cut or self.film.cut, takes)
        return laid_out(self.film, shown, sources, rate=self.rate, size=(1920, 1080), bed=self.bed)

    def recut(self, edited: Edited) -> Recut:
        bed = self.bed.seconds if self.bed else None
        return recut(self.film, edited, rate=self.rate, clip_of=self.clip_of, cut_list=self.cut_list, bed=bed)


def _path(shot: Shot, take: int) -> str:
    return f"shots/{shot.id}.mp4" if take == shot.take else f"shots/{shot.id}.take{take}.mp4"


def shot(name: str, first: Frame | None = None, last: Frame | None = None, **fields: object) -> Shot:
    return Shot(id=ShotId(name), index=0, first_frame=first, last_frame=last, **fields)  # type: ignore[arg-type]


def back(text: str, kind: str, tmp: Path, rate: Fraction = FILM) -> Edited:
    if kind == "edl":
        return edl.read(text, "film.edl", rate)
    if kind == "fcpxml":
        return fcpxml.read(text, "film.fcpxml")
    file = tmp / "film.otio"
    file.write_text(text, encoding="utf-8")
    return otio_files.read(file)


DUMP = {"otio": otio_files.dump, "edl": edl.dump, "fcpxml": fcpxml.dump}
RATES = [Fraction(24), Fraction(25), Fraction(30), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)]


def random_studio(rng: random.Random, *, mixed: bool = False) -> Studio:
    """Chains, met stills, earlier frames, text-only shots, some of them in the film twice or only in part."""
    rate = rng.choice(RATES)
    shots: list[Shot] = []
    clips: dict[tuple[str, int], Clip] = {}
    for n in range(rng.randint(1, 7)):
        before = shots[-1].id if shots else None
        frame = rng.choice(["last", "-10", "first", "1s"])
        first = rng.choice([None, FileStill("quay.png"), ShotFrame(before, frame) if before else None])
        shots.append(shot(f"s{n}", first, rng.choice([None, FileStill("quay.png")]), take=rng.choice([1, 1, 2])))
        own = rng.choice([one for one in RATES if one >= rate]) if mixed else rate
        if rng.random() < 0.9:
            clips[shots[-1].id, shots[-1].take] = clip(shots[-1].id, rng.randint(20, 60), own)
    cut = []
    for one in rng.choices(shots, k=rng.randint(1, 9)):
        made = clips.get((one.id, one.take))
        count = made.facts.frames if made else 20
        first, end = sorted(rng.sample(range(count + 1), 2))
        cut.append(Cut(one.id, rng.choice([None, str(first)]), rng.choice([None, str(end)])))
    return Studio(shots, clips, rng.choice([(), cut]), rate)


def frames_of(shown: Sequence[Shown]) -> list[tuple[str, int, int]]:
    return [(one.shot, one.first, one.end) for one in shown]


@pytest.mark.parametrize("kind", ["otio", "edl", "fcpxml"])
def test_a_timeline_that_nobody_edited_changes_nothing(kind: str, tmp_path: Path) -> None:
    for seed in range(60):
        studio = random_studio(random.Random(seed), mixed=seed % 2 == 1)
        edited = back(DUMP[kind](studio.timeline()), kind, tmp_path, studio.rate)
        found = studio.recut(edited)
        assert (found.cut, found.takes, found.lost) == (studio.film.cut, {}, ()), seed


def trimmed(child: otio.schema.Clip, rng: random.Random) -> None:
    """As an editor's program trims: within the media, whole frames of it."""
    own = child.media_reference.available_range.duration
    start = rng.randrange(int(own.value))
    frames = rng.randint(1, int(own.value) - start)
    child.source_range = TimeRange(RationalTime(start, own.rate), RationalTime(frames, own.rate))


def test_200_random_edits_come_back_to_the_frame(tmp_path: Path) -> None:
    """Trims, another order, removals and repeats; what is brought back is shown so, and leaves and comes back again."""
    for seed in range(200):
        rng = random.Random(seed)
        studio = random_studio(rng)
        file = tmp_path / "film.otio"
        file.write_text(otio_files.dump(studio.timeline()), encoding="utf-8")
        timeline = otio.adapters.read_from_file(str(file))
        track = timeline.tracks[0]
        items = [child.deepcopy() for child in track]
        for _ in range(rng.randint(1, 6)):
            match rng.choice(["trim", "move", "remove", "repeat"]):
                case "trim":
                    chosen = rng.choice(items)
                    if isinstance(chosen, otio.schema.Clip):
                        trimmed(chosen, rng)
                case "move":
                    items.insert(rng.randrange(len(items)), items.pop(rng.randrange(len(items))))
                case "remove" if len(items) > 1:
                    del items[rng.randrange(len(items))]
                case "repeat":
                    items.insert(rng.randint(0, len(items)), rng.choice(items).deepcopy())
        track[:] = items
        wanted = []
        for child in items:
            name = child.metadata["klingflow"]["shot"]
            if isinstance(child, otio.schema.Clip):
                first = round(child.source_range.start_time.value)
                wanted.append((name, first, first + round(child.source_range.duration.value)))
            else:
                wanted.append((name, None, None))
        otio.adapters.write_to_file(timeline, str(file))
        found = studio.recut(otio_files.read(file))
        assert found.lost == ()
        shown = studio.cut_list(found.cut, found.takes)
        unmade = {one.id for one in studio.film.shots if studio.clip_of(one.id, one.take) is None}
        made = [(one.shot, None, None) if one.shot in unmade else (one.shot, one.first, one.end) for one in shown]
        assert made == wanted, seed
        kind = list(DUMP)[seed % 3]
        leaving = studio.timeline(found.cut)
        other = studio.recut(back(DUMP[kind](leaving), kind, tmp_path, studio.rate))
        assert frames_of(studio.cut_list(other.cut, {})) == frames_of(shown), (seed, kind)
        studio.film = replace(studio.film, cut=found.cut)
        again = studio.recut(back(DUMP[kind](leaving), kind, tmp_path, studio.rate))
        assert (again.cut, again.lost) == (found.cut, ()), (seed, kind)


def test_clips_of_other_rates_come_back_to_the_frame_of_the_film(tmp_path: Path) -> None:
    """What is shown begins with the very frame, and lasts as many frames of the film."""
    for seed in range(60):
        rng = random.Random(seed)
        studio = random_studio(rng, mixed=True)
        cut = [replace(one) for one in studio.film.cut]
        for n, one in enumerate(cut):
            made = studio.clip_of(one.shot, studio.film.shot(one.shot).take)
            if made is not None:
                first, end = sorted(rng.sample(range(made.facts.frames + 1), 2))
                cut[n] = Cut(one.shot, str(first), str(end))
        rng.shuffle(cut)
        wanted = studio.cut_list(cut, {})
        for kind in ("otio", "fcpxml"):
            found = studio.recut(back(DUMP[kind](studio.timeline(cut)), kind, tmp_path, studio.rate))
            shown = studio.cut_list(found.cut, {})
            assert found.lost == ()
            assert [(one.shot, one.first, len(one.picks)) for one in shown] == [
                (one.shot, one.first, len(one.picks)) for one in wanted
            ], (seed, kind)


def gapped(*items: Item) -> Edited:
    return Edited(rate=FILM, picture=items)


def item(name: str, at: int, frames: int, start: int = 0) -> Item:
    return Item(at=at / FILM, seconds=frames / FILM, name=name, media=f"{name}.mp4", start=start / FILM)


def test_a_gap_is_the_shot_that_is_not_made_as_long_as_that_can_be_known() -> None:
    shots = [shot("a"), shot("b", duration=3), shot("c", duration=4)]
    studio = Studio(shots, {("a", 1): clip("a", 48)})
    nameless = [Item(at=Fraction(at), seconds=Fraction(s), name="", gap=True) for at, s in ((2, 4), (6, 3), (9, 1))]
    found = studio.recut(gapped(item("a", 0, 48), *nameless))
    assert found.cut == (Cut(ShotId("a")), Cut(ShotId("c")), Cut(ShotId("b")))
    assert [(one.at, one.what) for one in found.lost] == [(9, "a gap of 1 s: a film has none, it is left out")]
    shorter = Item(at=Fraction(0), seconds=Fraction(1), name="b, not made", gap=True)
    found = studio.recut(gapped(shorter))
    assert found.cut == (Cut(ShotId("b")),)
    assert [one.what for one in found.lost] == ["that 'b', which is not made, has 1 s here"]
    # Made since the timeline was written.
    studio = Studio(shots, {("a", 1): clip("a", 48), ("b", 1): clip("b", 73)})
    assert studio.recut(gapped(replace(shorter, seconds=Fraction(3)))).cut == (Cut(ShotId("b")),)


def test_a_timeline_of_an_older_take_says_so() -> None:
    studio = Studio([shot("a", take=2)], {("a", 2): clip("a", 48, take=2)})
    old = replace(item("a", 0, 48), labels=("a take 1 key 51ab12cd3344 #night",))
    found = studio.recut(gapped(old))
    assert found.cut == (Cut(ShotId("a")),)
    assert [one.what for one in found.lost] == [
        "take 1 of 'a', which counted when this was exported: now take 2 does"
    ]
    assert studio.recut(gapped(replace(old, labels=("a take 2 key 51ab12cd3344", "a note")))).lost == ()


def test_a_clip_is_shown_no_longer_than_it_lasts() -> None:
    studio = Studio([shot("a")], {("a", 1): clip("a", 48)})
    found = studio.recut(gapped(item("a", 0, 60, 12)))
    assert found.cut == (Cut(ShotId("a"), "12"),)
    assert [one.what for one in found.lost] == [
        "'a' is shown for 1 s longer than its clip lasts: it ends where the clip does"
    ]


def test_an_entry_says_a_frame_only_where_the_film_would_show_another() -> None:
    """The join of a and b drops a frame; alone, b would begin with it."""
    a, b = ShotId("a"), ShotId("b")
    studio = Studio([shot("a"), shot("b", ShotFrame(a))], {("a", 1): clip("a", 48), ("b", 1): clip("b", 48)})
    assert studio.recut(gapped(item("b", 0, 47, 1))).cut == (Cut(b, "1"),)
    assert studio.recut(gapped(item("b", 0, 48, 0))).cut == (Cut(b),)
    assert studio.recut(gapped(item("a", 0, 48), item("b", 48, 48, 0))).cut == (Cut(a), Cut(b, "0"))
    assert studio.recut(gapped(item("a", 0, 40), item("b", 40, 47, 1))).cut == (Cut(a, None, "40"), Cut(b, "1"))


def test_what_is_kept_is_the_equal_entry_and_then_one_of_the_same_shot() -> None:
    a, b, c = Cut(ShotId("a")), Cut(ShotId("b")), Cut(ShotId("c"))
    assert kept([a, b, c], [a, b, c]) == [0, 1, 2]
    assert kept([a, b, c], [c, a, b]) == [2, 0, 1]
    assert kept([a, b, a], [b, a]) == [1, 2]
    assert kept([a, b], [a, replace(b, start="3"), b]) == [0, None, 1]
    assert kept([a, b], [replace(b, start="3"), a]) == [1, 0]


def test_timecode_that_drops_numbers_is_read_as_the_frame_that_it_names() -> None:
    rate = Fraction(30000, 1001)
    codes = ("00:00:59;29", "00:01:00;02", "00:09:59;29", "00:10:00;00", "00:01:00:02")
    assert [edl.frame_of(code, rate) for code in codes] == [1799, 1800, 17981, 17982, 1802]
    assert edl.frame_of("00:01:00;04", Fraction(60000, 1001)) == 3600


def test_no_two_tapes_have_one_name_and_none_that_of_black() -> None:
    names = ["bl", "ax", "harbour-one", "harbour-two", "…"]
    assert list(reels(names).values()) == ["BL2", "AX2", "HARBOURO", "HARBOURT", "CLIP"]
    assert list(reels(["harbour-12", "harbour-1b"]).values()) == ["HARBOUR1", "HARBOUR2"]
