"""Sends one order, so that nobody pays twice: the intent on disk, the one paid request, the record of its answer.

The intent, with the exact bytes, is on disk before the request leaves, and the ledger is read once more in between; the
task id is on disk before anything waits for it. Once begun it goes on to its end, so that an interrupt leaves no doubt
behind. `Sender.post` is the only line of klingflow that sends a paid request.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from klingflow.core.errors import StoreError
from klingflow.core.model import Digest, Key, ShotId, TaskId
from klingflow.core.redact import redact
from klingflow.execution.budget import Budget
from klingflow.execution.host import Host
from klingflow.execution.offload import Offload
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Emit, Event, Result, RunFailure
from klingflow.execution.seller import Seller
from klingflow.execution.waiting import backoff
from klingflow.execution.wording import Wording
from klingflow.io import ledger
from klingflow.io.service import NotSent, Unanswered
from klingflow.io.store import Store
from klingflow.io.task_notes import TaskNote, TaskNotes
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.providers.base import Accepted, Answer, Busy, FailureClass, Refused, Request, Unclear
from klingflow.providers.failure import RULES

INTENT_VALID_S = 20.0
"""For how long after its intent was begun a paid request may leave. A runner that was paused for longer (SIGSTOP, a
laptop that slept, a slow store) sends nothing: somebody may have settled the doubt meanwhile."""
REPLAY_TIMEOUT_S = 60.0
"""The same where the request can be sent again: then asking too early costs an answer "still being taken", no more."""
ABOUT_THE_ORDER = (FailureClass.INVALID, FailureClass.MODERATED)
"""Refusals that the very same bytes would meet again."""
RECORDINGS = 5
"""Tries to write down a task that was accepted, before a person gets its id instead."""

Sent = TypeVar("Sent", bound="Job | Bought | Doubt | None")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A paid request that may or may not have been taken. `final`: to send it again can tell no more."""

    message: str
    final: bool = False


@dataclass(slots=True)
class RunState:
    """What all orders of one run share."""

    stopping: bool = False
    """Nothing more is ordered."""
    open: dict[tuple[str, ShotId, int], TaskId | None] = field(default_factory=dict)
    """Paid orders that were sent and have not ended, by film, shot and take; None until their task is known."""
    tasks: dict[tuple[str, TaskId], tuple[Key, ShotId]] = field(default_factory=dict)
    """Which order each provider gave a task id to, in this run and before."""
    unbroken: set[asyncio.Task[Job | Bought | Doubt | None]] = field(default_factory=set)
    """Requests on their way to an answer on record."""


class _Gate:
    """Reads the ledger right before a request leaves: whoever has settled its intent meanwhile has the last word."""

    def __init__(self, sender: Sender, job: Job) -> None:
        self._sender = sender
        self._job = job
        self.shut = False
        self.fresh: Job | None = None
        self.broken: StoreError | None = None

    async def is_open(self) -> bool:
        try:
            self.fresh = await self._sender.job(self._job.key)
        except StoreError as bad:
            self.broken, self.shut = bad, True
            return False
        self.shut = self.fresh.state is not State.INTENDED or self.fresh.attempt != self._job.attempt
        return not self.shut


class Sender:
    def __init__(
        self,
        *,
        store: Store,
        notes: TaskNotes,
        budget: Budget,
        words: Wording,
        storyboard: str,
        host: Host,
        now_ms: Callable[[], int],
        emit: Emit,
        rng: random.Random,
        store_calls: Offload,
        tasks: Mapping[tuple[str, TaskId], tuple[Key, ShotId]],
    ) -> None:
        self.state = RunState(tasks=dict(tasks))
        self.budget = budget
        self.do = store_calls
        self._store = store
        self._notes = notes
        self._words = words
        self._storyboard = storyboard
        self._host = host
        self._now_ms = now_ms
        self._emit = emit
        self._rng = rng

    async def finish(self, seconds: float) -> None:
        """Lets requests that were sent get their answer on record, for so long at most."""
        if self.state.unbroken:
            await asyncio.wait(set(self.state.unbroken), timeout=seconds)

    async def place_order(
        self, order: Order, seller: Seller, job: Job, request: Request, inputs: Mapping[str, Digest], idempotency: int
    ) -> Job | Bought | Doubt | None:
        """Intent, request, answer: once begun it goes on to its end, so that an interrupt leaves no doubt behind.
        `inputs` are the images in the request, by role."""
        send_before = asyncio.get_running_loop().time() + INTENT_VALID_S
        intended = await self._intend(order, seller, job, request, inputs, idempotency)
        if intended is None:
            return None
        if self.state.stopping:
            await self.refuse(intended, RunFailure.NOT_SENT, "", "interrupted before it was sent", sent=False)
            return Bought(result=Result.STOPPED)
        return await self.exchange(order, seller, intended, request, first=True, before=send_before)

    async def _intend(
        self, order: Order, seller: Seller, job: Job, request: Request, inputs: Mapping[str, Digest], idempotency: int
    ) -> Job | None:
        """Writes the intent; None where somebody else wrote it first. The job is held until the clip is there, so the
        request's body, which may hold images, stays with the record."""
        detail = {
            **self.describe(order, seller.name, order.price if seller.paid else Decimal(0)),
            "method": request.method,
            "path": request.path,
            "body": request.body or b"",
            "headers": dict(request.headers),
            "idempotency_attempt": idempotency,
            "provider_ms": seller.now_ms(),
            "inputs": dict(inputs),
            "form": seller.form(order.shot, order.key),
            "account": seller.account.signature() if seller.account is not None else None,
        }
        intent = job.next(Kind.INTENT, self._now_ms(), detail)
        written = False
        try:
            written = await self.do(ledger.write, self._store, intent)
        finally:
            if not written:
                self.budget.give_back(order.key, intent.attempt)
        return job.after(ledger.without_body(intent)) if written else None

    async def exchange(
        self, order: Order, seller: Seller, job: Job, request: Request, *, first: bool, before: float
    ) -> Job | Bought | Doubt | None:
        """One paid request and the record of its answer: the Job as it is then, or a refusal, or a doubt; None where
        the ledger moved on before it was sent."""
        if seller.paid:
            self.state.open.setdefault(place(order), None)
        gate = _Gate(self, job)
        try:
            answer = await self.post(seller, request, before, gate.is_open)
        except NotSent as cause:
            if gate.shut:
                return await self._shut(order, job, gate, first=first)
            why = redact(str(cause))
            if not first:
                return Doubt(f"could not ask again: {why}")
            self.state.open.pop(place(order), None)
            await self.refuse(job, RunFailure.NOT_SENT, "", why, sent=False)
            return self._words.not_sent(why)
        except Unanswered as cause:
            return Doubt(redact(str(cause)))
        seller.note_date(answer)
        said = seller.provider.accepted(answer)
        match said:
            case Accepted():
                return await self.accepted(order, seller, job, said, "answer" if first else "replay")
            case Busy():
                seller.cool(said.retry_after or 5.0)
                return Doubt("the first request with this key is still being taken")
            case Unclear():
                if said.retry_after is not None:
                    seller.cool(said.retry_after)
                return Doubt(redact(said.message), said.final)
            case Refused():
                began = before - INTENT_VALID_S
                if first and seller.rewritten(said, request):
                    await self.refuse(job, said.kind, said.code, redact(said.message), sent=True, answer=said.raw)
                    self.say("progress", order, {"state": "refused in this form, written anew", "fraction": None})
                    return None
                return await self._refused(order, seller, job, said, first=first, began=began)

    async def post(
        self, seller: Seller, request: Request, before: float, wanted: Callable[[], Awaitable[bool]] | None = None
    ) -> Answer:
        # The one line that spends money.
        return await seller.service.send(request, paid=True, before=before, wanted=wanted if seller.paid else None)

    async def _shut(self, order: Order, job: Job, gate: _Gate, *, first: bool) -> Bought | None:
        """What follows where the ledger, read when the connection was made, did not let a request leave."""
        self.state.open.pop(place(order), None)
        if gate.broken is not None:
            if first:
                await self.refuse(job, RunFailure.NOT_SENT, "", "the ledger could not be read again", sent=False)
            raise gate.broken
        if first:
            self.budget.give_back(order.key, job.attempt)
        fresh = gate.fresh
        if fresh is not None and fresh.attempt < job.attempt:
            raise StoreError(
                f"{job.records[-1].path} was written to {self._store.where} and is not there; nothing was sent",
                "look at the storage: it must show what it has taken",
            )
        if fresh is not None and fresh.attempt == job.attempt and fresh.state is State.ABANDONED:
            return self._words.settled_meanwhile(order)
        return None

    async def accepted(self, order: Order, seller: Seller, job: Job, said: Accepted, by: str) -> Job | Bought:
        """The record of a task that the provider has for an order; `by` is how that came to light."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = seller.name
        mine = order.key, order.shot.id
        other_key, other_shot = self.state.tasks.setdefault((name, said.task), mine) if seller.paid else mine
        if other_key != order.key:
            return self._words.one_task_for_two(order, name, said.task, f"shot '{other_shot}'")
        if seller.paid:
            self.state.open[place(order)] = said.task
            await self._note(order, seller, intent, said.task)
        if said.replayed and not self._host.mine(intent.detail):
            self.budget.give_back(order.key, intent.attempt)  # whoever sent it first has bought it
        price = order.price if seller.paid else Decimal(0)
        detail = self.task_detail(seller, said, by, price, order.basis)
        for tries in range(1, RECORDINGS + 1):
            try:
                job = await self.record(job, Kind.ACCEPTED, detail)
                break
            except StoreError as bad:
                if tries == RECORDINGS:
                    raise StoreError(*self._words.not_recorded(order, name, said.task, bad.what)) from bad
                await asyncio.sleep(backoff(tries, 0.0, self._rng))
        seller.slots.welcome()
        cost = None if price is None else float(price)
        self.say("submitted", order, {"provider": name, "task": said.task, "price": cost, "basis": order.basis})
        known = [r.detail.get("task") for r in job.records if r.kind is Kind.ACCEPTED]
        if said.task not in known:
            return self._words.two_tasks(name, known[-1] if known else "none", said.task)
        return job

    def task_detail(
        self, seller: Seller, said: Accepted, by: str, price: Decimal | None, basis: str
    ) -> dict[str, object]:
        """What an `accepted` record says of a task. Where it is asked after is kept only as far as that is the API's
        own host: nothing else is asked with its key."""
        detail: dict[str, object] = {"task": said.task, "by": by, "price": _text(price), "basis": basis}
        detail["answer"] = said.raw
        urls = {name: url for name, url in said.urls.items() if seller.service.owns(url)}
        return {**detail, "urls": urls} if urls else detail

    async def _note(self, order: Order, seller: Seller, intent: Record, task: TaskId) -> None:
        """The second witness of a paid task, outside the store. The ledger is the first: without the note a run goes
        on."""
        note = TaskNote(
            key=order.key,
            attempt=intent.attempt,
            provider=seller.name,
            task=task,
            film=order.film.label,
            shot=order.shot.id,
            take=order.shot.take,
            at_ms=self._now_ms(),
            account=intent.detail.get("account"),
        )
        await self.do(self._notes.add, note)

    async def _refused(
        self, order: Order, seller: Seller, job: Job, said: Refused, *, first: bool, began: float
    ) -> Bought | Doubt:
        message = redact(said.message)
        kind = said.kind
        failure = self._words.failure(kind, said.code, message, order)
        if kind is FailureClass.THROTTLED:
            seller.slots.throttled()
            seller.cool(max(1.0, said.retry_after or 0.0))
        if RULES[kind].stops_provider:
            seller.closed = failure
        about_the_order = kind in ABOUT_THE_ORDER and not said.code.startswith("HTTP ")
        repeatable = seller.provider.caps.replay_s is not None
        late = repeatable and asyncio.get_running_loop().time() - began >= REPLAY_TIMEOUT_S
        if not about_the_order and (late or not first):
            # Another request with this key may have been taken: an earlier one, before the account ran dry, the key was
            # revoked, or whatever is in front of the API went wrong; or, after so long, one that another runner sent.
            return Doubt(message)
        self.state.open.pop(place(order), None)
        await self.refuse(job, kind, said.code, message, sent=True, answer=said.raw)
        return Bought(result=Result.FAILED, failure=failure)

    async def refuse(
        self, job: Job, kind: FailureClass | RunFailure, code: str, message: str, *, sent: bool, answer: str = ""
    ) -> None:
        detail = {"class": kind.value, "code": code, "message": message, "sent": sent, "answer": answer}
        await self.record(job, Kind.REFUSED, detail)
        self.budget.give_back(job.key, job.attempt)

    def request(self, order: Order, seller: Seller, images: Mapping[str, str], attempt: int) -> Request:
        """`images`: what stands for each image in the request, by role."""
        return seller.provider.submit(order.shot, images, seller.settings, order.key, attempt)

    def allowed(self, order: Order, seller: Seller) -> bool:
        """Whether a request that makes a clip may be sent: the plan decided so, or it is free."""
        return order.may_order or not seller.paid

    def book(self, order: Order, seller: Seller, attempt: int) -> Bought | None:
        """None when the run may spend so much more; else how the order ends."""
        if not seller.paid:
            return None
        why = self.budget.book(order.key, attempt, order.price, order.shot.duration)
        return None if why is None else self._words.limit(why)

    async def uninterrupted(self, part: Coroutine[object, object, Sent]) -> Sent:
        """Runs a part of the protocol to its end, also when whoever waits for it is cancelled (see `finish`)."""
        task = asyncio.create_task(part)
        self.state.unbroken.add(task)
        task.add_done_callback(self.state.unbroken.discard)
        return await asyncio.shield(task)

    async def job(self, key: Key) -> Job:
        return await self.do(ledger.job, self._store, key)

    async def whole(self, record: Record) -> Record:
        return await self.do(ledger.whole, self._store, record)

    async def record(self, job: Job, kind: Kind, detail: Mapping[str, object]) -> Job:
        """Writes the next record of a job; where another runner wrote it first, its records are the truth."""
        record = job.next(kind, self._now_ms(), detail)
        if await self.do(ledger.write, self._store, record):
            return job.after(record)
        return await self.job(job.key)

    def describe(self, order: Order, provider: str, price: Decimal | None) -> dict[str, object]:
        """What an intent records of the order, besides the request."""
        return {
            "provider": provider,
            "model": order.model,
            "price": _text(price),
            "basis": order.basis,
            "seconds": order.shot.duration,
            "resolution": order.shot.resolution,
            "storyboard": self._storyboard,
            "film": order.film.label,
            "shot": order.shot.id,
            "take": order.shot.take,
            "inputs": {},
            "parts": dict(order.parts),
            **self._host.signature(),
        }

    def say(self, event: str, order: Order, data: Mapping[str, object]) -> None:
        self._emit(Event(event=event, film=order.film.label, shot=order.shot.id, take=order.shot.take, data=data))


def place(order: Order) -> tuple[str, ShotId, int]:
    return order.film.label, order.shot.id, order.shot.take


def _text(price: Decimal | None) -> str | None:
    return None if price is None else str(price)
