"""Runs a plan: everything that can refuse it first, then the engine, then the lock and the outputs."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app import outputs, planner, preflight, report, seams, services
from klingflow.app.local_clips import LocalClips, contradiction
from klingflow.app.services import Doors, Services
from klingflow.app.session import Session
from klingflow.core.errors import (
    DETACHED,
    DONE,
    IN_DOUBT,
    SHOTS_FAILED,
    Interrupted,
    KlingflowError,
    SpendRefused,
    StoreError,
    StoreSilent,
    UsageError,
    WouldMake,
)
from klingflow.core.model import ClipRecord, Digest, Film, Key, ShotId, TaskId
from klingflow.core.source import Problem
from klingflow.execution import engine, host, offload, sharing
from klingflow.execution.budget import Budget
from klingflow.execution.buyer import Buyer
from klingflow.execution.inputs import InputImages
from klingflow.execution.outcome import Emit, Event, Outcome, Result, RunFailure
from klingflow.io import trust
from klingflow.output import planfile, seamtext, traces
from klingflow.output.seams import FilmSeams
from klingflow.output.words import count
from klingflow.planning.plan import OWN, Action, FilmPlan, Plan, totals
from klingflow.planning.price import Limits, exceeded

if TYPE_CHECKING:
    from klingflow.app.credentials import Signing

STORE_THREADS = 8
MEDIA_THREADS = 2
LEFT_OVER_S = 86400.0
"""Age at which the working folder of a run that was killed is removed: no run lasts that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    limits: Limits = field(default_factory=Limits)
    frozen: bool = False
    """Make nothing: a plan that would is refused."""
    detach: bool = False
    """Submit what can be submitted, and leave while tasks are being made."""
    update_lock: bool = False
    """Write the lock although variables are overridden."""
    listen: str | None = None
    """HOST:PORT at which callbacks are received."""
    callback_url: str | None = None
    signing: Signing | None = None
    """Who signs the films."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRun:
    """One film of a run: its plan, and how each step ended."""

    film: Film
    plan: FilmPlan
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended."""

    films: tuple[FilmRun, ...]
    exit_code: int
    spent: Decimal
    """USD booked, doubts included."""
    seconds: float
    """How long it took."""
    interrupted: bool = False
    delivered: tuple[Path, ...] = ()
    """The films that were brought up to date."""
    unjoined: tuple[KlingflowError, ...] = ()
    """Why a film could not be joined, though its clips are kept."""
    reports: tuple[Path, ...] = ()
    """The page of each film, which shows how the run ended."""
    unreported: KlingflowError | None = None
    """Why the pages could not be written."""
    seams: tuple[FilmSeams, ...] = ()
    """The joins of the films that were brought up to date, where the extra klingflow[seams] is installed."""
    held_back: tuple[Problem, ...] = ()
    """What film.gate does not let pass; all is kept."""
    unjudged: tuple[KlingflowError, ...] = ()
    """Why the joins of a film could not be measured."""

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Those of all films."""
        return tuple(outcome for film in self.films for outcome in film.outcomes)


@dataclass(slots=True)
class Running:
    """The buyers at work, for callbacks to wake."""

    buyers: list[Buyer] = field(default_factory=list)

    def wake(self, provider: str, task: TaskId) -> bool:
        return any([buyer.wake(provider, task) for buyer in self.buyers])  # noqa: C419  # each buyer hears of it


def refuse(session: Session, plan: Plan, options: RunOptions) -> Services:
    """Everything that can be found wrong without a connection, before anything is spent: limits, `frozen`, keys, frames
    that cannot be sent, places that cannot be written, a lock that contradicts the store. Returns what the run
    needs."""
    sums = totals(plan.films)
    if options.frozen and sums.tasks:
        what = f"{count(sums.tasks, 'clip')} would have to be made; nothing was made"
        raise WouldMake(what, "`klingflow run` without --frozen makes what is missing")
    if options.update_lock and session.loaded.rehearsal:
        raise UsageError("a rehearsal with the animatic never writes the lock", "leave --update-lock out")
    why = exceeded(options.limits, sums.spend, sums.seconds, sums.tasks)
    if why:
        raise SpendRefused(why, "raise the limit, or select fewer shots with --select")
    seams.refuse_gate(session.loaded.films)
    for film in session.loaded.films:
        outputs.folder_of(session.loaded, film)
    wrong = contradiction((step for film in plan.films for step in film.steps), session.store)
    if wrong is not None:
        raise wrong
    if trust.of(session.loaded.environ).read_only:
        _refuse_writes(session, plan)
    services.refuse_foreign_store(session.loaded, plan)
    opened = services.open_services(
        session.loaded,
        plan,
        listen=options.listen,
        callback_url=options.callback_url,
        detach=options.detach,
    )
    if sums.tasks:
        outputs.check_beds(session.loaded)
    return opened


def _refuse_writes(session: Session, plan: Plan) -> None:
    """Refuses a plan that would write to a store which may only be read here. Raises UsageError."""
    writing = [
        step
        for film in plan.films
        for step in film.steps
        if step.action in (Action.MAKE, Action.RESUME)
        or (step.provider == OWN and not (step.clip is not None and session.store.holds(step.clip)))
    ]
    if writing:
        raise UsageError(
            f"{count(len(writing), 'clip')} would be written to the store {session.store.where}, which this runner may "
            f"only read ({trust.READONLY}); nothing was made",
            f"run where {trust.READONLY} is not set; or rehearse in a store of its own: "
            "KLINGFLOW_STORE=.klingflow/store klingflow run --provider animatic",
        )


async def run(
    session: Session,
    plan: Plan,
    known: Mapping[str, Mapping[ShotId, Digest]],
    opened: Services,
    options: RunOptions,
    *,
    emit: Emit,
    notify: Callable[[str], None],
    stop: asyncio.Event,
) -> RunResult:
    """Runs a plan that nothing refused. `known` are the clips of all shots, by variant, also of those that the plan was
    narrowed down from. When `stop` is set it ends soon, with nothing half written. Raises KlingflowError for what is
    found wrong before the first request; what goes wrong with a shot is in its outcome."""
    run = os.urandom(4).hex()
    with traces.traced(emit, session.loaded.relative, run, session.loaded.environ) as through:
        return await _run(session, plan, known, opened, options, run, emit=through, notify=notify, stop=stop)


async def _run(
    session: Session,
    plan: Plan,
    known: Mapping[str, Mapping[ShotId, Digest]],
    opened: Services,
    options: RunOptions,
    run: str,
    *,
    emit: Emit,
    notify: Callable[[str], None],
    stop: asyncio.Event,
) -> RunResult:
    began = time.monotonic()
    running = Running()
    emit(_plan_event(plan, run))
    async with (
        buying(session, plan, opened, options, emit) as buyer,
        opened.listening(running.wake, notify),
    ):
        running.buyers.append(buyer)
        films = await execute(session, plan, known, buyer, frozen=options.frozen, emit=emit, stop=stop)
    keep(session, films, update_lock=options.update_lock)
    delivered, unjoined = await asyncio.to_thread(_deliver, session, films, known, options.signing, emit, stop)
    joins = await asyncio.to_thread(_judge, session, films, known, stop)
    reports, unreported = await asyncio.to_thread(_report, session, films, stop.is_set())
    code = exit_code(films, stop.is_set()) or max((bad.code for bad in unjoined), default=DONE)
    if code == DONE and joins.held_back:
        code = SHOTS_FAILED
    code = code or max((bad.code for bad in joins.unjudged), default=DONE)
    result = RunResult(
        films=tuple(films),
        exit_code=code,
        spent=buyer.budget.spent,
        seconds=time.monotonic() - began,
        interrupted=stop.is_set(),
        delivered=tuple(delivered),
        unjoined=tuple(unjoined),
        reports=tuple(reports),
        unreported=unreported,
        seams=tuple(joins.seams),
        held_back=tuple(joins.held_back),
        unjudged=tuple(joins.unjudged),
    )
    emit(_done_event(result, run))
    return result


@asynccontextmanager
async def buying(
    session: Session, plan: Plan, opened: Services, options: RunOptions, emit: Emit
) -> AsyncIterator[Buyer]:
    """A Buyer with its doors open and a folder of its own for what is on its way."""
    loaded, store = session.loaded, session.store
    if not trust.of(loaded.environ).read_only:
        services.claim_store(loaded)
    parent = loaded.project.to_write(".klingflow")
    parent.mkdir(exist_ok=True)
    sweep(parent)
    rng = random.Random()
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=parent, ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store") as store_threads,
        ThreadPoolExecutor(MEDIA_THREADS, thread_name_prefix="media") as media_threads,
    ):
        scratch = Path(folder)
        store_calls, media_calls = offload.on(store_threads), offload.on(media_threads)
        async with opened.opened(store, scratch, rng) as doors:
            await _preflight(session, plan, opened, doors)
            at_work = {step.provider for film in plan.films for step in film.steps if step.action in services.USING}
            used = [seller for name, seller in doors.sellers.items() if name in at_work]
            async with sharing.shared(store, used, store_calls):
                media = outputs.MediaOnDemand()
                inputs = InputImages(
                    store=store,
                    media=media,
                    stills=opened.stills,
                    fetch_still=doors.fetch_still,
                    publisher=opened.publisher,
                    shrinks=loaded.config.shrink,
                    scratch=scratch,
                    store_calls=store_calls,
                    media_calls=media_calls,
                )
                yield Buyer(
                    store=store,
                    sellers=doors.sellers,
                    inputs=inputs,
                    media=media,
                    notes=session.notes,
                    budget=Budget(options.limits),
                    storyboard=loaded.relative,
                    shown=str(loaded.path),
                    scratch=scratch,
                    host=host.this(),
                    now_ms=lambda: time.time_ns() // 1_000_000,
                    emit=emit,
                    rng=rng,
                    store_calls=store_calls,
                    media_calls=media_calls,
                    tasks=session.lock.tasks(),
                    detach=options.detach,
                )


async def _preflight(session: Session, plan: Plan, opened: Services, doors: Doors) -> None:
    """Everything that would stop the run after it has paid for something, and takes a connection or a moment to find.
    Raises UsageError."""
    loaded = session.loaded
    steps = [step for film in plan.films for step in film.steps]
    if any(step.action in (Action.MAKE, Action.RESUME) for step in steps):
        try:
            await asyncio.to_thread(session.store.ready)
        except StoreSilent as bad:
            raise StoreSilent(f"{bad.what}; nothing was made", bad.mend) from bad
        except StoreError as bad:
            raise UsageError(f"{bad.what}; nothing was made", bad.mend) from bad
    orders = [step for step in steps if step.orders]
    if not orders:
        return
    places = [loaded.project.root] if "://" in loaded.config.store else [Path(loaded.config.store), loaded.project.root]
    preflight.refuse_full_disk(plan, places)
    fault = await asyncio.to_thread(preflight.media_fault)
    if fault is not None:
        raise UsageError(f"{fault[0]}; nothing was ordered", fault[1])
    for name in sorted({step.provider for step in orders}):
        seller = doors.sellers.get(name)
        if seller is not None and seller.paid:
            await preflight.refuse_bad_key(seller.provider, seller.ask)
    if planner.publishes(loaded, plan):
        await services.refuse_bad_publishing(opened, doors.downloads)


def sweep(parent: Path) -> None:
    """Removes the working folders that killed runs left behind."""
    for folder in parent.glob("run-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_OVER_S:
                shutil.rmtree(folder)


async def execute(
    session: Session,
    plan: Plan,
    known: Mapping[str, Mapping[ShotId, Digest]],
    buyer: Buyer,
    *,
    frozen: bool,
    emit: Emit,
    stop: asyncio.Event,
) -> list[FilmRun]:
    """Runs every film of a plan side by side."""
    clips = LocalClips(session.loaded, session.store, session.lock)
    pairs = list(zip(session.loaded.films, plan.films, strict=True))
    runs = [
        engine.run(
            film_plan,
            film,
            buyer=buyer,
            known=known[film.variant],
            inputs=session.loaded.inputs,
            clips=clips,
            expect=session.lookups.expect,
            price=session.lookups.price,
            frozen=frozen,
            stop=stop,
            emit=emit,
        )
        for film, film_plan in pairs
    ]
    ended = await asyncio.gather(*runs)
    return [
        FilmRun(film=film, plan=film_plan, outcomes=outcomes)
        for (film, film_plan), outcomes in zip(pairs, ended, strict=True)
    ]


def keep(session: Session, films: Sequence[FilmRun], *, update_lock: bool = False) -> None:
    """Writes the lock, and drops the notes of tasks whose clips are in the store. A run with overridden variables
    leaves the lock as it is: it names what the storyboard as committed has, and what nobody should pay for again."""
    if session.loaded.rehearsal:
        return
    if update_lock or not session.loaded.variables:
        outputs.write_lock(session.loaded, session.lock, [(each.film, each.outcomes) for each in films])
    there: set[Key] = {o.key for each in films for o in each.outcomes if o.good and o.key is not None}
    session.notes.drop(there.__contains__)


def exit_code(films: Sequence[FilmRun], interrupted: bool) -> int:
    """One exit code for all that happened: what a person must settle comes before what merely failed."""
    outcomes = [outcome for each in films for outcome in each.outcomes]
    results = {outcome.result for outcome in outcomes}
    if interrupted:
        return Interrupted.code
    if Result.IN_DOUBT in results:
        return IN_DOUBT
    failures = [outcome.failure for outcome in outcomes if outcome.result is Result.FAILED and outcome.failure]
    codes = {failure.exit_code for failure in failures if failure.kind is not RunFailure.LIMIT}
    if codes:
        return SHOTS_FAILED if len(codes) > 1 else codes.pop()
    if failures:
        return SpendRefused.code
    return DETACHED if Result.OPEN in results else DONE


def other_clips(
    film_run: FilmRun, known: Mapping[str, Mapping[ShotId, Digest]], session: Session
) -> dict[ShotId, ClipRecord]:
    """The clips of shots that the run was not about (--select), where they are at hand: the film needs them."""
    about = {outcome.shot for outcome in film_run.outcomes}
    out = {}
    for shot in film_run.film.shots:
        entry = session.lock.entry(film_run.film.variant, shot.id, shot.take)
        clip = known[film_run.film.variant].get(shot.id)
        if shot.id not in about and entry is not None and entry.clip == clip and session.store.holds(clip):
            out[shot.id] = entry.record()
    return out


def _deliver(
    session: Session,
    films: Sequence[FilmRun],
    known: Mapping[str, Mapping[ShotId, Digest]],
    signing: Signing | None,
    emit: Emit,
    stop: asyncio.Event,
) -> tuple[list[Path], list[KlingflowError]]:
    """The films that are up to date now, and why others are not. Ends soon after `stop` is set: a film that is being
    joined is given up, with nothing half written."""

    def show(event: Event) -> None:
        if stop.is_set():
            raise Interrupted("interrupted while the film was joined", "every clip is kept; run again to join it")
        emit(event)

    delivered: list[Path] = []
    broken: list[KlingflowError] = []
    for each in () if stop.is_set() else films:
        try:
            there = other_clips(each, known, session)
            delivered += outputs.deliver(
                session.loaded, each.film, each.outcomes, there, session.lock, session.store, show, signing
            )
        except KlingflowError as bad:
            broken.append(bad)
    return delivered, broken


def _report(
    session: Session, films: Sequence[FilmRun], interrupted: bool
) -> tuple[list[Path], KlingflowError | None]:
    """Where the pages of the films are, and why they could not be written: no run fails because of its report."""
    ran = [
        report.FilmRan(film=each.film, plan=each.plan, outcomes=each.outcomes, interrupted=interrupted)
        for each in films
    ]
    try:
        return report.after_run(session, ran), None
    except KlingflowError as bad:
        return [], bad
    except OSError as bad:
        return [], UsageError(f"{bad.filename}: {bad.strerror}", "make room, then: klingflow report")


@dataclass(slots=True)
class _Joins:
    seams: list[FilmSeams] = field(default_factory=list)
    held_back: list[Problem] = field(default_factory=list)
    unjudged: list[KlingflowError] = field(default_factory=list)


def _judge(
    session: Session, films: Sequence[FilmRun], known: Mapping[str, Mapping[ShotId, Digest]], stop: asyncio.Event
) -> _Joins:
    """The joins of every film that is whole: after all is kept, since measuring new clips takes its time. Where a film
    has no gate, one that cannot be measured is no failure of the run."""
    out = _Joins()
    if not seams.installed():
        return out
    for each in films:
        clips = {shot: record.facts for shot, record in other_clips(each, known, session).items()}
        clips |= {one.shot: one.clip.facts for one in each.outcomes if one.clip is not None and one.is_active_take}
        if stop.is_set() or not all(cut.shot in clips for cut in each.film.cut):
            continue
        try:
            found = seams.judge(session.loaded, each.film, clips, session.lock, session.store)
        except KlingflowError as bad:
            out.unjudged += [bad] if each.film.gate else []
            continue
        out.seams.append(found)
        out.held_back += seamtext.problems(each.film, found)
    return out


def _plan_event(plan: Plan, run: str) -> Event:
    steps = sum(len(film.steps) for film in plan.films)
    return Event(event="plan", data={"run": run, "totals": planfile.totals_json(totals(plan.films)), "steps": steps})


def _done_event(result: RunResult, run: str) -> Event:
    ended = Counter(outcome.result for outcome in result.outcomes)
    return Event(
        event="done",
        data={
            "run": run,
            "exit_code": result.exit_code,
            **{each.value.replace("-", "_"): ended[each] for each in Result},
            "spent": float(result.spent),
        },
    )
