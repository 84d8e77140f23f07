"""Waiting: how many tasks are in flight, and when a task is asked after.

Knows no ledger and buys nothing. All waiting is asyncio's, so a loop with a clock of its own (tests) waits in no time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from klingflow.core.model import TaskId
from klingflow.io.service import NotSent, Service, Unanswered
from klingflow.providers.base import (
    Answer,
    Done,
    Failed,
    Later,
    Missing,
    Pending,
    Provider,
    Request,
    Status,
    Unreadable,
)

FIRST_POLL_S = 0.5
LONGEST_PAUSE_S = 20.0  # MuleRouter's own clients poll every 20 s, HiAPI's every 3 to 5 s (read 2026-11)
TOGETHER_S = 0.25
"""Tasks that are due within so long are asked after at once."""
UNAUTHORISED_POLLS = 5
"""Polls in a row that the key may be refused before a person has to look; the task itself goes on."""


def pause(elapsed_s: float, expected_s: float, rng: random.Random) -> float:
    """Seconds until the next poll of a task that was accepted `elapsed_s` ago and is expected to take `expected_s`.

    Few polls while it cannot be ready, close ones round the expected end, then slower again: each poll costs one
    of the provider's requests, each second too late delays every shot that continues this one.
    """
    near = max(FIRST_POLL_S, expected_s * 0.05)
    if elapsed_s < expected_s * 0.8:
        wait = min(max(FIRST_POLL_S, elapsed_s * 0.5), max(near, expected_s * 0.8 - elapsed_s))
    elif elapsed_s < expected_s * 2:
        wait = near
    else:
        wait = max(FIRST_POLL_S, elapsed_s * 0.1)
    return min(wait, LONGEST_PAUSE_S) * rng.uniform(0.8, 1.2)


def backoff(failures: int, least_s: float, rng: random.Random) -> float:
    """Full jitter up to 60 s; what the provider asked for (`least_s`, at most 15 min) is a minimum."""
    return max(min(least_s, 900.0), rng.uniform(0.5, 1.0) * min(60.0, 0.5 * 2.0 ** min(failures, 10)))


class Slots:
    """At most so many tasks in flight at one provider; fewer after it throttles, slowly more while it does not.

    Whoever waits longest along the graph goes first: `priority` is the seconds of work that hang on the task.
    """

    def __init__(self, limit: int) -> None:
        self.most = limit
        self.limit = float(limit)
        self._held = 0
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    @asynccontextmanager
    async def hold(self, priority: float) -> AsyncIterator[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (-priority, next(self._count), turn))
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the turn came in the same moment as the cancellation
                self._release()
            raise
        try:
            yield
        finally:
            self._release()

    def throttled(self) -> None:
        self.limit = max(1.0, self.limit / 2)

    def welcome(self) -> None:
        self.limit = min(float(self.most), self.limit + 1 / max(1.0, self.limit))
        self._next()

    def _release(self) -> None:
        self._held -= 1
        self._next()

    def _next(self) -> None:
        while self._queue and self._held < int(self.limit):
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                self._held += 1
                turn.set_result(None)


@dataclass(slots=True, eq=False)
class _Watch:
    task: TaskId
    path: str
    expected_s: float
    elapsed_s: float
    began: float
    deadline: float
    tell: Callable[[Pending], None]
    ended: asyncio.Future[Status]
    due: float = 0.0
    """When to ask next; infinity while a question is on its way, because a slow answer must not hold up the others."""
    was_due: float = 0.0
    failures: int = 0
    unauthorised: int = 0
    said: set[str] = field(default_factory=set)


class Poller:
    """Asks a provider after all tasks of a run, in as few requests as it can. One for each provider.

    A failed poll says nothing about a task: it is asked again, however often, until the task's own deadline.
    """

    def __init__(self, provider: Provider, service: Service, rng: random.Random) -> None:
        self._provider = provider
        self._service = service
        self._rng = rng
        self._watched: list[_Watch] = []
        self._kick = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def ended(
        self,
        task: TaskId,
        path: str,
        *,
        expected_s: float,
        elapsed_s: float,
        patience_s: float,
        tell: Callable[[Pending], None],
    ) -> Status:
        """Waits for a task's end: Done, Failed, Unreadable or Missing. Still Pending when `patience_s` is over; Later
        when the key was refused again and again. `tell` hears each new state."""
        if not self._provider.caps.paid:
            return await self._local(task, path, tell)
        loop = asyncio.get_running_loop()
        now = loop.time()
        watch = _Watch(
            task=task,
            path=path,
            expected_s=expected_s,
            elapsed_s=elapsed_s,
            began=now,
            deadline=now + patience_s,
            tell=tell,
            ended=loop.create_future(),
            due=now + (0.0 if elapsed_s > 5 else FIRST_POLL_S * self._rng.uniform(0.8, 1.2)),
        )
        self._watched.append(watch)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        self._kick.set()
        try:
            return await watch.ended
        finally:
            self._watched.remove(watch)
            self._kick.set()  # the loop ends by itself when nobody waits any more

    def wake(self, task: TaskId) -> bool:
        """A callback spoke of this task: ask after it at once. False for a task that nobody waits for."""
        woken = [watch for watch in self._watched if watch.task == task]
        for watch in woken:
            watch.due = 0.0
        self._kick.set()
        return bool(woken)

    async def _local(self, task: TaskId, path: str, tell: Callable[[Pending], None]) -> Status:
        """The animatic answers a question when there is something to say, so it is simply asked again."""
        while True:
            status = self._provider.status(await self._service.send(self._provider.poll(task, path)), task)
            if not isinstance(status, Pending):
                return status
            tell(status)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            now = loop.time()
            soonest = min(watch.due for watch in self._watched)
            if soonest > now:
                self._kick.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if soonest == float("inf") else soonest - now):
                        await self._kick.wait()
                continue
            ask = [watch for watch in self._watched if watch.due <= now + TOGETHER_S]
            idle = [watch for watch in self._watched if watch.due < float("inf")]
            by_list = bool(self._provider.caps.list_size) and len(idle) > 2
            if by_list:
                ask = idle  # one list tells of all of them, so none has to be asked after for a while
            for watch in ask:
                watch.was_due, watch.due = watch.due, float("inf")
            asking = asyncio.create_task(self._ask(ask, now + TOGETHER_S, by_list=by_list))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _ask(self, watches: list[_Watch], now: float, *, by_list: bool) -> None:
        try:
            if by_list:
                watches = await self._ask_list(watches, now)
            await asyncio.gather(*(self._ask_one(watch) for watch in watches))
        except Exception as bug:
            for watch in watches:
                if not watch.ended.done():
                    watch.ended.set_exception(bug)
        self._kick.set()

    async def _ask_list(self, watches: list[_Watch], now: float) -> list[_Watch]:
        """Asks the list; returns those that must be asked one by one: they ended, or were due and stood on no page."""
        left = watches
        single: list[_Watch] = []
        pages = 1 + -(-len(watches) // self._provider.caps.list_size)
        for page in range(1, pages + 1):
            request = self._provider.poll_many(page)
            answer = await self._send(request) if request else Later(message="there is no list")
            found = self._provider.statuses(answer) if isinstance(answer, Answer) else answer
            if isinstance(found, Later):
                for watch in left:
                    self._hear(watch, found)
                return single
            unlisted = []
            for watch in left:
                status = found.get(watch.task)
                if status is None:
                    unlisted.append(watch)
                elif isinstance(status, Pending) and status.state != "done":
                    self._hear(watch, status)
                else:
                    single.append(watch)
            left = unlisted
            if not left or not found:
                break
        for watch in left:
            if watch.was_due > now and watch.due == float("inf"):
                watch.due = watch.was_due
        return single + [watch for watch in left if watch.was_due <= now]

    async def _ask_one(self, watch: _Watch) -> None:
        answer = await self._send(self._provider.poll(watch.task, watch.path))
        self._hear(watch, self._provider.status(answer, watch.task) if isinstance(answer, Answer) else answer)

    async def _send(self, request: Request) -> Answer | Later:
        try:
            return await self._service.send(request)
        except (NotSent, Unanswered) as lost:
            return Later(message=str(lost))

    def _hear(self, watch: _Watch, status: Status) -> None:
        if watch.ended.done():
            return
        now = asyncio.get_running_loop().time()
        elapsed = watch.elapsed_s + now - watch.began
        match status:
            case Done() | Failed() | Unreadable() | Missing():
                watch.ended.set_result(status)
                return
            case Later():
                watch.failures += 1
                watch.unauthorised = watch.unauthorised + 1 if status.unauthorised else 0
                if watch.unauthorised >= UNAUTHORISED_POLLS:
                    watch.ended.set_result(status)
                    return
                watch.due = now + backoff(watch.failures, status.retry_after or 0.0, self._rng)
                last: Pending | None = None
            case Pending():
                watch.failures = watch.unauthorised = 0
                watch.due = now + pause(elapsed, watch.expected_s, self._rng)
                last = status
                if status.state not in watch.said:
                    watch.said.add(status.state)
                    watch.tell(status)
        if now >= watch.deadline:
            watch.ended.set_result(last or Pending(state="unknown"))
        else:
            watch.due = min(watch.due, watch.deadline)
