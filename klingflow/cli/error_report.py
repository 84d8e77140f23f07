"""The one place where an error becomes a message on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys

from klingflow import __version__
from klingflow.core.errors import BUG, Interrupted, KlingflowError, StoryboardError, UsageError
from klingflow.core.redact import redact
from klingflow.core.source import inert, rendered, visible

_ELSEWHERE = "make the project writable, or work in a copy of it; clips that are in the store are not made again"
_ROOM = "make room on the disk and run again; clips that are in the store are not made again"
_PLACES = {
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EIO: "look after the disk, then run again; clips that are in the store are not made again",
}
"""Faults of the place where the project lies, not of klingflow, and their mends."""


def report(error: BaseException) -> int:
    """Says what went wrong; returns the exit code. What is not a KlingflowError is a bug of ours."""
    match error:
        case StoryboardError():
            say(explained(error))
            count = len(error.problems)
            say(f"\n{count} problem{'s' if count != 1 else ''}; nothing was made")
            return error.code
        case KlingflowError():
            say(explained(error))
            return error.code
        case OSError(errno=number) if number in _PLACES:
            where = f"'{visible(str(error.filename))}'" if error.filename is not None else "a file"
            say(f"{where} cannot be read or written: {error.strerror}\nmend: {_PLACES[number]}")
            return UsageError.code
        case FileNotFoundError() if not _is_anywhere():
            say("the folder that klingflow was started in is gone\nmend: cd to the project, and run again")
            return UsageError.code
        case KeyboardInterrupt():
            say("interrupted; nothing is half written")
            return Interrupted.code
        case _:
            import traceback  # a command without a bug does not need it

            lines = "".join(traceback.format_exception(error))
            versions = f"klingflow {__version__}, Python {sys.version.split()[0]}, {sys.platform}"
            say(f"this is a bug in klingflow ({versions}); please report it{_where()} with the text below\n\n{lines}")
            return BUG


def _is_anywhere() -> bool:
    """Whether the current folder still exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _where() -> str:
    """Where the package says that bugs are reported."""
    from importlib import metadata

    try:
        urls = metadata.metadata("klingflow").get_all("Project-URL") or ()
    except metadata.PackageNotFoundError:
        return ""
    named = {name.strip().casefold(): url.strip() for name, _, url in (line.partition(",") for line in urls)}
    url = next((named[name] for name in ("issues", "bug tracker", "repository", "homepage") if name in named), "")
    return f" at {url}" if url else " to whoever gave it to you"


def explained(error: KlingflowError) -> str:
    """What went wrong, where, and its mend."""
    if isinstance(error, StoryboardError):
        return "\n\n".join(rendered(error.problems))
    return visible(error.what) + (f"\nmend: {visible(error.mend)}" if error.mend else "")


def say(text: str) -> None:
    """One message on stderr, with no secret in it, and no command to a log."""
    print(inert(redact(text)), file=sys.stderr, flush=True)
