"""The same storyboard at a git ref, for `plan --against`: read from git's objects, without a checkout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from klingflow.app import planner
from klingflow.app.planner import Asked
from klingflow.app.project_loader import Opened, parse_vars, read_films
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.source import Problem, Severity
from klingflow.io.git import Tree
from klingflow.planning.compare import Comparison, Side, compare
from klingflow.planning.plan import Plan
from klingflow.storyboard.lock import Lock


def against_ref(
    opened: Opened, planned: Plan, asked: Asked, ref: str, variables: Sequence[str], provider: str | None
) -> tuple[dict[str, Comparison], Problem | None]:
    """What the storyboard changes against that ref, by variant. A storyboard that the ref does not have, or that was
    broken there, makes every shot new; the second value is a warning that says so. Raises UsageError where there is no
    such ref."""
    with Tree(opened.project.root, ref) as tree:
        base, unreadable = _base(opened, asked, tree, ref, variables, provider)
    head = _sides(opened, planned, asked)
    return {variant: compare(base.get(variant), side) for variant, side in head.items()}, unreadable


def settings_changed(opened: Opened, ref: str) -> Problem | None:
    """A warning where klingflow.yaml is not as at the ref: it says where clips are kept and what may be spent."""
    with Tree(opened.project.root, ref) as tree:
        before = tree.read("klingflow.yaml")
    now = opened.project.root / "klingflow.yaml"
    after = opened.project.read_bytes("klingflow.yaml") if now.is_file() else None
    if before == after:
        return None
    return Problem(
        rule="settings-changed",
        what=f"klingflow.yaml is not what it is at {ref}",
        mend="read that change too: it says where clips are kept and published, which prices count, what may be spent",
        severity=Severity.WARNING,
    )


def _base(
    opened: Opened, asked: Asked, tree: Tree, ref: str, variables: Sequence[str], provider: str | None
) -> tuple[Mapping[str, Side], Problem | None]:
    if tree.read(opened.relative) is None:
        return {}, None
    shown = f"{ref}:{opened.relative}"
    try:
        content, problems = read_films(
            tree, shown, opened.relative, parse_vars(variables), provider, opened.config, os.environ
        )
        errors = [problem for problem in problems if problem.severity is Severity.ERROR]
        if content is None or errors:
            raise StoryboardError(errors)
        lock = Lock()
        beside = opened.beside(opened.lock_path.name)
        if not opened.rehearsal and tree.read(beside) is not None:
            lock = planner.read_lock(tree, f"{ref}:{beside}", beside)
    except KlingflowError as bad:
        return {}, Problem(
            rule="base-unreadable",
            what=f"{shown} cannot be read ({bad}), so every shot is listed as new",
            mend=bad.mend,
            severity=Severity.WARNING,
        )
    before = replace(opened, films=content.films, inputs=content.inputs, read=content.texts)
    return _sides(before, planner.make(before, lock, asked, provider), asked), None


def _sides(opened: Opened, plan: Plan, asked: Asked) -> dict[str, Side]:
    """Each film as one side of a comparison, by variant."""
    return {
        film.variant: Side(
            film=film,
            plan=film_plan,
            stills=opened.inputs.stills,
            clips=opened.inputs.clips,
            prices={shot.id: Decimal(0) if shot.clip else asked.price(shot).amount for shot in film.shots},
        )
        for film, film_plan in zip(opened.films, plan.films, strict=True)
    }
