"""Joined films in the store, for runners that would join the very same one: a farm joins on its workers.

    films/SOURCE.json    which blob the film is, by the digest of all that it was joined from

Nothing here is precious: a film is joined again from its clips at will.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from klingflow.core.model import Digest
from klingflow.io.store import Store

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFilm:
    digest: Digest
    facts: Mapping[str, object]
    """As the event of a film that was joined has them: frames, seconds, size, rate."""


def find(store: Store, source: str) -> KeptFilm | None:
    """The film that was joined from just that; None where the store does not have it."""
    data = store.read(f"films/{source}.json")
    if data is None:
        return None
    try:
        found = json.loads(data)
        kept = KeptFilm(digest=Digest(str(found["film"])), facts=dict(found["facts"]))
        return kept if found.get("version") == VERSION and store.holds(kept.digest) else None
    except (ValueError, KeyError, TypeError):
        return None


def keep(store: Store, source: str, film: Path, facts: Mapping[str, object]) -> Digest:
    """Keeps a film that was joined from just that; the file is given up."""
    digest = store.put(film, move=True)
    data = {"version": VERSION, "film": digest, "facts": dict(facts)}
    store.create(f"films/{source}.json", (json.dumps(data, sort_keys=True, indent=1) + "\n").encode())
    return digest
