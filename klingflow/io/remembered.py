"""What is remembered between two runs: documents that were read and validated once, and answers that were given.

It lies in the user's cache folder, never in the repository, where a pull request could put a poisoned one. It may
vanish at any time, and nothing that goes wrong with it is an error.
"""

from __future__ import annotations

import json
import os
import sys

import klingflow

_PARSED_MOST = 1000
_PARSED_VERSION = 2
"""Raised when what is kept of a text changes within one version of klingflow."""


def remember(kind: str, digest: str, value: object) -> None:
    """Keeps what was made of a text, under the digest of that text. `value` is JSON. Fails in silence."""
    if write_json(f"parsed/{_parsed(kind, digest)}", value):
        _prune()


def recall(kind: str, digest: str) -> object | None:
    """What this version of klingflow made of that text before; None when it is not known."""
    return read_json(f"parsed/{_parsed(kind, digest)}")


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


def read_json(name: str) -> object | None:
    """A file of the cache folder; None where it is not there, or is not JSON."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return json.loads(file.read())  # type: ignore[no-any-return]
    except (OSError, ValueError, RecursionError):
        return None


def write_json(name: str, value: object) -> bool:
    """Whether it could be kept."""
    folder = cache_folder()
    if folder is None:
        return False
    path = os.path.join(folder, name)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Not durable on purpose: a cache that is lost costs a moment, an fsync costs one every time.
        part = f"{path}.{os.urandom(6).hex()}"
        # ASCII: the same bytes in every locale, and a file's name need not be UTF-8.
        with open(part, "wb") as file:
            file.write(json.dumps(value, separators=(",", ":")).encode("ascii"))
        os.replace(part, path)
    except (OSError, ValueError, TypeError):
        return False
    return True
