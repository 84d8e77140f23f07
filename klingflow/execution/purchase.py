"""Buying one clip, so that nobody pays twice: the ledger protocol of one key, from intent to stored clip.

The order is the promise. The intent, with the exact bytes, is on disk before the request leaves; the task id is on
disk before anything waits for it; the clip is in the store before the ledger says so. Whoever dies anywhere in between
leaves records from which anybody can go on. `Buyer._post` is the only line of klingflow that sends a paid request.

    look in the store -> read the ledger -> intent -> POST -> accepted | refused -> wait -> download -> check -> blob
    -> clips/KEY.json -> stored
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from klingflow.core.errors import KlingflowError, MediaError, StoreError
from klingflow.core.model import (
    ClipFacts,
    ClipRecord,
    Digest,
    FileStill,
    Film,
    Key,
    Shot,
    ShotFrame,
    ShotId,
    TaskId,
    UrlStill,
)
from klingflow.core.redact import redact
from klingflow.execution.host import Host
from klingflow.execution.outcome import Emit, Event, Failure, Result
from klingflow.execution.waiting import Poller, Slots, backoff
from klingflow.io import ledger, shrink
from klingflow.io.publish import Publisher
from klingflow.io.service import Broken, Gone, NotSent, Service, Unanswered
from klingflow.io.store import Store
from klingflow.planning.job import TABLE, Job, Kind, Record, State
from klingflow.planning.price import Limits, exceeded
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
    Provider,
    Refused,
    Request,
    Settings,
    Status,
    Unclear,
    Unreadable,
)
from klingflow.providers.failure import RULES
from klingflow.providers.images import image_bytes, too_large
from klingflow.providers.reading import text

PATIENCE_S = 150.0
"""How long another runner's intent may stand without an answer, from our first sight of it: a paid request is over
after 120 s (io.api), and a margin."""
REPLAY_AFTER_S = 60.0
"""The same where a replay buys nothing: then asking too early costs an answer "still being taken", no more."""
SKEW_S = 600.0
"""How far the clocks of two runners may be apart: an intent that is older than that, and than the patience, is over at
first sight. A clock that is off by more costs a question to a person, or an answer told again; never a purchase."""
REPLAY_PATIENCE_S = 900.0
"""How long one run goes on sending the same bytes, or coming back after a throttling answer, before it leaves the rest
to the next run."""
TASK_PATIENCE_S = 3600.0
"""How long one run waits for a task; HiAPI's own tools wait up to 120 min, MuleRouter advises 30 min (read 2026-11)."""
LAG_S = 60.0
"""A task may be unknown to the provider's readers for so long after it was accepted; counted from our first question,
because the clock of whoever recorded the task may differ from ours."""
ABOUT_THE_ORDER = (FailureClass.INVALID, FailureClass.MODERATED)
"""Refusals that the very same bytes would meet again."""
DOWNLOADS = 4
EMPTY_S = (1.0, 3.0, 9.0)
"""Pauses before a task that is done without a video is asked after once more."""
RECORDINGS = 5
"""Tries to write down a task that was accepted, before a person is told its id instead."""

FROZEN = "its clip is not there and would have to be made"
THAW = "`klingflow run` without --frozen makes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One clip to be had: what it is, and whom it is for."""

    film: Film
    shot: Shot
    key: Key
    parts: Mapping[str, object]
    clips: Mapping[ShotId, Digest]
    """The clips of the shots that it needs."""
    stills: Mapping[str, Digest]
    """The project's images by path, as they were planned."""
    provider: str
    model: str
    price: Decimal | None
    expected_s: float
    priority: float
    frozen: bool = False
    """Collect what was accepted, send nothing that could cost money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """How an order ended. `clip` is there when `result` is MADE or ADOPTED, `failure` otherwise."""

    result: Result
    clip: ClipRecord | None = None
    failure: Failure | None = None
    spent: Decimal = Decimal(0)
    """USD that this run booked for it, failures and doubts included."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A paid request that may or may not have been taken. `final`: to send it again can tell no more."""

    message: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class NotAClip:
    """A whole download that is no clip, or not the one that was ordered."""

    digest: Digest
    why: str


class Media(Protocol):
    """What is asked of media files (io.media; a fake in the simulation)."""

    def check(self, path: Path, digest: Digest, seconds: int) -> ClipFacts:
        """Facts of a clip that is whole, decodes, and is about as long as ordered. Raises MediaError."""
        ...

    def cut(self, clip: Path, frame: str, to: Path) -> None: ...


class Stills(Protocol):
    """Where the bytes of a project's image come from (io.project)."""

    def read_image(self, path: str) -> tuple[bytes, str]:
        """The bytes and the format by content (PNG, JPEG, WEBP). Raises KlingflowError."""
        ...


class Budget:
    """What this run has booked and may book: before a request that may cost money, given back only at a definite no."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._booked: dict[tuple[Key, int], tuple[Decimal | None, int]] = {}

    def book(self, key: Key, attempt: int, price: Decimal | None, seconds: int) -> str | None:
        """None when it fits (and is booked, once for each attempt); else the sentence that names the limit."""
        if (key, attempt) in self._booked:
            return None
        booked = self._booked.values()
        spend = None if price is None else self.spent + price
        total = sum(took for _, took in booked) + seconds
        why = exceeded(self._limits, spend, total, len(booked) + 1)
        if why is None:
            self._booked[key, attempt] = price, seconds
        return why

    def give_back(self, key: Key, attempt: int) -> None:
        self._booked.pop((key, attempt), None)

    @property
    def spent(self) -> Decimal:
        return sum((price or Decimal(0) for price, _ in self._booked.values()), Decimal(0))

    def spent_on(self, key: Key) -> Decimal:
        return sum((price or Decimal(0) for (of, _), (price, _) in self._booked.items() if of == key), Decimal(0))


P = ParamSpec("P")
T = TypeVar("T")
Sent = TypeVar("Sent", bound="Job | Bought | Doubt | None")


class Offload(Protocol):
    """Makes a call that blocks without holding up the loop."""

    def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


async def in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(call, *args, **kwargs)


class Buyer:
    """Buys clips for one run; all of a run's steps share it, because they share limits, slots and pollers."""

    def __init__(
        self,
        *,
        store: Store,
        services: Mapping[str, Service],
        providers: Mapping[str, Provider],
        settings: Mapping[str, Settings],
        publisher: Publisher | None,
        media: Media,
        stills: Stills,
        fetch_still: Callable[[str], Awaitable[tuple[bytes, str]]],
        shrinks: shrink.How | None = None,
        limits: Limits,
        storyboard: str,
        scratch: Path,
        host: Host,
        now_ms: Callable[[], int],
        emit: Emit,
        rng: random.Random,
        detach: bool = False,
        offload: Offload = in_thread,
    ) -> None:
        self._store = store
        self._services = services
        self._providers = providers
        self._settings = settings
        self._publisher = publisher
        self._media = media
        self._stills = stills
        self._fetch_still = fetch_still
        self._shrinks = shrinks
        self._storyboard = storyboard
        self._scratch = scratch
        self._host = host
        self._now_ms = now_ms
        self._emit = emit
        self._rng = rng
        self._detach = detach
        self.do = offload
        self.budget = Budget(limits)
        self.stopping = False
        self.open: dict[tuple[str, ShotId, int], TaskId | None] = {}
        """Paid orders that were sent and have not ended, by film, shot and take; None until their task is known."""
        self._obtained: dict[Key, asyncio.Future[Bought]] = {}
        self._slots: dict[str, Slots] = {}
        self._pollers: dict[str, Poller] = {}
        self._cool_until: dict[str, float] = {}
        self._closed: dict[str, Failure] = {}
        self._frames: dict[tuple[Digest, str], asyncio.Task[Digest]] = {}
        self._unbroken: set[asyncio.Task[Job | Bought | Doubt | None]] = set()
        self._first_seen: dict[tuple[Key, int], float] = {}
        self._count = itertools.count()

    # -- what the engine calls -----------------------------------------------------------------------------------

    async def obtain(self, order: Order) -> Bought:
        """The clip for an order: found, collected or bought; orders with one key are one purchase, whoever asks.

        Returns, also when the store fails; raises only for a bug.
        """
        first = self._obtained.get(order.key)
        if first is not None:
            bought = await asyncio.shield(first)
            return replace(bought, spent=Decimal(0), result=Result.ADOPTED if bought.clip else bought.result)
        first = self._obtained[order.key] = asyncio.get_running_loop().create_future()
        try:
            bought = await self._obtain(order)
        except KlingflowError as bad:
            charged = None if self.budget.spent_on(order.key) else False
            failure = Failure(kind=FailureClass.BAD_OUTPUT, message=bad.what, next=bad.mend, charged=charged)
            bought = Bought(result=Result.FAILED, failure=failure)
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

    async def frame(self, clip: Digest, name: str) -> Digest:
        """The digest of a frame's PNG, cut once from a clip of the store and kept there."""
        task = self._frames.get((clip, name))
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._frames[clip, name] = asyncio.create_task(self._cut(clip, name))
        return await asyncio.shield(task)

    def wake(self, provider: str, task: TaskId) -> bool:
        poller = self._pollers.get(provider)
        return poller is not None and poller.wake(task)

    async def finish(self, seconds: float) -> None:
        """Lets requests that were sent get their answer on record, for so long at most."""
        if self._unbroken:
            await asyncio.wait(set(self._unbroken), timeout=seconds)

    # -- one order, step by step ---------------------------------------------------------------------------------

    async def _obtain(self, order: Order) -> Bought:
        loop = asyncio.get_running_loop()
        before: int | None = None  # attempts that were over before this order began
        refusals = 0
        refused_since = 0.0
        while True:
            record = await self.do(ledger.clip, self._store, order.key)
            if record is not None:
                return Bought(result=Result.ADOPTED, clip=record)
            job = await self._job(order.key)
            if before is None:
                before = job.attempt - (job.state in (State.ACCEPTED, State.INTENDED))
            match job.state:
                case State.ACCEPTED:
                    bought = await self._collect(order, job)
                case State.INTENDED:
                    bought = await self._settle(order, job)
                case State.STORED:
                    if await self.do(ledger.clip, self._store, order.key) is not None:
                        continue  # it was kept between our two looks
                    return _failed(
                        FailureClass.BAD_OUTPUT,
                        "the ledger says that the clip was stored, but the store does not have it",
                        "restore the store from its backup, or declare `take: 2` to buy the shot anew",
                    )
                case _:
                    over = self._over(order, job, before)
                    if over is not None:
                        return over
                    if order.frozen:
                        cold = Failure(kind=FailureClass.INVALID, message=FROZEN, next=THAW, frozen=True)
                        return Bought(result=Result.FAILED, failure=cold)
                    if self.stopping:
                        return Bought(result=Result.STOPPED)
                    bought = await self._buy(order, job)
            if bought is None:  # the ledger has moved on: read it again
                refusals = 0
                continue
            failure = bought.failure
            if failure is None or bought.result is not Result.FAILED or failure.limit:
                return bought
            if self.stopping or order.provider in self._closed:
                return bought
            # Refused, so nothing was bought: the same order may be welcome later.
            refused_since = refused_since if refusals else loop.time()
            refusals += 1
            rule = RULES[failure.kind]
            patient = rule.free_retries and loop.time() - refused_since < REPLAY_PATIENCE_S
            if not patient and refusals > rule.new_attempts:
                return bought
            await asyncio.sleep(backoff(refusals, 0.0, self._rng))

    def _over(self, order: Order, job: Job, before: int) -> Bought | None:
        """How the order ended, where a task of its key failed and no further one may be bought; None where one may."""
        last = job.last(Kind.FAILED)
        if last is None:
            return None
        kind = _kind(last.detail)
        rule = RULES[kind]
        message = str(last.detail.get("message") or kind.value)
        failed = sum(record.kind is Kind.FAILED and record.attempt > before for record in job.records)
        if not failed:
            if rule.again_by_run:
                return None
            message = f"this very order was tried before: {message}"
        elif failed <= rule.new_attempts and not (self._detach or self.stopping or order.frozen):
            return None
        failure = self._failure(kind, str(last.detail.get("code") or ""), message, order)
        return Bought(result=Result.FAILED, failure=replace(failure, charged=None if failed else False))

    # -- a new attempt -------------------------------------------------------------------------------------------

    async def _buy(self, order: Order, job: Job) -> Bought | None:
        provider = self._providers[order.provider]
        async with self._slot(order.provider).hold(order.priority):
            await self._cooled(order.provider)
            if self.stopping:
                return Bought(result=Result.STOPPED)
            if order.provider in self._closed:
                return Bought(result=Result.FAILED, failure=self._closed[order.provider])
            cost = order.price if provider.caps.paid else Decimal(0)
            intent = self._repeated(order, job)
            if intent is None:
                try:
                    texts, images = await self._inputs(order, provider)
                except MediaError as bad:
                    return _failed(FailureClass.BAD_OUTPUT, bad.what, bad.mend)
                except KlingflowError as bad:
                    return _failed(FailureClass.INVALID, bad.what, bad.mend)
                settings = self._settings.get(order.provider, Settings())
                request = provider.submit(order.shot, texts, settings, order.key, job.attempt + 1)
                intent = self._intent(order, request, images, cost)
            why = self._book(order.key, job.attempt + 1, order.provider, _price(intent), order.shot.duration)
            if why is not None:
                return why
            sent = await self._uninterrupted(self._place(order, job, intent))
            if isinstance(sent, Doubt):
                if sent.final:
                    return self._doubtful(order, order.provider, sent.message)
                return await self._replay(order, job.attempt + 1, sent.message)
            return await self._go_on(order, sent)

    def _repeated(self, order: Order, job: Job) -> Mapping[str, object] | None:
        """The intent of an attempt that was refused a moment ago and may be welcome now, to be sent again as it was.

        Another runner may have replayed the refused one, and not have heard that it was taken. With the same bytes
        and the same key all of them are one purchase at the provider; a new key would be a second one.
        """
        intent, refused = job.last(Kind.INTENT), job.last(Kind.REFUSED)
        if intent is None or refused is None or intent.detail.get("provider") != order.provider:
            return None
        age_s = (self._now_ms() - intent.at_ms) / 1000
        if _kind(refused.detail) in ABOUT_THE_ORDER or age_s > 2 * REPLAY_PATIENCE_S:
            return None
        return {**intent.detail, **self._host.signature()}

    async def _place(self, order: Order, job: Job, detail: Mapping[str, object]) -> Job | Bought | Doubt | None:
        """Intent, request, answer: once begun it goes on to its end, so that an interrupt leaves no doubt behind."""
        intent = job.next(Kind.INTENT, self._now_ms(), detail)
        written = False
        try:
            written = await self.do(ledger.write, self._store, intent)
        finally:
            if not written:
                self.budget.give_back(order.key, intent.attempt)
        if not written:
            return None
        job = replace(job, state=State.INTENDED, attempt=intent.attempt, records=(*job.records, intent))
        if self.stopping:
            await self._refuse(job, FailureClass.NOT_SENT, "", "interrupted before it was sent", sent=False)
            return Bought(result=Result.STOPPED)
        return await self._send(order, job, first=True)

    async def _send(self, order: Order, job: Job, *, first: bool) -> Job | Bought | Doubt:
        """One paid request and the record of its answer: the Job as it stands then, or a refusal, or a doubt."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = str(intent.detail["provider"])
        provider = self._providers[name]
        where = order.film.label, order.shot.id, order.shot.take
        if provider.caps.paid:
            self.open.setdefault(where, None)
        try:
            answer = await self._post(name, _request(intent.detail))
        except NotSent as cause:
            why = redact(str(cause))
            if not first:
                return Doubt(f"could not ask again: {why}")
            self.open.pop(where, None)
            await self._refuse(job, FailureClass.NOT_SENT, "", why, sent=False)
            return _failed(FailureClass.NOT_SENT, why, _next(FailureClass.NOT_SENT, order, self._storyboard))
        except Unanswered as cause:
            return Doubt(redact(str(cause)))
        said = provider.accepted(answer)
        match said:
            case Accepted():
                return await self._accepted(order, job, intent, said, first=first)
            case Busy():
                self._cool(name, said.retry_after or 5.0)
                return Doubt("the first request with this key is still being taken")
            case Unclear():
                if said.retry_after is not None:
                    self._cool(name, said.retry_after)
                return Doubt(redact(said.message), said.final)
            case Refused():
                return await self._refused(order, job, name, said, first=first)

    async def _post(self, provider: str, request: Request) -> Answer:
        return await self._services[provider].send(request, paid=True)  # the one line that spends money

    async def _accepted(self, order: Order, job: Job, intent: Record, said: Accepted, *, first: bool) -> Job | Bought:
        name = str(intent.detail["provider"])
        price = intent.detail.get("price")
        if self._providers[name].caps.paid:
            self.open[order.film.label, order.shot.id, order.shot.take] = said.task
        if said.replayed and not self._host.mine(intent.detail):
            self.budget.give_back(order.key, intent.attempt)  # whoever sent it first has bought it
        detail = {"task": said.task, "by": "answer" if first else "replay", "price": price}
        for tries in range(1, RECORDINGS + 1):
            try:
                job = await self._record(job, Kind.ACCEPTED, detail)
                break
            except StoreError as bad:
                if tries == RECORDINGS:
                    raise StoreError(
                        f"{name} took the order for shot '{order.shot.id}' as task {said.task}, which is paid for and "
                        f"could not be written down: {bad.what}",
                        f"mend the store, then `{self._resolve(order)} --task {said.task}`",
                    ) from bad
                await asyncio.sleep(backoff(tries, 0.0, self._rng))
        self._slot(name).welcome()
        cost = None if price is None else float(str(price))
        self._say("submitted", order, {"provider": name, "task": said.task, "price": cost})
        known = [r.detail.get("task") for r in job.records if r.kind is Kind.ACCEPTED]
        if said.task not in known:
            failure = Failure(
                kind=FailureClass.IN_DOUBT,
                message=f"{name} took one order as two tasks: {known[-1] if known else 'none'} is on record, and now "
                f"{said.task}; both may cost money",
                next=f"ask {name} about {said.task}; `klingflow run {self._storyboard}` collects the one on record",
                charged=None,
            )
            return Bought(result=Result.IN_DOUBT, failure=failure)
        return job

    async def _refused(self, order: Order, job: Job, name: str, said: Refused, *, first: bool) -> Bought | Doubt:
        message = redact(said.message)
        kind = said.kind
        failure = self._failure(kind, said.code, message, order)
        if kind is FailureClass.THROTTLED:
            self._slot(name).throttled()
            self._cool(name, max(1.0, said.retry_after or 0.0))
        if RULES[kind].stops_provider:
            self._closed[name] = failure
        about_the_order = kind in ABOUT_THE_ORDER and not said.code.startswith("HTTP ")
        if not first and not about_the_order:
            # The first request with this key may have been taken before the account ran dry, the key was revoked,
            # or whatever stands in front of the API went wrong.
            return Doubt(message)
        self.open.pop((order.film.label, order.shot.id, order.shot.take), None)
        await self._refuse(job, kind, said.code, message, sent=True)
        return Bought(result=Result.FAILED, failure=failure)

    async def _refuse(self, job: Job, kind: FailureClass, code: str, message: str, *, sent: bool) -> None:
        detail = {"class": kind.value, "code": code, "message": message, "sent": sent}
        await self._record(job, Kind.REFUSED, detail)
        self.budget.give_back(job.key, job.attempt)

    async def _go_on(self, order: Order, sent: Job | Bought | None) -> Bought | None:
        """Collects what was accepted while the slot is still held: the task is in flight until it ends."""
        if isinstance(sent, Job):
            return await self._collect(order, sent) if sent.state is State.ACCEPTED else None
        return sent

    # -- an intent without an answer -----------------------------------------------------------------------------

    async def _settle(self, order: Order, job: Job) -> Bought | None:
        """Somebody's intent stands without an answer: wait while it may still come, then replay or ask a person."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        now = asyncio.get_running_loop().time()
        waited = now - self._first_seen.setdefault((job.key, job.attempt), now)
        waited = max(waited, (self._now_ms() - intent.at_ms) / 1000 - SKEW_S)
        patience = REPLAY_AFTER_S if self._replayable(intent) else PATIENCE_S
        if waited < patience and not self._host.died(intent.detail):
            await asyncio.sleep(min(1.0 + max(0.0, waited) / 4, 15.0))
            return Bought(result=Result.OPEN) if self.stopping else None
        async with self._slot(str(intent.detail["provider"])).hold(order.priority):
            ended = "the run that asked for it ended before the answer was on record"
            return await self._replay(order, job.attempt, ended)

    def _replayable(self, intent: Record) -> bool:
        provider = self._providers.get(str(intent.detail["provider"]))
        window = provider.caps.replay_s if provider is not None else None
        return window is not None and (self._now_ms() - intent.at_ms) / 1000 < window

    async def _replay(self, order: Order, attempt: int, message: str) -> Bought | None:
        """Sends the very bytes of an intent again until its answer is known, where that buys nothing; else a person is
        asked."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        tries = 0
        while True:
            job = await self._job(order.key)
            if job.state is not State.INTENDED or job.attempt != attempt:
                return None
            intent = job.last(Kind.INTENT)
            assert intent is not None
            name = str(intent.detail["provider"])
            if not self._replayable(intent):
                return self._doubtful(order, name, message)
            if self.stopping:
                return Bought(result=Result.OPEN)
            if order.frozen:
                message = f"{name} was asked, and its answer is not on record"
                failure = self._failure(FailureClass.IN_DOUBT, "", message, order)
                what_next = "run without --frozen: the same request is sent with the same key"
                return Bought(result=Result.OPEN, failure=replace(failure, next=what_next, charged=None))
            if name not in self._services:
                return self._doubtful(order, name, message, f"set the key of {name} and run again: it is asked again")
            if tries and (name in self._closed or loop.time() - began > REPLAY_PATIENCE_S):
                return self._doubtful(order, name, message, "run again: the same request is sent with the same key")
            why = self._book(order.key, attempt, name, _price(intent.detail), order.shot.duration)
            if why is not None:
                return why
            sent = await self._uninterrupted(self._send(order, job, first=False))
            if not isinstance(sent, Doubt):
                return await self._go_on(order, sent)
            message = sent.message
            if sent.final:
                return self._doubtful(order, name, message)
            tries += 1
            await asyncio.sleep(backoff(tries, 0.0, self._rng))
            await self._cooled(name)

    def _doubtful(self, order: Order, name: str, message: str, what_next: str = "") -> Bought:
        settle = self._resolve(order)
        advice = f"look at {name}'s console, then `{settle} --task ID` or `{settle} --not-bought`"
        failure = Failure(
            kind=FailureClass.IN_DOUBT,
            message=f"it is not known whether {name} took the order: {message}",
            next=what_next or advice,
            charged=None,
        )
        return Bought(result=Result.IN_DOUBT, failure=failure)

    # -- an accepted task ----------------------------------------------------------------------------------------

    async def _collect(self, order: Order, job: Job) -> Bought | None:
        """Waits for an accepted task, whoever submitted it, and brings its clip home."""
        intent, accepted, task = job.last(Kind.INTENT), job.last(Kind.ACCEPTED), job.task
        assert intent is not None
        assert accepted is not None
        assert task is not None
        name, path = str(intent.detail["provider"]), str(intent.detail["path"])
        if name not in self._services:
            message = f"task {task} is at {name}, whose key is not set"
            return _failed(FailureClass.UNAUTHORISED, message, "set it and run again")
        provider = self._providers[name]
        if provider.caps.paid:
            self.open[order.film.label, order.shot.id, order.shot.take] = task
        unknown_since: float | None = None
        misses = broken = empty = 0
        asked_again = False
        seen: Digest | None = None
        while True:
            status = await self._ended(order, name, task, path, max(0.0, (self._now_ms() - accepted.at_ms) / 1000))
            match status:
                case Done():
                    got = await self._bring(order, name, status)
                    if isinstance(got, ClipFacts):
                        return await self._keep(order, job, got)
                    if isinstance(got, NotAClip):
                        if got.digest == seen:  # the same bytes twice: it is the clip, not the way here
                            await self._end(job, Failed(kind=FailureClass.BAD_OUTPUT, code="", message=got.why))
                            return None
                        seen, got = got.digest, got.why
                    broken += 1
                    if broken >= DOWNLOADS:
                        what_next = f"the clip of task {task} is paid: run again to fetch it"
                        return _failed(FailureClass.EXPIRED, f"its clip did not come: {got}", what_next)
                    await asyncio.sleep(backoff(broken, 0.0, self._rng))
                case Unreadable() if empty < len(EMPTY_S):
                    # Done, without a video: its address may come a moment after the word.
                    await asyncio.sleep(EMPTY_S[empty])
                    empty += 1
                case Unreadable():
                    return self._unreadable(order, name, task, status)
                case Failed():
                    await self._end(job, status)
                    return None
                case Missing():
                    now = asyncio.get_running_loop().time()
                    unknown_since = now if unknown_since is None else unknown_since
                    misses += 1
                    if provider.caps.paid and now - unknown_since < LAG_S:
                        await asyncio.sleep(min(2.0**misses, 15.0))
                        continue
                    if asked_again or not self._replayable(intent):
                        return _failed(
                            FailureClass.EXPIRED,
                            f"{name} does not know task {task} any more",
                            f"ask {name} about it; `{self._resolve(order)} --not-bought` gives it up",
                        )
                    asked_again, unknown_since = True, None
                    again = await self._ask_again(provider, name, _request(intent.detail))
                    if again is not None and again != task:
                        message = f"the same request with the same key is now task {again}, not {task}"
                        return self._doubtful(order, name, message)
                case Pending():
                    failure = self._failure(FailureClass.STUCK, "", f"task {task} is still being made", order)
                    return Bought(result=Result.OPEN, failure=replace(failure, charged=True))
                case Later():
                    failure = self._failure(FailureClass.UNAUTHORISED, "", redact(status.message), order)
                    return Bought(result=Result.OPEN, failure=failure)
                case None:
                    return Bought(result=Result.OPEN)

    async def _ended(self, order: Order, name: str, task: TaskId, path: str, elapsed_s: float) -> Status | None:
        """How a task ended, or why no more is known of it; None where a detached run does not wait for that."""
        provider = self._providers[name]
        if self._detach and provider.caps.paid:
            try:
                status = provider.status(await self._services[name].send(provider.poll(task, path)), task)
            except (NotSent, Unanswered):
                return None
            return status if isinstance(status, Done | Failed) else None
        return await self._poller(name).ended(
            task,
            path,
            expected_s=order.expected_s,
            elapsed_s=elapsed_s,
            patience_s=max(TASK_PATIENCE_S, 10 * order.expected_s),
            tell=lambda pending: self._say("progress", order, {"state": pending.state, "fraction": pending.fraction}),
        )

    def _unreadable(self, order: Order, name: str, task: TaskId, status: Unreadable) -> Bought:
        """The task is done and paid, and its clip cannot be found: it stays open, for a later run or a person."""
        failure = Failure(
            kind=FailureClass.STUCK,
            message=f"task {task}: {status.message} ({text(status.raw)})",
            next=f"look at the task in {name}'s console; `klingflow run {self._storyboard}` asks again, buying nothing",
            charged=True,
        )
        return Bought(result=Result.OPEN, failure=failure)

    async def _ask_again(self, provider: Provider, name: str, request: Request) -> TaskId | None:
        """The same bytes with the same key once more: inside the replay window that buys nothing."""
        try:
            said = provider.accepted(await self._post(name, request))
        except (NotSent, Unanswered):
            return None
        return said.task if isinstance(said, Accepted) else None

    async def _bring(self, order: Order, name: str, done: Done) -> ClipFacts | NotAClip | str:
        """Downloads and checks: the facts of a clip that is in the store now; what came instead; or why nothing did."""
        path = self._temp("clip.part")
        self._say("progress", order, {"state": "downloading", "fraction": None})
        try:
            digest = await self._services[name].fetch(done.url, path, lambda have, of: None)
            facts = await self.do(self._media.check, path, digest, order.shot.duration)
            await self.do(self._store.put, path, move=True)
            return facts
        except (Gone, Broken) as lost:
            return redact(str(lost)) or "the download did not arrive"
        except MediaError as bad:
            return NotAClip(digest, bad.what.replace(path.name, "its clip"))
        finally:
            path.unlink(missing_ok=True)

    async def _keep(self, order: Order, job: Job, facts: ClipFacts) -> Bought:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = str(intent.detail["provider"])
        record = ClipRecord(
            key=order.key,
            facts=facts,
            provider=name,
            model=str(intent.detail["model"]),
            task=job.task if self._providers[name].caps.paid else None,
            cost=_price(intent.detail),
            date=_day(self._now_ms()),
            parts=order.parts,
            inputs={str(k): Digest(str(v)) for k, v in dict(intent.detail["inputs"]).items()},  # type: ignore[call-overload]
        )
        kept = await self.do(ledger.keep, self._store, record)
        await self._record(job, Kind.STORED, {"clip": kept.facts.digest})
        self.open.pop((order.film.label, order.shot.id, order.shot.take), None)
        made = kept.facts.digest == facts.digest and self._host.mine(intent.detail)
        return Bought(result=Result.MADE if made else Result.ADOPTED, clip=kept)

    async def _end(self, job: Job, status: Failed) -> None:
        """A task without a clip: on record, where it is read again to say what follows (`_over`)."""
        detail = {"class": status.kind.value, "code": status.code, "message": redact(status.message), "charged": None}
        await self._record(job, Kind.FAILED, detail)

    # -- small parts ---------------------------------------------------------------------------------------------

    async def _job(self, key: Key) -> Job:
        return await self.do(ledger.job, self._store, key)

    async def _record(self, job: Job, kind: Kind, detail: Mapping[str, object]) -> Job:
        """Writes the next record of a job; where another runner wrote it first, its records are the truth."""
        record = job.next(kind, self._now_ms(), detail)
        if await self.do(ledger.write, self._store, record):
            return replace(job, state=TABLE[job.state][kind], records=(*job.records, record))
        return await self._job(job.key)

    def _book(self, key: Key, attempt: int, name: str, price: Decimal | None, seconds: int) -> Bought | None:
        """None when the run may spend so much more; else how the order ends."""
        why = self.budget.book(key, attempt, price, seconds) if self._providers[name].caps.paid else None
        if why is None:
            return None
        failure = Failure(kind=FailureClass.QUOTA, message=why, next="raise the limit and run again", limit=True)
        return Bought(result=Result.FAILED, failure=failure)

    async def _uninterrupted(self, part: Coroutine[object, object, Sent]) -> Sent:
        """Runs a part of the protocol to its end, also when whoever waits for it is cancelled (see `finish`)."""
        task = asyncio.create_task(part)
        self._unbroken.add(task)
        task.add_done_callback(self._unbroken.discard)
        return await asyncio.shield(task)

    def _resolve(self, order: Order) -> str:
        take = f" --take {order.shot.take}" if order.shot.take != 1 else ""
        key = f" --key {order.key[:12]}" if order.film.variant else ""  # films of a matrix have the same shots
        return f"klingflow resolve {self._storyboard} {order.shot.id}{take}{key}"

    async def _inputs(self, order: Order, provider: Provider) -> tuple[dict[str, str], dict[str, Digest]]:
        """What stands for each image in the request, and the digest of each image as it goes in, by role."""
        texts: dict[str, str] = {}
        images: dict[str, Digest] = {}
        settings = self._settings.get(provider.name, Settings())
        for role, frame in order.shot.frames():
            match frame:
                case ShotFrame(shot, name):
                    digest = await self.frame(order.clips[shot], name)
                    data, form = await self.do(_read, self._store.blob(digest)), "PNG"
                case FileStill(path):
                    data, form = await self.do(self._stills.read_image, path)
                    digest = await self.do(_sha256, data)
                    if digest != order.stills[path]:
                        raise KlingflowError(f"{path} changed while the run was going on", "run again")
                case UrlStill(url, pinned):
                    if provider.caps.frames != "blob":
                        texts[role] = url
                        if pinned:
                            images[role] = pinned
                        continue
                    data, form = await self._fetch_still(url)
                    digest = await self.do(_sha256, data)
                    if pinned and digest != pinned:
                        what = f"{redact(url)} is not the image that the storyboard pins"
                        raise KlingflowError(what, "update its sha256")
            if provider.caps.frames != "blob":
                most = image_bytes(provider.caps, settings, order.shot, published=self._publisher is not None)
                data, form = await self._fitting(role, data, form, most, provider)
                digest = await self.do(_sha256, data)
            images[role] = digest
            texts[role] = await self._stand_in(provider, settings, digest, data, form)
        return texts, images

    async def _fitting(self, role: str, data: bytes, form: str, most: int, provider: Provider) -> tuple[bytes, str]:
        """The image as the provider takes it: itself, or a smaller copy where the project asks for one."""
        if self._shrinks is None:
            if len(data) <= most:
                return data, form
            what, mend = too_large(len(data), most)
            raise KlingflowError(f"{role} for {provider.name}: {what}", mend)
        try:
            return await self.do(shrink.smaller, data, form, most, provider.caps.image_formats, self._shrinks)
        except MediaError as bad:
            raise KlingflowError(f"{role} for {provider.name}: {bad.what}", bad.mend) from bad

    async def _stand_in(self, provider: Provider, settings: Settings, digest: Digest, data: bytes, form: str) -> str:
        mime = f"image/{form.lower()}"
        if provider.caps.frames == "blob":
            await self._put(data)
            return digest
        if provider.caps.frames == "inline":
            encoded = base64.b64encode(data).decode("ascii")
            return encoded if settings.base64 == "raw" else f"data:{mime};base64,{encoded}"
        if self._publisher is not None:
            return await self.do(self._publisher.put, digest, data, {"JPEG": ".jpg"}.get(form, f".{form.lower()}"))
        return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"

    async def _put(self, data: bytes) -> Digest:
        path = self._temp("still.part")
        try:
            await self.do(path.write_bytes, data)
            return await self.do(self._store.put, path, move=True)
        finally:
            path.unlink(missing_ok=True)

    async def _cut(self, clip: Digest, name: str) -> Digest:
        path = self._temp("frame.png")
        try:
            blob = await self.do(self._store.blob, clip)
            await self.do(self._media.cut, blob, name, path)
            return await self.do(self._store.put, path, move=True)
        except MediaError as bad:
            raise MediaError(bad.what.replace(blob.name, "the clip that its frame is cut from"), bad.mend) from bad
        finally:
            path.unlink(missing_ok=True)

    def _temp(self, name: str) -> Path:
        return self._scratch / f"{next(self._count)}-{name}"

    def _intent(
        self, order: Order, request: Request, images: Mapping[str, Digest], cost: Decimal | None
    ) -> dict[str, object]:
        return {
            "provider": order.provider,
            "model": order.model,
            "method": request.method,
            "path": request.path,
            "body": base64.b64encode(request.body or b"").decode("ascii"),
            "headers": dict(request.headers),
            "price": _text(cost),
            "seconds": order.shot.duration,
            "resolution": order.shot.resolution,
            "storyboard": self._storyboard,
            "film": order.film.label,
            "shot": order.shot.id,
            "take": order.shot.take,
            "inputs": dict(images),
            "parts": dict(order.parts),
            **self._host.signature(),
        }

    def _failure(self, kind: FailureClass, code: str, message: str, order: Order) -> Failure:
        if kind is FailureClass.MODERATED:
            message += _came_from(order)
        return Failure(kind=kind, message=message, code=code, next=_next(kind, order, self._storyboard))

    def _say(self, event: str, order: Order, data: Mapping[str, object]) -> None:
        self._emit(Event(event=event, film=order.film.label, shot=order.shot.id, take=order.shot.take, data=data))

    def _slot(self, provider: str) -> Slots:
        slots = self._slots.get(provider)
        if slots is None:
            settings = self._settings.get(provider, Settings())
            slots = self._slots[provider] = Slots(settings.concurrency or self._providers[provider].caps.concurrency)
        return slots

    def _poller(self, provider: str) -> Poller:
        poller = self._pollers.get(provider)
        if poller is None:
            poller = Poller(self._providers[provider], self._services[provider], self._rng)
            self._pollers[provider] = poller
        return poller

    def _cool(self, provider: str, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + min(seconds, 900.0) * self._rng.uniform(1.0, 1.2)
        self._cool_until[provider] = max(until, self._cool_until.get(provider, 0.0))

    async def _cooled(self, provider: str) -> None:
        loop = asyncio.get_running_loop()
        while not self.stopping:
            wait = self._cool_until.get(provider, 0.0) - loop.time()
            if wait <= 0:
                return
            await asyncio.sleep(wait)


def _failed(kind: FailureClass, message: str, what_next: str) -> Bought:
    return Bought(result=Result.FAILED, failure=Failure(kind=kind, message=message, next=what_next))


def _came_from(order: Order) -> str:
    """Which clips the frames of a shot were cut from: what a moderator saw may not be in the shot's own words."""
    frames = [(role, frame) for role, frame in order.shot.frames() if isinstance(frame, ShotFrame)]
    told = [f"its {role} is the {f.frame} frame of '{f.shot}', clip {order.clips[f.shot][:12]}" for role, f in frames]
    return f" ({'; '.join(told)})" if told else ""


def _next(kind: FailureClass, order: Order, storyboard: str) -> str:
    return RULES[kind].what_next.format(storyboard=storyboard, shot=order.shot.id, provider=order.provider)


def _kind(detail: Mapping[str, object]) -> FailureClass:
    try:
        return FailureClass(str(detail.get("class")))
    except ValueError:
        return FailureClass.PROVIDER_FAULT


def _request(intent: Mapping[str, object]) -> Request:
    """The very request of an intent: the same bytes, the same idempotency key."""
    headers = intent.get("headers")
    return Request(
        method=str(intent["method"]),
        path=str(intent["path"]),
        body=base64.b64decode(str(intent["body"])),
        headers={str(k): str(v) for k, v in headers.items()} if isinstance(headers, dict) else {},
    )


def _price(detail: Mapping[str, object]) -> Decimal | None:
    price = detail.get("price")
    return None if price is None else Decimal(str(price))


def _text(price: Decimal | None) -> str | None:
    return None if price is None else str(price)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def _sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def _read(path: Path) -> bytes:
    return path.read_bytes()
