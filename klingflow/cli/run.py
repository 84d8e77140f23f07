"""`klingflow run`: plan, show, confirm, make, keep, deliver."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from decimal import Decimal, InvalidOperation

import klingflow
from klingflow import Event, Limits, Planned, PreparedRun, RunResult, SpendRefused, UsageError, WouldMake, money
from klingflow.cli import storyboards
from klingflow.cli.error_report import explained, say
from klingflow.cli.words import parse_vars
from klingflow.core.source import rendered, visible
from klingflow.output import plantext, progress, terminal
from klingflow.output.words import count


def run(
    path: str | None = None,
    var: Sequence[str] = (),
    provider: str | None = None,
    select: str | None = None,
    exclude: str | None = None,
    plan: str | None = None,
    yes: bool = False,
    max_spend: str | None = None,
    max_seconds: str | None = None,
    max_tasks: str | None = None,
    frozen: bool = False,
    whole: bool = False,
    detach: bool = False,
    update_lock: bool = False,
    listen: str | None = None,
    callback_url: str | None = None,
    format: str = "text",
    quiet: bool = False,
    sign: bool = False,
) -> int:
    """`sign` is an option of `film` alone: it signs what is there, where nothing is bought."""
    json = format == "json"
    path = storyboards.one(path)
    limits = limits_of(max_spend, max_seconds, max_tasks)
    saved = klingflow.load_plan(plan) if plan is not None else None
    storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
    planned = storyboard.plan(select=select, exclude=exclude, saved=saved)
    if not quiet:
        _warn(planned, update_lock)
    if not quiet and not json:
        _show(planned)
    if whole:
        _refuse_in_parts(planned)
    prepared = planned.prepare(
        limits=limits,
        frozen=frozen,
        detach=detach,
        update_lock=update_lock,
        listen=listen,
        callback_url=callback_url,
        sign=sign,
    )
    _confirm(planned, yes)
    with ExitStack() as stack:
        show = stack.enter_context(progress.view(json=json, quiet=quiet, plan=planned.plan))
        result = asyncio.run(_until_signal(prepared, show))
    _ending(result, path, prepared.signer, json=json, quiet=quiet)
    return result.exit_code


async def _until_signal(prepared: PreparedRun, show: Callable[[Event], None]) -> RunResult:
    """Runs until it is done, or until Ctrl-C or SIGTERM. A closed terminal (SIGHUP) ends nothing: what was bought must
    be collected, and there may be nobody to look."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with suppress(ValueError, NotImplementedError, RuntimeError):  # in a thread signals cannot be received
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return await prepared.run(on_event=show, notify=say, stop=stop)


def _warn(planned: Planned, update_lock: bool) -> None:
    for text in rendered([one for one in planned.warnings if one.rule != "lock-left" or not update_lock]):
        say(text + "\n")
    if update_lock and planned.lost():
        say(f"the lock loses {planned.lost()}; this run's clips stand in their place\n")


def _show(planned: Planned) -> None:
    colour, width = terminal.coloured(sys.stderr), terminal.width(sys.stderr)
    say(plantext.summary(planned.plan, width=width, colour=colour))
    note = planned.absent()
    if note:
        say(f"\n{note}")


def _refuse_in_parts(planned: Planned) -> None:
    """Raises WouldMake where a film lacks a clip."""
    lacking = {step.shot: step.reason for film in planned.plan.films for step in film.steps if step.lacks_clip}
    if not lacking:
        return
    named = [f"{shot} ({reason})" for shot, reason in lacking.items()]
    listed = ", ".join(named[:MOST_NAMES]) + (", …" if len(named) > MOST_NAMES else "")
    are = "is" if len(lacking) == 1 else "are"
    raise WouldMake(
        f"{count(len(lacking), 'shot')} of the film {are} not there: {visible(listed)}",
        "`klingflow run` makes what is missing; `klingflow film --draft` joins what is there",
    )


MOST_NAMES = 12
"""Shots that a sentence lists."""


def _confirm(planned: Planned, yes: bool) -> None:
    if not planned.pays or yes:
        return
    spend, tasks = planned.totals.spend, planned.totals.tasks
    amount = "an unknown sum" if spend is None else f"{money(spend)}{plantext.basis(planned.plan.films)}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpendRefused(
            f"this run would spend {amount}, and nobody said yes", "look at the plan, then run with --yes"
        )
    sys.stderr.write(f"Spend {amount} on {count(tasks, 'clip')}? Only 'yes' is taken as yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise SpendRefused("not confirmed; nothing was spent", "")


def _ending(result: RunResult, path: str, signer: str, *, json: bool, quiet: bool) -> None:
    if not json:
        films = [(each.film, each.plan, each.outcomes) for each in result.films]
        basis = plantext.basis([each.plan for each in result.films])
        say(plantext.ending(films, path, result.spent, result.seconds, result.interrupted, basis))
    for unjoined in result.unjoined:
        say(f"the film was not joined; every clip is kept\n{explained(unjoined)}")
    signed = f", signed by {visible(signer)}" if signer else ""
    if result.unreported is not None:
        say(f"the report was not written; every clip is kept\n{explained(result.unreported)}")
    for text in rendered(result.held_back):
        say(f"film.gate does not let the film pass; everything is kept\n{text}")
    for unjudged in result.unjudged:
        say(f"the joins of the film were not judged; everything is kept\n{explained(unjudged)}")
    if not json and not quiet:
        for joined in result.delivered:
            say(f"the film{signed}: {visible(_from_here(str(joined)))}")
        for page in result.reports:
            say(f"the report: {visible(_from_here(str(page)))}")


def _from_here(path: str) -> str:
    """A path that can be opened from the folder in which the command was given."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def limits_of(spend: str | None, seconds: str | None = None, tasks: str | None = None) -> Limits:
    """The limits of the command line. Raises UsageError."""

    def whole(text: str | None, name: str) -> int | None:
        if text is not None and not (isinstance(text, str) and text.isascii() and text.isdecimal()):
            raise UsageError(f"{name} {text} is not a whole number", f"write it like {name} 60")
        return None if text is None else int(text)

    dollars: Decimal | None = None
    if spend is not None:
        try:
            dollars = Decimal(spend)
        except (InvalidOperation, ValueError, TypeError):  # `--max-spend=--` is an empty list to argparse
            dollars = Decimal("NaN")
        if not dollars.is_finite() or dollars < 0:
            raise UsageError(f"--max-spend {spend} is not an amount of dollars", "write it like --max-spend 20.00")
    return Limits(spend=dollars, seconds=whole(seconds, "--max-seconds"), tasks=whole(tasks, "--max-tasks"))
