"""A plan as a saved plan: with the files that it was made from, and the words of the command line that shaped it."""

from __future__ import annotations

from collections.abc import Sequence

from klingflow.app.project_loader import Opened, parse_vars
from klingflow.core.digest import of_bytes
from klingflow.core.model import Digest
from klingflow.output import planfile
from klingflow.planning.plan import Plan


def of(
    opened: Opened, plan: Plan, variables: Sequence[str], select: str | None, exclude: str | None
) -> planfile.Saved:
    options = planfile.Options(vars=parse_vars(variables), select=select, exclude=exclude)
    return planfile.Saved(plan=plan, inputs=_fingerprint(opened), options=options)


def _fingerprint(opened: Opened) -> dict[str, Digest]:
    """Every file that the plan was made from, by path from the project root, with the digest of its bytes."""
    out = dict(opened.read)
    out |= {path: facts.digest for path, facts in opened.inputs.stills.items()}
    out |= opened.inputs.clips
    if opened.lock_path.exists() and not opened.rehearsal:
        out[opened.beside(opened.lock_path.name)] = of_bytes(opened.lock_path.read_bytes())
    settings = opened.project.root / "klingflow.yaml"
    if settings.exists():
        out["klingflow.yaml"] = of_bytes(settings.read_bytes())
    return out
