"""`klingflow init`: a project that runs at once."""

from __future__ import annotations

import os
import shlex

import klingflow
from klingflow.core.errors import DONE


def init(folder: str = ".", name: str = "film") -> int:
    written = klingflow.create_project(folder, name)
    for path in written:
        print(os.path.relpath(path))
    storyboard = os.path.relpath(os.path.join(folder, f"{name}.yaml"))
    print(f"\nnow: klingflow run {shlex.quote(storyboard)}")
    return DONE
