"""An edited timeline -> the film's cut as a storyboard says it: which shots, from which frame to which, in which take.

An entry says no more than it must: where the film shows the same frames without `in` or `out`, none is written, and an
entry whose frames are what they were stays as it is. What a storyboard cannot say is named with its place. Pure.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fractions import Fraction
from functools import partial

from klingflow.core.model import Cut, Film, ShotId
from klingflow.output.cutting import Clip, Shown
from klingflow.output.timeline import HOUR_S, NONE_YET, Edited, Item, Lost, read_label, source_frame

Takes = Mapping[ShotId, int]
CutList = Callable[[Sequence[Cut], Takes], Sequence[Shown]]
"""What a film of this cut and these takes would show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A clip on the timeline that is none of the storyboard's."""

    at: Fraction
    media: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recut:
    """What an edited timeline asks of the storyboard."""

    cut: tuple[Cut, ...]
    takes: Mapping[ShotId, int]
    """Shots of which another take is used than the one that counts now."""
    lost: tuple[Lost, ...]
    """In the order of time."""
    foreign: tuple[Foreign, ...] = ()
    """Where there are some, nothing else is worth anything."""
    split: tuple[Lost, ...] = ()
    """Places at which a shot is used in another take than at an earlier place; likewise."""


def recut(
    film: Film,
    edited: Edited,
    *,
    rate: Fraction,
    clip_of: Callable[[ShotId, int], Clip | None],
    cut_list: CutList,
    bed: Fraction | None,
) -> Recut:
    """The cut and the takes that show what an edited timeline shows.

    `rate` is the film's, `clip_of` the clip of a shot's take, None where it is not made; `bed` how long the music bed
    is, in seconds, None where the film has none."""
    found = [(item, _meant(film, item)) for item in edited.picture]
    lost = list(edited.lost)
    foreign = tuple(
        Foreign(at=item.at, media=item.media or item.name) for item, meant in found if meant is None and not item.gap
    )
    if foreign:
        return Recut(cut=(), takes={}, lost=(), foreign=foreign)
    takes: dict[ShotId, int] = {}
    split = []
    for item, meant in found:
        if meant is not None and not item.gap and takes.setdefault(*meant) != meant[1]:
            what = f"'{meant[0]}' is used in take {meant[1]} here, and in take {takes[meant[0]]} before"
            split.append(Lost(at=item.at, what=what))
    if split:
        return Recut(cut=(), takes={}, lost=(), split=tuple(split))
    shots = film.by_id()
    lost += _outdated(film, found)
    other = {shot: take for shot, take in takes.items() if take != shots[shot].take}
    before = tuple(cut_list(film.cut, {}))
    places, more = _wanted(film, edited, found, before, rate, clip_of, other)
    lost += more
    cut = _solved(places, film, lambda cuts: cut_list(cuts, other))
    for place, shown in zip(places, cut_list(cut, other) if cut else (), strict=True):
        if place.frames and len(shown.picks) != place.frames:
            what = f"that '{place.shot}' lasts {place.frames} frames: of its clip's own, {len(shown.picks)} are nearest"
            lost.append(Lost(at=place.at, what=what))
    lost += _sound(film, edited, found, rate, clip_of, other, bed)
    return Recut(cut=cut, takes=other, lost=tuple(sorted(lost, key=lambda one: one.at)))


# -- what is meant ----------------------------------------------------------------------------------------------------


def _meant(film: Film, item: Item) -> tuple[ShotId, int] | None:
    """The shot and take that an item shows: by its file's name, wherever that lies; a shot's own clip by its own; and
    where no file is named (in a gap, or media offline) by the item's name or its marker."""
    shots = film.by_id()
    for label in filter(None, map(read_label, item.labels)) if item.media is None else ():
        if label[0] in shots:
            return ShotId(label[0]), label[1]
    name = (item.media or item.name).replace("\\", "/").rpartition("/")[2]
    if item.media is None:
        name = name.removesuffix(NONE_YET)
    own = [shot for shot in film.shots if shot.clip is not None and shot.clip.rpartition("/")[2] == name]
    if len(own) == 1:
        return own[0].id, own[0].take
    for stem in (name, name.rpartition(".")[0]):
        for known in (stem, stem.lower()):
            shot, _, take = known.partition(".take")
            if shot in shots and (take.isdecimal() or not take):
                return ShotId(shot), int(take) if take else shots[ShotId(shot)].take
    return None


def _outdated(film: Film, found: Sequence[tuple[Item, tuple[ShotId, int] | None]]) -> list[Lost]:
    """Clips of which another take counted when the timeline was exported: their files have the same name."""
    shots = film.by_id()
    lost = []
    for item, meant in found:
        label = next(filter(None, map(read_label, item.labels)), None)
        if meant is None or item.gap or label is None or label[0] != meant[0] or ".take" in (item.media or ""):
            continue
        if label[1] != shots[meant[0]].take:
            what = f"take {label[1]} of '{meant[0]}', which counted when this was exported: now take {meant[1]} does"
            lost.append(Lost(at=item.at, what=what))
    return lost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What the film shall show at one place; `first` and `end` None for all of a shot that is not made."""

    shot: ShotId
    first: int | None = None
    end: int | None = None
    same: int | None = None
    """The place of the film as it is that shows the very same."""
    at: Fraction = Fraction(0)
    frames: int = 0
    """Where, and for how many of the film's frames, it is on the timeline; 0 where that does not matter."""


def _wanted(
    film: Film,
    edited: Edited,
    found: Sequence[tuple[Item, tuple[ShotId, int] | None]],
    before: Sequence[Shown],
    rate: Fraction,
    clip_of: Callable[[ShotId, int], Clip | None],
    takes: Takes,
) -> tuple[list[_Place], list[Lost]]:
    shots = film.by_id()
    unmade = {shot.id for shot in film.shots if clip_of(shot.id, shot.take) is None}
    named = {meant[0] for _, meant in found if meant is not None}
    places: list[_Place] = []
    lost: list[Lost] = []
    used: set[int] = set()

    def standing(fits: Callable[[Shown], bool]) -> int | None:
        """The first place of the film as it is that fits; if there is one, one that nothing else was found for."""
        fitting = [n for n, one in enumerate(before) if fits(one)]
        found = next((n for n in fitting if n not in used), next(iter(fitting), None))
        used.update(fitting if found is None else (found,))
        return found

    for item, meant in found:
        frames = round(item.seconds * rate)
        if meant is None:  # a gap without a name, as some programs write them back
            n = standing(partial(_lasts, unmade - named, frames))
            if n is None:
                lost.append(Lost(at=item.at, what=f"a gap of {_said(item.seconds)}: a film has none, it is left out"))
            else:
                places.append(_Place(shot=before[n].shot, same=n))
            continue
        shot, take = meant
        clip = clip_of(shot, take)
        if clip is None:
            n = standing(partial(_lasts, {shot}, frames))
            if n is None and frames != round(shots[shot].duration * rate):
                what = f"that '{shot}', which is not made, has {_said(item.seconds)} here"
                lost.append(Lost(at=item.at, what=what))
                n = standing(partial(_lasts, {shot}, None))
            places.append(_Place(shot=shot, same=n))
            continue
        if item.gap:  # it was made since
            places.append(_Place(shot=shot))
            continue
        begins = item.start
        if begins >= clip.times.seconds:  # a copy of the clip, with a timecode of its own
            begins -= begins // HOUR_S * HOUR_S
        start = begins * clip.times.rate
        same = None if shot in takes else standing(partial(_is, shot, clip, start, frames, rate, edited.coarse))
        if same is not None:
            places.append(
                _Place(shot=shot, first=before[same].first, end=before[same].end, same=same, at=item.at, frames=frames)
            )
            continue
        first, end, missing = _frames(clip, begins, Fraction(frames) / rate, rate)
        if missing:
            what = f"'{shot}' is shown for {_said(missing)} longer than its clip lasts: it ends where the clip does"
            lost.append(Lost(at=item.at, what=what))
            frames = 0
        places.append(_Place(shot=shot, first=first, end=end, at=item.at, frames=frames))
    return places, lost


def _lasts(shots: Collection[ShotId], frames: int | None, one: Shown) -> bool:
    return one.shot in shots and frames in (None, len(one.picks))


def _is(shot: ShotId, clip: Clip, start: Fraction, frames: int, rate: Fraction, coarse: bool, one: Shown) -> bool:
    """Whether an item shows what a place of the film shows."""
    slack = max(Fraction(1, 2), clip.times.rate / rate / 2) if coarse else Fraction(1, 2)
    return one.shot == shot and len(one.picks) == frames and abs(start - source_frame(clip, one.first)) <= slack


def _frames(clip: Clip, start: Fraction, seconds: Fraction, rate: Fraction) -> tuple[int, int, Fraction]:
    """The frames of a clip from the one that begins nearest to `start` seconds on, for about so many seconds; and how
    many seconds are not there."""
    times = clip.times
    count = len(times.begins)
    first = min(max(0, _nearest(clip, start)), count - 1)
    end = min(max(first + 1, _nearest(clip, start + seconds)), count)
    missing = start + seconds - times.seconds
    return first, end, missing if missing > 1 / min(rate, times.rate) else Fraction(0)


def _nearest(clip: Clip, seconds: Fraction) -> int:
    """The frame that begins nearest to a second of the clip; their number where that is its end."""
    times = clip.times
    if times.is_steady(times.rate):
        return round(seconds * times.rate)
    begins: list[Fraction] = [*map(Fraction, times.begins), times.begins[0] + times.seconds / times.base]
    at = begins[0] + seconds / times.base
    n = bisect.bisect_left(begins, at)
    if n == 0 or n == len(begins):
        return min(n, len(begins) - 1)
    return n if begins[n] - at <= at - begins[n - 1] else n - 1


def _said(seconds: Fraction) -> str:
    return f"{float(seconds):.3f}".rstrip("0").rstrip(".") + " s"


# -- the entries ------------------------------------------------------------------------------------------------------


def _solved(
    places: Sequence[_Place], film: Film, cut_list: Callable[[Sequence[Cut]], Sequence[Shown]]
) -> tuple[Cut, ...]:
    """The entries that show what is wanted, with as few words as it takes. What a join drops depends on its neighbours,
    so the film is asked, and where it would show other frames, the entry says them."""
    cuts = [film.cut[place.same] if place.same is not None else Cut(place.shot) for place in places]
    if not cuts:
        return ()
    while True:
        better = list(cuts)
        for n, (place, shown) in enumerate(zip(places, cut_list(cuts), strict=True)):
            if place.first is not None and shown.first != place.first:
                better[n] = replace(better[n], start=str(place.first))
            if place.end is not None and shown.end != place.end:
                better[n] = replace(better[n], end=str(place.end))
        if better == cuts:
            return tuple(cuts)
        cuts = better


def kept(old: Sequence[Cut], new: Sequence[Cut]) -> list[int | None]:
    """For each new entry the old one in whose place it is written: an equal one, else one of the same shot."""
    out: list[int | None] = [None] * len(new)
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        out[block.b : block.b + block.size] = range(block.a, block.a + block.size)
    left = [i for i in range(len(old)) if i not in out]
    for whole in (True, False):
        for n, cut in enumerate(new):
            found = [i for i in left if (old[i] == cut if whole else old[i].shot == cut.shot)]
            if out[n] is None and found:
                out[n] = found[0]
                left.remove(found[0])
    return out


# -- sound ------------------------------------------------------------------------------------------------------------


def _sound(
    film: Film,
    edited: Edited,
    found: Sequence[tuple[Item, tuple[ShotId, int] | None]],
    rate: Fraction,
    clip_of: Callable[[ShotId, int], Clip | None],
    takes: Takes,
    bed: Fraction | None,
) -> list[Lost]:
    """What the sound says that a storyboard cannot."""
    lost: list[Lost] = []
    music = film.audio.rpartition("/")[2] if film.audio else None
    half = 1 / (2 * rate)
    pictures = [(item, meant) for item, meant in found if meant is not None and not item.gap]
    end = max((item.at + item.seconds for item, _ in pictures), default=Fraction(0))
    beds = []
    heard: set[int] = set()
    for item in edited.sounds:
        name = (item.media or item.name).replace("\\", "/").rpartition("/")[2]
        if music is not None and name == music:
            beds.append(item)
            continue
        meant = _meant(film, item)
        n = next(
            (
                n
                for n, (picture, shown) in enumerate(pictures)
                if n not in heard and shown == meant and abs(picture.at - item.at) <= half
                and abs(picture.start - item.start) <= half and abs(picture.seconds - item.seconds) <= half
            ),
            None,
        )
        if n is not None:
            heard.add(n)
        elif meant is None:
            lost.append(Lost(at=item.at, what=f"the sound '{name}', which is none of this film"))
        else:
            lost.append(Lost(at=item.at, what=f"the sound of '{meant[0]}', which is not cut as its picture is"))
    if edited.sound_apart:
        for n, (item, meant) in enumerate(pictures):
            assert meant is not None
            clip = clip_of(*meant)
            if n not in heard and clip is not None and clip.facts.audio:
                lost.append(Lost(at=item.at, what=f"that '{meant[0]}' is silent here: the film has its sound"))
    if len(beds) > 1:
        lost.append(Lost(at=beds[1].at, what=f"the music bed '{music}' in {len(beds)} pieces: the film has all of it"))
    elif beds and (beds[0].at > half or beds[0].start > half):
        lost.append(Lost(at=beds[0].at, what=f"where the music bed '{music}' begins: in the film it begins with it"))
    elif beds and bed is not None and beds[0].seconds < min(end, bed) - 2 * half:
        lost.append(Lost(at=beds[0].at + beds[0].seconds, what=f"that the music bed '{music}' ends here"))
    elif music is not None and not beds and not edited.coarse:
        lost.append(Lost(at=Fraction(0), what=f"that the music bed '{music}' is taken out: remove film.audio"))
    return lost
