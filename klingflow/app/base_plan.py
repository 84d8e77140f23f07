"""The same storyboard at a git ref, for `plan --against`: read from git's objects, without a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from klingflow.app import lock_file, planner
from klingflow.app.project_loader import LoadedStoryboard, read_films
from klingflow.app.session import Session
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.source import Problem, Severity
from klingflow.io.git import Tree
from klingflow.io.project import PROJECT_FILE, Project, git_root, settings_name
from klingflow.planning.compare import Comparison, Side, compare
from klingflow.planning.plan import Plan, PlanLookups
from klingflow.planning.schedule import prices_anew
from klingflow.storyboard.lock import Lock


def against_ref(session: Session, planned: Plan, ref: str) -> tuple[dict[str, Comparison], list[Problem]]:
    """What the storyboard changes against that ref, by variant, and warnings about the comparison. A storyboard that
    the ref does not have, or that was broken there, makes every shot new. Raises UsageError where there is no such
    ref."""
    loaded, found = session.loaded, session.lookups
    warnings = settings_changed(loaded, ref)
    with Tree(loaded.project.root, ref) as tree:
        lock, problems = _lock(loaded, tree, ref)
        base, more = _base(loaded, found, lock, tree, ref)
    head = _sides(loaded, planned, found)
    warnings += [*problems, *more, *_rewritten(session, lock, ref)]
    return {variant: compare(base.get(variant), side) for variant, side in head.items()}, warnings


def _lock(loaded: LoadedStoryboard, tree: Tree, ref: str) -> tuple[Lock, list[Problem]]:
    """The lock at the ref; an empty one where it has none, or one that cannot be read."""
    beside = loaded.beside(loaded.lock_path.name)
    try:
        if loaded.rehearsal or tree.read(beside) is None:
            return Lock(), []
        return lock_file.read_lock(tree, f"{ref}:{beside}", beside), []
    except KlingflowError as bad:
        return Lock(), [_warning("base-unreadable", f"{ref}:{beside} cannot be read ({bad})", bad.mend)]


def _rewritten(session: Session, base: Lock, ref: str) -> list[Problem]:
    """Lock entries whose clip is another one than at the ref, though the key is the same: no run writes that."""
    return [
        _warning(
            "lock-clip-changed",
            f"the lock entry of '{shot}' take {take} names clip {entry.clip[:12]}, at {ref} it named {old.clip[:12]} "
            "for the same key",
            "a run never changes the clip of a key: restore the entry, unless the shot was made anew on purpose",
        )
        for variant, shots in sorted(session.lock.films.items())
        for shot, takes in sorted(shots.items())
        for take, entry in sorted(takes.items())
        if (old := base.entry(variant, shot, take)) is not None and old.key == entry.key and old.clip != entry.clip
    ]


def _warning(rule: str, what: str, mend: str) -> Problem:
    return Problem(rule=rule, what=what, mend=mend, severity=Severity.WARNING)


def settings_changed(loaded: LoadedStoryboard, ref: str) -> list[Problem]:
    """A warning for each klingflow.yaml that is not as at the ref, from the storyboard's folder up to the root of its
    repository, also where it came or went: it says where clips are kept and what may be spent."""
    folder = (loaded.project.root / loaded.relative).parent
    top = git_root(folder) or loaded.project.root
    changed = []
    for place in (folder, *folder.parents):
        with Tree(place, ref) as tree:
            before = tree.read(PROJECT_FILE)
        now = place / PROJECT_FILE
        after = Project(place).read_bytes(PROJECT_FILE) if now.is_file() else None
        if before != after:
            changed.append(settings_name(place))
        if place == top:
            break
    mend = "read that change too: it says where clips are kept and published, which prices count, what may be spent"
    return [_warning("settings-changed", f"{name} is not what it is at {ref}", mend) for name in changed]


def _base(
    loaded: LoadedStoryboard, found: PlanLookups, lock: Lock, tree: Tree, ref: str
) -> tuple[Mapping[str, Side], list[Problem]]:
    if tree.read(loaded.relative) is None:
        return {}, []
    shown = f"{ref}:{loaded.relative}"
    try:
        content, problems = read_films(
            tree, shown, loaded.relative, loaded.variables, loaded.provider, loaded.config, loaded.environ
        )
        errors = [problem for problem in problems if problem.severity is Severity.ERROR]
        if content is None or errors:
            raise StoryboardError(errors)
    except KlingflowError as bad:
        what = f"{shown} cannot be read ({bad}), so every shot is listed as new"
        return {}, [_warning("base-unreadable", what, bad.mend)]
    before = replace(loaded, films=content.films, inputs=content.inputs, read=content.texts)
    return _sides(before, planner.make(before, lock, found), found), []


def _sides(loaded: LoadedStoryboard, plan: Plan, found: PlanLookups) -> dict[str, Side]:
    """Each film as one side of a comparison, by variant."""
    anew = prices_anew(loaded.films, loaded.inputs, found)
    return {
        film.variant: Side(
            film=film,
            plan=film_plan,
            stills=loaded.inputs.stills,
            clips=loaded.inputs.clips,
            anew=anew[film.variant],
        )
        for film, film_plan in zip(loaded.films, plan.films, strict=True)
    }
