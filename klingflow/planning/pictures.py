"""Pictures of one film that do not go together: nothing refuses them, and every clip of them is paid for. And clips of
one's own that are shown otherwise than they lie in their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache

from klingflow.core.model import ANIMATIC, FileStill, Film, Frame, Inputs, Shot, ShotFrame, ShotId
from klingflow.core.picture_size import SHORTER_SIDE, framed
from klingflow.core.source import Problem, Severity
from klingflow.planning.graph import order

USUAL = Fraction(16, 9)
"""What is made of a shot without a first frame and without an aspect ratio."""
_NAMED = ((16, 9), (9, 16), (1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (4, 5), (5, 4), (21, 9), (9, 21), (16, 10))


def warnings(film: Film, inputs: Inputs) -> Iterator[Problem]:
    """Frames of one shot, and shots of one film, that differ in shape; a shot that is much smaller than the film; one
    that stays a drawing in a film that is paid for; HDR and transparency. The film has no cycle."""
    shapes = shapes_of(film, inputs)
    for shot in film.shots:
        first, last = shapes[shot.id], _of(shot.last_frame, shapes, inputs)
        if shot.first_frame is not None and first and last and not alike(first, last):
            what = f"shot '{shot.id}' begins with a picture of {said(first)} and ends with one of {said(last)}"
            mend = "crop one to the shape of the other: the clip has one shape, and the model cuts or stretches"
            yield _warning(film, shot.id, "last_frame", "shapes-differ", what, mend)
    whole = _whole(film, shapes)
    if whole is not None:
        yield from _odd_shapes(film, shapes, whole)
        yield from _enlarged(film, shapes, whole, inputs)
    yield from _drawings(film)
    yield from _not_as_they_are(film, inputs)


def shapes_of(film: Film, inputs: Inputs) -> Mapping[ShotId, Fraction | None]:
    """Width by height of each shot's clip, as far as it is known before it is made. The film has no cycle."""
    shapes: dict[ShotId, Fraction | None] = {}
    for shot in order(film):
        shapes[shot.id] = _shape(shot, shapes, inputs)
    return shapes


def _whole(film: Film, shapes: Mapping[ShotId, Fraction | None]) -> Fraction | None:
    """The shape of the finished film."""
    shots = film.by_id()
    known = [(shots[cut.shot], shape) for cut in film.cut if (shape := shapes.get(cut.shot)) is not None]
    if film.shape is not None or not known:
        return film.shape
    # A clip of one's own decides only in a film of nothing else (output.cutting).
    deciding = [shape for shot, shape in known if shot.clip is None] or [shape for _, shape in known]
    tally = Counter(map(said, deciding))
    return max(deciding, key=lambda shape: tally[said(shape)])  # of equals the first


def _odd_shapes(film: Film, shapes: Mapping[ShotId, Fraction | None], whole: Fraction) -> Iterator[Problem]:
    """The shots that have bars in the finished film, each where its shape comes from."""
    shots = film.by_id()
    shown = {cut.shot for cut in film.cut}
    for name in dict.fromkeys(cut.shot for cut in film.cut):
        shot, shape = shots[name], shapes.get(name)
        told_before = isinstance(shot.first_frame, ShotFrame) and shot.first_frame.shot in shown
        if shape is None or alike(shape, whole) or told_before:
            continue
        bars = "at its sides" if shape < whole else "above and below it"
        field = "clip" if shot.clip is not None else "first_frame" if shot.first_frame is not None else "aspect_ratio"
        what = f"shot '{shot.id}' is {said(shape)} in a film of {said(whole)}: there will be bars {bars}"
        yield _warning(film, shot.id, field, "shapes-differ", what, "give it the film's shape, or set film.aspect")


MUCH = Fraction(6, 5)
"""How much a clip may be enlarged in silence."""


def _enlarged(
    film: Film, shapes: Mapping[ShotId, Fraction | None], whole: Fraction, inputs: Inputs
) -> Iterator[Problem]:
    """One warning of the shots that are much smaller than the film."""
    shots = film.by_id()
    sizes: dict[ShotId, tuple[int, int]] = {}
    for name in dict.fromkeys(cut.shot for cut in film.cut):
        shot, shape, look = shots[name], shapes.get(name), inputs.looks.get(shots[name].clip or "")
        if look is not None:
            sizes[name] = look.width, look.height
        elif shot.clip is None and shot.provider != ANIMATIC and shape is not None:
            sizes[name] = framed(SHORTER_SIDE[shot.resolution], shape)
    if not sizes:
        return
    ordered = [min(size) for name, size in sizes.items() if shots[name].clip is None]
    side = max(ordered or map(min, sizes.values()))
    if film.size or film.resolution:
        # A film that is larger than all that is in it is meant so.
        side = min(min(film.size or (SHORTER_SIDE[film.resolution or ""],)), max(map(min, sizes.values())))
    width, height = framed(side, whole)
    small = [name for name, size in sizes.items() if min(width / size[0], height / size[1]) >= MUCH]
    if small:
        first, others = shots[small[0]], f", and so are {', '.join(small[1:])}" if len(small) > 1 else ""
        own = "{}x{}".format(*sizes[first.id]) if first.clip is not None else f"ordered at {first.resolution}"
        what = f"shot '{first.id}' is {own} in a film of {width}x{height}: it is enlarged{others}"
        mend = "bring it larger, or make the film smaller: film.resolution"
        yield _warning(film, first.id, "clip" if first.clip is not None else "resolution", "enlarged", what, mend)


def _drawings(film: Film) -> Iterator[Problem]:
    made = [shot for shot in film.shots if shot.clip is None and not shot.hold]
    if all(shot.provider == ANIMATIC for shot in made):
        return
    for shot in made:
        if shot.provider == ANIMATIC:
            what = f"shot '{shot.id}' stays a drawing of the animatic in a film whose other shots are paid for"
            mend = "give it the provider of the others, or `hold: true` until it is to be made"
            yield _warning(film, shot.id, "provider", "drawing", what, mend)


def _not_as_they_are(film: Film, inputs: Inputs) -> Iterator[Problem]:
    for shot in film.shots:
        look = inputs.looks.get(shot.clip or "")
        if look is not None and look.hdr:
            what = f"{shot.clip} is HDR ({look.hdr}): it is tone-mapped to SDR (BT.709) wherever it is shown"
            yield _warning(film, shot.id, "clip", "hdr", what, "export it as SDR (BT.709) to grade it yourself")
        if look is not None and look.alpha:
            what = f"{shot.clip} has an alpha channel: what is transparent is shown on black"
            yield _warning(film, shot.id, "clip", "alpha", what, "export it with the background that it is to have")


def _shape(shot: Shot, shapes: Mapping[ShotId, Fraction | None], inputs: Inputs) -> Fraction | None:
    """Width by height of a shot's clip, as far as it is known before it is made."""
    if shot.clip is not None:
        look = inputs.looks.get(shot.clip)
        return Fraction(look.width, look.height) if look is not None else None
    if shot.first_frame is not None:
        return _of(shot.first_frame, shapes, inputs)
    try:
        return Fraction(*map(int, shot.aspect_ratio.split(":"))) if shot.aspect_ratio else USUAL
    except (ValueError, TypeError, ZeroDivisionError):
        return None  # a fault of its own


def _of(frame: Frame | None, shapes: Mapping[ShotId, Fraction | None], inputs: Inputs) -> Fraction | None:
    if isinstance(frame, ShotFrame):
        return shapes.get(frame.shot)
    facts = inputs.stills.get(frame.path) if isinstance(frame, FileStill) else None
    return Fraction(facts.width, facts.height) if facts else None


@lru_cache(1024)
def alike(one: Fraction, other: Fraction) -> bool:
    """Whether two shapes are one. Pixel counts are rounded by encoders and cropping hands: 1920x1088 is 16:9 too."""
    return max(one, other) / min(one, other) < Fraction(106, 100)


@lru_cache(1024)
def said(shape: Fraction) -> str:
    """The shape in words: 16:9."""
    near = [(w, h) for w, h in _NAMED if max(shape, Fraction(w, h)) / min(shape, Fraction(w, h)) < Fraction(103, 100)]
    width, height = near[0] if near else (shape.numerator, shape.denominator)
    return f"{width}:{height}"


def _warning(film: Film, shot: ShotId, field: str, rule: str, what: str, mend: str) -> Problem:
    return Problem(rule=rule, what=what, mend=mend, span=film.where(shot, field), severity=Severity.WARNING)
