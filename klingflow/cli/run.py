"""`klingflow run`: plan, show, ask, make, keep, deliver."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from klingflow.app import outputs, plan_snapshot, planner
from klingflow.app.local_clips import shelf_of
from klingflow.app.project_loader import Opened, open_storyboard
from klingflow.app.services import Services, open_services
from klingflow.cli.error_report import explained, say
from klingflow.core.errors import (
    DONE,
    Detached,
    InDoubt,
    Interrupted,
    KlingflowError,
    ShotsFailed,
    SpendRefused,
    UsageError,
    WouldMake,
)
from klingflow.core.model import ClipFacts, Digest, Film, ShotId
from klingflow.core.source import render, visible
from klingflow.execution import engine, host
from klingflow.execution.outcome import Emit, Event, Outcome, Result
from klingflow.execution.purchase import Buyer
from klingflow.io.store import Store
from klingflow.output import planfile, plantext, progress
from klingflow.planning.plan import Action, FilmPlan, Plan, totals
from klingflow.planning.price import Limits, exceeded, money
from klingflow.providers import PROVIDERS
from klingflow.providers.failure import RULES
from klingflow.storyboard.lock import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    film: Film
    plan: FilmPlan
    outcomes: tuple[Outcome, ...]


def run(
    path: str,
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
    detach: bool = False,
    listen: str | None = None,
    callback_url: str | None = None,
    json: bool = False,
    quiet: bool = False,
) -> int:
    opened = open_storyboard(path, var, provider)
    for problem in () if quiet else opened.warnings:
        say(render(problem) + "\n")
    limits = _limits(opened.config.limits, max_spend, max_seconds, max_tasks)
    store = planner.store_of(opened)
    lock = planner.open_lock(opened)
    asked = planner.ask(opened, store)
    planned = planner.make(opened, lock, asked, provider)
    saved = _load_plan(plan) if plan is not None else None
    if saved is not None and select is None and exclude is None:
        # A selection against a base (`state:…`) cannot be made again here: the plan's own shots are meant.
        select, exclude = saved.options.select, saved.options.exclude
        chosen = planner.only(planned, {film.variant: {s.shot for s in film.steps} for film in saved.plan.films})
    else:
        chosen = planner.chosen(opened, planned, select, exclude)
    known = planner.known_clips(planned)
    if plan is not None and saved is not None:
        _refuse_if_moved(plan, saved, plan_snapshot.of(opened, chosen, var, select, exclude))
    sums = totals(chosen.films)
    if not quiet and not json:
        say(plantext.summary(chosen, colour=progress.coloured()))
        note = planner.absent(store, chosen)
        if note:
            say(f"  {note}")
    if frozen and sums.tasks:
        what = f"{plantext.count(sums.tasks, 'clip')} would have to be made; nothing was made"
        raise WouldMake(what, "`klingflow run` without --frozen makes what is missing")
    why = exceeded(limits, sums.spend, sums.seconds, sums.tasks)
    if why:
        raise SpendRefused(why, "raise the limit, or select fewer shots with --select")
    for film in opened.films:
        outputs.folder_of(opened, film)  # a place that nothing may be written to is told before money is spent
    services = open_services(opened, chosen, listen=listen, callback_url=callback_url)
    if sums.tasks:
        outputs.check_beds(opened)
    _confirm(chosen, sums.spend, yes)
    with ExitStack() as stack:
        show = stack.enter_context(progress.view(json=json, quiet=quiet))
        show(
            Event(
                event="plan",
                data={"totals": planfile.totals_json(sums), "steps": sum(len(f.steps) for f in chosen.films)},
            )
        )
        began = time.monotonic()
        ran, interrupted, spent = asyncio.run(
            _until_signal(opened, chosen, known, store, lock, asked, services, limits, frozen, detach, show)
        )
        # The loop took its handlers away; what follows writes whole files or none, and may be ended like any command.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        keep(opened, lock, ran)
        code = _code(ran, interrupted)
        delivered: list[Path] = []
        broken: list[KlingflowError] = []
        for each in () if interrupted else ran:
            try:
                there = others(each, known, lock, store)
                delivered += outputs.deliver(opened, each.film, each.outcomes, there, lock, store, show)
            except KlingflowError as bad:
                broken.append(bad)
        code = code or max((bad.code for bad in broken), default=DONE)
        show(Event(event="done", data=_done(ran, code, spent)))
    if not json:
        say(plantext.ending([(r.film, r.outcomes) for r in ran], path, spent, time.monotonic() - began, interrupted))
    for unjoined in broken:
        say(f"the film was not joined; every clip is kept\n{explained(unjoined)}")
    if not json and not quiet:
        for joined in delivered:
            say(f"the film: {visible(_from_here(joined))}")
    return code


def _from_here(path: Path) -> str:
    """A path that can be opened from the folder in which the command was given."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def others(ran: Ran, known: Mapping[str, Mapping[ShotId, Digest]], lock: Lock, store: Store) -> dict[ShotId, ClipFacts]:
    """The clips of shots that the run was not about, where they are at hand."""
    told = {outcome.shot for outcome in ran.outcomes}
    out = {}
    for shot in ran.film.shots:
        entry = lock.entry(ran.film.variant, shot.id, shot.take)
        clip = known[ran.film.variant].get(shot.id)
        if shot.id not in told and entry is not None and entry.clip == clip and store.holds(clip):
            out[shot.id] = entry.facts()
    return out


def _load_plan(path: str) -> planfile.Saved:
    try:
        text = Path(path).read_bytes()
    except OSError as bad:
        raise UsageError(f"{path} cannot be read: {bad.strerror}", "save one with `klingflow plan --out FILE`") from bad
    return planfile.load(text, path)


def _refuse_if_moved(path: str, saved: planfile.Saved, now: planfile.Saved) -> None:
    """A saved plan is never obeyed, only compared with: what is true now runs, and must be what was reviewed."""
    moved = planfile.differences(saved, now)
    if moved:
        listed = "\n".join(f"  - {what}" for what in moved[:20]) + ("\n  - …" if len(moved) > 20 else "")
        raise UsageError(
            f"{path} is not what would run now:\n{listed}", "plan again, have it reviewed, and run the new plan"
        )


def _limits(base: Limits, spend: str | None, seconds: str | None, tasks: str | None) -> Limits:
    """The tighter of each: a command line may narrow what the project file allows, never widen it."""

    def least(of: int | None, text: str | None, name: str) -> int | None:
        if text is None:
            return of
        if not text.isdecimal():
            raise UsageError(f"{name} {text} is not a whole number", f"write {name} 60")
        return int(text) if of is None else min(of, int(text))

    dollars = base.spend
    if spend is not None:
        try:
            asked = Decimal(spend)
        except InvalidOperation:
            asked = Decimal("NaN")
        if not asked.is_finite() or asked < 0:
            raise UsageError(f"--max-spend {spend} is not an amount of dollars", "write --max-spend 20.00")
        dollars = asked if dollars is None else min(dollars, asked)
    return replace(
        base,
        spend=dollars,
        seconds=least(base.seconds, seconds, "--max-seconds"),
        tasks=least(base.tasks, tasks, "--max-tasks"),
    )


def _confirm(plan: Plan, spend: Decimal | None, yes: bool) -> None:
    paid = [
        step
        for film in plan.films
        for step in film.steps
        if step.action is Action.MAKE and step.provider in PROVIDERS and PROVIDERS[step.provider].caps.paid
    ]
    if not paid or yes:
        return
    estimate = any(step.estimate for step in paid)
    amount = "an unknown sum" if spend is None else f"{money(spend)}{' (estimate)' if estimate else ''}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpendRefused(
            f"this run would spend {amount}, and nobody said yes", "look at the plan, then run with --yes"
        )
    sys.stderr.write(f"Spend {amount} on {plantext.count(len(paid), 'clip')}? Only 'yes' is taken as yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise SpendRefused("not confirmed; nothing was spent", "")


def keep(opened: Opened, lock: Lock, ran: Sequence[Ran]) -> None:
    if not opened.rehearsal:
        outputs.write_lock(opened, lock, [(each.film, each.outcomes) for each in ran])


async def _until_signal(
    opened: Opened,
    plan: Plan,
    known: Mapping[str, Mapping[ShotId, Digest]],
    store: Store,
    lock: Lock,
    asked: planner.Asked,
    services: Services,
    limits: Limits,
    frozen: bool,
    detach: bool,
    show: Emit,
) -> tuple[list[Ran], bool, Decimal]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with buying(opened, store, services, limits, detach, show) as buyer, services.listening(buyer.wake, say):
        ran = await execute(opened, plan, known, store, lock, asked, buyer, frozen, show, stop)
    return ran, stop.is_set(), buyer.budget.spent


@asynccontextmanager
async def buying(
    opened: Opened, store: Store, services: Services, limits: Limits, detach: bool, show: Emit
) -> AsyncIterator[Buyer]:
    """A Buyer with its doors open and a folder of its own for what is on its way."""
    parent = opened.project.to_write(".klingflow")
    parent.mkdir(exist_ok=True)
    _sweep(parent)
    with tempfile.TemporaryDirectory(prefix="run-", dir=parent, ignore_cleanup_errors=True) as scratch:
        async with services.opened(store, Path(scratch)) as doors:
            yield Buyer(
                store=store,
                services=doors.by_provider,
                providers=PROVIDERS,
                settings=services.settings,
                publisher=services.publisher,
                media=outputs.Media(),
                stills=services.stills,
                fetch_still=doors.fetch_still,
                shrinks=opened.config.shrink,
                limits=limits,
                storyboard=opened.relative,
                scratch=Path(scratch),
                host=host.this(),
                now_ms=lambda: time.time_ns() // 1_000_000,
                emit=show,
                rng=random.Random(),
                detach=detach,
            )


def _sweep(parent: Path) -> None:
    """Removes what killed runs left on its way. A day old: no run lasts that long."""
    for folder in parent.glob("run-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > 86400:
                shutil.rmtree(folder)


async def execute(
    opened: Opened,
    plan: Plan,
    known: Mapping[str, Mapping[ShotId, Digest]],
    store: Store,
    lock: Lock,
    asked: planner.Asked,
    buyer: Buyer,
    frozen: bool,
    show: Emit,
    stop: asyncio.Event,
) -> list[Ran]:
    """Runs every film of a plan side by side."""
    shelf = shelf_of(opened, store, lock)
    runs = [
        engine.run(
            film_plan,
            film,
            buyer=buyer,
            known=known[film.variant],
            inputs=opened.inputs,
            shelf=shelf(film),
            expect=asked.expect,
            price=lambda shot: asked.price(shot).amount,
            frozen=frozen,
            stop=stop,
            emit=show,
        )
        for film, film_plan in zip(opened.films, plan.films, strict=True)
    ]
    outcomes = await asyncio.gather(*runs)
    return [
        Ran(film=film, plan=film_plan, outcomes=ended)
        for film, film_plan, ended in zip(opened.films, plan.films, outcomes, strict=True)
    ]


def _code(ran: Sequence[Ran], interrupted: bool) -> int:
    """One exit code for all that happened: what a person must settle comes before what merely failed."""
    outcomes = [outcome for each in ran for outcome in each.outcomes]
    results = {outcome.result for outcome in outcomes}
    if interrupted:
        return Interrupted.code
    if Result.IN_DOUBT in results:
        return InDoubt.code
    failures = [outcome.failure for outcome in outcomes if outcome.result is Result.FAILED and outcome.failure]
    codes = {RULES[failure.kind].exit_code for failure in failures if not (failure.limit or failure.frozen)}
    if codes:
        return ShotsFailed.code if len(codes) > 1 else codes.pop()
    if any(failure.frozen for failure in failures):
        return WouldMake.code
    if failures:
        return SpendRefused.code
    return Detached.code if Result.OPEN in results else DONE


def _done(ran: Sequence[Ran], code: int, spent: Decimal) -> dict[str, object]:
    results = [outcome.result for each in ran for outcome in each.outcomes]
    return {
        "exit_code": code,
        "made": results.count(Result.MADE),
        "reused": sum(results.count(r) for r in (Result.REUSED, Result.ADOPTED, Result.HELD)),
        "failed": sum(results.count(r) for r in (Result.FAILED, Result.IN_DOUBT)),
        "skipped": sum(results.count(r) for r in (Result.SKIPPED, Result.OPEN, Result.STOPPED)),
        "spent": float(spent),
    }
