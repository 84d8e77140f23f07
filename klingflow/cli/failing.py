"""The one place where an error becomes a message on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

from klingflow import __version__
from klingflow.core.errors import BUG, Interrupted, KlingflowError, StoryboardError
from klingflow.core.redact import redact
from klingflow.core.source import render, visible


def report(error: BaseException) -> int:
    """Says what went wrong; returns the exit code. What is not a KlingflowError is a bug of ours."""
    match error:
        case StoryboardError():
            say("\n\n".join(render(problem) for problem in error.problems))
            count = len(error.problems)
            say(f"\n{count} problem{'s' if count != 1 else ''}; nothing was made")
            return error.code
        case KlingflowError():
            say(visible(error.what) + (f"\nmend: {visible(error.mend)}" if error.mend else ""))
            return error.code
        case KeyboardInterrupt():
            say("interrupted; nothing is half written")
            return Interrupted.code
        case _:
            lines = "".join(traceback.format_exception(error))
            versions = f"klingflow {__version__}, Python {sys.version.split()[0]}, {sys.platform}"
            say(f"this is a bug in klingflow ({versions}); please report it with the text below\n\n{lines}")
            return BUG


def say(text: str) -> None:
    """One message on stderr, with no secret in it."""
    try:
        print(redact(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
