"""`klingflow open`: shows the finished film."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import klingflow
from klingflow.cli import answer, storyboards
from klingflow.cli.error_report import say
from klingflow.core.errors import DONE, UsageError
from klingflow.core.source import visible


def open(path: str | None = None, format: str = "text") -> int:
    """Prints where the newest film of the storyboard is, and shows it in the system's own player where there is a
    screen; as JSON it lists them, and shows nothing."""
    storyboard = klingflow.open(storyboards.one(path))
    found = storyboard.delivered()
    if not found:
        raise UsageError("there is no film yet", "klingflow run makes it")
    if format == "json":
        answer.show(storyboard=storyboard.relative(), films=[os.path.relpath(film) for film in found])
        return DONE
    newest, *others = found
    print(visible(os.path.relpath(newest)))
    for other in others:
        say(f"also there: {os.path.relpath(other)}")
    player = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if player is not None and (sys.platform == "darwin" or os.environ.get("DISPLAY") or _wayland()):
        ended = subprocess.run([player, str(newest)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        if ended.returncode:
            say("the system has no player for it: open it by hand")
    return DONE


def _wayland() -> bool:
    return bool(os.environ.get("WAYLAND_DISPLAY"))
