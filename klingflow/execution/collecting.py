"""Collects an accepted task, whoever submitted it: waits for its end, downloads the clip, and keeps it or what came
instead.

The clip is in the store before the ledger says so. A task is asked after at the path that the provider's code gives,
and nothing is ordered here: a task that the provider does not know is never sent again.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from klingflow.core.errors import MediaError
from klingflow.core.model import ClipFacts, ClipRecord, Digest, TaskId
from klingflow.core.redact import redact
from klingflow.execution import form
from klingflow.execution.host import Host
from klingflow.execution.inputs import InputImages, Media
from klingflow.execution.offload import Offload
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Result
from klingflow.execution.seller import Seller
from klingflow.execution.sending import INTENT_VALID_S, Sender, place
from klingflow.execution.waiting import asked, backoff
from klingflow.execution.wording import Wording
from klingflow.io import ledger
from klingflow.io.service import Broken, Gone, NotSent, Unanswered
from klingflow.io.store import Store
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.providers.base import Accepted, Done, Failed, FailureClass, Later, Missing, Pending, Status, Unreadable

TASK_TIMEOUT_S = 3600.0
"""How long one run waits for a task; HiAPI's own tools wait up to 120 min, MuleRouter advises 30 min (read 2026-11)."""
UNKNOWN_TASK_TIMEOUT_S = 60.0
"""A task may be unknown to the provider's readers for so long after it was accepted; counted from our first question,
because the clock of whoever recorded the task may differ from ours."""
DOWNLOADS = 4
REMAKES = 3
"""How often a free provider that forgets its task is given the order again."""
EMPTY_PAUSES_S = (1.0, 3.0, 9.0)
"""Pauses before a task that is done without a video is asked after once more."""


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


class Collector:
    def __init__(
        self,
        *,
        sender: Sender,
        store: Store,
        sellers: Mapping[str, Seller],
        inputs: InputImages,
        media: Media,
        words: Wording,
        scratch: Path,
        host: Host,
        now_ms: Callable[[], int],
        rng: random.Random,
        store_calls: Offload,
        media_calls: Offload,
        detach: bool,
    ) -> None:
        self.do = store_calls
        self._sender = sender
        self._store = store
        self._sellers = sellers
        self._inputs = inputs
        self._media = media
        self._words = words
        self._scratch = scratch
        self._host = host
        self._now_ms = now_ms
        self._rng = rng
        self._media_calls = media_calls
        self._detach = detach
        self._count = itertools.count()

    async def collect_sent(self, order: Order, sent: Job | Bought | None) -> Bought | None:
        """Collects what was accepted while the slot is still held: the task is in flight until it ends."""
        if isinstance(sent, Job):
            return await self.collect(order, sent) if sent.state is State.ACCEPTED else None
        return sent

    async def collect(self, order: Order, job: Job) -> Bought | None:
        """Waits for an accepted task, whoever submitted it, and brings its clip into the store."""
        task = job.task
        assert task is not None
        seller = self._sellers[seller_of(job)]
        if seller.paid:
            self._sender.state.open[place(order)] = task
            self._sender.state.tasks.setdefault((seller.name, task), (order.key, order.shot.id))
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
                await self._keep_answer(job, task, status)
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
        path = form.path(seller.provider, order.shot, seller.settings, job)
        if self._detach and not seller.provider.caps.local:
            try:
                status = await asked(seller.provider, seller.service, seller.ask, task, path, job.urls)
            except (NotSent, Unanswered):
                return None
            foreign = isinstance(status, Missing) and not seller.ordered(job)
            return status if foreign or isinstance(status, Done | Failed | Unreadable) else None
        accepted = job.last(Kind.ACCEPTED)
        assert accepted is not None
        return await seller.poller.ended(
            task,
            path,
            job.urls,
            expected_s=order.expected_s,
            elapsed_s=max(0.0, (self._now_ms() - accepted.at_ms) / 1000),
            patience_s=max(TASK_TIMEOUT_S, 10 * order.expected_s),
            tell=lambda pending: self._sender.say(
                "progress", order, {"state": pending.state, "fraction": pending.fraction}
            ),
        )

    async def _missing(
        self, order: Order, seller: Seller, job: Job, task: TaskId, tries: _Tries
    ) -> Bought | Again | None:
        """The provider does not know the task. Nothing that costs is sent again: that could buy a second clip."""
        if seller.provider.caps.local:
            again = await self._make_again(order, seller)
            return again if isinstance(again, Bought) else Again()
        if not seller.ordered(job):
            return self._words.other_account(order, seller.name, task)
        now = asyncio.get_running_loop().time()
        tries.unknown_since = now if tries.unknown_since is None else tries.unknown_since
        tries.misses += 1
        if not seller.paid and tries.misses > 1:  # to order again costs nothing
            return await self._make_anew(order, seller, job)
        if now - tries.unknown_since < UNKNOWN_TASK_TIMEOUT_S:
            await asyncio.sleep(min(2.0**tries.misses, 15.0))
            fresh = await self._sender.job(order.key)
            return Again() if fresh.state is State.ACCEPTED and fresh.task == task else None
        return self._words.task_unknown(order, seller.name, task)

    async def _make_again(self, order: Order, seller: Seller) -> Accepted | Bought:
        """Sends the order of a free provider's lost task once more."""
        images = await self._inputs.prepare(order, seller)
        job = await self._sender.job(order.key)
        before = asyncio.get_running_loop().time() + INTENT_VALID_S
        request = self._sender.request(order, seller, images.texts, max(1, job.attempt))
        why = "it could not be made again"
        try:
            said = seller.provider.accepted(await self._sender.post(seller, request, before))
        except (NotSent, Unanswered) as lost:
            return self._words.nothing_to_collect(f"{why}: {redact(str(lost))}")
        return said if isinstance(said, Accepted) else self._words.nothing_to_collect(why)

    async def _make_anew(self, order: Order, seller: Seller, job: Job) -> Bought | None:
        """A free provider forgot its task: it gets the order again, and the new task goes on record in its place."""
        if sum(record.kind is Kind.ACCEPTED for record in job.records if record.attempt == job.attempt) > REMAKES:
            return self._words.nothing_to_collect(f"{seller.name} forgets its tasks")
        again = await self._make_again(order, seller)
        if isinstance(again, Bought):
            return again
        await self._sender.record(job, Kind.ACCEPTED, self._sender.task_detail(seller, again, "again", Decimal(0), ""))
        return None

    async def bring_back(self, order: Order, job: Job, wanted: Digest) -> ClipFacts | Bought:
        """The facts of a clip that the store lost, and that is in it again; or why it is not. It costs nothing: a free
        provider draws the same order once more, a paid one is asked for the task that it was paid for."""
        seller = self._sellers.get(seller_of(job) or order.provider)
        if seller is None:
            return self._words.lost_from_store(wanted)
        async with seller.slots.hold(order.priority, order.expected_s):
            if seller.paid:
                return await self._fetch_again(order, seller, job, wanted)
            return await self._redraw(order, seller, wanted)

    async def _fetch_again(self, order: Order, seller: Seller, job: Job, wanted: Digest) -> ClipFacts | Bought:
        if job.task is None or job.taken_in is not None or not seller.ordered(job):
            return self._words.lost_from_store(wanted)
        path = form.path(seller.provider, order.shot, seller.settings, job)
        why = ""
        for tries in range(1, DOWNLOADS + 1):
            try:
                status = await asked(seller.provider, seller.service, seller.ask, job.task, path, job.urls)
            except (NotSent, Unanswered) as silent:
                status = Later(message=str(silent))
            if isinstance(status, Done):
                got = await self._download(order, seller, status)
                if isinstance(got, ClipFacts) and got.digest == wanted:
                    return got
                if not isinstance(got, str):
                    why = f"{seller.name} gives another clip for task {job.task} now"
                    return self._words.lost_from_store(wanted, why)
                why = got
            elif isinstance(status, Later):
                why = redact(status.message)
            else:
                return self._words.lost_from_store(wanted, f"{seller.name} does not give task {job.task} any more")
            await asyncio.sleep(backoff(tries, 0.0, self._rng))
        return self._words.lost_from_store(wanted, f"{seller.name} was asked for task {job.task}: {why}", later=True)

    async def _redraw(self, order: Order, seller: Seller, wanted: Digest) -> ClipFacts | Bought:
        """The same order gives the same bytes."""
        again = await self._make_again(order, seller)
        if isinstance(again, Bought):
            return again
        job = await self._sender.job(order.key)
        status = await self._ended(order, seller, job, again.task)
        drawn = await self._download(order, seller, status) if isinstance(status, Done) else None
        if not isinstance(drawn, ClipFacts):
            return self._words.lost_from_store(wanted)
        return drawn if drawn.digest == wanted else self._words.drawn_otherwise(wanted, drawn.digest, frozen=False)

    async def write_again(self, order: Order, job: Job) -> Bought:
        """Writes the record of a clip that the ledger says was stored, and whose record the store lost. Where its bytes
        are lost too, they are brought back."""
        stored = job.last(Kind.STORED)
        assert stored is not None
        digest = await self.do(ledger.unrecorded, self._store, job)
        if digest is not None:
            blob = await self.do(self._store.blob, digest)
            facts: ClipFacts | Bought = await self._media_calls(self._media.check, blob, digest, None)
        else:
            facts = await self.bring_back(order, job, Digest(str(stored.detail.get("clip"))))
        if isinstance(facts, Bought):
            return facts
        kept = await self.do(ledger.keep, self._store, self._clip_record(order, job, facts, stored.at_ms))
        return Bought(result=Result.ADOPTED if digest is not None else self.again(job), clip=kept)

    def again(self, job: Job) -> Result:
        """What it is called that a clip was brought back: a free one was made."""
        seller = self._sellers.get(seller_of(job))
        return Result.ADOPTED if seller is not None and seller.paid else Result.MADE

    async def _bring(self, order: Order, seller: Seller, job: Job, done: Done, tries: _Tries) -> Bought | Again | None:
        """Downloads a finished clip and keeps it, or what came instead."""
        got = await self._download(order, seller, done)
        if isinstance(got, ClipFacts):
            if order.only is not None and got.digest != order.only:
                return self._words.drawn_otherwise(order.only, got.digest, frozen=True)
            return await self._record_clip(order, job, got)
        if isinstance(got, Unfit):
            if got.digest == tries.unfit:  # the same bytes twice: it is the clip, not the way here
                job = await self._sender.record(job, Kind.DELIVERED, {"clip": got.digest, "why": got.why})
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
        if seller.paid:  # what is drawn here is there at once
            self._sender.say("progress", order, {"state": "downloading", "fraction": None})
        try:
            digest = await seller.service.fetch(done.url, path, lambda have, of: None)
            try:
                seconds = order.shot.ordered_s
                facts: ClipFacts | None = await self._media_calls(self._media.check, path, digest, seconds)
                why = ""
            except MediaError as bad:
                facts, why = None, bad.what.replace(path.name, "its clip")
            await self.do(self._store.put, path, move=True)  # paid bytes are kept, whatever they are
            return facts if facts is not None else Unfit(digest, why)
        except (Gone, Broken) as lost:
            return redact(str(lost)) or "the download did not arrive"
        finally:
            path.unlink(missing_ok=True)

    async def _record_clip(self, order: Order, job: Job, facts: ClipFacts) -> Bought:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        kept = await self.do(ledger.keep, self._store, self._clip_record(order, job, facts, self._now_ms()))
        await self._sender.record(job, Kind.STORED, {"clip": kept.facts.digest})
        self._sender.state.open.pop(place(order), None)
        made = kept.facts.digest == facts.digest and self._host.mine(intent.detail)
        return Bought(result=Result.MADE if made else Result.ADOPTED, clip=kept)

    def _clip_record(self, order: Order, job: Job, facts: ClipFacts, stored_ms: int) -> ClipRecord:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        seller = self._sellers.get(seller_of(job))
        paid = seller is None or seller.paid
        return ClipRecord(
            key=order.key,
            facts=facts,
            provider=seller_of(job),
            model=order.model,
            task=job.task if paid else None,
            cost=_booked(job)[0] if paid else Decimal(0),
            basis=_booked(job)[1] if paid else "",
            date=_day(stored_ms),
            parts=order.parts,
            inputs=_inputs_of(intent),
        )

    async def _keep_answer(self, job: Job, task: TaskId, status: Unreadable) -> None:
        """The answer that could not be read goes on record beside the task, once: the task stays accepted and open."""
        accepted = job.last(Kind.ACCEPTED)
        assert accepted is not None
        if accepted.detail.get("answer") != status.raw:
            detail = {"task": task, "by": "status", **booked_as(accepted), "answer": status.raw}
            await self._sender.record(job, Kind.ACCEPTED, detail)

    async def _record_failure(self, job: Job, status: Failed) -> None:
        """A task without a clip: on record, where it is read again to say what follows (`_final_failure`)."""
        detail = {"class": status.kind.value, "code": status.code, "message": redact(status.message), "charged": None}
        await self._sender.record(job, Kind.FAILED, detail)


def seller_of(job: Job) -> str:
    intent = job.last(Kind.INTENT)
    return str(intent.detail.get("provider")) if intent is not None else ""


def _inputs_of(intent: Record) -> dict[str, Digest]:
    inputs = intent.detail.get("inputs")
    return {str(k): Digest(str(v)) for k, v in inputs.items()} if isinstance(inputs, dict) else {}


def booked_as(record: Record) -> dict[str, object]:
    """The price of a record, for one that follows it."""
    return {name: record.detail.get(name) for name in ("price", "basis") if name in record.detail}


def _booked(job: Job) -> tuple[Decimal | None, str]:
    """What was booked for the task, and its basis: the price of the run that ordered it."""
    accepted, intent = job.last(Kind.ACCEPTED), job.last(Kind.INTENT)
    for record in (accepted, intent):
        price = record.detail.get("price") if record is not None else None
        if record is not None and price is not None:
            return Decimal(str(price)), str(record.detail.get("basis") or "")
    return None, ""


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
