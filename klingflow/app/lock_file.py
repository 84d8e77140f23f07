"""The lock beside a storyboard: read, also where git left conflict markers in it, and merged."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from klingflow.app.project_loader import LoadedStoryboard, Reader, parse
from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.source import Problem, Severity
from klingflow.io.project import merging
from klingflow.planning import plan as planning
from klingflow.providers import PROVIDERS
from klingflow.storyboard import conflicts, yamlread
from klingflow.storyboard import lock as locks
from klingflow.storyboard.lock import Lock


def open_lock(loaded: LoadedStoryboard) -> Lock:
    """The lock beside the storyboard; an empty one in a rehearsal. Where there is none, but one of a storyboard that is
    gone, the storyboard was renamed: its entries are there to be found (`locks.with_former`). Raises
    StoryboardError."""
    path = loaded.lock_path
    if loaded.rehearsal:
        return Lock()
    if not os.path.lexists(path):
        former = _former_locks(path.parent)
        if len(former) != 1:
            return Lock()
        shown = os.path.relpath(former[0])
        return locks.with_former(read_lock(loaded.project, shown, loaded.beside(former[0].name)))
    shown, relative = os.path.relpath(path), loaded.beside(path.name)
    lock = read_lock(loaded.project, shown, relative)
    if lock.conflicts is None and not merging(loaded.project.root):
        return lock
    return _exactly(loaded, lock, shown, relative) or lock


def _exactly(loaded: LoadedStoryboard, lock: Lock, shown: str, relative: str) -> Lock | None:
    """A lock that git could not merge, from the versions that it has: outside of the conflicts, where the text is
    common to both sides, a line may be that of one of them; and where a merge driver failed, the file is one side
    alone. None where git has no versions, or a run has written the lock since."""
    from klingflow.io import git  # costs more than a plan with nothing to do

    versions = git.unmerged(loaded.project.root, relative)
    if versions is None or (lock.conflicts is None and loaded.lock_path.read_bytes() != versions[1]):
        return None
    try:
        base, ours, theirs = (_any_lock(shown, raw) if raw else Lock() for raw in versions)
    except StoryboardError:
        return None
    return locks.met(base, ours, theirs)


def _former_locks(folder: Path) -> list[Path]:
    """The locks in a folder whose storyboard is not there any more."""
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries}
    stems = sorted(name.removesuffix(".lock.yaml") for name in names if name.endswith(".lock.yaml"))
    return [folder / f"{stem}.lock.yaml" for stem in stems if not names & {f"{stem}.yaml", f"{stem}.yml"}]


@contextmanager
def held(loaded: LoadedStoryboard) -> Iterator[None]:
    """Holds the right to write the lock (and a choice in its storyboard): other processes on this machine wait."""
    path = loaded.project.to_write(f".klingflow/{loaded.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_lock(files: Reader, shown: str, relative: str) -> Lock:
    """A lock file. Where git left conflict markers in it, the entries of both sides (`locks.met`)."""
    return _any_lock(shown, files.read_bytes(relative, yamlread.MAX_BYTES))


def _any_lock(shown: str, raw: bytes) -> Lock:
    if b"<<<<<<<" not in raw:
        return _lock_in(shown, raw)
    text = yamlread.decode(shown, raw)
    if not all(first < last for first, last in conflicts.found(text)):
        return _lock_in(shown, raw)  # which names the marker that is left
    ours, theirs = (_lock_in(shown, side.encode()) for side in conflicts.sides(text))
    return locks.met(Lock(), ours, theirs)


def _lock_in(shown: str, raw: bytes) -> Lock:
    document, problems = parse(shown, raw, "lock")
    if problems:
        raise StoryboardError(problems)
    lock = locks.parse(document)
    for variant, shots in lock.films.items():
        for shot, takes in shots.items():
            for take, entry in takes.items():
                if entry.provider != planning.OWN and entry.provider not in PROVIDERS:
                    way = ("shots",) if not variant else ("films", variant)
                    problems.append(
                        Problem(
                            rule="unknown-provider",
                            what=f"the clip of shot '{shot}', take {take}, is from the provider {entry.provider!r}, "
                            "which this klingflow does not know",
                            span=document.span((*way, shot, str(take), "provider")),
                            mend="restore the entry from git, or upgrade klingflow",
                        )
                    )
    if problems:
        raise StoryboardError(problems)
    return lock


def merge_locks(
    base: str | os.PathLike[str], ours: str | os.PathLike[str], theirs: str | os.PathLike[str], name: str
) -> str:
    """Merges the locks of two branches into the file `ours`, as git's merge driver: `base` is the lock where they
    parted, perhaps empty; `name` is its path in messages. Returns what a person should know; empty where nothing.
    Raises StoryboardError where one of them is no lock (both texts then stand in `ours`, with conflict markers), or
    UsageError for a file that cannot be read or written."""
    try:
        texts = [Path(path).read_bytes() for path in (base, ours, theirs)]
        try:
            lock = locks.met(*(_any_lock(name, raw) if raw.strip() else Lock() for raw in texts))
        except StoryboardError:
            both = conflicts.marked(*(raw.decode("utf-8", "replace") for raw in texts[1:]))
            Path(ours).write_text(both, "utf-8")
            raise
        Path(ours).write_text(locks.dump(lock), "utf-8")
    except OSError as bad:
        raise UsageError(f"{bad.filename} cannot be used: {bad.strerror}", "git names the three files") from bad
    said = _disputed(lock)
    if lock.conflicts:
        said.insert(0, f"both branches made {_counted(lock.conflicts)} anew; both clips stay, and the next run chooses")
    return "\n".join(f"{name}: {one}" for one in said)


def _disputed(lock: Lock) -> list[str]:
    if not lock.disputed:
        return []
    listed = ", ".join(lock.disputed[:12]) + (", …" if len(lock.disputed) > 12 else "")
    return [
        f"the branches picked differently for {listed}: neither pick stays; pick again with `klingflow takes --set`"
    ]


def was_unmerged(name: str, lock: Lock) -> Problem:
    """The warning about a lock that was read from two sides."""
    differing = lock.conflicts or 0
    takes = f"{_counted(differing)} differ{'s' if differing == 1 else ''}" if differing else "no take differs"
    takes = "; ".join([takes, *_disputed(lock)])
    return Problem(
        rule="lock-conflict",
        what=f"git has not merged {name}: both sides were read ({takes}); the clips that answer the storyboard as it "
        "is count, and no entry is dropped",
        mend=f"`klingflow run` writes it whole, then `git add` it; {MERGE_DRIVER} spares you this",
        severity=Severity.WARNING,
    )


MERGE_DRIVER = "`git config merge.klingflow.driver 'klingflow lock merge %O %A %B %P'`"


def _counted(takes: int) -> str:
    return f"{takes} take{'' if takes == 1 else 's'}"
