"""`klingflow lock merge`: the merge driver that git calls for the lock of two branches that meet."""

from __future__ import annotations

import klingflow
from klingflow.cli import answer
from klingflow.cli.error_report import say
from klingflow.core.errors import DONE


def lock(what: str, base: str, ours: str, theirs: str, path: str | None = None, format: str = "text") -> int:
    """Writes the merged lock into the file `ours`. Any other exit code than 0 leaves the conflict to the user."""
    assert what == "merge"
    note = klingflow.merge_locks(base, ours, theirs, path or ours)
    if format == "json":
        answer.show(lock=path or ours, note=note)
    elif note:
        say(note)
    return DONE
