"""`klingflow film`: the film anew from the clips that the plan names, or a draft of it from those that are there. Makes
nothing new, buys nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

import klingflow
from klingflow import DraftFilm, UsageError
from klingflow.cli import answer, storyboards
from klingflow.cli.error_report import say
from klingflow.cli.run import run
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE
from klingflow.core.source import visible
from klingflow.output import progress
from klingflow.output.words import count


def film(
    path: str | None,
    var: Sequence[str] = (),
    provider: str | None = None,
    draft: bool = False,
    sign: bool = False,
    format: str = "text",
) -> int:
    path = storyboards.one(path)
    if draft and sign:
        raise UsageError("a draft is not signed", "sign the film itself: leave --draft out")
    if draft:
        return _draft(path, var, provider, json=format == "json")
    return run(path, var=var, provider=provider, frozen=True, whole=True, sign=sign, format=format)


def _draft(path: str, var: Sequence[str], provider: str | None, *, json: bool) -> int:
    storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
    with progress.view(json=False, quiet=json) as show:
        drafts = storyboard.draft(show)
    if json:
        answer.show(storyboard=storyboard.relative(), drafts=[_plain(one) for one in drafts])
        return DONE
    for one in drafts:
        say("\n".join(_said(one)))
    return DONE


def _said(draft: DraftFilm) -> list[str]:
    """What a person has to know before they show it to somebody."""
    name = draft.film
    lines = [f"{name}: {one.shot} is stale: {one.reason}; take {one.take} of the lock is shown" for one in draft.stale]
    lines += [f"{name}: {one.shot} is missing: {one.reason}; a card stands for it" for one in draft.missing]
    known = f"{count(draft.shots, 'shot')}, {len(draft.stale)} stale, {len(draft.missing)} missing"
    if not lines:
        known += ": `klingflow film` joins the film itself"
    lines += [f"{name}: a draft, {draft.frames} frames, {draft.seconds:.3f} s, {draft.size}: {known}"]
    return [visible(line) for line in [*lines, f"the draft: {_from_here(draft)}"]]


def _from_here(draft: DraftFilm) -> str:
    relative = os.path.relpath(draft.path)
    return str(draft.path) if relative.startswith("..") else relative


def _plain(draft: DraftFilm) -> dict[str, object]:
    def shots(which: Sequence[klingflow.DraftShot]) -> list[dict[str, object]]:
        return [{"shot": one.shot, "take": one.take, "reason": one.reason} for one in which]

    return {
        "film": draft.film,
        "path": _from_here(draft),
        "frames": draft.frames,
        "seconds": draft.seconds,
        "size": draft.size,
        "shots": draft.shots,
        "stale": shots(draft.stale),
        "missing": shots(draft.missing),
    }
