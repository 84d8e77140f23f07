"""Digests of unchanged files, remembered between two runs in the user's cache folder (io.remembered)."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from klingflow.core.model import Digest, ImageFacts
from klingflow.io.remembered import read_json, write_json


@dataclass(frozen=True, slots=True)
class FileFacts:
    digest: Digest
    image: ImageFacts | None = None
    """None: the file was hashed, not looked at as a picture."""


_IMAGE = ("format", "width", "height", "turned", "cmyk", "deep", "transparent", "profile")
"""What of an image's facts is in no other column."""
_FACTS_VERSION = 4
"""Raised when what is kept of a file changes, or one that passed may be refused now."""
_COLUMNS = (5, 5 + len(_IMAGE))
_RACY_NS = 2_000_000_000
"""A file written so shortly before it was hashed may change again without a new time of change."""


class KnownFiles:
    """Facts of files by (real path, size, times, inode): loaded at first need, saved once."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._facts: dict[str, list[object]] | None = None
        self._fresh: dict[str, list[object]] = {}  # as _facts, for this run only

    def get(self, real: str, known: os.stat_result) -> FileFacts | None:
        if self._facts is None:
            self._facts = self._load()
        row = self._fresh.get(real) or self._facts.get(real)
        if row is None or row[:4] != [known.st_size, known.st_mtime_ns, known.st_ino, known.st_ctime_ns]:
            return None
        digest, *more = row[4:]
        own = dict(zip(_IMAGE, more, strict=True)) if more else None
        image = ImageFacts(digest=digest, bytes=known.st_size, **own) if own else None  # type: ignore[arg-type]
        return FileFacts(digest, image)  # type: ignore[arg-type]

    def put(self, real: str, known: os.stat_result, facts: FileFacts) -> None:
        row: list[object] = [known.st_size, known.st_mtime_ns, known.st_ino, known.st_ctime_ns]
        row += [facts.digest, *(attrgetter(*_IMAGE)(facts.image) if facts.image else ())]
        self._fresh[real] = row

    def _load(self) -> dict[str, list[object]]:
        found = read_json(f"digests/{self._name()}")
        if not isinstance(found, dict) or found.get("version") != _FACTS_VERSION or found.get("root") != self._root:
            return {}
        files = found.get("files")
        if not isinstance(files, dict):
            return {}
        return {path: row for path, row in files.items() if isinstance(row, list) and len(row) in _COLUMNS}

    def save(self) -> None:
        """Keeps the facts for the next run, where the cache folder can be written."""
        now = time.time_ns()
        settled = {
            path: row
            for path, row in self._fresh.items()
            if now - max(row[1], row[3]) > _RACY_NS  # type: ignore[call-overload]
        }
        if not settled:
            return
        files = {**(self._facts or {}), **settled}
        if len(files) > 20_000:
            files = {path: row for path, row in files.items() if path in settled or os.path.exists(path)}
        write_json(f"digests/{self._name()}", {"version": _FACTS_VERSION, "root": self._root, "files": files})

    def _name(self) -> str:
        return f"{hashlib.sha256(os.fsencode(self._root)).hexdigest()[:32]}.json"
