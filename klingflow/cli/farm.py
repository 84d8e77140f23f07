"""`klingflow farm`: starts storyboards on a farm of workers, and shows what it does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import klingflow
from klingflow import Planned, SpendRefused, Storyboard, UsageError, money
from klingflow.cli import answer, storyboards
from klingflow.cli.error_report import explained, say
from klingflow.cli.run import limits_of
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DETACHED, DONE, KlingflowError
from klingflow.core.redact import redact
from klingflow.core.source import inert, rendered, visible
from klingflow.output import terminal
from klingflow.output.table import Row, table
from klingflow.output.words import count

if TYPE_CHECKING:
    from klingflow.farm import engine, start
    from klingflow.farm.start import Started

IDLE = 20
"""Looks, a second apart, at jobs of which none is at work."""
NOBODY = (
    "no worker has taken a job for a while: none runs with this database, none has the key of the seller, or all are "
    "busy with other storyboards (klingflow farm status)"
)
HEAD = ("STATE", "STORYBOARD", "WHAT", "SINCE", "WORKER")


def farm(
    what: str,
    paths: Sequence[str] = (),
    var: Sequence[str] = (),
    provider: str | None = None,
    yes: bool = False,
    max_spend: str | None = None,
    detach: bool = False,
    page: str | None = None,
    format: str = "text",
) -> int:
    """`run` ends as a run does, by the worst of its storyboards; with --detach, 7 while the farm is at work."""
    with with_extra():
        from klingflow.farm import engine, start, work  # the engine is an extra
    if what == "status":
        url = start.database(paths[0] if paths else ".", os.environ)
        with unreachable(url):
            opened = engine.Farm(url)
        return _status(start.rows(opened), page, format)
    if not paths:
        raise UsageError("no storyboard is named", "klingflow farm run films/*.yaml")
    files = storyboards.several(paths)
    boards = [klingflow.open(path, variables=parse_vars(var), provider=provider) for path in files]
    plans = [(board, board.plan()) for board in boards]
    work.refuse_store(Path(files[0]), os.environ)
    _check(plans, max_spend, yes)
    url = start.database(paths[0], os.environ)
    with unreachable(url):
        opened = engine.Farm(url, lambda text: say(visible(redact(text))))
    try:
        with unreachable(url, disk=True):
            return _run(opened, plans, detach)
    finally:
        opened.close()


def _check(plans: Sequence[tuple[Storyboard, Planned]], max_spend: str | None, yes: bool) -> None:
    """Shows what it costs, holds it against the limits, and asks. Raises SpendRefused."""
    from klingflow.farm import start

    spend, tasks, unknown = Decimal(0), 0, False
    for board, planned in plans:
        for text in rendered(planned.warnings):
            say(text + "\n")
        sums = planned.totals
        price = "an unknown sum" if sums.spend is None else money(sums.spend) if sums.spend else "free"
        say(f"{visible(board.path)}: {count(sums.tasks, 'clip')} to make, {price}")
        start.refuse_above(planned.plan.limits, sums.spend, sums.tasks, sums.seconds, f"{board.path}: ")
        spend, tasks, unknown = spend + (sums.spend or 0), tasks + sums.tasks, unknown or sums.spend is None
    start.refuse_above(limits_of(max_spend), None if unknown else spend, tasks)
    if yes or not any(planned.pays for _, planned in plans):
        return
    amount = "an unknown sum" if unknown else money(spend)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpendRefused(f"the farm would spend {amount}, and nobody said yes", "look at the plans, then add --yes")
    sys.stderr.write(f"Spend {amount} on {count(tasks, 'clip')}? Only 'yes' is taken as yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise SpendRefused("not confirmed; nothing was spent", "")


def _run(opened: engine.Farm, plans: Sequence[tuple[Storyboard, Planned]], detach: bool) -> int:
    """A storyboard's films are joined as soon as its own shots are made, whatever the others still wait for."""
    from klingflow.farm import start

    started = [start.start(opened, board, planned) for board, planned in plans]
    of = {name: each for each in started for name in each.names}
    if detach:
        say(f"{count(len(of), 'job')} started; `klingflow farm run` again waits for them, `farm status` shows them")
        return DETACHED if of else DONE
    waiting = dict.fromkeys(of)
    left = {each.storyboard.path: set(each.names) for each in started}
    failed: set[str] = set()
    joining: dict[str, Started] = {}
    codes = [DONE]

    def join(each: Started) -> None:
        (name,) = start.join(opened, each).names
        joining[name] = each
        waiting[name] = None

    for each in started:
        if not each.names:
            join(each)
    for name, done in start.ends(opened, waiting, _progress()):
        each = joining[name] if name in joining else of[name]
        path = each.storyboard.path
        codes.append(done.code)
        if done.code != DONE:
            failed.add(path)
            mend = f"\nmend: {visible(done.mend)}" if done.mend else ""
            say(f"{visible(path)}: {visible(done.what)}{mend}")
        elif name in joining:
            codes.append(_deliver(each.storyboard))
        left[path].discard(name)
        if name not in joining and not left[path] and path not in failed:
            join(each)
    return max(codes)


def _progress() -> Callable[[int, int], None]:
    """Says how many jobs are left and how many are at work, when that changes, and once where none is for long."""
    last: tuple[int, int] | None = None
    idle = 0

    def show(left: int, at_work: int) -> None:
        nonlocal last, idle
        if left and last != (left, at_work):
            say(f"{count(left, 'job')} left, {at_work} at work")
        idle = 0 if at_work or last != (left, at_work) else idle + 1
        last = left, at_work
        if left and idle == IDLE:
            say(NOBODY)

    return show


def _deliver(storyboard: Storyboard) -> int:
    """Writes the lock, and brings what the farm made here: nothing is made by it."""
    try:
        result = storyboard.run(frozen=True)
    except KlingflowError as bad:
        say(f"{visible(storyboard.path)}: {explained(bad)}")
        return bad.code
    for film in result.delivered:
        say(f"the film: {visible(os.path.relpath(film))}")
    return result.exit_code


def _status(rows: Sequence[start.FarmRow], page: str | None, format: str) -> int:
    if page is not None:
        from klingflow.farm import start

        start.write_page(Path(page), rows, _time(time.time()), _time)
    if format == "json":
        answer.show(jobs=[asdict(row) for row in rows])
        return DONE
    if not rows:
        print("no job yet: klingflow farm run starts some")
        return DONE
    shown = [
        Row((row.state, visible(row.storyboard), visible(row.what), _time(row.since_ms / 1000), row.worker), row.why)
        for row in rows
    ]
    print(inert("\n".join(table(HEAD, shown, terminal.width(sys.stdout)))))
    return DONE


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


@contextmanager
def with_extra() -> Iterator[None]:
    """Tells how to install the engine where it is not there."""
    try:
        yield
    except ModuleNotFoundError as bad:
        if bad.name and bad.name.partition(".")[0] in ("dbos", "sqlalchemy", "psycopg"):
            what = "a farm needs its engine, which is not installed"
            raise UsageError(what, "pip install 'klingflow[farm]'") from bad
        raise


@contextmanager
def unreachable(url: str, disk: bool = False) -> Iterator[None]:
    """One clear error where the database does not answer. `disk`: what is done also writes files, whose faults are none
    of the database."""
    from klingflow.farm.engine import DATABASE_ERRORS, reason

    try:
        yield
    except DATABASE_ERRORS as bad:
        if disk and isinstance(bad, OSError):
            raise
        mend = "see that Postgres runs, that the database was created, and that KLINGFLOW_FARM_DATABASE has the right "
        mend += 'user and password: psql "$KLINGFLOW_FARM_DATABASE" connects where it is right'
        why = redact(reason(bad))
        raise UsageError(f"the farm's database {redact(url)} does not answer: {why}", mend) from bad
