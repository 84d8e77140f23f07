"""Buying one clip, so that nobody pays twice: the ledger protocol of one key, from intent to stored clip.

The order is the promise. The intent, with the exact bytes, is on disk before the request leaves; the task id is on disk
before anything waits for it; the clip is in the store before the ledger says so. Whoever dies anywhere in between leaves
records from which anybody can go on. `Buyer._post` is the only line of klingflow that sends a paid request.

    look in the store -> read the ledger -> intent -> POST -> accepted | refused -> wait -> download -> check -> blob
    -> clips/KEY.json -> stored
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from klingflow.core.errors import KlingflowError, MediaError
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
from klingflow.io import ledger
from klingflow.io.publish import Publisher
from klingflow.io.service import Broken, Gone, NotSent, Service, Unanswered
from klingflow.io.store import Store
from klingflow.planning.job import TABLE, IllegalRecord, Job, Kind, State
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
    Unclear,
)
from klingflow.providers.failure import RULES

PATIENCE_S = 135.0
"""How long another runner's intent may stand without an answer, from our first sight of it: a paid request is over
after 120 s (io.client), and a margin."""
REPLAY_PATIENCE_S = 900.0
"""How long one run goes on sending the same bytes, or coming back after a throttling answer, before it leaves the rest
to the next run."""
TASK_PATIENCE_S = 3600.0
"""How long one run waits for a task; HiAPI's own tools wait up to 120 min, MuleRouter advises 30 min (read 2026-11)."""
LAG_S = 60.0
"""A task may be unknown to the provider's readers for so long after it was accepted."""
DOWNLOADS = 3


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """How an order ended. `clip` is there when `result` is MADE or ADOPTED, `failure` otherwise."""

    result: Result
    clip: ClipRecord | None = None
    failure: Failure | None = None
    spent: Decimal = Decimal(0)
    final: bool = False
    """IN_DOUBT: the provider's answer says that asking again with the same key is no use."""


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
    """Where the bytes of a project's image come from (io.files)."""

    def read_image(self, path: str) -> tuple[bytes, str]:
        """The bytes and the format by content (PNG, JPEG, WEBP). Raises KlingflowError."""
        ...


class Budget:
    """What this run has booked and may book. Booked when a request may cost money, given back only at a definite no."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.spent = Decimal(0)
        self.seconds = 0
        self.tasks = 0

    def book(self, price: Decimal | None, seconds: int) -> str | None:
        """None when it fits (and is booked); else the sentence that says which limit it would exceed."""
        spend = None if price is None else self.spent + price
        why = exceeded(self._limits, spend, self.seconds + seconds, self.tasks + 1)
        if why is None:
            self.spent += price or 0
            self.seconds += seconds
            self.tasks += 1
        return why

    def give_back(self, price: Decimal | None, seconds: int) -> None:
        self.spent -= price or 0
        self.seconds -= seconds
        self.tasks -= 1


P = ParamSpec("P")
T = TypeVar("T")


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
        limits: Limits,
        storyboard: str,
        scratch: Path,
        host: Host,
        now_ms: Callable[[], int],
        emit: Emit,
        rng: random.Random,
        detach: bool = False,
        offload: Callable[..., Coroutine[object, object, object]] = in_thread,
    ) -> None:
        self._store = store
        self._services = services
        self._providers = providers
        self._settings = settings
        self._publisher = publisher
        self._media = media
        self._stills = stills
        self._fetch_still = fetch_still
        self._storyboard = storyboard
        self._scratch = scratch
        self._host = host
        self._now_ms = now_ms
        self._emit = emit
        self._rng = rng
        self._detach = detach
        self._offload = offload
        self.budget = Budget(limits)
        self.stopping = False
        self.open: dict[tuple[ShotId, int], TaskId] = {}
        """Paid tasks that were accepted and have not ended."""
        self._slots: dict[str, Slots] = {}
        self._pollers: dict[str, Poller] = {}
        self._cool_until: dict[str, float] = {}
        self._closed: dict[str, Failure] = {}
        self._frames: dict[tuple[Digest, str], asyncio.Task[Digest]] = {}
        self._posting: set[asyncio.Task[object]] = set()
        self._first_seen: dict[tuple[Key, int], float] = {}

    # -- what the engine calls -----------------------------------------------------------------------------------

    async def obtain(self, order: Order) -> Bought:
        """The clip for an order: found, collected or bought. Returns; raises only for a broken store, or a bug."""
        attempts = 0
        misses = 0
        began = asyncio.get_running_loop().time()
        spent = Decimal(0)
        while True:
            record = await self._do(ledger.clip, self._store, order.key)
            if record is not None:
                return Bought(result=Result.ADOPTED, clip=record, spent=spent)
            job = await self._do(ledger.job, self._store, order.key)
            match job.state:
                case State.ACCEPTED:
                    bought = await self._collect(order, job)
                case State.INTENDED:
                    bought = await self._settle(order, job)
                case State.STORED:
                    return _failed(
                        FailureClass.BAD_OUTPUT,
                        "the ledger says that the clip was stored, but the store does not have it",
                        "restore the store from its backup, or declare `take: 2` to buy the shot anew",
                    )
                case _:
                    last = job.last(Kind.FAILED)
                    if last is not None and attempts == 0 and not RULES[_kind(last.detail)].again_by_run:
                        return _failed_before(last.detail, order, self._storyboard)
                    if self.stopping:
                        return Bought(result=Result.STOPPED, spent=spent)
                    bought = await self._buy(order, job)
            if bought is None:  # the ledger has moved on: read it again
                continue
            spent += bought.spent
            failure = bought.failure
            if failure is None or bought.result is not Result.FAILED or self.stopping or failure.limit:
                return replace(bought, spent=spent)
            rule = RULES[failure.kind]
            waited = asyncio.get_running_loop().time() - began
            if rule.free_retries and waited < REPLAY_PATIENCE_S and order.provider not in self._closed:
                misses += 1
                await asyncio.sleep(backoff(misses, 0.0, self._rng))
                continue
            if attempts < rule.new_attempts and not self._detach:
                attempts += 1
                continue
            return replace(bought, spent=spent)

    async def frame(self, clip: Digest, name: str) -> Digest:
        """The digest of a frame's PNG, cut once from a clip of the store and kept there."""
        task = self._frames.get((clip, name))
        if task is None:
            task = self._frames[clip, name] = asyncio.create_task(self._cut(clip, name))
        return await asyncio.shield(task)

    def wake(self, provider: str, task: TaskId) -> bool:
        poller = self._pollers.get(provider)
        return poller is not None and poller.wake(task)

    async def finish(self, seconds: float) -> None:
        """Lets requests that were sent get their answer on record, for so long at most."""
        if self._posting:
            await asyncio.wait(set(self._posting), timeout=seconds)

    # -- a new attempt -------------------------------------------------------------------------------------------

    async def _buy(self, order: Order, job: Job) -> Bought | None:
        provider = self._providers[order.provider]
        async with self._slot(order.provider).hold(order.priority):
            await self._cooled(order.provider)
            if self.stopping:
                return Bought(result=Result.STOPPED)
            if order.provider in self._closed:
                return Bought(result=Result.FAILED, failure=self._closed[order.provider])
            try:
                texts, images = await self._inputs(order, provider)
            except MediaError as bad:
                return _failed(FailureClass.BAD_OUTPUT, bad.what, bad.mend)
            except KlingflowError as bad:
                return _failed(FailureClass.INVALID, bad.what, bad.mend)
            cost = order.price if provider.caps.paid else Decimal(0)
            if provider.caps.paid:
                why = self.budget.book(cost, order.shot.duration)
                if why is not None:
                    failure = Failure(kind=FailureClass.QUOTA, message=why, next="raise the limit and run again", limit=True)
                    return Bought(result=Result.FAILED, failure=failure)
            booked = True
            try:
                settings = self._settings.get(order.provider, Settings())
                request = provider.submit(order.shot, texts, settings, order.key, job.attempt + 1)
                intent = job.next(Kind.INTENT, self._now_ms(), self._intent(order, request, images, cost))
                if not await self._do(ledger.write, self._store, intent):
                    return None
                job = replace(job, state=State.INTENDED, attempt=intent.attempt, records=(*job.records, intent))
                sent = asyncio.create_task(self._send(order, provider, request, job, first=True))
                booked = False  # from here on only a definite no gives it back
                self._posting.add(sent)
                sent.add_done_callback(self._posting.discard)
                bought = await asyncio.shield(sent)
            finally:
                if booked and provider.caps.paid:
                    self.budget.give_back(cost, order.shot.duration)
            return await self._after_send(order, job, bought)

    async def _after_send(self, order: Order, job: Job, bought: Bought | Job | None) -> Bought | None:
        """Goes on from the answer while the slot is still held: the task counts as in flight until it ends."""
        if isinstance(bought, Job):
            return await self._collect(order, bought)
        if bought is not None and bought.failure is not None and bought.result is Result.IN_DOUBT:
            job = await self._do(ledger.job, self._store, order.key)
            if job.state is not State.INTENDED:
                return None
            if bought.final:
                return self._doubtful(order, bought.failure.message, bought.spent, "")
            return await self._replay_or_doubt(order, job, bought.failure.message, bought.spent)
        return bought

    async def _send(
        self, order: Order, provider: Provider, request: Request, job: Job, *, first: bool
    ) -> Bought | Job | None:
        """One paid request and the record of its answer. Returns the accepted Job, or how it ended, or None to look again.

        Runs shielded: an interrupt lets it write down what the provider said.
        """
        intent = job.last(Kind.INTENT)
        assert intent is not None
        cost = _price(intent.detail)
        try:
            answer = await self._post(str(intent.detail["provider"]), request)
        except NotSent as cause:
            if not first:
                return _doubt(f"could not ask again: {redact(str(cause))}", cost)
            await self._refuse(order, job, FailureClass.NOT_SENT, "", redact(str(cause)), sent=False)
            return _failed(FailureClass.NOT_SENT, redact(str(cause)), "")
        except Unanswered as cause:
            return _doubt(redact(str(cause)), cost)
        said = provider.accepted(answer)
        match said:
            case Accepted():
                by = "answer" if first else "replay"
                job = await self._record(job, Kind.ACCEPTED, {"task": said.task, "by": by, "price": _text(cost)})
                self._slot(order.provider).welcome()
                data = {"provider": provider.name, "task": job.task, "price": _float(cost)}
                self._say("submitted", order, data)
                return job
            case Busy():
                self._cool(order.provider, said.retry_after or 5.0)
                return _doubt("the first request with this key is still being taken", cost)
            case Unclear():
                doubt = _doubt(redact(said.message), cost)
                return replace(doubt, final=True) if said.final else doubt
            case Refused():
                return await self._refused(order, job, said, cost, first=first)

    async def _post(self, provider: str, request: Request) -> Answer:
        return await self._services[provider].send(request, paid=True)  # the one line that spends money

    async def _refused(self, order: Order, job: Job, said: Refused, cost: Decimal | None, *, first: bool) -> Bought:
        message = redact(said.message)
        kind = said.kind
        if kind is FailureClass.THROTTLED:
            self._slot(order.provider).throttled()
            self._cool(order.provider, max(1.0, said.retry_after or 0.0))
        if not first and kind not in (FailureClass.INVALID, FailureClass.MODERATED):
            # The first request with this key may have been taken before the account ran dry or the key was revoked.
            if RULES[kind].stops_provider:
                self._closed[order.provider] = self._failure(kind, said.code, message, order)
            return _doubt(message, cost)
        await self._refuse(order, job, kind, said.code, message, sent=True)
        failure = self._failure(kind, said.code, message, order)
        if RULES[kind].stops_provider:
            self._closed[order.provider] = failure
        return Bought(result=Result.FAILED, failure=failure)

    async def _refuse(self, order: Order, job: Job, kind: FailureClass, code: str, message: str, *, sent: bool) -> None:
        detail = {"class": kind.value, "code": code, "message": message, "sent": sent}
        await self._record(job, Kind.REFUSED, detail)
        if self._providers[order.provider].caps.paid:
            intent = job.last(Kind.INTENT)
            self.budget.give_back(_price(intent.detail) if intent else None, order.shot.duration)

    # -- an intent without an answer -----------------------------------------------------------------------------

    async def _settle(self, order: Order, job: Job) -> Bought | None:
        """Somebody's intent stands without an answer: wait while it may still come, then replay or ask a person."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        loop = asyncio.get_running_loop()
        first = self._first_seen.setdefault((job.key, job.attempt), loop.time())
        if not self._host.died(intent.detail) and loop.time() - first < PATIENCE_S:
            await asyncio.sleep(min(1.0, 0.1 + (loop.time() - first) / 4))
            return Bought(result=Result.STOPPED) if self.stopping else None
        async with self._slot(order.provider).hold(order.priority):
            return await self._replay_or_doubt(order, job, "the run that asked for it died before the answer was on record")

    async def _replay_or_doubt(self, order: Order, job: Job, message: str, spent: Decimal = Decimal(0)) -> Bought | None:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = str(intent.detail["provider"])
        provider = self._providers[name]
        window = provider.caps.replay_s
        began = asyncio.get_running_loop().time()
        tries = 0
        while window is not None and (self._now_ms() - intent.at_ms) / 1000 < window:
            if self.stopping:
                return Bought(result=Result.OPEN, spent=spent)
            if tries:
                if asyncio.get_running_loop().time() - began > REPLAY_PATIENCE_S or name in self._closed:
                    return self._doubtful(order, message, spent, "run again: the same request is sent with the same key")
                await asyncio.sleep(backoff(tries, 0.0, self._rng))
                await self._cooled(name)
            tries += 1
            request = _request(intent.detail)
            sent = asyncio.create_task(self._send(order, provider, request, job, first=False))
            self._posting.add(sent)
            sent.add_done_callback(self._posting.discard)
            bought = await asyncio.shield(sent)
            if isinstance(bought, Job):
                again = await self._collect(order, bought)
                return None if again is None else replace(again, spent=again.spent + spent)
            if bought is None or bought.result is not Result.IN_DOUBT:
                return bought
            message = bought.failure.message if bought.failure else message
            if bought.final:
                break
            fresh = await self._do(ledger.job, self._store, order.key)
            if fresh.state is not State.INTENDED:
                return None
        return self._doubtful(order, message, spent, "")

    def _doubtful(self, order: Order, message: str, spent: Decimal, what_next: str) -> Bought:
        settle = f"klingflow resolve {self._storyboard} {order.shot.id}"
        take = f" --take {order.shot.take}" if order.shot.take != 1 else ""
        advice = f"look at the provider's console, then `{settle}{take} --task ID` or `{settle}{take} --not-bought`"
        failure = Failure(
            kind=FailureClass.IN_DOUBT,
            message=f"it is not known whether {order.provider} took the order: {message}",
            next=what_next or advice,
            charged=None,
        )
        return Bought(result=Result.IN_DOUBT, failure=failure, spent=spent)

    # -- an accepted task ----------------------------------------------------------------------------------------

    async def _collect(self, order: Order, job: Job) -> Bought | None:
        """Waits for an accepted task, whoever submitted it, and brings its clip home."""
        intent, accepted, task = job.last(Kind.INTENT), job.last(Kind.ACCEPTED), job.task
        assert intent is not None
        assert accepted is not None
        assert task is not None
        name, path = str(intent.detail["provider"]), str(intent.detail["path"])
        provider = self._providers[name]
        cost = _price(intent.detail)
        mine = cost or Decimal(0) if self._host.mine(intent.detail) else Decimal(0)
        if name not in self._services:
            return _failed(FailureClass.UNAUTHORISED, f"task {task} is at {name}, whose key is not set", "set it and run again")
        if provider.caps.paid:
            self.open[order.shot.id, order.shot.take] = task
        elapsed = max(0.0, (self._now_ms() - accepted.at_ms) / 1000)
        replayed = False
        faults = 0
        seen: Digest | None = None
        while True:
            if self._detach and provider.caps.paid:
                status = provider.status(await self._once(name, provider.poll(task, path)), task)
                if not isinstance(status, Done | Failed):
                    return Bought(result=Result.OPEN, spent=mine)
            else:
                status = await self._poller(name).ended(
                    task,
                    path,
                    expected_s=order.expected_s,
                    elapsed_s=elapsed,
                    patience_s=max(TASK_PATIENCE_S, 10 * order.expected_s),
                    tell=lambda pending: self._say("progress", order, {"state": pending.state, "fraction": pending.fraction}),
                )
            match status:
                case Done():
                    got = await self._bring(order, name, status, seen)
                    if isinstance(got, ClipFacts):
                        return await self._keep(order, job, got, task, cost, mine)
                    faults += 1
                    if isinstance(got, NotAClip) and (got.digest == seen or faults >= DOWNLOADS):
                        return await self._end(order, job, Failed(kind=FailureClass.BAD_OUTPUT, code="", message=got.why), mine)
                    if isinstance(got, NotAClip):
                        seen = got.digest
                    elif faults >= DOWNLOADS:
                        return _failed(FailureClass.EXPIRED, got, f"the clip of task {task} is paid: run again to fetch it", mine)
                case Failed():
                    return await self._end(order, job, status, mine)
                case Missing():
                    if provider.caps.paid and elapsed + faults < LAG_S and not replayed:
                        faults += 1
                        await asyncio.sleep(min(2.0**faults, 20.0))
                        elapsed = max(0.0, (self._now_ms() - accepted.at_ms) / 1000)
                        continue
                    window = provider.caps.replay_s
                    if replayed or window is None or (self._now_ms() - intent.at_ms) / 1000 >= window:
                        return _failed(
                            FailureClass.EXPIRED,
                            f"{name} does not know task {task} any more",
                            f"ask {name} about it; `klingflow resolve {self._storyboard} {order.shot.id} --not-bought` gives it up",
                            mine,
                        )
                    replayed = True
                    again = await self._ask_again(provider, name, _request(intent.detail))
                    if again is not None and again != task:
                        return self._doubtful(order, f"{name} answered another task for the same key", mine, "")
                case Pending():
                    failure = Failure(
                        kind=FailureClass.STUCK,
                        message=f"task {task} is still being made",
                        next="run again to collect it; nothing is bought anew",
                        charged=True,
                    )
                    return Bought(result=Result.OPEN, failure=failure, spent=mine)
                case Later():
                    failure = self._failure(FailureClass.UNAUTHORISED, "", redact(status.message), order)
                    return Bought(result=Result.OPEN, failure=failure, spent=mine)

    async def _ask_again(self, provider: Provider, name: str, request: Request) -> TaskId | None:
        """The same bytes with the same key once more: inside the replay window that buys nothing."""
        try:
            said = provider.accepted(await self._post(name, request))
        except (NotSent, Unanswered):
            return None
        return said.task if isinstance(said, Accepted) else None

    async def _once(self, name: str, request: Request) -> Answer:
        try:
            return await self._services[name].send(request)
        except (NotSent, Unanswered):
            return Answer(status=503)

    async def _bring(self, order: Order, name: str, done: Done, seen: Digest | None) -> ClipFacts | NotAClip | str:
        """Downloads and checks: the facts of a clip that is in the store; or a digest that is no clip; or why it did not come."""
        handle, temp = await self._do(tempfile.mkstemp, ".part", "clip-", self._scratch)
        await self._do(_close, handle)
        path = Path(temp)
        await self._do(path.unlink)
        self._say("progress", order, {"state": "downloading", "fraction": None})
        try:
            digest = await self._services[name].fetch(done.url, path, lambda have, of: None)
            facts = await self._do(self._media.check, path, digest, order.shot.duration)
            await self._do(self._store.put, path)
            return facts
        except (Gone, Broken) as lost:
            return redact(str(lost)) or "the download did not arrive"
        except MediaError as bad:
            return NotAClip(digest, bad.what)
        finally:
            await self._do(path.unlink, True)

    async def _keep(
        self, order: Order, job: Job, facts: ClipFacts, task: TaskId, cost: Decimal | None, mine: Decimal
    ) -> Bought:
        intent = job.last(Kind.INTENT)
        assert intent is not None
        record = ClipRecord(
            key=order.key,
            facts=facts,
            provider=str(intent.detail["provider"]),
            model=str(intent.detail["model"]),
            task=task if self._providers[str(intent.detail["provider"])].caps.paid else None,
            cost=cost,
            date=_day(self._now_ms()),
            parts=order.parts,
            inputs={str(k): Digest(str(v)) for k, v in dict(intent.detail["inputs"]).items()},  # type: ignore[call-overload]
        )
        kept = await self._do(ledger.keep, self._store, record)
        with suppress(IllegalRecord):  # another runner collected the same task first; its clip is the one that was kept
            await self._record(job, Kind.STORED, {"clip": kept.facts.digest})
        self.open.pop((order.shot.id, order.shot.take), None)
        made = kept.facts.digest == facts.digest and self._host.mine(intent.detail)
        return Bought(result=Result.MADE if made else Result.ADOPTED, clip=kept, spent=mine)

    async def _end(self, order: Order, job: Job, status: Failed, mine: Decimal) -> Bought | None:
        message = redact(status.message)
        detail = {"class": status.kind.value, "code": status.code, "message": message, "charged": None}
        try:
            await self._record(job, Kind.FAILED, detail)
        except IllegalRecord:
            return None
        self.open.pop((order.shot.id, order.shot.take), None)
        failure = replace(self._failure(status.kind, status.code, message, order), charged=None)
        return Bought(result=Result.FAILED, failure=failure, spent=mine)

    # -- small parts ---------------------------------------------------------------------------------------------

    async def _record(self, job: Job, kind: Kind, detail: Mapping[str, object]) -> Job:
        """Writes the next record of a job; when another runner wrote first, its records are the truth.

        An accepted task must be on record: when the store cannot be written the error carries the task id.
        """
        while True:
            record = job.next(kind, self._now_ms(), detail)
            if await self._do(ledger.write, self._store, record):
                return replace(job, state=_after(job, kind), records=(*job.records, record))
            job = await self._do(ledger.job, self._store, job.key)
            if kind is Kind.ACCEPTED and job.state is State.ACCEPTED:
                return job

    async def _inputs(self, order: Order, provider: Provider) -> tuple[dict[str, str], dict[str, Digest]]:
        """What stands for each image in the request, and the digest of each image, by role."""
        texts: dict[str, str] = {}
        images: dict[str, Digest] = {}
        settings = self._settings.get(provider.name, Settings())
        for role, frame in order.shot.frames():
            match frame:
                case ShotFrame(shot, name):
                    digest = await self.frame(order.clips[shot], name)
                    data, form = await self._do(_read, self._store.blob(digest)), "PNG"
                case FileStill(path):
                    data, form = await self._do(self._stills.read_image, path)
                    digest = await self._do(_sha256, data)
                    if digest != order.stills[path]:
                        raise KlingflowError(f"{path} changed while the run was going on", "run again")
                case UrlStill(url, pinned):
                    if provider.caps.frames != "blob":
                        texts[role] = url
                        if pinned:
                            images[role] = pinned
                        continue
                    data, form = await self._fetch_still(url)
                    digest = await self._do(_sha256, data)
                    if pinned and digest != pinned:
                        raise KlingflowError(f"{redact(url)} is not the image that the storyboard pins", "update its sha256")
            images[role] = digest
            texts[role] = await self._stand_in(provider, settings, digest, data, form)
        return texts, images

    async def _stand_in(self, provider: Provider, settings: Settings, digest: Digest, data: bytes, form: str) -> str:
        mime = f"image/{form.lower()}"
        if provider.caps.frames == "blob":
            await self._put(data)
            return digest
        if provider.caps.frames == "inline":
            encoded = base64.b64encode(data).decode("ascii")
            return encoded if settings.base64 == "raw" else f"data:{mime};base64,{encoded}"
        if self._publisher is not None:
            return await self._do(self._publisher.put, digest, data, {"JPEG": ".jpg"}.get(form, f".{form.lower()}"))
        return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"

    async def _put(self, data: bytes) -> Digest:
        handle, temp = await self._do(tempfile.mkstemp, ".part", "still-", self._scratch)
        await self._do(_fill, handle, data)
        try:
            return await self._do(self._store.put, Path(temp))
        finally:
            await self._do(Path(temp).unlink, True)

    async def _cut(self, clip: Digest, name: str) -> Digest:
        handle, temp = await self._do(tempfile.mkstemp, ".png", "frame-", self._scratch)
        await self._do(_close, handle)
        try:
            await self._do(self._media.cut, await self._do(self._store.blob, clip), name, Path(temp))
            return await self._do(self._store.put, Path(temp))
        finally:
            await self._do(Path(temp).unlink, True)

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
        wait = self._cool_until.get(provider, 0.0) - asyncio.get_running_loop().time()
        if wait > 0 and not self.stopping:
            await asyncio.sleep(wait)

    async def _do(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._offload(call, *args, **kwargs)  # type: ignore[return-value]


def _failed(kind: FailureClass, message: str, what_next: str, spent: Decimal = Decimal(0)) -> Bought:
    return Bought(result=Result.FAILED, failure=Failure(kind=kind, message=message, next=what_next), spent=spent)


def _doubt(message: str, spent: Decimal | None) -> Bought:
    failure = Failure(kind=FailureClass.IN_DOUBT, message=message, charged=None)
    return Bought(result=Result.IN_DOUBT, failure=failure, spent=spent or Decimal(0))


def _failed_before(detail: Mapping[str, object], order: Order, storyboard: str) -> Bought:
    """The same order ended badly before in a way that asking again cannot mend: nothing is spent on it twice."""
    kind = _kind(detail)
    message = f"this very order was tried before: {detail.get('message') or kind.value}"
    return _failed(kind, message, _next(kind, order, storyboard))


def _next(kind: FailureClass, order: Order, storyboard: str) -> str:
    return RULES[kind].what_next.format(storyboard=storyboard, shot=order.shot.id, provider=order.provider)


def _kind(detail: Mapping[str, object]) -> FailureClass:
    try:
        return FailureClass(str(detail.get("class")))
    except ValueError:
        return FailureClass.PROVIDER_FAULT


def _after(job: Job, kind: Kind) -> State:
    return TABLE[job.state][kind]


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


def _float(price: Decimal | None) -> float | None:
    return None if price is None else float(price)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def _sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _close(handle: int) -> None:
    os.close(handle)


def _fill(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(data)
