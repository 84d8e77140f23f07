"""`NAME.tasks.jsonl`: the tasks that a storyboard's runs paid for and have not collected yet, outside the store.

The store's ledger is the record. This file is its second witness: where the store is lost with a task in flight, the
next run still finds the task here. One JSON object a line, appended and synced before the ledger's own record; a line
that was cut short is passed over. It is not committed: whoever could write it in a pull request could hand a foreign
clip on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._path, os.O_CREAT) as descriptor:
                end = os.fstat(descriptor).st_size
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
                os.write(descriptor, b"\n" * torn + _line(note))
                durable.sync(descriptor)
        except OSError:
            return

    def find(self, key: Key) -> TaskNote | None:
        return self._notes().get(key)

    def drop(self, over: Callable[[Key], bool]) -> None:
        """Rewrites the file without the notes of keys that are over; removes it where none is left. Never raises
        OSError: a note that stays is read only where the store does not know its key."""
        try:
            with _locked(self._path):
                left = [note for note in _read(self._path) if not over(note.key)]
                if left:
                    durable.replace(self._path, b"".join(_line(note) for note in left))
                else:
                    self._path.unlink()
        except OSError:
            return

    def _notes(self) -> dict[Key, TaskNote]:
        if self._known is None:
            notes = {note.key: note for note in _read(self._path)}
            self._known = notes if notes and self._trusted() else {}
        return self._known


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[int]:
    """The file, open to append, while no other run writes it; a link under its name is not followed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):  # else another run has rewritten or removed it meanwhile
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _line(note: TaskNote) -> bytes:
    return json.dumps(asdict(note), ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _read(path: Path) -> Iterator[TaskNote]:
    try:
        data = path.read_bytes() if not path.is_symlink() else b""
    except OSError:
        return
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
            note = TaskNote(**{name: found[name] for name in TaskNote.__slots__})
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        texts = (note.key, note.provider, note.task, note.film, note.shot)
        if all(isinstance(text, str) for text in texts) and all(type(n) is int for n in (note.attempt, note.at_ms)):
            yield note
