"""A person settles an order that nothing else can settle: it was bought, it was not, or the delivered clip is good or
not.

What a person says is recorded, and nothing of it is final: a task id that turns up later is recorded over it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from klingflow.app import planner, services, tasks
from klingflow.app.planner import ANSWER_TIMEOUT_S
from klingflow.app.project_loader import StoryboardFile
from klingflow.app.session import Session, open_session
from klingflow.core import digest as digests
from klingflow.core.alike import suggestion
from klingflow.core.errors import KlingflowError, UsageError
from klingflow.core.model import ClipRecord, Digest, Film, Key, Shot, task_id
from klingflow.core.source import nearest
from klingflow.execution import form, host
from klingflow.execution.account import account
from klingflow.execution.waiting import asked
from klingflow.execution.wording import KEY_SHOWN
from klingflow.io import config, ledger
from klingflow.io.project import find_root
from klingflow.io.service import NotSent, Unanswered
from klingflow.io.store import Store
from klingflow.planning.job import TRANSITIONS, Job, Kind, Record, State, fold
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Done, Failed, Missing, Pending, Provider, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a person found out: exactly one of `task`, `not_bought`, `accept` and `reject`."""

    task: str | None = None
    """The provider took the order: this is its task."""
    not_bought: bool = False
    accept: bool = False
    """The delivered clip is taken as it is."""
    reject: bool = False
    """The delivered clip is turned down; the order is over."""
    force: bool = False
    """Also where the provider, or a run that may still be alive, says otherwise."""


async def settle(
    storyboard: StoryboardFile, shot: str, verdict: Verdict, *, take: int | None = None, key: str | None = None
) -> str:
    foreign = planner.foreign_store(config.load(find_root(Path(storyboard.path)), storyboard.environ))
    if foreign is not None:
        raise UsageError(*foreign)
    store, jobs = tasks.jobs_at(storyboard.path, storyboard.environ)
    path = shlex.quote(storyboard.path)
    if verdict.task is not None:
        return _task(storyboard, store, jobs, shot, verdict.task, take, key)
    wanted = (State.DELIVERED,) if verdict.accept or verdict.reject else (State.INTENDED, State.ACCEPTED)
    job = _one(jobs, [job for job in _of(jobs, shot, take, key) if job.state in wanted], shot, path, verdict)
    if verdict.accept:
        return _accept(store, job, shot, path)
    if verdict.reject:
        _write(store, job.next(Kind.ABANDONED, _now_ms(), _by("the delivered clip was turned down")), path)
        said = "the delivered clip is turned down; its bytes stay in the store"
        return f"{shot}: {said}. `klingflow run {path}` may buy it now"
    if not verdict.force:
        await _refuse_if_alive(job, shot, path, storyboard)
    _write(store, job.next(Kind.ABANDONED, _now_ms(), _by("a person said: not bought")), path)
    return (
        f"{shot}: recorded as not bought; `klingflow run {path}` may buy it now. If a task turns up after all: "
        f"{_command(job, path)} --task ID"
    )


# -- the order that is meant ------------------------------------------------------------------------------------------


def _of(jobs: Sequence[Job], shot: str, take: int | None, key: str | None) -> list[Job]:
    return [j for j in jobs if _shot(j) == shot and take in (None, _take(j)) and j.key.startswith(key or "")]


def _one(jobs: Sequence[Job], found: Sequence[Job], shot: str, path: str, verdict: Verdict) -> Job:
    if not found:
        what = "no delivered clip waits for a verdict" if verdict.accept or verdict.reject else "nothing is in doubt"
        mend = f"klingflow status {path} lists every task"
        known = {str(_shot(job)) for job in jobs}
        close = nearest(shot, sorted(known)) if shot not in known else None
        raise UsageError(f"{what} for shot '{shot}'", f"{suggestion(close, shot)} {mend}" if close else mend)
    if len(found) > 1:
        listed = ", ".join(sorted(f"take {_take(job)} of {_film(job)} (--key {job.key[:KEY_SHOWN]})" for job in found))
        raise UsageError(f"shot '{shot}' has {len(found)} open purchases: {listed}", "name one with --take or --key")
    return found[0]


# -- the provider took it ---------------------------------------------------------------------------------------------


def _task(
    storyboard: StoryboardFile,
    store: Store,
    jobs: Sequence[Job],
    shot: str,
    text: str,
    take: int | None,
    key: str | None,
) -> str:
    path = shlex.quote(storyboard.path)
    task = task_id(text.strip())
    if task is None or task == "ID":  # as messages write it
        raise UsageError("that is no task id", "copy it from the provider's console")
    other = next((j for j in ledger.jobs_with_task(store, task) if j.task == task and _shot(j) != shot), None)
    if other is not None:
        raise UsageError(f"task {task} already belongs to shot '{_shot(other)}'", "copy the id of this shot's task")
    meant = _of(jobs, shot, take, key)
    found = [job for job in meant if job.state is State.INTENDED] or [
        job for job in meant if Kind.ACCEPTED in TRANSITIONS[job.state]
    ]
    if found:
        job = _one(jobs, found, shot, path, Verdict(task=task))
        if job.task == task and job.state is State.ACCEPTED:
            return f"{shot}: task {task} is on record already; `klingflow run {path}` collects it"
    else:
        job = _rebuilt(storyboard, store, shot, take, key)
    _write(store, job.next(Kind.ACCEPTED, _now_ms(), {"task": task, **_by("a person named the task")}), path)
    return f"{shot}: recorded task {task}; `klingflow run {path}` collects it"


def _rebuilt(storyboard: StoryboardFile, store: Store, shot: str, take: int | None, key: str | None) -> Job:
    """The order of a shot whose intent the ledger does not have: written anew from the storyboard as it is now."""
    path = shlex.quote(storyboard.path)
    session = open_session(storyboard.load())
    plan = session.plan()
    found = [
        (film, step)
        for film, film_plan in zip(session.loaded.films, plan.films, strict=True)
        for step in film_plan.steps
        if step.shot == shot and take in (None, step.take) and step.key and step.key.startswith(key or "")
    ]
    found = [(film, step) for film, step in found if step.is_active_take] or found
    if not found:
        raise UsageError(
            f"nothing is in doubt for shot '{shot}', and its key is not known",
            f"klingflow status {path} lists every task; a shot's key is known when all clips it needs are",
        )
    if len(found) > 1:
        raise UsageError(f"shot '{shot}' is in {len(found)} films", "name one with --key")
    film, step = found[0]
    assert step.key is not None
    job = ledger.job(store, step.key)
    if job.records and Kind.INTENT not in TRANSITIONS[job.state]:
        raise UsageError(f"shot '{shot}' has its clip: there is nothing to settle", f"klingflow plan {path}")
    attempt = job.orphans[-1].attempt if job.orphans else job.attempt + 1
    shot_value = replace(film.by_id()[step.shot], take=step.take)
    intent = Record(
        key=step.key,
        attempt=attempt,
        n=0,
        kind=Kind.INTENT,
        at_ms=job.orphans[-1].at_ms if job.orphans else _now_ms(),
        detail={
            **described(session, film, shot_value, step.key),
            "provider": step.provider,
            "model": step.model,
            "account": None,
            **_by("rebuilt from the storyboard"),
        },
    )
    services.claim_store(session.loaded)
    _write(store, intent, path)
    return fold(step.key, [*job.records, *job.orphans, intent])


def described(session: Session, film: Film, shot: Shot, key: Key) -> dict[str, object]:
    cost = session.lookups.price(shot)
    clips = planner.known_clips(session.plan())[film.variant]
    inputs = session.loaded.inputs
    parts = digests.parts(shot, session.lookups.model(shot), inputs.stills, clips, inputs.clips)
    return {
        "price": None if cost.amount is None else str(cost.amount),
        "basis": cost.basis,
        "seconds": shot.duration,
        "resolution": shot.resolution,
        "storyboard": session.loaded.relative,
        "film": film.label,
        "shot": shot.id,
        "take": shot.take,
        "inputs": {},
        "parts": dict(parts or {}),
    }


# -- it was not bought ------------------------------------------------------------------------------------------------


async def _refuse_if_alive(job: Job, shot: str, path: str, storyboard: StoryboardFile) -> None:
    """Raises UsageError where the order may well have been taken, or may be on its way at this moment."""
    intent = job.last(Kind.INTENT)
    assert intent is not None
    over = "--force says it all the same"
    if job.state is State.INTENDED:
        age = time.time() - intent.at_ms / 1000
        if age < ANSWER_TIMEOUT_S and not host.this().died(intent.detail):
            raise UsageError(
                f"a run asked for shot '{shot}' {max(0, round(age))} s ago and may still be waiting for the answer",
                f"wait {ANSWER_TIMEOUT_S:.0f} s and look again: klingflow status {path}; {over}",
            )
        return
    name = str(intent.detail.get("provider"))
    provider = PROVIDERS.get(name)
    assert job.task is not None
    known = await _known(provider, job, storyboard) if provider is not None else None
    if known is None:
        raise UsageError(
            f"task {job.task} was paid for, and {name} could not be asked about it from the account that ordered it",
            f"set the key of {name} that ordered it and try again, or `klingflow run {path}` to collect it; {over}",
        )
    if known:
        raise UsageError(
            f"task {job.task} of shot '{shot}' was paid for, and {name} knows it: {known}",
            f"`klingflow run {path}` collects it; {over}",
        )


async def _known(provider: Provider, job: Job, storyboard: StoryboardFile) -> str | None:
    """How the provider answers for a task: its state, empty where it does not know the task, None where it cannot be
    asked, or only from another account than the one that ordered it, or at another address."""
    environ = storyboard.environ
    try:
        key = services.key_of(provider, environ)
    except UsageError:
        return None
    if key is None or job.task is None:
        return None
    intent = job.last(Kind.INTENT)
    assert intent is not None
    service = services.api_of(provider, key, environ)
    try:
        path = _path(provider, storyboard, job) or str(intent.detail.get("path"))
        status = await asked(provider, service, service.send, job.task, path, job.urls)
    except (NotSent, Unanswered, ValueError):
        return None
    finally:
        await service.close()
    match status:
        case Missing():
            own = account(services.base_of(provider, environ), "".join(key))
            return "" if own.wrote(intent.detail) else None
        case Pending():
            return status.state
        case Done():
            return "its clip is ready"
        case Failed():
            return f"it failed ({status.message})"
    return None


def _path(provider: Provider, storyboard: StoryboardFile, job: Job) -> str | None:
    """The path at which the task was made, from the provider's code; None where the shot is not in the storyboard
    now."""
    try:
        films = storyboard.load().films
    except KlingflowError:
        return None
    for film in films:
        for shot in film.shots:
            if shot.id == _shot(job) and shot.provider == provider.name:
                return form.path(provider, shot, Settings(), job)
    return None


# -- a delivered clip -------------------------------------------------------------------------------------------------


def _accept(store: Store, job: Job, shot: str, path: str) -> str:
    from klingflow.io import media  # the media library is loaded only when a clip is really looked at

    intent, delivered = job.last(Kind.INTENT), job.last(Kind.DELIVERED)
    assert intent is not None
    assert delivered is not None
    digest = Digest(str(delivered.detail["clip"]))
    blob = store.blob(digest)
    try:
        facts = media.check(blob, seconds=None, digest=digest, as_is=True)
    except KlingflowError as bad:
        raise UsageError(
            f"the delivered clip cannot be used in a film: {bad.what.replace(blob.name, 'it')}",
            f"convert {blob} with ffmpeg, bring it in with `clip: FILE`, and --reject the order",
        ) from bad
    booked = (job.last(Kind.ACCEPTED) or intent).detail
    price = booked.get("price")
    record = ClipRecord(
        key=job.key,
        facts=facts,
        provider=str(intent.detail.get("provider")),
        model=str(intent.detail.get("model")),
        task=job.task,
        cost=None if price is None else Decimal(str(price)),
        basis=str(booked.get("basis") or ""),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        parts=_mapping(intent.detail.get("parts")),
        inputs={str(role): Digest(str(d)) for role, d in _mapping(intent.detail.get("inputs")).items()},
    )
    kept = ledger.keep(store, record)
    _write(store, job.next(Kind.STORED, _now_ms(), {"clip": kept.facts.digest, **_by("a person took it")}), path)
    why = delivered.detail.get("why")
    return f"{shot}: the delivered clip is taken as it is, though {why}; `klingflow run {path}` goes on with it"


# -- small parts ------------------------------------------------------------------------------------------------------


def _write(store: Store, record: Record, path: str) -> None:
    if not ledger.write(store, record):
        raise UsageError("another run settled it at this very moment", f"look again: klingflow status {path}")


def _by(why: str) -> dict[str, object]:
    return {"by": "person", "who": host.this().who, "why": why}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _command(job: Job, path: str) -> str:
    """The command that settles this very job, without its last word."""
    take = f" --take {_take(job)}" if _take(job) != 1 else ""
    return f"klingflow resolve {path} {_shot(job)}{take} --key {job.key[:KEY_SHOWN]}"


def _shot(job: Job) -> object:
    intent = job.last(Kind.INTENT)
    return intent.detail.get("shot") if intent else None


def _film(job: Job) -> object:
    intent = job.last(Kind.INTENT)
    return intent.detail.get("film") if intent else None


def _take(job: Job) -> int:
    intent = job.last(Kind.INTENT)
    found = intent.detail.get("take") if intent else None
    return found if isinstance(found, int) else 1
