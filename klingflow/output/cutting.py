"""Which frames of each clip the film shows. Decided here alone: film, seams, timeline and report all read it.

`places` is what storyboard and lock say, `cut_list` the same in frames. In order of weight:

- `in` and `out` of `film.shots` are obeyed to the frame.
- A shot that begins at an earlier frame of the shot right before it: that one ends there.
- Frames that a shot repeats of the one before are shown once, at the end of that one: the frame that a shot continues;
  what it repeats of a clip that went along as `motion`; the still at which a `meets` shot begins and the one before
  ends. With an `in` of its own, a shot repeats what it likes.

What a held clip (or one that is no longer up to date) begins and ends with is in the lock, not in the storyboard.

At another rate than the clip's, each frame of the film shows what is on the screen in the middle of its time; the first
and the last are the first and the last of what is shown, so that joins stay exact.

Pure: opens no file and knows no library of pictures.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from klingflow.core import digest as digests
from klingflow.core.errors import StoryboardError
from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import ClipFacts, Digest, Film, Frame, ImageFacts, ShotId
from klingflow.core.picture_size import SHORTER_SIDE, framed, shape_of
from klingflow.core.source import Problem
from klingflow.planning.pictures import said

USUAL_RATES = frozenset(
    Fraction(r) for r in ("24", "25", "30", "48", "50", "60", "24000/1001", "30000/1001", "60000/1001")
)

MadeOf = Mapping[ShotId, Mapping[str, str | int | bool]]
"""The parts in short (core.digest.brief) of clips that may be other than what the storyboard says now."""


class Join(StrEnum):
    """What a place in the film has in common with the one before it."""

    NONE = ""
    CONTINUES = "continues"
    """It begins with the last frame of the clip before."""
    EARLIER = "earlier"
    """It begins with an earlier frame of the clip before."""
    MEETS = "meets"
    """It begins with the still with which the clip before ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An entry of the film's cut, and how it is joined to the one before."""

    shot: ShotId
    start: str | None = None
    """As core.model.Cut."""
    end: str | None = None
    join: Join = Join.NONE
    frame: str = "last"
    """The frame of the clip before that it begins with, as in core.model.ShotFrame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What is known of a shot's clip."""

    facts: ClipFacts
    times: FrameTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The part of a clip that the film shows at one place. Frames are counted from 0; an `end` is the one after."""

    shot: ShotId
    clip: Digest
    rate: Fraction
    """The clip's own, in frames a second."""
    first: int
    """The first frame of the clip that is shown."""
    end: int
    film_start: int
    """The film's frame at which it begins."""
    picks: tuple[int, ...] = field(repr=False)
    """For each of its frames in the film, the clip's frame that is shown."""
    start_s: Fraction
    """The second of the clip, from its first frame on, at which it begins: there its sound begins too."""
    dropped_at_head: int
    """Frames of the clip before `first`."""
    dropped_at_tail: int
    """Frames of the clip from `end` on."""
    join: Join = Join.NONE
    reason: str = ""
    """Why not all of the clip is shown; empty where all is."""

    @property
    def film_end(self) -> int:
        return self.film_start + len(self.picks)


# ---------------------------------------------------------------- what is joined


def places(
    film: Film, clips: Mapping[ShotId, Digest], stills: Mapping[str, ImageFacts], made_of: MadeOf | None = None
) -> tuple[Place, ...]:
    """The film's cut with its joins. `clips` are the clips of its shots; one without is joined to nothing."""
    shots = film.by_id()
    known = made_of or {}

    def picture(shot: ShotId, role: str, frame: Frame | None) -> str | None:
        made = known.get(shot, {}).get(role)
        if made is not None or frame is None:
            return None if made is None else str(made)
        return digests.frame_brief(frame, stills, clips)

    out: list[Place] = []
    for n, cut in enumerate(film.cut):
        place = Place(shot=cut.shot, start=cut.start, end=cut.end)
        before = film.cut[max(0, n - 1)].shot
        if n and before in clips and cut.shot in clips:
            begins = picture(cut.shot, "first_frame", shots[cut.shot].first_frame)
            ends = picture(before, "last_frame", shots[before].last_frame)
            name, _, clip = (begins or "").partition(" of ")
            if clip and clip == clips[before][:12] and name != "first":
                join = Join.CONTINUES if name == "last" else Join.EARLIER
                place = Place(shot=cut.shot, start=cut.start, end=cut.end, join=join, frame=name)
            elif begins is not None and begins == ends:
                place = Place(shot=cut.shot, start=cut.start, end=cut.end, join=Join.MEETS)
        out.append(place)
    return tuple(out)


# ---------------------------------------------------------------- which frames


def cut_list(
    film: Film,
    clips: Mapping[ShotId, Clip],
    rate: Fraction,
    joined: Sequence[Place],
    repeats: Mapping[int, int] | None = None,
) -> tuple[Shown, ...]:
    """What the film shows at each of its `places`, at `rate` frames a second. `repeats`: by the index of a place, how
    many frames at its head repeat the end of the clip before, where that is not the one frame. Raises StoryboardError
    where `film.shots` names a frame that a clip does not have."""
    windows = [_window(film, n, place, clips[place.shot].times) for n, place in enumerate(joined)]
    for n, place in enumerate(joined[1:], 1):
        before = joined[n - 1]
        first, end = windows[n - 1]
        at = clips[before.shot].times.index(place.frame)
        if place.join is Join.EARLIER and before.end is None and at is not None and first <= at and at:
            windows[n - 1] = (first, at + 1)
    out: list[Shown] = []
    start = 0
    for n, (place, (first, end)) in enumerate(zip(joined, windows, strict=True)):
        times = clips[place.shot].times
        repeated = 0
        if place.join is not Join.NONE and place.start is None:
            at = clips[joined[n - 1].shot].times.index(place.frame)
            unseen = -1 if at is None else at + 1 - windows[n - 1][1]
            if unseen >= 0:
                repeated = max(0, (repeats or {}).get(n, 1) - unseen)
        repeated = min(repeated, end - first - 1)
        picks = _picks(times, first, end, rate)
        # A slower clip shows its first frame for several frames of the film: all of them repeat the frame before.
        skipped = sum(1 for pick in picks if pick < first + repeated)
        if skipped == len(picks):  # shorter than a frame of the film
            skipped, picks[-1] = skipped - 1, end - 1
        after = joined[n + 1] if n + 1 < len(joined) else None
        shown = Shown(
            shot=place.shot,
            clip=clips[place.shot].facts.digest,
            rate=times.rate,
            first=first + repeated,
            end=end,
            film_start=start,
            picks=tuple(picks[skipped:]),
            start_s=(times.begins[first] - times.begins[0]) * times.base + skipped / rate,
            dropped_at_head=first + repeated,
            dropped_at_tail=len(times.begins) - end,
            join=place.join,
            reason=_reason(place, joined[n - 1].shot if n else None, after, repeated, len(times.begins) - end),
        )
        out.append(shown)
        start = shown.film_end
    return tuple(out)


def whole(clip: Clip, shot: ShotId, rate: Fraction) -> Shown:
    """All of one clip, as a film of its own."""
    times = clip.times
    return Shown(
        shot=shot,
        clip=clip.facts.digest,
        rate=times.rate,
        first=0,
        end=len(times.begins),
        film_start=0,
        picks=tuple(_picks(times, 0, len(times.begins), rate)),
        start_s=Fraction(0),
        dropped_at_head=0,
        dropped_at_tail=0,
    )


def _window(film: Film, n: int, place: Place, times: FrameTimes) -> tuple[int, int]:
    """The frames of a clip that `film.shots` asks for. Raises StoryboardError."""
    count = len(times.begins)
    first = 0 if place.start is None else _at(place.start, times)
    end = count if place.end is None else min(_at(place.end, times), count)
    side, what = "", ""
    if first >= count:
        side, what = "in", f"the clip of '{place.shot}' has {count} frames, none at {place.start}"
    elif end <= first:
        side, what = "out", f"'{place.shot}' is shown from {place.start or 0} to {place.end}: that is nothing"
    if side:
        mend = f"write a place between 0 and {count} ({float(times.seconds):.3f} s), `out` after `in`"
        span = film.where(None, f"film.shots.{n}.{side}")
        raise StoryboardError([Problem(rule="cut", what=what, mend=mend, span=span)])
    return first, end


def _at(text: str, times: FrameTimes) -> int:
    if not text.endswith("s"):
        return int(text)
    seconds = Fraction(text[:-1])
    return times.shown_at(seconds) if seconds < times.seconds else len(times.begins)


def _picks(times: FrameTimes, first: int, end: int, rate: Fraction) -> list[int]:
    """The frames `first` to `end` of a clip at the film's rate."""
    count = max(1, round(times.span_s(first, end) * rate))
    # As `times.shown_at` of the middle of each frame, in whole numbers: a film has many.
    half = 1 / (2 * rate * times.base)
    ticks = (times.begins[first] + (2 * n + 1) * half.numerator // half.denominator for n in range(count))
    picks = [min(max(first, bisect.bisect_right(times.begins, tick) - 1), end - 1) for tick in ticks]
    if count > 1:
        picks[0], picks[-1] = first, end - 1
    return picks


def _reason(place: Place, before: ShotId | None, after: Place | None, repeated: int, left: int) -> str:
    out = []
    if place.start is not None or place.end is not None:
        out.append(f"film.shots shows it from {place.start or 'its start'} to {place.end or 'its end'}")
    if repeated and place.join is Join.MEETS:
        out.append(f"the still that '{before}' ends with is shown once")
    elif repeated == 1:
        out.append(f"the frame of '{before}' that it begins with is shown once")
    elif repeated:
        out.append(f"its first {repeated} frames repeat '{before}'")
    if left and place.end is None and after is not None:
        out.append(f"'{after.shot}' begins at its frame {after.frame}")
    return "; ".join(out)


# ---------------------------------------------------------------- size and rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A clip of the film, where its size and rate are decided."""

    facts: ClipFacts
    ordered: int = 0
    """The shorter side of the picture that was ordered, in pixels; 0 for a clip of one's own."""


def sized(film: Film, clips: Mapping[ShotId, ClipFacts]) -> list[Sized]:
    """The clips of the film that there are, in order."""
    shots = film.by_id()
    made = [(shots[cut.shot], clips[cut.shot]) for cut in film.cut if cut.shot in clips]
    return [Sized(facts=facts, ordered=0 if shot.clip else SHORTER_SIDE[shot.resolution]) for shot, facts in made]


def keeps_its_form(clip: ClipFacts, size: tuple[int, int] | None, rate: Fraction | None) -> bool:
    """Whether a clip that is the whole film has the size and the rate that the storyboard says, if it says any."""
    return size in (None, (clip.width, clip.height)) and rate in (None, Fraction(clip.rate))


def said_size(film: Film, clips: Sequence[Sized]) -> tuple[int, int] | None:
    """The size that the storyboard says; what it leaves open of one is that of what was ordered. None: it says none."""
    if film.size or not (film.resolution or film.aspect):
        return film.size
    size = usual_size(clips)
    side = SHORTER_SIDE[film.resolution] if film.resolution else min(size)
    return framed(side, film.shape or shape_of(said(Fraction(*size))))


def usual_size(clips: Sequence[Sized]) -> tuple[int, int]:
    """The size of a film whose storyboard says none."""
    if not clips:
        return 1920, 1080
    ordered = max(clip.ordered for clip in clips)
    seconds: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for clip in _deciding(clips):
        seconds[clip.facts.width, clip.facts.height] += Fraction(clip.facts.duration)

    def alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
        return abs(size[0] * other[1] / (size[1] * other[0]) - 1) < 0.02

    def weight(size: tuple[int, int]) -> tuple[Fraction, int]:
        return sum((s for other, s in seconds.items() if alike(size, other)), Fraction(0)), size[0] * size[1]

    most = max(seconds, key=weight)
    sizes = [_at_most(clip, ordered) for clip in clips if alike((clip.facts.width, clip.facts.height), most)]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def _at_most(clip: Sized, ordered: int) -> tuple[int, int]:
    """A clip's size; of a clip of one's own, no more than what was ordered, if anything was."""
    width, height = clip.facts.width, clip.facts.height
    if clip.ordered or not 0 < ordered < min(width, height):
        return width, height
    return round(width * ordered / min(width, height)), round(height * ordered / min(width, height))


def usual_rate(clips: Sequence[Sized]) -> Fraction:
    """The rate of a film whose storyboard says none."""
    seconds: defaultdict[Fraction, Fraction] = defaultdict(Fraction)
    for clip in _deciding(clips):
        own = Fraction(clip.facts.rate)
        near = min(USUAL_RATES, key=lambda usual: abs(usual - own))
        if abs(near / own - 1) < 0.02:  # a phone's clip has 30 a second on average
            seconds[near] += Fraction(clip.facts.duration)
    return max(seconds, key=lambda rate: (seconds[rate], rate), default=Fraction(24))


def _deciding(clips: Sequence[Sized]) -> Sequence[Sized]:
    return [clip for clip in clips if clip.ordered] or clips
