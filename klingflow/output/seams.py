"""The joins of a film and what is wrong with them, as values: numbers go in, findings come out, JSON goes to the disk.

Measuring is output.seam_measure's; nothing here opens a file. A join lies between two clips that the film shows one
after the other. Where the later shot continues the earlier one (or meets it in a still) an eye expects its motion, its
light and its colours to go on; at a planned cut nothing of the picture is compared. What is wrong inside a clip counts
to the join at which the clip begins, and what is wrong inside the first clip to the first join.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

VERSION = 1
"""Of the form of seams.json."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    limit: float
    """A value above it is a finding, where the storyboard's film.gate says no other limit."""
    unit: str
    text: str
    """What the value measures."""


KINDS: Mapping[str, Kind] = {
    "velocity": Kind(20.0, "%", "how much speed and direction of what moves change at the join, of the faster side"),
    "freeze": Kind(1.0, "frames", "how many frames a clip stands still before its end, although it moved before"),
    "echo": Kind(0.0, "frames", "how many frames after the join show again what was shown before it"),
    "colour": Kind(1.5, "dE", "how far the colours jump at the join (CIE 1976, without lightness)"),
    "luma": Kind(1.0, "% of white", "how far the light jumps at the join"),
    "drift": Kind(2.3, "dE", "how far light and colours went away from the first clip of the chain (CIE 1976)"),
    "texture": Kind(15.0, "%", "how much of the fine detail of the first clip of the chain is lost"),
    "loudness": Kind(7.0, "dB", "how far the sound falls at the join below what is heard on both sides"),
    "click": Kind(9.0, "dB", "how far a click at the join stands out of the sound round it"),
    "cut": Kind(0.0, "cuts", "how many cuts are inside the clip that nobody asked for"),
}
"""Every kind of finding, in the order in which they are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong at a join."""

    kind: str
    """One of KINDS."""
    value: float
    """What was measured, in the unit of its kind."""
    limit: float
    """What it is above of."""
    at_s: float
    """Where in the film, in seconds."""
    note: str
    """What an eye or an ear notices, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """One join of a film, as it was measured."""

    number: int
    """Its place in the film, from 1."""
    before: str
    """The shot that ends there."""
    after: str
    """The shot that begins there."""
    join: str
    """"continues" (the later shot begins with the last frame of the earlier one), "meets" (both show one still there)
    or "cut" (planned: the picture is not compared)."""
    at_s: float
    """Where in the film the later clip begins, in seconds."""
    frame: int
    """The same as a frame of the film, from 0."""
    numbers: Mapping[str, float | None]
    """By kind; None where it was not measured: a planned cut has no velocity, a silent clip no loudness."""
    findings: tuple[Finding, ...] = ()
    """What is above its limit, in the order of KINDS."""
    strip: str | None = None
    """A picture of the last frames of the one and the first of the other with their motion drawn, as a path from the
    folder of seams.json; None where there is none."""

    @property
    def measured(self) -> bool:
        """Whether anything was measured of it."""
        return any(value is not None for value in self.numbers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmSeams:
    """The joins of one film."""

    storyboard: str
    """Its path from the project's root."""
    variant: str
    """Which film of a matrix; empty without one."""
    title: str
    source: str = ""
    """A digest of what was measured: the clips, what is shown of them, and the gate."""
    limits: Mapping[str, float]
    """By kind: a value above it is a finding."""
    gate: tuple[str, ...] = ()
    """The kinds whose findings fail a run: those that film.gate names."""
    seams: tuple[Seam, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What could not be measured, and why."""

    def failed(self) -> tuple[tuple[Seam, Finding], ...]:
        """The findings that film.gate does not let pass."""
        return tuple((seam, one) for seam in self.seams for one in seam.findings if one.kind in self.gate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What was measured inside a clip, as far as the film shows it.

    `early`, `middle`, `late` and `whole` say how far the same things have changed since its first frame: in the mean of
    its first third, of all of it, of its last third, and at its end. Each has L*, a*, b*, chroma, and the logs of the
    finest, of fine and of coarse detail, and of the size in which things are seen."""

    frames: int
    rate: float
    cuts: tuple[int, ...]
    """The frames, from 0, that begin after a cut."""
    early: tuple[float, ...]
    middle: tuple[float, ...]
    late: tuple[float, ...]
    whole: tuple[float, ...]
    scaled: tuple[tuple[float, ...], ...]
    """What a zoom alone would do to its detail: for some logs of a size, the change of the logs of the finest and of
    fine detail, in order of size."""
    still: int
    """So many frames it stands still at its end, although it moved before."""
    sudden: bool
    """Whether it stopped at once; else it came to rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """What was measured between two clips; None where it was not."""

    loudness: float | None = None
    click: float | None = None
    velocity: float | None = None
    before: float | None = None
    """The speed before the join, in % of the width a second, of what moves."""
    after: float | None = None
    turn: float | None = None
    """Degrees by which the motion turns."""
    echo: int | None = None
    luma: float | None = None
    colour: float | None = None
    step: tuple[float, ...] | None = None
    """How far the same things change from the last frame before the join to the first after it, as in Inside."""


STILL = 3.0
"""% of the width a second: what is slower after a join goes on standing still."""


def judge(
    shots: Sequence[str],
    insides: Sequence[Inside | None],
    acrosses: Sequence[Across],
    joins: Sequence[str],
    limits: Mapping[str, float],
    *,
    starts: Sequence[int],
    rate: float,
) -> tuple[Seam, ...]:
    """The seams of a film from what was measured of its clips and between them, with what is above the limits. A clip
    that is None was not measured, and a chain begins anew after it. `starts` are the film's frames at which the clips
    begin, and `rate` its frames a second."""
    out: list[Seam] = []
    chain = _Chain()
    for n, (inside, across, join) in enumerate(zip(insides, acrosses, joins, strict=False)):
        begin_s, frame = starts[n] / rate, starts[n + 1]
        at_s = frame / rate
        after = insides[n + 1]
        chain.add(inside, across.step if join != "cut" else None, after)
        numbers: dict[str, float | None] = dict.fromkeys(KINDS)
        numbers |= {"loudness": across.loudness, "click": across.click, "velocity": across.velocity}
        numbers |= {"echo": across.echo, "luma": across.luma, "colour": across.colour}
        places: dict[str, float] = {}
        if inside is not None:
            numbers["freeze"] = inside.still if _freezes(inside, across, join) else 0
            places["freeze"] = at_s - inside.still / inside.rate
        if chain.goes_on:
            numbers |= {"drift": chain.drift(), "texture": chain.lost()}
        looked = [(after, at_s, shots[n + 1])] if n else [(inside, begin_s, shots[0]), (after, at_s, shots[1])]
        cuts = [(begin + cut / one.rate, shot) for one, begin, shot in looked if one is not None for cut in one.cuts]
        if any(one is not None for one, _, _ in looked):
            numbers["cut"] = len(cuts)
        if cuts:
            places["cut"] = cuts[0][0]
        found = []
        for kind, value in numbers.items():
            if value is not None and value > limits[kind]:
                note = _note(kind, across, shots[n], cuts)
                place = round(places.get(kind, at_s), 3)
                found.append(Finding(kind=kind, value=round(value, 2), limit=limits[kind], at_s=place, note=note))
        shown = {kind: None if value is None else round(value, 2) for kind, value in numbers.items()}
        out.append(
            Seam(
                number=n + 1,
                before=shots[n],
                after=shots[n + 1],
                join=join,
                at_s=round(at_s, 3),
                frame=frame,
                numbers=shown,
                findings=tuple(found),
            )
        )
    return tuple(out)


def _freezes(inside: Inside, across: Across, join: str) -> bool:
    """Whether a clip that stands still at its end does so by mistake: it stopped at once, or what comes goes on moving;
    a camera that came to rest in time is none."""
    return inside.sudden or (join != "cut" and inside.still >= 4 and (across.after or 0.0) > STILL)


ZOOM_DOUBT = 0.15
"""Of the log of a size: so far the log of detail may be off that a zoom takes away."""


class _Chain:
    """How far light, colours and detail went away from the first clip of a chain."""

    def __init__(self) -> None:
        self.goes_on = False
        self._at: list[float] = []
        self._head: tuple[float, ...] = ()
        self._heads: tuple[float, ...] = ()
        self._now: Inside | None = None
        self._first: Inside | None = None
        self._base: list[float] = []

    def add(self, before: Inside | None, step: Sequence[float] | None, after: Inside | None) -> None:
        self.goes_on = before is not None and step is not None and after is not None
        if before is None or step is None or after is None:
            self._base = []
            return
        if not self._base:
            self._base = [0.0] * len(before.whole)
            self._head, self._heads, self._first = before.early, before.middle, before
        self._base = [base + whole + each for base, whole, each in zip(self._base, before.whole, step, strict=True)]
        self._now = after

    def drift(self) -> float:
        assert self._now is not None
        away = [base + late - head for base, late, head in zip(self._base, self._now.late, self._head, strict=True)]
        return max(math.hypot(*away[:3]), math.hypot(away[0], away[3]))

    def lost(self) -> float:
        """Of the finest or of fine detail, in %: beyond what a zoom takes away, as far as that is known, and not only
        as far as all contrast went."""
        assert self._now is not None
        assert self._first is not None
        away = [base + now - head for base, now, head in zip(self._base, self._now.middle, self._heads, strict=True)]
        finest, fine, coarse, size = away[4:]
        zoomed = _between(self._first.scaled, size)
        kept = min(max(each - by, each - coarse) for each, by in zip((finest, fine), zoomed, strict=True))
        return 100 * max(0.0, 1 - math.exp(kept + ZOOM_DOUBT * abs(size)))


def _between(rows: Sequence[Sequence[float]], at: float) -> tuple[float, ...]:
    """The row of a table whose first column is `at`, on straight lines between those that there are."""
    at = min(max(at, rows[0][0]), rows[-1][0])
    for low, high in pairwise(rows):
        if at <= high[0]:
            part = (at - low[0]) / (high[0] - low[0])
            return tuple(a + part * (b - a) for a, b in zip(low[1:], high[1:], strict=True))
    return tuple(rows[-1][1:])


def _note(kind: str, across: Across, before: str, cuts: Sequence[tuple[float, str]]) -> str:
    match kind:
        case "velocity":
            return (
                f"the speed goes from {across.before or 0:.0f} to {across.after or 0:.0f} % of the width a second and "
                f"turns by {across.turn or 0:.0f} degrees"
            )
        case "freeze":
            return f"'{before}' stands still before its end, although it moved"
        case "echo":
            return "frames are shown again after the join"
        case "luma":
            return "the light jumps"
        case "colour":
            return "the colours jump"
        case "drift":
            return "light and colours went away from those of the first clip of the chain"
        case "texture":
            return "fine detail is lost since the first clip of the chain"
        case "loudness":
            return "the sound drops out"
        case "click":
            return "a click is heard"
    return f"'{cuts[0][1]}' has a cut that nobody asked for"


Verdict = FilmSeams


def limits(gate: Mapping[str, float]) -> dict[str, float]:
    """The limit of every kind: the storyboard's, else the usual one."""
    return {name: float(gate.get(name, kind.limit)) for name, kind in KINDS.items()}


def dump(verdict: FilmSeams) -> dict[str, Any]:
    """The verdict as JSON (schemas/seams.schema.json)."""
    return {"version": VERSION, **asdict(verdict)}


def text(verdict: FilmSeams) -> str:
    """The text of seams.json."""
    return json.dumps(dump(verdict), ensure_ascii=False, indent=2) + "\n"


def load(data: object) -> FilmSeams | None:
    """What `dump` wrote; None of anything else."""
    if not isinstance(data, dict) or data.get("version") != VERSION:
        return None
    fields = {name: value for name, value in data.items() if name != "version"}
    try:
        fields |= {name: tuple(fields[name]) for name in ("gate", "notes")}
        return FilmSeams(**{**fields, "seams": tuple(_seam(seam) for seam in fields["seams"])})
    except (TypeError, KeyError):
        return None


def load_inside(data: object) -> Inside | None:
    """What `asdict` made of an Inside and JSON kept; None of anything else."""
    try:
        return Inside(**_tuples(data))
    except (TypeError, AttributeError):
        return None


def load_across(data: object) -> Across | None:
    """As load_inside."""
    try:
        return Across(**_tuples(data))
    except (TypeError, AttributeError):
        return None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def _seam(data: Mapping[str, Any]) -> Seam:
    return Seam(**{**data, "findings": tuple(Finding(**one) for one in data["findings"])})


def words(kind: str, value: float) -> str:
    """A value with its unit: "31 %", "3 frames"."""
    unit = KINDS[kind].unit
    number = f"{value:.0f}" if unit in ("%", "frames", "cuts", "dB") else f"{value:.1f}"
    return f"{number} {unit.removesuffix('s') if number == '1' and unit in ('frames', 'cuts') else unit}"


def worst(seams: Sequence[Seam]) -> Seam | None:
    """The join that is worst: the one whose finding is furthest above its limit; None where nothing is wrong."""

    found = max(seams, key=lambda seam: max(map(excess, seam.findings), default=0.0), default=None)
    return found if found is not None and found.findings else None


def excess(finding: Finding) -> float:
    """How many times its limit a finding is, so that those of different kinds can be compared."""
    return finding.value / max(finding.limit, 1.0)
