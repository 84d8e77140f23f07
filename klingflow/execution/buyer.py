"""Has one clip: found, collected or bought, state by state of its order in the ledger, so that nobody pays twice.

    look in the store -> read the ledger -> sending (intent, request, answer) -> collecting (wait, download, keep)
                                         -> doubts (an intent without an answer)

The ledger is evidence, never an instruction, and a request that may cost money is sent only for an order with
`may_order`: the plan decided that it can. `Buyer` is what the engine holds; sending, collecting and doubts are its
parts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from klingflow.core import digest
from klingflow.core.errors import KlingflowError, StoreError
from klingflow.core.model import ClipRecord, Digest, Key, ShotId, TaskId
from klingflow.execution.budget import Budget
from klingflow.execution.collecting import Collector, seller_of
from klingflow.execution.doubts import RETRY_TIMEOUT_S, Doubts, idempotency_attempt
from klingflow.execution.form import failed_before
from klingflow.execution.host import Host
from klingflow.execution.inputs import InputImages, Media
from klingflow.execution.offload import Offload
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Emit, Result, RunFailure
from klingflow.execution.seller import Seller
from klingflow.execution.sending import ABOUT_THE_ORDER, Doubt, Sender, place
from klingflow.execution.waiting import backoff
from klingflow.execution.wording import Wording, failed
from klingflow.io import ledger
from klingflow.io.store import Store
from klingflow.io.task_notes import TaskNote, TaskNotes
from klingflow.planning.job import Job, Kind, State
from klingflow.providers.base import FailureClass
from klingflow.providers.failure import RULES, recorded


@dataclass(slots=True)
class _Refusals:
    """Definite noes to one order in a row, and since when."""

    count: int = 0
    since: float = 0.0


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
        words = Wording(shown, store.where)
        self.do = store_calls
        self.budget = budget
        self._store = store
        self._sellers = sellers
        self._inputs = inputs
        self._notes = notes
        self._words = words
        self._now_ms = now_ms
        self._rng = rng
        self._detach = detach
        self._obtained: dict[Key, asyncio.Future[Bought]] = {}
        self._sender = Sender(
            store=store,
            notes=notes,
            budget=budget,
            words=words,
            storyboard=storyboard,
            host=host,
            now_ms=now_ms,
            emit=emit,
            rng=rng,
            store_calls=store_calls,
            tasks=tasks,
        )
        self._collector = Collector(
            sender=self._sender,
            store=store,
            sellers=sellers,
            inputs=inputs,
            media=media,
            words=words,
            scratch=scratch,
            host=host,
            now_ms=now_ms,
            rng=rng,
            store_calls=store_calls,
            media_calls=media_calls,
            detach=detach,
        )
        self._doubts = Doubts(
            sender=self._sender,
            collector=self._collector,
            sellers=sellers,
            inputs=inputs,
            words=words,
            host=host,
            now_ms=now_ms,
            rng=rng,
        )

    # -- what the engine calls -----------------------------------------------------------------------------------

    @property
    def open(self) -> Mapping[tuple[str, ShotId, int], TaskId | None]:
        """Paid orders that were sent and have not ended, by film, shot and take; None until their task is known."""
        return self._sender.state.open

    async def stop(self, seconds: float) -> None:
        """Orders nothing more, and lets requests that were sent get their answer on record, for so long at most."""
        self._sender.state.stopping = True
        await self._sender.finish(seconds)

    async def obtain(self, order: Order) -> Bought:
        """The clip for an order: found, collected or bought; orders with one key are one purchase, whoever asks.

        Returns, also when the store fails; raises only for a bug.
        """
        return await self._first(order, self._obtain)

    async def bring_back(self, order: Order, record: ClipRecord) -> Bought | None:
        """A clip that was paid for and that the store lost: from its provider, which may still have it. The record of
        it, `record`, may be lost from the store too, and is written again where the order is what it was made from.
        None where the ledger knows no task of it. Returns, and raises, as `obtain` does."""
        job = await self._sender.job(order.key)
        if job.task is None or seller_of(job) not in self._sellers:
            return None
        if digest.key(order.parts) == order.key:
            return await self._first(order, self._obtain)
        return await self._first(order, lambda order: self._known(order, record))

    async def _first(self, order: Order, obtain: Callable[[Order], Awaitable[Bought]]) -> Bought:
        """What the first order with its key came to, for all of them."""
        first = self._obtained.get(order.key)
        if first is not None:
            bought = await asyncio.shield(first)
            return replace(bought, spent=Decimal(0), result=Result.ADOPTED if bought.clip else bought.result)
        first = self._obtained[order.key] = asyncio.get_running_loop().create_future()
        try:
            bought = await obtain(order)
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

    async def _obtain(self, order: Order) -> Bought:
        """Advances the order until it has ended, reading the store and the ledger anew before each step."""
        before: int | None = None  # attempts that were over before this order began
        refusals = _Refusals()
        while True:
            record = await self.do(ledger.clip, self._store, order.key)
            if record is not None:
                return await self._known(order, record)
            job = await self._sender.job(order.key)
            if before is None:
                before = job.attempt - job.open
            bought = await self._advance(order, job, before)
            if bought is None:
                refusals = _Refusals()
            elif not await self._again_later(order, bought, refusals):
                return bought

    async def _known(self, order: Order, record: ClipRecord) -> Bought:
        """The clip of a key that has one on record. Where the store lost it, it is brought back."""
        if await self.do(self._store.holds, record.facts.digest):
            return Bought(result=Result.ADOPTED, clip=record)
        job = await self._sender.job(order.key)
        found = await self._collector.bring_back(order, job, record.facts.digest)
        return found if isinstance(found, Bought) else Bought(result=self._collector.again(job), clip=record)

    async def _advance(self, order: Order, job: Job, before: int) -> Bought | None:
        """One step of an order; None where the ledger moved on and must be read again."""
        if job.orphans:
            return self._words.damaged(order, [record.path for record in job.orphans])
        match job.state:
            case State.ACCEPTED:
                return await self._resume(order, job)
            case State.INTENDED:
                return await self._doubts.settle(order, job)
            case State.DELIVERED:
                return self._not_accepted(order, job)
            case State.STORED:
                if await self.do(ledger.clip, self._store, order.key) is not None:
                    return None  # it was kept between our two looks
                return await self._collector.write_again(order, job)
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
        if not self._sender.allowed(order, seller):
            return self._words.nothing_to_collect("")
        if self._sender.state.stopping:
            return Bought(result=Result.STOPPED)
        return await self._buy(order, seller, job)

    async def _again_later(self, order: Order, bought: Bought, refusals: _Refusals) -> bool:
        """Whether an order that was refused, so that nothing was bought, is sent again; waits until then."""
        failure = bought.failure
        if failure is None or bought.result is not Result.FAILED or self._sender.state.stopping:
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
            seller = self._sellers.get(order.provider)
            if rule.again_by_run or seller is None:
                return None
            if not failed_before(job, seller.name, seller.form(order.shot, order.key)):
                return None
            message = f"this very order was tried before: {message}"
        elif failures <= rule.new_attempts and order.may_order and not (self._detach or self._sender.state.stopping):
            return None
        failure = self._words.failure(kind, str(last.detail.get("code") or ""), message, order)
        return Bought(result=Result.FAILED, failure=replace(failure, charged=None if failures else False))

    async def _restore(self, order: Order, job: Job, note: TaskNote) -> Bought | None:
        """Writes the records of a paid task anew that the store lost, from the note beside it. Only a note that was
        written with this account's key is believed: one that somebody else wrote could name another shot's task."""
        seller = self._sellers.get(note.provider)
        if seller is None:
            return self._words.no_key(note.provider, note.task)
        if seller.account is not None and not seller.account.wrote({"account": note.account}):
            return self._words.note_of_other_account(note.provider, note.task)
        detail = {**self._sender.describe(order, note.provider, order.price), "account": note.account, "by": "note"}
        intent = job.next(Kind.INTENT, note.at_ms, detail)
        if await self.do(ledger.write, self._store, intent):
            accepted = job.after(intent).next(Kind.ACCEPTED, note.at_ms, {"task": note.task, "by": "note"})
            await self.do(ledger.write, self._store, accepted)
            if seller.paid:
                self._sender.state.open[place(order)] = note.task
        return None

    async def _buy(self, order: Order, seller: Seller, job: Job) -> Bought | None:
        async with seller.slots.hold(order.priority, order.expected_s):
            await seller.cooled(lambda: self._sender.state.stopping)
            if self._sender.state.stopping:
                return Bought(result=Result.STOPPED)
            if seller.closed is not None:
                return Bought(result=Result.FAILED, failure=seller.closed)
            sent = await self._send(order, seller, job)
            if isinstance(sent, Doubt):
                if sent.final:
                    return self._words.doubt(order, order.provider, sent.message)
                return await self._doubts.replay(order, job.attempt + 1, sent.message)
            return await self._collector.collect_sent(order, sent)

    async def _send(self, order: Order, seller: Seller, job: Job) -> Job | Bought | Doubt | None:
        """Orders, with the images inside where the provider takes them so: nothing of them is held when it ends."""
        try:
            images = await self._inputs.prepare(order, seller)
        except StoreError:
            raise
        except KlingflowError as bad:
            return failed(RunFailure.INPUT, bad.what, bad.mend)
        attempt = job.attempt + 1
        await seller.learn_date()
        idempotency = self._repeats(order, seller, job) or attempt
        request = self._sender.request(order, seller, images.texts, idempotency)
        digests = images.digests
        del images  # the request has them
        refused = self._sender.book(order, seller, attempt)
        if refused is not None:
            return refused
        return await self._sender.uninterrupted(
            self._sender.place_order(order, seller, job, request, digests, idempotency)
        )

    def _repeats(self, order: Order, seller: Seller, job: Job) -> int | None:
        """The attempt whose idempotency key is used again, because its order was refused a moment ago.

        Another runner may have replayed the refused one, and not have heard that it was taken. With the same bytes
        and the same key all of them are one purchase at the provider; a new key would be a second one.
        """
        intent, refused = job.last(Kind.INTENT), job.last(Kind.REFUSED)
        if intent is None or refused is None or intent.detail.get("provider") != order.provider:
            return None
        age_s = seller.age_s(intent.detail.get("provider_ms"))
        if age_s is None:
            age_s = (self._now_ms() - intent.at_ms) / 1000
        if recorded(refused.detail) in ABOUT_THE_ORDER or not abs(age_s) < 2 * RETRY_TIMEOUT_S:
            return None
        return idempotency_attempt(intent)

    async def _resume(self, order: Order, job: Job) -> Bought | None:
        """Collects a task that somebody submitted before. It is in flight like any other, so it holds a slot."""
        seller = self._sellers.get(seller_of(job))
        if seller is None:
            assert job.task is not None
            return self._words.no_key(seller_of(job), job.task)
        async with seller.slots.hold(order.priority, order.expected_s):
            return await self._collector.collect(order, job)

    def _not_accepted(self, order: Order, job: Job) -> Bought:
        delivered = job.last(Kind.DELIVERED)
        assert delivered is not None
        self._sender.state.open.pop(place(order), None)
        return self._words.not_accepted(order, Digest(str(delivered.detail["clip"])), str(delivered.detail.get("why")))
