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
    actions = [path for path in written if path.name == "action.yml"]
    if actions and not any(path.suffix == ".whl" for path in written):
        vendor = os.path.relpath(actions[0].parent)
        print(
            f"\nbefore CI can plan, {shlex.quote(vendor)} needs klingflow's wheel (this klingflow was not installed): "
            f"pip wheel --no-deps -w {shlex.quote(vendor)} PATH-OF-KLINGFLOW"
        )
    storyboard = os.path.relpath(os.path.join(folder, f"{name}.yaml"))
    print(f"\nnow: klingflow run {shlex.quote(storyboard)}")
    return DONE
