"""What is remembered between two runs: digests of unchanged files, and documents that were read and validated once.

It lies in the user's cache folder, never in the repository, where a pull request could put a poisoned one. It may
vanish at any time, and nothing that goes wrong with it is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import klingflow
from klingflow.core.model import Digest, ImageFacts


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
        found = _read_json(f"digests/{self._name()}")
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
        _write_json(f"digests/{self._name()}", {"version": _FACTS_VERSION, "root": self._root, "files": files})

    def _name(self) -> str:
        return f"{hashlib.sha256(os.fsencode(self._root)).hexdigest()[:32]}.json"


_PARSED_MOST = 1000
_PARSED_VERSION = 2
"""Raised when what is kept of a text changes within one version of klingflow."""


def remember(kind: str, digest: str, value: object) -> None:
    """Keeps what was made of a text, under the digest of that text. `value` is JSON. Fails in silence."""
    if _write_json(f"parsed/{_parsed(kind, digest)}", value):
        _prune()


def recall(kind: str, digest: str) -> object | None:
    """What this version of klingflow made of that text before; None when it is not known."""
    return _read_json(f"parsed/{_parsed(kind, digest)}")


def _parsed(kind: str, digest: str) -> str:
    return f"{kind}-{klingflow.__version__}-{_PARSED_VERSION}-{digest}.json"


def _prune() -> None:
    folder = cache_folder()
    if folder is None:
        return
    place = os.path.join(folder, "parsed")
    try:
        if len(os.listdir(place)) <= _PARSED_MOST:
            return
        with os.scandir(place) as entries:
            files = [(entry.stat().st_mtime_ns, entry.path) for entry in entries]
        for _, path in sorted(files)[: max(0, len(files) - _PARSED_MOST)]:
            os.unlink(path)
    except OSError:
        return


def cache_folder() -> str | None:
    """The user's cache folder; None where there is no home."""
    return user_folder("XDG_CACHE_HOME", mac="~/Library/Caches", other="~/.cache")


def user_folder(variable: str, *, mac: str, other: str) -> str | None:
    """klingflow's folder in the one that `variable` names, else in the system's own; None where there is no home."""
    try:
        base = os.environ.get(variable, "")
        if not os.path.isabs(base):  # the specification of XDG base directories ignores a relative one
            base = os.path.expanduser(mac if sys.platform == "darwin" else other)
        return f"{base}/klingflow" if os.path.isabs(base) else None
    except (OSError, RuntimeError, KeyError):
        return None


def _read_json(name: str) -> object | None:
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return json.loads(file.read())  # type: ignore[no-any-return]
    except (OSError, ValueError, RecursionError):
        return None


def _write_json(name: str, value: object) -> bool:
    folder = cache_folder()
    if folder is None:
        return False
    path = Path(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not durable on purpose: a cache that is lost costs a moment, an fsync costs one every time.
        part = path.with_name(f"{path.name}.{os.urandom(6).hex()}")
        # ASCII: the same bytes in every locale, and a file's name need not be UTF-8.
        part.write_bytes(json.dumps(value, separators=(",", ":")).encode("ascii"))
        os.replace(part, path)
    except (OSError, ValueError, TypeError):
        return False
    return True
