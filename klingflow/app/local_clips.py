"""Clips that a run does not have to make: named by the lock, in the store, or a file of one's own."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from klingflow.app.project_loader import LoadedStoryboard
from klingflow.core.errors import KlingflowError, StoreError
from klingflow.core.model import ClipRecord, Key, Shot
from klingflow.io import ledger
from klingflow.io.store import Store
from klingflow.planning.plan import OWN, Action, Step
from klingflow.storyboard.lock import Lock


class LocalClips:
    """What the engine finds without making anything (execution.engine.Clips)."""

    def __init__(self, loaded: LoadedStoryboard, store: Store, lock: Lock) -> None:
        self._loaded = loaded
        self._store = store
        self._lock = lock

    def holds(self, record: ClipRecord) -> bool:
        return self._store.holds(record.facts.digest)

    def locked(self, key: Key) -> ClipRecord | None:
        entry = self._lock.find(key)
        return None if entry is None else entry.record()

    def own(self, shot: Shot, key: Key) -> ClipRecord:
        from klingflow.io import media  # the media library is loaded only when a clip is really looked at

        assert shot.clip is not None
        digest = self._loaded.inputs.clips[shot.clip]
        file: Path = self._loaded.project.resolve(shot.clip)
        facts = media.check(file, seconds=None, digest=digest)
        if self._store.put(file) != digest:
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


def contradiction(steps: Iterable[Step], store: Store) -> KlingflowError | None:
    """The first step whose clip, by the lock, is not the one that the store's own record of its key names; None where
    lock and store agree, or the store has no record. The lock is edited and merged by people; the record is written
    once, when the clip was bought."""
    for step in steps:
        if step.action not in (Action.REUSE, Action.HOLD) or step.key is None or step.provider == OWN:
            continue
        try:
            record = ledger.clip(store, step.key)
        except StoreError:  # damaged: it contradicts nothing, and stops no other shot
            continue
        if record is not None and record.facts.digest != step.clip:
            return StoreError(
                f"the lock names clip {str(step.clip)[:12]} for shot '{step.shot}', but what was bought for it is clip "
                f"{record.facts.digest[:12]} (clips/{step.key[:12]}….json in {store.where})",
                "restore the lock entry from git, or remove it: the next run then takes the clip that the store names",
            )
    return None
