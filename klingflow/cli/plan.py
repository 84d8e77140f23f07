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

from klingflow.cli import planning
from klingflow.cli.failing import say
from klingflow.cli.opening import below_root, open_storyboard
from klingflow.core.errors import DONE, StoryboardError, WouldMake
from klingflow.core.source import Severity, inert, render
from klingflow.io.files import write_durably
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
    lock = planning.open_lock(opened)
    store = planning.store_of(opened)
    asked = planning.ask(opened, store)
    planned = planning.make(opened, lock, asked, provider)
    compared = None
    if against is not None:
        from klingflow.cli.against import against_ref, settings_changed

        compared = against_ref(opened, planned, asked, against, var, provider)
    shown = planning.chosen(opened, planned, select, exclude, compared)
    unsendable = planning.unsendable(opened, shown)
    warned = [replace(unsendable, severity=Severity.WARNING)] if unsendable is not None else []
    moved = settings_changed(opened, against) if against is not None else None
    warned += [moved] if moved is not None else []
    if warned:
        first = replace(shown.films[0], warnings=(*shown.films[0].warnings, *warned))
        shown = replace(shown, films=(first, *shown.films[1:]))
    if out is not None or format == "json":
        from klingflow.cli import saving
        from klingflow.output import planfile

        said = saving.of(opened, shown, var, select, exclude)
        text = planfile.dump(said, against=against, comparisons=compared)
    if out is not None:
        write_durably(Path(out), text.encode())
    if format == "json":
        sys.stdout.write(text)
    elif format == "markdown":
        from klingflow.output import markdown

        sys.stdout.write(markdown.comment(shown, compared, base=against or "", command=f"klingflow run {path}"))
    else:
        told = plantext.summary(shown, colour=_coloured(), details=True, against=against or "", compared=compared)
        print(inert(told))
        note = planning.absent(store, shown)
        if note:
            print(f"  {note}")
        for problem in (*opened.warnings, *(p for film in shown.films for p in film.warnings)):
            say("\n" + render(problem))
    busy = (Action.MAKE, Action.RESUME, Action.RESOLVE)
    makes = any(step.action in busy for film in shown.films for step in film.steps)
    return WouldMake.code if exit_code and makes else DONE


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
