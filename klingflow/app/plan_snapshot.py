"""A plan as a saved plan: with the files that it was made from, and the words of the command line that shaped it."""

from __future__ import annotations

import os
from pathlib import Path

from klingflow.app.project_loader import LoadedStoryboard
from klingflow.core.digest import of_bytes
from klingflow.core.model import Digest
from klingflow.io.project import PRICE_FILE, PROJECT_FILE
from klingflow.output import planfile
from klingflow.output.planfile import SavedPlan
from klingflow.planning.plan import Plan


def of(loaded: LoadedStoryboard, plan: Plan, select: str | None, exclude: str | None) -> SavedPlan:
    options = planfile.Options(vars=loaded.variables, select=select, exclude=exclude)
    inputs = files(loaded)
    if loaded.lock_path.exists() and not loaded.rehearsal:
        inputs[loaded.beside(loaded.lock_path.name)] = of_bytes(loaded.lock_path.read_bytes())
    return SavedPlan(plan=plan, inputs=inputs, options=options)


def files(loaded: LoadedStoryboard) -> dict[str, Digest]:
    """Every file that a plan is made from, but for the lock, by path from the project root, with the digest of its
    bytes."""
    out = dict(loaded.read)
    out |= {path: facts.digest for path, facts in loaded.inputs.stills.items()}
    out |= loaded.inputs.clips
    root = loaded.project.root
    for settings in (root / PRICE_FILE, *(folder / PROJECT_FILE for folder in (root, *loaded.config.above))):
        if settings.exists():
            out[Path(os.path.relpath(settings, root)).as_posix()] = of_bytes(settings.read_bytes())
    return out
