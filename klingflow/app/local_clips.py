"""Clips that a run does not have to make: from the lock, or a file of one's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from klingflow.app.project_loader import Opened
from klingflow.core.errors import KlingflowError
from klingflow.core.model import ClipRecord, Film, Key, Shot
from klingflow.execution.engine import Shelf
from klingflow.io.store import Store
from klingflow.planning.plan import OWN, Step
from klingflow.providers import PROVIDERS
from klingflow.storyboard.lock import Entry, Lock


def shelf_of(opened: Opened, store: Store, lock: Lock) -> Callable[[Film], Shelf]:
    """The shelf of each film of a storyboard."""

    def shelf(film: Film) -> Shelf:
        def locked(step: Step, key: Key) -> ClipRecord | None:
            entry = lock.entry(film.variant, step.shot, step.take)
            if entry is None or entry.key != key:
                entry = lock.find(key)
            if entry is None:
                return None
            if not store.holds(entry.clip):
                if entry.provider == OWN or not PROVIDERS[entry.provider].caps.paid:
                    return None
                raise _absent(entry, store)
            return _record(entry)

        def held(step: Step) -> ClipRecord | None:
            entry = lock.entry(film.variant, step.shot, step.take)
            return _record(entry) if entry is not None and store.holds(entry.clip) else None

        def own(shot: Shot, key: Key) -> ClipRecord:
            return _own(opened, store, shot, key)

        return Shelf(locked=locked, held=held, own=own)

    return shelf


def _absent(entry: Entry, store: Store) -> KlingflowError:
    return KlingflowError(
        f"the lock names clip {entry.clip[:12]}, which was paid for, but {store.where} does not hold it",
        "run with the store that holds it (KLINGFLOW_STORE), or declare another `take` to buy the shot anew",
    )


def _own(opened: Opened, store: Store, shot: Shot, key: Key) -> ClipRecord:
    from klingflow.io import media  # the media library is loaded only when a clip is really looked at

    assert shot.clip is not None
    digest = opened.inputs.clips[shot.clip]
    file: Path = opened.project.resolve(shot.clip)
    facts = media.check(file, seconds=None, digest=digest)
    if store.put(file) != digest:
        raise KlingflowError(f"{shot.clip} changed while the run was going on", "run again")
    return ClipRecord(
        key=key,
        facts=facts,
        provider=OWN,
        model=OWN,
        task=None,
        cost=None,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        parts={"recipe": 1, "clip": digest},
        inputs={},
    )


def _record(entry: Entry) -> ClipRecord:
    return ClipRecord(
        key=entry.key,
        facts=entry.facts(),
        provider=entry.provider,
        model=entry.model,
        task=entry.task,
        cost=entry.cost,
        date=entry.date,
        parts={},
        inputs=entry.inputs,
    )
