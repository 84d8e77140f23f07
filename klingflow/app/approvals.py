"""Whether a pick is approved: it stands in the lock at the approved git ref, not only in the working tree.

The approved ref is the default branch of the remote; HEAD where there is no remote: there a commit is the approval. The
environment may name another one (KLINGFLOW_APPROVED_REF), a file of the repository may not: a pull request could change
it. Where that cannot be known, nothing is approved. A project that is in no git repository has no such ref, and the
pick alone counts; `check` warns of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app import lock_file
from klingflow.core.errors import KlingflowError
from klingflow.core.model import ShotId
from klingflow.core.source import visible
from klingflow.io.project import git_root
from klingflow.planning.gates import Unapproved
from klingflow.storyboard.lock import Lock, Pick

if TYPE_CHECKING:
    from klingflow.app.project_loader import LoadedStoryboard

REF_VARIABLE = "KLINGFLOW_APPROVED_REF"
_USUAL = ("main", "master")
"""What a default branch is called where the clone does not say which one it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approved:
    lock: Lock | None
    """The lock at the approved ref; None where it cannot be known."""
    ref: str = ""
    """What the ref is called to a person."""
    why: str = ""
    """Why it cannot be known, and what helps."""


def unapproved(loaded: LoadedStoryboard) -> Unapproved:
    """What is still to be done before a pick of the storyboard's is approved. Git is asked once, for the first."""

    @cache
    def approved() -> _Approved | None:
        return _approved(loaded)

    def todo(variant: str, shot: ShotId, pick: Pick) -> str:
        there = approved()
        if there is None:
            return ""
        picked = f"take {pick.take} is picked"
        if there.lock is None:
            return f"{picked}, and whether that is merged is not known: {there.why}"
        known = there.lock.pick(variant, shot)
        if known is not None and (known.take, known.clip) == (pick.take, pick.clip):
            return ""
        if there.ref == "HEAD":
            return f"{picked}, commit it ({loaded.lock_path.name})"
        return f"{picked} and not in {there.ref} yet: merge it (then git fetch)"

    return todo


def _approved(loaded: LoadedStoryboard) -> _Approved | None:
    """None where the project is in no git repository."""
    from klingflow.io import git  # costs more than a plan with nothing to do

    root = loaded.project.root
    if git_root(root) is None:
        return None
    try:
        ref = _ref(root, loaded.environ)
        relative = loaded.beside(loaded.lock_path.name)
        with git.Tree(root, ref, at_tip=True) as tree:
            lock = lock_file.read_lock(tree, f"{tree.shown}:{relative}", relative)
        return _Approved(lock=lock, ref=_shown(ref))
    except git.NoFile:
        return _Approved(lock=Lock(), ref=_shown(ref))
    except KlingflowError as bad:
        return _Approved(lock=None, why=f"{bad.what} ({bad.mend})" if bad.mend else bad.what)


def _shown(ref: str) -> str:
    return visible(ref.removeprefix("refs/remotes/"))


def _ref(root: Path, environ: Mapping[str, str]) -> str:
    """The approved ref. Raises KlingflowError where nothing says which one it is."""
    from klingflow.io import git

    named = environ.get(REF_VARIABLE, "")
    if named:
        return named
    remotes = git.remotes(root)
    if not remotes:
        return "HEAD"
    remote = "origin" if "origin" in remotes else remotes[0]
    if remote != "origin" and len(remotes) > 1:
        raise KlingflowError("there are several remotes, none of them origin", f"name a ref in {REF_VARIABLE}")
    default = git.default_branch(root, remote)
    if default:
        return default
    usual = [ref for name in _USUAL if git.is_branch(root, ref := f"refs/remotes/{remote}/{name}")]
    if len(usual) == 1:
        return usual[0]
    shown = visible(remote)
    mend = f"git remote set-head {shown} --auto, or name a ref in {REF_VARIABLE}"
    raise KlingflowError(f"this clone does not say which branch of {shown} is the default", mend)
