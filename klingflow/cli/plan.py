"""`klingflow plan`: what a run would do, and why.

The plan in text is asked for all day long. What only its other forms need (Markdown, the saved plan) is imported where
they are wanted: that is a sixth of the time.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence

import klingflow
from klingflow import Action, Planned, StoryboardError
from klingflow.cli import storyboards
from klingflow.cli.error_report import say
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE, KlingflowError, UsageError, WouldMake
from klingflow.core.source import Problem, inert, rendered
from klingflow.output import plantext, terminal


def plan(
    paths: Sequence[str] = (),
    var: Sequence[str] = (),
    provider: str | None = None,
    select: str | None = None,
    exclude: str | None = None,
    format: str = "text",
    out: str | None = None,
    against: str | None = None,
    pictures: str | None = None,
    exit_code: bool = False,
    prompts: bool = False,
) -> int:
    """Several storyboards, one after the other; the forms that other programs read hold one plan."""
    if pictures is not None and against is None:
        raise UsageError("--pictures shows what changed, so it needs --against GITREF", "add --against origin/main")
    published = _published(os.environ.get("KLINGFLOW_PICTURES_URL", "")) if pictures is not None else ""
    found = storyboards.several(paths)
    if len(found) > 1 and pictures is not None:
        raise UsageError(
            f"--pictures is for one storyboard, and there are {len(found)}", "name one, with a folder for each"
        )
    if len(found) > 1 and (out is not None or format != "text"):
        names = ", ".join(map(shlex.quote, found[:10])) + (", …" if len(found) > 10 else "")
        what = "--out" if out is not None else f"--format {format}"
        raise UsageError(f"{what} holds one plan, and there are {len(found)} storyboards", f"name one: {names}")
    makes = False
    for n, path in enumerate(found):
        if n:
            print()
        storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
        planned = _planned(storyboard, path, select, exclude, against, format)
        written = planned.pictures(pictures) if pictures is not None else None
        _show(planned, path, format, out, prompts, written, published)
        if written is not None:
            say(written.sentence())
        makes = makes or any(step.action in _BUSY for film in planned.plan.films for step in film.steps)
    return WouldMake.code if exit_code and makes else DONE


_BUSY = (Action.MAKE, Action.RESUME, Action.RESOLVE)


def _planned(
    storyboard: klingflow.Storyboard,
    path: str,
    select: str | None,
    exclude: str | None,
    against: str | None,
    format: str,
) -> Planned:
    try:
        return storyboard.plan(select=select, exclude=exclude, against=against)
    except KlingflowError as bad:
        if format == "markdown":  # the comment with the last plan must not stay up when no plan can be made any more
            from klingflow.output import markdown

            alone = (Problem(rule="plan", what=bad.what, mend=bad.mend),)
            problems = bad.problems if isinstance(bad, StoryboardError) else alone
            sys.stdout.write(markdown.refused(os.path.relpath(path), problems))
        raise


def _show(
    planned: Planned,
    path: str,
    format: str,
    out: str | None,
    prompts: bool,
    written: klingflow.Pictures | None,
    published: str,
) -> None:
    if out is not None:
        planned.save(out)
    if format == "json":
        sys.stdout.write(planned.json())
    elif format == "markdown":
        from klingflow.output import markdown

        command = f"klingflow run {shlex.quote(path)}"
        base = str(planned.base or "")
        # From here, as the job sees the repository: two projects in it may each have a film.yaml.
        named = os.path.relpath(path)
        shown = None
        if written is not None and written.page is not None:
            shown = markdown.Pictures(shots=written.shots, strip=written.strip is not None, url=published)
        text = markdown.comment(
            planned.plan, planned.comparisons, path=named, base=base, command=command, pictures=shown
        )
        sys.stdout.write(text)
    else:
        _text(planned, prompts)


def _published(url: str) -> str:
    """The address of the folder of pictures. Raises UsageError for what is none."""
    if url and not re.fullmatch(r"https?://[^\s?#<>\"\\]+", url):
        what = "KLINGFLOW_PICTURES_URL is not the address of a folder"
        raise UsageError(what, "https://, a host and a path, without a query: https://pictures.example.com/pr-12")
    return url.rstrip("/")


def _text(planned: Planned, prompts: bool) -> None:
    for problem in rendered(planned.warnings):
        say(problem + "\n")
    text = plantext.summary(
        planned.plan,
        width=terminal.width(sys.stdout),
        colour=terminal.coloured(sys.stdout),
        details=True,
        prompts=prompts,
        against=str(planned.base or ""),
        compared=planned.comparisons,
    )
    print(inert(text))
    note = planned.absent()
    if note:
        print(f"\n{note}")
