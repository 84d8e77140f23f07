"""Buying one clip, so that nobody pays twice: the ledger protocol of one key, from intent to stored clip.

The order of these steps is the promise. The intent, with the exact bytes, is on disk before the request leaves; the
task id is on disk before anything waits for it; the clip is in the store before the ledger says so. Whoever dies
anywhere in between leaves records from which anybody can go on. `Buyer._post` is the only line of klingflow that sends
a paid request, and it is reached only by an order with `may_order`: the plan decided that it may cost money.

    look in the store -> read the ledger -> intent -> read it once more -> POST -> accepted | refused -> wait ->
    download
    -> check -> blob -> clips/KEY.json -> stored

The ledger is evidence. Where it says that something was sent, the request is rebuilt from the order and compared; a
task is asked after at the path that the provider's code gives; prices are today's.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from klingflow.core.errors import KlingflowError, MediaError, StoreError
from klingflow.core.model import ClipFacts, ClipRecord, Digest, Key, ShotId, TaskId
from klingflow.core.redact import redact
from klingflow.execution import replay
from klingflow.execution.budget import Budget
from klingflow.execution.host import Host
from klingflow.execution.inputs import Images, InputImages, Media
from klingflow.execution.offload import Offload
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Emit, Event, Result, RunFailure
from klingflow.execution.seller import Seller
from klingflow.execution.waiting import backoff
from klingflow.execution.wording import Wording, failed
from klingflow.io import ledger
from klingflow.io.service import Broken, Gone, NotSent, Unanswered
from klingflow.io.store import Store
from klingflow.io.task_notes import TaskNote, TaskNotes
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.providers.base import (
    Accepted,
    Answer,
    Busy,
    Done,
    Failed,
    FailureClass,
    Later,
    Missing,
    Pending,
    Refused,
    Request,
    Status,
    Unclear,
    Unreadable,
)
from klingflow.providers.failure import RULES, recorded

INTENT_VALID_S = 20.0
"""For how long after its intent was begun a paid request may leave. A runner that was paused for longer (SIGSTOP, a
laptop that slept, a slow store) sends nothing: somebody may have settled the doubt meanwhile."""
ANSWER_TIMEOUT_S = 150.0
"""How long another runner's intent may lack an answer, from our first sight of it, before it is in doubt: the request
leaves within INTENT_VALID_S and is over 120 s later (io.client), and a margin."""
REPLAY_TIMEOUT_S = 60.0
"""The same where the request can be sent again: then asking too early costs an answer "still being taken", no more."""
CLOCK_SKEW_S = 600.0
"""How far the clocks of two runners may be apart: an intent that is older than that, and than the timeout, is over at
first sight. A clock that is off by more costs a question to a person, or an answer given again; never a purchase."""
RETRY_TIMEOUT_S = 900.0
"""How long one run goes on sending the same bytes, or coming back after a throttling answer, before it leaves the rest
to the next run."""
TASK_TIMEOUT_S = 3600.0
"""How long one run waits for a task; HiAPI's own tools wait up to 120 min, MuleRouter advises 30 min (read 2026-11)."""
UNKNOWN_TASK_TIMEOUT_S = 60.0
"""A task may be unknown to the provider's readers for so long after it was accepted; counted from our first question,
because the clock of whoever recorded the task may differ from ours."""
ABOUT_THE_ORDER = (FailureClass.INVALID, FailureClass.MODERATED)
"""Refusals that the very same bytes would meet again."""
DOWNLOADS = 4
EMPTY_PAUSES_S = (1.0, 3.0, 9.0)
"""Pauses before a task that is done without a video is asked after once more."""
RECORDINGS = 5
"""Tries to write down a task that was accepted, before a person gets its id instead."""

Sent = TypeVar("Sent", bound="Job | Bought | Doubt | None")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A paid request that may or may not have been taken. `final`: to send it again can tell no more."""

    message: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Unfit:
    """A whole download that is no clip, or not the one that was ordered. Its bytes are in the store."""

    digest: Digest
    why: str


class Again:
    """Ask after the task once more."""


@dataclass(slots=True)
class _Tries:
    """What went wrong while one task was collected, counted."""

    downloads: int = 0
    empty: int = 0
    misses: int = 0
    unknown_since: float | None = None
    unfit: Digest | None = None


@dataclass(slots=True)
class _Refusals:
    """Definite noes to one order in a row, and since when."""

    count: int = 0
    since: float = 0.0


@dataclass(slots=True)
class _Shared:
    """What the orders of one run share."""

    tasks: dict[tuple[str, TaskId], tuple[Key, ShotId]]
    """Which order each provider gave a task id to, in this run and before."""
    obtained: dict[Key, asyncio.Future[Bought]] = field(default_factory=dict)
    first_seen: dict[tuple[Key, int], float] = field(default_factory=dict)
    """When this run first saw an intent without an answer."""
    unbroken: set[asyncio.Task[Job | Bought | Doubt | None]] = field(default_factory=set)


class Buyer:
    """Buys clips for one run; all of a run's steps share it, because they share limits, slots and pollers."""

    def __init__(
        self,
        *,
        store: Store,
        sellers: Mapping[str, Seller],
        inputs: InputImages,
        media: Media,
        notes: TaskNotes,
        budget: Budget,
        storyboard: str,
        shown: str,
        scratch: Path,
        host: Host,
        now_ms: Callable[[], int],
        emit: Emit,
        rng: random.Random,
        store_calls: Offload,
        media_calls: Offload,
        tasks: Mapping[tuple[str, TaskId], tuple[Key, ShotId]],
        detach: bool = False,
    ) -> None:
        """`storyboard` is its path from the project's root, for records; `shown` as it was given, for commands.
        `tasks`: by provider and id, the key and shot of each task that is known to have been paid for before."""
        self._store = store
        self._sellers = sellers
        self._inputs = inputs
        self._media = media
        self._notes = notes
        self._storyboard = storyboard
        self._words = Wording(shown, store.where)
        self._scratch = scratch
        self._host = host
        self._now_ms = now_ms
        self._emit = emit
        self._rng = rng
        self._media_calls = media_calls
        self._detach = detach
        self.do = store_calls
        self.budget = budget
        self.stopping = False
        self.open: dict[tuple[str, ShotId, int], TaskId | None] = {}
        """Paid orders that were sent and have not ended, by film, shot and take; None until their task is known."""
        self._shared = _Shared(tasks=dict(tasks))
        self._count = itertools.count()

    # -- what the engine calls -----------------------------------------------------------------------------------

    async def obtain(self, order: Order) -> Bought:
        """The clip for an order: found, collected or bought; orders with one key are one purchase, whoever asks.

        Returns, also when the store fails; raises only for a bug.
        """
        first = self._shared.obtained.get(order.key)
        if first is not None:
            bought = await asyncio.shield(first)
            return replace(bought, spent=Decimal(0), result=Result.ADOPTED if bought.clip else bought.result)
        first = self._shared.obtained[order.key] = asyncio.get_running_loop().create_future()
        try:
            bought = await self._obtain(order)
        except KlingflowError as bad:
            charged = None if self.budget.spent_on(order.key) else False
            bought = failed(RunFailure.STORE, bad.what, bad.mend, charged)
        except BaseException as gone:
            if isinstance(gone, Exception):
                first.set_exception(gone)
                first.exception()  # perhaps nobody else asks
            else:
                first.cancel()
            raise
        bought = replace(bought, spent=self.budget.spent_on(order.key))
        first.set_result(bought)
        return bought

    def wake(self, provider: str, task: TaskId) -> bool:
        """A callback came for a task: it is asked after at once. False where this run does not wait for it."""
        seller = self._sellers.get(provider)
        return seller is not None and seller.poller.wake(task)

    async def finish(self, seconds: float) -> None:
        """Lets requests that were sent get their answer on record, for so long at most."""
        if self._shared.unbroken:
            await asyncio.wait(set(self._shared.unbroken), timeout=seconds)

    # -- one order, state by state -------------------------------------------------------------------------------

    async def _obtain(self, order: Order) -> Bought:
        """Advances the order until it has ended, reading the store and the ledger anew before each step."""
        before: int | None = None  # attempts that were over before this order began
        refusals = _Refusals()
        while True:
            record = await self.do(ledger.clip, self._store, order.key)
            if record is not None:
                return Bought(result=Result.ADOPTED, clip=record)
            job = await self._job(order.key)
            if before is None:
                before = job.attempt - job.open
            bought = await self._advance(order, job, before)
            if bought is None:
                refusals = _Refusals()
            elif not await self._again_later(order, bought, refusals):
                return bought

    async def _advance(self, order: Order, job: Job, before: int) -> Bought | None:
        """One step of an order; None where the ledger moved on and must be read again."""
        if job.orphans:
            return self._words.damaged(order, [record.path for record in job.orphans])
        match job.state:
            case State.ACCEPTED:
                return await self._resume(order, job)
            case State.INTENDED:
                return await self._settle(order, job)
            case State.DELIVERED:
                return self._not_accepted(order, job)
            case State.STORED:
                if await self.do(ledger.clip, self._store, order.key) is not None:
                    return None  # it was kept between our two looks
                return self._words.lost_from_store()
            case State.NEW if (note := self._notes.find(order.key)) is not None:
                return await self._restore(order, job, note)
            case _:
                return await self._begin(order, job, before)

    async def _begin(self, order: Order, job: Job, before: int) -> Bought | None:
        """A new attempt, where one may be made."""
        ended = self._final_failure(order, job, before)
        if ended is not None:
            return ended
        seller = self._sellers.get(order.provider)
        if seller is None:
            return failed(RunFailure.NO_KEY, f"{order.provider} has no key in this environment", "set it and run again")
        if not self._allowed(order, seller):
            return self._words.nothing_to_collect("")
        if self.stopping:
            return Bought(result=Result.STOPPED)
        return await self._buy(order, seller, job)

    async def _again_later(self, order: Order, bought: Bought, refusals: _Refusals) -> bool:
        """Whether an order that was refused, so that nothing was bought, is sent again; waits until then."""
        failure = bought.failure
        if failure is None or bought.result is not Result.FAILED or self.stopping:
            return False
        seller = self._sellers.get(order.provider)
        if seller is None or seller.closed is not None:
            return False
        if isinstance(failure.kind, RunFailure):
            free_retries, new_attempts = failure.kind is RunFailure.NOT_SENT, 0
        else:
            rule = RULES[failure.kind]
            free_retries, new_attempts = rule.free_retries, rule.new_attempts
        loop = asyncio.get_running_loop()
        refusals.since = refusals.since if refusals.count else loop.time()
        refusals.count += 1
        patient = free_retries and loop.time() - refusals.since < RETRY_TIMEOUT_S
        if not patient and refusals.count > new_attempts:
            return False
        await asyncio.sleep(backoff(refusals.count, 0.0, self._rng))
        return True

    def _final_failure(self, order: Order, job: Job, before: int) -> Bought | None:
        """How the order ended, where a task of its key failed and no further one may be bought; None where one may."""
        last = job.last(Kind.FAILED)
        if last is None:
            return None
        kind = recorded(last.detail) or FailureClass.INVALID
        rule = RULES[kind]
        message = str(last.detail.get("message") or kind.value)
        failures = sum(record.kind is Kind.FAILED and record.attempt > before for record in job.records)
        if not failures:
            if rule.again_by_run:
                return None
            message = f"this very order was tried before: {message}"
        elif failures <= rule.new_attempts and order.may_order and not (self._detach or self.stopping):
            return None
        failure = self._words.failure(kind, str(last.detail.get("code") or ""), message, order)
        return Bought(result=Result.FAILED, failure=replace(failure, charged=None if failures else False))

    def _allowed(self, order: Order, seller: Seller) -> bool:
        """Whether a request that makes a clip may be sent: the plan decided so, or it is free."""
        return order.may_order or not seller.paid

    async def _restore(self, order: Order, job: Job, note: TaskNote) -> Bought | None:
        """Writes the records of a paid task anew that the store lost, from the note beside it. Only a note that was
        written with this account's key is believed: one that somebody else wrote could name another shot's task."""
        seller = self._sellers.get(note.provider)
        if seller is None:
            return self._words.no_key(note.provider, note.task)
        if seller.account is not None and not seller.account.wrote({"account": note.account}):
            return self._words.note_of_other_account(note.provider, note.task)
        detail = {**self._describe(order, note.provider, order.price), "account": note.account, "by": "note"}
        intent = job.next(Kind.INTENT, note.at_ms, detail)
        if await self.do(ledger.write, self._store, intent):
            accepted = job.after(intent).next(Kind.ACCEPTED, note.at_ms, {"task": note.task, "by": "note"})
            await self.do(ledger.write, self._store, accepted)
            if seller.paid:
                self.open[_place(order)] = note.task
        return None

    # -- a new attempt -------------------------------------------------------------------------------------------

    async def _buy(self, order: Order, seller: Seller, job: Job) -> Bought | None:
        async with seller.slots.hold(order.priority):
            await seller.cooled(lambda: self.stopping)
            if self.stopping:
                return Bought(result=Result.STOPPED)
            if seller.closed is not None:
                return Bought(result=Result.FAILED, failure=seller.closed)
            try:
                images = await self._inputs.prepare(order, seller.provider, seller.settings)
            except StoreError:
                raise
            except KlingflowError as bad:
                return failed(RunFailure.INPUT, bad.what, bad.mend)
            attempt = job.attempt + 1
            idempotency = self._repeats(order, job) or attempt
            request = self._request(order, seller, images, idempotency)
            refused = self._book(order, seller, attempt)
            if refused is not None:
                return refused
            await seller.learn_date()
            sent = await self._uninterrupted(self._place_order(order, seller, job, request, images, idempotency))
            if isinstance(sent, Doubt):
                if sent.final:
                    return self._words.doubt(order, order.provider, sent.message)
                return await self._replay(order, attempt, sent.message)
            return await self._collect_sent(order, sent)

    def _request(self, order: Order, seller: Seller, images: Images, attempt: int) -> Request:
        return seller.provider.submit(order.shot, images.texts, seller.settings, order.key, attempt)

    def _repeats(self, order: Order, job: Job) -> int | None:
        """The attempt whose idempotency key is used again, because its order was refused a moment ago.

        Another runner may have replayed the refused one, and not have heard that it was taken. With the same bytes
        and the same key all of them are one purchase at the provider; a new key would be a second one.
        """
        intent, refused = job.last(Kind.INTENT), job.last(Kind.REFUSED)
        if intent is None or refused is None or intent.detail.get("provider") != order.provider:
            return None
        age_s = (self._now_ms() - intent.at_ms) / 1000
        if recorded(refused.detail) in ABOUT_THE_ORDER or not abs(age_s) < 2 * RETRY_TIMEOUT_S:
            return None
        return _idempotency(intent)

    async def _place_order(
        self, order: Order, seller: Seller, job: Job, request: Request, images: Images, idempotency: int
    ) -> Job | Bought | Doubt | None:
        """Intent, request, answer: once begun it goes on to its end, so that an interrupt leaves no doubt behind."""
        send_before = asyncio.get_running_loop().time() + INTENT_VALID_S
        detail = {
            **self._describe(order, seller.name, order.price if seller.paid else Decimal(0)),
            "method": request.method,
            "path": request.path,
            "body": base64.b64encode(request.body or b"").decode("ascii"),
            "headers": dict(request.headers),
            "idempotency_attempt": idempotency,
            "provider_ms": seller.now_ms(),
            "inputs": dict(images.digests),
            "account": seller.account.signature() if seller.account is not None else None,
        }
        intent = job.next(Kind.INTENT, self._now_ms(), detail)
        written = False
        try:
            written = await self.do(ledger.write, self._store, intent)
        finally:
            if not written:
                self.budget.give_back(order.key, intent.attempt)
        if not written:
            return None
        job = job.after(intent)
        if seller.paid:
            # Read again right before the request leaves: whoever has settled this intent meanwhile has the last word.
            try:
                fresh = await self._job(order.key)
            except StoreError:
                await self._refuse(job, RunFailure.NOT_SENT, "", "the ledger could not be read again", sent=False)
                raise
            if fresh.state is not State.INTENDED or fresh.attempt != job.attempt:
                self.budget.give_back(order.key, intent.attempt)
                return None
        if self.stopping:
            await self._refuse(job, RunFailure.NOT_SENT, "", "interrupted before it was sent", sent=False)
            return Bought(result=Result.STOPPED)
        return await self._send(order, seller, job, request, first=True, before=send_before)

    async def _send(
        self, order: Order, seller: Seller, job: Job, request: Request, *, first: bool, before: float
    ) -> Job | Bought | Doubt:
        """One paid request and the record of its answer: the Job as it is then, or a refusal, or a doubt."""
        if seller.paid:
            self.open.setdefault(_place(order), None)
        try:
            answer = await self._post(seller, request, before)
        except NotSent as cause:
            why = redact(str(cause))
            if not first:
                return Doubt(f"could not ask again: {why}")
            self.open.pop(_place(order), None)
            await self._refuse(job, RunFailure.NOT_SENT, "", why, sent=False)
            return self._words.not_sent(why)
        except Unanswered as cause:
            return Doubt(redact(str(cause)))
        seller.note_date(answer)
        said = seller.provider.accepted(answer)
        match said:
            case Accepted():
                return await self._accepted(order, seller, job, said, first=first)
            case Busy():
                seller.cool(said.retry_after or 5.0)
                return Doubt("the first request with this key is still being taken")
            case Unclear():
                if said.retry_after is not None:
                    seller.cool(said.retry_after)
                return Doubt(redact(said.message), said.final)
            case Refused():
                began = before - INTENT_VALID_S
                return await self._refused(order, seller, job, said, first=first, began=began)

    async def _post(self, seller: Seller, request: Request, before: float) -> Answer:
        return await seller.service.send(request, paid=True, before=before)  # the one line that spends money

    async def _accepted(
        self, order: Order, seller: Seller, job: Job, said: Accepted, *, first: bool
    ) -> Job | Bought:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = seller.name
        mine = order.key, order.shot.id
        other_key, other_shot = self._shared.tasks.setdefault((name, said.task), mine) if seller.paid else mine
        if other_key != order.key:
            return self._words.one_task_for_two(order, name, said.task, f"shot '{other_shot}'")
        if seller.paid:
            self.open[_place(order)] = said.task
            await self._note(order, seller, intent, said.task)
        if said.replayed and not self._host.mine(intent.detail):
            self.budget.give_back(order.key, intent.attempt)  # whoever sent it first has bought it
        price = _text(order.price if seller.paid else Decimal(0))
        detail = {"task": said.task, "by": "answer" if first else "replay", "price": price, "answer": said.raw}
        for tries in range(1, RECORDINGS + 1):
            try:
                job = await self._record(job, Kind.ACCEPTED, detail)
                break
            except StoreError as bad:
                if tries == RECORDINGS:
                    raise StoreError(*self._words.not_recorded(order, name, said.task, bad.what)) from bad
                await asyncio.sleep(backoff(tries, 0.0, self._rng))
        seller.slots.welcome()
        cost = None if price is None else float(price)
        self._say("submitted", order, {"provider": name, "task": said.task, "price": cost})
        known = [r.detail.get("task") for r in job.records if r.kind is Kind.ACCEPTED]
        if said.task not in known:
            return self._words.two_tasks(name, known[-1] if known else "none", said.task)
        return job

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
        self.open.pop(_place(order), None)
        await self._refuse(job, kind, said.code, message, sent=True, answer=said.raw)
        return Bought(result=Result.FAILED, failure=failure)

    async def _refuse(
        self, job: Job, kind: FailureClass | RunFailure, code: str, message: str, *, sent: bool, answer: str = ""
    ) -> None:
        detail = {"class": kind.value, "code": code, "message": message, "sent": sent, "answer": answer}
        await self._record(job, Kind.REFUSED, detail)
        self.budget.give_back(job.key, job.attempt)

    async def _collect_sent(self, order: Order, sent: Job | Bought | None) -> Bought | None:
        """Collects what was accepted while the slot is still held: the task is in flight until it ends."""
        if isinstance(sent, Job):
            return await self._collect(order, sent) if sent.state is State.ACCEPTED else None
        return sent

    # -- an intent without an answer -----------------------------------------------------------------------------

    async def _settle(self, order: Order, job: Job) -> Bought | None:
        """Somebody's intent has no answer on record: wait while it may still come, then replay, or leave it to a
        person."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        seller = self._sellers.get(str(intent.detail.get("provider")))
        now = asyncio.get_running_loop().time()
        waited = now - self._shared.first_seen.setdefault((job.key, job.attempt), now)
        waited = max(waited, (self._now_ms() - intent.at_ms) / 1000 - CLOCK_SKEW_S)
        repeatable = seller is not None and seller.provider.caps.replay_s is not None
        timeout = REPLAY_TIMEOUT_S if repeatable else ANSWER_TIMEOUT_S
        if waited < timeout and not self._host.died(intent.detail):
            await asyncio.sleep(min(1.0 + max(0.0, waited) / 4, 15.0))
            return Bought(result=Result.OPEN) if self.stopping else None
        ended = "the run that asked for it ended before the answer was on record"
        if seller is None:
            return await self._replay(order, job.attempt, ended)
        async with seller.slots.hold(order.priority):
            return await self._replay(order, job.attempt, ended)

    async def _replay(self, order: Order, attempt: int, message: str) -> Bought | None:
        """Sends the request of an intent again until its answer is known, where that buys nothing twice; else it is in
        doubt. None where the ledger moved on."""
        loop = asyncio.get_running_loop()
        began, tries = loop.time(), 0
        while True:
            asked = await self._replay_once(order, attempt, message, tries, loop.time() - began)
            if not isinstance(asked, Doubt):
                return asked
            message = asked.message
            tries += 1
            await asyncio.sleep(backoff(tries, 0.0, self._rng))
            seller = self._sellers.get(order.provider)
            if seller is not None:
                await seller.cooled(lambda: self.stopping)

    async def _replay_once(
        self, order: Order, attempt: int, message: str, tries: int, took_s: float
    ) -> Bought | Doubt | None:
        job = await self._job(order.key)
        if job.state is not State.INTENDED or job.attempt != attempt:
            return None
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = str(intent.detail.get("provider"))
        seller = self._sellers.get(name)
        if seller is None:
            return self._words.doubt(
                order, name, message, f"set the key of {name} and run again: the same request is sent again"
            )
        why = await self._not_repeatable(seller, job)
        if why:
            return self._words.doubt(order, name, f"{message}; {why}" if why != message else message)
        if self.stopping:
            return Bought(result=Result.OPEN)
        if not self._allowed(order, seller):
            return self._words.ask_again(name)
        if tries and (seller.closed is not None or took_s > RETRY_TIMEOUT_S):
            return self._words.doubt(
                order, name, message, "run again: the same request is sent with the same key"
            )
        try:
            images = await self._inputs.prepare(order, seller.provider, seller.settings)
        except KlingflowError as bad:
            return self._words.doubt(order, name, f"{message}; its request cannot be made again: {bad.what}")
        rebuilt = self._request(order, seller, images, _idempotency(intent))
        request = replay.recorded(intent.detail, rebuilt, images.published)
        if not isinstance(request, Request):
            what = f"the recorded request is not the one of this order ({', '.join(request)})"
            return self._words.doubt(order, name, f"{message}; {what}, so it is not sent again")
        refused = self._book(order, seller, attempt)
        if refused is not None:
            return refused
        before = asyncio.get_running_loop().time() + INTENT_VALID_S
        sent = await self._uninterrupted(self._send(order, seller, job, request, first=False, before=before))
        if isinstance(sent, Doubt):
            return self._words.doubt(order, name, sent.message) if sent.final else sent
        return await self._collect_sent(order, sent)

    async def _not_repeatable(self, seller: Seller, job: Job) -> str:
        """Why the same request cannot be sent again without the risk of a second purchase; empty where it can."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        if seller.provider.caps.replay_s is None:
            return f"{seller.name} has no way to ask again without buying again"
        if not _own_account(seller, job):
            return "it was sent from another account, or to another address, than the one of this environment"
        await seller.learn_date()
        if not seller.within_replay_window(intent.detail.get("provider_ms")):
            return f"by {seller.name}'s clock it is not certain that the same request can still be sent again"
        return ""

    # -- an accepted task ----------------------------------------------------------------------------------------

    async def _resume(self, order: Order, job: Job) -> Bought | None:
        """Collects a task that somebody submitted before. It is in flight like any other, so it holds a slot."""
        seller = self._sellers.get(_seller_of(job))
        if seller is None:
            assert job.task is not None
            return self._words.no_key(_seller_of(job), job.task)
        async with seller.slots.hold(order.priority):
            return await self._collect(order, job)

    async def _collect(self, order: Order, job: Job) -> Bought | None:
        """Waits for an accepted task, whoever submitted it, and brings its clip into the store."""
        task = job.task
        assert task is not None
        seller = self._sellers[_seller_of(job)]
        if seller.paid:
            self.open[_place(order)] = task
            self._shared.tasks.setdefault((seller.name, task), (order.key, order.shot.id))
        tries = _Tries()
        while True:
            status = await self._ended(order, seller, job, task)
            ended = await self._heard(order, seller, job, task, status, tries)
            if not isinstance(ended, Again):
                return ended

    async def _heard(
        self, order: Order, seller: Seller, job: Job, task: TaskId, status: Status | None, tries: _Tries
    ) -> Bought | Again | None:
        """What follows from a task's status; Again where it is asked after once more."""
        match status:
            case Done():
                return await self._bring(order, seller, job, status, tries)
            case Unreadable() if tries.empty < len(EMPTY_PAUSES_S):
                # Done, without a video: its address may come a moment after the word.
                await asyncio.sleep(EMPTY_PAUSES_S[tries.empty])
                tries.empty += 1
                return Again()
            case Unreadable():
                return self._words.unreadable(seller.name, task, status)
            case Failed():
                await self._record_failure(job, status)
                return None
            case Missing():
                return await self._missing(order, seller, job, task, tries)
            case Pending():
                return self._words.still_being_made(task)
            case Later():
                failure = self._words.failure(FailureClass.UNAUTHORISED, "", redact(status.message), order)
                return Bought(result=Result.OPEN, failure=failure)
            case None:
                return Bought(result=Result.OPEN)

    async def _ended(self, order: Order, seller: Seller, job: Job, task: TaskId) -> Status | None:
        """How a task ended, or why no more is known of it; None where a detached run does not wait for that."""
        path = self._path(order, seller)
        if self._detach and seller.paid:
            try:
                status = seller.provider.status(await seller.ask(seller.provider.poll(task, path)), task)
            except (NotSent, Unanswered):
                return None
            foreign = isinstance(status, Missing) and not _own_account(seller, job)
            return status if foreign or isinstance(status, Done | Failed | Unreadable) else None
        accepted = job.last(Kind.ACCEPTED)
        assert accepted is not None
        return await seller.poller.ended(
            task,
            path,
            expected_s=order.expected_s,
            elapsed_s=max(0.0, (self._now_ms() - accepted.at_ms) / 1000),
            patience_s=max(TASK_TIMEOUT_S, 10 * order.expected_s),
            tell=lambda pending: self._say("progress", order, {"state": pending.state, "fraction": pending.fraction}),
        )

    def _path(self, order: Order, seller: Seller) -> str:
        """The path at which a task of this order was made: from the provider's code, never from a record."""
        return self._request(order, seller, Images(texts=dict.fromkeys(_roles(order), "")), 1).path

    async def _missing(
        self, order: Order, seller: Seller, job: Job, task: TaskId, tries: _Tries
    ) -> Bought | Again | None:
        """The provider does not know the task. Nothing is sent again: that could buy a second clip."""
        if not seller.paid:
            return await self._draw_again(order, seller)
        if not _own_account(seller, job):
            return self._words.other_account(order, seller.name, task)
        now = asyncio.get_running_loop().time()
        tries.unknown_since = now if tries.unknown_since is None else tries.unknown_since
        tries.misses += 1
        if now - tries.unknown_since < UNKNOWN_TASK_TIMEOUT_S:
            await asyncio.sleep(min(2.0**tries.misses, 15.0))
            fresh = await self._job(order.key)
            return Again() if fresh.state is State.ACCEPTED and fresh.task == task else None
        return self._words.task_unknown(order, seller.name, task)

    async def _draw_again(self, order: Order, seller: Seller) -> Bought | Again:
        """A free provider's task of an earlier process: the same order again gives the same clip."""
        images = await self._inputs.prepare(order, seller.provider, seller.settings)
        job = await self._job(order.key)
        before = asyncio.get_running_loop().time() + INTENT_VALID_S
        said = seller.provider.accepted(
            await self._post(seller, self._request(order, seller, images, max(1, job.attempt)), before)
        )
        return Again() if isinstance(said, Accepted) else self._words.nothing_to_collect("it could not be drawn again")

    async def _bring(
        self, order: Order, seller: Seller, job: Job, done: Done, tries: _Tries
    ) -> Bought | Again | None:
        """Downloads a finished clip and keeps it, or what came instead."""
        got = await self._download(order, seller, done)
        if isinstance(got, ClipFacts):
            return await self._record_clip(order, seller, job, got)
        if isinstance(got, Unfit):
            if got.digest == tries.unfit:  # the same bytes twice: it is the clip, not the way here
                job = await self._record(job, Kind.DELIVERED, {"clip": got.digest, "why": got.why})
                return None
            tries.unfit, got = got.digest, got.why
        tries.downloads += 1
        if tries.downloads >= DOWNLOADS:
            assert job.task is not None
            return self._words.download(job.task, got)
        await asyncio.sleep(backoff(tries.downloads, 0.0, self._rng))
        return Again()

    async def _download(self, order: Order, seller: Seller, done: Done) -> ClipFacts | Unfit | str:
        """The facts of a clip that is in the store now; what is there instead; or why nothing came."""
        path = self._scratch / f"{next(self._count)}-clip.part"
        self._say("progress", order, {"state": "downloading", "fraction": None})
        try:
            digest = await seller.service.fetch(done.url, path, lambda have, of: None)
            try:
                facts: ClipFacts | None = await self._media_calls(self._media.check, path, digest, order.shot.duration)
                why = ""
            except MediaError as bad:
                facts, why = None, bad.what.replace(path.name, "its clip")
            await self.do(self._store.put, path, move=True)  # paid bytes are kept, whatever they are
            return facts if facts is not None else Unfit(digest, why)
        except (Gone, Broken) as lost:
            return redact(str(lost)) or "the download did not arrive"
        finally:
            path.unlink(missing_ok=True)

    async def _record_clip(self, order: Order, seller: Seller, job: Job, facts: ClipFacts) -> Bought:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        record = ClipRecord(
            key=order.key,
            facts=facts,
            provider=seller.name,
            model=order.model,
            task=job.task if seller.paid else None,
            cost=_booked(job) if seller.paid else Decimal(0),
            date=_day(self._now_ms()),
            parts=order.parts,
            inputs=_inputs_of(intent),
        )
        kept = await self.do(ledger.keep, self._store, record)
        await self._record(job, Kind.STORED, {"clip": kept.facts.digest})
        self.open.pop(_place(order), None)
        made = kept.facts.digest == facts.digest and self._host.mine(intent.detail)
        return Bought(result=Result.MADE if made else Result.ADOPTED, clip=kept)

    async def _record_failure(self, job: Job, status: Failed) -> None:
        """A task without a clip: on record, where it is read again to say what follows (`_final_failure`)."""
        detail = {"class": status.kind.value, "code": status.code, "message": redact(status.message), "charged": None}
        await self._record(job, Kind.FAILED, detail)

    def _not_accepted(self, order: Order, job: Job) -> Bought:
        delivered = job.last(Kind.DELIVERED)
        assert delivered is not None
        self.open.pop(_place(order), None)
        return self._words.not_accepted(order, Digest(str(delivered.detail["clip"])), str(delivered.detail.get("why")))

    # -- small parts ---------------------------------------------------------------------------------------------

    async def _job(self, key: Key) -> Job:
        return await self.do(ledger.job, self._store, key)

    async def _record(self, job: Job, kind: Kind, detail: Mapping[str, object]) -> Job:
        """Writes the next record of a job; where another runner wrote it first, its records are the truth."""
        record = job.next(kind, self._now_ms(), detail)
        if await self.do(ledger.write, self._store, record):
            return job.after(record)
        return await self._job(job.key)

    def _book(self, order: Order, seller: Seller, attempt: int) -> Bought | None:
        """None when the run may spend so much more; else how the order ends."""
        if not seller.paid:
            return None
        why = self.budget.book(order.key, attempt, order.price, order.shot.duration)
        return None if why is None else self._words.limit(why)

    async def _uninterrupted(self, part: Coroutine[object, object, Sent]) -> Sent:
        """Runs a part of the protocol to its end, also when whoever waits for it is cancelled (see `finish`)."""
        task = asyncio.create_task(part)
        self._shared.unbroken.add(task)
        task.add_done_callback(self._shared.unbroken.discard)
        return await asyncio.shield(task)

    def _describe(self, order: Order, provider: str, price: Decimal | None) -> dict[str, object]:
        """What an intent records of the order, besides the request."""
        return {
            "provider": provider,
            "model": order.model,
            "price": _text(price),
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

    def _say(self, event: str, order: Order, data: Mapping[str, object]) -> None:
        self._emit(Event(event=event, film=order.film.label, shot=order.shot.id, take=order.shot.take, data=data))


def _place(order: Order) -> tuple[str, ShotId, int]:
    return order.film.label, order.shot.id, order.shot.take


def _roles(order: Order) -> list[str]:
    return [role for role, _ in order.shot.frames()]


def _seller_of(job: Job) -> str:
    intent = job.last(Kind.INTENT)
    return str(intent.detail.get("provider")) if intent is not None else ""


def _own_account(seller: Seller, job: Job) -> bool:
    """Whether the newest order of a job was certainly sent from this environment's account."""
    intent = job.last(Kind.INTENT)
    return seller.account is None or (intent is not None and seller.account.wrote(intent.detail))


def _idempotency(intent: Record) -> int:
    """The attempt whose idempotency key the request of an intent carries."""
    found = intent.detail.get("idempotency_attempt")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else intent.attempt


def _inputs_of(intent: Record) -> dict[str, Digest]:
    inputs = intent.detail.get("inputs")
    return {str(k): Digest(str(v)) for k, v in inputs.items()} if isinstance(inputs, dict) else {}


def _booked(job: Job) -> Decimal | None:
    """What was booked for the task: the price of the run that ordered it."""
    accepted, intent = job.last(Kind.ACCEPTED), job.last(Kind.INTENT)
    for record in (accepted, intent):
        price = record.detail.get("price") if record is not None else None
        if price is not None:
            return Decimal(str(price))
    return None


def _text(price: Decimal | None) -> str | None:
    return None if price is None else str(price)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
