"""The joins of a film as text for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from klingflow.core.model import Film
from klingflow.core.source import Problem, visible
from klingflow.output import seams
from klingflow.output.seams import KINDS, FilmSeams, Finding, Seam
from klingflow.output.table import Row, table
from klingflow.output.words import count, wrapped

COLUMNS = ("velocity", "colour", "luma", "drift", "texture", "freeze", "echo", "loudness", "click", "cut")
"""In order of weight: the last ones make room."""


def answer(verdicts: Sequence[FilmSeams]) -> str:
    """schemas/seams.schema.json."""
    films = [seams.dump(verdict) for verdict in verdicts]
    whole = films[0] if len(films) == 1 else {"version": seams.VERSION, "films": films}
    return json.dumps(whole, ensure_ascii=False, indent=2)


def shown(verdict: FilmSeams, width: int) -> str:
    """A table of the joins, each with what is wrong with it below, and the worst one at the end."""
    title = visible(verdict.title) + (f" [{visible(verdict.variant)}]" if verdict.variant else "")
    if not verdict.seams:
        return f"{title}: one clip, no join"
    head = ("JOIN", "AT", *(name.upper() for name in COLUMNS))
    rows = [_row(seam) for seam in verdict.seams if seam.measured]
    lines = [f"{title}: {count(len(verdict.seams), 'join')}" + ("" if rows else ", none measured")]
    for note in verdict.notes:
        lines += ["", *wrapped(note, width)]
    if not rows:
        return "\n".join(lines)
    lines += ["", *table(head, rows, width, right=head[1:])]
    found = [seam for seam in verdict.seams if seam.findings]
    worst = seams.worst(found)
    if worst is None:
        lines += ["", "nothing is above its limit"]
    else:
        what = f"{count(len(found), 'join')} of {len(verdict.seams)} with something above a limit; worst: {name(worst)}"
        lines += ["", *wrapped(what, width)]
    return "\n".join(lines)


def name(seam: Seam) -> str:
    return f"{visible(seam.before)} > {visible(seam.after)}"


def problems(film: Film, verdict: FilmSeams) -> tuple[Problem, ...]:
    """What film.gate does not let pass, each at its limit in the storyboard."""
    return tuple(
        Problem(
            rule="gate",
            what=f"{seam.before} > {seam.after} at {at(one.at_s)} of {film.label}: {sentence(one)}",
            mend=f"choose another take of '{seam.after}', or raise the limit",
            span=film.where(None, f"film.gate.{one.kind}"),
        )
        for seam, one in verdict.failed()
    )


def at(seconds: float) -> str:
    """A place in the film: 1:05.3."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def sentence(one: Finding) -> str:
    """`velocity 52 % (limit 20 %): …`."""
    return f"{one.kind} {seams.words(one.kind, one.value)} (limit {seams.words(one.kind, one.limit)}): {one.note}"


def _row(seam: Seam) -> Row:
    how = "" if seam.join == "continues" else f" ({'planned cut' if seam.join == 'cut' else seam.join})"
    cells = [_cell(kind, seam.numbers.get(kind)) for kind in COLUMNS]
    below = ". ".join(f"{at(one.at_s)} {visible(sentence(one))}" for one in seam.findings)
    return Row((name(seam) + how, at(seam.at_s), *cells), below)


def _cell(kind: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if KINDS[kind].unit in ("frames", "cuts") else f"{value:.1f}"
