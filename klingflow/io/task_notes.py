"""`NAME.tasks.jsonl`: the tasks that a storyboard's runs paid for and have not collected yet, outside the store.

The store's ledger is the record. This file is its second witness: where the store is lost with a task in flight, the
next run still finds the task here. One JSON object a line, appended and synced before the ledger's own record; a torn
last line is passed over. It is not committed: whoever could write it in a pull request could hand a foreign clip on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from klingflow.core.model import Key, ShotId, TaskId
from klingflow.io import durable


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNote:
    key: Key
    attempt: int
    provider: str
    task: TaskId
    film: str
    shot: ShotId
    take: int
    at_ms: int
    """UTC milliseconds by the clock of the run that ordered it."""
    account: object
    """The account's fingerprint, as the intent records it."""


class TaskNotes(Protocol):
    def add(self, note: TaskNote) -> None: ...

    def find(self, key: Key) -> TaskNote | None:
        """The newest task of a key."""
        ...


class TaskFile:
    """Notes in one file. `trusted` is asked once, when there are notes to read: False where the file came with the
    storyboard (git tracks it), and then none of them is believed."""

    def __init__(self, path: Path, *, trusted: Callable[[], bool]) -> None:
        self._path = path
        self._trusted = trusted
        self._known: dict[Key, TaskNote] | None = None

    def add(self, note: TaskNote) -> None:
        """Never raises OSError: a run goes on without its second witness."""
        self._notes()[note.key] = note
        line = json.dumps(asdict(note), ensure_ascii=False, sort_keys=True).encode() + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self._path, flags, 0o644)
            try:
                os.write(descriptor, line)
                durable.sync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return

    def find(self, key: Key) -> TaskNote | None:
        return self._notes().get(key)

    def drop(self, over: Callable[[Key], bool]) -> None:
        """Rewrites the file without the notes of keys that are over; removes it where none is left."""
        left = [note for note in _read(self._path) if not over(note.key)]
        if left:
            text = "".join(json.dumps(asdict(note), ensure_ascii=False, sort_keys=True) + "\n" for note in left)
            durable.replace(self._path, text.encode())
        else:
            self._path.unlink(missing_ok=True)

    def _notes(self) -> dict[Key, TaskNote]:
        if self._known is None:
            notes = {note.key: note for note in _read(self._path)}
            self._known = notes if notes and self._trusted() else {}
        return self._known


def _read(path: Path) -> Iterator[TaskNote]:
    try:
        data = path.read_bytes() if not path.is_symlink() else b""
    except OSError:
        return
    for line in data.splitlines():
        try:
            found = json.loads(line)
            yield TaskNote(**{name: found[name] for name in TaskNote.__slots__})
        except (ValueError, KeyError, TypeError):
            continue
