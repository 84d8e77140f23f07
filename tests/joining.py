"""Films for tests that begin with clips: the decisions of output.cutting without a storyboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from klingflow.core.model import ClipFacts, Cut, Film, Shot, ShotId
from klingflow.core.source import Span
from klingflow.output import cutting
from klingflow.output import film as joining
from klingflow.output.cutting import Clip, Join, Place


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A clip, of which so many frames at its start repeat the end of the one before."""

    clip: Path
    facts: ClipFacts
    drop: int = 0
    slate: tuple[str, str] | None = None


def of(*cuts: Cut, **fields: Any) -> Film:
    """A film of these cuts, with their shots where `fields` names none."""
    shots = tuple(Shot(id=name, index=n) for n, name in enumerate(dict.fromkeys(cut.shot for cut in cuts)))
    fields = {"name": "film", "matrix": {}, "title": "", "shots": shots, **fields}
    return Film(cut=cuts, where=lambda _, field: Span(f"film.yaml#{field}", 1, 1, 1), **fields)


def assemble(
    pieces: Sequence[Piece],
    to: Path,
    *,
    size: tuple[int, int] | None = None,
    rate: Fraction | None = None,
    kept: Path | None = None,
    **rest: Any,
) -> joining.FilmFacts:
    ids = [ShotId(f"s{n}") for n in range(len(pieces))]
    clips = {
        shot: Clip(facts=piece.facts, times=joining.frame_times(piece.clip, piece.facts, kept))
        for shot, piece in zip(ids, pieces, strict=True)
    }
    places = [
        Place(shot=shot, join=Join.CONTINUES if piece.drop else Join.NONE)
        for shot, piece in zip(ids, pieces, strict=True)
    ]
    sized = [cutting.Sized(facts=piece.facts) for piece in pieces]
    repeats = {n: piece.drop for n, piece in enumerate(pieces)}
    rate_of_film = rate or cutting.usual_rate(sized)
    shown = cutting.cut_list(of(*map(Cut, ids)), clips, rate_of_film, places, repeats)
    own = pieces[0].facts
    return joining.assemble(
        [
            joining.Piece(
                clip=piece.clip, facts=piece.facts, times=clips[each.shot].times, shown=each, slate=piece.slate
            )
            for piece, each in zip(pieces, shown, strict=True)
        ],
        to,
        size=size or cutting.usual_size(sized),
        rate=rate_of_film,
        as_it_is=cutting.keeps_its_form(own, size, rate),
        kept=kept,
        **rest,
    )
