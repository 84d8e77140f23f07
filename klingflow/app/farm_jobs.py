"""What a farm hands to its workers: jobs of plain JSON (paths, ids, digests; no bytes, no secrets, no URLs), each safe
to do twice, because what it buys is on record in the ledger and what it makes is in the store.

A chain of shots that need each other is one job: whoever has it orders, waits, downloads and hands on the frames, as a
run does. When all chains of a storyboard are made, its films are joined as one more job, and kept in the store. Knows
no engine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from klingflow.app import outputs, plan_snapshot, planner, runner
from klingflow.app.library import Planned
from klingflow.app.project_loader import StoryboardFile
from klingflow.app.session import Session, open_session
from klingflow.core.errors import SpendRefused, StoreError, UsageError
from klingflow.core.model import Film
from klingflow.execution.outcome import Emit, Outcome, Result, RunFailure
from klingflow.output import traces
from klingflow.planning.plan import Action, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work."""

    kind: Literal["make", "join"]
    storyboard: str
    """Its path from the project's root: every worker has a copy of the project."""
    inputs: str
    """A digest over every file that the plan was made from, and over the picks that are approved: a worker whose copy
    differs refuses."""
    shots: tuple[str, ...] = ()
    """Those to make, in every film of the storyboard."""
    provider: str | None = None
    """The provider that overrides every shot's, where one does."""
    variables: Mapping[str, str] = field(default_factory=dict)
    seller: str = ""
    """Whose account it uses: jobs of one seller share its limits."""
    orders: tuple[str, ...] = ()
    """What was planned to be paid for, as VARIANT/SHOT/TAKE: a worker that would order more (its lock is another one,
    or a task has failed since) refuses. No part of `id`: it is less when the same job is started again."""

    def text(self) -> str:
        """As JSON, the same for the same job."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @property
    def id(self) -> str:
        """What the same job always has: two who start it do it once."""
        return hashlib.sha256(replace(self, orders=()).text().encode()).hexdigest()[:32]


def read(text: str) -> Job:
    """The job that `Job.text` wrote."""
    found: dict[str, Any] = json.loads(text)
    return Job(**{**found, "shots": tuple(found["shots"]), "orders": tuple(found["orders"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How a job ended."""

    code: int
    """As a run's exit code."""
    what: str = ""
    """Why it did not do what it should, for a person; empty where it did."""
    mend: str = ""

    def text(self) -> str:
        return json.dumps(asdict(self))


def result(text: str) -> JobResult:
    """The result that `JobResult.text` wrote."""
    return JobResult(**json.loads(text))


def makes(planned: Planned) -> tuple[Job, ...]:
    """A job for each chain of shots of which something is to be made or collected."""
    session = planned._session
    steps = [step for film in planned.plan.films for step in film.steps]
    busy = {step.shot for step in steps if step.action in (Action.MAKE, Action.RESUME, Action.RESOLVE)}
    seller: dict[str, str] = {step.shot: step.provider for step in steps}
    jobs = []
    for chain in _chains(session.loaded.films):
        making = [shot for shot in chain if shot in busy]
        if making:
            orders = _orders(session, _only(session, planned.plan, chain))
            jobs.append(_job(session, "make", shots=tuple(chain), seller=seller[making[0]], orders=orders))
    return tuple(jobs)


def _only(session: Session, plan: Plan, shots: Sequence[str]) -> Plan:
    films = session.loaded.films
    named = {film.variant: {shot.id for shot in film.shots if shot.id in shots} for film in films}
    return planner.only(session.loaded, plan, named)


def _orders(session: Session, plan: Plan) -> tuple[str, ...]:
    """What a plan may pay for."""
    return tuple(
        f"{film.variant}/{step.shot}/{step.take}"
        for film, planned in zip(session.loaded.films, plan.films, strict=True)
        for step in planned.steps
        if step.orders and step.price != 0
    )


def _named(order: str) -> str:
    """One of `_orders` for people: `dawn`, or `dawn (16:9, take 2)`."""
    variant, shot, take = order.rsplit("/", 2)
    more = ", ".join(filter(None, (variant, f"take {take}" if take != "1" else "")))
    return f"{shot} ({more})" if more else shot


def join(planned: Planned) -> Job:
    """The job that joins the films of a storyboard."""
    return _job(planned._session, "join")


def _job(
    session: Session,
    kind: Literal["make", "join"],
    shots: tuple[str, ...] = (),
    seller: str = "",
    orders: tuple[str, ...] = (),
) -> Job:
    loaded = session.loaded
    return Job(
        kind=kind,
        storyboard=loaded.relative,
        inputs=_inputs(session),
        shots=shots,
        provider=loaded.provider,
        variables=dict(loaded.variables),
        seller=seller,
        orders=orders,
    )


def _inputs(session: Session) -> str:
    """Over the files, and over which of their picks are approved: that stands in git, not in a file."""
    what = {**plan_snapshot.files(session.loaded), **_approved(session)}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _approved(session: Session) -> dict[str, str]:
    """By gate, the clip whose pick is approved. Asks git only where a gate has a pick."""
    unapproved = session.lookups.unapproved
    out: dict[str, str] = {}
    for film in session.loaded.films if unapproved is not None else ():
        for shot in film.shots:
            pick = session.lock.pick(film.variant, shot.id) if shot.gate else None
            if pick is not None and unapproved is not None and not unapproved(film.variant, shot.id, pick):
                out[f"gate {film.variant} {shot.id}"] = f"{pick.take} {pick.clip}"
    return out


def _chains(films: Sequence[Film]) -> list[list[str]]:
    """The shots that hang together by what they need, in the order of the storyboard."""
    leader: dict[str, str] = {}

    def find(shot: str) -> str:
        while leader.setdefault(shot, shot) != shot:
            leader[shot] = leader[leader[shot]]
            shot = leader[shot]
        return shot

    for film in films:
        for shot in film.shots:
            for need in shot.needs():
                leader[find(shot.id)] = find(need)
    out: dict[str, list[str]] = {}
    for film in films:
        for shot in film.shots:
            members = out.setdefault(find(shot.id), [])
            if shot.id not in members:
                members.append(shot.id)
    return list(out.values())


async def do(job: Job, root: Path, environ: Mapping[str, str], emit: Emit, stop: asyncio.Event) -> JobResult:
    """Does a job in the copy of the project at `root`. Raises KlingflowError for what a later try may find otherwise (a
    store that does not answer). When `stop` is set, it ends soon with the code 130: everything is on record, and
    whoever does the job again goes on from there."""
    path = root / job.storyboard
    file = StoryboardFile(path=str(path), variables=dict(job.variables), provider=job.provider, environ=environ)
    session = await asyncio.to_thread(lambda: open_session(file.load()))
    if session.loaded.relative != job.storyboard or _inputs(session) != job.inputs:
        what = f"{job.storyboard}, a file that it uses or an approved pick is another one in {root} than where the job "
        what += "was planned"
        mend = "bring the worker's copy to the same commit (git fetch too), and start it again"
        return JobResult(code=UsageError.code, what=what, mend=mend)
    if job.kind == "join":
        return await _join(session, emit, stop)
    whole = await asyncio.to_thread(session.plan)
    plan = _only(session, whole, job.shots)
    more = [order for order in _orders(session, plan) if order not in job.orders]
    if more:
        what = f"{', '.join(map(_named, more))} would be ordered, too, which was not planned"
        mend = "look at the plan again: klingflow farm run; workers need the lock that it was made with"
        return JobResult(code=SpendRefused.code, what=what, mend=mend)
    with traces.traced(emit, job.storyboard, job.id, environ) as through:
        films = await _execute(session, plan, planner.known_clips(whole), through, stop)
    code = runner.exit_code(films, stop.is_set())
    failures = [outcome.failure for film in films for outcome in film.outcomes if outcome.failure is not None]
    passing = [failure for failure in failures if failure.kind in (RunFailure.STORE, RunFailure.NOT_SENT)]
    if passing and not stop.is_set():
        raise StoreError(passing[0].message)  # a later try may find it otherwise
    bad = next((o for film in films for o in film.outcomes if o.result in (Result.FAILED, Result.IN_DOUBT)), None)
    waits = next((step for film in plan.films for step in film.steps if step.action is Action.WAIT), None)
    what = _why(bad) or (f"{waits.shot}: {waits.reason}" if waits is not None else "")
    return JobResult(code=code, what=what, mend=bad.failure.next if bad and bad.failure else "")


def _why(outcome: Outcome | None) -> str:
    return f"{outcome.shot}: {outcome.failure.message}" if outcome and outcome.failure else ""


async def _execute(
    session: Session, plan: Plan, known: Any, emit: Emit, stop: asyncio.Event
) -> list[runner.FilmRun]:
    options = runner.RunOptions(limits=session.loaded.config.limits)
    opened = runner.refuse(session, plan, options)
    async with runner.buying(session, plan, opened, options, emit) as buyer:
        films = await runner.execute(session, plan, known, buyer, frozen=False, emit=emit, stop=stop)
    session.notes.drop({o.key for film in films for o in film.outcomes if o.good and o.key is not None}.__contains__)
    return films


async def _join(session: Session, emit: Emit, stop: asyncio.Event) -> JobResult:
    """Joins every film whose clips are all there, and keeps it in the store."""
    plan = await asyncio.to_thread(session.plan)
    if any(step.action in (Action.MAKE, Action.RESUME, Action.RESOLVE) for film in plan.films for step in film.steps):
        return JobResult(code=1, what="not every clip is made", mend="start the storyboard again")
    films = await _execute(session, plan, planner.known_clips(plan), emit, stop)
    for each in films:
        await asyncio.to_thread(
            outputs.keep_film, session.loaded, each.film, each.outcomes, session.lock, session.store, emit
        )
    return JobResult(code=runner.exit_code(films, stop.is_set()))
