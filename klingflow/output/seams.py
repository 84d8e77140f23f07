"""The joins of a film and what is wrong with them, as values: numbers go in, findings come out, JSON goes to the disk.

Measuring is output.seam_measure's; nothing here opens a file. A join lies between two clips that the film shows one
after the other. Where the later shot continues the earlier one (or meets it in a still) an eye expects its motion, its
light and its colours to go on; at a planned cut nothing of the picture is compared. What is wrong inside a clip counts
to the join at which the clip begins, and what is wrong inside the first clip to the first join.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    "velocity": Kind(25.0, "%", "how much speed and direction of what moves change at the join, of the faster side"),
    "freeze": Kind(1.0, "frames", "how many frames a clip stands still before its end, although it moved before"),
    "echo": Kind(0.0, "frames", "how many frames after the join show again what was shown before it"),
    "colour": Kind(1.5, "dE", "how far the colours jump at the join (CIE 1976, without lightness)"),
    "luma": Kind(1.0, "% of white", "how far the light jumps at the join"),
    "drift": Kind(3.0, "dE", "how far light and colours went away from the first clip of the chain (CIE 1976)"),
    "texture": Kind(20.0, "%", "how much of the fine detail of the first clip of the chain is lost"),
    "loudness": Kind(6.0, "dB", "how far the sound falls at the join below what is heard on both sides"),
    "click": Kind(12.0, "dB", "how far a click at the join stands out of the sound round it"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The joins of one film."""

    storyboard: str
    """Its path from the project's root."""
    variant: str
    """Which film of a matrix; empty without one."""
    title: str
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


def limits(gate: Mapping[str, float]) -> dict[str, float]:
    """The limit of every kind: the storyboard's, else the usual one."""
    return {name: float(gate.get(name, kind.limit)) for name, kind in KINDS.items()}


def dump(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON (schemas/seams.schema.json)."""
    return {"version": VERSION, **asdict(verdict)}


def text(verdict: Verdict) -> str:
    """The text of seams.json."""
    return json.dumps(dump(verdict), ensure_ascii=False, indent=2) + "\n"


def load(data: object) -> Verdict | None:
    """What `dump` wrote; None of anything else."""
    if not isinstance(data, dict) or data.get("version") != VERSION:
        return None
    fields = {name: value for name, value in data.items() if name != "version"}
    try:
        fields |= {name: tuple(fields[name]) for name in ("gate", "notes")}
        return Verdict(**{**fields, "seams": tuple(_seam(seam) for seam in fields["seams"])})
    except (TypeError, KeyError):
        return None


def _seam(data: Mapping[str, Any]) -> Seam:
    return Seam(**{**data, "findings": tuple(Finding(**one) for one in data["findings"])})


def words(kind: str, value: float) -> str:
    """A value with its unit: "31 %", "3 frames"."""
    unit = KINDS[kind].unit
    number = f"{value:.0f}" if unit in ("%", "frames", "cuts", "dB") else f"{value:.1f}"
    return f"{number} {unit.removesuffix('s') if number == '1' and unit in ('frames', 'cuts') else unit}"


def worst(seams: Sequence[Seam]) -> Seam | None:
    """The join that is worst: the one whose finding is furthest above its limit; None where nothing is wrong."""

    def badness(seam: Seam) -> float:
        return max((one.value / max(one.limit, 1.0) for one in seam.findings), default=0.0)

    found = max(seams, key=badness, default=None)
    return found if found is not None and found.findings else None
