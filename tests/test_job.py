"""A paid task's life: the table, the fold, and two runners that race through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klingflow.core.model import Key
from klingflow.planning.job import TRANSITIONS, IllegalRecord, Job, Kind, Record, State, fold

KEY = Key("ab" * 32)


def record(attempt: int, n: int, kind: Kind, **detail: object) -> Record:
    return Record(key=KEY, attempt=attempt, n=n, kind=kind, at_ms=0, detail=detail)


def life(*kinds: Kind) -> Job:
    job = fold(KEY, [])
    for kind in kinds:
        job = fold(KEY, [*job.records, job.next(kind, 0, {"task": "t"})])
    return job


WAYS: Mapping[State, tuple[Kind, ...]] = {
    State.NEW: (),
    State.INTENDED: (Kind.INTENT,),
    State.ACCEPTED: (Kind.INTENT, Kind.ACCEPTED),
    State.REFUSED: (Kind.INTENT, Kind.REFUSED),
    State.FAILED: (Kind.INTENT, Kind.ACCEPTED, Kind.FAILED),
    State.STORED: (Kind.INTENT, Kind.ACCEPTED, Kind.STORED),
    State.DELIVERED: (Kind.INTENT, Kind.ACCEPTED, Kind.DELIVERED),
    State.ABANDONED: (Kind.INTENT, Kind.ABANDONED),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", Kind)
def test_a_record_is_written_exactly_where_the_table_allows_it(state: State, kind: Kind) -> None:
    job = life(*WAYS[state])
    assert job.state is state
    if kind in TRANSITIONS[state]:
        assert fold(KEY, [*job.records, job.next(kind, 0, {"task": "t"})]).state is TRANSITIONS[state][kind]
    else:
        with pytest.raises(IllegalRecord, match=f"{kind} after {state} is not a step"):
            job.next(kind, 0, {})


def test_a_new_attempt_has_a_new_number_and_forgets_the_old_task() -> None:
    job = life(Kind.INTENT, Kind.ACCEPTED, Kind.FAILED, Kind.INTENT)
    assert (job.attempt, job.task, [r.name for r in job.records]) == (
        2,
        None,
        ["1.0-intent.json", "1.1-accepted.json", "1.2-failed.json", "2.0-intent.json"],
    )


@pytest.mark.parametrize("blind", [Kind.ABANDONED, Kind.REFUSED])
def test_an_accepted_task_wins_over_a_record_that_was_written_blind_beside_it(blind: Kind) -> None:
    records = [record(1, 0, Kind.INTENT), record(1, 1, blind), record(1, 1, Kind.ACCEPTED, task="t7")]
    job = fold(KEY, records)
    assert (job.state, job.task) == (State.ACCEPTED, "t7")


def test_an_answer_that_comes_after_a_person_said_not_bought_is_still_collected() -> None:
    job = life(Kind.INTENT, Kind.ABANDONED)
    job = fold(KEY, [*job.records, job.next(Kind.ACCEPTED, 0, {"task": "late"})])
    assert (job.state, job.task) == (State.ACCEPTED, "late")


def test_a_clip_that_was_stored_is_stored_whatever_another_runner_wrote_beside_it() -> None:
    start = [record(1, 0, Kind.INTENT), record(1, 1, Kind.ACCEPTED, task="t")]
    for kind in (Kind.FAILED, Kind.ABANDONED):
        assert fold(KEY, [*start, record(1, 2, kind), record(1, 2, Kind.STORED)]).state is State.STORED


ANY = st.builds(record, st.integers(1, 3), st.integers(0, 3), st.sampled_from(Kind))


@given(st.lists(ANY, unique_by=lambda r: r.name))
@settings(max_examples=200, deadline=None)
def test_a_fold_depends_on_the_records_alone_and_keeps_only_a_legal_life(records: list[Record]) -> None:
    job = fold(KEY, records)
    assert job == fold(KEY, reversed(records))
    state = State.NEW
    for one in job.records:
        state = TRANSITIONS[state][one.kind]
    assert state is job.state
    assert fold(KEY, [*job.records, *job.orphans]) == job
    assert {one.attempt for one in job.records}.isdisjoint(one.attempt for one in job.orphans)


@dataclass
class World:
    """A create-only ledger, and a provider without an idempotency key."""

    files: dict[str, Record] = field(default_factory=dict)
    sold: list[str] = field(default_factory=list)
    """Tasks that the provider took, in order."""
    ended: dict[str, bool] = field(default_factory=dict)
    """How a task ended, once somebody was told: True is a clip."""

    def create(self, one: Record) -> bool:
        return self.files.setdefault(one.name, one) is one

    def alive(self) -> list[str]:
        return [task for task in self.sold if self.ended.get(task, True)]


@dataclass
class Runner:
    """Follows the protocol one door crossing at a time: a look at the ledger, or one act upon the last look."""

    world: World
    job: Job | None = None
    answer: tuple[Job, Kind, dict[str, object]] | None = None
    """What the provider said, not on record yet."""

    def step(self, luck: bool) -> None:
        world = self.world
        if self.answer is not None:
            job, kind, detail = self.answer
            if world.create(job.next(kind, 0, detail)):
                self.answer = None
            else:
                fresh = fold(KEY, world.files.values())
                # Of an attempt that went on without it only a task's id is still written: its end is that of no other.
                lost = kind is Kind.ACCEPTED and kind in TRANSITIONS[fresh.state]
                self.answer = (fresh, kind, detail) if lost else None
        elif self.job is None:
            self.job = fold(KEY, world.files.values())
        else:
            job, self.job = self.job, None
            if Kind.INTENT in TRANSITIONS[job.state] and job.state is not State.ABANDONED:
                intent = job.next(Kind.INTENT, 0, {})
                if world.create(intent):
                    self.send(fold(KEY, [*job.records, intent]), luck)
            elif job.state is State.ACCEPTED:
                done = world.ended.setdefault(str(job.task), luck)
                self.answer = job, Kind.STORED if done else Kind.FAILED, {}

    def send(self, job: Job, luck: bool) -> None:
        if luck:
            task = f"t{len(self.world.sold)}"
            self.world.sold.append(task)
            self.answer = job, Kind.ACCEPTED, {"task": task}
        else:
            self.answer = job, Kind.REFUSED, {}


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=80))
@settings(max_examples=400, deadline=None)
def test_two_runners_in_any_interleaving_buy_once_and_lose_no_task(steps: list[tuple[int, bool]]) -> None:
    world = World()
    runners = (Runner(world), Runner(world))
    for who, luck in steps:
        runners[who].step(luck)
        assert len(world.alive()) <= 1
    for runner in runners:  # whoever has an answer in hand writes it down
        while runner.answer is not None:
            runner.step(True)
    told = {str(one.detail["task"]) for one in fold(KEY, world.files.values()).records if one.kind is Kind.ACCEPTED}
    assert told == set(world.sold)


@given(st.integers(0, 6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_person_who_says_not_bought_at_any_moment_never_throws_a_task_id_away(when: int, looked: bool) -> None:
    world = World()
    runner = Runner(world)
    seen = fold(KEY, [])
    for step in range(12):
        if step == when:
            seen = fold(KEY, world.files.values()) if looked or not seen.records else seen
            if Kind.ABANDONED in TRANSITIONS[seen.state] and seen.state is State.INTENDED:
                world.create(seen.next(Kind.ABANDONED, 0, {"by": "person"}))
        elif step == 2:
            seen = fold(KEY, world.files.values())
        runner.step(True)
    job = fold(KEY, world.files.values())
    assert [str(one.detail["task"]) for one in job.records if one.kind is Kind.ACCEPTED] == world.sold
