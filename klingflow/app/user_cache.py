"""What klingflow keeps in the user's cache folder, and clearing it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from klingflow.core.errors import UsageError
from klingflow.io.remembered import cache_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCache:
    """The cache folder of this user, as it was looked at."""

    folder: str
    known_bytes: int
    """Digests of files, documents that were read and answers that were given before, and encoded parts of films: what a
    clearing removes."""
    clip_bytes: int
    """Copies of clips out of remote stores. They stay: one may be all there is of a clip whose upload failed."""


def user_cache() -> UserCache:
    """Looks at the cache. Raises UsageError where this user has no home."""
    folder = _folder()
    known = sum(_size(folder / name) for name in _KNOWN)
    return UserCache(folder=str(folder), known_bytes=known, clip_bytes=_size(folder / "store"))


def clear_cache() -> UserCache:
    """Removes what is known of files and documents, and the encoded parts of films: the next command makes them anew.
    Returns the cache as it was."""
    found = user_cache()
    for name in _KNOWN:
        shutil.rmtree(Path(found.folder) / name, ignore_errors=True)
    return found


_KNOWN = ("digests", "parsed", "parts")


def _folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise UsageError("there is no cache: this user has no home", "set HOME, or XDG_CACHE_HOME")
    return Path(folder)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue  # another command is tidying up
    return total
