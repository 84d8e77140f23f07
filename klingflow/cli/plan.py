"""`klingflow plan`: what a run would do, and why.

The plan in text is asked for all day long. What only its other forms need (git, comparing, Markdown, the saved plan) is
imported where they are wanted: that is a sixth of the time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from klingflow.app import planner
from klingflow.app.project_loader import below_root, open_storyboard
from klingflow.cli.error_report import say
from klingflow.core.errors import DONE, StoryboardError, WouldMake
from klingflow.core.source import Problem, Severity, inert, render
from klingflow.io import durable
from klingflow.output import plantext
from klingflow.planning.plan import Action


def plan(
    path: str,
    var: Sequence[str] = (),
    provider: str | None = None,
    select: str | None = None,
    exclude: str | None = None,
    format: str = "text",
    out: str | None = None,
    against: str | None = None,
    exit_code: bool = False,
) -> int:
    try:
        opened = open_storyboard(path, var, provider)
    except StoryboardError as bad:
        if format == "markdown":  # the comment with the last plan must not stay up when no plan can be made any more
            from klingflow.output import markdown

            sys.stdout.write(markdown.refused(below_root(path), bad.problems))
        raise
    lock = planner.open_lock(opened)
    store = planner.store_of(opened)
    asked = planner.ask(opened, store)
    planned = planner.make(opened, lock, asked, provider)
    compared = None
    warned: list[Problem] = list(opened.warnings)
    if against is not None:
        from klingflow.app.base_plan import against_ref, settings_changed

        compared, unreadable = against_ref(opened, planned, asked, against, var, provider)
        warned += [found for found in (settings_changed(opened, against), unreadable) if found is not None]
    shown = planner.chosen(opened, planned, select, exclude, compared)
    unsendable = planner.unsendable(opened, shown)
    warned += [replace(unsendable, severity=Severity.WARNING)] if unsendable is not None else []
    if warned:
        first = replace(shown.films[0], warnings=(*shown.films[0].warnings, *warned))
        shown = replace(shown, films=(first, *shown.films[1:]))
    if out is not None or format == "json":
        from klingflow.app import plan_snapshot
        from klingflow.output import planfile

        said = plan_snapshot.of(opened, shown, var, select, exclude)
        text = planfile.dump(said, against=against, comparisons=compared)
    if out is not None:
        durable.replace(Path(out), text.encode())
    if format == "json":
        sys.stdout.write(text)
    elif format == "markdown":
        from klingflow.output import markdown

        sys.stdout.write(markdown.comment(shown, compared, base=against or "", command=f"klingflow run {path}"))
    else:
        told = plantext.summary(shown, colour=_coloured(), details=True, against=against or "", compared=compared)
        print(inert(told))
        note = planner.absent(store, shown)
        if note:
            print(f"  {note}")
        for problem in (p for film in shown.films for p in film.warnings):
            say("\n" + render(problem))
    busy = (Action.MAKE, Action.RESUME, Action.RESOLVE)
    makes = any(step.action in busy for film in shown.films for step in film.steps)
    return WouldMake.code if exit_code and makes else DONE


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
