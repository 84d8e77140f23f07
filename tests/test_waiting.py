"""Waiting, in virtual time: how many are in flight, how often a task is asked after, and what a lost answer costs."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from klingflow.core.model import Digest, TaskId
from klingflow.execution.waiting import BURST, FOLLOWER_S, Durations, Poller, Slots, backoff
from klingflow.io.service import Unanswered
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Answer, Done, Later, Missing, Pending, Request, Status
from tests.simulation import run_virtually

PATHS = {"hiapi": "/v1/tasks", "mulerouter": "/vendors/klingai/v1/kling-v3-omni/text-to-video/generation"}


class Desk:
    """A provider at which tasks end at known times; it counts what it is asked."""

    def __init__(self, ends: dict[str, float]) -> None:
        self.ends = ends
        self.asked: list[tuple[float, str]] = []
        self.fault: Callable[[float], Answer | None] = lambda now: None
        self.of_list: Answer | None = None
        """What the list is answered instead, while `list_refused`."""
        self.list_refused: Callable[[float], bool] = lambda now: True

    async def send(self, request: Request, *, paid: bool = False, before: float = math.inf) -> Answer:
        now = asyncio.get_running_loop().time()
        self.asked.append((now, request.path))
        await asyncio.sleep(0.05)
        fault = self.fault(now)
        if fault is not None:
            if not fault.status:
                raise Unanswered("cut")
            return fault
        if "?" in request.path and self.of_list is not None and self.list_refused(now):
            return self.of_list
        if "?" in request.path:
            told = [{"taskId": t, "status": "success" if now >= at else "handling"} for t, at in self.ends.items()]
            return _json({"code": 200, "data": {"tasks": told[:100]}})
        task = request.path.rpartition("/")[2]
        if task not in self.ends:
            return Answer(status=404, body=b"{}")
        done = now >= self.ends[task]
        if request.path.startswith("/v1"):
            output = [{"type": "video", "url": f"https://cdn.test/{task}"}]
            data = {"taskId": task, "status": "success" if done else "handling", "output": output if done else []}
            return _json({"code": 200, "data": data})
        info = {"id": task, "status": "completed" if done else "processing"}
        return _json({"task_info": info, "videos": [f"https://cdn.test/{task}"] if done else []})

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        raise AssertionError("nothing is fetched here")

    async def close(self) -> None:
        pass


def _json(body: object) -> Answer:
    return Answer(status=200, body=json.dumps(body).encode())


def _wait(
    desk: Desk,
    tasks: list[str],
    *,
    name: str = "hiapi",
    expected_s: float = 100.0,
    patience_s: float = 7200.0,
    meanwhile: Callable[[Poller], None] = lambda poller: None,
) -> dict[str, tuple[Status, float]]:
    """How each task ended for a poller, and when it was known."""

    async def main() -> dict[str, tuple[Status, float]]:
        poller = Poller(PROVIDERS[name], desk, random.Random(1))

        async def one(task: str) -> tuple[str, tuple[Status, float]]:
            status = await poller.ended(
                TaskId(task),
                PATHS[name],
                {},
                expected_s=expected_s,
                elapsed_s=0.0,
                patience_s=patience_s,
                tell=lambda pending: None,
            )
            return task, (status, asyncio.get_running_loop().time())

        meanwhile(poller)
        return dict(await asyncio.gather(*(one(task) for task in tasks)))

    return run_virtually(main)


async def _ended(poller: Poller, task: str, expected_s: float = 100.0) -> Status:
    name = poller._provider.name
    return await poller.ended(
        TaskId(task),
        PATHS[name],
        {},
        expected_s=expected_s,
        elapsed_s=0.0,
        patience_s=7200.0,
        tell=lambda pending: None,
    )


@pytest.mark.parametrize("end", [12.0, 66.0, 94.0, 318.0, 1200.0])
@pytest.mark.parametrize("name", ["hiapi", "mulerouter"])
def test_while_nothing_is_known_little_is_lost_whatever_was_expected(name: str, end: float) -> None:
    lost = []
    for expected_s in (5.0, 57.0, 1000.0):
        for part in range(5):
            desk = Desk({"t": end + part / 3})
            ((status, known),) = _wait(desk, ["t"], name=name, expected_s=expected_s).values()
            assert isinstance(status, Done)
            lost.append(known - end - part / 3)
            assert len(desk.asked) <= 5 + end
    assert sum(lost) / len(lost) < max(0.9, end * 0.03)


@pytest.mark.parametrize(("name", "limit"), [("hiapi", 45), ("mulerouter", 180)])
def test_all_tasks_together_stay_inside_the_budget_and_each_is_found_by_it(name: str, limit: int) -> None:
    desk = Desk({f"t{number}": 80.0 + number for number in range(40)})
    ended = _wait(desk, list(desk.ends), name=name)
    asked = [at for at, path in desk.asked if name == "mulerouter" or "?" in path]
    assert all(sum(start <= at < start + 60 for at in asked) <= limit + BURST + 1 for start in asked)
    lost = sum(known - desk.ends[task] for task, (_, known) in ended.items()) / 40
    assert lost < 80 * (0.03 if name == "hiapi" else 0.08)


def test_a_run_learns_from_its_own_tasks() -> None:
    desk = Desk({})
    begun: list[float] = []

    async def main() -> None:
        poller, clock = Poller(PROVIDERS["mulerouter"], desk, random.Random(1)), asyncio.get_running_loop().time
        for number, took in enumerate((200.0, 210.0, 190.0, 205.0, 195.0, 200.0)):
            begun.append(clock())
            desk.ends[f"t{number}"] = clock() + took
            await _ended(poller, f"t{number}", expected_s=40.0)

    def polls(number: int, since: float, until: float) -> int:
        return sum(begun[number] + since <= at < begun[number] + until for at, _ in desk.asked)

    run_virtually(main)
    assert polls(5, 0, 130) < polls(0, 0, 130) / 2
    assert polls(5, 180, 200) > polls(0, 180, 200)


def test_chance_follows_what_was_seen_and_never_rules_out_another_end() -> None:
    durations = Durations()
    assert durations.chance(50.0, 50.0, 95.0) == 0
    assert durations.chance(10.0, 20.0, 95.0) == pytest.approx(10 / 25)  # nothing is known: expectations do not count
    assert durations.chance(10.0, 20.0, 9.0) == durations.chance(10.0, 20.0, 950.0)
    for _ in range(20):
        durations.add(30.0, 15.0)  # twice what was expected, whatever the length
    near, far = durations.chance(170.0, 210.0, 95.0), durations.chance(60.0, 100.0, 95.0)
    assert near > 0.5 > 20 * far > 0
    assert durations.chance(300.0, 600.0, 95.0) == pytest.approx(300 / 605)  # unlike all that were seen


def test_callbacks_that_come_make_polls_a_precaution_and_a_lost_one_is_found() -> None:
    desk = Desk({})

    async def main() -> list[tuple[float, int]]:
        poller, loop = Poller(PROVIDERS["hiapi"], desk, random.Random(1)), asyncio.get_running_loop()
        out = []
        for number in range(4):
            task, before = f"t{number}", len(desk.asked)
            end = desk.ends[task] = loop.time() + 100
            if number != 2:
                loop.call_at(end + 0.1, poller.wake, TaskId(task))
            await _ended(poller, task)
            out.append((loop.time() - end, len(desk.asked) - before))
        return out

    first, second, lost, after = run_virtually(main)
    assert max(first[0], second[0], after[0]) < 0.2
    assert first[1] > 20 > second[1]  # one that came is trusted
    assert lost[0] < 20.5
    assert after[1] > 20  # one that did not come is trusted no more


def test_a_callback_is_trusted_though_an_older_question_is_still_on_its_way() -> None:
    class Slow(Desk):
        async def send(self, request: Request, *, paid: bool = False, before: float = math.inf) -> Answer:
            answer = await super().send(request)
            await asyncio.sleep(3.0 if "?" in request.path else 4.0)
            return answer

    desk = Slow({f"t{number}": 40.0 + 20 * number for number in range(8)})

    async def main() -> None:
        poller, loop = Poller(PROVIDERS["hiapi"], desk, random.Random(1)), asyncio.get_running_loop()
        for task, end in desk.ends.items():
            loop.call_at(end + 0.1, poller.wake, TaskId(task))
        await asyncio.gather(*(_ended(poller, task) for task in desk.ends))

    run_virtually(main)
    assert sum(at > 61 for at, _ in desk.asked) < 24  # a poll for each clip, and a list now and then


def test_a_callback_that_came_too_early_leaves_the_task_to_polls() -> None:
    desk = Desk({"t0": 50.0, "t1": 150.0})

    async def main() -> float:
        poller, loop = Poller(PROVIDERS["hiapi"], desk, random.Random(1)), asyncio.get_running_loop()
        loop.call_at(50.0, poller.wake, TaskId("t0"))
        loop.call_at(149.9, poller.wake, TaskId("t1"))
        await _ended(poller, "t0")
        await _ended(poller, "t1")
        return loop.time() - 150.0

    assert run_virtually(main) < 3


def test_nothing_is_asked_for_as_long_as_the_provider_said_not_even_for_a_callback() -> None:
    tasks = [f"t{number}" for number in range(5)]
    desk = Desk(dict.fromkeys(tasks, 300.0))
    desk.fault = lambda now: Answer(status=429, headers={"retry-after": "60"}) if 20 < now < 21.5 else None

    def call(poller: Poller) -> None:
        asyncio.get_running_loop().call_later(40.0, lambda: poller.wake(TaskId("t3")))

    for name in ("hiapi", "mulerouter"):
        desk.asked.clear()
        _wait(desk, tasks, name=name, meanwhile=call)
        refused = [at for at, _ in desk.asked if 20 < at < 21.5]
        assert refused
        assert not [at for at, _ in desk.asked if refused[0] + 1.5 < at < refused[0] + 60]


def test_an_account_that_others_use_too_is_asked_less_often_while_it_is_throttled() -> None:
    tasks = [f"t{number}" for number in range(20)]
    desk = Desk(dict.fromkeys(tasks, 800.0))
    desk.fault = lambda now: Answer(status=429) if 100 < now < 300 else None
    _wait(desk, tasks, name="mulerouter")

    def asked(begin: float) -> int:
        return sum(begin <= at < begin + 100 for at, _ in desk.asked)

    assert asked(200) < asked(0) / 5
    assert asked(600) > asked(0) / 2


def test_a_slow_answer_for_one_task_holds_up_no_other() -> None:
    class Slow(Desk):
        async def send(self, request: Request, *, paid: bool = False, before: float = math.inf) -> Answer:
            if request.path.endswith("/t0"):
                await asyncio.sleep(100)
            return await super().send(request)

    for name in ("hiapi", "mulerouter"):
        desk = Slow({"t0": 30.0, "t1": 60.0, "t2": 62.0, "t3": 64.0})
        ended = _wait(desk, list(desk.ends), name=name)
        assert all(ended[task][1] < desk.ends[task] + 7 for task in ("t1", "t2", "t3"))


def test_a_hundred_tasks_cost_about_as_many_lists_as_one_task_costs_polls() -> None:
    one = Desk({"t0": 110.0})
    _wait(one, ["t0"])
    many = Desk({f"t{number}": 110.0 + number / 50 for number in range(100)})
    ended = _wait(many, list(many.ends))
    assert all(isinstance(status, Done) for status, _ in ended.values())
    lists = [path for _, path in many.asked if "?" in path]
    single = [path for _, path in many.asked if "?" not in path]
    assert len(lists) <= 2 * len(one.asked)
    assert len(single) <= 110  # one for each task's video


def test_a_task_that_stands_on_no_page_is_asked_after_by_itself() -> None:
    desk = Desk({f"other{number}": 1e9 for number in range(300)} | {f"t{number}": 30.0 for number in range(4)})
    ended = _wait(desk, ["t0", "t1", "t2", "t3"], expected_s=30.0)
    assert all(isinstance(status, Done) for status, _ in ended.values())


@pytest.mark.parametrize("answer", [Answer(status=0), Answer(status=500), Answer(status=200, body=b"<html>")])
def test_an_hour_of_failed_polls_loses_no_task(answer: Answer) -> None:
    for tasks in (["t0"], ["t0", "t1", "t2", "t3"]):
        desk = Desk(dict.fromkeys(tasks, 60.0))
        desk.fault = lambda now: answer if now < 3600 else None
        ended = _wait(desk, tasks)
        assert all(isinstance(status, Done) and known < 3600 + 70 for status, known in ended.values())
        assert len(desk.asked) < 100 * len(tasks)


def test_the_wait_that_an_answer_asks_for_is_kept() -> None:
    desk = Desk({"t": 5.0})
    desk.fault = lambda now: Answer(status=429, headers={"retry-after": "300"}) if now < 100 else None
    _wait(desk, ["t"])
    first, second = (at for at, _ in desk.asked[:2])
    assert second - first >= 300


def test_a_callback_costs_no_poll_interval() -> None:
    desk = Desk({"t": 50.0})

    def call(poller: Poller) -> None:
        asyncio.get_running_loop().call_later(50.5, lambda: poller.wake(TaskId("t")))
        asyncio.get_running_loop().call_later(20.0, lambda: poller.wake(TaskId("a stranger's")))

    ((_, known),) = _wait(desk, ["t"], expected_s=1000.0, meanwhile=call).values()
    assert known == pytest.approx(50.55, abs=0.01)


def test_a_task_that_nobody_knows_is_missing_at_once() -> None:
    ((status, _),) = _wait(Desk({}), ["t"]).values()
    assert isinstance(status, Missing)


def test_patience_ends_with_the_task_still_pending() -> None:
    ((status, known),) = _wait(Desk({"t": 1e9}), ["t"], patience_s=600.0).values()
    assert isinstance(status, Pending)
    assert 600 <= known < 600 + 2


def test_a_key_that_is_refused_again_and_again_ends_the_wait_but_not_the_task() -> None:
    desk = Desk({"t": 5.0})
    desk.fault = lambda now: Answer(status=401, body=b'{"message": "bad key"}')
    ((status, _),) = _wait(desk, ["t"]).values()
    assert isinstance(status, Later)
    assert status.unauthorised


def test_a_poller_goes_on_when_one_wait_ends_as_the_next_begins() -> None:
    desk = Desk({f"t{number}": 0.0 for number in range(20)})

    async def main() -> None:
        poller = Poller(PROVIDERS["mulerouter"], desk, random.Random(1))
        for number in range(20):
            await poller.ended(
                TaskId(f"t{number}"),
                PATHS["mulerouter"],
                {},
                expected_s=1.0,
                elapsed_s=10.0,
                patience_s=100.0,
                tell=lambda pending: None,
            )

    run_virtually(main, most=100.0)


def test_a_wait_that_is_given_up_leaves_nothing_behind() -> None:
    desk = Desk({"t": 1e9})

    async def main() -> None:
        poller = Poller(PROVIDERS["hiapi"], desk, random.Random(1))
        wait = asyncio.create_task(
            poller.ended(
                TaskId("t"), "/v1/tasks", {}, expected_s=9.0, elapsed_s=0.0, patience_s=99.0, tell=lambda pending: None
            )
        )
        await asyncio.sleep(10)
        wait.cancel()
        await asyncio.wait({wait})
        asked = len(desk.asked)
        await asyncio.sleep(1000)
        assert len(desk.asked) <= asked + 1

    run_virtually(main)


def test_a_bug_of_the_poller_reaches_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(poller: Poller, now: float) -> list[object]:
        raise ZeroDivisionError

    monkeypatch.setattr(Poller, "_most_worth", broken)
    with pytest.raises(ZeroDivisionError):
        _wait(Desk({"a": 5.0}), ["a"])


def test_a_wait_after_failures_is_never_long_and_never_nothing() -> None:
    rng = random.Random(1)
    for failures in range(1, 50):
        assert 0.25 <= backoff(failures, 0.0, rng) <= 60.0
        assert 7.0 <= backoff(failures, 7.0, rng) <= 60.0
    assert backoff(1, 1e9, rng) == 900.0


def test_slots_go_to_whoever_has_most_hanging_on_it() -> None:
    order: list[str] = []

    async def main() -> None:
        slots = Slots(1)

        async def one(name: str, priority: float) -> None:
            async with slots.hold(priority, priority):
                order.append(name)
                await asyncio.sleep(1)

        await asyncio.gather(one("first", 0.0), one("leaf", 1.0), one("trunk", 9.0), one("branch", 5.0))

    run_virtually(main)
    assert order == ["first", "trunk", "branch", "leaf"]


def test_the_place_of_a_shot_that_ended_is_kept_for_the_one_that_continues_it() -> None:
    began: dict[str, float] = {}

    async def main() -> None:
        slots, loop = Slots(2), asyncio.get_running_loop()

        async def one(name: str, priority: float, expected_s: float, after_s: float = 0.0) -> None:
            await asyncio.sleep(after_s)
            async with slots.hold(priority, expected_s):
                began[name] = loop.time()
                await asyncio.sleep(expected_s)

        async def chain() -> None:
            await one("first", 300.0, 100.0)
            await one("second", 200.0, 100.0, after_s=1.0)  # looks into the ledger meanwhile
            await one("third", 100.0, 100.0, after_s=1.0)

        await asyncio.gather(chain(), *(one(f"leaf{number}", 50.0, 50.0) for number in range(9)))

    run_virtually(main)
    assert (began["second"], began["third"]) == (101.0, 202.0)


def test_a_place_is_kept_for_a_moment_only_and_from_nobody_with_as_much_behind_it() -> None:
    began: dict[str, float] = {}

    async def main() -> None:
        slots, loop = Slots(1), asyncio.get_running_loop()

        async def one(name: str, priority: float, expected_s: float) -> None:
            async with slots.hold(priority, expected_s):
                began[name] = loop.time()
                await asyncio.sleep(expected_s)

        trunk, equal, leaf = one("trunk", 500.0, 100.0), one("equal", 400.0, 1.0), one("leaf", 1.0, 1.0)
        await asyncio.gather(trunk, equal, leaf, one("short", 0.5, 0.5))

    run_virtually(main)
    assert began["equal"] == 100.0
    assert 101.0 <= began["leaf"] <= 100.0 + FOLLOWER_S + 1.0
    assert began["short"] == began["leaf"] + 1.0  # nothing continues the leaf


def test_throttling_halves_what_is_in_flight_and_welcome_brings_it_back() -> None:
    slots = Slots(8)
    slots.throttled()
    assert slots.limit == 4
    for _ in range(9):
        slots.throttled()
    assert slots.limit == 1
    for _ in range(100):
        slots.welcome()
    assert slots.limit == 8


def test_a_turn_that_comes_as_its_waiter_is_cancelled_goes_to_the_next() -> None:
    async def main() -> None:
        slots = Slots(1)
        release = asyncio.Event()

        async def one(until: asyncio.Event | None) -> None:
            async with slots.hold(1.0, 1.0):
                if until:
                    await until.wait()

        first = asyncio.create_task(one(release))
        await asyncio.sleep(0)
        second = asyncio.create_task(one(None))
        await asyncio.sleep(0)
        third = asyncio.create_task(one(None))
        await asyncio.sleep(0)
        release.set()
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, third)
        await asyncio.gather(second, return_exceptions=True)

    run_virtually(main, most=10.0)


# A list that is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 403, 500, 502, 200])
def test_where_the_list_is_refused_tasks_are_asked_after_one_by_one_in_the_same_poll(status: int) -> None:
    desk = Desk({"a": 30.0, "b": 31.0, "c": 300.0})
    desk.of_list = Answer(status=status, body=b"no list here")
    ended = _wait(desk, list(desk.ends))
    assert {task: type(said) for task, (said, _) in ended.items()} == dict.fromkeys("abc", Done)
    lists = [at for at, path in desk.asked if "?" in path]
    assert len(lists) == 1, "it is not asked for again soon"
    next_ones = [path for at, path in desk.asked if at > lists[0]][:3]
    assert sorted(next_ones) == ["/v1/tasks/a", "/v1/tasks/b", "/v1/tasks/c"]
    assert all(at - desk.ends[task] < 20 for task, (_, at) in ended.items())


@pytest.mark.parametrize("status", [401, 429, 503])
def test_an_answer_that_one_task_would_get_too_asks_after_none(status: int) -> None:
    desk = Desk({"a": 30.0, "b": 31.0})
    refused = Answer(status=status, body=b"{}")
    desk.fault = lambda now: refused if now < 20 else None
    desk.of_list = refused
    assert len(_wait(desk, list(desk.ends))) == 2
    first = min(at for at, path in desk.asked if "?" in path)
    assert not [path for at, path in desk.asked if "?" not in path and at - first < 0.3]


def test_a_list_that_is_there_again_is_used_again() -> None:
    desk = Desk({"a": 900.0, "b": 901.0})
    desk.list_refused = lambda now: now < 100
    desk.of_list = Answer(status=500, body=b"")
    _wait(desk, list(desk.ends))
    lists = [at for at, path in desk.asked if "?" in path]
    assert len([at for at in lists if at < 300]) == 1
    assert len([at for at in lists if at > 300]) > 5
