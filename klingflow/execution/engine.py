"""Runs a FilmPlan: one coroutine a step, as parallel as the graph and the providers allow.

A failed shot skips its dependants and nothing else. The engine does what each step says, and a step that is no purchase
never becomes one (planning.plan names the facts that turn a purchase into none). Knows no wire format and reads no
YAML; all buying is `buyer.Buyer`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Protocol

from klingflow.core import digest
from klingflow.core.errors import KlingflowError
from klingflow.core.model import (
    ANIMATIC,
    ClipRecord,
    Digest,
    FileStill,
    FileVideo,
    Film,
    Inputs,
    Key,
    Shot,
    ShotId,
)
from klingflow.execution.buyer import Buyer
from klingflow.execution.order import Order
from klingflow.execution.outcome import Emit, Event, Failure, Outcome, Result, RunFailure
from klingflow.planning import graph
from klingflow.planning.plan import HELD_MISSING, OWN, Action, FilmPlan, Step
from klingflow.planning.price import Price

_MAKING = frozenset({Action.MAKE, Action.RESUME, Action.RESOLVE})
"""The steps whose clip is not there yet."""
ANSWER_S = 5.0
"""How long an interrupted run waits for answers to requests that it has sent; CI systems kill after 7.5 s or more."""


class Clips(Protocol):
    """The clips that a run has at hand (app.local_clips)."""

    def holds(self, record: ClipRecord) -> bool:
        """Whether the store holds a clip. Raises KlingflowError where what it holds contradicts the record."""
        ...

    def locked(self, key: Key) -> ClipRecord | None:
        """What the lock names for a key; None where it names nothing."""
        ...

    def own(self, shot: Shot, key: Key) -> ClipRecord:
        """Brings a clip of one's own into the store. Raises KlingflowError."""
        ...


async def run(
    plan: FilmPlan,
    film: Film,
    *,
    buyer: Buyer,
    known: Mapping[ShotId, Digest],
    inputs: Inputs,
    clips: Clips,
    expect: Callable[[Shot], float],
    price: Callable[[Shot], Price],
    frozen: bool,
    stop: asyncio.Event,
    emit: Emit,
) -> tuple[Outcome, ...]:
    """Runs every step of one film; outcomes are in the plan's order. Raises only for a broken store, or a bug.

    `known` are the clips of shots that the plan was narrowed down from (--select): they are there and stay as they are.
    `frozen`: a free clip that is drawn again (`Step.redraws`) has to come out as the plan names it.
    When `stop` is set nothing more is submitted: requests on their way get a few seconds to be answered and recorded,
    tasks are left to the provider, and what was not done ends as STOPPED or OPEN.
    """
    shots = film.by_id()
    planned = {step.shot: step.clip for step in plan.steps if step.is_active_take and step.clip is not None}
    ended: dict[tuple[ShotId, int], asyncio.Task[Outcome]] = {}
    weigh = cache(lambda: _weights(film, expect))  # reads what the ledger has learnt: only when something is to be made

    async def one(step: Step) -> Outcome:
        if step.action is Action.WAIT:
            where = {"film": film.label, "shot": step.shot, "take": step.take}
            emit(Event(event="step-waiting", data={"reason": step.reason}, **where))  # type: ignore[arg-type]
            return replace(_outcome(step), result=Result.WAITING)
        shot = shots[step.shot] if step.take == shots[step.shot].take else replace(shots[step.shot], take=step.take)
        frames_of: dict[ShotId, Digest] = {}
        lacks: Outcome | None = None
        for need in step.needs:
            if (need, shots[need].take) not in ended:
                frames_of[need] = known[need]
                continue
            upstream = await asyncio.shield(ended[need, shots[need].take])
            if upstream.clip is not None:
                frames_of[need] = upstream.clip.facts.digest
            elif need in planned and not step.orders:
                frames_of[need] = planned[need]  # its frame was taken before; what was bought with it is collected
                lacks = upstream
            elif step.action in _MAKING:
                return _skipped(step, upstream)
        try:
            outcome = await _step(step, shot, frames_of, lacks)
        except KlingflowError as bad:
            outcome = _failed(_outcome(step), RunFailure.STORE, bad.what, bad.mend)
        _report(emit, film, outcome)
        return outcome

    async def _step(step: Step, shot: Shot, frames_of: Mapping[ShotId, Digest], lacks: Outcome | None) -> Outcome:
        if step.action not in _MAKING:
            there = await _at_hand(step, shot)
            if there is not None:
                return there
            if not step.redraws:
                return await _brought_back(step, shot, frames_of)
            if lacks is not None:
                return _skipped(step, lacks)
        return await _obtain(step, shot, frames_of)

    async def _at_hand(step: Step, shot: Shot) -> Outcome | None:
        """A step whose clip is there already; None where it is not."""
        outcome = _outcome(step)
        if step.action is Action.HOLD and step.record is None:
            mend = "give the shot its old id back, restore the lock, or take `hold` out to buy it anew"
            return _failed(outcome, RunFailure.HELD_MISSING, HELD_MISSING, mend)
        result = {Action.HOLD: Result.HELD, Action.REUSE: Result.REUSED}.get(step.action, Result.ADOPTED)
        if step.record is not None and await buyer.do(clips.holds, step.record):
            return replace(outcome, result=result, clip=step.record)
        if step.provider == OWN and step.action is not Action.HOLD and step.key is not None:
            return replace(outcome, result=result, clip=await buyer.do(clips.own, shot, step.key))
        return None

    async def _obtain(step: Step, shot: Shot, frames_of: Mapping[ShotId, Digest]) -> Outcome:
        outcome = _outcome(step)
        parts = digest.parts(shot, step.model, inputs.stills, frames_of, inputs.clips)
        assert parts is not None  # a step whose needs have no clip was skipped
        key = digest.key(parts)
        outcome = replace(outcome, key=key)
        if step.key is not None and step.key != key and step.provider != ANIMATIC:
            message = "what goes into it is not what the plan was made from any more"
            return _failed(outcome, RunFailure.STALE_PLAN, message, "plan and run again")
        locked = await buyer.do(clips.locked, key) if step.key is None else None
        if locked is not None and await buyer.do(clips.holds, locked):
            return replace(outcome, clip=locked)
        if locked is not None and step.provider != ANIMATIC:
            return _absent(replace(step, key=key, clip=locked.facts.digest))
        data = {"action": step.action.value, "provider": step.provider, "seconds": shot.duration}
        emit(Event(event="step-started", film=film.label, shot=shot.id, take=shot.take, data=data))
        bought = await buyer.obtain(_order(step, shot, key, parts, frames_of))
        resumed = step.action is Action.RESUME and bought.clip is not None
        result = Result.RESUMED if resumed else bought.result
        return replace(outcome, result=result, clip=bought.clip, spent=bought.spent, failure=bought.failure)

    async def _brought_back(step: Step, shot: Shot, frames_of: Mapping[ShotId, Digest]) -> Outcome:
        """A clip that the plan names and the store lost: whoever made it may still have it."""
        if step.record is None or step.key is None or step.record.task is None:
            return _absent(step)
        parts = digest.parts(shot, step.model, inputs.stills, frames_of, inputs.clips)
        if parts is None or digest.key(parts) != step.key:
            parts = dict(step.record.parts)  # held: the clip of what the shot was then
        bought = await buyer.bring_back(_order(step, shot, step.key, parts, frames_of), step.record)
        if bought is None or (bought.clip is not None and bought.clip.facts.digest != step.clip):
            return _absent(step)
        if bought.clip is None:
            return replace(_outcome(step), result=Result.FAILED, failure=bought.failure)
        return replace(_outcome(step), result=Result.RESUMED, clip=bought.clip)

    def _order(
        step: Step, shot: Shot, key: Key, parts: Mapping[str, object], frames_of: Mapping[ShotId, Digest]
    ) -> Order:
        cost = price(shot)
        return Order(
            film=film,
            shot=shot,
            key=key,
            parts=parts,
            clips=frames_of,
            stills=_files(shot, inputs),
            provider=step.provider,
            model=step.model,
            price=cost.amount,
            basis=cost.basis,
            expected_s=expect(shot),
            priority=weigh()[shot.id] if step.is_active_take else expect(shot),  # nobody continues another take
            only=step.clip if frozen and step.redraws else None,
            may_order=step.orders or step.same_as is not None,  # the step that it is the same as was counted
        )

    def _skipped(step: Step, upstream: Outcome) -> Outcome:
        because = upstream.because or upstream.shot
        emit(Event(event="step-skipped", film=film.label, shot=step.shot, take=step.take, data={"because": because}))
        result = Result.STOPPED if upstream.result is Result.STOPPED else Result.SKIPPED
        return replace(_outcome(step), result=result, key=None, because=because)

    for step in plan.steps:
        ended[step.shot, step.take] = asyncio.create_task(one(step), name=f"{film.label} {step.shot} take {step.take}")
    everything = asyncio.gather(*ended.values())
    stopping = asyncio.create_task(stop.wait())
    try:
        waits: set[asyncio.Future[object]] = {everything, stopping}  # type: ignore[arg-type]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if everything.done() and everything.exception() is None:
            return tuple(everything.result())
        await buyer.stop(ANSWER_S)
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
    return Outcome(shot=step.shot, take=step.take, is_active_take=step.is_active_take, result=result, key=step.key)


def _outcome(step: Step) -> Outcome:
    """The outcome of a step before anything is known of it."""
    return Outcome(
        shot=step.shot, take=step.take, is_active_take=step.is_active_take, result=Result.REUSED, key=step.key
    )


def _failed(outcome: Outcome, kind: RunFailure, message: str, what_next: str) -> Outcome:
    return replace(outcome, result=Result.FAILED, failure=Failure(kind=kind, message=message, next=what_next))


def _absent(step: Step) -> Outcome:
    """A clip that the plan names and the store does not hold: never bought anew by itself."""
    return _failed(
        _outcome(step),
        RunFailure.CLIP_ABSENT,
        f"the plan names clip {str(step.clip)[:12]}, and this store does not hold it; nothing was bought in its place",
        "run with the store that holds it (KLINGFLOW_STORE), or declare another `take` to buy the shot anew",
    )


def _files(shot: Shot, inputs: Inputs) -> dict[str, Digest]:
    """The project's files that go into a shot, by path."""
    stills = {f.path: inputs.stills[f.path].digest for _, f in shot.frames() if isinstance(f, FileStill)}
    return stills | {video.path: inputs.clips[video.path] for video in shot.videos if isinstance(video, FileVideo)}


def _weights(film: Film, expect: Callable[[Shot], float]) -> dict[ShotId, float]:
    """Seconds of work from a shot's start to the end of the longest chain that hangs on it."""
    after = graph.dependants(film)
    weights: dict[ShotId, float] = {}
    for shot in reversed(graph.order(film)):
        weights[shot.id] = expect(shot) + max((weights[follower] for follower in after[shot.id]), default=0.0)
    return weights


def _report(emit: Emit, film: Film, outcome: Outcome) -> None:
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
