"""The limits of an account are for all runners that use it: requests a minute, and tasks in flight.

Every runner says in the store, once each PERIOD_S, that it is there, and counts who else says so; each then keeps to
its part. A runner that died is not counted any more after two periods; one that comes is counted by the others within
one. For that long the limits may be passed, which costs an answer 429 and no money.

    leases/ACCOUNT/PERIOD-RUNNER.json    empty; PERIOD is counted by the provider's clock where that is known
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from klingflow.core.errors import StoreError
from klingflow.execution.offload import Offload
from klingflow.execution.seller import Seller
from klingflow.io.store import Store

PERIOD_S = 20
FORGOTTEN = 90
"""Periods after which what a runner that died has left is removed."""


@asynccontextmanager
async def shared(store: Store, sellers: Sequence[Seller], calls: Offload) -> AsyncIterator[None]:
    """Keeps each seller to this runner's part of its account, counted once before anything is sent, and until this
    ends."""
    runner = os.urandom(8).hex()
    named = [seller for seller in sellers if seller.paid and seller.account is not None]
    await asyncio.gather(*(_count(store, seller, runner, calls) for seller in named))
    task = asyncio.create_task(_keep(store, named, runner, calls)) if named else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.gather(*(_leave(store, seller, runner, calls) for seller in named))


async def _keep(store: Store, sellers: Sequence[Seller], runner: str, calls: Offload) -> None:
    while True:
        await asyncio.sleep(PERIOD_S / 2)
        await asyncio.gather(*(_count(store, seller, runner, calls) for seller in sellers))


async def _count(store: Store, seller: Seller, runner: str, calls: Offload) -> None:
    period = _now_s(seller) // PERIOD_S
    folder = _folder(seller)

    def count() -> list[str]:
        store.create(f"{folder}/{period}-{runner}.json", b"{}\n")
        there = {runner}
        for name in store.list(f"{folder}/"):
            at, _, who = name.removeprefix(f"{folder}/").removesuffix(".json").partition("-")
            age = period - int(at) if at.isdecimal() else FORGOTTEN
            if abs(age) <= 1:
                there.add(who)
            elif who == runner or age >= FORGOTTEN:
                with suppress(StoreError):  # a runner may be forbidden to delete
                    store.delete(name)
        return sorted(there)

    with suppress(StoreError):  # a run goes on without it, with the part that it had
        runners = await calls(count)
        seller.share(runners.index(runner), len(runners))


async def _leave(store: Store, seller: Seller, runner: str, calls: Offload) -> None:
    def leave() -> None:
        for name in list(store.list(f"{_folder(seller)}/")):
            if name.endswith(f"-{runner}.json"):
                store.delete(name)

    with suppress(StoreError):
        await calls(leave)


def _folder(seller: Seller) -> str:
    assert seller.account is not None
    return f"leases/{seller.account.secret_name()[:32]}"


def _now_s(seller: Seller) -> int:
    """Seconds since 1970 by the provider's clock: it is the same for all, whatever a machine's own says."""
    now_ms = seller.now_ms()
    return (now_ms if now_ms is not None else time.time_ns() // 1_000_000) // 1000
