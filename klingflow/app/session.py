"""A storyboard that was loaded, with what planning and running it look things up in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from klingflow.app import lock_file, planner
from klingflow.app.project_loader import LoadedStoryboard
from klingflow.io.store import Store
from klingflow.io.task_notes import TaskFile
from klingflow.planning.plan import Plan, PlanLookups
from klingflow.storyboard.lock import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    loaded: LoadedStoryboard
    store: Store
    lock: Lock
    """As it was when the session began."""
    notes: TaskFile
    """The second witness of paid tasks in flight."""
    lookups: PlanLookups

    def plan(self) -> Plan:
        """What a run of the whole storyboard would do."""
        return planner.make(self.loaded, self.lock, self.lookups)


def open_session(loaded: LoadedStoryboard) -> Session:
    """Raises StoryboardError for a broken lock, UsageError or StoreError for a store that cannot be used."""
    store = planner.store_of(loaded)
    notes = _notes(loaded, store)
    return Session(
        loaded=loaded,
        store=store,
        lock=lock_file.open_lock(loaded),
        notes=notes,
        lookups=planner.lookups(loaded, store, notes),
    )


def _notes(loaded: LoadedStoryboard, store: Store) -> TaskFile:
    """`.klingflow/NAME.tasks.jsonl`; beside the lock where the store itself is in `.klingflow`, so that what loses the
    one need not lose the other (CI keeps it with the lock)."""
    name = f"{loaded.name}.tasks.jsonl"
    inside = f".klingflow/{name}"
    own = loaded.project.root / ".klingflow"
    if store.folder is not None and store.folder.is_relative_to(own):
        inside = loaded.beside(name)
    return TaskFile(loaded.project.root / inside, trusted=lambda: _untracked(loaded.project.root, inside))


def _untracked(root: Path, inside: str) -> bool:
    from klingflow.io.git import tracked  # only where there are notes to believe

    return not tracked(root, inside)
