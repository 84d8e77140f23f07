"""The keys that providers publish: fetched, kept fresh, and never needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from klingflow.io import published_keys
from klingflow.io.downloads import Downloads
from tests import standins
from tests.standins.fal import Fal

WHERE = "/.well-known/jwks.json"


async def until(so: Callable[[], bool]) -> None:
    for _ in range(4000):
        if so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


def test_a_set_that_could_not_be_had_is_fetched_later_and_one_that_was_is_fetched_again() -> None:
    async def listen() -> None:
        with Fal() as api:
            api.faults.add(f"GET {WHERE}", standins.answer(404), times=2)
            downloads = Downloads((api.base_url,))
            keys: dict[str, str] = {}
            told: list[str] = []
            urls = {"fal": api.base_url + WHERE}
            async with published_keys.kept(urls, downloads, keys, told.append, fresh_s=0.01, again_s=0.01):
                assert keys == {"fal": published_keys.NONE}, "so nothing is believed"
                await until(lambda: '"Ed25519"' in keys["fal"])
                await until(lambda: len(api.calls("GET")) >= 5)
                api.faults.add(f"GET {WHERE}", standins.answer(404), times=-1)
                seen = len(api.calls("GET"))
                await until(lambda: len(api.calls("GET")) >= seen + 3)
                assert '"Ed25519"' in keys["fal"], "what is known stays"
            assert len(told) == 1
            assert told[0].startswith("callbacks of fal are not believed: its keys at ")
            assert asyncio.all_tasks() == {asyncio.current_task()}, "it ends with the block"
            await downloads.close()

    asyncio.run(listen())
