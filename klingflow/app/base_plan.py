"""The same storyboard at a git ref, for `plan --against`: read from git's objects, without a checkout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from klingflow.app import lock_file, planner
from klingflow.app.project_loader import LoadedStoryboard, read_declared
from klingflow.app.session import Session
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.model import Digest, FileStill, FileVideo, Film, ImageFacts, Inputs, ShotId
from klingflow.core.source import Problem, Severity
from klingflow.io.git import UNSHALLOW, NoFile, Tree
from klingflow.io.project import PRICE_FILE, PROJECT_FILE, Project, git_root, settings_name
from klingflow.planning import graph
from klingflow.planning.compare import Base, Comparison, Side, compare, unknown, unreadable
from klingflow.planning.plan import FilmPlan, Plan, PlanLookups
from klingflow.planning.schedule import prices_anew
from klingflow.storyboard import yamlread
from klingflow.storyboard.lock import Lock, Pick

MOST_NAMED = 5
"""Files that one warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What a storyboard changes against a git ref."""

    base: Base
    comparisons: Mapping[str, Comparison]
    """By variant."""
    warnings: tuple[Problem, ...]
    """About the comparison, and about what else the change does."""
    before: Mapping[str, Side] | None
    """The films of the base by variant; None where its storyboard cannot be read."""
    now: Mapping[str, Side]
    picked: Mapping[tuple[str, ShotId], tuple[tuple[str, Pick], ...]]
    """By film and shot, what was picked since: what the base's lock does not say, or says otherwise. Each with the
    frame that it is a still for, or "" where it is a take."""


def against_ref(session: Session, planned: Plan, ref: str) -> Against:
    """What the storyboard changes against that ref. A storyboard that the ref does not have makes every shot new; one
    that cannot be read there makes it unknown what changed. Raises UsageError where there is no such ref."""
    loaded, found = session.loaded, session.lookups
    with Tree(loaded.project.root, ref) as tree:
        files = _BaseFiles(tree)
        warnings = [*_unparted(tree), *_settings_changed(loaded, ref)]
        lock = _lock(loaded, files)
        old = _base(loaded, found, lock, files)
    head = _sides(loaded.films, loaded.inputs, planned.films, found)
    comparisons = {
        variant: unknown(side) if old is None else compare(old.get(variant), side) for variant, side in head.items()
    }
    warnings += [*files.warnings(), *_rewritten(session, lock or Lock(), tree.shown)]
    unread = tuple(files.unread.values())
    return Against(
        base=Base(ref=ref, commit=tree.commit, parted=tree.commit != tree.tip),
        comparisons={variant: replace(one, unread=unread) for variant, one in comparisons.items()},
        warnings=tuple(warnings),
        before=old,
        now=head,
        picked=_picked(session, lock or Lock()),
    )


@dataclass(slots=True)
class _BaseFiles:
    """The files of the base. What cannot be read is noted, and stops nothing else."""

    tree: Tree
    unread: dict[str, Problem] = field(default_factory=dict)
    """By path, why."""

    def read_bytes(self, rel: str, most: int = yamlread.MAX_BYTES) -> bytes:
        try:
            return self.tree.read_bytes(rel, most)
        except KlingflowError as bad:
            self.note(rel, bad)
            raise

    def read_text(self, rel: str) -> str:
        try:
            return self.tree.read_text(rel)
        except KlingflowError as bad:
            self.note(rel, bad)
            raise

    def digest(self, rel: str) -> Digest:
        """SHA-256 of the file; empty where there is none. A made-up one where it cannot be read."""
        try:
            return self.tree.digest(rel)
        except NoFile:
            return Digest("")
        except KlingflowError as bad:
            self.note(rel, bad)
            return Digest(f"{rel} at {self.tree.commit}")

    def note(self, rel: str, bad: KlingflowError, how: str = "cannot be read") -> None:
        problem = bad.problems[0] if isinstance(bad, StoryboardError) and bad.problems else None
        place = f" ({problem.span})" if problem and problem.span else ""
        what = f"'{rel}' at {self.tree.shown} {how}: {problem.what}{place}" if problem else bad.what
        self.unread[rel] = _warning("base-unreadable", what, problem.mend if problem else bad.mend)

    def warnings(self) -> list[Problem]:
        """One for all files that one command brings."""
        alike: dict[str, list[str]] = {}
        for rel, problem in self.unread.items():
            alike.setdefault(problem.mend, []).append(rel)
        out = []
        for rel, *others in alike.values():
            names = [f"'{other}'" for other in others[:MOST_NAMED]] + (["…"] if len(others) > MOST_NAMED else [])
            more = f" (likewise {', '.join(names)})" if others else ""
            problem = self.unread[rel]
            what = f"{problem.what}{more}, so it is unknown whether what needs {'them' if others else 'it'} changed"
            out.append(replace(problem, what=what))
        return out


def _unparted(tree: Tree) -> list[Problem]:
    """A warning where it is not known at which commit the branch left the ref."""
    if tree.parted:
        return []
    ref = tree.shown
    what = f"this branch and {ref} have no commit in common here, so it is compared with {ref} as it is now"
    if not tree.shallow:
        return [_warning("base-unrelated", what, "")]
    return [_warning("base-unrelated", f"{what}: this is a shallow clone, without the history", UNSHALLOW)]


def _lock(loaded: LoadedStoryboard, files: _BaseFiles) -> Lock | None:
    """The lock of the base; an empty one where it has none, None where it cannot be read."""
    beside = loaded.beside(loaded.lock_path.name)
    try:
        return Lock() if loaded.rehearsal else lock_file.read_lock(files, f"{files.tree.shown}:{beside}", beside)
    except NoFile:
        del files.unread[beside]
        return Lock()
    except KlingflowError as bad:
        files.note(beside, bad)
        return None


def _rewritten(session: Session, base: Lock, shown: str) -> list[Problem]:
    """Lock entries whose clip is another one than in the base, though the key is the same: no run writes that."""
    return [
        _warning(
            "lock-clip-changed",
            f"the lock entry of '{shot}' take {take} names clip {entry.clip[:12]}, at {shown} it named {old.clip[:12]} "
            "for the same key",
            "a run never changes the clip of a key: restore the entry, unless the shot was made anew on purpose",
        )
        for variant, shots in sorted(session.lock.films.items())
        for shot, takes in sorted(shots.items())
        for take, entry in sorted(takes.items())
        if (old := base.entry(variant, shot, take)) is not None and old.key == entry.key and old.clip != entry.clip
    ]


def _picked(session: Session, base: Lock) -> dict[tuple[str, ShotId], tuple[tuple[str, Pick], ...]]:
    out = {}
    for film in session.loaded.films:
        for shot in film.shots:
            names = {"": shot.id, "first_frame": f"{shot.id}.first_frame", "last_frame": f"{shot.id}.last_frame"}
            found = [(frame, session.lock.pick(film.variant, name), name) for frame, name in names.items()]
            new = tuple(
                (frame, pick) for frame, pick, name in found if pick and pick != base.pick(film.variant, name)
            )
            if new:
                out[film.variant, shot.id] = new
    return out


def _warning(rule: str, what: str, mend: str) -> Problem:
    return Problem(rule=rule, what=what, mend=mend, severity=Severity.WARNING)


def _settings_changed(loaded: LoadedStoryboard, ref: str) -> list[Problem]:
    """A warning for each klingflow.yaml that is not as in the base, from the storyboard's folder up to the root of its
    repository, also where it came or went: it says where clips are kept and what may be spent. And for the project's
    list of prices: it says how much of that a clip is."""
    folder = (loaded.project.root / loaded.relative).parent
    top = git_root(folder) or loaded.project.root
    why = "where clips are kept and published, which prices count, what may be spent"
    files = [(place, PROJECT_FILE, why) for place in (folder, *folder.parents)]
    files.append((loaded.project.root, PRICE_FILE, "what a clip costs, here and wherever a limit counts"))
    found = []
    with Tree(top, ref) as tree:
        for place, name, says in files:
            if not place.is_relative_to(top):
                continue
            now = place / name
            after = Project(place).read_bytes(name) if now.is_file() else None
            shown = Path(settings_name(place)).with_name(name)
            try:
                if tree.read(now.relative_to(top).as_posix()) != after:
                    what = f"{shown} is not what it is at {tree.shown}"
                    found.append(_warning("settings-changed", what, f"read that change too: it says {says}"))
            except KlingflowError as bad:
                what = f"whether {shown} changed is unknown: {bad.what}"
                found.append(_warning("settings-changed", what, bad.mend or f"it says {says}"))
    return found


def _base(
    loaded: LoadedStoryboard, found: PlanLookups, lock: Lock | None, files: _BaseFiles
) -> Mapping[str, Side] | None:
    """The films of the base by variant, none where it has no such storyboard; None where it cannot be read."""
    relative = loaded.relative
    shown, noted = f"{files.tree.shown}:{relative}", len(files.unread)
    try:
        declared, problems = read_declared(
            files, shown, relative, loaded.variables, loaded.provider, loaded.environ
        )
        films = declared.films if declared else ()
        broken = [problem for problem in problems if problem.severity is Severity.ERROR]
        faults = [fault for film in films for fault in graph.cycles(film)]
        nameless = any(shot.id.startswith("#") for film in films for shot in film.shots)  # `recovery` calls it so
        faults += [problem for problem in broken if declared is None or nameless or problem.rule == "duplicate-id"]
        if declared is None or faults:
            raise StoryboardError(faults)
    except NoFile:
        del files.unread[relative]
        return {}
    except KlingflowError as bad:
        files.note(relative, bad)
        return None
    shots = [shot for film in films for shot in film.shots]
    left_out = any(film.left_out for film in films) or any(shot.left_out for shot in shots)
    if broken and left_out and len(files.unread) == noted:  # a text that could not be read is a fault in here, too
        files.note(relative, StoryboardError(broken), "cannot be read in full")
    stills = {frame.path for shot in shots for _, frame in shot.frames() if isinstance(frame, FileStill)}
    stills |= {path for shot in shots for one in shot.proposals() for path in one.stills}
    videos = {video.path for shot in shots for video in shot.videos if isinstance(video, FileVideo)}
    own = {*(film.audio for film in films), *(shot.clip for shot in shots), *videos} - {None}
    inputs = Inputs(
        stills={path: _seen(files.digest(path)) for path in sorted(stills)},
        clips={path: files.digest(path) for path in sorted(filter(None, own))},
    )
    before = replace(loaded, films=films, inputs=inputs, read=declared.texts)
    plans = planner.make(before, lock or Lock(), found).films
    unread = {path: problem.what for path, problem in files.unread.items()}
    priced = [_priced(film, plan, unread, lock) for film, plan in zip(films, plans, strict=True)]
    sides = _sides(films, inputs, priced, found)
    return {
        variant: replace(side, unread=unread, anew=None if _missing(side.film, unread) else side.anew)
        for variant, side in sides.items()
    }


def _seen(digest: Digest) -> ImageFacts:
    """A still of which no more than the digest is known: a key needs no more."""
    return ImageFacts(digest=digest, format="", width=0, height=0, bytes=0)


def _missing(film: Film, unread: Mapping[str, str]) -> set[str]:
    """The shots of a film that are not known in full."""
    return {shot.id for shot in film.shots if unreadable(shot, unread)}


def _priced(film: Film, plan: FilmPlan, unread: Mapping[str, str], lock: Lock | None) -> FilmPlan:
    """The plan of the base: what a run of it would buy is not known of a shot that is not, and without its lock."""
    missing = _missing(film, unread)
    steps = (
        replace(step, price=None) if step.orders and (lock is None or step.shot in missing) else step
        for step in plan.steps
    )
    return replace(plan, steps=tuple(steps))


def _sides(
    films: Iterable[Film], inputs: Inputs, plans: Iterable[FilmPlan], found: PlanLookups
) -> dict[str, Side]:
    """Each film as one side of a comparison, by variant."""
    films = tuple(films)
    anew = prices_anew(films, inputs, found)
    return {
        film.variant: Side(
            film=film, plan=plan, stills=inputs.stills, clips=inputs.clips, anew=anew[film.variant]
        )
        for film, plan in zip(films, plans, strict=True)
    }
