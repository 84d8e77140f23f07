"""The engine and the Buyer, one thing that goes wrong at a time, in the simulated world."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import cast

from klingflow.core.errors import StoreError
from klingflow.core.model import Cut, Digest, Shot, ShotFrame, ShotId
from klingflow.execution import engine
from klingflow.execution.buyer import Buyer
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Outcome, Result, RunFailure
from klingflow.io import ledger
from klingflow.planning.job import Kind, State
from klingflow.planning.price import Limits, Price
from klingflow.providers.base import FailureClass, Settings
from tests.simulation import INPUTS, NoClips, World, clip_of, film, plan_of, quiet, run_virtually

AFTER_INTENT = 12
"""The door at which a run of one shot has its intent on record, and has sent nothing."""


def _runs(world: World, *runs: dict[str, object]) -> list[tuple[Outcome, ...]]:
    """Runs one after the other; what was violated fails the test."""

    async def all_of_them() -> list[tuple[Outcome, ...]]:
        ended = []
        for how in runs:
            pause = how.pop("after", 0.0)
            assert isinstance(pause, float)
            await asyncio.sleep(pause)
            ended.append(await world.run_once(**how) or ())  # type: ignore[arg-type]
        return ended

    ended = run_virtually(all_of_them)
    assert world.violations == []
    return ended


def _states(world: World) -> list[State]:
    return [job.state for job in ledger.jobs(world.store)]


def test_a_retry_after_a_late_no_joins_a_replay_of_the_same_order(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    # The first runner hears "too many" after 70 s. By then the second replays the order, and HiAPI is taking it.
    world.script = [("throttled", 70.0), ("late", 55.0)]

    async def both() -> None:
        await asyncio.gather(world.run_once(machine="one"), world.run_once(machine="two"))

    run_virtually(both)
    assert world.violations == []
    assert len(world.billed) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.script = [("cut after", 1.0)]
    ((shot,),) = _runs(world, {})
    assert shot.result is Result.MADE
    assert shot.spent == Decimal("0.50")
    assert len(world.billed) == 1


def test_a_lost_answer_of_mulerouter_is_in_doubt_and_stays_so(tmp_path: Path) -> None:
    world = quiet(tmp_path, "one", "mulerouter")
    world.script = [("cut after", 1.0)]
    (first,), (second,) = _runs(world, {}, {"after": 4000.0})
    for shot in (first, second):
        assert shot.result is Result.IN_DOUBT
        assert shot.failure is not None
        assert "klingflow resolve film.yaml a --not-bought" in shot.failure.next
    assert (first.spent, second.spent) == (Decimal("0.50"), Decimal(0))


def test_a_task_that_cannot_be_written_down_is_told(tmp_path: Path) -> None:
    world = quiet(tmp_path, "one", "mulerouter")
    create = world.store.create

    def full(name: str, data: bytes) -> bool:
        if name.endswith("-accepted.json"):
            raise StoreError("no space left", "make room")
        return create(name, data)

    world.store.create = full  # type: ignore[method-assign]
    ((shot,),) = _runs(world, {})
    assert shot.failure is not None
    assert "mulerouter-1-a" in shot.failure.message
    assert shot.failure.next.endswith("`klingflow resolve film.yaml a --task mulerouter-1-a`")


def test_a_moderated_shot_says_which_clip_its_frame_came_from(tmp_path: Path) -> None:
    world = quiet(tmp_path, "chain")
    world.fortune = {"b": ["moderated"]}
    (first, b, c), (_, again, _) = _runs(world, {}, {})
    assert first.clip is not None
    assert b.failure is not None
    assert b.failure.kind is FailureClass.MODERATED
    clip = first.clip.facts.digest[:12]
    assert b.failure.message == f"content policy violation (its first_frame is the last frame of 'a', clip {clip})"
    assert (c.result, c.because) == (Result.SKIPPED, "b")
    assert again.failure is not None
    assert again.failure.message.startswith("this very order was tried before: ")
    assert len(world.billed) == 2


def test_a_task_that_broke_is_ordered_once_more_by_a_run_and_no_further(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.fortune = {"a": ["fault", "fault"]}
    (first,), (second,) = _runs(world, {}, {})
    assert first.result is Result.FAILED
    assert first.spent == Decimal("1.00")
    assert second.result is Result.MADE
    assert len(world.billed) == 3


def test_done_without_a_video_is_asked_again_and_stays_open(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.empty_s = 6.0
    ((shot,),) = _runs(world, {})
    assert shot.result is Result.MADE
    world = quiet(tmp_path)
    world.empty_s = 1e9
    (first,), (second,) = _runs(world, {}, {})
    assert (first.result, second.result) == (Result.OPEN, Result.OPEN)
    assert first.failure is not None
    assert "first_frame" in first.failure.message, "what the provider answered is shown"
    assert _states(world) == [State.ACCEPTED]
    (job,) = ledger.jobs(world.store)
    kept = [record.detail["by"] for record in job.records if record.kind is Kind.ACCEPTED]
    assert kept == ["answer", "status"], "the answer that cannot be read is on record, once"
    assert "first_frame" in str(job.records[-1].detail["answer"])
    assert len(world.billed) == 1


def test_a_task_that_takes_hours_is_left_open_and_collected_later(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.making_s = 1.5 * 3600.0
    (first,), (second,) = _runs(world, {}, {})
    assert first.result is Result.OPEN
    assert first.failure is not None
    assert first.failure.kind is RunFailure.STUCK
    assert second.result is Result.ADOPTED
    assert len(world.billed) == 1


def test_a_task_that_the_readers_do_not_know_yet_is_waited_for(tmp_path: Path) -> None:
    world = quiet(tmp_path, "one", "mulerouter")
    world.lag_s = 50.0
    ((shot,),) = _runs(world, {})
    assert shot.result is Result.MADE


def test_an_interrupt_hears_the_answers_that_are_on_their_way(tmp_path: Path) -> None:
    results = set()
    for door in range(1, 40):
        world = quiet(tmp_path, "side by side", "mulerouter")
        first, second = _runs(world, {"stop_door": door}, {})
        assert State.INTENDED not in _states(world)
        assert all(shot.good for shot in second)
        assert len(world.billed) == 5
        results |= {shot.result for shot in first}
    assert results >= {Result.OPEN, Result.STOPPED}


def test_frozen_collects_what_was_bought_and_sends_nothing_that_costs(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    ((first,), (second,)) = _runs(world, {"detach": True}, {"frozen": True})
    assert (first.result, second.result) == (Result.OPEN, Result.RESUMED)
    world = quiet(tmp_path)
    world.fortune = {"a": ["fault"]}
    _, (second,) = _runs(world, {"detach": True}, {"frozen": True})
    assert second.result is Result.FAILED
    assert len(world.billed) == 1
    world = quiet(tmp_path)
    _, (second,) = _runs(world, {"last_door": AFTER_INTENT}, {"frozen": True})
    assert second.result is Result.IN_DOUBT
    assert world.billed == []


def test_a_replay_that_may_buy_is_within_the_limits(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    nothing = Limits(spend=Decimal("0.10"), seconds=None, tasks=None)
    _, (refused,), (made,) = _runs(world, {"last_door": AFTER_INTENT}, {"limits": nothing}, {})
    assert refused.failure is not None
    assert refused.failure.kind is RunFailure.LIMIT
    assert made.clip is not None
    assert len(world.billed) == 1


def test_a_refused_replay_gives_back_no_money_that_was_not_booked(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.script = [("turned away", 1.0)] * 3
    _, (shot,) = _runs(world, {"last_door": AFTER_INTENT}, {})
    assert shot.spent == Decimal("0.50")


def test_downloads_that_are_cut_differently_give_nothing_up(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    cuts = iter((15, 14, 13, 12))
    world.cut = lambda data: data[: next(cuts, len(data))]
    (first,), (second,) = _runs(world, {}, {})
    assert first.failure is not None
    assert first.failure.kind is RunFailure.DOWNLOAD
    assert second.clip is not None
    world = quiet(tmp_path)
    world.cut = lambda data: data[:10]
    ((shot,),) = _runs(world, {})
    assert shot.failure is not None
    assert shot.failure.kind is RunFailure.NOT_ACCEPTED
    (kept,) = world.store.blobs
    assert kept == Digest(hashlib.sha256(clip_of(world.billed[0])[:10]).hexdigest())
    ((again,),) = _runs(world, {})
    assert again.failure == shot.failure
    assert len(world.billed) == 1


def test_two_shots_with_one_key_are_one_purchase(tmp_path: Path) -> None:
    world = quiet(tmp_path, "twins")
    ((a, b, c),) = _runs(world, {"limits": Limits(spend=None, seconds=None, tasks=2)})
    assert (a.result, b.result, c.result) == (Result.MADE, Result.ADOPTED, Result.MADE)
    assert (a.spent, b.spent) == (Decimal("0.50"), Decimal(0))
    assert a.clip is not None
    assert world.store.blob(a.clip.facts.digest).read_bytes() == clip_of(world.billed[0])
    records = [job.last(Kind.STORED) for job in ledger.jobs(world.store)]
    assert all(record is not None for record in records)


def test_what_the_most_work_hangs_on_is_ordered_first(tmp_path: Path) -> None:
    def shot(name: str, seconds: int, continues: str | None = None) -> Shot:
        first = ShotFrame(ShotId(continues)) if continues else None
        return Shot(id=ShotId(name), index=0, prompt=name, duration=seconds, first_frame=first, provider="hiapi")

    world = quiet(tmp_path)
    shots = (shot("any", 5), shot("short", 3), shot("long", 7), shot("head", 3), shot("tail", 5, "head"))
    world.film = replace(world.film, shots=shots, cut=tuple(Cut(each.id) for each in shots))
    world.settings = {"hiapi": Settings(concurrency=1)}
    _runs(world, {})
    # The first one that asks gets the one place. From then on it counts what waits: 8 s of clips behind the head.
    assert [task.prompt for task in world.billed] == ["any", "head", "long", "tail", "short"]


def test_on_a_take_that_is_not_in_the_film_no_work_hangs() -> None:
    class Notes:
        def __init__(self) -> None:
            self.priorities: dict[tuple[str, int], float] = {}

        async def do(self, call: Callable[..., object], *arguments: object) -> object:
            return call(*arguments)

        async def obtain(self, order: Order) -> Bought:
            self.priorities[order.shot.id, order.shot.take] = order.priority
            return Bought(result=Result.FAILED)

    notes = Notes()
    of = film("chain", "hiapi")
    first, *rest = plan_of(of, orders=True).steps
    plan = replace(plan_of(of, orders=True), steps=(replace(first, take=2, is_active_take=False), first, *rest))
    run = engine.run(
        plan,
        of,
        buyer=cast(Buyer, notes),
        known={},
        inputs=INPUTS,
        clips=NoClips(),
        expect=lambda shot: 10.0,
        price=lambda shot: Price(amount=None),
        frozen=False,
        stop=asyncio.Event(),
        emit=lambda event: None,
    )
    asyncio.run(run)
    assert notes.priorities == {("a", 1): 30.0, ("a", 2): 10.0}


def test_a_store_that_does_not_show_what_it_took_is_an_error_and_nothing_is_sent(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    create = world.store.create
    world.store.create = lambda name, data: True if name.endswith("-intent.json") else create(name, data)  # type: ignore[method-assign]
    ((shot,),) = _runs(world, {})
    assert shot.failure is not None
    assert shot.failure.kind is RunFailure.STORE
    assert "was written to memory and is not there; nothing was sent" in shot.failure.message
    assert world.billed == []
    assert shot.spent == 0


def test_a_step_that_waits_is_never_ordered_whatever_became_possible_since_it_was_planned(tmp_path: Path) -> None:
    world = quiet(tmp_path, "chain")
    gated = replace(world.film.shots[0], gate="approved")
    world.film = replace(world.film, shots=(gated, *world.film.shots[1:]))
    ((a, b, c),) = _runs(world, {})
    assert (a.result, b.result, c.result) == (Result.MADE, Result.WAITING, Result.WAITING)
    assert (b.key, b.spent, b.failure) == (None, Decimal(0), None)
    assert [task.prompt for task in world.billed] == ["a"]
    world.pick(gated)
    ((_, b, _),) = _runs(world, {})
    assert b.result is Result.WAITING, "picked, and not merged"
    world.approve_all()
    ((a, b, c),) = _runs(world, {})
    assert (a.result, b.result, c.result) == (Result.ADOPTED, Result.MADE, Result.MADE)
    assert [task.prompt for task in world.billed] == ["a", "b", "c"]
