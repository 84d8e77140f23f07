"""Runs a FilmPlan: one coroutine a step, as parallel as the graph and the providers allow.

A failed shot skips its dependants and nothing else. Each step works out its key anew from the clips that it really
gets, so a shot that was "known after the run" is bought once its upstream is there, and one whose upstream came out
the same is not. Knows no wire format and reads no YAML; all buying is `purchase.Buyer`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

from klingflow.core import digest
from klingflow.core.errors import KlingflowError
from klingflow.core.model import ClipRecord, Digest, Film, Inputs, Key, Shot, ShotId
from klingflow.execution.outcome import Emit, Event, Failure, Outcome, Result
from klingflow.execution.purchase import FROZEN, THAW, Buyer, Order
from klingflow.planning.plan import Action, FilmPlan, Step
from klingflow.providers.base import FailureClass

ANSWER_S = 5.0
"""How long an interrupted run waits for answers to requests that it has sent; CI systems kill after 7.5 s or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Clips that need no buying: what the lock names, what the store holds, a clip of one's own."""

    locked: Callable[[Step, Key], ClipRecord | None]
    """The lock's record for a step with this key; None where there is none, or where its clip is not at hand and costs
    nothing to make. Raises KlingflowError where a paid clip is not at hand."""
    held: Callable[[Step], ClipRecord | None]
    """The lock's record for a held step, whatever its key; None when its clip is not at hand."""
    own: Callable[[Shot, Key], ClipRecord]
    """Brings a clip of one's own into the store. Raises KlingflowError."""


async def run(
    plan: FilmPlan,
    film: Film,
    *,
    buyer: Buyer,
    known: Mapping[ShotId, Digest],
    inputs: Inputs,
    shelf: Shelf,
    expect: Callable[[Shot], float],
    price: Callable[[Shot], Decimal | None],
    frozen: bool,
    stop: asyncio.Event,
    emit: Emit,
) -> tuple[Outcome, ...]:
    """Runs every step of one film; outcomes stand in the plan's order. Raises only for a broken store, or a bug.

    `known` are the clips of shots that the plan was narrowed down from (--select): they are there and stay as they are.
    When `stop` is set nothing more is submitted: requests on their way get a few seconds to be answered and recorded,
    tasks are left to the provider, and what was not done stands as STOPPED or OPEN.
    """
    shots = film.by_id()
    ended: dict[tuple[ShotId, int], asyncio.Task[Outcome]] = {}
    weigh = cache(lambda: _weights(film, expect))  # asks what the ledger has learnt: only when something is to be made

    async def one(step: Step) -> Outcome:
        shot = shots[step.shot] if step.take == shots[step.shot].take else replace(shots[step.shot], take=step.take)
        clips: dict[ShotId, Digest] = {}
        for need in step.needs:
            if (need, shots[need].take) not in ended:
                clips[need] = known[need]
                continue
            upstream = await asyncio.shield(ended[need, shots[need].take])
            if upstream.clip is None:
                because = upstream.because or upstream.shot
                said = {"because": because}
                emit(Event(event="step-skipped", film=film.label, shot=step.shot, take=step.take, data=said))
                result = Result.STOPPED if upstream.result is Result.STOPPED else Result.SKIPPED
                return Outcome(shot=step.shot, take=step.take, counted=step.counted, result=result, because=because)
            clips[need] = upstream.clip.facts.digest
        try:
            outcome = await _step(step, shot, clips)
        except KlingflowError as bad:
            failure = Failure(kind=FailureClass.BAD_OUTPUT, message=bad.what, next=bad.mend)
            outcome = Outcome(shot=step.shot, take=step.take, counted=step.counted, result=Result.FAILED, key=step.key)
            outcome = replace(outcome, failure=failure)
        _tell(emit, film, outcome)
        return outcome

    async def _step(step: Step, shot: Shot, clips: Mapping[ShotId, Digest]) -> Outcome:
        outcome = Outcome(shot=step.shot, take=step.take, counted=step.counted, result=Result.REUSED, key=step.key)
        if step.action is Action.HOLD:
            held = await buyer.do(shelf.held, step)
            if held is not None:
                return replace(outcome, result=Result.HELD, clip=held)
            mend = "run where the store is shared, or take `hold` out"
            return _refused(outcome, "the held clip is not in the store", mend)
        stills = {path: facts.digest for path, facts in inputs.stills.items()}
        parts = digest.parts(shot, step.model, inputs.stills, clips, inputs.clips)
        assert parts is not None  # BUG: every clip that it needs is there
        key = digest.key(parts)
        outcome = replace(outcome, key=key)
        locked = await buyer.do(shelf.locked, step, key)
        if locked is not None:
            return replace(outcome, clip=locked)
        if shot.clip is not None:
            return replace(outcome, result=Result.ADOPTED, clip=await buyer.do(shelf.own, shot, key))
        if frozen and step.action is not Action.RESUME:
            failure = Failure(kind=FailureClass.INVALID, message=FROZEN, next=THAW, frozen=True)
            return replace(outcome, result=Result.FAILED, failure=failure)
        emit(
            Event(
                event="step-started",
                film=film.label,
                shot=shot.id,
                take=shot.take,
                data={"action": step.action.value, "provider": step.provider, "seconds": shot.duration},
            )
        )
        order = Order(
            film=film,
            shot=shot,
            key=key,
            parts=parts,
            clips=clips,
            stills=stills,
            provider=step.provider,
            model=step.model,
            price=price(shot),
            expected_s=expect(shot),
            priority=weigh()[shot.id],
            frozen=frozen,
        )
        bought = await buyer.obtain(order)
        return replace(outcome, result=bought.result, clip=bought.clip, spent=bought.spent, failure=bought.failure)

    for step in plan.steps:
        ended[step.shot, step.take] = asyncio.create_task(one(step), name=f"{film.label} {step.shot} take {step.take}")
    everything = asyncio.gather(*ended.values())
    stopping = asyncio.create_task(stop.wait())
    try:
        waits: set[asyncio.Future[object]] = {everything, stopping}  # type: ignore[arg-type]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if everything.done() and everything.exception() is None:
            return tuple(everything.result())
        buyer.stopping = True
        await buyer.finish(ANSWER_S)
        if everything.done():
            return tuple(everything.result())
    finally:
        stopping.cancel()
        everything.cancel()
        for task in ended.values():
            task.cancel()
        await asyncio.gather(everything, *ended.values(), return_exceptions=True)
    return tuple(_stopped(film, step, ended[step.shot, step.take], buyer) for step in plan.steps)


def _stopped(film: Film, step: Step, task: asyncio.Task[Outcome], buyer: Buyer) -> Outcome:
    if not task.cancelled():
        return task.result()
    result = Result.OPEN if (film.label, step.shot, step.take) in buyer.open else Result.STOPPED
    return Outcome(shot=step.shot, take=step.take, counted=step.counted, result=result, key=step.key)


def _refused(outcome: Outcome, message: str, what_next: str) -> Outcome:
    failure = Failure(kind=FailureClass.INVALID, message=message, next=what_next)
    return replace(outcome, result=Result.FAILED, failure=failure)


def _weights(film: Film, expect: Callable[[Shot], float]) -> dict[ShotId, float]:
    """Seconds of work from a shot's start to the end of the longest chain that hangs on it."""
    after: dict[ShotId, list[ShotId]] = {shot.id: [] for shot in film.shots}
    waits = {shot.id: len(shot.needs()) for shot in film.shots}
    for shot in film.shots:
        for need in shot.needs():
            after[need].append(shot.id)
    order = [name for name, count in waits.items() if count == 0]
    for name in order:
        for follower in after[name]:
            waits[follower] -= 1
            if waits[follower] == 0:
                order.append(follower)
    weights: dict[ShotId, float] = {}
    shots = film.by_id()
    for name in reversed(order):
        weights[name] = expect(shots[name]) + max((weights[follower] for follower in after[name]), default=0.0)
    return weights


def _tell(emit: Emit, film: Film, outcome: Outcome) -> None:
    say = {"film": film.label, "shot": outcome.shot, "take": outcome.take}
    failure = outcome.failure
    if outcome.good and outcome.clip is not None:
        clip = outcome.clip
        data: dict[str, object] = {
            "result": outcome.result.value,
            "key": outcome.key,
            "clip": clip.facts.digest,
            "seconds": float(clip.facts.duration),
            "cost": float(outcome.spent),
        }
        emit(Event(event="step-done", data=data, **say))  # type: ignore[arg-type]
    elif outcome.result is Result.IN_DOUBT and failure is not None:
        emit(Event(event="step-in-doubt", data={"message": failure.message, "next": failure.next}, **say))  # type: ignore[arg-type]
    elif outcome.result is Result.FAILED and failure is not None:
        data = {
            "class": failure.kind.value,
            "message": failure.message,
            "charged": failure.charged,
            "next": failure.next,
        }
        emit(Event(event="step-failed", data=data, **say))  # type: ignore[arg-type]
