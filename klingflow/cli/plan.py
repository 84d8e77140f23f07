"""`klingflow plan`: what a run would do, and why.

The plan in text is asked for all day long. What only its other forms need (Markdown, the saved plan) is imported where
they are wanted: that is a sixth of the time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import klingflow
from klingflow import Action, Plan, Planned, StoryboardError, UsageError
from klingflow.cli.error_report import say
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE, WouldMake
from klingflow.core.source import inert, render
from klingflow.io import durable
from klingflow.output import plantext


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
    storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
    try:
        planned = storyboard.plan(select=select, exclude=exclude, against=against)
    except StoryboardError as bad:
        if format == "markdown":  # the comment with the last plan must not stay up when no plan can be made any more
            from klingflow.output import markdown

            sys.stdout.write(markdown.refused(storyboard.relative(), bad.problems))
        raise
    shown = _with_warnings(planned)
    if out is not None or format == "json":
        from klingflow.output import planfile

        saved = replace(planned.saved(), plan=shown)
        text = planfile.dump(saved, against=against, comparisons=planned.comparisons)
    if out is not None:
        _write(out, text)
    if format == "json":
        sys.stdout.write(text)
    elif format == "markdown":
        from klingflow.output import markdown

        base = against or ""
        sys.stdout.write(markdown.comment(shown, planned.comparisons, base=base, command=f"klingflow run {path}"))
    else:
        _text(planned, shown, against or "")
    busy = (Action.MAKE, Action.RESUME, Action.RESOLVE)
    makes = any(step.action in busy for film in shown.films for step in film.steps)
    return WouldMake.code if exit_code and makes else DONE


def _text(planned: Planned, shown: Plan, against: str) -> None:
    text = plantext.summary(shown, colour=_coloured(), details=True, against=against, compared=planned.comparisons)
    print(inert(text))
    note = planned.absent()
    if note:
        print(f"  {note}")
    for problem in (warning for film in shown.films for warning in film.warnings):
        say("\n" + render(problem))


def _with_warnings(planned: Planned) -> Plan:
    """The plan with the storyboard's warnings, and what would stop or surprise a run, among the first film's."""
    warnings = (*planned.session.loaded.warnings, *planned.warnings)
    if not warnings:
        return planned.plan
    first, *others = planned.plan.films
    first = replace(first, warnings=(*first.warnings, *warnings))
    return replace(planned.plan, films=(first, *others))


def _write(out: str, text: str) -> None:
    try:
        durable.replace(Path(out), text.encode())
    except OSError as bad:
        raise UsageError(f"{out} cannot be written: {bad.strerror}", "name a file in a folder that is there") from bad


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
