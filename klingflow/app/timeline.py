"""Films out to editing programs, and their edits back into the storyboard."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from klingflow.app import choosing, outputs
from klingflow.app.project_loader import Declared, LoadedStoryboard, StoryboardFile, read_declared
from klingflow.app.session import Session, open_session
from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.model import ClipFacts, Cut, Film, Key, ShotId
from klingflow.core.source import Severity
from klingflow.io import durable
from klingflow.output import cutting, edl, fcpxml, otio
from klingflow.output.recut import Recut, kept, recut
from klingflow.output.timeline import Edited, Timeline, moved, place
from klingflow.planning.plan import OWN, Plan, Step, totals
from klingflow.storyboard import edit, yamlread

FORMATS = {"otio": otio.dump, "fcpxml": fcpxml.dump, "edl": edl.dump}
"""By the end of a file's name."""
MOST_BYTES = 256 << 20
"""Of an edited timeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A timeline that was written."""

    film: str
    """The film's title, with its matrix values where there are several."""
    path: str
    frames: int
    rate: str
    """Frames a second."""
    clips: int
    gaps: tuple[str, ...]
    """The shots that are not made, for each place at which they are missing."""
    stale: tuple[str, ...]
    """The shots that are shown as the lock has them, though the storyboard asks for another clip by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBrought:
    """Something on an edited timeline that a storyboard cannot say."""

    at: str
    """Its timecode."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an edited timeline asks of a storyboard."""

    film: str
    films: int
    """How many films have this cut: those of a matrix share it."""
    cut: tuple[str, ...]
    """The film's places, as the storyboard then says them."""
    takes: Mapping[str, int]
    """By shot, the take that counts from then on, where it is another one."""
    diff: str
    """The change of the storyboard, as a unified diff; empty where nothing changes."""
    written: bool
    not_brought: tuple[NotBrought, ...]
    makes: int
    """How many clips a run would make after it that it would not make before."""
    spend: Decimal | None
    """USD that they would cost; None where it is not known."""


# -- out --------------------------------------------------------------------------------------------------------------


def export(session: Session, files: Mapping[str, str | None]) -> tuple[Exported, ...]:
    """Writes each film as a timeline in the named formats: to the named file, or (None) to `out/NAME/film.FORMAT`. Puts
    the clips that it shows beside it, where they are not there. As `Storyboard.export`."""
    loaded = session.loaded
    for kind, file in files.items():
        if file is not None and Path(file).suffix != f".{kind}":
            raise UsageError(f"--{kind} {file}: the name of such a file ends with .{kind}", "name it so")
        if file is not None and len(loaded.films) > 1:
            raise UsageError(f"{loaded.path} has {len(loaded.films)} films, and {file} holds one", f"leave {file} out")
    out = []
    for film, plan in zip(loaded.films, session.plan().films, strict=True):
        clips = _Clips(session, film, plan.steps)
        folder = outputs.folder_of(loaded, film)
        made = outputs.timeline(
            loaded, film, clips.facts({}), clips.keys(), session.lock, session.store, clips.stale()
        )
        texts = {}
        for kind, name in files.items():
            if name is None:
                folder.mkdir(parents=True, exist_ok=True)
            target = Path(name) if name is not None else folder / f"film.{kind}"
            prefix = os.path.relpath(folder, Path(os.path.realpath(target.parent)))
            texts[target] = FORMATS[kind](moved(made, prefix))
        shown = {(shot, film.shot(shot).take): facts for shot, facts in clips.facts({}).items()}
        beside = [target.name for target in texts if os.path.realpath(target.parent) == os.path.realpath(folder)]
        outputs.deliver_clips(loaded, film, shown, session.store, beside)
        for target, text in texts.items():
            _written(target, text)
            out.append(_exported(made, target, clips.stale()))
    return tuple(out)


def _exported(timeline: Timeline, target: Path, stale: Collection[ShotId]) -> Exported:
    return Exported(
        film=timeline.name,
        path=str(target),
        frames=timeline.frames,
        rate=str(timeline.rate),
        clips=sum(clip.media is not None for clip in timeline.clips),
        gaps=tuple(clip.shot for clip in timeline.clips if clip.media is None),
        stale=tuple(dict.fromkeys(clip.shot for clip in timeline.clips if clip.shot in stale)),
    )


def _written(target: Path, text: str) -> None:
    try:
        durable.replace(target, text.encode())
    except OSError as bad:
        what = f"{target} cannot be written: {bad.strerror}"
        raise UsageError(what, "name a file in a folder that is there") from bad


class _Clips:
    """The clips of a film's shots that are at hand."""

    def __init__(self, session: Session, film: Film, steps: Sequence[Step]) -> None:
        self._session, self._film = session, film
        self._steps = {(step.shot, step.take): step for step in steps}
        self._known: dict[tuple[ShotId, int], tuple[ClipFacts, Key | None] | None] = {}

    def take(self, shot: ShotId, take: int) -> tuple[ClipFacts, Key | None] | None:
        """What is known of the clip of a take, and its key, where the store holds it: that of the plan, or where the
        plan has none, that of the lock."""
        if (shot, take) not in self._known:
            found = self._find(shot, take)
            here = found is not None and self._session.store.holds(found[0].digest)
            self._known[shot, take] = found if here else None
        return self._known[shot, take]

    def _find(self, shot: ShotId, take: int) -> tuple[ClipFacts, Key | None] | None:
        step = self._steps.get((shot, take))
        entry = self._session.lock.entry(self._film.variant, shot, take)
        if entry is not None and (step is None or step.clip is None or entry.clip == step.clip):
            return entry.facts(), entry.key
        if step is None or step.clip is None:
            return None
        if step.record is not None and step.record.facts.digest == step.clip:
            return step.record.facts, step.record.key
        if step.provider == OWN and self._session.store.holds(step.clip):
            return outputs.MediaOnDemand().check(self._session.store.blob(step.clip), step.clip, None), step.key
        return None

    def facts(self, takes: Mapping[ShotId, int]) -> dict[ShotId, ClipFacts]:
        """By shot, the clip of the take that counts, or of the one that is named."""
        found = {shot.id: self.take(shot.id, takes.get(shot.id, shot.take)) for shot in self._film.shots}
        return {shot: each[0] for shot, each in found.items() if each is not None}

    def stale(self) -> dict[ShotId, Mapping[str, str | int | bool]]:
        """The shots whose clip is another one than the storyboard asks for by now, each with what it was made of."""
        out = {}
        for shot in self._film.shots:
            step = self._steps.get((shot.id, shot.take))
            entry = self._session.lock.entry(self._film.variant, shot.id, shot.take)
            if entry is not None and (step is None or step.clip is None) and self.take(shot.id, shot.take) is not None:
                out[shot.id] = entry.parts
        return out

    def keys(self) -> dict[ShotId, Key]:
        found = {shot.id: self.take(shot.id, shot.take) for shot in self._film.shots}
        return {shot: each[1] for shot, each in found.items() if each is not None and each[1] is not None}


# -- back -------------------------------------------------------------------------------------------------------------


def bring_back(file: StoryboardFile, edited: str, *, write: bool) -> Imported:
    """Turns an edited timeline into a change of the storyboard, and writes it where that is asked for. As
    `Storyboard.import_timeline`."""
    session = open_session(file.load())
    loaded = session.loaded
    before = session.plan()
    timeline = _read(edited)
    number = _film_of(loaded, edited, timeline)
    film = loaded.films[number]
    clips = _Clips(session, film, before.films[number].steps)
    rate = outputs.rate_of(film, clips.facts({}))
    if timeline is None:
        timeline = edl.read(_text(edited), edited, rate)
    found = _recut(session, film, clips, timeline, rate)
    _refuse(found, timeline, edited, loaded)
    for shot, take in found.takes.items():
        if clips.take(shot, take) is None:
            what = f"{edited} shows take {take} of '{shot}', which is not there"
            raise UsageError(what, f"klingflow takes {loaded.path} lists those that are")
    changed = _changed(loaded, _declared(loaded, {}), film, found)
    after = before
    if changed:
        films = _declared(loaded, changed).films
        _check_edit(loaded, films, number, found)
        after = replace(session, loaded=replace(loaded, films=films)).plan()
        if write:
            _write(file, loaded, edited, found, changed)
    makes, spend = _cost(before, after)
    return Imported(
        film=film.label,
        films=len(loaded.films),
        cut=tuple(map(str, found.cut)),
        takes={str(shot): take for shot, take in found.takes.items()},
        diff="".join(_diff(loaded, name, old, new) for name, (old, new) in changed.items()),
        written=bool(changed) and write,
        not_brought=tuple(NotBrought(at=place(one.at, timeline.rate), what=one.what) for one in found.lost),
        makes=makes,
        spend=spend,
    )


def _read(edited: str) -> Edited | None:
    """The edited timeline; None of an EDL, which can be read only at the film's rate."""
    match Path(edited).suffix.lower():
        case ".otio":
            return otio.read(Path(edited))
        case ".fcpxml":
            return fcpxml.read(_text(edited), edited)
        case ".fcpxmld":  # a folder, which Final Cut Pro writes
            return fcpxml.read(_text(os.path.join(edited, "Info.fcpxml")), edited)
        case ".edl":
            return None
    raise UsageError(f"{edited} is no timeline that klingflow reads", "name a file that ends in .otio, .fcpxml or .edl")


def _text(edited: str) -> str:
    try:
        with open(edited, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as bad:
        raise UsageError(f"{edited} cannot be read: {bad.strerror}", "name the edited timeline") from bad
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{edited} is larger than {MOST_BYTES >> 20} MiB", "export the one timeline alone")
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # edit lists of older programs


def _film_of(loaded: LoadedStoryboard, edited: str, timeline: Edited | None) -> int:
    """Which film of a matrix was edited: the one that the timeline is named for, or in whose folder it lies."""
    films = loaded.films
    if len(films) == 1:
        return 0
    named = [n for n, film in enumerate(films) if timeline is not None and timeline.name == film.label]
    folder = Path(os.path.realpath(edited)).parent
    lying = [n for n, film in enumerate(films) if outputs.folder_of(loaded, film) == folder]
    for found in (named, lying):
        if len(found) == 1:
            return found[0]
    labels = ", ".join(f"'{film.label}'" for film in films[:6])
    what = f"{edited} may be of any of the {len(films)} films of {loaded.path}"
    raise UsageError(what, f"name the timeline as it was exported ({labels}), or put it into the film's folder in out/")


def _recut(session: Session, film: Film, clips: _Clips, timeline: Edited, rate: Fraction) -> Recut:
    everything = replace(film, cut=tuple(Cut(shot.id) for shot in film.shots))

    def clip_of(shot: ShotId, take: int) -> cutting.Clip | None:
        found = clips.take(shot, take)
        return None if found is None else outputs.clip_at_hand(found[0], session.store)

    stale = clips.stale()

    def cut_list(cut: Sequence[Cut], takes: Mapping[ShotId, int]) -> Sequence[cutting.Shown]:
        return outputs.cut_list(
            session.loaded, replace(everything, cut=tuple(cut)), clips.facts(takes), session.lock, session.store, stale
        )

    bed = outputs.bed(session.loaded, film)
    return recut(
        film, timeline, rate=rate, clip_of=clip_of, cut_list=cut_list, bed=None if bed is None else bed.seconds
    )


def _refuse(found: Recut, timeline: Edited, edited: str, loaded: LoadedStoryboard) -> None:
    """Raises UsageError where no cut can be made of the timeline."""
    if found.foreign:
        names = list(dict.fromkeys(one.media for one in found.foreign))
        places = "\n".join(f"  {place(one.at, timeline.rate)}  {one.media}" for one in found.foreign[:20])
        shots = "".join(f"\n  - {{id: {_id_for(name)}, clip: {edit.scalar_text(name)}}}" for name in names[:20])
        raise UsageError(
            f"{edited} shows what is no clip of {loaded.path}:\n{places}",
            f"bring such a file into the project and declare it as a shot, then import again:{shots}",
        )
    if found.split:
        places = "\n".join(f"  {place(one.at, timeline.rate)}  {one.what}" for one in found.split)
        raise UsageError(f"a shot has one take in a film:\n{places}", "declare the other take as a shot of its own")
    if not found.cut:
        raise UsageError(f"{edited} shows no clip at all", "export the timeline with its picture track")


def _id_for(name: str) -> str:
    stem = name.replace("\\", "/").rpartition("/")[2].partition(".")[0].lower()
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in stem).lstrip("-_") or "insert"


# -- the storyboard's text --------------------------------------------------------------------------------------------

Changed = dict[str, tuple[bytes, bytes]]
"""By path from the project's root, a file before and after."""


class _AsEdited:
    """The project's texts, some of them as they shall be."""

    def __init__(self, loaded: LoadedStoryboard, changed: Changed) -> None:
        self._project, self._changed = loaded.project, changed

    def read_bytes(self, rel: str, most: int = yamlread.MAX_BYTES) -> bytes:
        return self._changed[rel][1] if rel in self._changed else self._project.read_bytes(rel, most)

    def read_text(self, rel: str) -> str:
        return self._project.read_text(rel)


def _declared(loaded: LoadedStoryboard, changed: Changed) -> Declared:
    declared, problems = read_declared(
        _AsEdited(loaded, changed), str(loaded.path), loaded.relative, loaded.variables, loaded.provider, loaded.environ
    )
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors or declared is None:
        raise StoryboardError(errors)
    return declared


def _changed(loaded: LoadedStoryboard, declared: Declared, film: Film, found: Recut) -> Changed:
    """The files that change, with what they then hold. Raises UsageError where one is written in a way that cannot be
    edited."""
    changed: Changed = {}

    def change(path: str, new: bytes) -> None:
        old = changed[path][0] if path in changed else loaded.project.read_bytes(path, yamlread.MAX_BYTES)
        changed[path] = (old, new)

    def raw(path: str) -> bytes:
        return changed[path][1] if path in changed else loaded.project.read_bytes(path, yamlread.MAX_BYTES)

    own = loaded.relative
    if found.cut != film.cut:
        change(own, _with_cut(str(loaded.path), raw(own), declared, film, found.cut))
    for shot, take in found.takes.items():
        path, index, _ = choosing.declared_in(loaded, shot)
        change(path, edit.put(path, raw(path), ("shots", index, "take"), take, after="takes"))
    return changed


def _with_cut(shown: str, raw: bytes, declared: Declared, film: Film, cut: Sequence[Cut]) -> bytes:
    data = declared.document.data
    section = data.get("film") if isinstance(data, dict) else None
    if not isinstance(section, dict):
        return edit.put(shown, raw, ("film",), {"shots": [_entry(each) for each in cut]})
    if not section.get("shots"):
        return edit.put(shown, raw, ("film", "shots"), [_entry(each) for each in cut])
    entries = [
        edit.Entry(old, None if old is not None and film.cut[old] == each else _entry(each))
        for each, old in zip(cut, kept(film.cut, cut), strict=True)
    ]
    return edit.put_list(shown, raw, ("film", "shots"), entries)


def _entry(cut: Cut) -> object:
    if cut.start is None and cut.end is None:
        return str(cut.shot)
    said = {"in": cut.start, "out": cut.end}
    return {"shot": str(cut.shot)} | {
        name: int(text) if text.isdecimal() else text for name, text in said.items() if text is not None
    }


def _check_edit(loaded: LoadedStoryboard, films: Sequence[Film], number: int, found: Recut) -> None:
    """That the edited storyboard says what was meant, and nothing else became another. Raises UsageError."""
    film = films[number]
    old = loaded.films[number]
    shots = tuple(replace(shot, take=found.takes.get(shot.id, shot.take)) for shot in old.shots)
    if film.cut != found.cut or film.shots != shots:
        cuts = ", ".join(map(str, found.cut[:20]))
        raise UsageError(
            f"{loaded.path} is written in a way that cannot be edited", f"write the cut by hand: {cuts}"
        )


def _write(file: StoryboardFile, loaded: LoadedStoryboard, edited: str, found: Recut, changed: Changed) -> None:
    """Writes what was shown. A take is then chosen as `klingflow takes --set` does, with who and why in the lock; a
    rehearsal leaves that as it is."""
    for path, (old, new) in changed.items():
        if loaded.project.read_bytes(path, yamlread.MAX_BYTES) != old:
            raise UsageError(f"{path} changed meanwhile; it was not written", "import again")
        target = loaded.project.to_write(path)
        try:
            durable.replace(target, new, mode=stat.S_IMODE(os.stat(target).st_mode))
        except OSError as bad:
            raise UsageError(f"{path} cannot be written: {bad.strerror}", "make its folder writable") from bad
    for shot, take in found.takes.items() if not loaded.rehearsal else ():
        choosing.choose(file, shot, take, why=f"edited timeline {Path(edited).name}")


def _diff(loaded: LoadedStoryboard, path: str, old: bytes, new: bytes) -> str:
    shown = os.path.relpath(loaded.project.root / path)
    before, after = (yamlread.decode(path, raw).splitlines(keepends=True) for raw in (old, new))
    lines = difflib.unified_diff(before, after, shown, shown)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _cost(before: Plan, after: Plan) -> tuple[int, Decimal | None]:
    """What a run would make after a change and not before."""
    had = {(film.variant, step.shot, step.take) for film in before.films for step in film.steps if step.orders}
    films = [
        replace(film, steps=tuple(step for step in film.steps if (film.variant, step.shot, step.take) not in had))
        for film in after.films
    ]
    sums = totals(films)
    return sums.tasks, sums.spend
