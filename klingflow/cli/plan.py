"""`klingflow plan`: what a run would do, and why.

The plan in text is asked for all day long. What only its other forms need (Markdown, the saved plan) is imported where
they are wanted: that is a sixth of the time.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import klingflow
from klingflow import Action, Planned, StoryboardError
from klingflow.cli.error_report import say
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE, WouldMake
from klingflow.core.source import inert, rendered
from klingflow.output import plantext, terminal


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
    prompts: bool = False,
) -> int:
    storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
    try:
        planned = storyboard.plan(select=select, exclude=exclude, against=against)
    except StoryboardError as bad:
        if format == "markdown":  # the comment with the last plan must not stay up when no plan can be made any more
            from klingflow.output import markdown

            sys.stdout.write(markdown.refused(storyboard.relative(), bad.problems))
        raise
    if out is not None:
        planned.save(out)
    if format == "json":
        sys.stdout.write(planned.json())
    elif format == "markdown":
        from klingflow.output import markdown

        command = f"klingflow run {shlex.quote(path)}"
        text = markdown.comment(planned.plan, planned.comparisons, base=against or "", command=command)
        sys.stdout.write(text)
    else:
        _text(planned, prompts)
    busy = (Action.MAKE, Action.RESUME, Action.RESOLVE)
    makes = any(step.action in busy for film in planned.plan.films for step in film.steps)
    return WouldMake.code if exit_code and makes else DONE


def _text(planned: Planned, prompts: bool) -> None:
    for problem in rendered(planned.warnings):
        say(problem + "\n")
    text = plantext.summary(
        planned.plan,
        width=terminal.width(sys.stdout),
        colour=terminal.coloured(sys.stdout),
        details=True,
        prompts=prompts,
        against=planned.against or "",
        compared=planned.comparisons,
    )
    print(inert(text))
    note = planned.absent()
    if note:
        print(f"\n{note}")
