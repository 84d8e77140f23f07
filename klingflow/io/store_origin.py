"""Where a store came from: whoever wrote its ledger could make a paid run send his requests, or adopt his clips.

A store outside the project is the operator's own choice. One inside it may have come with a commit: git is asked, in
every repository around the store. Where git cannot answer, only a store that klingflow created here for this user is
trusted: `claim` leaves a random number in it, and a record of that number outside the project, where no commit reaches.

Knows no record's content, and nothing of object storage.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

from klingflow.core.errors import StoreError
from klingflow.core.source import visible
from klingflow.io import durable, git
from klingflow.io.remembered import user_folder

ORIGIN = ".origin"
"""The file in a store that holds its random number. FolderStore reads and lists no name that begins with a dot."""

_CONTENT = ("ledger", "clips", "blobs")
_NONCE = re.compile(rb"[0-9a-f]{64}")
_LINK, _SUBMODULE = "120000", "160000"
_MOST_LINKS = 40
"""As Linux allows on one path."""


def foreign(store: Path, root: Path) -> tuple[str, str] | None:
    """Why the folder `store` (absolute; links in it unresolved) must not be used by the project in `root`, and how to
    mend that. None where it can be used. A folder that is not there or holds nothing yet is judged too: what is bought
    into it must be usable afterwards."""
    project = Path(os.path.realpath(root))
    above = (project, *project.parents)
    checkout = next(iter(_tops(above)), project)
    ends = [_followed(place) for place in (store, *(store / name for name in _CONTENT))]
    steps = [step for walked, _ in ends for step in walked if checkout in step.parents and step not in above]
    if not steps:
        return None
    shown = _shown(store, Path(root), project)
    content = _Places(end for _, end in ends if end not in above)
    unknown = None if _tops(above) else _no_repository(project)
    for top in _tops({*above, *(folder for _, end in ends for folder in (end, *end.parents)), *steps}):
        try:
            entries = _index(top)
        except _Unknown as exc:
            unknown = exc
            continue
        refused = _tracked(top, entries, content, _Places(steps), shown)
        if refused is not None:
            return refused
    if unknown is None or _is_empty(store) or _is_claimed(store, checkout, whole=unknown.other_owner):
        return None
    return (
        f"the store {shown} is inside the project, and nobody knows who wrote its ledger: {unknown.what}, "
        "and klingflow has no record that it created this store here",
        f"{unknown.mend}if the store is yours, move it out of {visible(str(checkout))} "
        "and set KLINGFLOW_STORE to its new place",
    )


def claim(store: Path) -> None:
    """Makes the folder of a new store and records that klingflow created it. Does nothing to a store that has content.

    Blocks. Raises StoreError where the store's folder cannot be made or written. Where the user's state folder cannot
    be written there is no claim, and no error.
    """
    states = _states()
    if states is None or not _is_empty(store) or _recorded(store, states):
        return
    nonce = secrets.token_hex(32).encode()
    try:
        durable.make_folder(store)
        record = _record(store, nonce, states)
        try:
            durable.make_folder(states)
            durable.replace(record, os.fsencode(os.path.realpath(store)) + b"\n")
        except OSError:
            return
        durable.replace(store / ORIGIN, nonce)
    except OSError as exc:
        why = (exc.strerror or type(exc).__name__).lower()
        raise StoreError(f"cannot make the store {visible(str(store))}: {why}", "mend its permissions") from exc


# Git


class _Unknown(Exception):
    """Git does not know what is tracked."""

    def __init__(self, what: str, mend: str = "", *, other_owner: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend
        self.other_owner = other_owner


def _no_repository(project: Path) -> _Unknown:
    return _Unknown(f"{visible(str(project))} is in no git repository")


def _tops(folders: Iterable[Path]) -> Sequence[Path]:
    """Those of the folders that are the top of a repository or a submodule, the outermost first."""
    found = {folder for folder in folders if os.path.lexists(folder / ".git")}
    return sorted(found, key=lambda folder: len(folder.parts))


def _index(top: Path) -> Sequence[tuple[str, str]]:
    """(mode, path below `top`) of everything that git tracks there. Raises _Unknown."""
    shown = visible(str(top))
    try:
        # All of it, not a path: where the file system ignores case or the form of accents, a commit can spell the
        # store's name in ways that git takes for other names.
        entries = git.answer(top, "ls-files", "--stage", "-z").decode(errors="surrogateescape").split("\0")
    except FileNotFoundError:
        raise _Unknown("git is not installed", "install git; or, ") from None
    except (OSError, TimeoutExpired):
        raise _Unknown(f"git does not answer in {shown}", "see why git ls-files fails; or, ") from None
    except git.GitFailed as exc:
        if "dubious ownership" in exc.said:
            mend = f"git config --global --add safe.directory {visible(shlex.quote(str(top)))}; or, "
            what = f"git does not trust {shown}, which belongs to somebody else"
            raise _Unknown(what, mend, other_owner=True) from None
        if "not a git repository" in exc.said:
            raise _no_repository(top) from None
        raise _Unknown(f"git cannot read the repository {shown}", "mend it (git fsck); or, ") from None
    return [(entry[:6], entry.partition("\t")[2]) for entry in entries if entry]


def _tracked(
    top: Path, entries: Sequence[tuple[str, str]], content: _Places, steps: _Places, shown: str
) -> tuple[str, str] | None:
    seen: set[str] = set()
    unknown_author = "so nobody knows who wrote its ledger"
    for mode, name in entries:
        path = os.path.join(top, name)
        if mode in (_LINK, _SUBMODULE) and steps.has(path):
            kind = "link" if mode == _LINK else "submodule"
            return (
                f"the store {shown} is behind the {kind} {visible(name)}, which is committed to git, {unknown_author}",
                "keep the store in a folder that git does not track, or set KLINGFLOW_STORE to one outside the project",
            )
        for folder in _folders(top, name):
            if folder in seen:
                break
            seen.add(folder)
            if content.has(folder):
                return (
                    f"the store {shown} is committed to git, {unknown_author}",
                    f"if you wrote it yourself: git rm -r --cached {shlex.quote(shown)}, and name it in .gitignore; "
                    "if not, delete it",
                )
    return None


def _folders(top: Path, name: str) -> Iterator[str]:
    """The folders that hold a tracked path, from the innermost to the top."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield os.path.join(top, name)
    yield str(top)


class _Places:
    """Files and folders, known by their path and, whatever the spelling, by their inode."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._paths = {str(place) for place in places}
        self._inodes = {_inode(path) for path in self._paths} - {None}

    def has(self, path: str) -> bool:
        return path in self._paths or _inode(path) in self._inodes


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


# The file system


def _followed(path: Path) -> tuple[Sequence[Path], Path]:
    """Every name that is looked up on the way to `path`, links followed one by one, and the place they lead to.
    Nothing need be there."""
    steps: list[Path] = []
    at, left, links = Path("/"), list(reversed(path.parts[1:])), 0
    while left:
        part = left.pop()
        if part == "..":
            at = at.parent
            continue
        step = at / part
        steps.append(step)
        try:
            target = Path(os.readlink(step))
        except OSError:
            at = step
            continue
        links += 1
        if links > _MOST_LINKS:
            break
        if target.is_absolute():
            at = Path("/")
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return steps, at


def _shown(store: Path, root: Path, project: Path) -> str:
    path = Path(os.path.normpath(store))
    for folder in (root, project):
        if folder in path.parents:
            return visible(str(path.relative_to(folder)))
    return visible(str(path))


def _is_empty(store: Path) -> bool:
    for name in _CONTENT:
        try:
            with os.scandir(store / name) as found:
                if next(found, None) is not None:
                    return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


# Claims


def _states() -> Path | None:
    """The folder of the claims: outside every project."""
    folder = user_folder("XDG_STATE_HOME", mac="~/Library/Application Support", other="~/.local/state")
    return None if folder is None else Path(folder, "stores")


def _record(store: Path, nonce: bytes, states: Path) -> Path:
    """The file that is there if klingflow gave the store at this place this number, which cannot be read from it."""
    real = os.fsencode(os.path.realpath(store))
    return states / hashlib.sha256(nonce + b"\0" + real).hexdigest()


def _recorded(store: Path, states: Path) -> bool:
    try:
        fd = os.open(store / ORIGIN, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(fd, "rb") as file, suppress(OSError):
        nonce = file.read(65)
        return _NONCE.fullmatch(nonce) is not None and _record(store, nonce, states).is_file()
    return False


def _is_claimed(store: Path, checkout: Path, *, whole: bool) -> bool:
    """`whole`: and everything in it has the owner of the claim. What another user's checkout adds later has not."""
    states = _states()
    if states is None or not _recorded(store, states):
        return False
    steps, _ = _followed(states)
    if any(checkout in step.parents for step in steps):  # a commit could bring a record of its own
        return False
    return not whole or _has_one_owner(store)


def _has_one_owner(store: Path) -> bool:
    try:
        owner = os.lstat(store / ORIGIN).st_uid
        for folder, folders, files in os.walk(store, onerror=_raise):
            if any(os.lstat(os.path.join(folder, name)).st_uid != owner for name in (*folders, *files)):
                return False
    except OSError:
        return False
    return True


def _raise(error: OSError) -> None:
    raise error
