"""What a film says of its clips, from the records of what was bought."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from klingflow.app.project_loader import LoadedStoryboard
from klingflow.core.model import ANIMATIC, ClipRecord, Digest, FileStill, Film, Shot, ShotId, UrlStill
from klingflow.io import ledger
from klingflow.io.store import Store
from klingflow.output import provenance
from klingflow.output.cutting import Shown
from klingflow.output.provenance import CARD, FilmRecord, ShownShot
from klingflow.planning.plan import OWN


def film_record(
    loaded: LoadedStoryboard,
    film: Film,
    records: Mapping[ShotId, ClipRecord],
    cut: Sequence[Shown],
    rate: Fraction,
    bed: Digest | None,
    store: Store,
    takes: Mapping[ShotId, int] | None = None,
) -> FilmRecord:
    """What a film says of itself, not signed: `cut` is what it shows, at `rate` frames a second. A shot without a
    record is a card in a draft; `takes` are those of a draft's stale shots."""
    by_id = film.by_id()
    clips = {
        name: clip_of(shot, records[name], store) if name in records else _card(shot)
        for name, shot in ((shown.shot, by_id[shown.shot]) for shown in cut)
    }
    clips |= {name: replace(clips[name], take=take) for name, take in (takes or {}).items()}
    shots = tuple(
        replace(
            clips[shown.shot],
            start=shown.film_start,
            end=shown.film_end,
            clip_start=shown.first,
            clip_end=shown.end,
        )
        for shown in cut
    )
    drawn = any(
        isinstance(frame, FileStill | UrlStill)
        for shown in cut
        if clips[shown.shot].provider == ANIMATIC
        for _, frame in by_id[shown.shot].frames()
    )
    return FilmRecord(
        generator=provenance.generator(),
        title=film.title,
        storyboard=loaded.relative,
        variant=film.variant,
        commit="",
        dirty=False,
        rate=str(rate),
        frames=cut[-1].film_end,
        digital_source_type=provenance.source_type(shots, music=bed is not None, drawn_from_stills=drawn),
        music=bed or "",
        shots=shots,
    )


def _card(shot: Shot) -> ShownShot:
    """What a film says of a shot that has no clip yet."""
    return ShownShot(
        shot=shot.id,
        take=shot.take,
        start=0,
        end=0,
        clip="",
        clip_start=0,
        clip_end=0,
        key="",
        provider=CARD,
        model=CARD,
        task="",
        date="",
        prompt_sha256="",
        taken_in=False,
    )


def clip_of(shot: Shot, record: ClipRecord, store: Store) -> ShownShot:
    """What a film says of the clip of one shot, wherever it is shown."""
    own = record.provider == OWN
    return ShownShot(
        shot=shot.id,
        take=shot.take,
        start=0,
        end=0,
        clip=record.facts.digest,
        clip_start=0,
        clip_end=0,
        key="" if own else record.key,
        provider=record.provider,
        model=record.model,
        task=record.task or "",
        date="" if record.provider in (OWN, ANIMATIC) else record.date,
        prompt_sha256="" if own else _prompt(record, store),
        taken_in=bool(record.taken_in),
    )


def _prompt(record: ClipRecord, store: Store) -> str:
    """The SHA-256 of the prompt that a clip was made of, and of those of a clip of several shots, one a line. Empty
    where the store has no record of it: the lock does not keep texts."""
    kept = record if record.parts else ledger.clip(store, record.key)
    parts: Mapping[str, object] = kept.parts if kept is not None else {}
    texts = [parts.get("prompt", "")]
    match parts.get("multi_shot"):
        case {"shots": list(several)}:
            texts += [one.get("prompt", "") for one in several if isinstance(one, dict)]
    told = "\n".join(text for text in texts if isinstance(text, str) and text)
    return hashlib.sha256(told.encode()).hexdigest() if told else ""
