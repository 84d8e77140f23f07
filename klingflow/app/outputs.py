"""What a run leaves behind: the lock, and `out/` (the shots, their last frames, the film).

`out/` is rebuilt from the store at will. What stands there already and was made from the very same clips is not made
again: `.made.json` beside it says from what.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app import lock_file
from klingflow.app.project_loader import LoadedStoryboard, deaf_beds
from klingflow.core import digest as digests
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import ANIMATIC, ClipFacts, ClipRecord, Digest, Film, Inputs, Key, Shot, ShotId
from klingflow.core.picture_size import SHORTER_SIDE, framed
from klingflow.execution.outcome import Emit, Event, Outcome
from klingflow.io import durable, films
from klingflow.io.remembered import cache_folder, recall, remember
from klingflow.io.store import Store
from klingflow.output import cutting
from klingflow.output import timeline as timelines
from klingflow.planning.pictures import USUAL, shapes_of
from klingflow.planning.plan import OWN
from klingflow.storyboard import lock as locks
from klingflow.storyboard.lock import Entry, Lock

if TYPE_CHECKING:
    from klingflow.app.credentials import Signing
    from klingflow.output.film import FilmFacts

ECHO = 1
"""Raised when what counts as a repetition is measured otherwise."""
RECIPE = 4
"""Raised when the film of the same clips would come out otherwise."""
TIMELINE = 1
"""Raised when its timeline would."""

POSTER = 1
"""Raised when the small picture of the same frame would come out otherwise."""

_OURS = re.compile(
    r"film\.mp4(?:\.signature)?|film\.draft\.mp4|film\.otio|shots/[a-z0-9][a-z0-9_.-]*\.mp4|"
    r"frames/[a-z0-9][a-z0-9_.-]*\.(last\.png|(first|last)\.jpg)"
)
"""The names that we write: whatever else stands in a `.made.json` was not written by us, and is not touched."""

_SIGNATURE = "film.mp4.signature"
"""Under this name it is kept from what the film was signed, and by whom; there is no such file."""
MOST_BYTES = 16 << 20
"""Of a `.made.json`, which may have come with a pull request."""


class MediaOnDemand:
    """io.media behind a door that opens only when a clip is looked at: a run with nothing to make never loads it."""

    def check(self, path: Path, digest: Digest, seconds: int | None) -> ClipFacts:
        from klingflow.io import media

        return media.check(path, seconds=seconds, digest=digest)

    def cut(self, clip: Path, frame: str, to: Path) -> None:
        from klingflow.io import media

        media.cut(clip, frame, to)

    def end(self, clip: Path, seconds: int, to: Path) -> None:
        from klingflow.io import media

        media.end(clip, seconds, to)

    def poster(self, clip: Path, frame: str, to: Path) -> None:
        from klingflow.io import media

        media.poster(clip, frame, to)


def write_lock(loaded: LoadedStoryboard, lock: Lock, ran: Sequence[tuple[Film, tuple[Outcome, ...]]]) -> bool:
    """Brings what a run made into NAME.lock.yaml; tells whether something in it changed.

    `lock` is the lock that the run began with. Another run may have written it since (`--select`): what is on disk is
    read again under a file lock, and only what this run changed is changed in it.
    """
    entries: dict[tuple[str, ShotId, int], Entry] = {}
    for film, outcomes in ran:
        for outcome in outcomes:
            if outcome.good and outcome.clip is not None and outcome.key is not None:
                entries[film.variant, outcome.shot, outcome.take] = _entry(film, outcome, lock)
    path = loaded.lock_path
    if not entries and not path.exists():
        return False
    with lock_file.held(loaded):
        disk = lock_file.open_lock(loaded) if path.exists() else Lock(picks=lock.picks)
        after = locks.merged(disk, start=lock, films=loaded.films, made=entries)
        text = locks.dump(locks.with_pictures(after, _pictures(loaded, after)))
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        durable.replace(loaded.project.to_write(loaded.beside(path.name)), text.encode())
    return True


def _pictures(loaded: LoadedStoryboard, lock: Lock) -> dict[Digest, Digest]:
    """By file digest, what the files of one's own show that went into the lock's clips, where it does not know it."""
    inputs = loaded.inputs
    files = {facts.digest: path for path, facts in inputs.stills.items()}
    for film in loaded.films:
        own = {shot.id: shot.clip for shot in film.shots if shot.clip is not None}
        continued = {own[need] for shot in film.shots for need in shot.needs() if need in own}
        files |= {inputs.clips[path]: path for path in continued}
    out: dict[Digest, Digest] = {}
    for file in lock.unknown_pictures(files):
        with suppress(KlingflowError):  # gone since: then it is not known again
            picture = loaded.project.picture(files[file])
            if loaded.project.digest(files[file]) == file:  # and not exchanged while the run went on
                out[file] = picture
    return out


def _entry(film: Film, outcome: Outcome, lock: Lock) -> Entry:
    assert outcome.clip is not None
    assert outcome.key is not None
    old = lock.entry(film.variant, outcome.shot, outcome.take)
    if old is not None and old.key == outcome.key and old.clip == outcome.clip.facts.digest:
        return old
    known = lock.find(outcome.key)
    if known is not None and known.clip == outcome.clip.facts.digest:
        return known
    facts = outcome.clip.facts
    return Entry(
        key=outcome.key,
        clip=facts.digest,
        duration=facts.duration,
        frames=facts.frames,
        size=f"{facts.width}x{facts.height}",
        rate=facts.rate,
        bytes=facts.bytes,
        audio=facts.audio,
        provider=outcome.clip.provider,
        model=outcome.clip.model,
        task=outcome.clip.task,
        cost=outcome.clip.cost,
        basis=outcome.clip.basis,
        date=outcome.clip.date,
        taken_in=outcome.clip.taken_in,
        inputs=outcome.clip.inputs,
        parts=digests.brief(outcome.clip.parts),
    )


def folder_of(loaded: LoadedStoryboard, film: Film) -> Path:
    """The storyboard's folder in `out/`, its own folder for each film of a matrix, `animatic` below for a rehearsal.
    Raises BadFile where a link leads out of the project."""
    parts = [loaded.out, *([film.variant] if film.variant else []), *(["animatic"] if loaded.rehearsal else [])]
    for inner in ("shots", "frames"):
        loaded.project.to_write("/".join([*parts, inner]))
    return loaded.project.to_write("/".join(parts))


def standing(loaded: LoadedStoryboard) -> tuple[Path, ...]:
    """The finished films of a storyboard that are there, rehearsals too, the newest first."""
    kinds = (replace(loaded, provider=None), replace(loaded, provider="animatic"))
    films = [folder_of(kind, film) / "film.mp4" for kind in kinds for film in loaded.films]
    return tuple(sorted(filter(Path.is_file, films), key=lambda path: path.stat().st_mtime_ns, reverse=True))


def deliver(
    loaded: LoadedStoryboard,
    film: Film,
    outcomes: Sequence[Outcome],
    others: Mapping[ShotId, ClipRecord],
    lock: Lock,
    store: Store,
    show: Emit,
    signing: Signing | None = None,
) -> list[Path]:
    """Brings `out/` up to date with what a film's steps came to. `others` are the clips of shots that the run was not
    about (--select): the film needs them, and their files stay. `signing` signs the film. Returns where the film is, if
    it is. Raises KlingflowError when it cannot be joined: nothing but the film and its timeline is missing then."""
    folder = folder_of(loaded, film)
    made = _Made(folder)
    clips = dict(others)
    by_id = film.by_id()
    for outcome in outcomes:
        if outcome.clip is None:
            continue
        _deliver_take(loaded, by_id[outcome.shot], outcome.take, outcome.clip.facts, store, made, folder)
        if outcome.is_active_take:
            clips[outcome.shot] = outcome.clip
    told = {outcome.shot for outcome in outcomes}
    whole = all(cut.shot in clips for cut in film.cut)
    try:
        if whole:
            _film(loaded, film, clips, lock, store, made, folder, show, signing)
        _timeline_file(loaded, film, clips, lock, store, made, folder)
    except KlingflowError:
        for name in ("film.mp4", "film.otio"):
            made.forget(name)
        made.finish(complete=False)
        raise
    made.finish(complete=all(outcome.good for outcome in outcomes) and all(shot.id in told for shot in film.shots))
    return [folder / "film.mp4"] if whole else []


def file_name(shot: Shot, take: int) -> str:
    """What the files of a take are called in `shots/` and `frames/`, without their ending."""
    return shot.id if take == shot.take else f"{shot.id}.take{take}"


def deliver_clips(
    loaded: LoadedStoryboard,
    film: Film,
    clips: Mapping[tuple[ShotId, int], ClipFacts],
    store: Store,
    exported: Collection[str] = (),
) -> None:
    """Brings the files of these takes into `out/`, and joins no film. `exported` are files there that are then written
    otherwise than a run would: the next run writes them anew. Raises KlingflowError where a clip cannot be read."""
    folder = folder_of(loaded, film)
    made = _Made(folder)
    by_id = film.by_id()
    for (shot, take), facts in clips.items():
        _deliver_take(loaded, by_id[shot], take, facts, store, made, folder)
    for name in filter(_OURS.fullmatch, exported):
        made.stale(name, "exported")
    made.finish(complete=False)


def there(folder: Path) -> dict[str, str]:
    """The files in a film's folder that klingflow wrote, each with what it was made from: a clip's digest, for the
    files of a take (`made_of`)."""
    found = ((folder / name, name, source) for name, source in _Made(folder).before().items())
    return {name: source for path, name, source in found if path.is_file() and not path.is_symlink()}


def made_of(source: str) -> str:
    """The digest of the clip that a file of a take was made from."""
    return source.partition(" ")[0]


def _deliver_take(
    loaded: LoadedStoryboard, shot: Shot, take: int, facts: ClipFacts, store: Store, made: _Made, folder: Path
) -> None:
    name, digest = file_name(shot, take), facts.digest
    clip = f"shots/{name}.mp4"
    if made.stale(clip, digest):
        _deliver_clip(shot, loaded.inputs, store.blob(digest), facts, folder / clip)
    frames = [(f"frames/{name}.first.jpg", "first", f"{digest} {POSTER}")]
    if take == shot.take:
        frames.append((f"frames/{name}.last.jpg", "last", f"{digest} {POSTER}"))
        frames.append((f"frames/{name}.last.png", "last", digest))
    for file, frame, source in frames:
        if made.stale(file, source):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write = MediaOnDemand().cut if file.endswith(".png") else MediaOnDemand().poster
            write(store.blob(digest), frame, folder / file)


def _deliver_clip(shot: Shot, inputs: Inputs, blob: Path, facts: ClipFacts, to: Path) -> None:
    """The clip's own bytes; a clip of one's own that is a MOV, MKV or WebM as an MP4, which the name promises, and one
    that is HDR or transparent as every player shows it."""
    look = inputs.looks.get(shot.clip or "")
    with blob.open("rb") as file:
        head = file.read(12)
    plain = look is None or not (look.hdr or look.alpha)
    if shot.clip is None or (plain and head[4:8] == b"ftyp" and head[8:] != b"qt  "):
        _copy(blob, to)
        return
    from klingflow.output import film as joining

    clip = cutting.Clip(facts=facts, times=joining.frame_times(blob, facts))
    one = [cutting.Sized(facts=facts)]
    size, rate = cutting.usual_size(one), cutting.usual_rate(one)
    piece = joining.Piece(clip=blob, facts=facts, times=clip.times, shown=cutting.whole(clip, shot.id, rate))
    joining.assemble([piece], to, size=size, rate=rate, as_it_is=True)


def check_beds(loaded: LoadedStoryboard) -> None:
    """That every music bed can be heard. Raises StoryboardError."""
    problems = deaf_beds(loaded)
    if problems:
        raise StoryboardError(problems)


def keep_film(
    loaded: LoadedStoryboard, film: Film, outcomes: Sequence[Outcome], lock: Lock, store: Store, show: Emit
) -> None:
    """Joins a film whose clips are all in the outcomes, and keeps it in the store alone: whoever delivers the very same
    film has it from there. Raises KlingflowError where it cannot be joined."""
    clips = {outcome.shot: outcome.clip for outcome in outcomes if outcome.is_active_take and outcome.clip is not None}
    if any(cut.shot not in clips for cut in film.cut):
        return
    with tempfile.TemporaryDirectory(prefix="join-", dir=loaded.project.to_write(".klingflow")) as name:
        folder, facts = Path(name), {}

        def note(event: Event) -> None:
            if "path" in event.data:
                facts.update({name: value for name, value in event.data.items() if name != "path"})
            show(event)

        made = _Made(folder)
        _film(loaded, film, clips, lock, store, made, folder, note, None)
        source = made.now("film.mp4")
        if films.find(store, source) is None:
            films.keep(store, source, folder / "film.mp4", facts)


def _film(
    loaded: LoadedStoryboard,
    film: Film,
    clips: Mapping[ShotId, ClipRecord],
    lock: Lock,
    store: Store,
    made: _Made,
    folder: Path,
    show: Emit,
    signing: Signing | None,
) -> None:
    facts = {shot: each.facts for shot, each in clips.items()}
    by_id = film.by_id()
    places = _places(loaded, film, facts, lock)
    repeats = _repeats(film, places, facts, store)
    bed = loaded.inputs.clips[film.audio] if film.audio else None
    sized = cutting.sized(film, facts)
    slates = [_slate(by_id[place.shot], n) for n, place in enumerate(places, 1)]
    said = cutting.said_size(film, sized)
    form = [list(said or ()), str(film.rate or "")]
    pieces = [
        [facts[place.shot].digest, repeats[n], sized[n].ordered, *_cut(places, n)] for n, place in enumerate(places)
    ]
    recipe: dict[str, object] = {"recipe": RECIPE, "pieces": pieces, "bed": bed, "form": form}
    recipe["says"] = [film.title, loaded.relative, *(_says(place.shot, clips[place.shot]) for place in places)]
    if any(slates):
        recipe["slates"] = [list(slate or ()) for slate in slates]
    source = digests.of_bytes(digests.canonical(recipe))
    path = folder / "film.mp4"
    seal = digests.of_bytes(digests.canonical([source, signing.signer.digest])) if signing is not None else None
    stands = not made.stale("film.mp4", source)
    if stands and signing is None:
        made.keep(_SIGNATURE)
        return
    signed = made.was(_SIGNATURE)
    if stands and signing is not None and signed == seal and signing.is_good(path):
        made.keep(_SIGNATURE)
        return
    relative = path.relative_to(loaded.project.root).as_posix()
    unsigned = "lost" if signed is not None else "none"
    ready = films.find(store, source) if signing is None else None
    if ready is not None:
        _copy(store.blob(ready.digest), path)
        show(Event(event="film", film=film.label, data={**ready.facts, "path": relative, "credentials": unsigned}))
        return
    check_beds(loaded)
    from klingflow.app.film_record import film_record
    from klingflow.output import film as joining  # loads the media library
    from klingflow.output import provenance

    def progress(done: int, of: int) -> None:
        show(Event(event="film", film=film.label, data={"fraction": round(done / max(1, of), 3)}))

    kept = _parts_folder()
    at_hand = _at_hand(film, facts, store)
    size, rate = said or cutting.usual_size(sized), film.rate or cutting.usual_rate(sized)
    cut = cutting.cut_list(film, at_hand, rate, places, repeats)
    record = film_record(loaded, film, clips, cut, rate, bed, store)
    music = loaded.project.resolve(film.audio) if film.audio else None

    def finish(part: Path) -> None:
        provenance.append(part, record)
        if signing is not None:
            signing.sign(part, record, {shown.clip: store.blob(shown.clip) for shown in cut}, music)

    joined = joining.assemble(
        [
            joining.Piece(
                clip=store.blob(shown.clip),
                facts=facts[shown.shot],
                times=at_hand[shown.shot].times,
                shown=shown,
                slate=slate,
            )
            for shown, slate in zip(cut, slates, strict=True)
        ],
        path,
        size=size,
        rate=rate,
        audio=music,
        as_it_is=cutting.keeps_its_form(sized[0].facts, said, film.rate),
        progress=progress,
        kept=kept,
        tags=provenance.tags(record),
        finish=finish,
    )
    if seal is not None:
        made.stale(_SIGNATURE, seal)
    data = {
        "path": relative,
        "frames": joined.frames,
        "seconds": float(joined.duration),
        "size": f"{joined.width}x{joined.height}",
        "rate": joined.rate,
        "credentials": "signed" if signing is not None else unsigned,
    }
    show(Event(event="film", film=film.label, data=data))


def _says(shot: ShotId, clip: ClipRecord) -> list[object]:
    """All that a film says of a clip, but for what follows from the key."""
    if clip.provider == OWN:
        return [shot, OWN]
    day = "" if clip.provider == ANIMATIC else clip.date
    return [shot, clip.provider, clip.key, clip.model, clip.task, day, bool(clip.taken_in)]


def cut_list(
    loaded: LoadedStoryboard,
    film: Film,
    facts: Mapping[ShotId, ClipFacts],
    lock: Lock,
    store: Store,
    stale: cutting.MadeOf | None = None,
) -> tuple[cutting.Shown, ...]:
    """What the film shows, frame by frame, of the clips of its shots; one that has none counts as long as it was
    ordered. `stale` is as with `deliver_draft`. Opens clips that it does not know. Raises StoryboardError where
    `film.shots` names a frame that a clip does not have, MediaError where a clip cannot be read."""
    rate = rate_of(film, facts)
    made = _at_hand(film, facts, store)
    missing = {shot.id: timelines.stand_in(shot, rate) for shot in film.shots if shot.id not in made}
    places = _places(loaded, film, facts, lock, stale)
    return cutting.cut_list(film, made | missing, rate, places, _repeats(film, places, facts, store))


def rate_of(film: Film, facts: Mapping[ShotId, ClipFacts]) -> Fraction:
    """The film's frames a second, by the clips that there are."""
    return film.rate or cutting.usual_rate(cutting.sized(film, facts))


def timeline(
    loaded: LoadedStoryboard,
    film: Film,
    facts: Mapping[ShotId, ClipFacts],
    keys: Mapping[ShotId, Key],
    lock: Lock,
    store: Store,
    stale: cutting.MadeOf | None = None,
) -> timelines.Timeline:
    """The film for editing programs, of the clips that there are; paths are from the film's own folder. Raises as
    `cut_list`."""
    by_id, sized = film.by_id(), cutting.sized(film, facts)
    sources = {
        shot: timelines.Source(
            take=by_id[shot].take,
            key=keys.get(shot),
            clip=clip,
            path=f"shots/{file_name(by_id[shot], by_id[shot].take)}.mp4",
        )
        for shot, clip in _at_hand(film, facts, store).items()
    }
    return timelines.laid_out(
        film,
        cut_list(loaded, film, facts, lock, store, stale),
        sources,
        rate=rate_of(film, facts),
        size=cutting.said_size(film, sized) or cutting.usual_size(sized),
        bed=bed(loaded, film),
    )


def bed(loaded: LoadedStoryboard, film: Film) -> timelines.Bed | None:
    """The film's music; its path is from the film's own folder."""
    if film.audio is None:
        return None
    seconds = recall("bed length", loaded.inputs.clips[film.audio])
    file = loaded.project.resolve(film.audio)
    if not isinstance(seconds, str):
        from klingflow.io import media

        seconds = str(media.sound_seconds(file))
        remember("bed length", loaded.inputs.clips[film.audio], seconds)
    return timelines.Bed(path=os.path.relpath(file, folder_of(loaded, film)), seconds=Fraction(seconds))


def _timeline_file(
    loaded: LoadedStoryboard,
    film: Film,
    clips: Mapping[ShotId, ClipRecord],
    lock: Lock,
    store: Store,
    made: _Made,
    folder: Path,
) -> None:
    """Writes film.otio, where OpenTimelineIO is installed."""
    facts = {shot: clip.facts for shot, clip in clips.items()}
    keys = {shot: clip.key for shot, clip in clips.items()}
    places = _places(loaded, film, facts, lock)
    repeats = _repeats(film, places, facts, store)
    by_id = film.by_id()
    pieces = [
        [
            *[shot.id, shot.take, shot.title, list(shot.tags), shot.duration, keys.get(shot.id, "")],
            *[facts[shot.id].digest if shot.id in facts else "", repeats[n]],
            *[place.start or "", place.end or "", place.join, place.frame],
        ]
        for n, place in enumerate(places)
        for shot in [by_id[place.shot]]
    ]
    bed = loaded.inputs.clips[film.audio] if film.audio else None
    size = cutting.said_size(film, cutting.sized(film, facts)) or ()
    form = [film.label, list(size), str(film.rate or "")]
    source = digests.of_bytes(digests.canonical([TIMELINE, pieces, bed, film.audio, form]))
    if not made.stale("film.otio", source):
        return
    if find_spec("opentimelineio") is None:
        made.remove("film.otio")
        return
    from klingflow.output import otio

    folder.mkdir(parents=True, exist_ok=True)
    durable.replace(folder / "film.otio", otio.dump(timeline(loaded, film, facts, keys, lock, store)).encode())


def cut_on_record(
    loaded: LoadedStoryboard, film: Film, facts: Mapping[ShotId, ClipFacts], lock: Lock
) -> tuple[tuple[cutting.Shown, ...], Fraction]:
    """As `cut_list`, with the film's rate, from what is on record of the clips: opens none, and loads no media library.
    Exact for clips whose frames stand at equal distance. Raises StoryboardError."""
    places = _places(loaded, film, facts, lock)
    rate = rate_of(film, facts)
    clips = {
        shot: cutting.Clip(facts=one, times=FrameTimes.steady(one.frames, Fraction(one.rate)))
        for shot, one in facts.items()
    }
    return cutting.cut_list(film, clips, rate, places, _repeats(film, places, facts, None)), rate


def _at_hand(film: Film, facts: Mapping[ShotId, ClipFacts], store: Store) -> dict[ShotId, cutting.Clip]:
    return {cut.shot: clip_at_hand(facts[cut.shot], store) for cut in film.cut if cut.shot in facts}


def clip_at_hand(facts: ClipFacts, store: Store) -> cutting.Clip:
    """A clip of the store with the times of its frames. Raises MediaError."""
    from klingflow.output import film as joining

    return cutting.Clip(
        facts=facts, times=joining.frame_times(store.blob(facts.digest), facts, _parts_folder())
    )


def _parts_folder() -> Path | None:
    return Path(cache, "parts") if (cache := cache_folder()) is not None else None


DRAFT = "film.draft.mp4"
"""A name of its own, so that nobody takes a draft for the film. A run that is complete removes it."""


def deliver_draft(
    loaded: LoadedStoryboard,
    film: Film,
    there: Mapping[ShotId, ClipRecord],
    stale: cutting.MadeOf,
    takes: Mapping[ShotId, int],
    missing: Mapping[ShotId, str],
    lock: Lock,
    store: Store,
    show: Emit,
) -> tuple[Path, FilmFacts]:
    """Joins the clips of a film that are `there`, and cards in the place of shots that are `missing`, each with why.
    `stale`: what those of the clips were made of that the storyboard would have made otherwise; `takes` are theirs.
    Raises KlingflowError where it cannot be joined."""
    from klingflow.animatic.missing import Card
    from klingflow.app.film_record import film_record
    from klingflow.output import film as joining  # loads the media library
    from klingflow.output import provenance

    check_beds(loaded)
    by_id = film.by_id()
    known = {shot: clip.facts for shot, clip in there.items()}
    rate = rate_of(film, known)
    shapes = shapes_of(film, loaded.inputs)
    absent = {name: _absent(by_id[name], shapes[name] or USUAL, rate) for name in missing}
    facts = {**known, **{shot: clip.facts for shot, clip in absent.items()}}
    places = _places(loaded, film, facts, lock, stale)
    whole = {**_at_hand(film, known, store), **absent}
    sized = cutting.sized(film, known)
    if not sized or any(SHORTER_SIDE[by_id[shot].resolution] > max(s.ordered for s in sized) for shot in missing):
        sized = cutting.sized(film, facts)
    size = cutting.said_size(film, sized) or cutting.usual_size(sized)
    cut = cutting.cut_list(film, whole, rate, places, _repeats(film, places, known, store))
    pieces = []
    for n, shown in enumerate(cut, 1):
        shot, clip = by_id[shown.shot], whole[shown.shot]
        card = None
        if shot.id in missing:
            card = Card(
                number=f"Shot {n}", shot=shot.id, title=shot.title, length=f"{shot.duration} s", why=missing[shot.id]
            )
        pieces.append(
            joining.Piece(
                clip=Path() if card else store.blob(shown.clip),
                facts=clip.facts,
                times=clip.times,
                shown=shown,
                slate=None if card else _slate(shot, n),
                card=card,
            )
        )

    def progress(done: int, of: int) -> None:
        show(Event(event="film", film=film.label, data={"fraction": round(done / max(1, of), 3)}))

    bed = loaded.inputs.clips[film.audio] if film.audio else None
    record = film_record(loaded, film, there, cut, rate, bed, store, takes)
    path = folder_of(loaded, film) / DRAFT
    joined = joining.assemble(
        pieces,
        path,
        size=size,
        rate=rate,
        audio=loaded.project.resolve(film.audio) if film.audio else None,
        progress=progress,
        kept=_parts_folder(),
        tags=provenance.tags(record),
        finish=lambda part: provenance.append(part, record),
    )
    made = _Made(path.parent)
    made.stale(DRAFT, "draft")
    made.finish(complete=False)
    return path, joined


def _absent(shot: Shot, shape: Fraction, rate: Fraction) -> cutting.Clip:
    """What stands for the clip of a shot that has none: as long and as large as it was ordered."""
    frames = max(1, round(shot.duration * rate))
    width, height = framed(SHORTER_SIDE[shot.resolution], shape)
    facts = ClipFacts(
        digest=digests.of_bytes(f"missing {shot.id}".encode()),
        bytes=0,
        width=width,
        height=height,
        frames=frames,
        duration=f"{shot.duration:.3f}",
        rate=str(rate),
        audio=False,
    )
    return cutting.Clip(facts=facts, times=FrameTimes.steady(frames, rate))


def _places(
    loaded: LoadedStoryboard,
    film: Film,
    facts: Mapping[ShotId, ClipFacts],
    lock: Lock,
    stale: cutting.MadeOf | None = None,
) -> tuple[cutting.Place, ...]:
    made_of = dict(stale or {})
    for shot in film.shots:
        entry = lock.entry(film.variant, shot.id, shot.take) if shot.hold else None
        if entry is not None and shot.id in facts and entry.clip == facts[shot.id].digest:
            made_of[shot.id] = entry.parts
    clips = {shot: each.digest for shot, each in facts.items()}
    return cutting.places(film, clips, loaded.inputs.stills, made_of)


def _cut(places: Sequence[cutting.Place], n: int) -> list[str]:
    """What of a clip is shown, for the film's recipe; empty where no word of it is said."""
    place, after = places[n], places[n + 1] if n + 1 < len(places) else None
    early = after.frame if after is not None and after.join is cutting.Join.EARLIER else ""
    said = [place.start or "", place.end or "", early]
    return said if any(said) else []


def _slate(shot: Shot, number: int) -> tuple[str, str] | None:
    """What the film writes into an animatic's strip: a change of it makes the film anew, and no clip. How many shots
    there are is not in it, so that one more at the end leaves the parts before it as they are."""
    return (f"Shot {number}", shot.title) if shot.provider == "animatic" and shot.clip is None else None


def _repeats(
    film: Film, places: Sequence[cutting.Place], facts: Mapping[ShotId, ClipFacts], store: Store | None
) -> dict[int, int]:
    """How many frames at the start of each clip repeat the end of the one that the film shows before it. Without a
    store, as far as it was measured before."""
    shots = film.by_id()
    out = {}
    for n, place in enumerate(places):
        shot = shots[place.shot]
        out[n] = int(place.join is not cutting.Join.NONE)
        if place.join is cutting.Join.CONTINUES and shot.motion_s is not None and shot.provider != ANIMATIC:
            before, clip = facts.get(places[n - 1].shot), facts.get(place.shot)
            if before is not None and clip is not None:
                out[n] = _echo(before.digest, clip.digest, shot.motion_s, store)
    return out


def _echo(before: Digest, clip: Digest, seconds: int, store: Store | None) -> int:
    """How many frames of a clip repeat the last seconds of the one before, which went along; one at least."""
    pair = digests.of_bytes(digests.canonical([ECHO, before, clip, seconds]))
    known = recall("echo", pair)
    if not isinstance(known, int):
        if store is None:
            return 1
        from klingflow.output import echo  # loads the media library

        known = echo.frames(store.blob(before), store.blob(clip), seconds)
        remember("echo", pair, known)
    return max(1, known)


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: somebody may edit what lies in out/, and the store must not hear of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with durable.replacing(target) as part:
        shutil.copyfile(source, part)


class _Made:
    """What lies in one film's folder, and from what each file was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._read()
        self._now: dict[str, str] = {}

    def stale(self, name: str, source: str) -> bool:
        """Whether the file must be made; it is taken as made from now on."""
        self._now[name] = source
        file = self._folder / name
        return self._before.get(name) != source or file.is_symlink() or not file.is_file()

    def was(self, name: str) -> str | None:
        """From what it was made before."""
        return self._before.get(name)

    def keep(self, name: str) -> None:
        """What was there before under that name, if anything, stays."""
        if name in self._before:
            self._now[name] = self._before[name]

    def before(self) -> Mapping[str, str]:
        """What lay there when this was made, by name."""
        return self._before

    def remove(self, name: str) -> None:
        """The file cannot be made here: one that was made of something else goes."""
        if name in self._before:
            (self._folder / name).unlink(missing_ok=True)
        self.forget(name)

    def now(self, name: str) -> str:
        """From what the file was made in this run."""
        return self._now[name]

    def forget(self, name: str) -> None:
        """The file did not come to be after all: it is made the next time."""
        self._before.pop(name, None)
        self._now.pop(name, None)

    def finish(self, *, complete: bool) -> None:
        """Writes down what is there. After a complete run, files of shots that are gone from the storyboard go too."""
        if complete:
            for name in self._before.keys() - self._now.keys():
                (self._folder / name).unlink(missing_ok=True)
        else:
            self._now = self._before | self._now
        if self._now != self._before:
            self._folder.mkdir(parents=True, exist_ok=True)
            durable.replace(self._folder / ".made.json", json.dumps(self._now, indent=0, sort_keys=True).encode())

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(durable.read(self._folder / ".made.json", MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: source for name, source in found.items() if _OURS.fullmatch(name) and isinstance(source, str)}
