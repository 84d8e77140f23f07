"""`klingflow store`: reads every clip and frame of the store and compares it with its digest."""

from __future__ import annotations

from pathlib import Path

from klingflow.app.planner import open_project_store
from klingflow.core.errors import DONE, StoreError
from klingflow.core.model import Digest
from klingflow.output.plantext import count


def store(path: str | None = None) -> int:
    """Exit code 1 when a blob is damaged: it is set aside, and what it was is said."""
    place = open_project_store(Path(path or "."))
    good, bad = 0, []
    for name in place.list("blobs/"):
        digest = Digest(name.removeprefix("blobs/").replace("/", ""))
        try:
            place.blob(digest)
            good += 1
        except StoreError as broken:
            bad.append(broken)
    for damage in bad:
        print(f"{damage.what}\nmend: {damage.mend}")
    print(f"{place.where}: {count(good, 'blob')} good, {len(bad)} damaged")
    return StoreError.code if bad else DONE
