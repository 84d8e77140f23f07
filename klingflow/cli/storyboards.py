"""Which storyboards a command means: a file, or those that a folder holds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from klingflow.core.errors import UsageError
from klingflow.core.source import beside_storyboards, declares_storyboard

_MOST = 10


def one(path: str | None) -> str:
    """The storyboard at a path: the file itself, whether it is there or not, or the only one of a folder (by default of
    this one). Raises UsageError where the folder holds none, or several."""
    folder = "." if path is None else path
    if not Path(folder).is_dir():
        return folder
    found = below(folder)
    here = [each for each in found if Path(each).parent == Path(folder)] or found
    if len(here) > 1:
        names = ", ".join(map(shlex.quote, here[:_MOST])) + (", …" if len(here) > _MOST else "")
        raise UsageError(f"{_named(folder)} holds {len(here)} storyboards", f"name one: {names}")
    return here[0]


def several(paths: Sequence[str]) -> list[str]:
    """The storyboards at several paths (by default: here), each once."""
    found = [each for path in named(paths) or (".",) for each in (below(path) if Path(path).is_dir() else [path])]
    return list(dict.fromkeys(found))


def named(paths: Sequence[str]) -> Sequence[str]:
    """The paths without the locks and project files that a shell's `*.yaml` names beside storyboards."""
    return [path for path in paths if not beside_storyboards(Path(path).name)] or paths


def below(folder: str) -> list[str]:
    """Every storyboard in a folder and the folders below it. Raises UsageError where there is none."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in ("out", "node_modules")
        )
        for name in sorted(names):
            full = os.path.normpath(os.path.join(place, name))
            if name.endswith((".yaml", ".yml")) and not name.endswith(".lock.yaml") and _says_klingflow(full):
                found.append(full)
    if not found:
        mend = "a storyboard is a YAML file that begins with `klingflow: 1`; `klingflow init` writes one"
        raise UsageError(f"there is no storyboard in {_named(folder)}", mend)
    return found


def _named(folder: str) -> str:
    return "this folder" if folder in ("", ".") else folder


def _says_klingflow(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return declares_storyboard(file.read(65536))
    except OSError:
        return False
