"""`klingflow init`: a project that runs at once."""

from __future__ import annotations

import os
from pathlib import Path

from klingflow.core.errors import DONE
from klingflow.output import scaffold


def init(folder: str = ".", name: str = "film") -> int:
    written = scaffold.create(Path(folder), name)
    for path in written:
        print(os.path.relpath(path))
    storyboard = os.path.relpath(Path(folder) / f"{name}.yaml")
    print(f"\nnow: klingflow run {storyboard}")
    return DONE
