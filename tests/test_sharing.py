"""Runners that share an account keep to their parts of its limits, by records in the store that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.core.errors import StoreError
from klingflow.execution import offload, sharing
from klingflow.execution.account import Account, account
from klingflow.execution.waiting import Slots
from klingflow.io.api import _Pace
from klingflow.io.store import FolderStore

START_MS = 1_790_000_000_000


@dataclass
class OneSeller:
    """As much of a Seller as sharing knows of."""

    clock: Callable[[], int | None] = lambda: START_MS
    account: Account | None = field(default_factory=lambda: account("https://api.example.com", "key"))
    paid: bool = True
    parts: list[tuple[int, int]] = field(default_factory=list)

    def now_ms(self) -> int | None:
        return self.clock()

    def share(self, rank: int, runners: int) -> None:
        self.parts.append((rank, runners))


def entered(*sellers: OneSeller, store: Any) -> Any:
    calls = offload.on(ThreadPoolExecutor(1))
    return sharing.shared(store, list(sellers), calls)  # type: ignore[arg-type]


async def counted(store: FolderStore, seller: OneSeller, runner: str) -> tuple[int, int]:
    await sharing._count(store, seller, runner, offload.on(ThreadPoolExecutor(1)))  # type: ignore[arg-type]
    return seller.parts[-1]


def test_each_runner_counts_the_others_of_its_account(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    async def meet() -> None:
        one, two = OneSeller(), OneSeller()
        other = OneSeller(account=account("https://api.example.com", "another"))
        assert await counted(store, one, "a") == (0, 1)
        assert await counted(store, two, "b") == (1, 2)
        assert await counted(store, one, "a") == (0, 2)
        assert await counted(store, other, "c") == (0, 1)

    asyncio.run(meet())


def test_a_runner_that_died_is_not_counted_after_two_periods_and_leaves_nothing_for_ever(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    now = [START_MS]

    async def meet() -> None:
        alive, dead = OneSeller(lambda: now[0]), OneSeller(lambda: now[0])
        await counted(store, dead, "dead")
        for period, runners in ((0, 2), (1, 2), (2, 1), (sharing.FORGOTTEN, 1)):
            now[0] = START_MS + period * sharing.PERIOD_S * 1000
            assert (await counted(store, alive, "alive"))[1] == runners
        assert [name.rpartition("-")[2] for name in store.list("leases/")] == ["alive.json"]

    asyncio.run(meet())


def test_a_runner_that_may_not_delete_counts_all_the_same(tmp_path: Path) -> None:
    class Keeping(FolderStore):
        def delete(self, name: str) -> None:
            raise StoreError("403")

    now = [START_MS]

    async def meet() -> None:
        store, one = Keeping(tmp_path), OneSeller(lambda: now[0])
        for period in (0, 2, sharing.FORGOTTEN):
            now[0] = START_MS + period * sharing.PERIOD_S * 1000
            await counted(store, one, "one")
        assert one.parts == [(0, 1)] * 3

    asyncio.run(meet())


def test_a_run_counts_before_it_sends_and_leaves_when_it_ends(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    async def run() -> None:
        seller, free = OneSeller(), OneSeller(paid=False)
        async with entered(seller, free, store=store):
            assert seller.parts == [(0, 1)]
            assert len(list(store.list("leases/"))) == 1
        assert list(store.list("leases/")) == []
        assert free.parts == []

    asyncio.run(run())


def test_a_runner_without_paid_work_writes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with entered(OneSeller(paid=False), OneSeller(account=None), store=FolderStore(tmp_path / "store")):
            pass

    asyncio.run(run())
    assert not (tmp_path / "store").exists()


def test_a_store_that_fails_stops_no_run(tmp_path: Path) -> None:
    class Failing(FolderStore):
        def create(self, name: str, data: bytes) -> bool:
            raise StoreError("503")

        def list(self, prefix: str, most: int | None = None) -> Any:
            raise StoreError("503")

    async def run() -> None:
        seller = OneSeller()
        async with entered(seller, store=Failing(tmp_path)):
            assert seller.parts == []

    asyncio.run(run())


@given(whole=st.integers(1, 60), runners=st.integers(1, 80))
def test_the_parts_of_all_runners_are_the_whole(whole: int, runners: int) -> None:
    parts = []
    for rank in range(runners):
        slots = Slots(whole)
        slots.share(rank, runners)
        parts.append(slots.most)
    assert sum(parts) == max(whole, runners)
    assert max(parts) - min(parts) <= 1


def test_a_part_grows_again_when_another_runner_leaves() -> None:
    slots = Slots(10)
    slots.share(0, 5)
    assert (slots.most, slots.limit) == (2, 2)
    slots.throttled()
    slots.share(0, 2)
    assert (slots.most, slots.limit) == (5, 4)  # what the provider slowed down is kept
    slots.share(0, 1)
    assert slots.most == 10


@pytest.mark.parametrize(("runners", "within"), [(1, 6), (3, 2), (20, 1)])
def test_requests_a_minute_are_shared(runners: int, within: int) -> None:
    async def sent() -> int:
        pace = _Pace(6)
        pace.share(runners)
        turns = [asyncio.create_task(pace.turn(True)) for _ in range(10)]
        done, waiting = await asyncio.wait(turns, timeout=0.05)
        for turn in waiting:
            turn.cancel()
        return len(done)

    assert asyncio.run(sent()) == within
