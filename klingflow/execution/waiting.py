"""Waiting: how many tasks are in flight, and when a task is asked after.

Knows no ledger and buys nothing. All waiting is asyncio's, so a loop with a clock of its own (tests) waits in no time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from klingflow.core.model import TaskId
from klingflow.io.service import NotSent, Service, Unanswered, polls_per_minute
from klingflow.providers.base import (
    Answer,
    Done,
    Ended,
    Failed,
    Later,
    Missing,
    Pending,
    Provider,
    Request,
    Status,
    Unreadable,
)

UNLIMITED_PER_MINUTE = 180
"""Polls a minute where the provider documents no limit: klingflow's own choice, a few a second for an account."""
BURST = 5
"""Polls that may follow each other without a pause when none was sent for a while."""
DEBT = 3
"""The next poll waits for so many `_gap_s` at most, however many callbacks and clips were asked after out of turn."""
TICK_S = 0.25
"""How often it is looked whether a poll is worth its while."""
SLOW_ANSWER_S = 5.0
"""How long the next list waits at most for the clips that the last one told of."""
LIST_REST_S = 300.0
"""For how long a list that was refused is not asked again: each task is, as where there is no list."""
WORTH_S = 0.02
"""A poll is sent when it is expected that so many seconds have been lost without it."""
LONGEST_PAUSE_S = 20.0  # MuleRouter's own clients poll every 20 s, HiAPI's every 3 to 5 s (read 2026-11)
SOON_S = 5.0
"""Before a task has run for about so long, its end is not likely."""
FOLLOWER_S, FOLLOWER_SHARE = 2.0, 0.02
"""For how long a place is kept for the shot that continues the one that ended: so many seconds at most, and no more
than this share of what that one took. It may not come: it may have to wait for another shot, too."""
UNAUTHORISED_POLLS = 5
"""Polls in a row that the key may be refused before a person has to look; the task itself goes on."""


_NOBODY_IS_HEARD = (401, 429, 503)
"""After such an answer to a list, a question about one task would be answered likewise. Any other says something of the
list alone, which is an optimisation: the tasks are asked after one by one, in the same poll."""


class Durations:
    """How long the tasks of this run took, and so how likely it is that another one has ended.

    Each is kept as a multiple of what it was expected to take: what one clip of 3 seconds teaches holds for one of 15.
    While nothing is known, a task is as likely to end between 10 and 20 seconds as between 100 and 200. That counts as
    one more task for ever, because any task can be unlike the others: it fails early, or is stuck.
    """

    WIDTH = 0.3
    """A task that was seen stands for all durations up to so much of its own apart."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=50)

    def add(self, took_s: float, expected_s: float) -> None:
        self._seen.append(took_s / expected_s)

    def chance(self, since_s: float, age_s: float, expected_s: float) -> float:
        """How likely it is that a task that was still being made `since_s` after it was accepted has ended by
        `age_s`."""
        before, now = self._ended(since_s / expected_s), self._ended(age_s / expected_s)
        unknown = (age_s - since_s) / (age_s + SOON_S)
        return (unknown + now - before) / (1 + len(self._seen) - before)

    def _ended(self, share: float) -> float:
        """How many of those that were seen took less than this share of what was expected."""
        return sum(min(1.0, max(0.0, (share / seen - 1) / self.WIDTH + 0.5)) for seen in self._seen)


def backoff(failures: int, least_s: float, rng: random.Random) -> float:
    """Full jitter up to 60 s; what the provider asked for (`least_s`, at most 15 min) is a minimum."""
    return max(min(least_s, 900.0), rng.uniform(0.5, 1.0) * min(60.0, 0.5 * 2.0 ** min(failures, 10)))


class Slots:
    """At most so many tasks in flight at one provider; fewer after it throttles, slowly more while it does not.

    Whoever waits longest along the graph goes first: `priority` is the seconds of work that hang on the task, itself
    included. A shot that continues the one that just ended asks a moment later, when it has looked into the ledger:
    until then the place is kept from those with less work behind them.
    """

    def __init__(self, limit: int) -> None:
        self._whole = self.most = limit
        self.limit = float(limit)
        self._held = 0
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        self._coming: list[float] = []
        """The priorities of those that a place is kept for."""

    @asynccontextmanager
    async def hold(self, priority: float, expected_s: float) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._queue, (-priority, next(self._count), turn))
        self._came(max((one for one in self._coming if one <= priority), default=0.0))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the turn came in the same moment as the cancellation
                self._release()
            raise
        began = loop.time()
        try:
            yield
        finally:
            behind = (priority - expected_s) * (1 - 1e-9)  # never above what the follower asks with, by rounding
            if behind > 0:
                self._coming.append(behind)
                loop.call_later(min(FOLLOWER_S, (loop.time() - began) * FOLLOWER_SHARE), self._came, behind)
            self._release()

    def share(self, rank: int, runners: int) -> None:
        """So many runners have tasks there, this one being the `rank`-th, from 0: it keeps to its part, and to one task
        at least."""
        most = max(1, self._whole // runners + (rank < self._whole % runners))
        self.limit = min(self.limit, most) if most <= self.most else self.limit + most - self.most
        self.most = most
        self._next()

    def throttled(self) -> None:
        self.limit = max(1.0, self.limit / 2)

    def welcome(self) -> None:
        self.limit = min(float(self.most), self.limit + 1 / max(1.0, self.limit))
        self._next()

    def _release(self) -> None:
        self._held -= 1
        self._next()

    def _came(self, priority: float) -> None:
        if priority in self._coming:
            self._coming.remove(priority)
        self._next()

    def _next(self) -> None:
        while self._queue:
            kept = sum(priority > -self._queue[0][0] for priority in self._coming)
            if self._held + kept >= int(self.limit):
                return
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                self._held += 1
                turn.set_result(None)


@dataclass(slots=True, eq=False)
class _Watch:
    task: TaskId
    path: str
    urls: Mapping[str, str]
    expected_s: float
    accepted: float
    """All times are the loop's."""
    deadline: float
    tell: Callable[[Pending], None]
    ended: asyncio.Future[Status]
    pending: float
    """When the last question left whose answer was that it is still being made; until then, when it was accepted."""
    asking: bool = False
    """A question is on its way; a slow answer must not hold up the others."""
    woken: float | None = None
    """When a callback spoke of it."""
    listed: bool = True
    """False after a list that did not name it: it is asked after by itself."""
    rests_until: float = 0.0
    """After a poll that failed."""
    failures: int = 0
    unauthorised: int = 0
    said: set[str] = field(default_factory=set)


async def asked(
    provider: Provider,
    service: Service,
    send: Callable[[Request], Awaitable[Answer | Later]],
    task: TaskId,
    path: str,
    urls: Mapping[str, str],
) -> Status:
    """What became of a task, in one free request or two. Those of `urls`, and of what the first answer names, that do
    not lead to the API's own host are left out. Raises what `send` raises."""
    own = _own(service, urls)
    answer = await send(provider.poll(task, path, own))
    status = provider.status(answer, task) if isinstance(answer, Answer) else answer
    if not isinstance(status, Ended):
        return status
    answer = await send(provider.result_of(task, path, {**own, **_own(service, status.urls)}))
    result = provider.result(answer, task) if isinstance(answer, Answer) else answer
    # The task is known: its result may come a moment after the word.
    return Later(message="the task has ended, and its result is not there") if isinstance(result, Missing) else result


def _own(service: Service, urls: Mapping[str, str]) -> dict[str, str]:
    return {name: url for name, url in urls.items() if service.owns(url)}


def _least_gap_s(provider: Provider, runners: int) -> float:
    """The seconds between two polls of one of so many runners that share an account."""
    limit = provider.caps.requests_per_minute
    own = UNLIMITED_PER_MINUTE if limit is None else max(1, polls_per_minute(limit) - BURST)
    return 60 * runners / own


class Poller:
    """Asks a provider after all tasks of a run. One for each provider.

    There is one budget of requests for the whole account, and each goes where the most time is expected to be lost
    without it: to the list, where one answer tells of many tasks, or to one task. While callbacks come, polls are only
    a precaution. A failed poll says nothing about a task: it is asked again, however often, until its own deadline.
    """

    def __init__(self, provider: Provider, service: Service, rng: random.Random) -> None:
        self._provider = provider
        self._service = service
        self._rng = rng
        self._least_gap_s = self._gap_s = _least_gap_s(provider, 1)
        self._lists = provider.caps.list_size > 0
        self._paid_until = 0.0
        """When all polls that were sent are paid for at one each `_gap_s`."""
        self._silent_until = 0.0
        """The provider said for how long it wants to hear nothing."""
        self._next_list = 0.0
        """When the next list may leave. It waits for the clips that the last one told of: they use the same limit."""
        self._no_list_until = 0.0
        """The list was refused: until then each task is asked after by itself."""
        self._durations = Durations()
        self._callbacks = False
        """Whether the last task that ended was told of by a callback first."""
        self._watched: list[_Watch] = []
        self._loop: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def share(self, runners: int) -> None:
        """So many runners ask with this account."""
        self._least_gap_s = _least_gap_s(self._provider, runners)
        self._gap_s = max(self._gap_s, self._least_gap_s)

    async def ended(
        self,
        task: TaskId,
        path: str,
        urls: Mapping[str, str],
        *,
        expected_s: float,
        elapsed_s: float,
        patience_s: float,
        tell: Callable[[Pending], None],
    ) -> Status:
        """Waits for a task's end: Done, Failed, Unreadable or Missing. Still Pending when `patience_s` is over; Later
        when the key was refused again and again. `tell` hears each new state."""
        if self._provider.caps.local:
            return await self._local(task, path, tell)
        loop = asyncio.get_running_loop()
        now = loop.time()
        watch = _Watch(
            task=task,
            path=path,
            urls=urls,
            expected_s=max(1.0, expected_s),
            accepted=now - elapsed_s,
            deadline=now + patience_s,
            tell=tell,
            ended=loop.create_future(),
            pending=now - elapsed_s,
        )
        self._watched.append(watch)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        try:
            return await watch.ended
        finally:
            self._watched.remove(watch)
            if not self._watched:
                await self._rest()

    def wake(self, task: TaskId) -> bool:
        """A callback spoke of this task: ask after it at once. False for a task that nobody waits for."""
        woken = [watch for watch in self._watched if watch.task == task]
        for watch in woken:
            watch.woken = asyncio.get_running_loop().time()
            self._ask([watch])
        return bool(woken)

    async def _rest(self) -> None:
        """Ends what asks, when nobody waits any more."""
        tasks = [*self._asking, *([self._loop] if self._loop is not None else [])]
        self._loop, self._next_list = None, 0.0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _local(self, task: TaskId, path: str, tell: Callable[[Pending], None]) -> Status:
        """The animatic answers a question when there is something to say, so it is simply asked again."""
        while True:
            status = await asked(self._provider, self._service, self._service.send, task, path, {})
            if not isinstance(status, Pending):
                return status
            tell(status)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._watched:
                now = clock()
                if now >= self._next_poll():
                    self._ask(self._most_worth(now))
                await asyncio.sleep(max(TICK_S, self._next_poll() - now))  # of what leaves now, the next round knows
        except Exception as bug:
            self._fail(self._watched, bug)

    def _next_poll(self) -> float:
        return max(self._silent_until, self._paid_until - BURST * self._gap_s)

    def _most_worth(self, now: float) -> Sequence[_Watch]:
        """The tasks of the question that is most worth a request; none where no question is."""
        idle = [watch for watch in self._watched if not watch.asking and watch.rests_until <= now]
        lists = self._lists and len(self._watched) > 1 and now >= self._no_list_until
        listed = [watch for watch in idle if watch.listed] if lists else []
        questions = [[watch] for watch in idle if watch not in listed]
        if listed and now >= self._next_list:
            questions.append(listed)
        worth = [sum(self._lost_s(watch, now) for watch in question) for question in questions]
        most = max(worth, default=0.0)
        return questions[worth.index(most)] if most >= WORTH_S else ()

    def _lost_s(self, watch: _Watch, now: float) -> float:
        """Seconds that are expected to have been lost because a task was not asked after; never too few of them for a
        poll where one is due anyhow."""
        since, age = watch.pending - watch.accepted, now - watch.accepted
        due = now >= min(watch.deadline, watch.pending + LONGEST_PAUSE_S)
        lost = 0.0 if self._callbacks else self._durations.chance(since, age, watch.expected_s) * (age - since) / 2
        return max(lost, WORTH_S if due else 0.0)

    def _ask(self, watches: Sequence[_Watch]) -> None:
        if not watches:
            return
        for watch in watches:
            watch.asking = True
        by_list = len(watches) > 1 and self._lists
        asking = asyncio.create_task(self._answered(watches, self._ask_list if by_list else self._ask_each))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _answered(
        self, watches: Sequence[_Watch], ask: Callable[[Sequence[_Watch]], Coroutine[None, None, None]]
    ) -> None:
        try:
            await ask(watches)
        except Exception as bug:
            self._fail(watches, bug)
        finally:
            for watch in watches:
                watch.asking = False

    @staticmethod
    def _fail(watches: Sequence[_Watch], bug: Exception) -> None:
        """Hands a bug to those who wait: they would wait for ever."""
        for watch in watches:
            if not watch.ended.done():
                watch.ended.set_exception(bug)

    async def _ask_list(self, watches: Sequence[_Watch]) -> None:
        """Asks the list, and by itself after each task that ended: a list names no clip."""
        self._next_list = asyncio.get_running_loop().time() + SLOW_ANSWER_S
        ended: list[_Watch] = []
        left = watches
        for page in range(1, 2 + -(-len(watches) // self._provider.caps.list_size)):
            request = self._provider.poll_many(page)
            sent = asyncio.get_running_loop().time()
            answer = await self._send(request) if request else Later(message="there is no list")
            found = self._provider.statuses(answer) if isinstance(answer, Answer) else answer
            if isinstance(found, Later):
                if isinstance(answer, Answer) and answer.status not in _NOBODY_IS_HEARD and not found.retry_after:
                    self._no_list_until = sent + LIST_REST_S
                    ended += left
                    break
                for watch in left:
                    self._hear(watch, found, sent)
                break
            for watch in left:
                status = found.get(watch.task)
                watch.listed = status is not None
                if isinstance(status, Pending) and status.state != "done":
                    self._hear(watch, status, sent)
                elif status is not None:
                    ended.append(watch)
            left = [watch for watch in left if not watch.listed]
            if not left or not found:
                break
        await self._ask_each(ended)
        self._next_list = 0.0

    async def _ask_each(self, watches: Sequence[_Watch]) -> None:
        await asyncio.gather(*(self._ask_one(watch) for watch in watches))

    async def _ask_one(self, watch: _Watch) -> None:
        sent = asyncio.get_running_loop().time()
        status = await asked(self._provider, self._service, self._send, watch.task, watch.path, watch.urls)
        self._hear(watch, status, sent)

    async def _send(self, request: Request) -> Answer | Later:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._silent_until - clock()))
        paid_until = max(self._paid_until, clock()) + self._gap_s * self._rng.uniform(1.0, 1.1)
        self._paid_until = min(paid_until, clock() + (BURST + DEBT) * self._gap_s)
        try:
            answer = await self._service.send(request)
        except (NotSent, Unanswered) as lost:
            return Later(message=str(lost))
        # Other runners may use the same account: whoever is told to slow down leaves them room.
        throttled = answer.status == 429
        self._gap_s = min(2 * self._gap_s, LONGEST_PAUSE_S) if throttled else max(0.75 * self._gap_s, self._least_gap_s)
        return answer

    def _hear(self, watch: _Watch, status: Status, sent: float) -> None:
        """What follows from the answer to a question that left at `sent`."""
        watch.asking = False
        if watch.ended.done():
            return
        now = asyncio.get_running_loop().time()
        match status:
            case Done() | Failed() | Unreadable() | Missing():
                if isinstance(status, Done):
                    self._learn(watch, now)
                watch.ended.set_result(status)
                return
            case Later():
                watch.failures += 1
                watch.unauthorised = watch.unauthorised + 1 if status.unauthorised else 0
                if watch.unauthorised >= UNAUTHORISED_POLLS:
                    watch.ended.set_result(status)
                    return
                wait = backoff(watch.failures, status.retry_after or 0.0, self._rng)
                watch.rests_until = min(now + wait, max(now, watch.deadline))
                if status.retry_after:
                    self._silent_until = max(self._silent_until, now + wait)
                last: Pending | None = None
            case Pending():
                watch.failures = watch.unauthorised = 0
                watch.pending, watch.listed = sent, True
                if watch.woken is not None and watch.woken <= sent:
                    self._callbacks, watch.woken = False, None
                last = status
                if status.state not in watch.said:
                    watch.said.add(status.state)
                    watch.tell(status)
        if now >= watch.deadline:
            watch.ended.set_result(last or Pending(state="unknown"))

    def _learn(self, watch: _Watch, now: float) -> None:
        self._callbacks = watch.woken is not None
        if watch.said:  # it ended since it was last asked after; else nobody knows for how long it has been done
            ended = watch.woken or (watch.pending + now) / 2
            self._durations.add(ended - watch.accepted, watch.expected_s)
