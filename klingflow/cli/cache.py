"""`klingflow cache`: where it is and how large, and clearing it."""

from __future__ import annotations

import klingflow
from klingflow.cli import answer
from klingflow.core.errors import DONE
from klingflow.core.source import visible


def cache(what: str | None = None, format: str = "text") -> int:
    found = klingflow.clear_cache() if what == "clear" else klingflow.user_cache()
    if format == "json":
        answer.show(
            folder=found.folder, known_bytes=found.known_bytes, clip_bytes=found.clip_bytes, cleared=what == "clear"
        )
        return DONE
    done = "removed" if what == "clear" else "of known files, documents and parts of films"
    print(f"{visible(found.folder)}: {_size(found.known_bytes)} {done}")
    if found.clip_bytes:
        print(
            f"{_size(found.clip_bytes)} are copies of clips of remote stores, and stay: one may be all there is of a "
            f"clip whose upload failed.\nWhen every run has ended well, {visible(found.folder)}/store may be deleted."
        )
    return DONE


def _size(number: int) -> str:
    return f"{number / 1_000_000:.1f} MB"
