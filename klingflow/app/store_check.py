"""Reads every clip and frame of a store and compares it with its digest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from klingflow.app.planner import open_project_store
from klingflow.core.errors import StoreError, UsageError
from klingflow.core.model import Digest
from klingflow.io.store import FolderStore


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """What was found in a store."""

    store: str
    """Where it is."""
    there: bool
    """False where no run has made it yet."""
    good: int
    """How many clips and frames are what their names say."""
    damaged: tuple[StoreError, ...]
    """Those that are not, each with its mend; they were set aside."""


def verify_store(path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ) -> StoreReport:
    """Verifies the store of a storyboard's or a folder's project. Raises StoryboardError or UsageError for a project
    file or a place that cannot be used, StoreError where the store cannot be read at all."""
    if not os.path.exists(path):
        what = f"there is no file or folder '{os.fspath(path)}'"
        raise UsageError(what, "name a storyboard, or a folder of the project")
    place = open_project_store(Path(path), environ)
    there = not isinstance(place, FolderStore) or place.root.exists()
    good, damaged = 0, []
    for name in place.list("blobs/"):
        try:
            place.blob(Digest(name.removeprefix("blobs/").replace("/", "")))
            good += 1
        except StoreError as bad:
            damaged.append(bad)
    return StoreReport(store=place.where, there=there, good=good, damaged=tuple(damaged))
